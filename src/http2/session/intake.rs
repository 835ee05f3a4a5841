//! From the bytes that come to frames, and what they bring about (RFC 9113 sections 4 and 6).
//!
//! A frame is judged by its head before anything of it is kept: its size, its stream, whether it may come now,
//! and whether there was too much of its kind. DATA is passed on in the pieces in which it comes;
//! other frames are whole before they are looked at, mostly where they lie. A stream error may be made an error
//! of the connection (section 5.4.1), and mostly is. Invariant: no byte at or behind the end of a faulty
//! frame has an effect.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::BytesMut;

use super::super::frame::{Code, HEAD, Head, LARGEST, PREFACE, flag, kind};
use super::blocks::Block;
use super::data::Data;
use super::history::Standing;
use super::{Check, DRAIN, Session, Wait, refuse};

/// Where in the stream of bytes a connection is.
#[derive(Debug, Default)]
pub(super) struct Intake {
    /// How much of the preface has come.
    preface: usize,
    /// The first SETTINGS have come.
    pub(super) settled: bool,
    /// A head that has not come whole.
    raw: [u8; HEAD],
    have: usize,
    /// A frame that was judged by its head, and what has come of its payload.
    pending: Option<Head>,
    payload: Vec<u8>,
    /// DATA that is coming in.
    pub(super) data: Option<Data>,
    /// A header block that is coming in, and what has come of it in earlier frames.
    pub(super) block: Option<Block>,
    pub(super) gathered: Vec<u8>,
    /// Number of header blocks so far.
    pub(super) blocks: u64,
}

impl Intake {
    pub(super) fn wait(&self) -> Wait {
        if !self.settled {
            Wait::Opening
        } else if self.block.is_some() {
            Wait::Block(self.blocks)
        } else {
            Wait::Request
        }
    }

    pub(super) fn rest(&mut self) {
        if self.payload.is_empty() {
            self.payload = Vec::new();
        }
        if self.block.is_none() {
            self.gathered = Vec::new();
        }
    }
}

