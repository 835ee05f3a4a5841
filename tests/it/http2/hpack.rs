//! HPACK as a client needs it: literals out, everything in.
//!
//! Written again from RFC 7541 and not taken from `src`, so that a mistake there is not made twice.

use std::collections::{HashMap, VecDeque};

/// Appendix B: length of each symbol's code; the last is EOS.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// Appendix A.
const STATIC: &str = ":authority|:method GET|:method POST|:path /|:path /index.html|:scheme http|\
:scheme https|:status 200|:status 204|:status 206|:status 304|:status 400|:status 404|:status 500|\
accept-charset|accept-encoding gzip, deflate|accept-language|accept-ranges|accept|\
access-control-allow-origin|age|allow|authorization|cache-control|content-disposition|\
content-encoding|content-language|content-length|content-location|content-range|content-type|cookie|\
date|etag|expect|expires|from|host|if-match|if-modified-since|if-none-match|if-range|\
if-unmodified-since|last-modified|link|location|max-forwards|proxy-authenticate|\
proxy-authorization|range|referer|refresh|retry-after|server|set-cookie|strict-transport-security|\
transfer-encoding|user-agent|vary|via|www-authenticate";

pub(crate) type Fields = Vec<(String, String)>;

/// A string as it is: length and bytes (section 5.2).
fn string(text: &[u8], out: &mut Vec<u8>) {
    integer(text.len(), 7, 0, out);
    out.extend_from_slice(text);
}

/// Section 5.1.
pub(crate) fn integer(value: usize, prefix: u32, bits: u8, out: &mut Vec<u8>) {
    let mask = (1_usize << prefix) - 1;
    if value < mask {
        out.push(bits | u8::try_from(value).unwrap());
        return;
    }
    out.push(bits | u8::try_from(mask).unwrap());
    let mut rest = value - mask;
    while rest >= 128 {
        out.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    out.push(u8::try_from(rest).unwrap());
}

/// Fields as literals that are not indexed (section 6.2.2), whatever is in them.
pub(crate) fn literals(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        string(name.as_bytes(), &mut out);
        string(value.as_bytes(), &mut out);
    }
    out
}

/// A field that may be no field, as a literal that is not indexed.
pub(crate) fn raw(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = vec![0];
    string(name, &mut out);
    string(value, &mut out);
    out
}

/// The same, to be entered into the dynamic table (section 6.2.1).
pub(crate) fn entered(name: &str, value: &str) -> Vec<u8> {
    let mut out = raw(name.as_bytes(), value.as_bytes());
    out[0] = 0x40;
    out
}

/// The same, never to be indexed (section 6.2.3).
pub(crate) fn never_indexed(name: &str, value: &str) -> Vec<u8> {
    let mut out = raw(name.as_bytes(), value.as_bytes());
    out[0] = 0x10;
    out
}

/// An update of the dynamic table's size (section 6.3).
pub(crate) fn resized(size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    integer(size, 5, 0x20, &mut out);
    out
}

/// The code of each symbol and its length, in the order of their values (Appendix B is canonical).
fn codes() -> Vec<(u8, u32, usize)> {
    let (mut codes, mut code) = (Vec::new(), 0);
    for length in 1..=30 {
        code <<= 1;
        for (symbol, _) in LENGTHS.iter().enumerate().filter(|(_, l)| **l == length) {
            codes.push((length, code, symbol));
            code += 1;
        }
    }
    codes
}

/// A string in Huffman's code, its length before it.
pub(crate) fn huffman(text: &[u8]) -> Vec<u8> {
    let codes: HashMap<usize, (u8, u32)> = codes()
        .into_iter()
        .map(|(length, code, symbol)| (symbol, (length, code)))
        .collect();
    let mut bits = Vec::new();
    for byte in text {
        let (length, code) = codes[&usize::from(*byte)];
        bits.extend((0..length).rev().map(|at| code >> at & 1 == 1));
    }
    bits.resize(bits.len().next_multiple_of(8), true);
    let bytes: Vec<u8> = bits
        .chunks(8)
        .map(|byte| byte.iter().fold(0, |all, bit| all << 1 | u8::from(*bit)))
        .collect();
    let mut out = Vec::new();
    integer(bytes.len(), 7, 0x80, &mut out);
    out.extend(bytes);
    out
}

