//! What a worker's compressors and decompressors may hold, all together.
//!
//! A compressor's memory lives as long as its client takes to read the answer, so that many slow
//! readers could hold a machine's. Each `Stream` reserves what it may come to need, by the figures of
//! `codec`, and gives it back when it has finished or drops. Invariant: the reservations of a worker
//! never exceed `LIMIT`; an answer that finds no room goes out as it is.

use std::cell::Cell;
use std::rc::Rc;

/// Bytes that the compressors of one worker may hold.
const LIMIT: usize = 128 << 20;

/// One worker's room for compressors.
#[derive(Debug, Clone, Default)]
pub struct Budget {
    used: Rc<Cell<usize>>,
}

/// Some of it, until this drops.
#[derive(Debug)]
pub(super) struct Room {
    used: Rc<Cell<usize>>,
    bytes: usize,
}

impl Budget {
    /// Reserves, or finds that there is no room.
    pub(super) fn reserve(&self, bytes: usize) -> Option<Room> {
        let used = self.used.get().saturating_add(bytes);
        if used > LIMIT {
            return None;
        }
        self.used.set(used);
        Some(Room {
            used: Rc::clone(&self.used),
            bytes,
        })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.used.set(self.used.get().saturating_sub(self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_can_be_had_again() {
        let budget = Budget::default();
        let most = budget.reserve(LIMIT).unwrap();
        assert!(budget.reserve(1).is_none());
        drop(most);
        let (one, two) = (budget.reserve(LIMIT / 2), budget.reserve(LIMIT / 2));
        assert!(one.is_some() && two.is_some() && budget.reserve(1).is_none());
        assert!(budget.reserve(usize::MAX).is_none());
    }
}
