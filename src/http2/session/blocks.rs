//! Header blocks: requests and trailers (RFC 9113 sections 4.3, 6.2 and 6.10).
//!
//! `intake` hands over their frames, `request` makes something of a block that is whole. Invariant: every
//! block is decoded, wanted or not, since the table of the next one depends on it; and none holds more than twice what
//! a head may have.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::{Bytes, BytesMut};

use super::super::frame::{Code, Head, flag};
use super::super::hpack::Refusal;
use super::super::request::{self, About, Asked, EXCESS, Read};
use super::history::Standing;
use super::streams::{Incoming, Stream};
use super::{Check, Flood, Session, calm, refuse};

/// CONTINUATION frames that any block may have; more than its bytes need are a flood.
const CONTINUATIONS: usize = 5;

/// A header block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    pub(super) id: u32,
    is_for: For,
    ends: bool,
    continuations: usize,
}

/// What a header block is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    Request,
    Trailers,
    /// A stream that is gone here.
    Nobody,
}

impl Session {
    pub(super) fn begin_block(&mut self, head: Head) -> Check {
        let id = head.stream;
        let is_for = match self.history.standing(id) {
            Standing::Idle => {
                self.history.open(id);
                self.counts.opened = self.counts.opened.saturating_add(1);
                For::Request
            }
            Standing::Ended => {
                return refuse(Code::StreamClosed, "HEADERS after the end of their stream");
            }
            Standing::Open if self.streams.find(id).is_some() => For::Trailers,
            Standing::Open => For::Nobody,
            Standing::Unknown => {
                return refuse(
                    Code::Protocol,
                    "HEADERS for a stream below those that were opened",
                );
            }
        };
        let ends = head.has(flag::END_STREAM);
        if ends {
            self.history.end(id);
        }
        self.intake.block = Some(Block {
            id,
            is_for,
            ends,
            continuations: 0,
        });
        self.intake.blocks = self.intake.blocks.wrapping_add(1);
        Ok(())
    }

    pub(super) fn continuation(&mut self, head: Head) -> Check {
        let Some(block) = &mut self.intake.block else {
            return refuse(Code::Protocol, "CONTINUATION without HEADERS");
        };
        let most = self.terms.bounds.bytes.saturating_mul(EXCESS);
        let bytes = self.intake.gathered.len().saturating_add(head.length);
        block.continuations = block.continuations.saturating_add(1);
        let frames = CONTINUATIONS.max(most >> 14);
        if block.continuations > frames || bytes > most {
            return calm(Flood::Continuation, "too many CONTINUATION frames");
        }
        Ok(())
    }

    pub(super) fn headers(&mut self, head: Head, payload: &[u8], arena: &mut BytesMut) -> Check {
        let fragment = fragment(head, payload)?;
        if head.has(flag::END_HEADERS) {
            return self.end_block(fragment, arena);
        }
        self.intake.gathered.clear();
        self.intake.gathered.extend_from_slice(fragment);
        Ok(())
    }

    pub(super) fn end_block(&mut self, bytes: &[u8], arena: &mut BytesMut) -> Check {
        let Some(block) = self.intake.block.take() else {
            return Ok(());
        };
        match block.is_for {
            For::Request => self.request(block, bytes, arena),
            For::Trailers => self.trailers(block, bytes, arena),
            For::Nobody => {
                // The table must not fall behind.
                request::trailers(&mut self.decoder, bytes, arena, self.terms.bounds)
                    .map(drop)
                    .or_else(refused)
            }
        }
    }

    fn request(&mut self, block: Block, bytes: &[u8], arena: &mut BytesMut) -> Check {
        let about = About {
            bounds: self.terms.bounds,
            scheme: self.terms.scheme,
            follows: !block.ends,
        };
        let read = match request::read(&mut self.decoder, bytes, arena, about) {
            Ok(read) => read,
            Err(refusal) => return refused(refusal),
        };
        let id = block.id;
        if self.final_id.is_some_and(|last| id > last) {
            return Ok(());
        }
        self.newest = id;
        let asked = match read {
            Read::Request(asked) => asked,
            Read::Malformed(what) => {
                tracing::debug!(what, "a malformed request");
                return self.fail(id, Code::Protocol);
            }
        };
        if self.streams.len() >= self.terms.streams as usize {
            return self.fail(id, Code::RefusedStream);
        }
        self.open(id, asked);
        Ok(())
    }

    fn open(&mut self, id: u32, asked: Asked) {
        let incoming = Incoming {
            window: i64::from(self.terms.stream_window),
            credit: 0,
            data: BytesMut::new(),
            trailers: None,
            left: asked.length,
            ended: !asked.follows,
            unread: false,
            reader: None,
        };
        let key = self.streams.insert(Stream {
            id,
            window: self.initial_window,
            rest: Bytes::new(),
            last: false,
            queued: false,
            answered: false,
            done: false,
            sent: 0,
            tunnel: asked.tunnel.is_some(),
            incoming,
        });
        self.opened.push_back((key, asked));
    }

    fn trailers(&mut self, block: Block, bytes: &[u8], arena: &mut BytesMut) -> Check {
        let trailers = request::trailers(&mut self.decoder, bytes, arena, self.terms.bounds);
        let trailers = match trailers {
            Ok(trailers) => trailers,
            Err(refusal) => return refused(refusal),
        };
        let Some(key) = self.streams.find(block.id) else {
            return Ok(());
        };
        let whole = match (trailers, self.streams.get_mut(key)) {
            // RFC 9113 section 8.5: nothing but DATA follows the head of a tunnel.
            (Some(trailers), Some(stream)) if block.ends && !stream.tunnel => {
                stream.incoming.trailers = request::clean(trailers);
                self.end_incoming(key)
            }
            _ => false,
        };
        if whole {
            return Ok(());
        }
        self.fail(block.id, Code::Protocol)
    }
}

fn refused(refusal: Refusal) -> Check {
    match refusal {
        Refusal::TooLarge => calm(Flood::Fields, "too many header fields"),
        Refusal::Undecodable => refuse(Code::Compression, "a header block cannot be decoded"),
        Refusal::Illegal(what) => refuse(Code::Protocol, what),
    }
}

/// A header block's part in its HEADERS frame: without padding, without priority.
fn fragment(head: Head, payload: &[u8]) -> Check<&[u8]> {
    let padding = match payload.first() {
        Some(length) if head.has(flag::PADDED) => usize::from(*length),
        _ => 0,
    };
    let priority = if head.has(flag::PRIORITY) { 5 } else { 0 };
    let before = usize::from(head.has(flag::PADDED)).saturating_add(priority);
    let fragment = payload.get(before..).and_then(|rest| {
        let length = rest.len().checked_sub(padding)?;
        rest.get(..length)
    });
    match fragment {
        Some(fragment) => Ok(fragment),
        None => refuse(Code::Protocol, "more padding than payload"),
    }
}
