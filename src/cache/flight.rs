//! One fetch under way, and the requests that ride on it.
//!
//! `board` lets exactly one request per key (and per known variant of it) lead; those that come
//! while it flies ride along, on whichever worker they run. `fill` feeds the flight, `reader`
//! takes from it, `permit` ends it. The body grows in a list of segments that every rider reads at its own pace.
//! Past its bounds a flight leaves the table, so that nobody new boards, and keeps only a window
//! that runs only so far ahead of its slowest rider.
//! Invariant: the two locks here are short, are never held across an await, and a hit takes
//! neither; wakers are called after unlocking. Order of locks: shard, then flight.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use ahash::RandomState;
use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;
use slab::Slab;
use smallvec::SmallVec;

use super::ageing::Ageing;
use super::budget::ALLOCATION_OVERHEAD;
use super::entry::Entry;
use super::head::Head;
use super::key::Key;
use super::purge::{Generation, Generations, Standing};
use super::status::{Refusal, Uncacheable};
use super::store::Whose;
use super::tags::Tags;
use super::vary::Vary;

const SHARDS: usize = 64;

type Shard = Mutex<HashMap<Box<[u8]>, Arc<Flight>, RandomState>>;

/// The flights that can be boarded, by key.
#[derive(Debug)]
pub(super) struct Flights {
    shards: Box<[Shard]>,
    hasher: RandomState,
}

/// What became of a request that wanted to board.
#[derive(Debug)]
pub(super) enum Boarded {
    /// It leads a new flight.
    Leader(Arc<Flight>),
    /// It rides on another's.
    Rider(Ticket),
    /// The flight for this key brings an answer for other requests: look for one of its variant.
    Varies(Vary),
    /// There is a flight, but its answer may be for its leader alone.
    Occupied,
}

impl Flights {
    pub(super) fn new(hasher: RandomState) -> Self {
        let shard = || Mutex::new(HashMap::with_hasher(hasher.clone()));
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            hasher,
        }
    }

    /// Boards the flight under `key`, or starts it. The first `stored_len` bytes of the key are those
    /// under which its answer is stored. With `may_ride` false, a request leads or goes alone. A flight from before a purge
    /// is replaced: its answer may be the one that was purged.
    pub(super) fn board(
        &self,
        key: Key<'_>,
        stored_len: usize,
        generations: (&Generations, Generation),
        request: &HeaderMap,
        may_ride: bool,
    ) -> Boarded {
        let mut shard = self.shard(key.bytes).lock();
        if let Some(flight) = shard.get(key.bytes)
            && flight.is_current(generations.0, key.url())
            && let Some(boarded) = flight.admit(request, may_ride)
        {
            return boarded;
        }
        let flight = Arc::new(Flight {
            key: key.bytes.into(),
            url_len: key.url_len,
            stored_len,
            generation: generations.1,
            state: Mutex::new(State {
                phase: Phase::Awaiting,
                riders: Slab::new(),
                pump: None,
            }),
        });
        shard.insert(key.bytes.into(), Arc::clone(&flight));
        Boarded::Leader(flight)
    }

    /// Lets nobody new board.
    pub(super) fn close(&self, flight: &Arc<Flight>) {
        let mut shard = self.shard(&flight.key).lock();
        if shard
            .get(&flight.key)
            .is_some_and(|other| Arc::ptr_eq(other, flight))
        {
            shard.remove(&flight.key);
        }
    }

    fn shard(&self, key: &[u8]) -> &Shard {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "reduced to the number of shards"
        )]
        let index = self.hasher.hash_one(key) as usize % self.shards.len();
        &self.shards[index]
    }
}

/// One fetch under way.
#[derive(Debug)]
pub(super) struct Flight {
    key: Box<[u8]>,
    url_len: usize,
    stored_len: usize,
    /// Captured before the fetch was sent.
    pub(super) generation: Generation,
    pub(super) state: Mutex<State>,
}

/// What the lock of a flight guards.
#[derive(Debug)]
pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) riders: Slab<Rider>,
    /// The filler, asleep until the slowest rider moves.
    pump: Option<Waker>,
}

/// How far a flight has come.
#[derive(Debug)]
pub(super) enum Phase {
    /// No head yet.
    Awaiting,
    /// The head is there, the body is coming or whole.
    Arriving(Arrival),
    /// The answer is a stored one. `shared` says why riders other than the leader may not have it.
    Ready {
        entry: Arc<Entry>,
        shared: Result<(), Uncacheable>,
        came: Came,
    },
    /// The answer is its leader's alone. Those who wait go alone too; after an error, to one of such requests, one
    /// of them goes for all, unless they take what is stale.
    Refused {
        refusal: Refusal,
        error: Option<Whose>,
        stale: Option<Stale>,
    },
    /// There will be no answer.
    Failed,
}

/// A stale answer in the place of one that its leader has to have from the origin.
#[derive(Debug, Clone)]
pub(super) struct Stale {
    pub(super) entry: Arc<Entry>,
    /// What the origin said, if it did.
    pub(super) status: Option<u16>,
}

