//! One connection of HTTP/2 with a client, without its socket (RFC 9113).
//!
//! Its owner, `server::http2`, shows it the bytes that come (`intake`), writes what lies in its `Outlet`, and in
//! between takes requests out, reads their content (`data`) and hands over answers (`answer`). It knows no time:
//! the owner keeps deadlines by what it is told here, and says when a window of counting is over. Invariants: a
//! client makes it hold no more than the windows that were announced, one header block and one control
//! frame per frame of its own; nothing is sent beyond the client's windows; streams that have something to
//! send take turns.

mod answer;
mod blocks;
mod control;
mod counts;
mod data;
mod history;
mod intake;
mod outlet;
mod streams;

use std::collections::VecDeque;

use super::frame::{Code, LARGEST, flag, kind, setting};
use super::hpack::{Decoder, Encoder};
use super::request::{Asked, Bounds};

use counts::Counts;
use history::History;
use intake::Intake;
use streams::Streams;

pub use answer::{Extras, State};
pub use data::Piece;
pub use outlet::Outlet;
pub use streams::Key;

/// What the protocol gives both sides to begin with (RFC 9113 section 6.9.2).
const INITIAL_WINDOW: i64 = 65_535;
/// What the PING of a drain holds, so that its acknowledgement is known.
const DRAIN: &[u8; 8] = b"draining";

/// What a client may do.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Streams at a time.
    pub streams: u32,
    /// Requests that may be taken back in a window of time, besides a tenth of those that were sent in
    /// it; and streams that may have to be reset here.
    pub resets: u32,
    /// Bytes of content that are taken in before they are passed on, of one stream.
    pub stream_window: u32,
    /// The same of all streams; the protocol gives each client 65,535 at least.
    pub connection_window: u32,
    /// Of requests.
    pub bounds: Bounds,
    /// `http` or `https`.
    pub scheme: &'static str,
}

/// What there can be too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flood {
    /// Requests taken back (CVE-2023-44487).
    Reset,
    /// Streams that had to be reset here (CVE-2025-8671).
    ProvokedReset,
    /// PING.
    Ping,
    /// SETTINGS.
    Settings,
    /// PRIORITY.
    Priority,
    /// WINDOW_UPDATE.
    WindowUpdate,
    /// DATA without data.
    EmptyData,
    /// CONTINUATION.
    Continuation,
    /// Header fields.
    Fields,
    /// Frames of unknown types.
    Unknown,
}

/// Why a connection must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation {
    /// What the client is told.
    pub code: Code,
    /// What there was too much of, if that was it.
    pub flood: Option<Flood>,
    /// For the log.
    pub what: &'static str,
}

type Check<T = ()> = Result<T, Violation>;

fn refuse<T>(code: Code, what: &'static str) -> Check<T> {
    Err(Violation {
        code,
        flood: None,
        what,
    })
}

fn calm<T>(flood: Flood, what: &'static str) -> Check<T> {
    Err(Violation {
        code: Code::EnhanceYourCalm,
        flood: Some(flood),
        what,
    })
}

/// Frames that ended something, since the last look.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Endings {
    /// RST_STREAM that came.
    pub resets_received: u32,
    /// RST_STREAM that were sent.
    pub resets_sent: u32,
}

/// What a client is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Its preface and first SETTINGS.
    Opening,
    /// The rest of this header block.
    Block(u64),
    /// Nothing but requests.
    Request,
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    terms: Terms,
    decoder: Decoder,
    encoder: Encoder,
    intake: Intake,
    counts: Counts,
    endings: Endings,
    history: History,
    /// The newest stream whose request was taken.
    newest: u32,
    /// Streams above are not looked at any more: the last GOAWAY said so.
    final_id: Option<u32>,
    streams: Streams,
    /// Requests that nobody has begun with.
    opened: VecDeque<(Key, Asked)>,
    /// Streams that are gone and whose owner does not know it.
    gone: Vec<Key>,
    /// Streams that may be given more content.
    hungry: Vec<Key>,
    /// Streams that have something to send, and whose window is open.
    turn: VecDeque<Key>,
    /// What the client lets be sent on all streams, and at first on each of them.
    window: i64,
    initial_window: i64,
    /// What the client may still send, and what was taken of it and not given back yet.
    available: i64,
    credit: i64,
    /// Largest payload that is sent.
    largest: usize,
    out: Outlet,
    /// The client has said GOAWAY.
    is_left: bool,
    /// The PING of the drain came back.
    is_heard: bool,
}

impl Session {
    /// A connection of which nothing has come yet; SETTINGS are to be written.
    #[must_use]
    pub fn new(terms: Terms) -> Self {
        let mut this = Self {
            terms,
            decoder: Decoder::default(),
            encoder: Encoder::default(),
            intake: Intake::default(),
            counts: Counts::default(),
            endings: Endings::default(),
            history: History::default(),
            newest: 0,
            final_id: None,
            streams: Streams::default(),
            opened: VecDeque::new(),
            gone: Vec::new(),
            hungry: Vec::new(),
            turn: VecDeque::new(),
            window: INITIAL_WINDOW,
            initial_window: INITIAL_WINDOW,
            available: INITIAL_WINDOW,
            credit: i64::from(terms.connection_window) - INITIAL_WINDOW,
            largest: LARGEST,
            out: Outlet::default(),
            is_left: false,
            is_heard: false,
        };
        this.announce();
        this
    }

