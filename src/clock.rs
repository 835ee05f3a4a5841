//! Wall time, in one place.
//!
//! Everything that measures or waits uses `tokio::time::Instant`, so that tests can pause it. Only
//! what crosses the process boundary (dates in headers, log lines, metrics) needs wall time, and it
//! is read here and passed on as a value. Invariant: no other file reads the system clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
