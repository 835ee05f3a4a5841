//! `206` and `416`: what their heads say, and of what pieces their bodies are made.
//!
//! `partial` makes the head of a whole answer into that of a part (RFC 9110 section 15.3.7). Invariant:
//! the length in the head is that of the pieces.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::VecDeque;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_LOCATION,
    CONTENT_RANGE, CONTENT_TYPE, ETAG, EXPIRES, HeaderName, LAST_MODIFIED,
};
use http::{HeaderMap, HeaderValue};

use super::{Span, request::number};

/// A piece of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// From memory: what stands between the parts of a `multipart/byteranges`.
    Text(Bytes),
    /// From the representation.
    Span {
        /// Where it begins, from 0.
        start: u64,
        /// Bytes of it, at least one.
        length: u64,
    },
}

/// A body in pieces, in the order in which they are sent.
pub type Pieces = VecDeque<Piece>;

impl Piece {
    /// Bytes of it.
    #[must_use]
    pub fn length(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Span { length, .. } => *length,
        }
    }
}

impl From<Span> for Piece {
    fn from(span: Span) -> Self {
        Self::Span {
            start: span.first,
            length: span.length(),
        }
    }
}

/// Fields that say what the content of one message is (RFC 9530 section 2), and what came before them.
pub const OF_THE_CONTENT: [HeaderName; 2] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("content-md5"),
];

/// Makes the head of the whole answer, of `complete` bytes, into that of a `206` with these parts.
pub fn partial(headers: &mut HeaderMap, parts: &[Span], complete: u64) -> Pieces {
    for name in &OF_THE_CONTENT {
        headers.remove(name);
    }
    if let [span] = parts {
        headers.insert(CONTENT_RANGE, content_range(*span, complete));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(span.length()));
        return Pieces::from([Piece::from(*span)]);
    }
    // 128 bits of chance: no content has them but by intent, and nobody knows them before.
    let boundary = format!("{:032x}", fastrand::u128(..));
    let pieces = multipart(parts, complete, headers.get(CONTENT_TYPE), &boundary);
    let length = pieces
        .iter()
        .map(Piece::length)
        .fold(0, u64::saturating_add);
    let kind = value(format!("multipart/byteranges; boundary={boundary}"));
    headers.remove(CONTENT_RANGE);
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    pieces
}

/// Lays out several parts (RFC 9110 section 14.6).
fn multipart(parts: &[Span], complete: u64, kind: Option<&HeaderValue>, boundary: &str) -> Pieces {
    let mut pieces = Pieces::new();
    for (index, span) in parts.iter().enumerate() {
        let line = if index == 0 { "" } else { "\r\n" };
        let mut head = format!("{line}--{boundary}\r\n").into_bytes();
        if let Some(kind) = kind {
            head.extend_from_slice(b"content-type: ");
            head.extend_from_slice(kind.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"content-range: ");
        head.extend_from_slice(content_range(*span, complete).as_bytes());
        head.extend_from_slice(b"\r\n\r\n");
        pieces.push_back(Piece::Text(Bytes::from(head)));
        pieces.push_back(Piece::from(*span));
    }
    let end = format!("\r\n--{boundary}--\r\n");
    pieces.push_back(Piece::Text(Bytes::from(end)));
    pieces
}

/// Takes from the head of a `206` what a client has that resumes with `If-Range` (RFC 9110 section
/// 15.3.7). Of several parts the type is their frame's, and stays.
pub fn resumed(headers: &mut HeaderMap) {
    if headers.contains_key(CONTENT_RANGE) {
        headers.remove(CONTENT_TYPE);
    }
    headers.remove(CONTENT_ENCODING);
    headers.remove(CONTENT_LANGUAGE);
    if headers.contains_key(ETAG) {
        headers.remove(LAST_MODIFIED);
    }
}

/// Makes the head of the whole answer, of `complete` bytes, into that of a `416`: it describes nothing
/// but how long the whole is, and nobody is to keep it.
pub fn unsatisfiable(headers: &mut HeaderMap, complete: u64) {
    let of_the_whole = [
        CACHE_CONTROL,
        CONTENT_ENCODING,
        CONTENT_LANGUAGE,
        CONTENT_LOCATION,
        CONTENT_TYPE,
        ETAG,
        EXPIRES,
        LAST_MODIFIED,
    ];
    for name in of_the_whole.iter().chain(&OF_THE_CONTENT) {
        headers.remove(name);
    }
    headers.insert(CONTENT_RANGE, value(format!("bytes */{complete}")));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
}

/// `Content-Range` of one part.
#[must_use]
pub fn content_range(span: Span, complete: u64) -> HeaderValue {
    value(format!("bytes {}-{}/{complete}", span.first, span.last))
}

fn value(text: String) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(text))
        .unwrap_or_else(|_impossible| HeaderValue::from_static(""))
}

/// Which part a `206` brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentRange {
    /// The part.
    pub span: Span,
    /// Length of the whole.
    pub complete: u64,
}

