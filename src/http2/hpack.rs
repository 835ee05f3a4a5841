//! What a header block amounts to, before anything is made of it (RFC 7541).
//!
//! `frames` measures each block on its way to the h2 crate, which decodes it once more. h2 says
//! `PROTOCOL_ERROR` where a block cannot be decoded, drops the pseudo-header fields of trailers and cuts
//! what is too large in silence; here such a block is known for what it is. Only lengths are kept of
//! the dynamic table, and repeated fields cost a look-up each. Invariant: the table here has the same
//! entries as the decoder's behind it.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::VecDeque;

use super::huffman;

/// Size of the dynamic table, which is the protocol's default: Headgate announces no other.
const TABLE: usize = 4096;
/// What a field costs beyond its bytes (RFC 7541 section 4.1).
const OVERHEAD: usize = 32;
/// No string may claim to be longer; what a block holds is bounded long before.
const LONGEST: usize = 1 << 24;

/// What a block came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// Fields, pseudo-header fields included.
    pub fields: usize,
    /// Names, values and 32 bytes a field (RFC 9113 section 10.5.1).
    pub bytes: usize,
    /// Whether there is a pseudo-header field.
    pub pseudo: bool,
    /// Whether `:path` has a fragment, which is no part of a request's target (RFC 9110 section 7.1).
    pub fragment: bool,
}

/// Why a block is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It cannot be decoded: `COMPRESSION_ERROR` (RFC 9113 section 4.3).
    Undecodable,
    /// It amounts to more than was allowed for.
    TooLarge,
}

/// What a name means here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Field,
    Pseudo,
    Path,
}

impl Kind {
    fn of(name: &[u8]) -> Self {
        match name {
            b":path" => Self::Path,
            [b':', ..] => Self::Pseudo,
            _ => Self::Field,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    name: usize,
    value: usize,
    kind: Kind,
}

impl Entry {
    fn size(self) -> usize {
        self.name
            .saturating_add(self.value)
            .saturating_add(OVERHEAD)
    }
}

/// The lengths of a decoder's dynamic table.
#[derive(Debug)]
pub struct Measure {
    table: VecDeque<Entry>,
    size: usize,
    max: usize,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Default for Measure {
    fn default() -> Self {
        Self {
            table: VecDeque::new(),
            size: 0,
            max: TABLE,
            name: Vec::new(),
            value: Vec::new(),
        }
    }
}

impl Measure {
    /// Measures a whole block, of at most `fields` fields and `bytes` bytes.
    ///
    /// # Errors
    /// When it cannot be decoded or comes to more. The connection is then of no use any more: the
    /// table is behind its peer's.
    pub fn block(&mut self, block: &[u8], fields: usize, bytes: usize) -> Result<Section, Refusal> {
        let mut input = Input(block);
        let mut section = Section::default();
        while let Some(first) = input.peek() {
            let entry = match first {
                0x80.. => {
                    let index = input.integer(7)?;
                    self.entry(index)?
                }
                0x40.. => {
                    let entry = self.literal(&mut input, 6)?;
                    self.insert(entry);
                    entry
                }
                0x20..=0x3f => {
                    if section.fields > 0 {
                        return Err(Refusal::Undecodable);
                    }
                    self.resize(input.integer(5)?)?;
                    continue;
                }
                _ => self.literal(&mut input, 4)?,
            };
            section.fields = section.fields.saturating_add(1);
            section.bytes = section.bytes.saturating_add(entry.size());
            section.pseudo |= entry.kind != Kind::Field;
            // An entry of the table was looked at when it came.
            section.fragment |=
                entry.kind == Kind::Path && first < 0x80 && self.value.contains(&b'#');
            if section.fields > fields || section.bytes > bytes {
                return Err(Refusal::TooLarge);
            }
        }
        Ok(section)
    }

    fn literal(&mut self, input: &mut Input<'_>, prefix: u32) -> Result<Entry, Refusal> {
        let index = input.integer(prefix)?;
        let (name, kind) = if index == 0 {
            let length = input.string(&mut self.name)?;
            (length, Kind::of(&self.name))
        } else {
            let entry = self.entry(index)?;
            (entry.name, entry.kind)
        };
        let value = input.string(&mut self.value)?;
        Ok(Entry { name, value, kind })
    }

    fn entry(&self, index: usize) -> Result<Entry, Refusal> {
        let index = index.checked_sub(1).ok_or(Refusal::Undecodable)?;
        if let Some((name, value)) = STATIC.get(index) {
            return Ok(Entry {
                name: name.len(),
                value: usize::from(*value),
                kind: Kind::of(name.as_bytes()),
            });
        }
        let index = index.saturating_sub(STATIC.len());
        self.table.get(index).copied().ok_or(Refusal::Undecodable)
    }

    fn insert(&mut self, entry: Entry) {
        let size = entry.size();
        self.shrink_to(self.max.saturating_sub(size));
        if size <= self.max {
            self.table.push_front(entry);
            self.size = self.size.saturating_add(size);
        }
    }

    fn resize(&mut self, max: usize) -> Result<(), Refusal> {
        if max > TABLE {
            return Err(Refusal::Undecodable);
        }
        self.max = max;
        self.shrink_to(max);
        Ok(())
    }

    fn shrink_to(&mut self, size: usize) {
        while self.size > size {
            let Some(entry) = self.table.pop_back() else {
                return;
            };
            self.size = self.size.saturating_sub(entry.size());
        }
    }
}

/// What is left of a block.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn byte(&mut self) -> Result<u8, Refusal> {
        let (first, rest) = self.0.split_first().ok_or(Refusal::Undecodable)?;
        self.0 = rest;
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
        // Four more bytes, as the decoder behind takes.
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value = value.saturating_add(usize::from(byte & 0x7f) << shift);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Refusal::Undecodable)
    }

