//! The right and the duty to fetch one answer for everyone.
//!
//! `mod` hands a `Permit` to one request per key; the proxy fetches, and tells the permit what the
//! origin said. A storable answer becomes a `Filler` (`fill`), an uncacheable one releases all that
//! wait, a `304` freshens the stored entry. A permit is a plain owned value: whoever drops it, for
//! whatever reason, fails the flight and so wakes its riders.
//! Invariant: the store knows of an answer before its flight leaves the table, so that no look-up
//! finds neither.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::Cache;
use super::budget::{ALLOCATION_OVERHEAD, Reservation};
use super::conditional;
use super::entry::{Ageing, Entry, Head};
use super::fill::{Filler, Plan};
use super::flight::{Arrival, Ended, Flight, Growing, Phase};
use super::freshness::{Freshness, Times, judge};
use super::reader::Waiter;
use super::status::{Forward, Refusal, Uncacheable};
use super::store::Slot;
use super::vary::Vary;

/// A flight that fails when this is dropped before it landed.
#[derive(Debug)]
pub(super) struct Flying {
    pub(super) cache: Arc<Cache>,
    pub(super) flight: Arc<Flight>,
    landed: bool,
}

impl Flying {
    pub(super) fn new(cache: Arc<Cache>, flight: Arc<Flight>) -> Self {
        Self {
            cache,
            flight,
            landed: false,
        }
    }

    /// Ends the flight with an answer that needs no more bytes. The store knows it already, or
    /// never will: closing comes after storing, so that no look-up finds neither.
    pub(super) fn land(mut self, phase: Phase) {
        self.landed = true;
        self.cache.flights.close(&self.flight);
        self.flight.enter(phase);
    }

    /// Ends the flight with its whole body.
    pub(super) fn end_whole(mut self) {
        self.landed = true;
        self.cache.flights.close(&self.flight);
        self.flight.end(Ended::Whole);
    }

    fn refuse(self, refusal: Refusal, mark: Option<(Instant, Reservation)>) {
        if let Some((now, reservation)) = mark {
            let generation = self.flight.generation;
            self.cache
                .store
                .mark(self.flight.url(), generation, now, reservation);
        }
        self.land(Phase::Refused(refusal));
    }
}

impl Drop for Flying {
    fn drop(&mut self) {
        if !self.landed {
            self.cache.flights.close(&self.flight);
            self.flight.end(Ended::Broken);
        }
    }
}

/// The right to fetch, held by one request per key at a time over all workers.
#[derive(Debug)]
pub struct Permit {
    pub(super) flying: Flying,
    pub(super) request: Arc<HeaderMap>,
    pub(super) stale: Option<Arc<Entry>>,
    pub(super) forward: Forward,
    pub(super) requested: Instant,
    pub(super) default_ttl: Option<Duration>,
    /// For the slot, whose part is split off, and for the flight itself.
    pub(super) reservation: Reservation,
}

/// What is to be done with the answer whose head has arrived.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "moved once per fetch; a box would cost more"
)]
pub enum Started {
    /// Push the body; the client that caused the fetch reads through `Permit::waiter`.
    Filling(Filler),
    /// Give it to the client that caused the fetch and to nobody else.
    Uncacheable(Refusal),
}

/// What became of the origin's `304`.
#[derive(Debug)]
pub enum Revalidated {
    /// The stored answer holds; everyone is served from it, the leader through its `Waiter`.
    Confirmed,
    /// The `304` is not about what is stored (or nothing was asked): fetch again, without
    /// conditions. A second one in a row is the origin's fault, as `Permit::prepare` then set none.
    Mismatch(Permit),
}

impl Permit {
    /// What a flight takes beside its slot.
    pub(super) const OVERHEAD: usize = 1024;

    /// Makes the client's head into the one to send: its own conditions and `Range` go, ours about
    /// the stale answer come, if there is one.
    pub fn prepare(&self, headers: &mut HeaderMap) {
        conditional::prepare(
            headers,
            self.stale.as_ref().map(|entry| &entry.head.headers),
        );
    }

    /// Why the request goes to the origin.
    pub fn forward(&self) -> Forward {
        self.forward
    }

    /// The place of the client that caused the fetch, a reader like every other. To be taken
    /// before `start`.
    pub fn waiter(&self) -> Waiter {
        let ticket = self.flying.flight.ticket();
        Waiter::new(ticket, Arc::clone(&self.request), self.forward, true)
    }

