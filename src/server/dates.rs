//! The `Date` of the answers of one second (RFC 9110 section 5.6.7).
//!
//! One for all connections of a worker, whichever version they speak: the clock is read once a tick, and
//! the text made once a second. Invariant: a date is never later than the clock, nor more than a tick
//! earlier.

use std::cell::{Cell, Ref, RefCell};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::HeaderValue;

use crate::clock;

/// The first second of the year 10000 has no such text.
const LAST: Duration = Duration::from_secs(253_402_300_799);

/// The last date that was asked for.
#[derive(Debug)]
pub struct Dates {
    tick: Cell<Option<u64>>,
    /// None before the first one.
    second: Cell<Option<u64>>,
    text: RefCell<HeaderValue>,
}

impl Default for Dates {
    fn default() -> Self {
        Self {
            tick: Cell::new(None),
            second: Cell::new(None),
            text: RefCell::new(HeaderValue::from_static("")),
        }
    }
}

impl Dates {
    /// The date at this tick of the worker's clock (`net::deadline::Deadlines::now`).
    pub fn at_tick(&self, tick: u64) -> Ref<'_, HeaderValue> {
        if self.tick.replace(Some(tick)) != Some(tick) {
            self.turn(clock::wall());
        }
        self.text.borrow()
    }

    /// The date at `now`.
    #[must_use]
    pub fn at(&self, now: SystemTime) -> HeaderValue {
        self.turn(now);
        self.text.borrow().clone()
    }

    fn turn(&self, now: SystemTime) {
        let since_epoch = clock::since_epoch(now).min(LAST);
        let second = since_epoch.as_secs();
        if self.second.replace(Some(second)) == Some(second) {
            return;
        }
        let at = UNIX_EPOCH.checked_add(since_epoch).unwrap_or(UNIX_EPOCH);
        let text = Bytes::from(httpdate::fmt_http_date(at));
        // Made of letters, digits and spaces, so a value.
        if let Ok(value) = HeaderValue::from_maybe_shared(text) {
            self.text.replace(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_made_once_a_second() {
        let dates = Dates::default();
        let first = dates.at(UNIX_EPOCH);
        assert_eq!(first, "Thu, 01 Jan 1970 00:00:00 GMT");
        let same = dates.at(UNIX_EPOCH + Duration::from_millis(999));
        assert_eq!(same.as_bytes().as_ptr(), first.as_bytes().as_ptr());
        let next = dates.at(UNIX_EPOCH + Duration::from_secs(1));
        assert_eq!(next, "Thu, 01 Jan 1970 00:00:01 GMT");
        let far = dates.at(UNIX_EPOCH + LAST + Duration::from_secs(10));
        assert_eq!(far, "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn the_clock_is_read_once_a_tick() {
        let dates = Dates::default();
        let first = dates.at_tick(7).clone();
        assert_eq!(first.len(), 29, "{first:?}");
        // Whatever is shown meanwhile is not asked about again before the next tick.
        let shown = dates.at(UNIX_EPOCH);
        assert_eq!(*dates.at_tick(7), shown);
        assert_ne!(*dates.at_tick(8), shown);
    }
}
