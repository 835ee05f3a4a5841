//! Generations: how a purge outruns whatever is stored or in flight.
//!
//! Every purge has a number, larger than those before it. A fetch notes the last number before it is sent;
//! the entry that it makes carries that number, and every look-up compares it with the last purge of the
//! entry's URL, its tags and its prefixes. So a write bumps before its answer's head is released, and an
//! older fetch can still finish but is never served to a later request; what only the answer tells (its
//! tags) counts from the same moment. Which URLs were purged is in `written`; 65,536 slots are shared by all tags:
//! two in one slot cost a needless miss, never a wrong answer.
//! Invariant: no purge walks what is stored, and a look-up locks nothing unless a prefix was purged since.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::time::Instant;

use super::written::Written;

const SLOTS: usize = 1 << 16;
/// More purged prefixes than this at a time would make look-ups slow.
const MAX_PREFIXES: usize = 256;

/// For so long a purged prefix is remembered for what may still arrive. Of what takes longer nothing is
/// stored, and nobody new waits for it.
const LONGEST_FETCH: Duration = Duration::from_secs(60 * 60);

/// The numbers of the last purges.
#[derive(Debug)]
pub(super) struct Generations {
    /// Of any purge.
    last: AtomicU64,
    all: Mark,
    urls: Written,
    tags: Box<[Mark]>,
    prefix: Mark,
    prefixes: RwLock<Vec<Prefix>>,
    /// The last purge of a prefix that was forgotten.
    forgotten: AtomicU64,
}

/// The numbers of the last purges of one thing.
#[derive(Debug, Default)]
struct Mark {
    hard: AtomicU64,
    soft: AtomicU64,
}

#[derive(Debug)]
struct Prefix {
    of: Box<[u8]>,
    number: u64,
    strength: Strength,
    at: Instant,
}

/// Which purged prefixes say something about what is still stored.
#[derive(Debug)]
pub(super) struct Wanted(Vec<(Box<[u8]>, u64, bool)>);

impl Wanted {
    /// Something is stored under `url` that was asked for then.
    pub(super) fn see(&mut self, then: Generation, url: &[u8]) {
        for (of, number, wanted) in &mut self.0 {
            *wanted |= *number > then.born && url.starts_with(of);
        }
    }
}

/// What a purge leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strength {
    /// Nothing: the next request is a miss.
    Hard,
    /// Stale answers, that are asked about, or served while the origin fails.
    Soft,
}

/// The moment at which something was asked for, and its URL's hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Generation {
    born: u64,
    url: u64,
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
    fn since(&self, born: u64) -> Standing {
        if self.hard.load(Ordering::Relaxed) > born {
            Standing::Gone
        } else if self.soft.load(Ordering::Relaxed) > born {
            Standing::Stale
        } else {
            Standing::Current
        }
    }

    fn set(&self, number: u64, strength: Strength) {
        match strength {
            Strength::Hard => self.hard.fetch_max(number, Ordering::AcqRel),
            Strength::Soft => self.soft.fetch_max(number, Ordering::AcqRel),
        };
    }
}

impl Generations {
    #[cfg(test)]
    pub(super) fn new() -> Self {
        Self::after(0)
    }

    /// Nothing that is known was purged since the purge of this number.
    pub(super) fn after(last: u64) -> Self {
        Self {
            last: AtomicU64::new(last),
            all: Mark::default(),
            urls: Written::new(),
            tags: (0..SLOTS).map(|_| Mark::default()).collect(),
            prefix: Mark::default(),
            prefixes: RwLock::default(),
            forgotten: AtomicU64::new(0),
        }
    }

    /// This moment, for the URL whose key has this hash.
    pub(super) fn capture(&self, hash: u64) -> Generation {
        Generation {
            born: self.last.load(Ordering::Acquire),
            url: hash,
        }
    }

    /// The moment before the purge after `born`, for the URL whose key has this hash.
    pub(super) fn at(born: u64, hash: u64) -> Generation {
        Generation { born, url: hash }
    }

    /// The number of the last purge.
    pub(super) fn last(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }

