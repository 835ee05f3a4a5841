//! A look at the frames that come in, before the h2 crate sees them (RFC 9113 section 4).
//!
//! `server::http2` runs every byte through a `Walk` on its way from the socket to h2. h2 is right about
//! most of the protocol and silent about the rest: this counts the frames that cost work and carry
//! none, and finds what h2 takes for something else or does not look at:
//!
//! | found here                                   | h2 by itself                                |
//! |----------------------------------------------|---------------------------------------------|
//! | a frame of the wrong size                    | `PROTOCOL_ERROR` for `FRAME_SIZE_ERROR`     |
//! | a header block that cannot be decoded        | `PROTOCOL_ERROR` for `COMPRESSION_ERROR`    |
//! | a window above 2^31-1 in SETTINGS            | `PROTOCOL_ERROR` for `FLOW_CONTROL_ERROR`   |
//! | DATA or HEADERS on a stream that was ended   | `PROTOCOL_ERROR` for `STREAM_CLOSED`        |
//! | a first frame that is not SETTINGS           | taken                                       |
//! | trailers with pseudo-header fields           | taken, the fields dropped                   |
//! | trailers that are too large                  | taken, cut                                  |
//! | PING, SETTINGS, PRIORITY, ... without end    | taken                                       |
//!
//! A stream error may be made an error of the connection (RFC 9113 section 5.4.1), and here it always
//! is. Invariant: no byte at or behind the end of a faulty frame is let through.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::hpack::{Measure, Refusal};

/// What a client of HTTP/2 sends first (RFC 9113 section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Length of a frame's head.
const HEAD: usize = 9;
/// Largest payload; the protocol's default, since Headgate announces no other.
const LARGEST: u32 = 16_384;
/// CONTINUATION frames of one block; more than its bytes need are a flood.
const CONTINUATIONS: u32 = 8;
/// How many times what is announced a header block may come to before the connection ends; in
/// between, the request alone is refused.
pub const EXCESS: usize = 2;

const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Codes of RFC 9113 section 7, as far as they are sent from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// It is against the protocol.
    Protocol = 0x1,
    /// A window would be too large.
    FlowControl = 0x3,
    /// A frame for a stream that its sender had ended.
    StreamClosed = 0x5,
    /// A frame of the wrong size.
    FrameSize = 0x6,
    /// A header block that cannot be decoded.
    Compression = 0x9,
    /// Too much of what is allowed in itself.
    EnhanceYourCalm = 0xb,
}

/// What there can be too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flood {
    /// Requests taken back (CVE-2023-44487).
    Reset,
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

/// How much a client may send.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Fields of a header section.
    pub fields: usize,
    /// Bytes of a header section, as `hpack::Section` counts them.
    pub bytes: usize,
    /// Requests that may be taken back in a window, besides a tenth of those that were sent in it.
    pub resets: u32,
}

/// What came in the current window of time.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    opened: u32,
    resets: u32,
    pings: u32,
    settings: u32,
    priorities: u32,
    window_updates: u32,
    empty_data: u32,
    unknown: u32,
    /// Kilobytes that were sent meanwhile: they are what window updates are for.
    sent: u32,
}

/// Which streams were opened and ended by the client: the last 128, newest in the lowest bit. About
/// older ones h2 has the word.
#[derive(Debug, Default)]
struct Streams {
    /// The newest one, counted from 1.
    newest: u32,
    opened: u128,
    ended: u128,
}

/// What is known of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Idle,
    Open,
    Ended,
    /// Never opened, or too long ago.
    Unknown,
}

impl Streams {
    fn bit(&self, number: u32) -> Option<u128> {
        1_u128.checked_shl(self.newest.checked_sub(number)?)
    }

    fn standing(&self, id: u32) -> Standing {
        let number = number(id);
        if number > self.newest {
            return Standing::Idle;
        }
        match self.bit(number) {
            Some(bit) if self.ended & bit != 0 => Standing::Ended,
            Some(bit) if self.opened & bit != 0 => Standing::Open,
            _ => Standing::Unknown,
        }
    }

    fn open(&mut self, id: u32) {
        let number = number(id);
        let by = number.saturating_sub(self.newest);
        self.opened = self.opened.checked_shl(by).unwrap_or(0) | 1;
        self.ended = self.ended.checked_shl(by).unwrap_or(0);
        self.newest = number;
    }

