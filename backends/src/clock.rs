//! The time of day, as something that is handed in.
//!
//! Expiry of carts, tokens and idempotency keys reads `App`'s clock, so that a test moves time by
//! hand. This is the only file of the crate that reads the wall clock; deadlines on sockets use
//! tokio's timers instead, which never jump.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A shared source of wall time.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place that reads wall time"
        )]
        Self::new(SystemTime::now)
    }

    /// A clock that shows what `now` returns.
    pub fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Whole seconds since 1970; a clock set before that shows 0.
    pub(crate) fn unix_seconds(&self) -> i64 {
        let since = (self.0)()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
