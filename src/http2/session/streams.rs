//! The streams of a connection that are open.
//!
//! A stream lies at a place that is used again; frames find it by its identifier, everyone else by its `Key`.
//! Identifiers only go up, so they lie sorted and are found by halving. Invariant: a `Key` never leads to
//! another stream than its own.

use std::collections::VecDeque;
use std::task::Waker;

use bytes::{Bytes, BytesMut};
use http::header::HeaderMap;
use slab::Slab;

/// A stream, from its request to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Where it lies; places of streams that are gone are used again.
    pub place: usize,
    /// Its identifier.
    pub id: u32,
}

/// An open stream.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "both directions end one by one, and a turn is independent of both"
)]
pub(super) struct Stream {
    pub(super) id: u32,
    /// What the client lets be sent.
    pub(super) window: i64,
    /// Content that is to be sent.
    pub(super) rest: Bytes,
    /// Nothing comes after `rest`.
    pub(super) last: bool,
    /// It waits for its turn to send.
    pub(super) queued: bool,
    /// The head of the answer was sent.
    pub(super) answered: bool,
    /// The answer was sent whole.
    pub(super) done: bool,
    /// Content that was sent.
    pub(super) sent: u64,
    /// It offers a tunnel, or is one.
    pub(super) tunnel: bool,
    pub(super) incoming: Incoming,
}

/// What comes in on a stream.
#[derive(Debug)]
pub(super) struct Incoming {
    /// What the client may still send.
    pub(super) window: i64,
    /// What was taken and not given back to it yet.
    pub(super) credit: i64,
    pub(super) data: BytesMut,
    pub(super) trailers: Option<HeaderMap>,
    /// By `Content-Length`, what is still to come.
    pub(super) left: Option<u64>,
    /// The client has ended it.
    pub(super) ended: bool,
    /// Nobody will read what is still to come.
    pub(super) unread: bool,
    /// Who waits for more.
    pub(super) reader: Option<Waker>,
}

impl Incoming {
    pub(super) fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

/// All open streams.
#[derive(Debug, Default)]
pub(super) struct Streams {
    slots: Slab<Stream>,
    /// Identifiers and places, in order.
    ids: VecDeque<(u32, usize)>,
}

impl Streams {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Inserts a stream whose identifier is above all others.
    pub(super) fn insert(&mut self, stream: Stream) -> Key {
        let id = stream.id;
        debug_assert!(self.ids.back().is_none_or(|(last, _)| *last < id), "order");
        let place = self.slots.insert(stream);
        self.ids.push_back((id, place));
        Key { place, id }
    }

    pub(super) fn find(&self, id: u32) -> Option<Key> {
        let at = self.ids.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        let (id, place) = *self.ids.get(at)?;
        Some(Key { place, id })
    }

    pub(super) fn get(&self, key: Key) -> Option<&Stream> {
        self.slots.get(key.place).filter(|it| it.id == key.id)
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Stream> {
        self.slots.get_mut(key.place).filter(|it| it.id == key.id)
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Stream> {
        self.get(key)?;
        if let Ok(at) = self.ids.binary_search_by_key(&key.id, |(id, _)| *id) {
            self.ids.remove(at);
        }
        self.slots.try_remove(key.place)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut Stream)> {
        self.slots.iter_mut().map(|(place, stream)| {
            let key = Key {
                place,
                id: stream.id,
            };
            (key, stream)
        })
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Stream> {
        self.ids.clear();
        self.slots.drain()
    }

    /// Gives memory back that nobody needs.
    pub(super) fn rest(&mut self) {
        if self.slots.is_empty() {
            *self = Self::default();
        }
    }
}
