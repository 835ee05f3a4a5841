//! Generations: how a purge outruns whatever is stored or in flight.
//!
//! Every purge has a number, larger than those before it. A fetch notes the last number before it is sent;
//! the entry that it makes carries that number, and every look-up compares it with the last purge of the
//! entry's URL, its tags and its prefixes. So a write bumps before its answer's head is released, and an
//! older fetch can still finish but is never served to a later request; what only the answer tells (its
//! tags) counts from the same moment. 65,536 slots each are shared by all URLs and all tags: two in one
//! slot cost a needless miss, never a wrong answer.
//! Invariant: no purge walks what is stored, and a look-up locks nothing unless a prefix was purged since.

use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::RwLock;

const SLOTS: usize = 1 << 16;
/// More purged prefixes than this at a time would make look-ups slow.
const MAX_PREFIXES: usize = 256;

/// The numbers of the last purges.
#[derive(Debug)]
pub(super) struct Generations {
    /// Of any purge.
    last: AtomicU32,
    all: Mark,
    urls: Box<[Mark]>,
    tags: Box<[Mark]>,
    prefix: Mark,
    prefixes: RwLock<Vec<Prefix>>,
}

/// The numbers of the last purges of one thing.
#[derive(Debug, Default)]
struct Mark {
    hard: AtomicU32,
    soft: AtomicU32,
}

#[derive(Debug)]
struct Prefix {
    of: Box<[u8]>,
    number: u32,
    strength: Strength,
}

/// What a purge leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strength {
    /// Nothing: the next request is a miss.
    Hard,
    /// Stale answers, that are asked about, or served while the origin fails.
    Soft,
}

/// The moment at which something was asked for, and its URL's slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Generation {
    born: u32,
    slot: u16,
}

/// What purges have left of something stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// All of it.
    Current,
    /// It counts as stale.
    Stale,
    /// Nothing.
    Gone,
}

/// There are too many purged prefixes for one more; purge a host, or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many prefixes were purged in the last hour; purge a host, or all")]
pub struct TooManyPrefixes;

impl Mark {
    // Relaxed is enough, here and for `last`: whoever must see a purge has learned of the write from its
    // answer, hence through a socket, which orders the two.
    fn since(&self, born: u32) -> Standing {
        if self.hard.load(Ordering::Relaxed) > born {
            Standing::Gone
        } else if self.soft.load(Ordering::Relaxed) > born {
            Standing::Stale
        } else {
            Standing::Current
        }
    }

    fn set(&self, number: u32, strength: Strength) {
        match strength {
            Strength::Hard => self.hard.fetch_max(number, Ordering::AcqRel),
            Strength::Soft => self.soft.fetch_max(number, Ordering::AcqRel),
        };
    }
}

impl Generations {
    pub(super) fn new() -> Self {
        let marks = || (0..SLOTS).map(|_| Mark::default()).collect();
        Self {
            last: AtomicU32::new(0),
            all: Mark::default(),
            urls: marks(),
            tags: marks(),
            prefix: Mark::default(),
            prefixes: RwLock::default(),
        }
    }

    /// This moment, for the URL whose key has this hash.
    pub(super) fn capture(&self, hash: u64) -> Generation {
        Generation {
            born: self.last.load(Ordering::Acquire),
            slot: slot_of(hash),
        }
    }

    /// What is left of something under `url` that was asked for then and has these tags.
    pub(super) fn standing(&self, then: Generation, url: &[u8], tags: &[u64]) -> Standing {
        if self.last.load(Ordering::Acquire) == then.born {
            return Standing::Current;
        }
        let of = |marks: &[Mark], slot: u16| {
            marks
                .get(usize::from(slot))
                .map_or(Standing::Current, |mark| mark.since(then.born))
        };
        let mut standing = self.all.since(then.born).max(of(&self.urls, then.slot));
        for tag in tags {
            standing = standing.max(of(&self.tags, slot_of(*tag)));
        }
        if standing < Standing::Gone && self.prefix.since(then.born) > Standing::Current {
            standing = standing.max(self.by_prefix(then, url));
        }
        standing
    }

    fn by_prefix(&self, then: Generation, url: &[u8]) -> Standing {
        let prefixes = self.prefixes.read();
        let since = prefixes
            .iter()
            .filter(|prefix| prefix.number > then.born && url.starts_with(&prefix.of));
        let left = since.map(|prefix| match prefix.strength {
            Strength::Hard => Standing::Gone,
            Strength::Soft => Standing::Stale,
        });
        left.max().unwrap_or(Standing::Current)
    }

    /// Purges the URL whose key has this hash.
    pub(super) fn purge_url(&self, hash: u64, strength: Strength) {
        self.purge(self.urls.get(usize::from(slot_of(hash))), strength);
    }