    fn end(&mut self, id: u32) {
        if let Some(bit) = self.bit(number(id)) {
            self.ended |= bit;
        }
    }
}

/// 1 for the first stream that a client can open, 2 for the second.
fn number(id: u32) -> u32 {
    (id >> 1).saturating_add(1)
}

/// A header block that is coming in.
#[derive(Debug, Clone, Copy)]
struct Block {
    stream: u32,
    trailers: bool,
    continuations: u32,
}

/// A frame's head.
#[derive(Debug, Clone, Copy, Default)]
struct Head {
    length: u32,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Head {
    fn parse(bytes: [u8; HEAD]) -> Self {
        let [a, b, c, kind, flags, d, e, f, g] = bytes;
        Self {
            length: u32::from_be_bytes([0, a, b, c]),
            kind,
            flags,
            stream: u32::from_be_bytes([d & 0x7f, e, f, g]),
        }
    }

    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Preface,
    Head,
    Payload,
}

/// Frame types (RFC 9113 section 6).
mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const PRIORITY: u8 = 2;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PUSH_PROMISE: u8 = 5;
    pub(super) const PING: u8 = 6;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const WINDOW_UPDATE: u8 = 8;
    pub(super) const CONTINUATION: u8 = 9;
}

/// What comes in on one connection.
#[derive(Debug)]
pub struct Walk {
    bounds: Bounds,
    part: Part,
    /// How much of the preface or of a head has come.
    have: usize,
    raw: [u8; HEAD],
    head: Head,
    /// Bytes of the payload that are still to come.
    left: u32,
    /// Bytes of a setting that have come.
    setting: [u8; 6],
    setting_have: usize,
    block: Option<Block>,
    /// What has come of a block, when it does not come at once.
    gathered: Vec<u8>,
    blocks: u64,
    settled: bool,
    streams: Streams,
    measure: Measure,
    counts: Counts,
    resets: u64,
}

type Check = Result<(), Violation>;

fn refuse<T>(code: Code, what: &'static str) -> Result<T, Violation> {
    Err(Violation {
        code,
        flood: None,
        what,
    })
}

fn calm<T>(flood: Flood, what: &'static str) -> Result<T, Violation> {
    Err(Violation {
        code: Code::EnhanceYourCalm,
        flood: Some(flood),
        what,
    })
}

/// Counts one more of something; false beyond the limit.
fn spend(count: &mut u32, limit: u32) -> bool {
    *count = count.saturating_add(1);
    *count <= limit
}

