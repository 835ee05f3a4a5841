//! From a header block to its fields (RFC 7541 section 6).
//!
//! `request` takes one field after the other and stops when there are too many. Invariant: a value is
//! copied once, into the worker's buffer, or into memory of its own when the table keeps it.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::{Bytes, BytesMut};

use super::field::{Field, Name};
use super::huffman;
use super::table::{Entry, OVERHEAD, Table};

/// No string may claim to be longer; what a block holds is bounded long before.
const LONGEST: usize = 1 << 24;
/// The longest name that is looked at.
const LONGEST_NAME: usize = 8 * 1024;

/// Why a block ends its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http2) enum Refusal {
    /// It cannot be decoded: `COMPRESSION_ERROR` (RFC 9113 section 4.3).
    Undecodable,
    /// It amounts to more than was allowed for.
    TooLarge,
    /// It holds what no message may: `PROTOCOL_ERROR`.
    Illegal(&'static str),
}

/// A field that has come. It is lent: fields are large, and moving each of them costs more than reading it.
#[derive(Debug)]
pub(in crate::http2) enum Come<'a> {
    /// A table keeps it.
    Kept(&'a Entry),
    /// It goes with its request, which may take what it needs of it.
    Passing(&'a mut Entry),
}

impl Come<'_> {
    pub(in crate::http2) fn entry(&self) -> &Entry {
        match self {
            Self::Kept(entry) => entry,
            Self::Passing(entry) => entry,
        }
    }
}

/// What one direction of a connection has indexed so far.
#[derive(Debug, Default)]
pub(in crate::http2) struct Decoder {
    pub(super) table: Table,
    /// A name that is spelled out by the Huffman code.
    name: BytesMut,
}

impl Decoder {
    /// Gives `take` the fields of a block, one after the other, until it has enough. After an error the
    /// connection is of no use any more: the table is behind its peer's.
    pub(in crate::http2) fn read(
        &mut self,
        block: &[u8],
        arena: &mut BytesMut,
        mut take: impl FnMut(Come<'_>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let mut input = Input::new(block);
        while let Some(first) = input.peek() {
            match first {
                0x80.. => {
                    let index = input.integer(7)?;
                    input.begun = true;
                    take(Come::Kept(self.table.entry(index)?))?;
                }
                0x40.. => {
                    let (name, coded, text) = self.literal(&mut input, 6)?;
                    let entry = entry(name, kept(coded, text, arena)?)?;
                    take(Come::Kept(&entry))?;
                    self.table.insert(entry);
                }
                0x20..=0x3f => {
                    if input.begun {
                        return Err(Refusal::Undecodable);
                    }
                    self.table.resize(input.integer(5)?)?;
                }
                _ => {
                    let (name, coded, text) = self.literal(&mut input, 4)?;
                    let mut entry = entry(name, passing(coded, text, arena)?)?;
                    if first & 0x10 != 0 {
                        // RFC 7541 section 6.2.3: so it has to go on.
                        entry.field.never_index();
                    }
                    take(Come::Passing(&mut entry))?;
                }
            }
        }
        Ok(())
    }

    /// The name of a literal, and its value as it stands there.
    fn literal<'a>(
        &mut self,
        input: &mut Input<'a>,
        prefix: u32,
    ) -> Result<(Name, bool, &'a [u8]), Refusal> {
        input.begun = true;
        let index = input.integer(prefix)?;
        let name = if index == 0 {
            self.spelled(input)?
        } else {
            self.table.name(index)?
        };
        let (coded, text) = input.string()?;
        Ok((name, coded, text))
    }

    fn spelled(&mut self, input: &mut Input<'_>) -> Result<Name, Refusal> {
        let (coded, text) = input.string()?;
        if text.len() > LONGEST_NAME {
            return Err(Refusal::TooLarge);
        }
        if !coded {
            return Name::parse(text);
        }
        self.name.clear();
        huffman::decode(text, &mut self.name)?;
        Name::parse(&self.name)
    }
}

fn entry(name: Name, value: Bytes) -> Result<Entry, Refusal> {
    let size = name.len().saturating_add(value.len());
    let (field, flaw) = Field::make(name, value)?;
    Ok(Entry {
        field,
        flaw,
        size: size.saturating_add(OVERHEAD),
    })
}

/// A value that outlives its request.
fn kept(coded: bool, text: &[u8], arena: &mut BytesMut) -> Result<Bytes, Refusal> {
    if !coded {
        return Ok(Bytes::copy_from_slice(text));
    }
    let before = arena.len();
    huffman::decode(text, arena)?;
    let value = Bytes::copy_from_slice(arena.get(before..).unwrap_or_default());
    arena.truncate(before);
    Ok(value)
}

/// A value that goes with its request.
fn passing(coded: bool, text: &[u8], arena: &mut BytesMut) -> Result<Bytes, Refusal> {
    if text.is_empty() {
        return Ok(Bytes::new());
    }
    if coded {
        huffman::decode(text, arena)?;
    } else {
        arena.reserve(text.len());
        arena.extend_from_slice(text);
    }
    Ok(arena.split().freeze())
}

/// What is left of a block.
struct Input<'a> {
    rest: &'a [u8],
    /// A field came already.
    begun: bool,
}

impl<'a> Input<'a> {
    fn new(block: &'a [u8]) -> Self {
        Self {
            rest: block,
            begun: false,
        }
    }

    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn byte(&mut self) -> Result<u8, Refusal> {
        let (first, rest) = self.rest.split_first().ok_or(Refusal::Undecodable)?;
        self.rest = rest;
        Ok(*first)
    }

    /// RFC 7541 section 5.1.
    fn integer(&mut self, prefix: u32) -> Result<usize, Refusal> {
        let mask = 1_u8.wrapping_shl(prefix).wrapping_sub(1);
        let first = self.byte()? & mask;
        let mut value = usize::from(first);
        if first < mask {
            return Ok(value);
        }
        // Four more bytes are more than anything here can need.
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value = value.saturating_add(usize::from(byte & 0x7f) << shift);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Refusal::Undecodable)
    }

    /// RFC 7541 section 5.2: whether it is Huffman coded, and its bytes.
    fn string(&mut self) -> Result<(bool, &'a [u8]), Refusal> {
        let coded = self.peek().ok_or(Refusal::Undecodable)? & 0x80 != 0;
        let length = self.integer(7)?;
        if length > LONGEST {
            return Err(Refusal::Undecodable);
        }
        let (text, rest): (&'a [u8], _) = self
            .rest
            .split_at_checked(length)
            .ok_or(Refusal::Undecodable)?;
        self.rest = rest;
        Ok((coded, text))
    }
}
