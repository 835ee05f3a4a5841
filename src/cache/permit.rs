//! The right and the duty to fetch one answer for everyone.
//!
//! `mod` hands a `Permit` to one request per key; the proxy fetches, and tells the permit what the
//! origin said. A storable answer becomes a `Filler` (`fill`), an uncacheable one releases all that
//! wait, after an error to ask again together, a `304` freshens the stored entry. A permit is a plain
//! owned value: whoever drops it, for whatever reason, fails the flight and so wakes its riders.
//! Invariant: the store knows of an answer before its flight leaves the table, so that no look-up
//! finds neither.

use std::sync::{Arc, OnceLock};

use http::header::{ACCEPT_ENCODING, DATE, HeaderValue};
use http::{HeaderMap, HeaderName, StatusCode};
use tokio::time::Instant;

use crate::config::model::{CacheRule, Coding};
use crate::encode::Maker;
use crate::range;

use super::ageing::Ageing;
use super::budget::{ALLOCATION_OVERHEAD, Reservation};
use super::conditional;
use super::entry::Entry;
use super::fill::{Filler, Plan};
use super::flight::{Arrival, Came, Ended, Flight, Growing, Phase, Stale, Told};
use super::form::{Coded, is_settled};
use super::freshness::{Failure, Storable, Times, date_of, judge};
use super::head::{Head, strip};
use super::purge::Generation;
use super::reader::{Role, Waiter};
use super::status::{Forward, Refusal, Uncacheable};
use super::store::{Mark, Slot, Whose};
use super::tags::Tags;
use super::vary::Vary;
use super::{Asked, Cache};

/// A flight that fails when this is dropped before it landed.
#[derive(Debug)]
pub(super) struct Flying {
    pub(super) cache: Arc<Cache>,
    pub(super) flight: Arc<Flight>,
    landed: bool,
    /// For those who wait, should there be nothing else for them.
    stale: Option<Stale>,
}

