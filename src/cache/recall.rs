//! What a fetch does before it asks the origin: it looks on disk. So does a request that fetches nothing for
//! others: for a `HEAD`, for a part, with `only-if-cached`.
//!
//! Of a flight only the leader does, so that all who wait for one answer wait for one file. What is fresh
//! there ends the flight as a hit; what is stale goes on as if memory had had it: to be served while it is
//! fetched anew, to be asked about, or to be served should the origin fail. Either way memory has it from
//! then on.
//! Invariant: the request's own demands and the purges count as for what memory holds.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};

use super::budget::Reservation;
use super::disk::DiskStats;
use super::entry::Entry;
use super::flight::{Boarded, Came, Phase};
use super::hit::Way;
use super::key::Key;
use super::permit::{Flying, Permit};
use super::purge::Standing;
use super::status::{Bypass, Forward};
use super::store::Slot;
use super::vary::Vary;
use super::{Asked, Cache, Found, Lookup, Request};

/// What the disk had.
#[derive(Debug)]
pub enum Recalled {
    /// The answer: everyone has it.
    Answered,
    /// A stale answer: everyone has it. With a permit it is to be fetched anew; without one somebody does
    /// already.
    Stale(Option<Permit>),
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
        let Some((entry, is_fresh)) = cache.put_back(key, entry, &self.asked) else {
            return Recalled::Fetch(self);
        };
        let grace = cache.grace(cache.clock.now());
        if self.asked.takes_stale(&entry, is_fresh, grace) {
            return Recalled::Stale(self.again_behind(cache, entry));
        }
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
        self.fallback = Some(entry);
        Recalled::Fetch(self)
    }

    /// Gives everyone the stale answer, and begins another flight to fetch it anew; none if there is one.
    fn again_behind(self, cache: &Arc<Cache>, entry: Arc<Entry>) -> Option<Self> {
        let Self {
            flying,
            request,
            rule,
            mut asked,
            reservation,
            ..
        } = self;
        if let Some(disk) = &cache.disk {
            disk.answered();
        }
        let old = Arc::clone(&flying.flight);
        flying.land(Phase::Ready {
            entry: Arc::clone(&entry),
            shared: Ok(()),
            came: Came::Recalled,
        });
        asked.now = cache.clock.now();
        let url = old.stored_key().url();
        let hash = cache.hasher.hash_one(Some(url));
        let generations = (&cache.generations, cache.generations.capture(hash));
        let (key, stored_len) = (old.key(), old.stored_key().bytes.len());
        match cache
            .flights
            .board(key, stored_len, generations, &request, false)
        {
            Boarded::Leader(flight) => Some(Self {
                flying: Flying::new(Arc::clone(cache), flight),
                request,
                candidates: entry
                    .has_validator()
                    .then(|| Arc::clone(&entry))
                    .into_iter()
                    .collect(),
                forward: Forward::Stale,
                rule,
                fallback: Some(entry),
                asked,
                reservation,
            }),
            Boarded::Rider(_) | Boarded::Occupied | Boarded::Varies(_) => None,
        }
    }
}

/// A request that memory has no answer to and that does not fetch for others.
#[derive(Debug)]
pub struct Recall {
    cache: Arc<Cache>,
    key: Box<[u8]>,
    url_len: usize,
    method: Method,
    request: HeaderMap,
    asked: Asked,
    otherwise: Lookup,
}

impl Recall {
    /// Looks on disk, which takes a second at most: what to do with the request then. It is not told to look
    /// there again.
    pub async fn look(self: Box<Self>) -> Lookup {
        let Self {
            cache,
            key,
            url_len,
            method,
            request,
            mut asked,
            otherwise,
        } = *self;
        let Some(disk) = &cache.disk else {
            return otherwise;
        };
        let Some(entry) = disk.recall(&cache, &key, &request).await else {
            return otherwise;
        };
        asked.now = cache.clock.now();
        let key = Key {
            bytes: &key,
            url_len,
        };
        let Some((entry, is_fresh)) = cache.put_back(&key, entry, &asked) else {
            return otherwise;
        };
        let answers = asked.is_answered_by(&entry.age, is_fresh);
        if !answers && !asked.takes_stale(&entry, is_fresh, cache.grace(asked.now)) {
            return otherwise;
        }
        let Some(form) = entry.head.form(&request) else {
            return asked.past(Bypass::NoTransform);
        };
        disk.answered();
        let hit = asked.hit(entry, form, &method, &request).by(Way::Disk);
        if answers {
            Lookup::Hit(hit)
        } else {
            // The next request that fetches will.
            Lookup::Stale(hit, None)
        }
    }
}

impl Cache {
    /// Has a request look on disk before it is told `otherwise`, if memory knows of no answer that could be
    /// there too.
    pub(super) fn unless_on_disk(
        self: &Arc<Self>,
        request: &Request<'_>,
        asked: Asked,
        found: &Found<'_>,
        key: &[u8],
        otherwise: Lookup,
    ) -> Lookup {
        let is_unknown = matches!(found.forward, Forward::UriMiss | Forward::VaryMiss);
        if self.disk.is_none() || !is_unknown {
            return otherwise;
        }
        Lookup::Recall(Box::new(Recall {
            cache: Arc::clone(self),
            key: key.into(),
            url_len: found.url_len,
            method: request.method.clone(),
            request: request.headers.clone(),
            asked,
            otherwise,
        }))
    }

    /// Puts what came from disk into memory. Returns it, and whether it is fresh, if it may be used for the
    /// request.
    fn put_back(&self, key: &Key<'_>, entry: Entry, asked: &Asked) -> Option<(Arc<Entry>, bool)> {
        let entry = Arc::new(entry);
        let standing = entry.standing(&self.generations, key.url());
        let is_his = !asked.is_personal() || entry.age.is_for_all();
        if standing == Standing::Gone || !is_his {
            return None;
        }
        if let Some(room) = self.reserve(Slot::OVERHEAD + key.bytes.len()) {
            // Whether it is there or something newer: this request has what it has.
            let _is_back = self.store.put_back(key, &entry, room, &self.generations);
        }
        let is_fresh = standing == Standing::Current && entry.is_fresh(self.clock.now());
        Some((entry, is_fresh))
    }

    /// Stores an answer, in memory and, where there is one, on disk; false if it was purged meanwhile. Of two
    /// workers that store at once, both have the same in the end.
    pub(super) fn keep(&self, key: &Key<'_>, entry: &Arc<Entry>, slot: Reservation) -> bool {
        self.store.put(key, entry, slot, &self.generations, || {
            if let Some(disk) = &self.disk {
                disk.keep(key, entry);
            }
        })
    }

    /// What was stored for requests with these nominated fields is not to be any more.
    pub(super) fn drop_stored(&self, key: &[u8], vary: &Vary) {
        self.store.remove_also(key, || {
            if let Some(disk) = &self.disk {
                disk.forget(key, vary);
            }
        });
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
