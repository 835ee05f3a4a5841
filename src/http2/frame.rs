//! What a frame is: its head, its type, its flags, and the codes that end things (RFC 9113 sections 4,
//! 6 and 7).
//!
//! `session` reads and writes frames with it. Invariant: a head that was parsed and is written again is
//! the same but for the reserved bit.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// What a client of HTTP/2 sends first (RFC 9113 section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Length of a frame's head.
pub(super) const HEAD: usize = 9;
/// Largest payload that is taken; the protocol's default, since Headgate announces no other.
pub(super) const LARGEST: usize = 16_384;
/// Largest window (RFC 9113 section 6.9.1).
pub(super) const LARGEST_WINDOW: i64 = 0x7fff_ffff;

/// Frame types (RFC 9113 section 6).
pub(super) mod kind {
    pub(in crate::http2) const DATA: u8 = 0;
    pub(in crate::http2) const HEADERS: u8 = 1;
    pub(in crate::http2) const PRIORITY: u8 = 2;
    pub(in crate::http2) const RST_STREAM: u8 = 3;
    pub(in crate::http2) const SETTINGS: u8 = 4;
    pub(in crate::http2) const PUSH_PROMISE: u8 = 5;
    pub(in crate::http2) const PING: u8 = 6;
    pub(in crate::http2) const GOAWAY: u8 = 7;
    pub(in crate::http2) const WINDOW_UPDATE: u8 = 8;
    pub(in crate::http2) const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub(super) mod flag {
    pub(in crate::http2) const ACK: u8 = 0x1;
    pub(in crate::http2) const END_STREAM: u8 = 0x1;
    pub(in crate::http2) const END_HEADERS: u8 = 0x4;
    pub(in crate::http2) const PADDED: u8 = 0x8;
    pub(in crate::http2) const PRIORITY: u8 = 0x20;
}

/// Identifiers of settings (RFC 9113 section 6.5.2, RFC 8441 section 3).
pub(super) mod setting {
    pub(in crate::http2) const ENABLE_PUSH: u16 = 2;
    pub(in crate::http2) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(in crate::http2) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(in crate::http2) const MAX_FRAME_SIZE: u16 = 5;
    pub(in crate::http2) const MAX_HEADER_LIST_SIZE: u16 = 6;
    pub(in crate::http2) const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

/// Codes of RFC 9113 section 7, as far as they are sent from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Nothing is wrong.
    No = 0x0,
    /// It is against the protocol.
    Protocol = 0x1,
    /// Something failed here.
    Internal = 0x2,
    /// More than a window holds, or a window that would be too large.
    FlowControl = 0x3,
    /// A frame for a stream that its sender had ended.
    StreamClosed = 0x5,
    /// A frame of the wrong size.
    FrameSize = 0x6,
    /// Nothing was done for the request.
    RefusedStream = 0x7,
    /// Nobody wants the rest.
    Cancel = 0x8,
    /// A header block that cannot be decoded.
    Compression = 0x9,
    /// Too much of what is allowed in itself.
    EnhanceYourCalm = 0xb,
}

/// A frame's head.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Head {
    pub(super) fn parse(bytes: [u8; HEAD]) -> Self {
        let [a, b, c, kind, flags, d, e, f, g] = bytes;
        Self {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([d & 0x7f, e, f, g]),
        }
    }

    /// The head of a payload of at most 2^24-1 bytes.
    pub(super) fn bytes(self) -> [u8; HEAD] {
        let length = u32::try_from(self.length).unwrap_or(u32::MAX);
        let [_, a, b, c] = length.to_be_bytes();
        let [d, e, f, g] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, d, e, f, g]
    }

    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_what_it_was_and_the_reserved_bit_is_not_looked_at() {
        let bytes = [0, 1, 2, kind::HEADERS, 5, 0x80, 0, 0, 7];
        let head = Head::parse(bytes);
        assert_eq!(
            head,
            Head {
                length: 258,
                kind: kind::HEADERS,
                flags: 5,
                stream: 7
            }
        );
        assert!(head.has(flag::END_HEADERS) && !head.has(flag::PADDED));
        assert_eq!(head.bytes(), [0, 1, 2, kind::HEADERS, 5, 0, 0, 0, 7]);
    }
}
