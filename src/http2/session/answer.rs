//! Answers on their way out (RFC 9113 sections 8.1 and 6.9).
//!
//! The owner of a session hands over a head and then content, one piece at a time; here it is framed under
//! the client's windows, a chunk of each stream after the other. Invariants: an answer has no
//! field of a connection; a stream never holds more than the one piece that was offered last; nothing
//! follows its end.

use bytes::Bytes;
use http::StatusCode;
use http::header::{HeaderMap, HeaderName};

use super::super::fields;
use super::super::frame::{Code, HEAD, Head, LARGEST, flag, kind};
use super::super::hpack::encode;
use super::Session;
use super::streams::Key;
use crate::wire::fields::FieldBlock;

/// Most content of one frame, so that the frame is one record of TLS.
const CHUNK: usize = LARGEST - HEAD;
/// Less than this is not framed when more is there: what lies ready is written first.
pub(super) const LEAST: usize = 1024;
/// Room for a header block.
const ROOM: usize = 512;
/// Informational answers are dropped while so much waits to be written.
const TOO_MUCH: usize = 64 * 1024;

/// How a stream stands with what is sent on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It was reset, by whomever.
    Gone,
    /// It takes the next piece.
    Hungry,
    /// It waits for its turn, or for room.
    Busy,
    /// It waits for the client to open a window.
    Stalled,
    /// Its answer was framed whole.
    Done,
}

/// Fields that are made for an answer where it has none of that name.
#[derive(Debug, Clone, Copy)]
pub struct Extras<'a> {
    /// `Date`.
    pub date: &'a [u8],
    /// `Content-Length`.
    pub length: Option<u64>,
}

impl Session {
    /// How a stream stands.
    #[must_use]
    pub fn state(&self, key: Key) -> State {
        match self.streams.get(key) {
            None => State::Gone,
            Some(stream) if stream.done => State::Done,
            Some(stream) if stream.rest.is_empty() => State::Hungry,
            Some(stream) if stream.window <= 0 || self.window <= 0 => State::Stalled,
            Some(_) => State::Busy,
        }
    }

    /// Content that was sent on a stream.
    #[must_use]
    pub fn sent(&self, key: Key) -> u64 {
        self.streams.get(key).map_or(0, |stream| stream.sent)
    }

    /// Sends an informational answer, if the final one has not begun; says whether.
    pub fn inform(&mut self, key: Key, status: StatusCode, headers: &HeaderMap) -> bool {
        let early = self.streams.get(key).is_some_and(|it| !it.answered);
        if !early || self.out.len() > TOO_MUCH {
            return false;
        }
        self.block(key.id, false, |out| {
            encode::status(out, status);
            for (name, value) in headers {
                if !fields::is_of_a_connection(name) {
                    encode::field(out, name.as_str(), value);
                }
            }
        });
        true
    }

    /// Sends the head of an answer; `ends` says that nothing follows it. `show` shows fields that are not in
    /// `headers`, and says whether there are any, `Date` among them.
    pub fn answer(
        &mut self,
        key: Key,
        (status, headers): (StatusCode, &HeaderMap),
        extras: Extras<'_>,
        show: impl FnOnce(&mut dyn FieldBlock) -> bool,
        ends: bool,
    ) -> State {
        let Some(stream) = self.streams.get_mut(key) else {
            return State::Gone;
        };
        stream.answered = true;
        stream.done = ends;
        self.block(key.id, ends, |out| {
            encode::status(out, status);
            let dated = show(&mut encode::Block(out));
            fields_of(out, headers, extras, dated);
        });
        self.state(key)
    }

    /// Hands over a piece of content, after which nothing comes if it is the `last`. The stream must be
    /// hungry.
    pub fn offer(&mut self, key: Key, content: Bytes, last: bool) -> State {
        let Some(stream) = self.streams.get_mut(key) else {
            return State::Gone;
        };
        debug_assert!(stream.rest.is_empty() && !stream.done, "it has enough");
        if content.is_empty() {
            if last {
                return self.finish(key, None);
            }
            return State::Hungry;
        }
        stream.rest = content;
        stream.last = last;
        self.enqueue(key);
        self.fill();
        // Its owner is here and need not be told.
        if let Some(at) = self.hungry.iter().rposition(|hungry| *hungry == key) {
            self.hungry.swap_remove(at);
        }
        self.state(key)
    }

    /// Ends an answer whose content was framed whole.
    pub fn finish(&mut self, key: Key, trailers: Option<HeaderMap>) -> State {
        let Some(stream) = self.streams.get_mut(key) else {
            return State::Gone;
        };
        stream.done = true;
        match trailers.and_then(super::super::request::clean) {
            None => self.out.frame(kind::DATA, flag::END_STREAM, key.id, &[]),
            Some(trailers) => self.block(key.id, true, |out| {
                for (name, value) in &trailers {
                    encode::field(out, name.as_str(), value);
                }
            }),
        }
        State::Done
    }

