//! What header fields mean to whoever passes them on: whose hop they are of, and lists in their values.
//!
//! One table and one reading for all rooms. (`trailers` says what may come after a body, `http2` adds what
//! only it forbids.) Pure functions. Invariant: no value that a peer sends makes them fail or go on
//! without an end.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use http::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE, VARY,
};
use smallvec::SmallVec;

/// Fields of a connection of HTTP/1.1; HTTP/2 has none of them (RFC 9113 section 8.2.2).
static OF_A_CONNECTION: [HeaderName; 5] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// What else is for the next hop alone (RFC 9110 sections 7.6.1 and 11.7).
static OF_A_HOP: [HeaderName; 6] = [
    TE,
    TRAILER,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-authentication-info"),
    HeaderName::from_static("http2-settings"),
];

/// End-to-end whatever `Connection` says: removing them would change what a message means.
const KEPT: [&str; 17] = [
    "host",
    "expect",
    "content-length",
    "content-range",
    "content-type",
    "content-encoding",
    "authorization",
    "range",
    "location",
    "cookie",
    "set-cookie",
    "cache-control",
    "etag",
    "vary",
    "expires",
    "age",
    "date",
];

/// Whether a field belongs to a connection of HTTP/1.1.
#[must_use]
pub fn is_of_a_connection(name: &HeaderName) -> bool {
    OF_A_CONNECTION.contains(name)
}

/// Lengths of the names in `OF_A_CONNECTION` and `OF_A_HOP`, a bit each: few others have one of them.
const LENGTHS_OF_A_HOP: u32 =
    1 << 2 | 1 << 7 | 1 << 10 | 1 << 14 | 1 << 16 | 1 << 17 | 1 << 18 | 1 << 19 | 1 << 25;

/// Whether a field is for the next hop alone, whatever `Connection` lists.
#[must_use]
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    let length = name.as_str().len();
    let may_be = length < 32 && LENGTHS_OF_A_HOP >> length & 1 == 1;
    may_be && (OF_A_CONNECTION.contains(name) || OF_A_HOP.contains(name))
}

/// Removes what belongs to a connection of HTTP/1.1.
pub fn strip_connection(headers: &mut HeaderMap) {
    for name in &OF_A_CONNECTION {
        headers.remove(name);
    }
}

/// Removes what is of one hop, also what `Connection` lists.
pub fn strip_hop(headers: &mut HeaderMap) {
    if !headers.keys().any(is_hop_by_hop) {
        return;
    }
    let listed: SmallVec<[HeaderName; 4]> = connection_options(headers)
        .iter()
        .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
        .collect();
    for name in listed {
        headers.remove(name);
    }
    for name in OF_A_CONNECTION.iter().chain(&OF_A_HOP) {
        headers.remove(name);
    }
}

/// Fields that `Connection` names, except those that no hop may take away and those that go anyway.
#[must_use]
pub fn connection_options(headers: &HeaderMap) -> SmallVec<[&str; 4]> {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|option| {
            let is = |known: &str| option.eq_ignore_ascii_case(known);
            let mut going = OF_A_CONNECTION.iter().chain(&OF_A_HOP);
            !option.is_empty()
                && !is("close")
                && !going.any(|known| is(known.as_str()))
                && !KEPT.into_iter().any(is)
        })
        .collect()
}

/// The members of a comma-separated list, without the space around them.
pub fn members(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value
        .as_bytes()
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
}

/// Says that an answer depends on a field of its request, once (RFC 9110 section 12.5.5).
pub fn vary(answer: &mut HeaderMap, on: &HeaderName) {
    let says = answer
        .get_all(VARY)
        .iter()
        .flat_map(members)
        .any(|name| name == b"*" || name.eq_ignore_ascii_case(on.as_str().as_bytes()));
    if !says {
        answer.append(VARY, HeaderValue::from(on.clone()));
    }
}

/// An entity tag without its weakness (RFC 9110 section 8.8.3.2).
#[must_use]
pub fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// Whether a line of `If-Match` or `If-None-Match` is `*` or lists a tag that is meant. Tags may hold
/// commas, so the quotes lead; an unquoted word is a member as it stands, since some origins send such
/// tags.
pub fn lists_tag(line: &HeaderValue, mut is_meant: impl FnMut(&[u8]) -> bool) -> bool {
    let mut rest = line.as_bytes().trim_ascii();
    if rest == b"*" {
        return true;
    }
    while let Some((tag, after)) = next_tag(rest) {
        if is_meant(tag) {
            return true;
        }
        rest = after;
    }
    false
}