pub(crate) struct Decoder {
    table: VecDeque<(String, String)>,
    codes: HashMap<(u8, u32), usize>,
    /// What the encoder has said that the table may hold.
    size: usize,
    /// What we have allowed, as far as it was acknowledged.
    limit: usize,
    /// The next block begins with an update to at most this (section 4.2).
    due: Option<usize>,
    /// Names of fields that are never to be indexed.
    pub(crate) never: Vec<String>,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        let codes = codes().into_iter();
        let codes = codes.map(|(length, code, symbol)| ((length, code), symbol));
        Self {
            table: VecDeque::new(),
            codes: codes.collect(),
            size: 4096,
            limit: 4096,
            due: None,
            never: Vec::new(),
        }
    }

    /// The encoder has acknowledged this limit.
    pub(crate) fn allow(&mut self, limit: usize) {
        self.limit = limit;
        if limit < self.size {
            self.due = Some(self.due.map_or(limit, |due| due.min(limit)));
        }
    }

    /// A whole block. Panics where it cannot be decoded.
    pub(crate) fn block(&mut self, mut block: &[u8]) -> Fields {
        let input = &mut block;
        let (mut fields, mut updates) = (Vec::new(), 0);
        if let Some(due) = self.due.take() {
            let mut start = *input;
            assert_eq!(start[0] >> 5, 1, "no size update where {due} is due");
            let size = read(&mut start, 5);
            assert!(size <= due, "a size of {size} where {due} is due");
        }
        while let Some(first) = input.first().copied() {
            let (field, keep) = match first {
                128.. => (self.entry(read(input, 7)), false),
                64.. => (self.literal(input, 6), true),
                32.. => {
                    assert!(fields.is_empty(), "a size update after a field");
                    updates += 1;
                    assert!(updates <= 2, "a third size update");
                    self.size = read(input, 5);
                    assert!(self.size <= self.limit, "{} of {}", self.size, self.limit);
                    self.shrink();
                    continue;
                }
                16.. => {
                    let field = self.literal(input, 4);
                    self.never.push(field.0.clone());
                    (field, false)
                }
                _ => (self.literal(input, 4), false),
            };
            if keep {
                self.table.push_front(field.clone());
                self.shrink();
            }
            fields.push(field);
        }
        assert!(self.size <= self.limit, "no size update");
        fields
    }

    fn shrink(&mut self) {
        let sizes = |table: &VecDeque<(String, String)>| -> usize {
            table.iter().map(|(n, v)| n.len() + v.len() + 32).sum()
        };
        while sizes(&self.table) > self.size {
            self.table.pop_back();
        }
    }

    fn entry(&self, index: usize) -> (String, String) {
        let known: Vec<&str> = STATIC.split('|').collect();
        match known.get(index - 1) {
            Some(entry) => {
                let (name, value) = entry.split_once(' ').unwrap_or((entry, ""));
                (name.to_owned(), value.to_owned())
            }
            None => self.table[index - 1 - known.len()].clone(),
        }
    }

    fn literal(&self, input: &mut &[u8], prefix: u32) -> (String, String) {
        let name = match read(input, prefix) {
            0 => self.string(input),
            index => self.entry(index).0,
        };
        (name, self.string(input))
    }

    fn string(&self, input: &mut &[u8]) -> String {
        let coded = input[0] & 128 != 0;
        let length = read(input, 7);
        let (text, rest) = input.split_at(length);
        *input = rest;
        let text = if coded {
            self.huffman(text)
        } else {
            text.to_vec()
        };
        String::from_utf8(text).unwrap()
    }

    fn huffman(&self, text: &[u8]) -> Vec<u8> {
        let (mut out, mut code, mut length) = (Vec::new(), 0, 0);
        for bit in text
            .iter()
            .flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1))
        {
            code = code << 1 | u32::from(bit);
            length += 1;
            if let Some(symbol) = self.codes.get(&(length, code)) {
                out.push(u8::try_from(*symbol).expect("EOS"));
                (code, length) = (0, 0);
            }
        }
        assert!(length < 8 && code == (1 << length) - 1, "padding");
        out
    }
}

fn read(input: &mut &[u8], prefix: u32) -> usize {
    let mask = (1_usize << prefix) - 1;
    let mut value = usize::from(input[0]) & mask;
    *input = &input[1..];
    if value < mask {
        return value;
    }
    for shift in (0..).step_by(7) {
        let byte = usize::from(input[0]);
        *input = &input[1..];
        value += (byte & 127) << shift;
        if byte < 128 {
            break;
        }
    }
    value
}

/// Blocks that a server may not send after its client has allowed a smaller table.
mod tables {
    use super::*;

    fn after(limits: &[usize], block: &[u8]) {
        let mut decoder = Decoder::new();
        decoder.block(&entered("x-it", "one"));
        for limit in limits {
            decoder.allow(*limit);
        }
        decoder.block(block);
    }

    #[test]
    fn are_told_and_kept() {
        after(&[], &[0x80 | 62]);
        after(&[0], &resized(0));
        after(
            &[50, 8192],
            &[resized(50), resized(8192), vec![0x80 | 62]].concat(),
        );
        after(&[8192], &[0x80 | 62]);
    }

    #[test]
    #[should_panic(expected = "no size update")]
    fn are_not_left_unsaid() {
        after(&[100], &[0x80 | 62]);
    }

    #[test]
    #[should_panic(expected = "where 0 is due")]
    fn are_not_skipped_when_they_were_the_smallest() {
        after(&[0, 4096], &resized(4096));
    }

    #[test]
    #[should_panic(expected = "8193 of 8192")]
    fn are_not_larger_than_allowed() {
        after(&[8192], &resized(8193));
    }

    #[test]
    #[should_panic(expected = "Out of bounds access")]
    fn lose_what_does_not_fit() {
        after(&[38], &[resized(38), vec![0x80 | 62]].concat());
    }
}
