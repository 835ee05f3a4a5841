//! Which bytes a request asks for: `Range` (RFC 9110 section 14.2), and whether it does so of what is
//! there: `If-Range` (section 13.1.5).
//!
//! Ranges that overlap or nearly touch are sent as one, so that no request gets more bytes than there
//! are; one that still asks for many parts gets the whole instead. Invariant: ranges that are returned
//! lie within the whole, are not empty and do not overlap.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::time::SystemTime;

use http::HeaderMap;
use http::header::{IF_RANGE, RANGE};
use smallvec::SmallVec;

/// Parts that one request may ask for; who asks for more gets the whole.
const MOST: usize = 16;
/// Ranges that one field may list: what overlaps counts as one part only once it is read.
const LISTED: usize = 128;
/// A gap that costs less than the head of another part.
const GAP: u64 = 80;

/// From the first to the last byte, both counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub first: u64,
    /// The last one; not before the first.
    pub last: u64,
}

/// Spans that do not overlap.
pub type Spans = SmallVec<[Span; 1]>;

impl Span {
    /// Bytes of it, at least one.
    #[must_use]
    pub fn length(self) -> u64 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The whole: no range, or none that counts.
    Whole,
    /// One part or several, in the order in which they were asked for unless some were joined.
    Parts(Spans),
    /// Nothing that is there.
    Unsatisfiable,
}

/// Whether a request asks for ranges that could be of something: whatever `wanted` says for one length,
/// it says `Whole` for all where this is false.
#[must_use]
pub fn is_asked(request: &HeaderMap) -> bool {
    wanted(request, u64::MAX) != Wanted::Whole
}

/// Whether a range is of what the client has a part of: of the answer with this strong entity tag, or
/// strong time of change. Without `If-Range` it is.
#[must_use]
pub fn is_same(request: &HeaderMap, tag: Option<&[u8]>, modified: Option<SystemTime>) -> bool {
    let mut fields = request.get_all(IF_RANGE).iter();
    let Some(field) = fields.next() else {
        return true;
    };
    if fields.next().is_some() {
        return false;
    }
    let text = field.as_bytes().trim_ascii();
    if text.starts_with(b"\"") || text.starts_with(b"W/") {
        return !text.starts_with(b"W/") && tag == Some(text);
    }
    let date = std::str::from_utf8(text).ok();
    let date = date.and_then(|text| httpdate::parse_http_date(text).ok());
    date.is_some() && date == modified
}

/// Reads the field for a representation of `length` bytes. Units other than bytes, and what breaks the
/// grammar, are as if they were not there.
#[must_use]
pub fn wanted(request: &HeaderMap, length: u64) -> Wanted {
    let mut fields = request.get_all(RANGE).iter();
    let Some(field) = fields.next() else {
        return Wanted::Whole;
    };
    if fields.next().is_some() {
        return Wanted::Whole;
    }
    parse(field.as_bytes(), length).unwrap_or(Wanted::Whole)
}

/// Nothing when the field does not count.
fn parse(field: &[u8], length: u64) -> Option<Wanted> {
    let (unit, set) = field.split_at_checked(6)?;
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return None;
    }
    let mut parts = Spans::new();
    let mut listed: usize = 0;
    for spec in set.split(|byte| *byte == b',') {
        let spec = spec.trim_ascii();
        // A list may have empty members (RFC 9110 section 5.6.1).
        if spec.is_empty() {
            continue;
        }
        listed = listed.saturating_add(1);
        if listed > LISTED {
            return None;
        }
        if let Some(span) = self::spec(spec, length)? {
            parts.push(span);
        }
    }
    if listed == 0 {
        return None;
    }
    if parts.is_empty() {
        return Some(Wanted::Unsatisfiable);
    }
    let parts = joined(parts);
    (parts.len() <= MOST).then_some(Wanted::Parts(parts))
}

/// One range: an error of grammar is `None`, one of nothing that is there `Some(None)`.
fn spec(text: &[u8], length: u64) -> Option<Option<Span>> {
    let dash = text.iter().position(|byte| *byte == b'-')?;
    let (first, last) = (text.get(..dash)?, text.get(dash..)?.strip_prefix(b"-")?);
    let end = length.checked_sub(1);
    if first.is_empty() {
        let count = number(last)?;
        return Some(end.filter(|_| count > 0).map(|end| Span {
            first: length.saturating_sub(count),
            last: end,
        }));
    }
    let first = number(first)?;
    let last = if last.is_empty() {
        u64::MAX
    } else {
        number(last)?
    };
    if last < first {
        return None;
    }
    Some(end.filter(|end| first <= *end).map(|end| Span {
        first,
        last: last.min(end),
    }))
}

/// Digits only; a number too large to hold is larger than any length.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| byte.wrapping_sub(b'0'))?;
        Some(sum.saturating_mul(10).saturating_add(u64::from(digit)))
    })
}

