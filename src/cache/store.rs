//! Where entries are kept: the only user of moka.
//!
//! moka ranks keys (W-TinyLFU) and evicts by real bytes down to seven eighths of the budget, so
//! that fills find room; the bound itself is `budget`'s. A key leads to a `Slot` that never
//! changes: a new answer replaces the slot with one that holds the other variants too. `mod` looks
//! up, `permit` and `fill` put and mark.
//! Invariant: finding a slot takes no lock and allocates nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ahash::RandomState;
use http::HeaderMap;
use moka::notification::RemovalCause;
use moka::ops::compute::Op;
use tokio::time::Instant;

use super::budget::Reservation;
use super::entry::Entry;
use super::key::Key;
use super::purge::{Generation, Generations, Standing};
use super::vary::Vary;

/// The index over everything stored.
#[derive(Debug)]
pub(super) struct Store {
    slots: moka::sync::Cache<Box<[u8]>, Arc<Slot>, RandomState>,
    evictions: Arc<AtomicU64>,
}

/// More variants of one URL than this push out the oldest.
const MAX_VARIANTS: usize = 16;

/// How long a URL is known for an answer that could not be stored.
const MARKED_FOR: Duration = Duration::from_secs(10);

/// How long it is known that an answer was too large, to requests for a part: to find out again costs the
/// beginning of the whole and a connection. A request for the whole costs no more than its answer.
const LARGE_FOR: Duration = Duration::from_secs(10 * 60);

impl Store {
    pub(super) fn new(limit: usize, hasher: RandomState) -> Self {
        let evictions = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&evictions);
        let slots = moka::sync::Cache::builder()
            .max_capacity((limit - limit / 8) as u64)
            .weigher(|_key, slot: &Arc<Slot>| slot.charge)
            .eviction_listener(move |_key, _slot, cause| {
                if cause == RemovalCause::Size {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            })
            .build_with_hasher(hasher);
        Self { slots, evictions }
    }

    pub(super) fn find(&self, key: &[u8]) -> Option<Arc<Slot>> {
        self.slots.get(key)
    }

    /// Stores an entry as the newest variant of its key, unless it was purged meanwhile.
    pub(super) fn put(
        &self,
        key: &Key<'_>,
        entry: &Arc<Entry>,
        reservation: Reservation,
        generations: &Generations,
    ) -> bool {
        self.place(key, entry, reservation, generations, true)
    }

    /// Stores an entry that was stored once before, unless there is one in its place by now, or it was
    /// purged.
    pub(super) fn put_back(
        &self,
        key: &Key<'_>,
        entry: &Arc<Entry>,
        reservation: Reservation,
        generations: &Generations,
    ) -> bool {
        self.place(key, entry, reservation, generations, false)
    }

    fn place(
        &self,
        key: &Key<'_>,
        entry: &Arc<Entry>,
        reservation: Reservation,
        generations: &Generations,
        replaces: bool,
    ) -> bool {
        let mut is_stored = false;
        // Asked under the key's lock, so that an older fetch cannot replace a newer one's entry.
        let url = key.url();
        self.slots.entry(key.bytes.into()).and_compute_with(|old| {
            if !entry.is_left(generations, url) {
                return Op::Nop;
            }
            let old = old.map(moka::Entry::into_value);
            let mut stored = old.iter().flat_map(|slot| slot.variants.iter());
            let is_taken =
                |other: &Arc<Entry>| other.vary == entry.vary && other.is_left(generations, url);
            if !replaces && stored.any(is_taken) {
                return Op::Nop;
            }
            is_stored = true;
            let kept = old.iter().flat_map(|slot| slot.variants.iter());
            let kept =
                kept.filter(|other| other.vary != entry.vary && other.is_left(generations, url));
            let variants = std::iter::once(entry).chain(kept).take(MAX_VARIANTS);
            let mut variants: Vec<_> = variants.map(Arc::clone).collect();
            variants.sort_by_key(|entry| std::cmp::Reverse(entry.dated));
            Op::Put(Slot::new(variants.into(), None, reservation))
        });
        is_stored
    }

    /// Remembers that answers for this key are not stored.
    pub(super) fn mark(&self, key: &[u8], mark: Mark, now: Instant, reservation: Reservation) {
        self.slots.entry(key.into()).and_upsert_with(|old| {
            let variants = old
                .map(|slot| slot.into_value().variants.clone())
                .unwrap_or_default();
            Slot::new(variants, Some((mark, now)), reservation)
        });
    }

