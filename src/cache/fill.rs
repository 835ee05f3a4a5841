//! The body of a storable answer, from the fetch to the flight's readers and into the store.
//!
//! `permit` makes a `Filler` once the head is judged; the proxy's fetch task pushes what arrives.
//! Chunks are copied out of the connection's buffer as they come, small ones joined. A body that outgrows
//! `max_object` or the budget goes on as a window that runs only so far ahead of its slowest
//! reader; where the budget has no room for that either it is small, and all that is outside of the budget.
//! Dropping a filler breaks the body off for all readers.
//! Invariant: only a whole body is stored, with the generation captured before the fetch was sent.

use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::HeaderMap;
use tokio::time::{Instant, timeout_at};

use super::ageing::Ageing;
use super::budget::{ALLOCATION_OVERHEAD, Reservation, counted, held};
use super::content::HitBody;
use super::entry::Entry;
use super::flight::Abandoned;
use super::head::Head;
use super::permit::Flying;
use super::status::Uncacheable;
use super::store::{Mark, Whose};
use super::tags::Tags;
use super::vary::Vary;

/// Takes the body of a storable answer.
#[derive(Debug)]
pub struct Filler {
    flying: Flying,
    slot: Option<Reservation>,
    plan: Plan,
    length: Option<u64>,
    pushed: u64,
    /// How long the body was before it was compressed.
    plain: Option<u64>,
    /// The last segment while it is small, to be joined with what follows.
    tail: Bytes,
    /// Why only a window is kept.
    unstored: Option<Uncacheable>,
    /// Since when its slowest reader holds it up, and how far that one was.
    held: Option<(Instant, u64)>,
    _flight: Reservation,
}

/// What became of a filled answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// It is stored.
    Stored,
    /// Its readers have it whole; it was purged meanwhile.
    Purged,
    /// Its readers have it whole; it could not be kept.
    Unstored(Uncacheable),
    /// It is not as long as it said: its readers were told that it broke off.
    Incomplete,
}

/// Chunks are joined up to this size, so that tiny ones do not cost more than they carry.
const SMALL: usize = 4 * 1024;

/// How far an unstored body runs ahead of its slowest reader, in bytes and what they cost.
const WINDOW: u64 = 256 * 1024;

/// The same of a body for which there is no memory: so much of it is outside of the budget, and the chunk that
/// came last.
const SCARCE_WINDOW: u64 = 64 * 1024;

/// A reader who holds others up must get on by so much in each `PATIENCE`, or it is cut.
const LEAST: u64 = 64 * 1024;
const PATIENCE: Duration = Duration::from_secs(5);

/// Bodies up to this size are stored in one piece.
const ONE_PIECE: u64 = 64 * 1024;

impl Filler {
    pub(super) fn new(
        flying: Flying,
        plan: Plan,
        length: Option<u64>,
        slot: Reservation,
        flight: Reservation,
    ) -> Self {
        Self {
            flying,
            slot: Some(slot),
            plan,
            length,
            pushed: 0,
            plain: None,
            tail: Bytes::new(),
            unstored: None,
            held: None,
            _flight: flight,
        }
    }

    /// Gives a piece of the body to the readers. Waits for them only once the body turned out not
    /// to be storable; an error then says that none is left, and the fetch may stop. The task that
    /// pushes must not be the one that reads.
    pub async fn push(&mut self, chunk: &Bytes) -> Result<(), Abandoned> {
        if chunk.is_empty() {
            return Ok(());
        }
        if self.unstored.is_none()
            && let Err(reason) = self.keep(chunk)
        {
            self.narrow(reason);
        }
        if self.unstored.is_some() {
            self.pass(chunk).await?;
        }
        self.pushed += chunk.len() as u64;
        Ok(())
    }

    /// Says how long the body was before it was compressed on its way here.
    pub fn was_of(&mut self, length: u64) {
        self.plain = Some(length);
    }

    /// The body has ended as the framing of the origin's answer says it should.
    pub fn finish(mut self) -> Filled {
        if self.length.is_some_and(|length| length != self.pushed) {
            return Filled::Incomplete;
        }
        let filled = match self.unstored {
            Some(reason) => Filled::Unstored(reason),
            None => self.store(),
        };
        self.flying.end_whole();
        filled
    }

    /// The fetch broke off. The same as dropping the filler, said aloud.
    pub fn fail(self) {}

    /// Copies a chunk into the growing body, as long as the bounds allow.
    fn keep(&mut self, chunk: &Bytes) -> Result<(), Uncacheable> {
        let cache = &self.flying.cache;
        if self.pushed + chunk.len() as u64 > cache.max_object {
            return Err(Uncacheable::TooLarge);
        }
        let charge = self.charge(chunk);
        let reservation = if self.plan.body.bytes() >= charge {
            self.plan.body.split(charge)
        } else {
            cache.reserve(charge).ok_or(Uncacheable::Memory)?
        };
        self.copy(chunk, Some(reservation));
        Ok(())
    }

