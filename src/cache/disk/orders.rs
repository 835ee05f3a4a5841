//! What is to become of files, in the order in which it was decided.
//!
//! Workers decide (`mod`), and the writer carries out, later: what is to be written waits in its queue, what
//! is to be deleted waits here and is done first. So a write has a number, and one about whose name something
//! else was decided since is left out. `mod` hides a name in the index, and `writer` puts one into it, under
//! the lock of this.
//! Invariant: of what was decided about a name the last counts. There is one number a name in the queue at
//! most, and a bounded list of what is to be deleted.

use std::collections::{HashMap, HashSet};

use ahash::RandomState;

use super::index::Name;

/// Files to be deleted of which the writer has not heard yet.
const DOOMED: usize = 1 << 16;

/// What waits to be carried out.
#[derive(Debug, Default)]
pub(super) struct Orders {
    last: u64,
    /// By name, the number of the write that counts.
    writes: HashMap<Name, u64, RandomState>,
    doomed: HashSet<Name, RandomState>,
}

impl Orders {
    /// A file of this name is to be written: the number of that.
    pub(super) fn write(&mut self, name: Name) -> u64 {
        self.last += 1;
        self.writes.insert(name, self.last);
        self.last
    }

    /// No file of this name is to be there; false if that cannot be noted.
    pub(super) fn doom(&mut self, name: Name) -> bool {
        self.writes.remove(&name);
        let has_room = self.doomed.len() < DOOMED || self.doomed.contains(&name);
        if has_room {
            self.doomed.insert(name);
        }
        has_room
    }

    /// The file of this name is of no use. One that is about to take its place is.
    pub(super) fn discard(&mut self, name: Name) {
        // What cannot be noted goes when it was not used for long.
        if !self.writes.contains_key(&name) && self.doomed.len() < DOOMED {
            self.doomed.insert(name);
        }
    }

    /// Whether nothing else was decided since this write was.
    pub(super) fn counts(&self, name: Name, number: u64) -> bool {
        self.writes.get(&name) == Some(&number)
    }

    /// This write was carried out.
    pub(super) fn done(&mut self, name: Name, number: u64) {
        if self.counts(name, number) {
            self.writes.remove(&name);
        }
    }

    /// Whether what lies there under this name is about to go.
    pub(super) fn is_to_go(&self, name: Name) -> bool {
        self.writes.contains_key(&name) || self.doomed.contains(&name)
    }

    /// What is to be deleted, to be done before any later write.
    pub(super) fn take_doomed(&mut self) -> HashSet<Name, RandomState> {
        std::mem::take(&mut self.doomed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(key: u128) -> Name {
        Name { key, vary: 0 }
    }

    #[test]
    fn of_what_was_decided_the_last_counts() {
        let mut orders = Orders::default();
        let first = orders.write(name(1));
        let second = orders.write(name(1));
        assert!(!orders.counts(name(1), first) && orders.counts(name(1), second));
        orders.done(name(1), first);
        assert!(orders.counts(name(1), second));

        assert!(orders.doom(name(1)));
        assert!(!orders.counts(name(1), second) && orders.is_to_go(name(1)));
        let third = orders.write(name(1));
        assert!(orders.take_doomed().contains(&name(1)));
        assert!(orders.counts(name(1), third));

        orders.discard(name(1));
        assert!(orders.take_doomed().is_empty(), "it is replaced anyway");
        orders.done(name(1), third);
        assert!(!orders.is_to_go(name(1)));
        orders.discard(name(1));
        assert!(orders.is_to_go(name(1)));
    }

    #[test]
    fn memory_is_bounded() {
        let mut orders = Orders::default();
        let names = || (0..DOOMED as u128).map(name);
        assert!(names().all(|name| orders.doom(name)));
        assert!(!orders.doom(name(u128::MAX)));
        assert!(orders.doom(name(0)), "it is there already");
        orders.discard(name(u128::MAX));
        assert_eq!(orders.take_doomed().len(), DOOMED);
        for _ in 0..9 {
            for name in names().take(9) {
                orders.write(name);
            }
        }
        assert_eq!(orders.writes.len(), 9);
    }
}
