//! Which field of an answer governs this cache (RFC 9213), and what it says.
//!
//! `freshness` asks for an answer's directives; the first field of the list that is valid and not empty
//! gives them, and then `Cache-Control` and `Expires` mean nothing here: `Headgate-Cache-Control`,
//! `CDN-Cache-Control`, `Surrogate-Control` (the Edge Architecture's, with a grammar of its own), and
//! last `Cache-Control`. Invariant: a field that cannot be read as a whole counts as absent.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use http::header::{HeaderMap, HeaderName};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

use super::control::{Argument, ResponseControl, parse_delta};

/// For this cache alone.
pub(super) const HEADGATE_CACHE_CONTROL: HeaderName =
    HeaderName::from_static("headgate-cache-control");
/// For caches that work for the origin.
pub(super) const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");
/// The older one for the same.
pub(super) const SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");

/// An answer's directives for this cache, and whether they replace `Expires` too.
pub(super) fn control(headers: &HeaderMap) -> (ResponseControl, bool) {
    for name in [HEADGATE_CACHE_CONTROL, CDN_CACHE_CONTROL] {
        if let Some(control) = dictionary(headers, &name) {
            return (control, true);
        }
    }
    if let Some(control) = surrogate(headers) {
        return (control, true);
    }
    (ResponseControl::read(headers), false)
}

/// RFC 9213 section 2.1: a dictionary of which each member is a directive.
fn dictionary(headers: &HeaderMap, name: &HeaderName) -> Option<ResponseControl> {
    let joined = joined(headers, name)?;
    let members: Dictionary = Parser::new(&joined).parse().ok()?;
    if members.is_empty() {
        return None;
    }
    let mut control = ResponseControl::default();
    for (name, entry) in &members {
        let name = name.as_str().as_bytes();
        let ListEntry::Item(item) = entry else {
            control.add(name, Argument::Broken);
            continue;
        };
        match &item.bare_item {
            BareItem::Boolean(false) => {}
            BareItem::Boolean(true) => control.add(name, Argument::Absent),
            BareItem::Integer(number) => {
                control.add(name, Argument::Text(number.to_string().as_bytes()));
            }
            // A list of field names is a string; a number in quotes is not a number here.
            BareItem::String(text) if !text.as_str().bytes().all(|byte| byte.is_ascii_digit()) => {
                control.add(name, Argument::Text(text.as_str().as_bytes()));
            }
            _ => control.add(name, Argument::Broken),
        }
    }
    Some(control)
}

/// `Surrogate-Control` of the Edge Architecture Specification: `max-age=FRESH+STALE`, `no-store` and
/// `no-store-remote`, each with `;TARGET` for one surrogate alone. What is for others is passed over.
fn surrogate(headers: &HeaderMap) -> Option<ResponseControl> {
    let joined = joined(headers, &SURROGATE_CONTROL)?;
    let mut control = ResponseControl::default();
    let mut is_for_us = false;
    for member in split_outside_quotes(&joined, b',') {
        let mut parts = split_outside_quotes(member, b';');
        let directive = parts.next()?.trim_ascii();
        let mut targets = parts.map(<[u8]>::trim_ascii).peekable();
        if directive.is_empty() {
            return None;
        }
        let is_general = targets.peek().is_none();
        if !is_general && !targets.any(|target| target.eq_ignore_ascii_case(b"headgate")) {
            continue;
        }
        let mut sides = directive.splitn(2, |byte| *byte == b'=');
        let name = sides.next()?;
        match (name.to_ascii_lowercase().as_slice(), sides.next()) {
            (b"max-age", Some(value)) => {
                let mut ages = value.splitn(2, |byte| *byte == b'+');
                let fresh = ages.next()?;
                parse_delta(fresh)?;
                control.add(b"max-age", Argument::Text(fresh));
                if let Some(stale) = ages.next() {
                    parse_delta(stale)?;
                    control.add(b"stale-while-revalidate", Argument::Text(stale));
                    control.add(b"stale-if-error", Argument::Text(stale));
                }
            }
            (b"no-store" | b"no-store-remote", None) => control.no_store = true,
            // `content="ESI/1.0"` asks for processing, which is not what a cache does.
            _ => continue,
        }
        is_for_us = true;
    }
    is_for_us.then_some(control)
}

