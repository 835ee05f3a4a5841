//! Which failures of endpoints are worth a line in the log.
//!
//! `forward` asks for each endpoint that could not be reached or broke TLS: the log has the whole reason, for
//! which a metric has no room. Invariant: a worker writes at most one line in `PAUSE` for one upstream and
//! reason, and knows how many it did not write; what it remembers is bounded by the upstreams of the config.

use std::cell::RefCell;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::metrics::ProxyError;

/// Between two lines about one upstream and reason.
const PAUSE: Duration = Duration::from_secs(10);

/// Longer than that without a line, and the next one is a first one.
const MEMORY: Duration = Duration::from_secs(600);

/// What was complained about lately.
#[derive(Debug, Default)]
pub(super) struct Complaints(RefCell<Vec<Complaint>>);

#[derive(Debug)]
struct Complaint {
    upstream: Arc<str>,
    reason: ProxyError,
    at: Instant,
    /// Failures since then that nobody was told of.
    untold: u64,
}

impl Complaints {
    /// Whether to write a line now, and how many failures of this kind were not written since the last one.
    pub(super) fn due(&self, upstream: &Arc<str>, reason: ProxyError, now: Instant) -> Option<u64> {
        let mut known = self.0.borrow_mut();
        let same = known
            .iter()
            .position(|it| it.reason == reason && it.upstream == *upstream);
        let is_due = |it: &Complaint| now.saturating_duration_since(it.at) >= PAUSE;
        match same.and_then(|index| known.get_mut(index)) {
            Some(last) if !is_due(last) => {
                last.untold = last.untold.saturating_add(1);
                None
            }
            Some(last) => {
                last.at = now;
                Some(std::mem::take(&mut last.untold))
            }
            None => {
                // Upstreams that a reload has removed say nothing any more.
                known.retain(|it| now.saturating_duration_since(it.at) < MEMORY);
                known.push(Complaint {
                    upstream: Arc::clone(upstream),
                    reason,
                    at: now,
                    untold: 0,
                });
                Some(0)
            }
        }
    }
}

/// An error's causes, from the outermost inwards, without those that repeat what was said.
pub(super) fn causes(error: &dyn Error) -> String {
    let mut told = String::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !told.ends_with(&words) {
            if !told.is_empty() {
                told.push_str(": ");
            }
            told.push_str(&words);
        }
        cause = error.source();
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_due_once_in_ten_seconds_for_each_upstream_and_reason() {
        let complaints = Complaints::default();
        let (shop, other): (Arc<str>, Arc<str>) = ("shop".into(), "other".into());
        let (refused, tls) = (
            ProxyError::ConnectionRefused,
            ProxyError::TlsCertificateError,
        );
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(complaints.due(&shop, refused, at(0)), Some(0));
        assert_eq!(complaints.due(&shop, refused, at(1)), None);
        assert_eq!(complaints.due(&shop, tls, at(1)), Some(0));
        assert_eq!(complaints.due(&other, refused, at(1)), Some(0));
        assert_eq!(complaints.due(&shop, refused, at(9)), None);
        assert_eq!(complaints.due(&shop, refused, at(10)), Some(2));
        assert_eq!(complaints.due(&shop, refused, at(19)), None);
        assert_eq!(complaints.due(&shop, refused, at(20)), Some(1));
    }

    #[test]
    fn upstreams_that_are_quiet_are_forgotten() {
        let complaints = Complaints::default();
        let began = Instant::now();
        for number in 0..1000 {
            let upstream = format!("u{number}").into();
            let now = began + PAUSE * number;
            assert_eq!(
                complaints.due(&upstream, ProxyError::ConnectionRefused, now),
                Some(0)
            );
        }
        assert!(complaints.0.borrow().len() <= 60);
    }
}
