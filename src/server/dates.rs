//! The `Date` of a worker's answers, whatever version they are sent in.
//!
//! `connection` and `http2` write it. Invariant: the clock is read at most once per tick of the worker.

use std::cell::RefCell;
use std::rc::Rc;

use crate::clock;
use crate::http1::Date;
use crate::net::deadline::Deadlines;

/// The last date, and the tick of the worker's clock that it is of.
#[derive(Debug)]
pub struct Dates {
    deadlines: Rc<Deadlines>,
    last: RefCell<(Option<u64>, Date)>,
}

impl Dates {
    /// Dates by the ticks of `deadlines`.
    #[must_use]
    pub fn new(deadlines: &Rc<Deadlines>) -> Self {
        Self {
            deadlines: Rc::clone(deadlines),
            last: RefCell::default(),
        }
    }

    /// Calls `write` with the date of now.
    pub fn with<T>(&self, write: impl FnOnce(&[u8]) -> T) -> T {
        let (tick, date) = &mut *self.last.borrow_mut();
        let now = self.deadlines.now();
        let text = if tick.replace(now) == Some(now) {
            date.last()
        } else {
            date.at(clock::since_epoch(clock::wall()))
        };
        write(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_that_of_the_clock_and_made_once_a_tick() {
        let deadlines = Deadlines::new();
        let dates = Dates::new(&deadlines);
        let one = dates.with(<[u8]>::to_vec);
        assert!(one.ends_with(b" GMT"), "{one:?}");
        assert_eq!(dates.last.borrow().0, Some(0));
        assert_eq!(dates.with(<[u8]>::to_vec), one);
        deadlines.tick();
        assert_eq!(dates.with(<[u8]>::len), one.len());
        assert_eq!(dates.last.borrow().0, Some(1));
    }
}
