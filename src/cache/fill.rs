//! The body of a storable answer, from the fetch to the flight's readers and into the store.
//!
//! `permit` makes a `Filler` once the head is judged; the proxy's fetch task pushes what arrives.
//! Chunks are copied out of the connection's buffer as they come, small ones joined. A body that outgrows
//! `max_object` or the budget goes on as a window that runs only so far ahead of its slowest
//! reader. Dropping a filler breaks the body off for all readers.
//! Invariant: only a whole body is stored, with the generation captured before the fetch was sent.

use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use bytes::Bytes;
use http::HeaderMap;

use super::budget::{ALLOCATION_OVERHEAD, Reservation, counted};
use super::entry::{Ageing, Entry, Head, HitBody};
use super::flight::Abandoned;
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
            poll_fn(|cx| self.flying.flight.poll_room(cx)).await?;
            // Not copied: it lives no longer than it would on its way through a plain proxy.
            self.flying.flight.extend(chunk.clone(), false);
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
        let joins = !self.tail.is_empty() && self.tail.len() + chunk.len() <= SMALL;
        let length = chunk.len() + if joins { self.tail.len() } else { 0 };
        let charge = length + ALLOCATION_OVERHEAD;
        let reservation = if self.plan.body.bytes() >= charge {
            self.plan.body.split(charge)
        } else {
            cache.reserve(charge).ok_or(Uncacheable::Memory)?
        };
        let segment = if joins {
            counted(&[&self.tail, chunk], reservation)
        } else {
            counted(&[chunk], reservation)
        };
        self.tail = if segment.len() < SMALL {
            segment.clone()
        } else {
            Bytes::new()
        };
        self.flying.flight.extend(segment, joins);
        Ok(())
    }

    fn narrow(&mut self, reason: Uncacheable) {
        self.unstored = Some(reason);
        self.tail = Bytes::new();
        drop(self.plan.body.split(usize::MAX));
        let Flying { cache, flight, .. } = &self.flying;
        if reason == Uncacheable::TooLarge
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