impl Walk {
    /// A connection of which nothing has come yet.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            part: Part::Preface,
            have: 0,
            raw: [0; HEAD],
            head: Head::default(),
            left: 0,
            setting: [0; 6],
            setting_have: 0,
            block: None,
            gathered: Vec::new(),
            blocks: 0,
            settled: false,
            streams: Streams::default(),
            measure: Measure::default(),
            counts: Counts::default(),
            resets: 0,
        }
    }

    /// Whether the preface and the first SETTINGS are here.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// The number of the header block that is not whole yet, if there is one.
    #[must_use]
    pub fn open_block(&self) -> Option<u64> {
        self.block.is_some().then_some(self.blocks)
    }

    /// Requests that the client has taken back.
    #[must_use]
    pub fn resets(&self) -> u64 {
        self.resets
    }

    /// A window of time is over; what it had too little of to matter is forgotten.
    pub fn next_window(&mut self) {
        self.counts = Counts::default();
    }

    /// So many bytes went out: as many more window updates may come in.
    pub fn sent(&mut self, bytes: usize) {
        let kilobytes = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        self.counts.sent = self.counts.sent.saturating_add(kilobytes);
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// How many of them may be let through, and what is wrong with the rest. Nothing is to be taken
    /// after that.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), (usize, Violation)> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let before = bytes.len().saturating_sub(rest.len());
            rest = match self.part {
                Part::Preface => self.preface(rest),
                Part::Head => self.head(rest),
                Part::Payload => self.payload(rest),
            }
            .map_err(|violation| (before, violation))?;
            // A frame without a payload ends with its head.
            if self.part == Part::Payload && self.left == 0 {
                self.end().map_err(|violation| (before, violation))?;
            }
        }
        Ok(())
    }

    fn preface<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Violation> {
        let wanted = PREFACE.get(self.have..).unwrap_or_default();
        let (now, rest) = bytes.split_at(bytes.len().min(wanted.len()));
        if !wanted.starts_with(now) {
            return refuse(Code::Protocol, "the preface is not that of HTTP/2");
        }
        self.have = self.have.saturating_add(now.len());
        if self.have == PREFACE.len() {
            self.have = 0;
            self.part = Part::Head;
        }
        Ok(rest)
    }

    fn head<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Violation> {
        let free = self.raw.get_mut(self.have..).unwrap_or_default();
        let count = free.len().min(bytes.len());
        let (now, rest) = bytes.split_at(count);
        for (to, from) in free.iter_mut().zip(now) {
            *to = *from;
        }
        self.have = self.have.saturating_add(count);
        if self.have == HEAD {
            self.have = 0;
            self.head = Head::parse(self.raw);
            self.left = self.head.length;
            self.begin()?;
            self.part = Part::Payload;
        }
        Ok(rest)
    }

    /// Judges a frame by its head.
    fn begin(&mut self) -> Check {
        let head = self.head;
        if head.length > LARGEST {
            return refuse(Code::FrameSize, "a frame is too large");
        }
        if let Some(block) = self.block
            && (head.kind != kind::CONTINUATION || head.stream != block.stream)
        {
            return refuse(Code::Protocol, "a header block is interrupted");
        }
        if !self.settled && (head.kind != kind::SETTINGS || head.has(ACK)) {
            return refuse(Code::Protocol, "the first frame is not SETTINGS");
        }
        self.size()?;
        self.place()?;
        match head.kind {
            kind::DATA => self.data(),
            kind::HEADERS => self.headers(),
            kind::CONTINUATION => self.continuation(),
            kind::PUSH_PROMISE => refuse(Code::Protocol, "a client cannot push"),
            _ => self.control(),
        }
    }

    fn size(&self) -> Check {
        let Head { length, kind, .. } = self.head;
        let pad = u32::from(self.head.has(PADDED));
        let fits = match kind {
            kind::DATA => length >= pad,
            kind::HEADERS if self.head.has(PRIORITY) => length >= pad.saturating_add(5),
            kind::HEADERS => length >= pad,
            kind::PRIORITY => length == 5,
            kind::RST_STREAM | kind::WINDOW_UPDATE => length == 4,
            kind::SETTINGS if self.head.has(ACK) => length == 0,
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
    fn place(&self) -> Check {
        let fits = match self.head.kind {
            kind::SETTINGS | kind::PING | kind::GOAWAY => self.head.stream == 0,
            kind::DATA | kind::HEADERS => self.head.stream % 2 == 1,
            kind::PRIORITY | kind::RST_STREAM | kind::CONTINUATION => self.head.stream != 0,
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

    fn data(&mut self) -> Check {
        let Head { stream, length, .. } = self.head;
        match self.streams.standing(stream) {
            Standing::Idle => return refuse(Code::Protocol, "DATA for an idle stream"),
            Standing::Ended => {
                return refuse(Code::StreamClosed, "DATA after the end of its stream");
            }
            Standing::Open | Standing::Unknown => {}
        }
        if self.head.has(END_STREAM) {
            self.streams.end(stream);
        } else if length == 0 && !spend(&mut self.counts.empty_data, 100) {
            return calm(Flood::EmptyData, "too many empty DATA frames");
        }
        Ok(())
    }

    fn headers(&mut self) -> Check {
        let stream = self.head.stream;
        let standing = self.streams.standing(stream);
        match standing {
            Standing::Idle => {
                self.streams.open(stream);
                self.counts.opened = self.counts.opened.saturating_add(1);
            }
            Standing::Ended => {
                return refuse(Code::StreamClosed, "HEADERS after the end of their stream");
            }
            Standing::Open => {}
            Standing::Unknown => {
                return refuse(
                    Code::Protocol,
                    "HEADERS for a stream below those that were opened",
                );
            }
        }
        if self.head.has(END_STREAM) {
            self.streams.end(stream);
        }
        self.block = Some(Block {
            stream,
            trailers: standing == Standing::Open,
            continuations: 0,
        });
        self.blocks = self.blocks.wrapping_add(1);
        self.gathered.clear();
        Ok(())
    }

    fn continuation(&mut self) -> Check {
        let Some(block) = &mut self.block else {
            return refuse(Code::Protocol, "CONTINUATION without HEADERS");
        };
        let most = self.bounds.bytes.saturating_mul(EXCESS);
        let bytes = self
            .gathered
            .len()
            .saturating_add(self.head.length as usize);
        if !spend(&mut block.continuations, CONTINUATIONS) || bytes > most {
            return calm(Flood::Continuation, "too many CONTINUATION frames");
        }
        Ok(())
    }

    fn control(&mut self) -> Check {
        let Head { kind, stream, .. } = self.head;
        let counts = &mut self.counts;
        let streams = counts.opened.saturating_mul(4);
        let (flood, count, limit) = match kind {
            kind::PRIORITY => (Flood::Priority, &mut counts.priorities, 1000),
            kind::SETTINGS => (Flood::Settings, &mut counts.settings, 50),
            kind::PING => (
                Flood::Ping,
                &mut counts.pings,
                500_u32.saturating_add(counts.sent),
            ),
            kind::RST_STREAM => {
                self.resets = self.resets.wrapping_add(1);
                self.streams.end(stream);
                let limit = self.bounds.resets.saturating_add(counts.opened / 10);
                (Flood::Reset, &mut counts.resets, limit)
            }
            kind::WINDOW_UPDATE => {
                let limit = counts.sent.saturating_mul(4).saturating_add(1000);
                (Flood::WindowUpdate, &mut counts.window_updates, limit)
            }
            kind::GOAWAY => return Ok(()),
            _ => (Flood::Unknown, &mut counts.unknown, 200),
        };
        let limit = match flood {
            Flood::Reset | Flood::Ping | Flood::Settings => limit,
            _ => limit.saturating_add(streams),
        };
        if spend(count, limit) {
            return Ok(());
        }
        calm(flood, "too many frames that carry nothing")
    }

    fn payload<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Violation> {
        let count = bytes.len().min(self.left as usize);
        let (now, rest) = bytes.split_at(count);
        let whole = self.left == self.head.length && now.len() == self.left as usize;
        self.left = self
            .left
            .saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
        match self.head.kind {
            kind::SETTINGS => self.settings(now)?,
            kind::HEADERS if whole && self.head.has(END_HEADERS) => {
                let fragment = fragment(self.head, now)?;
                self.end_block(fragment)?;
            }
            kind::HEADERS | kind::CONTINUATION => self.gathered.extend_from_slice(now),
            _ => {}
        }
        Ok(rest)
    }

    fn settings(&mut self, bytes: &[u8]) -> Check {
        for byte in bytes {
            if let Some(slot) = self.setting.get_mut(self.setting_have) {
                *slot = *byte;
            }
            self.setting_have = self.setting_have.saturating_add(1);
            if self.setting_have < self.setting.len() {
                continue;
            }
            self.setting_have = 0;
            let [a, b, c, d, e, f] = self.setting;
            let value = u32::from_be_bytes([c, d, e, f]);
            match u16::from_be_bytes([a, b]) {
                // ENABLE_PUSH and ENABLE_CONNECT_PROTOCOL are flags.
                2 | 8 if value > 1 => return refuse(Code::Protocol, "a setting is not 0 or 1"),
                4 if value > 0x7fff_ffff => {
                    return refuse(Code::FlowControl, "the initial window is too large");
                }
                5 if !(LARGEST..1 << 24).contains(&value) => {
                    return refuse(Code::Protocol, "the largest frame size is out of range");
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A frame is whole.
    fn end(&mut self) -> Check {
        self.part = Part::Head;
        let head = self.head;
        match head.kind {
            kind::SETTINGS => self.settled = true,
            kind::HEADERS if self.block.is_some() && !self.gathered.is_empty() => {
                let length = fragment(head, &self.gathered)?.len();
                self.gathered.drain(..before(head));
                self.gathered.truncate(length);
            }
            _ => {}
        }
        let ends = matches!(head.kind, kind::HEADERS | kind::CONTINUATION) && head.has(END_HEADERS);
        if ends && self.block.is_some() {
            let gathered = std::mem::take(&mut self.gathered);
            self.end_block(&gathered)?;
        }
        Ok(())
    }

    fn end_block(&mut self, bytes: &[u8]) -> Check {
        let Some(block) = self.block.take() else {
            return Ok(());
        };
        let Bounds {
            fields,
            bytes: size,
            ..
        } = self.bounds;
        let excess = if block.trailers { 1 } else { EXCESS };
        let (fields, size) = (fields.saturating_mul(excess), size.saturating_mul(excess));
        let section = match self.measure.block(bytes, fields, size) {
            Ok(section) => section,
            Err(Refusal::TooLarge) => return calm(Flood::Fields, "too many header fields"),
            Err(Refusal::Undecodable) => {
                return refuse(Code::Compression, "a header block cannot be decoded");
            }
        };
        if block.trailers && section.pseudo {
            return refuse(Code::Protocol, "pseudo-header fields in trailers");
        }
        if section.fragment {
            return refuse(Code::Protocol, "a fragment in :path");
        }
        Ok(())
    }
}

/// Bytes before a header block's part in its HEADERS frame.
fn before(head: Head) -> usize {
    let priority = if head.has(PRIORITY) { 5 } else { 0 };
    usize::from(head.has(PADDED)).saturating_add(priority)
}

/// A header block's part in its HEADERS frame: without padding, without priority.
fn fragment(head: Head, payload: &[u8]) -> Result<&[u8], Violation> {
    let padding = match payload.first() {
        Some(length) if head.has(PADDED) => usize::from(*length),
        _ => 0,
    };
    let fragment = payload.get(before(head)..).and_then(|rest| {
        let length = rest.len().checked_sub(padding)?;
        rest.get(..length)
    });
    match fragment {
        Some(fragment) => Ok(fragment),
        None => refuse(Code::Protocol, "more padding than payload"),
    }
}

/// What a side sends, counted by code.
#[derive(Debug, Default)]
pub struct Tally {
    raw: [u8; HEAD + 8],
    have: usize,
    left: usize,
}

/// A frame that ends something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// RST_STREAM with this code.
    Stream(u32),
    /// GOAWAY with this code.
    Connection(u32),
}

impl Tally {
    /// Takes the next bytes that go out, all of them frames; `on` is told of each that ends something.
    pub fn take(&mut self, mut bytes: &[u8], mut on: impl FnMut(Ending)) {
        loop {
            let skipped = self.left.min(bytes.len());
            self.left = self.left.saturating_sub(skipped);
            bytes = bytes.get(skipped..).unwrap_or_default();
            if bytes.is_empty() {
                return;
            }
            let wanted = self.wanted();
            let free = self.raw.get_mut(self.have..wanted).unwrap_or_default();
            let count = free.len().min(bytes.len());
            let (now, rest) = bytes.split_at(count);
            for (to, from) in free.iter_mut().zip(now) {
                *to = *from;
            }
            bytes = rest;
            self.have = self.have.saturating_add(count);
            // A head that is whole may want some of its payload too.
            if self.have == self.wanted() {
                self.judge(&mut on);
            }
        }
    }

    /// How many bytes are to be gathered: a head, or a head and the code behind it.
    fn wanted(&self) -> usize {
        let [_, _, _, kind, ..] = self.raw;
        match kind {
            kind::RST_STREAM if self.have >= HEAD => HEAD.saturating_add(4),
            kind::GOAWAY if self.have >= HEAD => HEAD.saturating_add(8),
            _ => HEAD,
        }
    }

    fn judge(&mut self, on: &mut impl FnMut(Ending)) {
        let [a, b, c, kind, _, _, _, _, _, p, q, r, s, w, x, y, z] = self.raw;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let taken = self.have.saturating_sub(HEAD);
        match kind {
            kind::RST_STREAM => on(Ending::Stream(u32::from_be_bytes([p, q, r, s]))),
            kind::GOAWAY => on(Ending::Connection(u32::from_be_bytes([w, x, y, z]))),
            _ => {}
        }
        self.left = length.saturating_sub(taken);
        self.have = 0;
    }
}

#[cfg(test)]
mod tests;
