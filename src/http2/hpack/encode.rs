//! From fields to a header block (RFC 7541 section 6).
//!
//! Answers are encoded without a dynamic table: names that are static are named by number, everything else
//! is spelled out. That costs a client some bytes and Headgate neither memory nor a look-up. The
//! first block says so by a size update to nothing, which no later setting of the client can fall
//! below. Invariant: what must not be stored on the way is marked as never indexed.

use http::StatusCode;
use http::header::HeaderValue;

use crate::wire::fields::{EachField, FieldBlock};

use super::table;

/// Encodes the blocks of one direction of a connection.
#[derive(Debug, Default)]
pub(in crate::http2) struct Encoder {
    begun: bool,
}

/// A literal that is not indexed, and one that nobody may index (RFC 7541 section 6.2).
const NOT: u8 = 0x00;
const NEVER: u8 = 0x10;

impl Encoder {
    /// Begins a block.
    pub(in crate::http2) fn begin(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.begun, true) {
            // A size update to nothing (RFC 7541 section 4.2).
            out.push(0x20);
        }
    }
}

/// `:status`.
pub(in crate::http2) fn status(out: &mut Vec<u8>, status: StatusCode) {
    let number: u8 = match status.as_u16() {
        200 => 8,
        204 => 9,
        206 => 10,
        304 => 11,
        400 => 12,
        404 => 13,
        500 => 14,
        _ => {
            out.push(NOT | 8);
            string(out, status.as_str().as_bytes());
            return;
        }
    };
    out.push(0x80 | number);
}

/// A field whose name is in lower case.
pub(in crate::http2) fn field(out: &mut Vec<u8>, name: &str, value: &HeaderValue) {
    let is_secret = value.is_sensitive() || name == "set-cookie";
    literal(out, if is_secret { NEVER } else { NOT }, name);
    string(out, value.as_bytes());
}

/// A field whose value is made here.
pub(in crate::http2) fn plain(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    let is_secret = name == "set-cookie";
    literal(out, if is_secret { NEVER } else { NOT }, name);
    string(out, value);
}

/// A block that is being written.
pub(in crate::http2) struct Block<'a>(pub(in crate::http2) &'a mut Vec<u8>);

impl FieldBlock for Block<'_> {
    fn field(&mut self, name: &str, value: &[u8]) {
        plain(self.0, name, value);
    }

    fn encoded(&mut self, fields: &[u8]) {
        self.0.extend_from_slice(fields);
    }

    fn encode(&self, fields: &dyn Fn(EachField<'_>)) -> Box<[u8]> {
        // Without a dynamic table, a field is encoded alike wherever it stands.
        let mut out = Vec::new();
        fields(&mut |name, value| plain(&mut out, name, value));
        out.into()
    }
}

fn literal(out: &mut Vec<u8>, kind: u8, name: &str) {
    match table::number(name) {
        Some(number) => integer(out, kind, 4, usize::from(number)),
        None => {
            out.push(kind);
            string(out, name.as_bytes());
        }
    }
}

/// RFC 7541 section 5.2, as it is.
fn string(out: &mut Vec<u8>, text: &[u8]) {
    integer(out, 0, 7, text.len());
    out.extend_from_slice(text);
}

/// RFC 7541 section 5.1.
fn integer(out: &mut Vec<u8>, bits: u8, prefix: u32, value: usize) {
    let mask = (1_u8 << prefix) - 1;
    match u8::try_from(value) {
        Ok(small) if small < mask => out.push(bits | small),
        _ => {
            out.push(bits | mask);
            long_integer(out, value - usize::from(mask));
        }
    }
}

#[cold]
fn long_integer(out: &mut Vec<u8>, mut rest: usize) {
    while rest >= 0x80 {
        out.push(u8::try_from(rest & 0x7f).unwrap_or(0) | 0x80);
        rest >>= 7;
    }
    out.push(u8::try_from(rest).unwrap_or(0));
}
