//! Validators both ways (RFC 9110 section 13, RFC 9111 section 4.3).
//!
//! Towards a client: does its condition let the answer be a `304`. Towards the origin: the
//! conditions that ask about a stored answer, and the stored head after the origin's `304`.
//! Pure functions over header maps; `entry` and `permit` act on them.
//! `If-Match` and `If-Unmodified-Since` are the origin's to judge and never come here.

use http::HeaderMap;
use http::header::{
    AGE, CACHE_STATUS, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG,
    IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED,
    RANGE,
};

use crate::wire::fields::{lists_tag, opaque};

use super::entry::X_REQUEST_ID;
use super::freshness::date_of;

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

/// Makes a client's request head into one that asks for the whole answer, or whether the stored
/// one still holds.
pub(super) fn prepare(request: &mut HeaderMap, stored: Option<&HeaderMap>) {
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
    let Some(stored) = stored else { return };
    for (condition, validator) in [(IF_NONE_MATCH, ETAG), (IF_MODIFIED_SINCE, LAST_MODIFIED)] {
        if let Some(value) = stored.get(validator) {
            request.insert(condition, value.clone());
        }
    }
}

/// Whether the origin's `304` is about the stored answer (RFC 9111 section 4.3.4): what it says of
/// validators must agree with what is stored.
pub(super) fn confirms(fresh: &HeaderMap, stored: &HeaderMap) -> bool {
    if let Some(tag) = fresh.get(ETAG) {
        let held = stored.get(ETAG).map(|held| opaque(held.as_bytes()));
        return held == Some(opaque(tag.as_bytes()));
    }
    match fresh.get(LAST_MODIFIED) {
        Some(date) => stored.get(LAST_MODIFIED) == Some(date),
        None => true,
    }
}

/// The stored head as the origin's `304` updates it (RFC 9111 section 3.2). Fields that describe
/// the stored body keep their values; `Age`, `Date` and `Cache-Status` are the `304`'s alone.
pub(super) fn merged(stored: &HeaderMap, fresh: &HeaderMap) -> HeaderMap {
    let mut merged = stored.clone();
    for name in [AGE, DATE, CACHE_STATUS, X_REQUEST_ID] {
        merged.remove(name);
    }
    let describes_body = [
        CONTENT_ENCODING,
        CONTENT_LENGTH,
        CONTENT_RANGE,
        CONTENT_TYPE,
    ];
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
            Some(&map(&[("etag", "W/\"a\""), ("last-modified", OLD)])),
        );
        let expected = map(&[
            ("accept", "x"),
            ("if-none-match", "W/\"a\""),
            ("if-modified-since", OLD),
        ]);
        assert_eq!(request, expected);
        prepare(&mut request, None);
        assert_eq!(request, map(&[("accept", "x")]));
    }

    #[test]
    fn a_304_about_another_answer_confirms_nothing() {
        let stored = map(&[("etag", "\"a\""), ("last-modified", OLD)]);
        assert!(confirms(&map(&[]), &stored));
        assert!(confirms(
            &map(&[("etag", "\"a\""), ("last-modified", NEW)]),
            &stored
        ));
        assert!(!confirms(&map(&[("etag", "\"b\"")]), &stored));
        assert!(!confirms(&map(&[("last-modified", NEW)]), &stored));
        assert!(!confirms(
            &map(&[("etag", "\"a\"")]),
            &map(&[("last-modified", OLD)])
        ));
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
            ("content-length", "0"),
            ("cache-control", "max-age=2"),
            ("x", "3"),
        ]);
        let expected = map(&[
            ("content-type", "a"),
            ("content-length", "5"),
            ("cache-control", "max-age=2"),
            ("x", "3"),
            ("y", "kept"),
        ]);
        assert_eq!(merged(&stored, &fresh), expected);
    }
}
