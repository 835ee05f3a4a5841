//! Conditional requests for a file, in the order of RFC 9110 section 13.2.2.
//!
//! | step | field                 | holds when                               | else              |
//! |------|-----------------------|------------------------------------------|-------------------|
//! | 1    | `If-Match`            | `*`, or the tag is listed, strongly      | `Failed`          |
//! | 2    | `If-Unmodified-Since` | only without 1: not changed after        | `Failed`          |
//! | 3    | `If-None-Match`       | not `*`, and the tag is not listed       | `NotModified`     |
//! | 4    | `If-Modified-Since`   | only without 3: changed after            | `NotModified`     |
//! | 5    | `If-Range`            | the same file, strongly                  | the range is void |
//!
//! Pure functions. A date that cannot be read is as if it were not there.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::time::SystemTime;

use http::HeaderMap;
use http::header::{HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE};

use crate::range;

use crate::wire::fields::{lists_tag, opaque};

use super::tag::Validators;

/// What the conditions make of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is answered.
    Holds,
    /// `304`.
    NotModified,
    /// `412`.
    Failed,
}

/// Judges steps 1 to 4.
pub(super) fn judge(request: &HeaderMap, file: &Validators) -> Outcome {
    if request.contains_key(IF_MATCH) {
        if !lists(request, &IF_MATCH, |tag| {
            !is_weak(&file.tag) && tag == file.tag.as_bytes()
        }) {
            return Outcome::Failed;
        }
    } else if let Some(since) = date(request, &IF_UNMODIFIED_SINCE)
        && file.modified.is_some_and(|modified| modified > since)
    {
        return Outcome::Failed;
    }
    if request.contains_key(IF_NONE_MATCH) {
        let held = opaque(file.tag.as_bytes());
        if lists(request, &IF_NONE_MATCH, |tag| opaque(tag) == held) {
            return Outcome::NotModified;
        }
    } else if let Some(since) = date(request, &IF_MODIFIED_SINCE)
        && file.modified.is_some_and(|modified| modified <= since)
    {
        return Outcome::NotModified;
    }
    Outcome::Holds
}

/// Judges step 5: whether a range is of the file that the client has a part of.
pub(super) fn is_same(request: &HeaderMap, file: &Validators) -> bool {
    let tag = (!is_weak(&file.tag)).then_some(file.tag.as_bytes());
    range::is_same(request, tag, file.modified.filter(|_| file.is_settled))
}

fn is_weak(tag: &str) -> bool {
    tag.starts_with("W/")
}

fn date(request: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    let mut fields = request.get_all(name).iter();
    let field = fields.next()?;
    // Two dates are no date.
    if fields.next().is_some() {
        return None;
    }
    httpdate::parse_http_date(field.to_str().ok()?.trim()).ok()
}

fn lists(request: &HeaderMap, name: &HeaderName, is_meant: impl Fn(&[u8]) -> bool) -> bool {
    let mut lines = request.get_all(name).iter();
    lines.any(|line| lists_tag(line, &is_meant))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const EXACT: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn file(tag: &str) -> Validators {
        Validators {
            tag: tag.to_owned(),
            modified: UNIX_EPOCH.checked_add(Duration::from_secs(784_111_777)),
            is_settled: true,
        }
    }

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn the_order_of_precedence_is_that_of_section_13_2_2() {
        use Outcome::{Failed, Holds, NotModified};
        const MATCH: &str = "if-match";
        const NONE: &str = "if-none-match";
        const SINCE: &str = "if-modified-since";
        const UNTIL: &str = "if-unmodified-since";
        for (lines, expected) in [
            (&[][..], Holds),
            (&[(MATCH, "\"a\"")], Holds),
            (&[(MATCH, "*")], Holds),
            (&[(MATCH, "\"b\"")], Failed),
            (&[(MATCH, "W/\"a\"")], Failed),
            (&[(MATCH, "\"b\", \"a\"")], Holds),
            (&[(MATCH, "")], Failed),
            // 2 counts only without 1.
            (&[(MATCH, "\"a\""), (UNTIL, BEFORE)], Holds),
            (&[(UNTIL, BEFORE)], Failed),
            (&[(UNTIL, EXACT)], Holds),
            (&[(UNTIL, AFTER)], Holds),
            (&[(UNTIL, "yesterday")], Holds),
            // 3 comes after 1 and 2.
            (&[(NONE, "\"a\"")], NotModified),
            (&[(NONE, "W/\"a\"")], NotModified),
            (&[(NONE, "*")], NotModified),
            (&[(NONE, "\"b\"")], Holds),
            (&[(NONE, "\"x,\", \"a\"")], NotModified),
            (&[(MATCH, "\"b\""), (NONE, "\"a\"")], Failed),
            (&[(UNTIL, BEFORE), (NONE, "\"a\"")], Failed),
            (&[(MATCH, "\"a\""), (NONE, "\"a\"")], NotModified),
            // 4 counts only without 3.
            (&[(SINCE, BEFORE)], Holds),
            (&[(SINCE, EXACT)], NotModified),
            (&[(SINCE, AFTER)], NotModified),
            (&[(SINCE, "yesterday")], Holds),
            (&[(SINCE, AFTER), (SINCE, AFTER)], Holds),
            (&[(NONE, "\"b\""), (SINCE, AFTER)], Holds),
            (&[(NONE, "\"a\""), (SINCE, BEFORE)], NotModified),
            (&[(MATCH, "\"a\""), (SINCE, AFTER)], NotModified),
        ] {
            assert_eq!(judge(&map(lines), &file("\"a\"")), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_weak_tag_matches_weakly_only() {
        let weak = file("W/\"a\"");
        let of = |lines| judge(&map(lines), &weak);
        assert_eq!(of(&[("if-match", "W/\"a\"")]), Outcome::Failed);
        assert_eq!(of(&[("if-match", "*")]), Outcome::Holds);
        assert_eq!(of(&[("if-none-match", "\"a\"")]), Outcome::NotModified);
        assert!(!is_same(&map(&[("if-range", "W/\"a\"")]), &weak));
    }

    #[test]
    fn a_file_without_a_date_is_judged_by_its_tag_alone() {
        let undated = Validators {
            modified: None,
            ..file("\"a\"")
        };
        let of = |lines| judge(&map(lines), &undated);
        assert_eq!(of(&[("if-modified-since", AFTER)]), Outcome::Holds);
        assert_eq!(of(&[("if-unmodified-since", BEFORE)]), Outcome::Holds);
        assert!(!is_same(&map(&[("if-range", EXACT)]), &undated));
    }

    #[test]
    fn if_range_wants_the_very_same() {
        let same = |value| is_same(&map(&[("if-range", value)]), &file("\"a\""));
        assert!(is_same(&map(&[]), &file("\"a\"")));
        assert!(same("\"a\"") && same(EXACT));
        for other in ["\"b\"", "W/\"a\"", "*", "a", BEFORE, AFTER, "yesterday", ""] {
            assert!(!same(other), "{other}");
        }
        let unsettled = Validators {
            is_settled: false,
            ..file("W/\"a\"")
        };
        assert!(!is_same(&map(&[("if-range", EXACT)]), &unsettled));
    }
}