impl Flying {
    pub(super) fn new(cache: Arc<Cache>, flight: Arc<Flight>) -> Self {
        Self {
            cache,
            flight,
            landed: false,
            stale: None,
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

    fn refuse(
        mut self,
        refusal: Refusal,
        error: Option<Whose>,
        mark: Option<(Instant, Reservation)>,
    ) {
        if let Some((now, reservation)) = mark {
            let generation = self.flight.generation;
            let whose = match refusal.reason {
                Uncacheable::Authorization | Uncacheable::Cookie => Whose::Users,
                _ => Whose::Anyone,
            };
            let found = Mark {
                whose,
                is_too_large: refusal.reason == Uncacheable::TooLarge,
                generation,
            };
            let key = self.flight.stored_key().bytes;
            self.cache.store.mark(key, found, now, reservation);
        }
        let stale = self.stale.take();
        self.land(Phase::Refused {
            refusal,
            error,
            stale,
        });
    }
}

impl Drop for Flying {
    fn drop(&mut self) {
        if !self.landed {
            self.cache.flights.close(&self.flight);
            match self.stale.take() {
                Some(stale) => self.flight.enter(stale.landing()),
                None => self.flight.end(Ended::Broken),
            }
        }
    }
}

/// The right to fetch, held by one request per key at a time over all workers.
#[derive(Debug)]
pub struct Permit {
    pub(super) flying: Flying,
    pub(super) request: Arc<HeaderMap>,
    /// Stored answers that the origin is asked about; first the one that fits the request, if any does.
    pub(super) candidates: Vec<Arc<Entry>>,
    pub(super) forward: Forward,
    pub(super) rule: Arc<CacheRule>,
    pub(super) asked: Asked,
    /// A stale answer, should the origin fail.
    pub(super) fallback: Option<Arc<Entry>>,
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
    /// Drop it: everyone has the stale answer instead.
    FellBack,
}

/// What became of the origin's `304`.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "moved once per fetch; a box would cost more"
)]
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
    /// the stale answer come, if there is one. On a route that compresses, all clients ask for one coding.
    pub fn prepare(&self, headers: &mut HeaderMap) {
        conditional::prepare(headers, heads(&self.candidates));
        if let Some(coding) = self.rule.coding {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(coding.token()));
        }
    }

    /// Whether the client asked for a part, which a fetch does not.
    pub fn is_ranged(&self) -> bool {
        range::is_asked(&self.request)
    }

    /// The place of the client that caused the fetch, a reader like every other. To be taken
    /// before `start`.
    pub fn waiter(&self) -> Waiter {
        let ticket = self.flying.flight.ticket();
        let role = Role {
            leads: true,
            is_personal: self.asked.personal.is_some(),
            is_anonymous: false,
            takes_stale: !self.asked.control.demands(),
            came: self.flying.flight.generation,
        };
        let cache = Arc::clone(&self.flying.cache);
        Waiter::new(ticket, Arc::clone(&self.request), self.forward, role, cache)
    }

    /// The origin failed: everyone who takes it gets the stale answer, where one may be served.
    ///
    /// # Errors
    /// The permit, when there is none for the client that caused the fetch; dropping it fails the flight. Those
    /// who wait have the stale answer then too.
    #[expect(
        clippy::result_large_err,
        reason = "moved once per failed fetch; a box would cost as much"
    )]
    pub fn fall_back(mut self, failure: Failure, status: Option<StatusCode>) -> Result<(), Self> {
        let now = self.flying.cache.clock.now();
        let cache = &self.flying.cache;
        let grace = cache.grace(now);
        let control = &self.asked.control;
        let demands = control.demands();
        // What this client takes by itself is no word on what others do, if it takes nothing stale.
        let asked = control.stale_if_error.filter(|_| !demands);
        let url = self.flying.flight.stored_key().url();
        let may_serve = |entry: &Arc<Entry>| {
            entry.may_serve_on(failure, now, asked, grace) && entry.is_left(&cache.generations, url)
        };
        let Some(entry) = self.fallback.take().filter(may_serve) else {
            return Err(self);
        };
        let status = status.map(|status| status.as_u16());
        let stale = Stale { entry, status };
        if demands {
            self.flying.stale = Some(stale);
            return Err(self);
        }
        self.flying.land(stale.landing());
        Ok(())
    }

    /// The origin's answer has begun. `content_length` is the body's, when it is known.
    pub fn start(
        self,
        status: StatusCode,
        headers: &HeaderMap,
        content_length: Option<u64>,
    ) -> Started {
        self.start_coded(status, headers, content_length, || None)
    }

    /// The same on a route that compresses. `code` is asked once the answer is known to be storable; what
    /// is pushed then has to be in the coding that it names.
    pub fn start_coded(
        mut self,
        status: StatusCode,
        headers: &HeaderMap,
        content_length: Option<u64>,
        code: impl FnOnce() -> Option<Coding>,
    ) -> Started {
        let failure = Failure::of(status);
        if let Some(failure) = failure {
            self = match self.fall_back(failure, Some(status)) {
                Ok(()) => return Started::FellBack,
                Err(permit) => permit,
            };
        }
        let times = self.times();
        let plan = match self.plan(status, headers, content_length, &times, code) {
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
                let mark = is_lasting.then(|| (times.received, self.slot_reservation()));
                // A 500 may be about what is stored of one user; the others say that an origin is not fit.
                let is_about_one = status == StatusCode::INTERNAL_SERVER_ERROR;
                let error = failure.map(|_| match self.asked.personal {
                    Some(_) if is_about_one => Whose::Users,
                    _ => Whose::Anyone,
                });
                self.flying.refuse(refusal, error, mark);
                return Started::Uncacheable(refusal);
            }
        };
        // There is something else for them.
        self.flying.stale = None;
        let slot = self.slot_reservation();
        let length = content_length.filter(|_| !is_coded_here(plan.head.coded));
        let told = Told {
            head: Arc::clone(&plan.head),
            own: plan.own_fields.clone(),
            vary: plan.vary.clone(),
            tags: plan.tags.clone(),
            age: plan.age,
            length,
        };
        self.flying.flight.enter(Phase::Arriving(Arrival {
            told: Arc::new(told),
            body: Growing::default(),
        }));
        Started::Filling(Filler::new(
            self.flying,
            plan,
            length,
            slot,
            self.reservation,
        ))
    }

    /// The origin says that the stale answer holds (RFC 9111 section 4.3.4): freshens it.
    pub fn complete_not_modified(mut self, headers: &HeaderMap) -> Revalidated {
        let candidates = std::mem::take(&mut self.candidates);
        let confirmed = conditional::confirmed(headers, heads(&candidates));
        let Some(stored) = confirmed.and_then(|index| candidates.into_iter().nth(index)) else {
            return Revalidated::Mismatch(self);
        };
        let times = self.times();
        let merged = conditional::merged(&stored.head.said(), headers);
        let is_reusable = |entry: &Entry| match entry.age.is_reusable() {
            true => Ok(()),
            false => Err(Uncacheable::NotReusable),
        };
        let (entry, shared) = match self.freshened(&stored, &merged, &times) {
            (Some(entry), Ok(())) => {
                let entry = Arc::new(entry);
                let slot = self.slot_reservation();
                let key = self.flying.flight.stored_key();
                self.flying.cache.keep(&key, &entry, slot);
                let shared = is_reusable(&entry);
                (entry, shared)
            }
            (entry, Err(reason)) => {
                // What one user is told says nothing of what others are. Otherwise it was storable and is
                // not any more.
                let is_of_a_user =
                    matches!(reason, Uncacheable::Authorization | Uncacheable::Cookie);
                if !is_of_a_user {
                    let key = self.flying.flight.stored_key();
                    self.flying.cache.drop_stored(key.bytes, &stored.vary);
                }
                (entry.map_or(stored, Arc::new), Err(reason))
            }
            // It holds all the same, under the head that it has.
            (None, Ok(())) => {
                let shared = is_reusable(&stored);
                (stored, shared)
            }
        };
        self.flying.land(Phase::Ready {
            entry,
            shared,
            came: Came::Validated,
        });
        Revalidated::Confirmed
    }

    /// The stored answer under its new head, if there is room for one, and whether that may be stored.
    fn freshened(
        &self,
        stored: &Entry,
        merged: &HeaderMap,
        times: &Times,
    ) -> (Option<Entry>, Result<(), Uncacheable>) {
        let status = stored.head.status;
        let vary = Vary::of(merged, &self.request, is_settled(&self.rule, merged));
        let judged = judge(status, merged, &self.rule, self.asked.personal, times)
            .and_then(|kept| vary.map(|v| (kept, v)).map_err(|_any| Uncacheable::Vary));
        let (kept, vary, shared) = match judged {
            Ok((kept, vary)) => (kept, vary, Ok(())),
            Err(reason) => (Storable::NONE, Vary::default(), Err(reason)),
        };
        let Storable { freshness, hidden } = kept;
        // Too many of them to be purged by: the old ones count on.
        let tags = self.tags(merged).unwrap_or_else(|_| stored.tags.clone());
        let generation = self.flying.flight.generation;
        let under = Under {
            vary,
            tags,
            generation,
        };
        let entry = self.flying.cache.under_a_new_head(
            stored,
            merged,
            &Storable { freshness, hidden },
            under,
            times,
        );
        (entry, shared)
    }

    fn plan(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        content_length: Option<u64>,
        times: &Times,
        code: impl FnOnce() -> Option<Coding>,
    ) -> Result<Plan, Uncacheable> {
        let cache = &self.flying.cache;
        let Storable { freshness, hidden } =
            judge(status, headers, &self.rule, self.asked.personal, times)?;
        let vary = Vary::of(headers, &self.request, is_settled(&self.rule, headers));
        let vary = vary.map_err(|_any| Uncacheable::Vary)?;
        if content_length.is_some_and(|length| length > cache.max_object) {
            return Err(Uncacheable::TooLarge);
        }
        let tags = self.tags(headers)?;
        let coded = Coded::of(&self.rule, headers, code());
        // How long it will be compressed is not known.
        let length = content_length.filter(|_| !is_coded_here(coded));
        let body = usize::try_from(length.unwrap_or(0)).unwrap_or(usize::MAX);
        let prepaid = body.saturating_add(if body > 0 { 4 * ALLOCATION_OVERHEAD } else { 0 });
        let head_charge = Head::charge(headers, coded);
        let own = head_charge + vary.charge() + tags.charge() + Entry::OVERHEAD;
        let mut room = cache
            .reserve(prepaid.saturating_add(own))
            .ok_or(Uncacheable::Memory)?;
        let mut own = room.split(own);
        let head_room = own.split(head_charge);
        let head = Head::copy(status, headers, &hidden, coded, times.wall, head_room);
        let own_fields = of(headers, &hidden);
        let age = Ageing::new(times.received, freshness);
        Ok(Plan {
            dated: date_of(headers, DATE).unwrap_or(times.wall),
            head: Arc::new(head),
            own_fields,
            vary,
            tags,
            age,
            head_charge,
            own,
            body: room,
        })
    }

    fn tags(&self, headers: &HeaderMap) -> Result<Tags, Uncacheable> {
        let url = self.flying.flight.stored_key().url();
        Tags::of(headers, url, &self.flying.cache.hasher).ok_or(Uncacheable::Tags)
    }

    /// When this fetch happened, as of now.
    fn times(&self) -> Times {
        let clock = &self.flying.cache.clock;
        Times {
            requested: self.asked.now,
            received: clock.now(),
            wall: clock.wall(),
        }
    }

    fn slot_reservation(&mut self) -> Reservation {
        self.reservation
            .split(Slot::OVERHEAD + self.flying.flight.stored_key().bytes.len())
    }
}

