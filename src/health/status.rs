//! The health of one endpoint, shared by all who care.
//!
//! `balancer` reads `is_up` on every pick, `upstream` calls `suspect` when it could not connect,
//! `prober` records outcomes, `admin` and the metrics read the report. Invariant: `is_up` is the
//! state in the report but for the moment of the change, and costs one relaxed load; everything
//! else is behind a lock that no request takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::probe::Outcome;
use super::thresholds::{State, Thresholds, Verdict};
use crate::config::model::HealthCheck;

/// Health of one endpoint under one check.
#[derive(Debug)]
pub struct Status {
    up: AtomicBool,
    suspected: AtomicBool,
    wake: Notify,
    checks: AtomicU64,
    failures: AtomicU64,
    transitions: AtomicU64,
    ledger: Mutex<Ledger>,
}

#[derive(Debug)]
struct Ledger {
    thresholds: Thresholds,
    since: Instant,
    reason: Option<Arc<str>>,
    last: Option<LastCheck>,
}

/// What an operator wants to know of an endpoint's health.
#[derive(Debug, Clone)]
pub struct Report {
    /// Whether it is used.
    pub state: State,
    /// Why it is in this state, such as `connection refused`; `None` until the first change.
    pub reason: Option<Arc<str>>,
    /// When it came into this state.
    pub since: Instant,
    /// Successful checks in a row.
    pub successes: u32,
    /// Failed checks in a row.
    pub failures: u32,
    /// `None` before the first check.
    pub last: Option<LastCheck>,
}

/// The newest check.
#[derive(Debug, Clone)]
pub struct LastCheck {
    /// When it ended.
    pub at: Instant,
    /// What came of it.
    pub outcome: Outcome,
}

/// Totals since the status was made, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Checks that ended.
    pub checks: u64,
    /// Those among them that failed.
    pub failures: u64,
    /// Changes of state.
    pub transitions: u64,
}

/// A change of state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The new state.
    pub state: State,
    /// What brought it about.
    pub reason: Arc<str>,
    /// How long the former state held.
    pub after: Duration,
}

impl Status {
    /// An endpoint that is up. Without a check nothing ever changes that.
    pub fn new(check: Option<&HealthCheck>, now: Instant) -> Self {
        let thresholds = check.map_or_else(
            || Thresholds::new(1, u32::MAX),
            |check| Thresholds::new(check.healthy_threshold, check.unhealthy_threshold),
        );
        Self {
            up: AtomicBool::new(true),
            suspected: AtomicBool::new(false),
            wake: Notify::new(),
            checks: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            transitions: AtomicU64::new(0),
            ledger: Mutex::new(Ledger {
                thresholds,
                since: now,
                reason: None,
                last: None,
            }),
        }
    }

    /// Whether requests may be sent to it.
    // Relaxed is enough: the word stands for itself, nothing else is read through it.
    pub fn is_up(&self) -> bool {
        self.up.load(Relaxed)
    }

    /// Someone could not connect: has the prober check now instead of at its next turn. Cheap to
    /// call often; only the first call before a check wakes another thread.
    pub fn suspect(&self) {
        if !self.suspected.swap(true, Relaxed) {
            self.wake.notify_one();
        }
    }

    /// Whether it is up and its last check failed.
    pub(super) fn is_in_doubt(&self) -> bool {
        let ledger = self.ledger.lock();
        ledger.thresholds.state() == State::Up && ledger.thresholds.failures() > 0
    }

    /// Everything known.
    pub fn report(&self) -> Report {
        let ledger = self.ledger.lock();
        Report {
            state: ledger.thresholds.state(),
            reason: ledger.reason.clone(),
            since: ledger.since,
            successes: ledger.thresholds.successes(),
            failures: ledger.thresholds.failures(),
            last: ledger.last.clone(),
        }
    }

    /// Totals for metrics.
    pub fn counts(&self) -> Counts {
        Counts {
            checks: self.checks.load(Relaxed),
            failures: self.failures.load(Relaxed),
            transitions: self.transitions.load(Relaxed),
        }
    }

