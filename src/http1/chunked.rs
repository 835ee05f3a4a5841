//! The chunked transfer coding on its way in (RFC 9112 section 7.1).
//!
//! `Decoder` drives it. Invariant: a size has 1 to 16 hexadecimal digits and nothing else, every line
//! ends in CRLF, and extensions and trailers have a bound for the whole body.

use bytes::{Buf as _, Bytes, BytesMut};
use http::HeaderMap;
use memchr::memchr;

use crate::body::BodyFault;
use crate::wire::{Fault, may_trail};

use super::decoder::Decoded;
use super::fields;
use super::lines::Lines;

/// Most digits of a size: all of a `u64`.
const DIGITS: usize = 16;
/// Most bytes of all extensions of a body.
const EXTENSIONS: usize = 16 * 1024;
/// Most bytes of a trailer section, and most fields in it.
const TRAILER_BYTES: usize = 16 * 1024;
const TRAILERS: usize = 64;

/// A chunked body that is being read.
#[derive(Debug)]
pub(super) struct Chunked {
    state: State,
    /// No line feed is left before this offset.
    searched: usize,
    /// Bytes that extensions may still have.
    extensions: usize,
    lines: Lines,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    Data(u64),
    DataEnd,
    Trailers,
    Done,
}

impl Chunked {
    pub(super) fn new() -> Self {
        Self {
            state: State::Size,
            searched: 0,
            extensions: EXTENSIONS,
            lines: Lines::default(),
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// What is left of the chunk that is being read.
    pub(super) fn announced(&self) -> u64 {
        match self.state {
            State::Data(left) => left,
            State::Size | State::DataEnd | State::Trailers | State::Done => 0,
        }
    }

    pub(super) fn decode(&mut self, input: &mut BytesMut) -> Result<Decoded, BodyFault> {
        loop {
            match self.state {
                State::Size => {
                    let Some(size) = self.size(input)? else {
                        return Ok(Decoded::NeedMore);
                    };
                    self.state = if size == 0 {
                        State::Trailers
                    } else {
                        State::Data(size)
                    };
                }
                State::Data(left) => {
                    if input.is_empty() {
                        return Ok(Decoded::NeedMore);
                    }
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    let left = left.saturating_sub(take as u64);
                    self.state = if left == 0 {
                        State::DataEnd
                    } else {
                        State::Data(left)
                    };
                    return Ok(Decoded::Data(input.split_to(take).freeze()));
                }
                State::DataEnd => match &**input {
                    [b'\r', b'\n', ..] => {
                        input.advance(2);
                        self.state = State::Size;
                    }
                    [] | [b'\r'] => return Ok(Decoded::NeedMore),
                    _ => return Err(BodyFault::Malformed("a chunk longer than its size")),
                },
                State::Trailers => {
                    let Some(trailers) = self.trailers(input)? else {
                        return Ok(Decoded::NeedMore);
                    };
                    self.state = State::Done;
                    if !trailers.is_empty() {
                        return Ok(Decoded::Trailers(trailers));
                    }
                }
                State::Done => return Ok(Decoded::End),
            }
        }
    }

    /// The size of the next chunk, once its line is whole.
    fn size(&mut self, input: &mut BytesMut) -> Result<Option<u64>, BodyFault> {
        let endless = BodyFault::Malformed("too many bytes of chunk extensions");
        let Some(found) = memchr(b'\n', input.get(self.searched..).unwrap_or_default()) else {
            self.searched = input.len();
            let digits = digits(input)?;
            // The size of a line that is not whole yet, but for its carriage return.
            let rest = input.len().saturating_sub(digits.len());
            if rest > self.extensions.saturating_add(1) {
                return Err(endless);
            }
            return match input.get(digits.len()) {
                None | Some(b'\r' | b';' | b' ' | b'\t') if !digits.is_empty() => Ok(None),
                None => Ok(None),
                Some(_) => Err(BodyFault::Malformed("a chunk size that is no number")),
            };
        };
        let feed = self.searched.saturating_add(found);
        let Some([line @ .., b'\r']) = input.get(..feed) else {
            return Err(BodyFault::Malformed(
                "a line feed without a carriage return in a chunk",
            ));
        };
        let digits = digits(line)?;
        let extensions = line.get(digits.len()..).unwrap_or_default();
        if digits.is_empty() {
            return Err(BodyFault::Malformed("a chunk size that is no number"));
        }
        self.extensions = self
            .extensions
            .checked_sub(extensions.len())
            .ok_or(endless)?;
        if !extensions.is_empty() {
            check_extensions(extensions)?;
        }
        let size = digits.iter().fold(0_u64, |size, digit| {
            let digit = char::from(*digit).to_digit(16).unwrap_or_default();
            (size << 4) | u64::from(digit)
        });
        input.advance(feed.saturating_add(1));
        self.searched = 0;
        Ok(Some(size))
    }

    fn trailers(&mut self, input: &mut BytesMut) -> Result<Option<HeaderMap>, BodyFault> {
        if input.starts_with(b"\r\n") && self.lines.count() == 0 {
            input.advance(2);
            return Ok(Some(HeaderMap::new()));
        }
        let checked = self.lines.count();
        let end = self.lines.end(input, 0, TRAILERS).map_err(in_body)?;
        if end.unwrap_or(input.len()) > TRAILER_BYTES {
            return Err(BodyFault::Malformed("too many bytes of trailers"));
        }
        let Some(end) = end else {
            for (from, to) in self.lines.ranges(0, checked) {
                fields::check(input.get(from..to).unwrap_or_default()).map_err(in_body)?;
            }
            return Ok(None);
        };
        let section = Bytes::copy_from_slice(input.get(..end).unwrap_or_default());
        let count = self.lines.count();
        let mut trailers = HeaderMap::with_capacity(count);
        let lines = self.lines.ranges(0, 0);
        let read = fields::parse(&section, lines, &mut trailers, |name, _value| {
            Ok(may_trail(name))
        });
        input.advance(end);
        self.lines.reset();
        read.map(|()| Some(trailers)).map_err(in_body)
    }
}

/// A fault of a trailer section, which is one of the body.
fn in_body(fault: Fault) -> BodyFault {
    match fault {
        Fault::Malformed(what) => BodyFault::Malformed(what),
        _ => BodyFault::Malformed("too many trailers"),
    }
}

/// The digits that `line` begins with.
fn digits(line: &[u8]) -> Result<&[u8], BodyFault> {
    let count = line
        .iter()
        .take(DIGITS + 1)
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    if count > DIGITS {
        return Err(BodyFault::Malformed("a chunk size that is too large"));
    }
    Ok(line.get(..count).unwrap_or_default())
}

/// `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`, RFC 9112 section 7.1.1.
fn check_extensions(mut rest: &[u8]) -> Result<(), BodyFault> {
    while !rest.is_empty() {
        let ((), after) = mark(rest, b';').ok_or(EXTENSION)?;
        rest = token(skip_space(after)).ok_or(EXTENSION)?;
        if let Some(((), after)) = mark(rest, b'=') {
            let value = skip_space(after);
            rest = match value {
                [b'"', quoted @ ..] => end_of_quoted(quoted),
                _ => token(value),
            }
            .ok_or(EXTENSION)?;
        }
    }
    Ok(())
}

const EXTENSION: BodyFault = BodyFault::Malformed("a malformed chunk extension");

/// What follows `wanted`, which may have space before it.
fn mark(text: &[u8], wanted: u8) -> Option<((), &[u8])> {
    match skip_space(text) {
        [byte, after @ ..] if *byte == wanted => Some(((), after)),
        _ => None,
    }
}

fn skip_space(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', after @ ..] = text {
        text = after;
    }
    text
}

/// What follows a token.
fn token(text: &[u8]) -> Option<&[u8]> {
    let length = text
        .iter()
        .take_while(|byte| fields::is_token_byte(**byte))
        .count();
    text.get(length..).filter(|_| length > 0)
}

/// What follows a quoted string whose first quote is behind us.
fn end_of_quoted(mut text: &[u8]) -> Option<&[u8]> {
    loop {
        text = match text {
            [b'"', after @ ..] => return Some(after),
            [b'\\', byte, after @ ..] | [byte, after @ ..]
                if !fields::is_control(*byte) || *byte == b'\t' =>
            {
                after
            }
            _ => return None,
        };
    }
}
