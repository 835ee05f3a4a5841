//! Validators both ways (RFC 9110 section 13, RFC 9111 section 4.3).
//!
//! Towards a client: does its condition let the answer be a `304`. Towards the origin: the
//! conditions that ask about a stored answer, and the stored head after the origin's `304`.
//! Pure functions over header maps; `head` and `permit` act on them.
//! `If-Match` and `If-Unmodified-Since` are the origin's to judge and never come here.

use http::header::{
    AGE, CACHE_STATUS, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, IF_MATCH,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
};
use http::{HeaderMap, HeaderValue};

use crate::wire::fields::{lists_tag, opaque};

use super::freshness::date_of;
use super::head::X_REQUEST_ID;

/// Whether the client already has `answer`: `If-None-Match` by weak comparison, and only without
/// one `If-Modified-Since`, measured by `Last-Modified` or else `Date` (RFC 9111 section 4.3.2).
pub(super) fn is_not_modified(request: &HeaderMap, answer: &HeaderMap) -> bool {
    if request.contains_key(IF_NONE_MATCH) {
        let held = answer.get(ETAG).map(|tag| opaque(tag.as_bytes()));
        return request
            .get_all(IF_NONE_MATCH)
            .iter()
            .any(|line| lists_tag(line, |tag| Some(opaque(tag)) == held));
    }
    let Some(since) = date_of(request, IF_MODIFIED_SINCE) else {
        return false;
    };
    let modified = if answer.contains_key(LAST_MODIFIED) {
        LAST_MODIFIED
    } else {
        DATE
    };
    date_of(answer, modified).is_some_and(|modified| modified <= since)
}

/// Makes a client's request head into one that asks for the whole answer, or which of those stored still
/// holds (RFC 9111 section 4.3.1). The first of them is the one that fits the request, if any does.
pub(super) fn prepare<'a>(
    request: &mut HeaderMap,
    stored: impl Iterator<Item = &'a HeaderMap> + Clone,
) {
    for name in [
        IF_NONE_MATCH,
        IF_MODIFIED_SINCE,
        IF_MATCH,
        IF_UNMODIFIED_SINCE,
        IF_RANGE,
        RANGE,
    ] {
        request.remove(name);
    }
    let mut tags: Vec<&[u8]> = Vec::new();
    for tag in stored.clone().filter_map(|head| head.get(ETAG)) {
        if !tags.contains(&tag.as_bytes()) {
            tags.push(tag.as_bytes());
        }
    }
    if let Ok(list) = HeaderValue::from_bytes(&tags.join(&b", "[..]))
        && !list.is_empty()
    {
        request.insert(IF_NONE_MATCH, list);
    }
    let mut stored = stored;
    // A date speaks of one answer.
    if let (Some(only), None) = (stored.next(), stored.next())
        && let Some(modified) = only.get(LAST_MODIFIED)
    {
        request.insert(IF_MODIFIED_SINCE, modified.clone());
    }
}

/// Which of the stored answers the origin's `304` is about (RFC 9111 section 4.3.4): one that agrees with
/// what it says of validators, or the only one, when it says nothing.
pub(super) fn confirmed<'a>(
    fresh: &HeaderMap,
    mut stored: impl Iterator<Item = &'a HeaderMap> + Clone,
) -> Option<usize> {
    if let Some(tag) = fresh.get(ETAG) {
        let is_strong = !tag.as_bytes().starts_with(b"W/");
        return stored.position(|head| {
            head.get(ETAG).is_some_and(|held| match is_strong {
                true => held == tag,
                false => opaque(held.as_bytes()) == opaque(tag.as_bytes()),
            })
        });
    }
    if let Some(date) = fresh.get(LAST_MODIFIED) {
        return stored.position(|head| head.get(LAST_MODIFIED) == Some(date));
    }
    (stored.count() == 1).then_some(0)
}

/// Whether the head of an answer to `HEAD` is that of the stored answer to `GET` (RFC 9111 section 4.3.5):
/// what it says of validators and of the length agrees.
pub(super) fn describes(fresh: &HeaderMap, stored: &HeaderMap) -> bool {
    [ETAG, LAST_MODIFIED, CONTENT_LENGTH].iter().all(|name| {
        fresh
            .get(name)
            .is_none_or(|value| stored.get(name) == Some(value))
    })
}