impl Session {
    /// Takes the next bytes. Values of requests are copied into `arena`, of which each request keeps a slice.
    ///
    /// # Errors
    /// When the connection must end; nothing is to be taken after that.
    pub fn take(&mut self, bytes: &[u8], arena: &mut BytesMut) -> Check {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = if self.intake.preface < PREFACE.len() {
                self.preface(rest)?
            } else if let Some(data) = self.intake.data {
                self.data_bytes(data, rest)?
            } else if let Some(head) = self.intake.pending {
                self.payload_bytes(head, rest, arena)?
            } else {
                self.head_bytes(rest, arena)?
            };
        }
        Ok(())
    }

    fn preface<'a>(&mut self, bytes: &'a [u8]) -> Check<&'a [u8]> {
        let wanted = PREFACE.get(self.intake.preface..).unwrap_or_default();
        let (now, rest) = bytes.split_at(bytes.len().min(wanted.len()));
        if !wanted.starts_with(now) {
            return refuse(Code::Protocol, "the preface is not that of HTTP/2");
        }
        self.intake.preface = self.intake.preface.saturating_add(now.len());
        Ok(rest)
    }

    fn head_bytes<'a>(&mut self, bytes: &'a [u8], arena: &mut BytesMut) -> Check<&'a [u8]> {
        let intake = &mut self.intake;
        let (head, rest) = match bytes.split_first_chunk::<HEAD>() {
            Some((head, rest)) if intake.have == 0 => (*head, rest),
            _ => {
                let free = intake.raw.get_mut(intake.have..).unwrap_or_default();
                let count = free.len().min(bytes.len());
                let (now, rest) = bytes.split_at(count);
                for (to, from) in free.iter_mut().zip(now) {
                    *to = *from;
                }
                intake.have = intake.have.saturating_add(count);
                if intake.have < HEAD {
                    return Ok(rest);
                }
                intake.have = 0;
                (intake.raw, rest)
            }
        };
        let head = Head::parse(head);
        self.begin(head)?;
        if head.kind == kind::DATA {
            self.begin_data(head)?;
        } else if head.length == 0 {
            self.frame(head, &[], arena)?;
        } else {
            self.intake.pending = Some(head);
        }
        Ok(rest)
    }

    fn payload_bytes<'a>(
        &mut self,
        head: Head,
        bytes: &'a [u8],
        arena: &mut BytesMut,
    ) -> Check<&'a [u8]> {
        let wanted = head.length.saturating_sub(self.intake.payload.len());
        let (now, rest) = bytes.split_at(bytes.len().min(wanted));
        if now.len() == head.length {
            self.intake.pending = None;
            self.frame(head, now, arena)?;
            return Ok(rest);
        }
        self.intake.payload.extend_from_slice(now);
        if now.len() == wanted {
            self.intake.pending = None;
            let mut payload = std::mem::take(&mut self.intake.payload);
            self.frame(head, &payload, arena)?;
            payload.clear();
            self.intake.payload = payload;
        }
        Ok(rest)
    }

    /// Judges a frame by its head.
    fn begin(&mut self, head: Head) -> Check {
        if head.length > LARGEST {
            return refuse(Code::FrameSize, "a frame is too large");
        }
        if let Some(block) = self.intake.block
            && (head.kind != kind::CONTINUATION || head.stream != block.id)
        {
            return refuse(Code::Protocol, "a header block is interrupted");
        }
        if !self.intake.settled && (head.kind != kind::SETTINGS || head.has(flag::ACK)) {
            return refuse(Code::Protocol, "the first frame is not SETTINGS");
        }
        size(head)?;
        place(head)?;
        match head.kind {
            kind::DATA => Ok(()),
            kind::HEADERS => self.begin_block(head),
            kind::CONTINUATION => self.continuation(head),
            kind::PUSH_PROMISE => refuse(Code::Protocol, "a client cannot push"),
            kind::RST_STREAM | kind::WINDOW_UPDATE
                if head.stream != 0 && self.history.standing(head.stream) == Standing::Idle =>
            {
                refuse(Code::Protocol, "a frame for an idle stream")
            }
            _ => {
                if head.kind == kind::RST_STREAM {
                    let received = &mut self.endings.resets_received;
                    *received = received.saturating_add(1);
                }
                self.counts.control(head, self.terms.resets)
            }
        }
    }

    /// A frame that is no DATA is whole.
    fn frame(&mut self, head: Head, payload: &[u8], arena: &mut BytesMut) -> Check {
        match head.kind {
            kind::HEADERS => self.headers(head, payload, arena),
            kind::CONTINUATION => {
                self.intake.gathered.extend_from_slice(payload);
                if head.has(flag::END_HEADERS) {
                    let mut gathered = std::mem::take(&mut self.intake.gathered);
                    self.end_block(&gathered, arena)?;
                    gathered.clear();
                    self.intake.gathered = gathered;
                }
                Ok(())
            }
            kind::RST_STREAM => {
                self.history.end(head.stream);
                if let Some(key) = self.streams.find(head.stream) {
                    self.remove(key);
                    self.gone.push(key);
                }
                Ok(())
            }
            kind::SETTINGS => self.settings(head, payload),
            kind::PING => {
                if !head.has(flag::ACK) {
                    self.acknowledge(kind::PING, payload);
                } else if payload == DRAIN {
                    self.is_heard = true;
                }
                Ok(())
            }
            kind::GOAWAY => {
                self.is_left = true;
                Ok(())
            }
            kind::WINDOW_UPDATE => self.opens_window(head, payload),
            _ => Ok(()),
        }
    }
}

fn size(head: Head) -> Check {
    let Head { length, kind, .. } = head;
    let pad = usize::from(head.has(flag::PADDED));
    let fits = match kind {
        kind::DATA => length >= pad,
        kind::HEADERS if head.has(flag::PRIORITY) => length >= pad.saturating_add(5),
        kind::HEADERS => length >= pad,
        kind::PRIORITY => length == 5,
        kind::RST_STREAM | kind::WINDOW_UPDATE => length == 4,
        kind::SETTINGS if head.has(flag::ACK) => length == 0,
        kind::SETTINGS => length.is_multiple_of(6),
        kind::PING => length == 8,
        kind::GOAWAY => length >= 8,
        _ => true,
    };
    if fits {
        return Ok(());
    }
    refuse(Code::FrameSize, "a frame has the wrong size")
}

/// Which streams a frame may be for.
fn place(head: Head) -> Check {
    let fits = match head.kind {
        kind::SETTINGS | kind::PING | kind::GOAWAY => head.stream == 0,
        kind::DATA | kind::HEADERS => head.stream % 2 == 1,
        kind::PRIORITY | kind::RST_STREAM | kind::CONTINUATION => head.stream != 0,
        _ => true,
    };
    if fits {
        return Ok(());
    }
    refuse(
        Code::Protocol,
        "a frame is for a stream that it cannot be for",
    )
}