    fn announce(&mut self) {
        let list = u32::try_from(self.terms.bounds.bytes).unwrap_or(u32::MAX);
        let mut payload = Vec::with_capacity(24);
        for (id, value) in [
            (setting::MAX_CONCURRENT_STREAMS, self.terms.streams),
            (setting::INITIAL_WINDOW_SIZE, self.terms.stream_window),
            (setting::MAX_HEADER_LIST_SIZE, list),
            (setting::ENABLE_CONNECT_PROTOCOL, 1),
        ] {
            payload.extend_from_slice(&id.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        self.out.frame(kind::SETTINGS, 0, 0, &payload);
        if self.credit > 0 {
            self.release();
        }
    }

    /// What is to be written.
    pub fn out(&mut self) -> &mut Outlet {
        &mut self.out
    }

    /// Whether what is framed is better written before more is.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.out.room() < answer::LEAST
    }

    /// Whether something is to be written or to be looked at.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.out.is_empty() || !self.hungry.is_empty() || !self.gone.is_empty()
    }

    /// `bytes` more were written: as many more window updates may come in.
    pub fn wrote(&mut self, bytes: usize) {
        self.out.advance(bytes);
        self.counts.sent(bytes);
    }

    /// A window of time is over; what it had too little of to matter is forgotten.
    pub fn next_window(&mut self) {
        self.counts = Counts::default();
    }

    /// What the client is waited for, as far as it is more than content.
    #[must_use]
    pub fn wait(&self) -> Wait {
        self.intake.wait()
    }

    /// Frames that ended something since the last look.
    pub fn endings(&mut self) -> Endings {
        std::mem::take(&mut self.endings)
    }

    /// The next request that nobody has begun with. It may have been taken back: then its stream is gone.
    pub fn next_request(&mut self) -> Option<(Key, Asked)> {
        self.opened.pop_front()
    }

    /// The next stream that is gone, by the client's doing or its fault.
    pub fn next_gone(&mut self) -> Option<Key> {
        self.gone.pop()
    }

    /// The next stream that may be given more content, or is done.
    pub fn next_hungry(&mut self) -> Option<Key> {
        self.hungry.pop()
    }

    /// How many streams are open.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// Whether the client has said that it will open no more streams.
    #[must_use]
    pub fn is_left(&self) -> bool {
        self.is_left
    }

    /// Whether the client has heard of the drain.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.is_heard
    }

    /// Says that no more streams are wanted; those that are on their way are still taken. The
    /// acknowledgement of the PING that follows tells when there are no more of those.
    pub fn warn(&mut self) {
        self.goaway(0x7fff_ffff, Code::No);
        self.out.frame(kind::PING, 0, 0, DRAIN);
    }

    /// Takes no more streams; those that are open go on.
    pub fn close(&mut self) {
        if self.final_id.replace(self.newest).is_none() {
            self.goaway(self.newest, Code::No);
        }
    }

    /// Ends the connection: nothing is taken any more, and nothing but this goes out.
    pub fn end(&mut self, code: Code) {
        self.opened.clear();
        self.hungry.clear();
        self.gone.clear();
        self.turn.clear();
        for mut stream in self.streams.drain() {
            stream.incoming.wake();
        }
        self.goaway(self.final_id.unwrap_or(self.newest), code);
        self.final_id = Some(self.newest);
    }

    fn goaway(&mut self, last: u32, code: Code) {
        let [a, b, c, d] = last.to_be_bytes();
        let payload = [a, b, c, d, 0, 0, 0, code as u8];
        self.out.frame(kind::GOAWAY, 0, 0, &payload);
    }

    /// Gives back what an idle connection does not need.
    pub fn rest(&mut self) {
        self.out.rest();
        self.intake.rest();
        self.streams.rest();
        self.opened = VecDeque::new();
        self.gone = Vec::new();
        self.hungry = Vec::new();
        self.turn = VecDeque::new();
    }

    /// Resets a stream; whoever has to do with it finds it gone.
    ///
    /// # Errors
    /// When the client made that necessary too often.
    fn fail(&mut self, id: u32, code: Code) -> Check {
        if let Some(key) = self.streams.find(id) {
            self.remove(key);
            self.gone.push(key);
        }
        self.rst(id, code);
        self.counts.provoked(code, self.terms.resets)
    }

    fn rst(&mut self, id: u32, code: Code) {
        self.endings.resets_sent = self.endings.resets_sent.saturating_add(1);
        let payload = [0, 0, 0, code as u8];
        self.out.frame(kind::RST_STREAM, 0, id, &payload);
    }

    /// A stream is over: what it took of the connection's window is given back.
    fn remove(&mut self, key: Key) {
        if let Some(mut stream) = self.streams.remove(key) {
            stream.incoming.wake();
            self.give_back(stream.incoming.data.len());
        }
    }

    /// `count` more bytes of content were taken: the client may send as many again, once it is worth a
    /// frame.
    fn give_back(&mut self, count: usize) {
        self.credit += i64::try_from(count).unwrap_or(0);
        if self.credit >= i64::from(self.terms.connection_window / 2).max(1) {
            self.release();
        }
    }

    fn release(&mut self) {
        let more = std::mem::take(&mut self.credit);
        self.available += more;
        self.window_update(0, more);
    }

    fn window_update(&mut self, id: u32, more: i64) {
        let more = u32::try_from(more).unwrap_or(0);
        if more > 0 {
            self.out
                .frame(kind::WINDOW_UPDATE, 0, id, &more.to_be_bytes());
        }
    }

    fn acknowledge(&mut self, kind: u8, payload: &[u8]) {
        self.out.frame(kind, flag::ACK, 0, payload);
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test fails by it")]
mod tests;
#[cfg(any(test, fuzzing))]
pub mod trial;