    pub(super) fn remove(&self, key: &[u8]) {
        self.slots.invalidate(key);
    }

    /// Removes a key if purges have left nothing of what it leads to; whether they have.
    pub(super) fn remove_gone(&self, key: &[u8], generations: &Generations) -> bool {
        let mut is_gone = false;
        self.slots.entry(key.into()).and_compute_with(|slot| {
            let url = Key::of(key).url();
            is_gone = slot.is_some_and(|slot| slot.into_value().is_gone(generations, url));
            if is_gone { Op::Remove } else { Op::Nop }
        });
        is_gone
    }

    /// Shows every key with its slot, in no order.
    pub(super) fn walk(&self, mut show: impl FnMut(&[u8], &Slot)) {
        for (key, slot) in &self.slots {
            show(&key, &slot);
        }
    }

    /// Does the maintenance that is due, which lets go of what was evicted.
    pub(super) fn settle(&self) {
        self.slots.run_pending_tasks();
    }

    pub(super) fn len(&self) -> u64 {
        self.slots.entry_count()
    }

    pub(super) fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }
}

/// What is known of one key. The variant of the latest date first.
#[derive(Debug)]
pub(super) struct Slot {
    variants: Box<[Arc<Entry>]>,
    /// What was found, and when.
    mark: Option<(Mark, Instant)>,
    charge: u32,
    _reservation: Reservation,
}

/// That an answer could not be stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub(super) whose: Whose,
    pub(super) is_too_large: bool,
    pub(super) generation: Generation,
}

/// Whose answers were found uncacheable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// Everybody's.
    Anyone,
    /// Those to requests that may be one user's.
    Users,
}

impl Slot {
    /// What a slot and its place in the index take beside the key, which is held once.
    pub(super) const OVERHEAD: usize = 400;

    fn new(
        variants: Box<[Arc<Entry>]>,
        mark: Option<(Mark, Instant)>,
        reservation: Reservation,
    ) -> Arc<Self> {
        let bytes: usize = variants.iter().map(|entry| entry.charge).sum();
        let charge = u32::try_from(bytes + reservation.bytes()).unwrap_or(u32::MAX);
        Arc::new(Self {
            variants,
            mark,
            charge,
            _reservation: reservation,
        })
    }

    pub(super) fn variants(&self) -> &[Arc<Entry>] {
        &self.variants
    }

    /// Whether there was something, and purges have left nothing of it.
    pub(super) fn is_gone(&self, generations: &Generations, url: &[u8]) -> bool {
        let mut variants = self.variants.iter();
        !self.variants.is_empty() && !variants.any(|entry| entry.is_left(generations, url))
    }

    /// The newest variant that was not purged and is for a request with these fields.
    pub(super) fn select(
        &self,
        request: &HeaderMap,
        generations: &Generations,
        url: &[u8],
    ) -> Option<(&Arc<Entry>, Standing)> {
        self.variants.iter().find_map(|entry| {
            if !entry.vary.matches(request) {
                return None;
            }
            let standing = entry.standing(generations, url);
            (standing != Standing::Gone).then_some((entry, standing))
        })
    }

    /// By what the newest answer varies, if there is one that was not purged.
    pub(super) fn varies_by(&self, generations: &Generations, url: &[u8]) -> Option<&Vary> {
        let newest = self
            .variants
            .iter()
            .find(|entry| entry.is_left(generations, url));
        newest.map(|entry| &entry.vary)
    }

    /// Whether an answer to such a request, for a user or for a part, was found uncacheable a moment ago.
    pub(super) fn is_marked(
        &self,
        (is_personal, is_ranged): (bool, bool),
        now: Instant,
        generations: &Generations,
        url: &[u8],
    ) -> bool {
        self.mark.is_some_and(|(mark, found)| {
            let counts_for = match mark.is_too_large && is_ranged {
                true => LARGE_FOR,
                false => MARKED_FOR,
            };
            (is_personal || mark.whose == Whose::Anyone)
                && now.saturating_duration_since(found) < counts_for
                && generations.standing(mark.generation, url, &[]) == Standing::Current
        })
    }
}