    /// Gives a chunk to those who read, once there is room in the window.
    async fn pass(&mut self, chunk: &Bytes) -> Result<(), Abandoned> {
        let budget = Arc::clone(&self.flying.cache.budget);
        // Nothing that is stored makes room for it: it is read soon.
        let room = budget.reserve(chunk.len() + ALLOCATION_OVERHEAD);
        let most = match &room {
            Some(_) => WINDOW,
            None => SCARCE_WINDOW,
        };
        let is_read = self.room(most).await?;
        if is_read {
            self.tail = Bytes::new();
        }
        if chunk.len() < SMALL {
            drop(room);
            let room = budget.reserve(self.charge(chunk));
            self.copy(chunk, room);
        } else {
            self.tail = Bytes::new();
            // Not copied: it lives no longer than it would on its way through a plain proxy.
            let chunk = chunk.clone();
            let segment = match room {
                Some(room) => held(chunk, room),
                None => chunk,
            };
            self.flying.flight.extend(segment, false);
        }
        Ok(())
    }

    /// Waits until there is room in the window; whether it is empty. Who gets on by less than `LEAST` while others
    /// have nothing to read costs them so much time, and no more.
    async fn room(&mut self, most: u64) -> Result<bool, Abandoned> {
        let flight = &self.flying.flight;
        let look = poll_fn(|cx| Poll::Ready(flight.poll_room(most, cx)));
        if let Poll::Ready(room) = look.await {
            self.held = None;
            return room;
        }
        loop {
            let (since, from) = *self
                .held
                .get_or_insert_with(|| (Instant::now(), flight.slowest()));
            let room = poll_fn(|cx| flight.poll_room(most, cx));
            if let Ok(room) = timeout_at(since + PATIENCE, room).await {
                return room;
            }
            flight.cut(from + LEAST);
            self.held = None;
        }
    }

    fn joins(&self, chunk: &Bytes) -> bool {
        !self.tail.is_empty() && self.tail.len() + chunk.len() <= SMALL
    }

    /// What a copy of a chunk costs, with what it is joined to.
    fn charge(&self, chunk: &Bytes) -> usize {
        let before = if self.joins(chunk) {
            self.tail.len()
        } else {
            0
        };
        before + chunk.len() + ALLOCATION_OVERHEAD
    }

    /// Gives a copy of a chunk to those who read, joined to the last one if both are small.
    fn copy(&mut self, chunk: &Bytes, room: Option<Reservation>) {
        let joins = self.joins(chunk);
        let parts: &[&[u8]] = if joins {
            &[&self.tail, chunk]
        } else {
            &[chunk]
        };
        let segment = match room {
            Some(room) => counted(parts, room),
            None => parts.concat().into(),
        };
        self.tail = if segment.len() < SMALL {
            segment.clone()
        } else {
            Bytes::new()
        };
        self.flying.flight.extend(segment, joins);
    }

    fn narrow(&mut self, reason: Uncacheable) {
        self.unstored = Some(reason);
        self.tail = Bytes::new();
        drop(self.plan.body.split(usize::MAX));
        let Flying { cache, flight, .. } = &self.flying;
        if reason == Uncacheable::TooLarge
            // How long an error is says nothing of other answers.
            && !self.plan.head.status.is_server_error()
            && let Some(reservation) = self.slot.take()
        {
            let found = Mark {
                whose: Whose::Anyone,
                is_too_large: true,
                generation: flight.generation,
            };
            let now = cache.clock.now();
            let key = flight.stored_key().bytes;
            cache.store.mark(key, found, now, reservation);
        }
        cache.flights.close(flight);
        flight.narrow();
    }

    fn store(&mut self) -> Filled {
        let Some(slot) = self.slot.take() else {
            return Filled::Unstored(Uncacheable::TooLarge);
        };
        let Flying { cache, flight, .. } = &self.flying;
        let mut segments = flight.segments();
        if segments.len() > 1
            && self.pushed <= ONE_PIECE
            && let Some(room) = cache.reserve(length_of(&segments) + ALLOCATION_OVERHEAD)
        {
            let parts: Vec<&[u8]> = segments.iter().map(|bytes| &**bytes).collect();
            let joined = counted(&parts, room);
            segments = vec![joined];
        }
        let body = HitBody::from_iter(segments);
        let mut head = Head::clone(&self.plan.head);
        head.set_lengths(self.pushed, self.plain);
        let own = self.plan.own.split(usize::MAX);
        let entry = Entry {
            charge: self.plan.head_charge + own.bytes() + body.charge(),
            head,
            body,
            parts: None,
            age: self.plan.age,
            dated: self.plan.dated,
            vary: self.plan.vary.clone(),
            generation: flight.generation,
            tags: std::mem::take(&mut self.plan.tags),
            lines: OnceLock::new(),
            block: OnceLock::new(),
            _reservation: own,
        };
        if cache.keep(&flight.stored_key(), &Arc::new(entry), slot) {
            Filled::Stored
        } else {
            Filled::Purged
        }
    }
}

fn length_of(segments: &[Bytes]) -> usize {
    segments.iter().map(Bytes::len).sum()
}

/// What is known of an entry before its body is.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) head: Arc<Head>,
    /// Fields for the leader alone.
    pub(super) own_fields: HeaderMap,
    pub(super) vary: Vary,
    pub(super) tags: Tags,
    pub(super) age: Ageing,
    pub(super) dated: SystemTime,
    pub(super) head_charge: usize,
    pub(super) own: Reservation,
    /// Reserved ahead for a body of known length.
    pub(super) body: Reservation,
}
