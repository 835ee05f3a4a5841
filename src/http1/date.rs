//! The `Date` of the answers of one second.
//!
//! A connection's owner keeps one and shows it the clock that it has; the text is made once a second.
//! Invariant: it is never later than that clock.

use std::time::{Duration, UNIX_EPOCH};

/// The last date, as text (RFC 9110 section 5.6.7).
#[derive(Debug, Default)]
pub struct Date {
    second: u64,
    text: String,
}

impl Date {
    /// The date `since_epoch`.
    pub fn at(&mut self, since_epoch: Duration) -> &[u8] {
        let second = since_epoch.as_secs();
        if self.text.is_empty() || second != self.second {
            self.second = second;
            // The first second of the year 10000 has no such text.
            let last = Duration::from_secs(253_402_300_799);
            let at = UNIX_EPOCH.checked_add(since_epoch.min(last));
            self.text = httpdate::fmt_http_date(at.unwrap_or(UNIX_EPOCH));
        }
        self.text.as_bytes()
    }
}
