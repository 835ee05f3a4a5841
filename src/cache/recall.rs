//! What a fetch does before it asks the origin: it looks on disk.
//!
//! Only the leader of a flight does, so that all who wait for one answer wait for one file. What is fresh
//! there ends the flight as a hit; what is stale goes on as if memory had had it: to be asked about, or to
//! be served should the origin fail. Either way memory has it from then on.
//! Invariant: the request's own demands and the purges count as for what memory holds.

use std::sync::Arc;
use std::time::Duration;

use super::Cache;
use super::budget::Reservation;
use super::disk::DiskStats;
use super::entry::Entry;
use super::flight::{Came, Phase};
use super::key::Key;
use super::permit::Permit;
use super::purge::Standing;
use super::status::Forward;
use super::store::Slot;
use super::vary::Vary;

/// What the disk had.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "moved once per fetch; a box would cost more"
)]
pub enum Recalled {
    /// The answer: everyone has it.
    Answered,
    /// Nothing that does without the origin.
    Fetch(Permit),
}

impl Permit {
    /// Looks on disk, if there is one and memory has nothing. Waits for it for a second at most.
    pub async fn recall(self) -> Recalled {
        let cache = Arc::clone(&self.flying.cache);
        let Some(disk) = &cache.disk else {
            return Recalled::Fetch(self);
        };
        if !matches!(self.forward, Forward::UriMiss | Forward::VaryMiss) {
            return Recalled::Fetch(self);
        }
        let flight = Arc::clone(&self.flying.flight);
        let key = flight.stored_key();
        match disk.recall(&cache, key.bytes, &self.request).await {
            Some(entry) => self.consider(&cache, &key, entry),
            None => Recalled::Fetch(self),
        }
    }

    fn consider(mut self, cache: &Arc<Cache>, key: &Key<'_>, entry: Entry) -> Recalled {
        let entry = Arc::new(entry);
        let standing = entry.standing(&cache.generations, key.url());
        let is_his = !self.asked.is_personal() || entry.age.is_for_all();
        if standing == Standing::Gone || !is_his {
            return Recalled::Fetch(self);
        }
        if let Some(room) = cache.reserve(Slot::OVERHEAD + key.bytes.len()) {
            let (store, generations) = (&cache.store, &cache.generations);
            // Whether it is there or something newer: this flight has what it has.
            let _is_back = store.put_back(key, &entry, room, generations);
        }
        let is_fresh = standing == Standing::Current && entry.is_fresh(cache.clock.now());
        // What a request takes that is stale is for it alone, and others wait for this flight.
        if is_fresh && self.asked.is_answered_by(&entry.age, true) {
            if let Some(disk) = &cache.disk {
                disk.answered();
            }
            self.flying.land(Phase::Ready {
                entry,
                shared: Ok(()),
                came: Came::Recalled,
            });
            return Recalled::Answered;
        }
        self.forward = match is_fresh {
            true => Forward::Request,
            false => Forward::Stale,
        };
        if entry.has_validator() {
            self.candidates.insert(0, Arc::clone(&entry));
        }
        let control = &self.asked.control;
        self.fallback = (!control.demands()).then_some((entry, control.stale_if_error));
        Recalled::Fetch(self)
    }
}

impl Cache {
    /// Stores an answer, in memory and, where there is one, on disk; false if it was purged meanwhile.
    pub(super) fn keep(&self, key: &Key<'_>, entry: &Arc<Entry>, slot: Reservation) -> bool {
        let is_stored = self.store.put(key, entry, slot, &self.generations);
        if let Some(disk) = self.disk.as_ref().filter(|_| is_stored) {
            disk.keep(key, entry);
        }
        is_stored
    }

    /// What was stored for requests with these nominated fields is not to be any more.
    pub(super) fn drop_stored(&self, key: &[u8], vary: &Vary) {
        self.store.remove(key);
        if let Some(disk) = &self.disk {
            disk.forget(key, vary);
        }
    }

    /// Figures of the disk, if there is one.
    pub fn disk_stats(&self) -> Option<DiskStats> {
        self.disk.as_ref().map(super::disk::Disk::stats)
    }

    /// Writes to disk what is still to be written; whether that was done in time. To be called when nothing
    /// is stored or purged any more.
    pub fn close(&self, patience: Duration) -> bool {
        let last = self.generations.last();
        self.disk
            .as_ref()
            .is_none_or(|disk| disk.close(last, patience))
    }
}