    /// RFC 7541 section 5.2. What it stands for is left in `into`; its length is returned.
    fn string(&mut self, into: &mut Vec<u8>) -> Result<usize, Refusal> {
        let coded = self.peek().ok_or(Refusal::Undecodable)? & 0x80 != 0;
        let length = self.integer(7)?;
        if length > LONGEST {
            return Err(Refusal::Undecodable);
        }
        let (text, rest): (&'a [u8], _) = self
            .0
            .split_at_checked(length)
            .ok_or(Refusal::Undecodable)?;
        self.0 = rest;
        into.clear();
        if !coded {
            into.extend_from_slice(text);
        } else if !huffman::decode(text, into) {
            return Err(Refusal::Undecodable);
        }
        Ok(into.len())
    }
}

/// The static table (RFC 7541 appendix A): names, and lengths of values.
const STATIC: [(&str, u8); 61] = [
    (":authority", 0),
    (":method", 3),
    (":method", 4),
    (":path", 1),
    (":path", 11),
    (":scheme", 4),
    (":scheme", 5),
    (":status", 3),
    (":status", 3),
    (":status", 3),
    (":status", 3),
    (":status", 3),
    (":status", 3),
    (":status", 3),
    ("accept-charset", 0),
    ("accept-encoding", 13),
    ("accept-language", 0),
    ("accept-ranges", 0),
    ("accept", 0),
    ("access-control-allow-origin", 0),
    ("age", 0),
    ("allow", 0),
    ("authorization", 0),
    ("cache-control", 0),
    ("content-disposition", 0),
    ("content-encoding", 0),
    ("content-language", 0),
    ("content-length", 0),
    ("content-location", 0),
    ("content-range", 0),
    ("content-type", 0),
    ("cookie", 0),
    ("date", 0),
    ("etag", 0),
    ("expect", 0),
    ("expires", 0),
    ("from", 0),
    ("host", 0),
    ("if-match", 0),
    ("if-modified-since", 0),
    ("if-none-match", 0),
    ("if-range", 0),
    ("if-unmodified-since", 0),
    ("last-modified", 0),
    ("link", 0),
    ("location", 0),
    ("max-forwards", 0),
    ("proxy-authenticate", 0),
    ("proxy-authorization", 0),
    ("range", 0),
    ("referer", 0),
    ("refresh", 0),
    ("retry-after", 0),
    ("server", 0),
    ("set-cookie", 0),
    ("strict-transport-security", 0),
    ("transfer-encoding", 0),
    ("user-agent", 0),
    ("vary", 0),
    ("via", 0),
    ("www-authenticate", 0),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    fn measure(measure: &mut Measure, block: &str) -> Result<Section, Refusal> {
        measure.block(&hex(block), 100, 1000)
    }

    /// Appendix C.4: three requests of one connection, Huffman coded. The sizes of the dynamic table are
    /// the RFC's own.
    #[test]
    fn the_requests_of_rfc_7541_appendix_c_4_leave_its_table_sizes() {
        let mut it = Measure::default();
        for (block, fields, table) in [
            ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", 4, 57),
            ("8286 84be 5886 a8eb 1064 9cbf", 5, 110),
            (
                "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
                5,
                164,
            ),
        ] {
            let section = measure(&mut it, block).unwrap();
            assert_eq!((section.fields, it.size), (fields, table), "{block}");
            assert!(section.pseudo);
        }
    }

    /// Appendix C.5 has a table of 256 bytes, so that entries are evicted.
    #[test]
    fn the_responses_of_rfc_7541_appendix_c_5_evict_what_it_says() {
        let mut it = Measure::default();
        it.resize(256).unwrap();
        for (block, table) in [
            (
                "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133
                 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70
                 6c65 2e63 6f6d",
                222,
            ),
            ("4803 3330 37c1 c0bf", 222),
        ] {
            measure(&mut it, block).unwrap();
            assert_eq!(it.size, table);
        }
    }

    #[test]
    fn what_cannot_be_decoded_is_told_from_what_is_too_large() {
        for block in [
            "80",              // index 0
            "be",              // an index beyond the tables
            "ff ffff ffff 7f", // an integer of six bytes
            "82 3f e1 1f",     // a size update after a field
            "3f e2 1f",        // a size update above what was announced
            "40 05 61",        // a string that is cut
            "40 81 ff 00",     // padding of eight bits
            "41",              // no value
        ] {
            assert_eq!(
                measure(&mut Measure::default(), block),
                Err(Refusal::Undecodable),
                "{block}"
            );
        }
        let mut it = Measure::default();
        assert_eq!(it.block(&[0x82; 101], 100, 100_000), Err(Refusal::TooLarge));
        assert_eq!(it.block(&[0x82; 100], 100, 1000), Err(Refusal::TooLarge));
        assert_eq!(measure(&mut it, "3f e1 1f").unwrap(), Section::default());
    }

    #[test]
    fn a_fragment_and_a_pseudo_header_are_seen_however_they_are_named() {
        let mut it = Measure::default();
        let mut see = |block: &[u8]| it.block(block, 100, 1000).unwrap();
        assert!(see(b"\x04\x04/a#b").fragment);
        assert!(see(b"\x00\x05:path\x02#b").fragment);
        assert!(!see(b"\x04\x02/a").fragment);
        assert!(!see(b"\x00\x01x\x02#b").fragment);
        assert!(see(b"\x40\x02:x\x01b").pseudo);
        assert!(see(b"\xbe").pseudo, "from the dynamic table");
        assert!(!see(b"\x00\x01x\x00").pseudo);
    }

    #[test]
    fn any_bytes_are_measured_without_a_panic_and_within_the_table() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut it = Measure::default();
        for _ in 0..20_000 {
            let block: Vec<u8> = (0..random.usize(..64)).map(|_| random.u8(..)).collect();
            drop(it.block(&block, 100, 100_000));
            assert!(it.size <= it.max && it.max <= TABLE);
            assert_eq!(
                it.size,
                it.table.iter().map(|entry| entry.size()).sum::<usize>()
            );
        }
    }
}
