//! Wall time, in one place, and the clock that ages are measured by.
//!
//! Everything that measures or waits uses `tokio::time::Instant`, so that tests can pause it. Only
//! what crosses the process boundary (dates in headers, log lines, metrics) needs wall time, and it
//! is read here and passed on as a value. `cache` measures ages and lifetimes by a `Clock`, which
//! can be set ahead: hours pass for what is stored, while sockets and their deadlines stay in the
//! present. Invariant: no other file reads the system clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// The wall clock now.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads wall time"
)]
#[must_use]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// Time since the Unix epoch; zero for a clock set before it.
#[must_use]
pub fn since_epoch(at: SystemTime) -> Duration {
    at.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// What ages are measured by: the present, or so far ahead of it as its `Ahead` says.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Arc<AtomicU64>>);

/// Sets a `Clock` ahead.
#[derive(Debug, Clone)]
pub struct Ahead(Arc<AtomicU64>);

impl Clock {
    /// A clock that can be set ahead, and what does it.
    #[must_use]
    pub fn adjustable() -> (Self, Ahead) {
        let ahead = Arc::new(AtomicU64::new(0));
        (Self(Some(Arc::clone(&ahead))), Ahead(ahead))
    }

    /// What this clock shows now.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.at(Instant::now())
    }

    /// What this clock shows at an instant of the present.
    #[must_use]
    pub fn at(&self, instant: Instant) -> Instant {
        instant + self.ahead()
    }

    /// The date that this clock shows now.
    #[must_use]
    pub fn wall(&self) -> SystemTime {
        wall() + self.ahead()
    }

    fn ahead(&self) -> Duration {
        self.0.as_ref().map_or(Duration::ZERO, |milliseconds| {
            Duration::from_millis(milliseconds.load(Ordering::Relaxed))
        })
    }
}

impl Ahead {
    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        let milliseconds = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.0.fetch_add(milliseconds, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_in_the_present_until_it_is_set_ahead() {
        let (clock, ahead) = Clock::adjustable();
        let now = Instant::now();
        assert_eq!(clock.at(now), now);
        ahead.advance(Duration::from_secs(90));
        assert_eq!(clock.at(now), now + Duration::from_secs(90));
        assert!(clock.wall() >= wall() + Duration::from_secs(89));
        assert_eq!(Clock::default().at(now), now);
    }
}