impl ContentRange {
    /// Reads the field; nothing when it is not one range of bytes of a whole of known length (RFC 9110
    /// section 14.4).
    #[must_use]
    pub fn of(answer: &HeaderMap) -> Option<Self> {
        let mut fields = answer.get_all(CONTENT_RANGE).iter();
        let field = fields.next()?;
        if fields.next().is_some() {
            return None;
        }
        let (unit, range) = field.as_bytes().trim_ascii().split_at_checked(6)?;
        if !unit.eq_ignore_ascii_case(b"bytes ") {
            return None;
        }
        let dash = range.iter().position(|byte| *byte == b'-')?;
        let (first, rest) = range.split_at_checked(dash)?;
        let slash = rest.iter().position(|byte| *byte == b'/')?;
        let (last, complete) = rest.split_at_checked(slash)?;
        let span = Span {
            first: number(first)?,
            last: number(last.strip_prefix(b"-")?)?,
        };
        let complete = number(complete.strip_prefix(b"/")?)?;
        (span.first <= span.last && span.last < complete).then_some(Self { span, complete })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn span(first: u64, last: u64) -> Span {
        Span { first, last }
    }

    #[test]
    fn one_part_is_the_whole_with_a_range() {
        let mut headers = map(&[
            ("content-type", "text/plain"),
            ("content-length", "10"),
            ("content-digest", "sha-256=:x:"),
            ("repr-digest", "sha-256=:x:"),
        ]);
        let pieces = partial(&mut headers, &[span(2, 4)], 10);
        assert_eq!(
            pieces,
            [Piece::Span {
                start: 2,
                length: 3
            }]
        );
        let expected = map(&[
            ("content-type", "text/plain"),
            ("content-length", "3"),
            ("repr-digest", "sha-256=:x:"),
            ("content-range", "bytes 2-4/10"),
        ]);
        assert_eq!(headers, expected);
    }

    #[test]
    fn several_parts_bear_type_and_range_each() {
        let mut headers = map(&[("content-type", "text/plain"), ("content-range", "x")]);
        let pieces = partial(&mut headers, &[span(0, 0), span(8, 9)], 10);
        let text: String = pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
                Piece::Span { start, length } => format!("<{start}+{length}>"),
            })
            .collect();
        let kind = headers.get(CONTENT_TYPE).unwrap().to_str().unwrap();
        let mark = kind
            .strip_prefix("multipart/byteranges; boundary=")
            .unwrap();
        let expected = format!(
            "--{mark}\r\ncontent-type: text/plain\r\ncontent-range: bytes 0-0/10\r\n\r\n<0+1>\r\n\
             --{mark}\r\ncontent-type: text/plain\r\ncontent-range: bytes 8-9/10\r\n\r\n<8+2>\r\n\
             --{mark}--\r\n"
        );
        assert_eq!(text, expected);
        let length: u64 = pieces.iter().map(Piece::length).sum();
        let told = headers.get(CONTENT_LENGTH).unwrap();
        assert_eq!(told, &length.to_string());
        assert!(!headers.contains_key(CONTENT_RANGE));
    }

    #[test]
    fn a_416_says_only_how_long_the_whole_is() {
        let mut headers = map(&[
            ("content-type", "text/plain"),
            ("content-encoding", "br"),
            ("content-length", "10"),
            ("cache-control", "max-age=9"),
            ("etag", "\"a\""),
            ("vary", "accept"),
        ]);
        unsatisfiable(&mut headers, 10);
        let expected = map(&[
            ("content-length", "0"),
            ("content-range", "bytes */10"),
            ("vary", "accept"),
        ]);
        assert_eq!(headers, expected);
    }

    #[test]
    fn who_resumes_has_what_describes_the_whole() {
        let mut headers = map(&[
            ("content-type", "text/plain"),
            ("content-range", "bytes 0-1/2"),
            ("last-modified", "x"),
            ("etag", "\"a\""),
            ("cache-control", "max-age=9"),
        ]);
        resumed(&mut headers);
        let expected = map(&[
            ("content-range", "bytes 0-1/2"),
            ("etag", "\"a\""),
            ("cache-control", "max-age=9"),
        ]);
        assert_eq!(headers, expected);
    }

    #[test]
    fn which_part_an_answer_brings() {
        let of = |text: &'static str| ContentRange::of(&map(&[("content-range", text)]));
        for (text, first, last, complete) in [
            ("bytes 0-0/1", 0, 0, 1),
            ("Bytes 5-9/10", 5, 9, 10),
            (" bytes 0-4/10 ", 0, 4, 10),
        ] {
            let span = span(first, last);
            assert_eq!(of(text), Some(ContentRange { span, complete }), "{text}");
        }
        for text in [
            "bytes */10",
            "bytes 0-4/*",
            "bytes 0-10/10",
            "bytes 5-4/10",
            "bytes=0-4/10",
            "items 0-4/10",
            "bytes 0-4",
            "bytes -4/10",
            "bytes 0-/10",
            "bytes 0-4/",
            "bytes 0-4/10, bytes 5-9/10",
            "bytes",
            "",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
        let twice = [("content-range", "bytes 0-0/1"); 2];
        assert_eq!(ContentRange::of(&map(&twice)), None);
    }
}