/// The first tag of a list, and what follows it; none where a quote has no end.
fn next_tag(list: &[u8]) -> Option<(&[u8], &[u8])> {
    let gap = |byte: &u8| matches!(byte, b',' | b' ' | b'\t');
    let start = list.iter().position(|byte| !gap(byte))?;
    let list = list.get(start..)?;
    let tag = opaque(list);
    let weak = list.len().checked_sub(tag.len())?;
    let length = match tag.strip_prefix(b"\"") {
        Some(inner) => {
            let quote = inner.iter().position(|byte| *byte == b'"')?;
            quote.checked_add(2)?
        }
        None => tag.iter().position(gap).unwrap_or(tag.len()),
    };
    list.split_at_checked(weak.checked_add(length)?)
}

/// Takes a field's name, in lower case, and its value.
pub type EachField<'a> = &'a mut dyn FnMut(&str, &[u8]);

/// The field block of an answer over HTTP/2, which is being written.
pub trait FieldBlock {
    /// Writes a field, whose name is in lower case.
    fn field(&mut self, name: &str, value: &[u8]);

    /// Writes fields that `encode` has encoded, for this block or for another.
    fn encoded(&mut self, fields: &[u8]);

    /// Encodes fields, for any number of blocks of any connection.
    fn encode(&self, fields: &dyn Fn(EachField<'_>)) -> Box<[u8]>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn what_is_of_a_hop_goes_and_what_it_lists_but_not_what_every_hop_needs() {
        let mut headers = map(&[
            ("connection", "close, x-internal, ETag , te"),
            ("connection", "X-Other,,Vary"),
            ("x-internal", "1"),
            ("x-other", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("proxy-authenticate", "Basic"),
            ("proxy-authentication-info", "x"),
            ("http2-settings", "x"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("etag", "\"a\""),
            ("vary", "accept"),
        ]);
        assert_eq!(&connection_options(&headers)[..], ["x-internal", "X-Other"]);
        strip_hop(&mut headers);
        assert_eq!(headers, map(&[("etag", "\"a\""), ("vary", "accept")]));
    }

    #[test]
    fn a_connections_own_fields_are_hop_by_hop_all() {
        for name in &OF_A_CONNECTION {
            assert!(is_of_a_connection(name) && is_hop_by_hop(name), "{name}");
        }
        assert!(!is_of_a_connection(&TE) && is_hop_by_hop(&TE));
        assert!(!is_hop_by_hop(&VARY));
        let mut headers = map(&[("upgrade", "x"), ("te", "trailers")]);
        strip_connection(&mut headers);
        assert_eq!(headers, map(&[("te", "trailers")]));
    }

    #[test]
    fn vary_is_said_once() {
        for (said, count) in [
            ("Accept-Encoding, ORIGIN", 1),
            ("cookie,origin", 1),
            ("*", 1),
            ("x-origin", 2),
        ] {
            let mut answer = map(&[("vary", said)]);
            vary(&mut answer, &http::header::ORIGIN);
            assert_eq!(answer.get_all(VARY).iter().count(), count, "{said}");
        }
    }

    #[test]
    fn a_list_of_tags_is_read_by_its_quotes() {
        let tags = |line: &'static str| {
            let mut tags: Vec<String> = Vec::new();
            let line = HeaderValue::from_static(line);
            let all = lists_tag(&line, |tag| {
                tags.push(String::from_utf8(tag.to_vec()).unwrap());
                false
            });
            (tags, all)
        };
        for (line, expected) in [
            ("\"a\"", vec!["\"a\""]),
            (" , W/\"a\" ,\"b,c\"", vec!["W/\"a\"", "\"b,c\""]),
            ("\"a\" \"b\"", vec!["\"a\"", "\"b\""]),
            ("x, W/ \"a\"", vec!["x", "W/", "\"a\""]),
            ("\"\"", vec!["\"\""]),
            ("\"a\", \"b", vec!["\"a\""]),
            ("\"*\"", vec!["\"*\""]),
            ("", vec![]),
        ] {
            let expected = expected.iter().map(ToString::to_string).collect();
            assert_eq!(tags(line), (expected, false), "{line}");
        }
        assert_eq!(tags(" * "), (vec![], true));
        assert_eq!(
            (opaque(b"W/\"a\""), opaque(b"\"a\"")),
            (&b"\"a\""[..], &b"\"a\""[..])
        );
    }
}