/// The stored head as the origin's `304` updates it (RFC 9111 section 3.2). Fields without which the
/// stored bytes cannot be read keep their values; `Age`, `Date` and `Cache-Status` are the `304`'s alone.
pub(super) fn merged(stored: &HeaderMap, fresh: &HeaderMap) -> HeaderMap {
    let mut merged = stored.clone();
    for name in [AGE, DATE, CACHE_STATUS, X_REQUEST_ID] {
        merged.remove(name);
    }
    let describes_body = [CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE];
    for name in fresh.keys() {
        if describes_body.contains(name) {
            continue;
        }
        merged.remove(name);
        for value in fresh.get_all(name) {
            merged.append(name, value.clone());
        }
    }
    merged
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

    const OLD: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const NEW: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn none_match(condition: &'static str, tag: &'static str) -> bool {
        is_not_modified(
            &map(&[("if-none-match", condition)]),
            &map(&[("etag", tag)]),
        )
    }

    #[test]
    fn if_none_match_compares_weakly_over_a_list() {
        for condition in [
            "\"a\"",
            "W/\"a\"",
            "\"x\", \"a\"",
            "\"x\",W/\"a\"",
            " , \"a\" ,",
            "\"x,y\" \"a\"",
            "*",
        ] {
            assert!(none_match(condition, "\"a\""), "{condition}");
            assert!(none_match(condition, "W/\"a\""), "{condition}");
        }
        for condition in [
            "\"b\"",
            "\"A\"",
            "\"x,\"a\",\"",
            "\"a",
            "a",
            "W/",
            "",
            "\"*\"",
        ] {
            assert!(!none_match(condition, "\"a\""), "{condition}");
        }
    }

    #[test]
    fn a_comma_inside_a_tag_does_not_part_it() {
        assert!(none_match("\"x\", \"a,b\"", "\"a,b\""));
        assert!(!none_match("\"a,b\"", "\"b\""));
    }

    #[test]
    fn an_unquoted_tag_is_compared_as_it_stands() {
        assert!(none_match("x, abc", "abc"));
        assert!(!none_match("\"abc\"", "abc"));
    }

    #[test]
    fn if_none_match_takes_precedence_over_the_date() {
        let request = map(&[("if-none-match", "\"b\""), ("if-modified-since", NEW)]);
        assert!(!is_not_modified(
            &request,
            &map(&[("etag", "\"a\""), ("last-modified", OLD)])
        ));
        assert!(!is_not_modified(&request, &map(&[("last-modified", OLD)])));
    }

    #[test]
    fn if_modified_since_is_measured_by_last_modified_then_date() {
        let since = |date| map(&[("if-modified-since", date)]);
        assert!(is_not_modified(
            &since(OLD),
            &map(&[("last-modified", OLD), ("date", NEW)])
        ));
        assert!(!is_not_modified(
            &since(OLD),
            &map(&[("last-modified", NEW), ("date", OLD)])
        ));
        assert!(is_not_modified(&since(NEW), &map(&[("date", OLD)])));
        assert!(!is_not_modified(&since(NEW), &map(&[])));
        assert!(!is_not_modified(
            &since("yesterday"),
            &map(&[("last-modified", OLD)])
        ));
    }

    #[test]
    fn a_prepared_request_carries_our_conditions_and_not_the_clients() {
        let mut request = map(&[
            ("if-none-match", "\"client\""),
            ("if-modified-since", NEW),
            ("range", "bytes=0-1"),
            ("if-range", "\"client\""),
            ("accept", "x"),
        ]);
        prepare(
            &mut request,
            std::iter::once(&map(&[("etag", "W/\"a\""), ("last-modified", OLD)])),
        );
        let expected = map(&[
            ("accept", "x"),
            ("if-none-match", "W/\"a\""),
            ("if-modified-since", OLD),
        ]);
        assert_eq!(request, expected);
        prepare(&mut request, std::iter::empty());
        assert_eq!(request, map(&[("accept", "x")]));
    }

    #[test]
    fn a_304_about_another_answer_confirms_nothing() {
        let one = map(&[("etag", "\"a\""), ("last-modified", OLD)]);
        let other = map(&[("etag", "W/\"b\"")]);
        let says =
            |lines: &[_], stored: &[&HeaderMap]| confirmed(&map(lines), stored.iter().copied());
        assert_eq!(says(&[], &[&one]), Some(0));
        assert_eq!(says(&[], &[&one, &other]), None, "which?");
        let tag_and_date = [("etag", "\"a\""), ("last-modified", NEW)];
        assert_eq!(says(&tag_and_date, &[&other, &one]), Some(1));
        assert_eq!(says(&[("etag", "W/\"b\"")], &[&one, &other]), Some(1));
        assert_eq!(
            says(&[("etag", "W/\"a\"")], &[&one]),
            Some(0),
            "a weak one may"
        );
        assert_eq!(
            says(&[("etag", "\"b\"")], &[&other]),
            None,
            "a strong one may not"
        );
        assert_eq!(says(&[("last-modified", OLD)], &[&other, &one]), Some(1));
        assert_eq!(says(&[("last-modified", NEW)], &[&one]), None);
    }

    #[test]
    fn a_304_updates_all_but_what_describes_the_body() {
        let stored = map(&[
            ("content-type", "a"),
            ("content-length", "5"),
            ("cache-control", "max-age=1"),
            ("x", "1"),
            ("x", "2"),
            ("y", "kept"),
            ("age", "9"),
            ("date", OLD),
            ("cache-status", "inner; hit"),
        ]);
        let fresh = map(&[
            ("content-type", "b"),
            ("content-encoding", "gzip"),
            ("content-length", "0"),
            ("cache-control", "max-age=2"),
            ("x", "3"),
        ]);
        let expected = map(&[
            ("content-type", "b"),
            ("content-length", "5"),
            ("cache-control", "max-age=2"),
            ("x", "3"),
            ("y", "kept"),
        ]);
        assert_eq!(merged(&stored, &fresh), expected);
    }
}