    /// A stream is of no use any more: a client that is still sending need not go on.
    pub fn over(&mut self, key: Key) {
        if self.streams.get(key).is_some_and(|it| !it.incoming.ended) {
            self.rst(key.id, Code::No);
        }
        self.remove(key);
    }

    /// Breaks a stream off.
    pub fn reset(&mut self, key: Key, code: Code) {
        if self.streams.get(key).is_some() {
            self.rst(key.id, code);
            self.remove(key);
        }
    }

    /// Frames what is ready, as far as there is room. `next_hungry` tells afterwards whose state has
    /// changed.
    pub fn fill(&mut self) {
        if self.window <= 0 {
            return;
        }
        while self.window > 0 {
            let Some(key) = self.turn.front().copied() else {
                return;
            };
            let Some(stream) = self.streams.get_mut(key) else {
                self.turn.pop_front();
                continue;
            };
            let open = stream.window.min(self.window);
            let open = usize::try_from(open).unwrap_or(0).min(self.largest);
            let most = stream.rest.len().min(open).min(CHUNK);
            let room = self.out.room().saturating_sub(HEAD);
            if room < most && room < LEAST {
                return;
            }
            self.turn.pop_front();
            let content = stream.rest.split_to(most.min(room));
            let count = content.len();
            stream.sent += count as u64;
            stream.window -= i64::try_from(count).unwrap_or(0);
            self.window -= i64::try_from(count).unwrap_or(0);
            let over = stream.rest.is_empty();
            stream.done = over && stream.last;
            stream.queued = !over && stream.window > 0;
            if stream.queued {
                self.turn.push_back(key);
            } else {
                self.hungry.push(key);
            }
            if over {
                // Lets go of the memory, too.
                stream.rest = Bytes::new();
            }
            let flags = if stream.done { flag::END_STREAM } else { 0 };
            self.out.content(kind::DATA, flags, key.id, content);
        }
        // They are stalled from now on, and their owner keeps time of that.
        self.hungry.extend(&self.turn);
    }

    /// Whether framing can go on once there is room.
    #[must_use]
    pub fn can_fill(&self) -> bool {
        self.window > 0 && !self.turn.is_empty()
    }

    /// A header block, in as many frames as it needs.
    fn block(&mut self, id: u32, ends: bool, write: impl FnOnce(&mut Vec<u8>)) {
        let out = self.out.frames();
        // Mostly enough, so that the fields find room.
        out.reserve(ROOM);
        let start = out.len();
        out.extend_from_slice(&[0; HEAD]);
        self.encoder.begin(out);
        write(out);
        let length = out.len() - start - HEAD;
        let ends = if ends { flag::END_STREAM } else { 0 };
        let mut head = Head {
            length,
            kind: kind::HEADERS,
            flags: ends | flag::END_HEADERS,
            stream: id,
        };
        if length <= self.largest {
            if let Some(place) = out.get_mut(start..start + HEAD) {
                place.copy_from_slice(&head.bytes());
            }
            return;
        }
        let block = out.split_off(start + HEAD);
        out.truncate(start);
        head.flags = ends;
        let mut pieces = block.chunks(self.largest).peekable();
        while let Some(piece) = pieces.next() {
            if pieces.peek().is_none() {
                head.flags |= flag::END_HEADERS;
            }
            head.length = piece.len();
            out.extend_from_slice(&head.bytes());
            out.extend_from_slice(piece);
            head.kind = kind::CONTINUATION;
            head.flags = 0;
        }
    }
}

fn fields_of(out: &mut Vec<u8>, headers: &HeaderMap, extras: Extras<'_>, dated: bool) {
    let (mut dated, mut told) = (dated, false);
    for (name, value) in headers {
        if fields::is_of_a_connection(name) {
            continue;
        }
        dated |= *name == DATE;
        told |= *name == CONTENT_LENGTH;
        encode::field(out, name.as_str(), value);
    }
    if let Some(length) = extras.length.filter(|_| !told) {
        let mut digits = itoa::Buffer::new();
        encode::plain(
            out,
            CONTENT_LENGTH.as_str(),
            digits.format(length).as_bytes(),
        );
    }
    if !dated {
        encode::plain(out, DATE.as_str(), extras.date);
    }
}

const DATE: HeaderName = http::header::DATE;
const CONTENT_LENGTH: HeaderName = http::header::CONTENT_LENGTH;