    /// What is left of something under `url` that was asked for then and has these tags.
    pub(super) fn standing(&self, then: Generation, url: &[u8], tags: &[u64]) -> Standing {
        if self.last.load(Ordering::Acquire) == then.born {
            return Standing::Current;
        }
        let urls = self.urls.since(then.born, then.url);
        let mut standing = self.all.since(then.born).max(urls);
        for tag in tags {
            let mark = self.tags.get(usize::from(slot_of(*tag)));
            standing = standing.max(mark.map_or(Standing::Current, |mark| mark.since(then.born)));
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

    /// Purges the URL whose key has this hash; the purge's number.
    pub(super) fn purge_url(&self, hash: u64, strength: Strength) -> u64 {
        let number = self.next();
        self.urls.note(hash, number, strength);
        number
    }

    /// Purges what has the tag of this hash; the purge's number.
    pub(super) fn purge_tag(&self, hash: u64, strength: Strength) -> u64 {
        self.purge(self.tags.get(usize::from(slot_of(hash))), strength)
    }

    /// Purges everything; the purge's number.
    pub(super) fn purge_all(&self, strength: Strength) -> u64 {
        self.purge(Some(&self.all), strength)
    }

    /// Purges every URL that begins so; the purge's number.
    pub(super) fn purge_prefix(
        &self,
        of: &[u8],
        strength: Strength,
        now: Instant,
    ) -> Result<u64, TooManyPrefixes> {
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
            at: now,
        });
        drop(prefixes);
        self.prefix.set(number, strength);
        Ok(number)
    }

    /// The prefixes that were purged so far, to be shown all that is stored.
    pub(super) fn prefixes(&self) -> Wanted {
        let prefixes = self.prefixes.read();
        let each = prefixes
            .iter()
            .map(|prefix| (prefix.of.clone(), prefix.number, false));
        Wanted(each.collect())
    }

    /// Forgets the prefixes that say nothing about what is stored, nor about what may still arrive.
    pub(super) fn forget_prefixes(&self, but: &Wanted, now: Instant) {
        let Wanted(seen) = but;
        self.prefixes.write().retain(|prefix| {
            let found = seen.iter().find(|(_, number, _)| *number == prefix.number);
            let is_kept = found.is_none_or(|(_, _, wanted)| *wanted)
                || now.saturating_duration_since(prefix.at) < LONGEST_FETCH;
            if !is_kept {
                self.forgotten.fetch_max(prefix.number, Ordering::AcqRel);
            }
            is_kept
        });
    }

    /// Whether some purge since then is forgotten, so that `standing` says too little of what is not stored
    /// yet. To be asked after it.
    pub(super) fn is_too_old(&self, then: Generation) -> bool {
        self.forgotten.load(Ordering::Acquire) > then.born
    }

    fn purge(&self, mark: Option<&Mark>, strength: Strength) -> u64 {
        let number = self.next();
        if let Some(mark) = mark {
            mark.set(number, strength);
        }
        number
    }

    /// What was captured before this is older than what the number is for.
    fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::AcqRel).saturating_add(1)
    }
}

impl Generation {
    /// The number of the last purge before.
    pub(super) fn born(self) -> u64 {
        self.born
    }

    /// Whether this moment lies before a purge of that number.
    pub(super) fn is_before(self, number: u64) -> bool {
        self.born < number
    }

    /// Whether something was purged between the two moments.
    pub(super) fn differs_from(self, other: Self) -> bool {
        self.born != other.born
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
        let now = Instant::now();
        purges.purge_prefix(b"shop/a", Hard, now).unwrap();
        assert_eq!(purges.standing(then, b"shop/ab", &[]), Gone);
        assert_eq!(purges.standing(then, b"shop/b", &[]), Current);
        let later = purges.capture(1);
        assert_eq!(purges.standing(later, b"shop/ab", &[]), Current);
        purges.purge_prefix(b"shop", Soft, now).unwrap();
        assert_eq!(purges.standing(later, b"shop/ab", &[]), Stale);
    }

    #[test]
    fn a_prefix_is_forgotten_once_nothing_is_older_than_its_purge() {
        let purges = Generations::new();
        let then = purges.capture(1);
        let now = Instant::now();
        purges.purge_prefix(b"shop/a", Soft, now).unwrap();
        let nothing = purges.prefixes();
        purges.forget_prefixes(&nothing, now);
        assert_eq!(purges.standing(then, b"shop/a", &[]), Stale, "may arrive");
        let mut something = purges.prefixes();
        something.see(then, b"shop/ab");
        let later = now + LONGEST_FETCH;
        purges.forget_prefixes(&something, later);
        assert_eq!(purges.standing(then, b"shop/a", &[]), Stale, "is stored");
        let mut others = purges.prefixes();
        others.see(then, b"shop/b");
        others.see(purges.capture(1), b"shop/ab");
        purges.forget_prefixes(&others, later);
        assert_eq!(purges.standing(then, b"shop/a", &[]), Current);
    }

    #[test]
    fn prefixes_are_bounded_and_a_repeated_one_takes_no_more_room() {
        let purges = Generations::new();
        let now = Instant::now();
        for index in 0..MAX_PREFIXES {
            purges
                .purge_prefix(index.to_string().as_bytes(), Hard, now)
                .unwrap();
        }
        let more = purges.purge_prefix(b"more", Hard, now);
        assert_eq!(more, Err(TooManyPrefixes));
        assert_eq!(purges.purge_prefix(b"7", Hard, now), Ok(257));
    }
}