impl Stale {
    /// The end of a flight that brought nothing else.
    pub(super) fn landing(self) -> Phase {
        Phase::Ready {
            entry: self.entry,
            shared: Ok(()),
            came: Came::Fallback(self.status),
        }
    }
}

/// Why a flight ends with an answer that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// An earlier flight had brought it.
    Found,
    /// It was on disk.
    Recalled,
    /// The origin said that it holds.
    Validated,
    /// The origin failed, with this status if it had one; the answer is stale.
    Fallback(Option<u16>),
}

/// An answer that is coming in.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) told: Arc<Told>,
    pub(super) body: Growing,
}

/// What its head tells.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) head: Arc<Head>,
    /// Fields for the leader alone.
    pub(super) own: HeaderMap,
    pub(super) vary: Vary,
    pub(super) tags: Tags,
    pub(super) age: Ageing,
    pub(super) length: Option<u64>,
}

/// One request that waits or reads.
#[derive(Debug)]
pub(super) struct Rider {
    /// Bytes of the body taken so far.
    pub(super) at: u64,
    pub(super) waker: Option<Waker>,
    /// It held others up for too long: for it, the body has broken off.
    pub(super) is_cut: bool,
}

impl Rider {
    const NEW: Self = Self {
        at: 0,
        waker: None,
        is_cut: false,
    };
}

/// A body as it grows.
#[derive(Debug, Default)]
pub(super) struct Growing {
    /// Each with the offset at which it starts; without gaps.
    segments: VecDeque<(u64, Bytes)>,
    end: u64,
    /// Only a window is kept, and its start.
    window: Option<u64>,
    pub(super) ended: Option<Ended>,
}

/// How a body came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Whole,
    Broken,
}

impl Growing {
    /// What follows the first `at` bytes, as far as it lies in one piece.
    pub(super) fn after(&self, at: u64) -> Option<Bytes> {
        let next = self.segments.partition_point(|(start, _)| *start <= at);
        let (start, bytes) = self.segments.get(next.checked_sub(1)?)?;
        let skipped = usize::try_from(at - start)
            .ok()
            .filter(|skipped| *skipped < bytes.len())?;
        Some(bytes.slice(skipped..))
    }

    pub(super) fn is_windowed(&self) -> bool {
        self.window.is_some()
    }
}

type Wakers = SmallVec<[Waker; 8]>;

fn wake(wakers: Wakers) {
    for waker in wakers {
        waker.wake();
    }
}

impl State {
    fn wakers(&mut self) -> Wakers {
        self.riders
            .iter_mut()
            .filter_map(|(_, rider)| rider.waker.take())
            .collect()
    }

    fn slowest(&self) -> Option<u64> {
        let riders = self.riders.iter().filter(|(_, rider)| !rider.is_cut);
        riders.map(|(_, rider)| rider.at).min()
    }

    /// The filler's waker, if a rider that stood at `at` held it back.
    pub(super) fn pump_after(&mut self, at: u64) -> Option<Waker> {
        let Phase::Arriving(arrival) = &self.phase else {
            return None;
        };
        if arrival.body.window? == at {
            self.pump.take()
        } else {
            None
        }
    }
}

