//! Which URLs were purged last: exactly for the latest, roughly for those before.
//!
//! `purge` gives the numbers; this finds the last one of a URL. A URL's hash leads to a set of six places, and
//! a place holds twenty bits more of the hash beside the number. When all are taken, the oldest makes way, and
//! what was asked for before that purge counts as purged, whatever its URL. So writes to many URLs (every
//! order has its own) cost the answers of others nothing, until six URLs of one set were written
//! since an answer was asked for.
//! Invariant: no purge is forgotten towards what is older; a look-up locks nothing and touches one cache line.

use std::sync::atomic::{AtomicU64, Ordering};

use super::purge::{Standing, Strength};

/// 2 MiB. More sets cost memory, fewer forget sooner.
const SETS: u64 = 1 << 15;

/// The bits of a place that hold a number. The others are of the URL.
const NUMBER: u64 = (1 << 44) - 1;

/// The numbers of the last purges of URLs.
#[derive(Debug)]
pub(super) struct Written {
    sets: Box<[Set]>,
}

/// As large as a cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Set {
    places: [AtomicU64; 6],
    /// The number of the last purge that made way.
    before: AtomicU64,
    /// Of the last soft purge of any URL; they are rare.
    soft: AtomicU64,
}

impl Written {
    pub(super) fn new() -> Self {
        Self {
            sets: (0..SETS).map(|_| Set::default()).collect(),
        }
    }

    /// What is left of something under the URL of this hash, asked for after the purge `born`.
    pub(super) fn since(&self, born: u64, hash: u64) -> Standing {
        let Some(set) = self.set_of(hash) else {
            return Standing::Current;
        };
        let is_purged = |place: &AtomicU64| {
            let held = place.load(Ordering::Acquire);
            held & !NUMBER == hash & !NUMBER && held & NUMBER > born
        };
        // In this order: what makes way is in `before` by then.
        if set.places.iter().any(is_purged) || set.before.load(Ordering::Acquire) > born {
            Standing::Gone
        } else if set.soft.load(Ordering::Relaxed) > born {
            Standing::Stale
        } else {
            Standing::Current
        }
    }

    /// The URL of this hash was purged.
    pub(super) fn note(&self, hash: u64, number: u64, strength: Strength) {
        let Some(set) = self.set_of(hash) else {
            return;
        };
        match strength {
            Strength::Soft => {
                set.soft.fetch_max(number, Ordering::AcqRel);
            }
            // After so many there is no room for the hash.
            Strength::Hard if number > NUMBER => {
                set.before.fetch_max(number, Ordering::AcqRel);
            }
            Strength::Hard => set.note(hash & !NUMBER, number),
        }
    }

    fn set_of(&self, hash: u64) -> Option<&Set> {
        let index = usize::try_from(hash % SETS).ok()?;
        self.sets.get(index)
    }
}

impl Set {
    /// Taken again whenever another purge has taken the place meanwhile; one of the two has then succeeded.
    fn note(&self, url: u64, number: u64) {
        loop {
            let held = |place: &AtomicU64| place.load(Ordering::Acquire);
            let each = || self.places.iter().map(|place| (place, held(place)));
            let own = each().find(|(_, held)| held & !NUMBER == url);
            // An empty one is the oldest.
            let Some((place, held)) = own.or_else(|| each().min_by_key(|(_, held)| held & NUMBER))
            else {
                return;
            };
            if held & !NUMBER == url && held & NUMBER >= number {
                return;
            }
            if held & !NUMBER != url {
                self.before.fetch_max(held & NUMBER, Ordering::AcqRel);
            }
            let taken =
                place.compare_exchange(held, url | number, Ordering::AcqRel, Ordering::Acquire);
            if taken.is_ok() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Standing::{Current, Gone, Stale};
    use Strength::{Hard, Soft};

    /// Another URL of the same set.
    fn sibling(nth: u64) -> u64 {
        nth << 44 | 5
    }

    #[test]
    fn a_purge_reaches_its_own_url_and_no_other_of_the_set() {
        let written = Written::new();
        written.note(sibling(1), 1, Hard);
        assert_eq!(written.since(0, sibling(1)), Gone);
        assert_eq!(written.since(1, sibling(1)), Current);
        assert_eq!(written.since(0, sibling(2)), Current);
        written.note(sibling(2), 2, Soft);
        assert_eq!(written.since(1, sibling(2)), Stale);
    }

    #[test]
    fn what_makes_way_counts_for_all_that_is_older() {
        let written = Written::new();
        for nth in 1..=7 {
            written.note(sibling(nth), nth, Hard);
            // Twice takes no more room.
            written.note(sibling(nth), nth, Hard);
        }
        assert_eq!(written.since(0, sibling(1)), Gone);
        assert_eq!(written.since(0, sibling(99)), Gone, "older than the first");
        assert_eq!(written.since(1, sibling(99)), Current);
        assert_eq!(written.since(1, sibling(1)), Current);
        assert_eq!(written.since(1, sibling(2)), Gone);
    }

    #[test]
    fn numbers_without_end_are_not_forgotten() {
        let written = Written::new();
        written.note(sibling(1), NUMBER + 1, Hard);
        assert_eq!(written.since(NUMBER, sibling(1)), Gone);
        assert_eq!(written.since(NUMBER + 1, sibling(1)), Current);
    }

    #[test]
    fn ten_thousand_writes_cost_the_answers_of_other_urls_nothing() {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        let written = Written::new();
        let others: Vec<u64> = (0..10_000).map(|_| random.u64(..)).collect();
        let mut purged = Vec::new();
        let lost = |written: &Written| {
            let gone = others.iter().filter(|url| written.since(0, **url) == Gone);
            gone.count()
        };
        let mut write = |up_to: u64| {
            for number in purged.len() as u64 + 1..=up_to {
                let url = random.u64(..);
                written.note(url, number, Hard);
                purged.push(url);
            }
            assert!(
                (1..)
                    .zip(&purged)
                    .all(|(number, url)| written.since(number - 1, *url) == Gone),
                "seed {seed:#x}"
            );
            lost(&written)
        };
        assert_eq!(write(10_000), 0, "seed {seed:#x}");
        // A slot for each URL and nothing else would lose 78 of 100.
        let lost = write(100_000);
        assert!(lost < 600, "seed {seed:#x}: {lost}");
    }
}
