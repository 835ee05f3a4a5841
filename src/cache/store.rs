//! Where entries are kept: the only user of moka.
//!
//! moka ranks keys (W-TinyLFU) and evicts by real bytes down to seven eighths of the budget, so
//! that fills find room; the bound itself is `budget`'s. A key leads to a `Slot` that never
//! changes: a new answer replaces the slot with one that holds the other variants too. `mod` looks
//! up, `permit` and `fill` put and mark.
//! Invariants: finding a slot takes no lock and allocates nothing; and of a request that finds nothing, moka
//! counts one look-up, as of one that finds something. Were it more, what is asked for once would outrank
//! what is asked for often.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ahash::RandomState;
use http::HeaderMap;
use moka::notification::RemovalCause;
use parking_lot::{Mutex, MutexGuard};
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
    hasher: RandomState,
    /// Changes of one key come one after the other. moka's own way to have that counts a look-up.
    changes: [Mutex<()>; 64],
    /// In moka's units.
    capacity: u64,
    /// Whether moka's sketch of how often keys are asked for has its size.
    is_sized: AtomicBool,
}

/// More variants of one URL than this push out the oldest.
const MAX_VARIANTS: usize = 16;

/// How long a URL is known for an answer that could not be stored.
const MARKED_FOR: Duration = Duration::from_secs(10);

/// How long it is known that an answer was too large, to requests for a part: to find out again costs the
/// beginning of the whole and a connection. A request for the whole costs no more than its answer.
const LARGE_FOR: Duration = Duration::from_secs(10 * 60);

/// moka weighs in units of so many bytes that its capacity is below this, so that `Store::size_sketch`
/// needs a filler or four.
const MAX_UNITS: usize = 1 << 27;

impl Store {
    pub(super) fn new(limit: usize, hasher: RandomState) -> Self {
        let evictions = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&evictions);
        let unit = u32::try_from(limit / MAX_UNITS + 1).unwrap_or(u32::MAX);
        let capacity = (limit - limit / 8) as u64 / u64::from(unit);
        let slots = moka::sync::Cache::<Box<[u8]>, Arc<Slot>>::builder()
            .max_capacity(capacity)
            .weigher(move |key, slot| match is_filler(key) {
                true => slot.charge,
                false => slot.charge.div_ceil(unit),
            })
            .eviction_listener(move |_key, _slot, cause| {
                if cause == RemovalCause::Size {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            })
            .build_with_hasher(hasher.clone());
        Self {
            slots,
            evictions,
            hasher,
            changes: [const { Mutex::new(()) }; 64],
            capacity,
            is_sized: AtomicBool::new(false),
        }
    }

    pub(super) fn find(&self, key: &[u8]) -> Option<Arc<Slot>> {
        self.slots.get(key)
    }

    /// The same, for a request that has looked already.
    pub(super) fn find_again(&self, key: &[u8]) -> Option<Arc<Slot>> {
        // This asks without being counted, where nothing is found.
        self.slots
            .contains_key(key)
            .then(|| self.slots.get(key))
            .flatten()
    }

    /// Stores an entry as the newest variant of its key, unless it was purged meanwhile. `also` is done before
    /// anything else can happen to the key, so that all that is stored of it comes in one order.
    pub(super) fn put(
        &self,
        key: &Key<'_>,
        entry: &Arc<Entry>,
        reservation: Reservation,
        generations: &Generations,
        also: impl FnOnce(),
    ) -> bool {
        let Some(change) = self.place(key, entry, reservation, generations, true) else {
            return false;
        };
        also();
        drop(change);
        self.size_sketch();
        true
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
        let change = self.place(key, entry, reservation, generations, false);
        let is_back = change.is_some();
        drop(change);
        self.size_sketch();
        is_back
    }