impl Flight {
    /// The key under which the answer is stored: without the values of nominated fields.
    pub(super) fn stored_key(&self) -> Key<'_> {
        Key {
            bytes: &self.key[..self.stored_len],
            url_len: self.url_len,
        }
    }

    /// The key under which it can be boarded.
    pub(super) fn key(&self) -> Key<'_> {
        Key {
            bytes: &self.key,
            url_len: self.url_len,
        }
    }

    pub(super) fn key_len(&self) -> usize {
        self.key.len()
    }

    /// Whether nothing of it was purged since it began, as far as is known.
    fn is_current(&self, generations: &Generations, url: &[u8]) -> bool {
        let state = self.state.lock();
        let tags = match &state.phase {
            Phase::Arriving(arrival) => arrival.told.tags.hashes(),
            Phase::Ready { entry, .. } => entry.tags.hashes(),
            Phase::Awaiting | Phase::Refused { .. } | Phase::Failed => &[],
        };
        generations.standing(self.generation, url, tags) == Standing::Current
            && !generations.is_too_old(self.generation)
    }

    /// Lets a request ride, or tells why not; `None` when this flight has come to its end.
    fn admit(self: &Arc<Self>, request: &HeaderMap, may_ride: bool) -> Option<Boarded> {
        let state = self.state.lock();
        match &state.phase {
            Phase::Refused { .. } | Phase::Failed => return None,
            Phase::Awaiting | Phase::Ready { .. } => {}
            Phase::Arriving(arrival) => {
                if arrival.body.is_windowed() || arrival.body.ended == Some(Ended::Broken) {
                    return None;
                }
                if !arrival.told.age.is_reusable() {
                    return Some(Boarded::Occupied);
                }
                if !arrival.told.vary.matches(request) {
                    return Some(Boarded::Varies(arrival.told.vary.clone()));
                }
            }
        }
        drop(state);
        Some(if may_ride {
            Boarded::Rider(self.ticket())
        } else {
            Boarded::Occupied
        })
    }

    /// Adds a rider.
    pub(super) fn ticket(self: &Arc<Self>) -> Ticket {
        let seat = self.state.lock().riders.insert(Rider::NEW);
        Ticket {
            flight: Arc::clone(self),
            seat,
        }
    }

    /// Moves on to a phase and wakes everyone.
    pub(super) fn enter(&self, phase: Phase) {
        let mut state = self.state.lock();
        state.phase = phase;
        let wakers = state.wakers();
        drop(state);
        wake(wakers);
    }

    /// Appends to the body, or puts a joined segment in the place of the last.
    pub(super) fn extend(&self, segment: Bytes, replaces_last: bool) {
        let mut state = self.state.lock();
        if let Phase::Arriving(arrival) = &mut state.phase {
            let body = &mut arrival.body;
            let mut start = body.end;
            if replaces_last && let Some((last, _)) = body.segments.pop_back() {
                start = last;
            }
            body.end = start + segment.len() as u64;
            body.segments.push_back((start, segment));
        }
        let wakers = state.wakers();
        drop(state);
        wake(wakers);
    }

    /// Keeps no more than a window from now on. To be closed first, so that nobody boards whose
    /// beginning is gone.
    pub(super) fn narrow(&self) {
        if let Phase::Arriving(arrival) = &mut self.state.lock().phase {
            arrival.body.window.get_or_insert(0);
        }
    }

    /// Waits until no more than `most` bytes are ahead of the slowest reader, with what each segment costs;
    /// whether there are none. An error says that nobody reads any more.
    pub(super) fn poll_room(&self, most: u64, cx: &Context<'_>) -> Poll<Result<bool, Abandoned>> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let slowest = state.slowest();
        let (Phase::Arriving(arrival), Some(slowest)) = (&mut state.phase, slowest) else {
            return Poll::Ready(Err(Abandoned));
        };
        let body = &mut arrival.body;
        body.window = Some(slowest);
        while let Some((start, bytes)) = body.segments.front()
            && start + bytes.len() as u64 <= slowest
        {
            body.segments.pop_front();
        }
        // Who waits for a later part may be ahead of what has come.
        let costs = (body.segments.len() * ALLOCATION_OVERHEAD) as u64;
        if body.end.saturating_sub(slowest) + costs < most {
            return Poll::Ready(Ok(body.segments.is_empty()));
        }
        state.pump = Some(cx.waker().clone());
        Poll::Pending
    }

    /// How far the slowest reader is.
    pub(super) fn slowest(&self) -> u64 {
        self.state.lock().slowest().unwrap_or_default()
    }

    /// Breaks the body off for those who are behind a point, if others have nothing left to read.
    pub(super) fn cut(&self, behind: u64) {
        let mut guard = self.state.lock();
        let State { phase, riders, .. } = &mut *guard;
        let Phase::Arriving(arrival) = phase else {
            return;
        };
        let end = arrival.body.end;
        if !riders.iter().any(|(_, rider)| rider.at >= end) {
            return;
        }
        let mut wakers = Wakers::new();
        for (_, rider) in riders.iter_mut() {
            if rider.at < behind.min(end) {
                rider.is_cut = true;
                wakers.extend(rider.waker.take());
            }
        }
        drop(guard);
        wake(wakers);
    }

    /// The body so far, by segment.
    pub(super) fn segments(&self) -> Vec<Bytes> {
        match &self.state.lock().phase {
            Phase::Arriving(arrival) => arrival
                .body
                .segments
                .iter()
                .map(|(_, bytes)| bytes.clone())
                .collect(),
            Phase::Awaiting | Phase::Ready { .. } | Phase::Refused { .. } | Phase::Failed => {
                Vec::new()
            }
        }
    }

    /// Ends the flight: whole, or broken off in whatever phase it is.
    pub(super) fn end(&self, ended: Ended) {
        let mut state = self.state.lock();
        match &mut state.phase {
            Phase::Arriving(arrival) => arrival.body.ended = Some(ended),
            Phase::Awaiting => state.phase = Phase::Failed,
            Phase::Ready { .. } | Phase::Refused { .. } | Phase::Failed => {}
        }
        let wakers = state.wakers();
        drop(state);
        wake(wakers);
    }
}

/// Every reader went away before an unstored body was whole; the fetch can stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody reads the answer any more")]
pub struct Abandoned;

/// A seat on a flight; given up on drop.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) flight: Arc<Flight>,
    pub(super) seat: usize,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.flight.state.lock();
        let at = state.riders.remove(self.seat).at;
        let pump = state.pump_after(at);
        drop(state);
        if let Some(pump) = pump {
            pump.wake();
        }
    }
}