fn joined(parts: Spans) -> Spans {
    let mut sorted = parts.clone();
    sorted.sort_by_key(|span| span.first);
    let mut joined = Spans::new();
    for span in sorted {
        match joined.last_mut() {
            Some(before) if span.first <= before.last.saturating_add(GAP) => {
                before.last = before.last.max(span.last);
            }
            _ => joined.push(span),
        }
    }
    // A client may have put first what it needs first.
    if joined.len() == parts.len() {
        parts
    } else {
        joined
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(field: &str, length: u64) -> Option<Vec<(u64, u64)>> {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, field.parse().unwrap());
        match wanted(&headers, length) {
            Wanted::Whole => None,
            Wanted::Unsatisfiable => Some(Vec::new()),
            Wanted::Parts(parts) => Some(parts.iter().map(|s| (s.first, s.last)).collect()),
        }
    }

    #[test]
    fn single_ranges() {
        for (field, expected) in [
            ("bytes=0-0", (0, 0)),
            ("bytes=0-99", (0, 99)),
            ("Bytes=10-", (10, 999)),
            ("bytes=-1", (999, 999)),
            ("bytes=-2000", (0, 999)),
            ("bytes=990-5000", (990, 999)),
            ("bytes=0-99999999999999999999999", (0, 999)),
            ("bytes= 5-6 ", (5, 6)),
            ("bytes=,5-6,,", (5, 6)),
            ("bytes=5-6,2000-", (5, 6)),
        ] {
            assert_eq!(of(field, 1000), Some(vec![expected]), "{field}");
        }
    }

    #[test]
    fn what_lies_beyond_the_end() {
        for field in [
            "bytes=1000-",
            "bytes=1000-1001",
            "bytes=-0",
            "bytes=99999999999999999999-",
        ] {
            assert_eq!(of(field, 1000), Some(vec![]), "{field}");
        }
        assert_eq!(of("bytes=0-", 0), Some(vec![]));
        assert_eq!(of("bytes=-5", 0), Some(vec![]));
    }

    #[test]
    fn what_does_not_count() {
        for field in [
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=a-b",
            "bytes=5",
            "bytes=6-5",
            "bytes=+1-2",
            "bytes=1-2-3",
            "bytes=1 -2",
            "bytes=0x1-2",
            "items=0-1",
            "bytes:0-1",
            "bytes=0-1,x",
            "seconds=1-2",
        ] {
            assert_eq!(of(field, 1000), None, "{field}");
        }
        let mut twice = HeaderMap::new();
        twice.append(RANGE, "bytes=0-1".parse().unwrap());
        twice.append(RANGE, "bytes=0-1".parse().unwrap());
        assert_eq!(wanted(&twice, 1000), Wanted::Whole);
    }

    #[test]
    fn a_request_asks_for_ranges_whatever_the_length() {
        let asks = |field: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RANGE, field.parse().unwrap());
            is_asked(&headers)
        };
        assert!(!is_asked(&HeaderMap::new()));
        assert!(asks("bytes=0-") && asks("bytes=-0") && asks("bytes=7-9, 20-"));
        assert!(!asks("items=0-1") && !asks("bytes=2-1") && !asks("bytes="));
    }

    #[test]
    fn several_ranges_keep_their_order_unless_some_are_joined() {
        assert_eq!(
            of("bytes=500-509,0-9", 1000),
            Some(vec![(500, 509), (0, 9)])
        );
        assert_eq!(of("bytes=0-9,5-20", 1000), Some(vec![(0, 20)]));
        assert_eq!(of("bytes=50-60,0-9", 1000), Some(vec![(0, 60)]));
        assert_eq!(of("bytes=0-9,90-99", 1000), Some(vec![(0, 9), (90, 99)]));
        assert_eq!(of("bytes=-1,0-0,-1", 1000), Some(vec![(0, 0), (999, 999)]));
    }

    #[test]
    fn many_parts_are_not_worth_it() {
        let list = |count: u64| {
            let specs: Vec<String> = (0..count).map(|n| format!("{0}-{0}", n * 1000)).collect();
            format!("bytes={}", specs.join(","))
        };
        assert_eq!(of(&list(16), 1 << 20).unwrap().len(), 16);
        assert_eq!(of(&list(17), 1 << 20), None);
        let overlapping = |count| format!("bytes={}", vec!["0-9"; count].join(","));
        assert_eq!(of(&overlapping(128), 1000), Some(vec![(0, 9)]));
        assert_eq!(of(&overlapping(129), 1000), None);
    }

    #[test]
    fn no_request_gets_more_than_the_whole() {
        let seed = fastrand::u64(..);
        println!("SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..20_000 {
            let length = random.u64(..2000);
            let specs: Vec<String> = (0..random.usize(1..20))
                .map(|_| match random.u8(..3) {
                    0 => format!("{}-", random.u64(..2100)),
                    1 => format!("-{}", random.u64(..2100)),
                    _ => {
                        let first = random.u64(..2100);
                        format!("{first}-{}", first + random.u64(..50))
                    }
                })
                .collect();
            let field = format!("bytes={}", specs.join(","));
            let mut parts = of(&field, length).unwrap_or_default();
            parts.sort_unstable();
            assert!(
                parts.iter().all(|(a, b)| a <= b && *b < length),
                "{field} {length}"
            );
            assert!(
                parts
                    .iter()
                    .zip(parts.iter().skip(1))
                    .all(|(a, b)| a.1 < b.0),
                "{field} {length}"
            );
        }
    }
}