/// What an entry is found and purged by.
#[derive(Debug)]
pub(super) struct Under {
    pub(super) vary: Vary,
    pub(super) tags: Tags,
    pub(super) generation: Generation,
}

impl Cache {
    /// A stored answer under a new head; nothing when there is no room for one.
    pub(super) fn under_a_new_head(
        &self,
        stored: &Entry,
        merged: &HeaderMap,
        kept: &Storable,
        under: Under,
        times: &Times,
    ) -> Option<Entry> {
        let Under {
            vary,
            tags,
            generation,
        } = under;
        let coded = stored.head.coded.map(|coded| coded.under(merged));
        let head_charge = Head::charge(merged, coded);
        let mut room =
            self.reserve(head_charge + vary.charge() + tags.charge() + Entry::OVERHEAD)?;
        let charge = room.bytes() + stored.body.charge();
        let (status, head_room) = (stored.head.status, room.split(head_charge));
        let mut head = Head::copy(status, merged, &kept.hidden, coded, times.wall, head_room);
        if coded.is_some() {
            head.set_length(stored.body.len());
        }
        Some(Entry {
            head,
            body: stored.body.clone(),
            parts: None,
            age: Ageing::new(times.received, kept.freshness),
            dated: date_of(merged, DATE).unwrap_or(times.wall),
            vary,
            generation,
            tags,
            charge,
            lines: OnceLock::new(),
            block: OnceLock::new(),
            _reservation: room,
        })
    }
}

/// Whether a body was compressed on its way in.
fn is_coded_here(coded: Option<Coded>) -> bool {
    coded.is_some_and(|coded| coded.by == Maker::Headgate)
}

fn heads(entries: &[Arc<Entry>]) -> impl Iterator<Item = &HeaderMap> + Clone {
    entries.iter().map(|entry| entry.head.validators())
}

/// The fields of an answer that are for its leader alone.
fn of(headers: &HeaderMap, hidden: &[HeaderName]) -> HeaderMap {
    let mut own = HeaderMap::new();
    for name in hidden {
        for value in headers.get_all(name) {
            own.append(name.clone(), value.clone());
        }
    }
    strip(&mut own);
    own
}