/// A field's lines as one value.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let mut lines = headers.get_all(name).iter();
    let mut joined = lines.next()?.as_bytes().to_vec();
    for line in lines {
        joined.extend_from_slice(b", ");
        joined.extend_from_slice(line.as_bytes());
    }
    Some(joined)
}

fn split_outside_quotes(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    text.split(move |byte| {
        quoted ^= *byte == b'"';
        *byte == separator && !quoted
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn seen(lines: &[(&'static str, &str)]) -> (ResponseControl, bool) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        control(&headers)
    }

    fn max_age(lines: &[(&'static str, &str)]) -> Option<u64> {
        seen(lines).0.max_age.map(|age| age.as_secs())
    }

    const PLAIN: (&str, &str) = ("cache-control", "max-age=1");
    const CDN: (&str, &str) = ("cdn-cache-control", "max-age=2");
    const OURS: (&str, &str) = ("headgate-cache-control", "max-age=3");
    const SURROGATE: (&str, &str) = ("surrogate-control", "max-age=4");

    #[test]
    fn the_most_specific_field_governs_alone() {
        assert_eq!(seen(&[PLAIN]), (seen(&[PLAIN]).0, false));
        assert_eq!(max_age(&[PLAIN, SURROGATE]), Some(4));
        assert_eq!(max_age(&[PLAIN, SURROGATE, CDN]), Some(2));
        assert_eq!(max_age(&[PLAIN, SURROGATE, CDN, OURS]), Some(3));
        let (control, targeted) = seen(&[("cache-control", "no-store, private"), CDN]);
        assert!(targeted && !control.no_store && !control.private);
    }

    #[test]
    fn a_field_that_is_empty_or_no_dictionary_is_as_good_as_absent() {
        for broken in [
            "",
            "max-age=",
            "max-age=2,",
            "max-age=2 public",
            "Max-Age=2",
            "\"x\"",
        ] {
            assert_eq!(
                max_age(&[PLAIN, ("cdn-cache-control", broken)]),
                Some(1),
                "{broken}"
            );
        }
    }

    #[test]
    fn members_have_types_and_parameters_mean_nothing() {
        let age = |value| max_age(&[("cdn-cache-control", value)]);
        assert_eq!(age("max-age=5;x=1"), Some(5));
        assert_eq!(
            age("max-age=5, max-age=6"),
            Some(6),
            "the last of a dictionary"
        );
        for not_a_number in [
            "max-age=\"5\"",
            "max-age=5.5",
            "max-age=x",
            "max-age=(5)",
            "max-age",
            "max-age=-5",
        ] {
            assert_eq!(age(not_a_number), Some(0), "{not_a_number}");
        }
        let (control, _) = seen(&[("cdn-cache-control", "no-store=?0, private=\"x-a\", public")]);
        assert!(!control.no_store && !control.private && control.public);
        assert_eq!(control.hidden, ["x-a"]);
        let two = [
            ("cdn-cache-control", "public"),
            ("cdn-cache-control", "max-age=7"),
        ];
        assert_eq!(max_age(&two), Some(7));
    }

    #[test]
    fn a_surrogates_directives_have_a_grammar_of_their_own() {
        let (control, _) = seen(&[(
            "surrogate-control",
            "max-age=3600+600, content=\"ESI/1.0, a;b\"",
        )]);
        assert_eq!(control.max_age, Some(Duration::from_secs(3600)));
        assert_eq!(
            control.stale_while_revalidate,
            Some(Duration::from_secs(600))
        );
        assert_eq!(control.stale_if_error, Some(Duration::from_secs(600)));
        assert!(seen(&[("surrogate-control", "No-Store")]).0.no_store);
        let aimed = "no-store;akamai, max-age=9; headgate";
        let (control, _) = seen(&[("surrogate-control", aimed)]);
        assert_eq!(
            (control.no_store, control.max_age),
            (false, Some(Duration::from_secs(9)))
        );
        for not_ours in [
            "max-age=9;akamai",
            "content=\"ESI/1.0\"",
            "max-age=x",
            "max-age=9+",
            "",
        ] {
            assert_eq!(
                max_age(&[PLAIN, ("surrogate-control", not_ours)]),
                Some(1),
                "{not_ours}"
            );
        }
    }
}
