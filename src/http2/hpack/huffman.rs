//! The Huffman code of HPACK (RFC 7541 section 5.2 and appendix B), in the direction of decoding.
//!
//! `decode` takes with it what a header block spells out by the code; nothing is encoded by it. The code is
//! canonical: codes of one length follow each other in the order of their symbols, so the lengths
//! alone define it. Invariant: what is accepted ends in at most seven one bits and holds no EOS.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::BytesMut;

use super::decode::Refusal;

/// Length of each symbol's code in bits; the last one is EOS.
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

/// Length of the longest code.
const LONGEST: usize = 30;
const EOS: u16 = 256;

/// The codes of one length.
#[derive(Clone, Copy)]
struct Row {
    first: u32,
    count: u32,
    /// Where their symbols begin in `Code::symbols`.
    at: u32,
}

struct Code {
    rows: [Row; LONGEST + 1],
    symbols: [u16; 257],
    /// By the next eight bits: length and symbol of the code that they begin with, 0 if it is longer.
    short: [u16; 256],
}

static CODE: Code = build();

#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "runs in the compiler, which refuses what would overflow; no symbol or length exceeds 16 bits"
)]
const fn build() -> Code {
    let mut code = Code {
        rows: [Row {
            first: 0,
            count: 0,
            at: 0,
        }; LONGEST + 1],
        symbols: [0; 257],
        short: [0; 256],
    };
    let (mut next, mut placed, mut length) = (0_u32, 0, 1);
    while length <= LONGEST {
        next <<= 1;
        code.rows[length].first = next;
        code.rows[length].at = placed as u32;
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                code.symbols[placed] = symbol as u16;
                placed += 1;
                if length <= 8 {
                    let mut fill = (next << (8 - length)) as usize;
                    let end = ((next + 1) << (8 - length)) as usize;
                    while fill < end {
                        code.short[fill] = (length as u16) << 8 | symbol as u16;
                        fill += 1;
                    }
                }
                next += 1;
            }
            symbol += 1;
        }
        code.rows[length].count = placed as u32 - code.rows[length].at;
        length += 1;
    }
    code
}

/// Bits that were read and not yet used; the lowest `count` of `value`.
struct Bits {
    value: u64,
    count: u32,
}

/// What the bits at hand begin with.
enum Next {
    Symbol(u8, u32),
    /// A code of which more bits must come.
    More,
    /// No symbol has it.
    Nothing,
}

impl Bits {
    /// The next `wanted` bits, which must be there.
    fn peek(&self, wanted: u32) -> u32 {
        let shifted = self.value >> self.count.saturating_sub(wanted);
        let mask = 1_u64.wrapping_shl(wanted).wrapping_sub(1);
        u32::try_from(shifted & mask).unwrap_or(u32::MAX)
    }

    fn next(&self) -> Next {
        if self.count >= 8 {
            let entry = CODE.short.get(self.peek(8) as usize).copied().unwrap_or(0);
            let [length, symbol] = entry.to_be_bytes();
            if length > 0 {
                return Next::Symbol(symbol, u32::from(length));
            }
        }
        let from = if self.count >= 8 { 9 } else { 1 };
        for (length, row) in CODE.rows.iter().enumerate().skip(from) {
            let length = u32::try_from(length).unwrap_or(u32::MAX);
            if length > self.count {
                return Next::More;
            }
            let index = self.peek(length).wrapping_sub(row.first);
            if index < row.count {
                let at = row.at.wrapping_add(index) as usize;
                return match CODE.symbols.get(at) {
                    Some(&symbol) if symbol != EOS => {
                        Next::Symbol(u8::try_from(symbol).unwrap_or(0), length)
                    }
                    _ => Next::Nothing,
                };
            }
        }
        Next::Nothing
    }
}

/// Appends to `out` what `coded` stands for.
///
/// # Errors
/// When it is no valid string (RFC 7541 section 5.2).
pub(super) fn decode(coded: &[u8], out: &mut BytesMut) -> Result<(), Refusal> {
    let before = out.len();
    // No code is shorter than five bits.
    let most = (coded.len().saturating_mul(8) / 5).saturating_add(1);
    out.resize(before.saturating_add(most), 0);
    let space = out.get_mut(before..).unwrap_or_default();
    let length = spell(coded, space);
    out.truncate(before.saturating_add(length.unwrap_or(0)));
    length.map(drop).ok_or(Refusal::Undecodable)
}

/// Writes what `coded` stands for; how much that is, if it is a valid string.
fn spell(coded: &[u8], space: &mut [u8]) -> Option<usize> {
    let room = space.len();
    let mut slots = space.iter_mut();
    let mut bits = Bits { value: 0, count: 0 };
    for byte in coded {
        bits.value = bits.value << 8 | u64::from(*byte);
        bits.count = bits.count.saturating_add(8);
        while bits.count >= 8 {
            match bits.next() {
                Next::Symbol(symbol, length) => {
                    *slots.next()? = symbol;
                    bits.count = bits.count.saturating_sub(length);
                }
                Next::More => break,
                Next::Nothing => return None,
            }
        }
    }
    while let Next::Symbol(symbol, length) = bits.next() {
        *slots.next()? = symbol;
        bits.count = bits.count.saturating_sub(length);
    }
    let ones = 1_u64.wrapping_shl(bits.count).wrapping_sub(1);
    let padded = bits.count < 8 && bits.value & ones == ones;
    padded.then(|| room.saturating_sub(slots.len()))
}

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

    fn decoded(text: &str) -> Option<String> {
        let mut out = BytesMut::from("before");
        let result = decode(&hex(text), &mut out);
        let text = String::from_utf8(out.to_vec()).unwrap();
        let text = text.strip_prefix("before").unwrap().to_owned();
        result.ok().map(|()| text)
    }

    #[test]
    fn the_strings_of_rfc_7541_appendix_c_come_out() {
        for (coded, text) in [
            ("f1e3 c2e5 f23a 6ba0 ab90 f4ff", "www.example.com"),
            ("a8eb 1064 9cbf", "no-cache"),
            ("25a8 49e9 5ba9 7d7f", "custom-key"),
            ("25a8 49e9 5bb8 e8b4 bf", "custom-value"),
            ("6402", "302"),
            (
                "d07a be94 1054 d444 a820 0595 040b 8166 e082 a62d 1bff",
                "Mon, 21 Oct 2013 20:13:21 GMT",
            ),
            (
                "9d29 ad17 1863 c78f 0b97 c8e9 ae82 ae43 d3",
                "https://www.example.com",
            ),
            ("", ""),
        ] {
            assert_eq!(decoded(coded).as_deref(), Some(text), "{coded}");
        }
    }

    #[test]
    fn padding_of_eight_bits_or_of_zeros_and_eos_are_refused() {
        for coded in [
            "ff",
            "a8eb 1064 9cbf ff",
            "a8eb 1064 9cbe",
            "00 00",
            "ffff ffff",
        ] {
            assert_eq!(decoded(coded), None, "{coded}");
        }
    }
}