    /// Takes a check's outcome in, and returns the change that it brought about, if any. A check
    /// that failed for our own reasons (no descriptors left) is noted and changes nothing.
    pub fn record(&self, outcome: Outcome, now: Instant) -> Option<Change> {
        let verdict = match &outcome.result {
            Ok(()) => Some(Verdict::Pass),
            Err(failure) if failure.is_ours() => None,
            Err(_) => Some(Verdict::Fail),
        };
        let mut guard = self.ledger.lock();
        let ledger = &mut *guard;
        let change = verdict
            .and_then(|verdict| ledger.thresholds.feed(verdict))
            .map(|state| {
                let reason = match &outcome.result {
                    Ok(()) => match ledger.thresholds.successes() {
                        1 => "1 successful check".into(),
                        count => format!("{count} successful checks in a row").into(),
                    },
                    Err(failure) => failure.to_string().into(),
                };
                Change {
                    state,
                    reason,
                    after: now.saturating_duration_since(ledger.since),
                }
            });
        ledger.last = Some(LastCheck { at: now, outcome });
        self.checks.fetch_add(1, Relaxed);
        self.failures
            .fetch_add(u64::from(verdict == Some(Verdict::Fail)), Relaxed);
        if let Some(change) = &change {
            ledger.since = now;
            ledger.reason = Some(Arc::clone(&change.reason));
            self.up.store(change.state == State::Up, Relaxed);
            self.transitions.fetch_add(1, Relaxed);
        }
        change
    }

    /// A check begins: whatever was suspected up to now is answered by it.
    pub(super) fn begin_check(&self) {
        self.suspected.store(false, Relaxed);
    }

    /// Waits for a suspicion that no check has begun to answer.
    pub(super) async fn suspected(&self) {
        loop {
            self.wake.notified().await;
            // A wake-up may be left over from a suspicion that `begin_check` has since settled.
            if self.suspected.load(Relaxed) {
                return;
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::pin::pin;
    use std::task::Poll;

    use super::super::probe::Failure;
    use super::*;
    use crate::config::model::Probe;

    pub(in super::super) fn tcp_check(rise: u32, fall: u32) -> HealthCheck {
        HealthCheck {
            probe: Probe::Tcp,
            interval: Duration::from_secs(3600),
            timeout: Duration::from_secs(60),
            healthy_threshold: rise,
            unhealthy_threshold: fall,
        }
    }

    fn failed(failure: Failure) -> Outcome {
        Outcome {
            result: Err(failure),
            took: Duration::from_millis(3),
        }
    }

    fn passed() -> Outcome {
        Outcome {
            result: Ok(()),
            took: Duration::from_millis(1),
        }
    }

    #[test]
    fn the_report_tells_the_state_the_reason_and_since_when() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let status = Status::new(Some(&tcp_check(2, 2)), start);
        assert!(status.is_up());
        assert!(status.report().last.is_none());

        let wrong = Failure::Status {
            got: 503,
            expected: 200,
        };
        assert_eq!(status.record(failed(Failure::Refused), at(1)), None);
        assert!(status.is_up());
        let change = status.record(failed(wrong), at(2)).unwrap();
        assert_eq!(
            (change.state, &*change.reason),
            (State::Down, "status 503, expected 200")
        );
        assert_eq!(change.after, Duration::from_secs(2));
        assert!(!status.is_up());

        assert_eq!(status.record(passed(), at(3)), None);
        assert_eq!(status.record(failed(Failure::Refused), at(4)), None);
        let report = status.report();
        assert_eq!(report.state, State::Down);
        assert_eq!(report.reason.as_deref(), Some("status 503, expected 200"));
        assert_eq!(report.since, at(2));
        assert_eq!((report.successes, report.failures), (0, 1));
        assert_eq!(report.last.unwrap().outcome.result, Err(Failure::Refused));

        assert_eq!(status.record(passed(), at(5)), None);
        let change = status.record(passed(), at(6)).unwrap();
        assert_eq!(
            (change.state, &*change.reason),
            (State::Up, "2 successful checks in a row")
        );
        assert!(status.is_up());
        assert_eq!(
            status.counts(),
            Counts {
                checks: 6,
                failures: 3,
                transitions: 2
            }
        );
    }

    #[test]
    fn a_check_that_failed_for_our_own_reasons_changes_nothing() {
        let status = Status::new(Some(&tcp_check(1, 1)), Instant::now());
        let ours = Failure::Ours("too many open files".to_owned());
        assert_eq!(status.record(failed(ours.clone()), Instant::now()), None);
        assert!(status.is_up());
        assert_eq!(status.report().last.unwrap().outcome.result, Err(ours));
        assert_eq!(
            status.counts(),
            Counts {
                checks: 1,
                failures: 0,
                transitions: 0
            }
        );
    }

    #[tokio::test]
    async fn a_suspicion_wakes_once_and_is_settled_by_a_check_that_begins_after_it() {
        let status = Status::new(None, Instant::now());
        status.suspect();
        status.suspect();
        status.suspected().await;
        status.begin_check();
        let mut waiting = pin!(status.suspected());
        assert_eq!(poll_once(waiting.as_mut()).await, Poll::Pending);

        status.suspect();
        status.begin_check();
        assert_eq!(
            poll_once(waiting.as_mut()).await,
            Poll::Pending,
            "left over"
        );

        status.suspect();
        waiting.await;
    }

    async fn poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
    }
}