    /// The origin's answer has begun. `content_length` is the body's, when it is known.
    pub fn start(
        mut self,
        status: StatusCode,
        headers: &HeaderMap,
        content_length: Option<u64>,
        now: Instant,
        wall_now: SystemTime,
    ) -> Started {
        let times = Times {
            requested: self.requested,
            received: now,
            wall: wall_now,
        };
        let plan = match self.plan(status, headers, content_length, &times) {
            Ok(plan) => plan,
            Err(reason) => {
                let refusal = Refusal {
                    reason,
                    forward: self.forward,
                };
                // Errors pass and memory comes back, and a status may be this one request's fault:
                // none of them says anything about the next answer.
                let is_lasting = !matches!(reason, Uncacheable::Memory | Uncacheable::Status)
                    && !status.is_server_error();
                let mark = is_lasting.then(|| (now, self.slot_reservation()));
                self.flying.refuse(refusal, mark);
                return Started::Uncacheable(refusal);
            }
        };
        let slot = self.slot_reservation();
        self.flying.flight.enter(Phase::Arriving(Box::new(Arrival {
            head: Arc::clone(&plan.head),
            vary: plan.vary.clone(),
            age: plan.age,
            length: content_length,
            body: Growing::default(),
        })));
        Started::Filling(Filler::new(
            self.flying,
            plan,
            content_length,
            slot,
            self.reservation,
        ))
    }

    /// The origin says that the stale answer holds (RFC 9111 section 4.3.4): freshens it.
    pub fn complete_not_modified(
        mut self,
        headers: &HeaderMap,
        now: Instant,
        wall_now: SystemTime,
    ) -> Revalidated {
        let Some(stored) = self.stale.take() else {
            return Revalidated::Mismatch(self);
        };
        if !conditional::confirms(headers, &stored.head.headers) {
            return Revalidated::Mismatch(self);
        }
        let times = Times {
            requested: self.requested,
            received: now,
            wall: wall_now,
        };
        let merged = conditional::merged(&stored.head.headers, headers);
        let (entry, shared) = match self.freshened(&stored, &merged, &times) {
            Some((entry, Ok(()))) => {
                let entry = Arc::new(entry);
                let slot = self.slot_reservation();
                let Cache {
                    store, generations, ..
                } = &*self.flying.cache;
                store.put(self.flying.flight.url(), &entry, slot, generations);
                let shared = if entry.age.is_reusable() {
                    Ok(())
                } else {
                    Err(Uncacheable::NotReusable)
                };
                (entry, shared)
            }
            // It was storable and is not any more.
            Some((entry, Err(reason))) => {
                self.flying.cache.store.remove(self.flying.flight.url());
                (Arc::new(entry), Err(reason))
            }
            None => (stored, Err(Uncacheable::Memory)),
        };
        self.flying.land(Phase::Ready {
            entry,
            shared,
            validated: true,
        });
        Revalidated::Confirmed
    }

    /// The stored answer under its new head, or nothing when there is no room for one.
    fn freshened(
        &self,
        stored: &Entry,
        merged: &HeaderMap,
        times: &Times,
    ) -> Option<(Entry, Result<(), Uncacheable>)> {
        let status = stored.head.status;
        let vary = Vary::of(merged, &self.request);
        let judged = judge(status, merged, self.default_ttl, times).and_then(|freshness| {
            vary.map(|v| (freshness, v))
                .map_err(|_any| Uncacheable::Vary)
        });
        let (freshness, vary, shared) = match judged {
            Ok((freshness, vary)) => (freshness, vary, Ok(())),
            Err(reason) => (Freshness::NONE, Vary::default(), Err(reason)),
        };
        let head_charge = Head::charge(merged);
        let mut room = self
            .flying
            .cache
            .reserve(head_charge + vary.charge() + Entry::OVERHEAD)?;
        let charge = room.bytes() + stored.body.charge();
        let head = Head::copy(status, merged, times.wall, room.split(head_charge));
        let entry = Entry {
            head,
            body: stored.body.clone(),
            age: Ageing::new(times.received, freshness),
            vary,
            generation: self.flying.flight.generation,
            charge,
            lines: OnceLock::new(),
            _reservation: room,
        };
        Some((entry, shared))
    }

    fn plan(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        content_length: Option<u64>,
        times: &Times,
    ) -> Result<Plan, Uncacheable> {
        let cache = &self.flying.cache;
        let freshness = judge(status, headers, self.default_ttl, times)?;
        let vary = Vary::of(headers, &self.request).map_err(|_any| Uncacheable::Vary)?;
        if content_length.is_some_and(|length| length > cache.max_object) {
            return Err(Uncacheable::TooLarge);
        }
        let body = usize::try_from(content_length.unwrap_or(0)).unwrap_or(usize::MAX);
        let prepaid = body.saturating_add(if body > 0 { 4 * ALLOCATION_OVERHEAD } else { 0 });
        let head_charge = Head::charge(headers);
        let own = head_charge + vary.charge() + Entry::OVERHEAD;
        let mut room = cache
            .reserve(prepaid.saturating_add(own))
            .ok_or(Uncacheable::Memory)?;
        let mut own = room.split(own);
        let head = Head::copy(status, headers, times.wall, own.split(head_charge));
        let age = Ageing::new(times.received, freshness);
        Ok(Plan {
            head: Arc::new(head),
            vary,
            age,
            head_charge,
            own,
            body: room,
        })
    }

    fn slot_reservation(&mut self) -> Reservation {
        self.reservation
            .split(Slot::OVERHEAD + self.flying.flight.url().len())
    }
}
