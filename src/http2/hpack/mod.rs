//! Header compression (RFC 7541), in both directions.
//!
//! `decode` turns a header block into fields in the form in which the road takes them: each value is copied once,
//! from the block into a buffer of the worker that all requests slice, and what is in a table is ready made.
//! `encode` needs no table: answers name static entries and spell out the rest, which costs some bytes
//! on the wire and nothing per connection. Invariant: the decoder's table never exceeds the 4096 bytes of
//! the protocol's default, as RFC 7541 counts them, and none of its entries keeps a larger buffer alive.

mod decode;
pub(super) mod encode;
mod field;
mod huffman;
mod table;

pub(super) use decode::{Come, Decoder, Refusal};
pub(super) use encode::Encoder;
pub(super) use field::{Field, Flaw};
pub(super) use table::Entry;

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test fails by it")]
mod tests;
