//! HTTP/1.1 as bytes: heads and body framing (RFC 9112), both directions, without sockets.
//!
//! | direction | heads                              | bodies              |
//! |-----------|------------------------------------|---------------------|
//! | in        | `RequestParser`, `AnswerParser`    | `Decoder`           |
//! | out       | `RequestEncoder`, `begin_answer`   | `Encoder`           |
//!
//! `server` uses it towards clients, `upstream` towards endpoints; both own their sockets, deadlines
//! and buffers. Invariant: what two parties could read in two ways is refused, never repaired, so
//! that every message that passes has exactly one beginning and one end.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod chunked;
mod decoder;
mod encoder;
mod fields;
mod framing;
mod head;
mod lines;
mod memory;
mod names;
mod request;
mod response;

pub use decoder::{Decoded, Decoder};
pub use encoder::{Encoder, LengthError};
pub use framing::Framing;
pub use head::{
    Fields, RequestEncoder, begin_answer, encode_informational, encode_request, end_answer,
};
pub use request::{Expect, RequestHead, RequestParser};
pub use response::{AnswerFault, AnswerHead, AnswerParser};

/// Bounds of a message's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of a head, from the first byte of its start line to the end of its empty line.
    pub head_bytes: usize,
    /// Most field lines.
    pub fields: usize,
    /// Most bytes of a request's target.
    pub target_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 32 * 1024,
            fields: 100,
            target_bytes: 8 * 1024,
        }
    }
}

#[cfg(test)]
mod tests;