    /// Returns the lock of the key, if the entry is in its place.
    fn place(
        &self,
        key: &Key<'_>,
        entry: &Arc<Entry>,
        reservation: Reservation,
        generations: &Generations,
        replaces: bool,
    ) -> Option<MutexGuard<'_, ()>> {
        let url = key.url();
        let change = self.lock(key.bytes);
        // Asked under the key's lock, so that an older fetch cannot replace a newer one's entry.
        if !entry.is_left(generations, url) {
            return None;
        }
        let old = self.find_again(key.bytes);
        let stored = old.iter().flat_map(|slot| slot.variants.iter());
        // What is stored was looked at when purges were forgotten, and so counts what renews its head.
        let renews =
            |other: &Arc<Entry>| other.vary == entry.vary && other.generation == entry.generation;
        if replaces && generations.is_too_old(entry.generation) && !stored.clone().any(renews) {
            return None;
        }
        let left = stored.filter(|other| other.is_left(generations, url));
        // After a soft purge what was fetched before it is left, and must not replace what came since.
        let stands = |other: &&Arc<Entry>| {
            let since = entry.generation.is_before(other.generation.born());
            other.vary == entry.vary && (since || !replaces)
        };
        if left.clone().any(|other| stands(&other)) {
            return None;
        }
        let kept = left.filter(|other| other.vary != entry.vary);
        let variants = std::iter::once(entry).chain(kept).take(MAX_VARIANTS);
        let mut variants: Vec<_> = variants.map(Arc::clone).collect();
        variants.sort_by_key(|entry| std::cmp::Reverse(entry.dated));
        let slot = Slot::new(variants.into(), None, reservation);
        self.slots.insert(key.bytes.into(), slot);
        Some(change)
    }

    /// Remembers that answers for this key are not stored.
    pub(super) fn mark(&self, key: &[u8], mark: Mark, now: Instant, reservation: Reservation) {
        let _change = self.lock(key);
        let old = self.find_again(key);
        let variants = old.map(|slot| slot.variants.clone()).unwrap_or_default();
        let slot = Slot::new(variants, Some((mark, now)), reservation);
        self.slots.insert(key.into(), slot);
    }

    pub(super) fn remove(&self, key: &[u8]) {
        self.remove_also(key, || ());
    }

    /// The same, and `also` before anything else can happen to the key.
    pub(super) fn remove_also(&self, key: &[u8], also: impl FnOnce()) {
        let _change = self.lock(key);
        self.slots.invalidate(key);
        also();
    }

    /// Removes a key if purges have left nothing of what it leads to; whether they have.
    pub(super) fn remove_gone(&self, key: &[u8], generations: &Generations) -> bool {
        let _change = self.lock(key);
        let url = Key::of(key).url();
        let slot = self.find_again(key);
        let is_gone = slot.is_some_and(|slot| slot.is_gone(generations, url));
        if is_gone {
            self.slots.invalidate(key);
        }
        is_gone
    }

    fn lock(&self, key: &[u8]) -> MutexGuard<'_, ()> {
        let [first, ..] = &self.changes;
        let stripe = self.hasher.hash_one(key) % self.changes.len() as u64;
        let stripe = usize::try_from(stripe).unwrap_or_default();
        self.changes.get(stripe).unwrap_or(first).lock()
    }

    /// Has moka make its sketch for as many keys as there will be room for, once that can be told.
    ///
    /// The sketch is made once, when moka first sees that half its capacity is taken, for
    /// `entries * taken / capacity` keys. That is meant to foretell how many there will be, and is a quarter
    /// of it. What the sketch remembers is ten look-ups for each of them, and of a quarter admission makes half
    /// as much as of the whole; twice as much would outlive what it tells of (benches/README.md). So while
    /// still little is stored, fillers take so much that the formula gives what it should. moka then
    /// lets go of everything, and what it had is put back.
    fn size_sketch(&self) {
        if self.is_sized.load(Ordering::Relaxed) {
            return;
        }
        let (all, held) = (self.capacity, self.slots.weighted_size());
        let keys = self.slots.entry_count();
        let is_enough = (keys >= 128 && held >= all / 8) || (keys >= 1024 && held >= all / 64);
        if !is_enough || self.is_sized.swap(true, Ordering::Relaxed) || held >= all / 2 {
            return;
        }
        let _nobody: Vec<_> = self.changes.iter().map(Mutex::lock).collect();
        let evictions = self.evictions();
        let stored: Vec<_> = self.slots.iter().collect();

        let to_come = keys.saturating_mul(all / held.max(1));
        let taken = (all / keys).saturating_mul(to_come);
        let fillers = u8::try_from(taken / u64::from(u32::MAX) + 1).unwrap_or(u8::MAX);
        let each = u32::try_from(taken / u64::from(fillers)).unwrap_or(u32::MAX);
        // What is new and does not fit is refused; what is there may grow.
        for charge in [1, each] {
            for name in 0..fillers {
                self.slots.insert(filler(name), Slot::of_nothing(charge));
            }
            self.settle();
        }
        for name in 0..fillers {
            self.slots.invalidate(&filler(name));
        }
        self.settle();

        for (key, slot) in stored {
            if !is_filler(&key) && !self.slots.contains_key(&*key) {
                self.slots.insert(key.as_ref().clone(), slot);
            }
        }
        self.evictions.store(evictions, Ordering::Relaxed);
    }

    /// Shows every key with its slot, in no order.
    pub(super) fn walk(&self, mut show: impl FnMut(&[u8], &Slot)) {
        for (key, slot) in self.slots.iter().filter(|(key, _)| !is_filler(key)) {
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

/// A key that is none: those that `key` makes are longer.
fn filler(name: u8) -> Box<[u8]> {
    Box::new([name])
}

fn is_filler(key: &[u8]) -> bool {
    key.len() == 1
}

/// What is known of one key. The variant of the latest date first.
#[derive(Debug)]
pub(super) struct Slot {
    variants: Box<[Arc<Entry>]>,
    /// What was found, and when.
    mark: Option<(Mark, Instant)>,
    charge: u32,
    _reservation: Option<Reservation>,
}

/// That an answer could not be stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub(super) whose: Whose,
    pub(super) is_too_large: bool,
    pub(super) generation: Generation,
}

/// Whose requests it is about that an answer was found uncacheable, or an error.
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
            _reservation: Some(reservation),
        })
    }

    fn of_nothing(charge: u32) -> Arc<Self> {
        Arc::new(Self {
            variants: Box::default(),
            mark: None,
            charge,
            _reservation: None,
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