    /// Purges what has the tag of this hash.
    pub(super) fn purge_tag(&self, hash: u64, strength: Strength) {
        self.purge(self.tags.get(usize::from(slot_of(hash))), strength);
    }

    /// Purges everything.
    pub(super) fn purge_all(&self, strength: Strength) {
        self.purge(Some(&self.all), strength);
    }

    /// Purges every URL that begins so.
    pub(super) fn purge_prefix(
        &self,
        of: &[u8],
        strength: Strength,
    ) -> Result<(), TooManyPrefixes> {
        let mut prefixes = self.prefixes.write();
        prefixes.retain(|prefix| *prefix.of != *of || prefix.strength != strength);
        if prefixes.len() >= MAX_PREFIXES {
            return Err(TooManyPrefixes);
        }
        let number = self.next();
        prefixes.push(Prefix {
            of: of.into(),
            number,
            strength,
        });
        drop(prefixes);
        self.prefix.set(number, strength);
        Ok(())
    }

    /// Forgets the purged prefixes up to a number that `last` gave: nothing so old is left.
    pub(super) fn forget_prefixes(&self, up_to: u32) {
        self.prefixes.write().retain(|prefix| prefix.number > up_to);
    }

    /// The number of the last purge.
    pub(super) fn last(&self) -> u32 {
        self.last.load(Ordering::Acquire)
    }

    fn purge(&self, mark: Option<&Mark>, strength: Strength) {
        if let Some(mark) = mark {
            mark.set(self.next(), strength);
        }
    }

    /// What was captured before this is older than what the number is for.
    fn next(&self) -> u32 {
        self.last.fetch_add(1, Ordering::AcqRel).wrapping_add(1)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the low bits are what is wanted"
)]
fn slot_of(hash: u64) -> u16 {
    hash as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use Standing::{Current, Gone, Stale};
    use Strength::{Hard, Soft};

    #[test]
    fn a_purge_ages_what_was_asked_for_before_and_nothing_after() {
        let purges = Generations::new();
        let (one, other) = (purges.capture(7), purges.capture(8));
        purges.purge_url(7, Hard);
        assert_eq!(purges.standing(one, b"", &[]), Gone);
        assert_eq!(purges.standing(other, b"", &[]), Current);
        assert_eq!(purges.standing(purges.capture(7), b"", &[]), Current);
    }

    #[test]
    fn a_purge_of_all_ages_everything() {
        let purges = Generations::new();
        let captured: Vec<_> = (0..9).map(|hash| purges.capture(hash)).collect();
        purges.purge_all(Soft);
        let all = |standing| {
            captured
                .iter()
                .all(|one| purges.standing(*one, b"", &[]) == standing)
        };
        assert!(all(Stale));
        purges.purge_all(Hard);
        assert!(all(Gone));
    }

    #[test]
    fn tags_that_only_the_answer_tells_count_from_when_it_was_asked_for() {
        let purges = Generations::new();
        let then = purges.capture(1);
        purges.purge_tag(5, Hard);
        assert_eq!(purges.standing(then, b"", &[4, 5]), Gone);
        assert_eq!(purges.standing(then, b"", &[4]), Current);
        let later = purges.capture(1);
        assert_eq!(purges.standing(later, b"", &[5]), Current);
        purges.purge_tag(4, Soft);
        assert_eq!(purges.standing(later, b"", &[4, 5]), Stale);
    }

    #[test]
    fn prefixes_reach_what_begins_so_and_was_asked_for_before() {
        let purges = Generations::new();
        let then = purges.capture(1);
        purges.purge_prefix(b"shop/a", Hard).unwrap();
        assert_eq!(purges.standing(then, b"shop/ab", &[]), Gone);
        assert_eq!(purges.standing(then, b"shop/b", &[]), Current);
        let later = purges.capture(1);
        assert_eq!(purges.standing(later, b"shop/ab", &[]), Current);
        purges.purge_prefix(b"shop", Soft).unwrap();
        assert_eq!(purges.standing(later, b"shop/ab", &[]), Stale);
        purges.forget_prefixes(purges.last());
        assert_eq!(purges.standing(then, b"shop/ab", &[]), Current);
    }

    #[test]
    fn prefixes_are_bounded_and_a_repeated_one_takes_no_more_room() {
        let purges = Generations::new();
        for index in 0..MAX_PREFIXES {
            purges
                .purge_prefix(index.to_string().as_bytes(), Hard)
                .unwrap();
        }
        assert_eq!(purges.purge_prefix(b"more", Hard), Err(TooManyPrefixes));
        assert_eq!(purges.purge_prefix(b"7", Hard), Ok(()));
    }
}
