//! Generations: how a purge outruns whatever is stored or in flight.
//!
//! A fetch captures the generation of its URL before it is sent; the entry that it makes carries
//! it, and every look-up compares. A write bumps the URL's slot before its answer's head is
//! released, so an older fetch can still finish but is never served to a later request. 65,536
//! slots are shared by all URLs: two URLs in one slot cost a needless miss, never a wrong answer.
//! Invariant: nothing is walked and nothing is locked; a purge is one atomic addition.

use std::sync::atomic::{AtomicU32, Ordering};

const SLOTS: usize = 1 << 16;

/// The counters that purges bump.
#[derive(Debug)]
pub(super) struct Generations {
    urls: Box<[AtomicU32]>,
    all: AtomicU32,
}

/// The counters of one URL at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Generation {
    slot: u16,
    url: u32,
    all: u32,
}

impl Generations {
    pub(super) fn new() -> Self {
        Self {
            urls: (0..SLOTS).map(|_| AtomicU32::new(0)).collect(),
            all: AtomicU32::new(0),
        }
    }

    /// The generation of the URL whose key has this hash, now.
    // Relaxed is enough, here and in `is_current`: whoever must see a bump has learned of the write
    // from its answer, hence through a socket, which orders the two.
    pub(super) fn capture(&self, hash: u64) -> Generation {
        let slot = slot_of(hash);
        Generation {
            slot,
            url: self.load(slot),
            all: self.all.load(Ordering::Relaxed),
        }
    }

    /// Whether nothing that this generation covers was purged since it was captured.
    pub(super) fn is_current(&self, generation: &Generation) -> bool {
        self.load(generation.slot) == generation.url
            && self.all.load(Ordering::Relaxed) == generation.all
    }

    /// Makes every entry and fetch of the URL old.
    pub(super) fn bump_url(&self, hash: u64) {
        if let Some(url) = self.urls.get(usize::from(slot_of(hash))) {
            url.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Makes every entry and fetch old.
    pub(super) fn bump_all(&self) {
        self.all.fetch_add(1, Ordering::AcqRel);
    }

    fn load(&self, slot: u16) -> u32 {
        self.urls
            .get(usize::from(slot))
            .map_or(0, |url| url.load(Ordering::Relaxed))
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

    #[test]
    fn a_bump_ages_what_was_captured_before_and_nothing_after() {
        let generations = Generations::new();
        let (one, other) = (generations.capture(7), generations.capture(8));
        generations.bump_url(7);
        assert!(!generations.is_current(&one));
        assert!(generations.is_current(&other));
        assert!(generations.is_current(&generations.capture(7)));
    }

    #[test]
    fn a_bump_of_all_ages_everything() {
        let generations = Generations::new();
        let captured: Vec<_> = (0..9).map(|hash| generations.capture(hash)).collect();
        generations.bump_all();
        assert!(captured.iter().all(|one| !generations.is_current(one)));
    }
}
