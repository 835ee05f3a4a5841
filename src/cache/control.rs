//! Reads `Cache-Control` (RFC 9111 section 5.2, RFC 5861, RFC 8246) of requests and answers.
//!
//! `freshness` and the look-up in `mod` act on what is found here; `targeted` reads the same directives
//! from fields that are meant for this cache. A number that is not one counts as none at all: zero
//! where it prolongs a life, nothing where it permits something. Of repeated directives of an answer
//! the first counts (section 4.2.1), of a request the strictest. A `no-cache` or `private` whose field
//! names cannot be read counts as the unqualified one. Unknown directives are passed over.
//! Invariant: any bytes are accepted, and the work is linear.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::time::Duration;

use http::header::{CACHE_CONTROL, PRAGMA};
use http::{HeaderMap, HeaderName};

/// What an answer says about its storage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a directive of its own"
)]
pub(super) struct ResponseControl {
    pub(super) no_store: bool,
    /// Without field names: all of the answer.
    pub(super) no_cache: bool,
    /// Without field names: all of the answer.
    pub(super) private: bool,
    pub(super) public: bool,
    pub(super) must_revalidate: bool,
    pub(super) proxy_revalidate: bool,
    pub(super) must_understand: bool,
    pub(super) immutable: bool,
    pub(super) s_maxage: Option<Duration>,
    pub(super) max_age: Option<Duration>,
    pub(super) stale_while_revalidate: Option<Duration>,
    pub(super) stale_if_error: Option<Duration>,
    /// Fields that only the client who fetched the answer may see: named by `no-cache` or `private`.
    pub(super) hidden: Vec<HeaderName>,
}

/// How stale an answer a request takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MaxStale {
    /// However stale.
    Any,
    /// So long after it was fresh.
    Of(Duration),
}

/// What a request says about the answers it takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RequestControl {
    pub(super) no_store: bool,
    pub(super) no_cache: bool,
    pub(super) only_if_cached: bool,
    pub(super) max_age: Option<Duration>,
    pub(super) min_fresh: Option<Duration>,
    pub(super) max_stale: Option<MaxStale>,
    pub(super) stale_if_error: Option<Duration>,
}

impl ResponseControl {
    /// Reads every `Cache-Control` line of an answer.
    pub(super) fn read(headers: &HeaderMap) -> Self {
        let mut control = Self::default();
        for (name, argument) in all_directives(headers) {
            control.add(name, argument);
        }
        control
    }

    /// Takes one directive, whose name may be in any case.
    pub(super) fn add(&mut self, name: &[u8], argument: Argument<'_>) {
        let is = |directive: &[u8]| name.eq_ignore_ascii_case(directive);
        if is(b"max-age") {
            self.max_age.get_or_insert_with(|| argument.seconds());
        } else if is(b"s-maxage") {
            self.s_maxage.get_or_insert_with(|| argument.seconds());
        } else if is(b"no-store") {
            self.no_store = true;
        } else if is(b"no-cache") {
            let all = !hide(&mut self.hidden, argument);
            self.no_cache |= all;
        } else if is(b"private") {
            let all = !hide(&mut self.hidden, argument);
            self.private |= all;
        } else if is(b"public") {
            self.public = true;
        } else if is(b"must-revalidate") {
            self.must_revalidate = true;
        } else if is(b"proxy-revalidate") {
            self.proxy_revalidate = true;
        } else if is(b"must-understand") {
            self.must_understand = true;
        } else if is(b"immutable") {
            self.immutable = true;
        } else if is(b"stale-while-revalidate") {
            permit(&mut self.stale_while_revalidate, argument);
        } else if is(b"stale-if-error") {
            permit(&mut self.stale_if_error, argument);
        }
    }
}

/// A directive that permits something permits nothing where it cannot be read.
fn permit(held: &mut Option<Duration>, argument: Argument<'_>) {
    held.get_or_insert(argument.seconds());
}

/// Adds the fields that a qualified directive names; false if it names none that can be read.
fn hide(hidden: &mut Vec<HeaderName>, argument: Argument<'_>) -> bool {
    let Argument::Text(list) = argument else {
        return false;
    };
    let members = || list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let names = members().filter(|name| !name.is_empty());
    let Ok(names) = names
        .map(HeaderName::from_bytes)
        .collect::<Result<Vec<_>, _>>()
    else {
        return false;
    };
    let named = !names.is_empty();
    hidden.extend(names);
    named
}

impl RequestControl {
    /// Reads every `Cache-Control` line of a request, or `Pragma` where there is none (RFC 9111
    /// section 5.4).
    pub(super) fn read(headers: &HeaderMap) -> Self {
        let mut control = Self::default();
        if !headers.contains_key(CACHE_CONTROL) {
            control.no_cache = headers
                .get_all(PRAGMA)
                .iter()
                .flat_map(|line| Directives(line.as_bytes()))
                .any(|(name, _)| name.eq_ignore_ascii_case(b"no-cache"));
            return control;
        }
        for (name, argument) in all_directives(headers) {
            control.add(name, argument);
        }
        control
    }

    fn add(&mut self, name: &[u8], argument: Argument<'_>) {
        let is = |directive: &[u8]| name.eq_ignore_ascii_case(directive);
        if is(b"no-store") {
            self.no_store = true;
        } else if is(b"no-cache") {
            self.no_cache = true;
        } else if is(b"only-if-cached") {
            self.only_if_cached = true;
        } else if is(b"max-age") {
            lower_to(&mut self.max_age, argument.seconds());
        } else if is(b"min-fresh") {
            // A demand that cannot be read is one that nothing stored can meet.
            let wanted = argument.valid_seconds().unwrap_or(MAX_DELTA);
            self.min_fresh = Some(self.min_fresh.map_or(wanted, |old| old.max(wanted)));
        } else if is(b"max-stale") {
            let taken = match argument {
                Argument::Absent => MaxStale::Any,
                Argument::Text(_) | Argument::Broken => MaxStale::Of(argument.seconds()),
            };
            self.max_stale = Some(match (self.max_stale, taken) {
                (Some(MaxStale::Of(old)), MaxStale::Of(new)) => MaxStale::Of(old.min(new)),
                (Some(bound @ MaxStale::Of(_)), MaxStale::Any) => bound,
                (_, taken) => taken,
            });
        } else if is(b"stale-if-error") {
            lower_to(&mut self.stale_if_error, argument.seconds());
        }
    }

    /// Whether it wants something better than what the answer's own rules ask for.
    pub(super) fn demands(&self) -> bool {
        self.no_cache || self.max_age.is_some() || self.min_fresh.is_some()
    }
}

/// RFC 9111 section 1.2.2: what does not fit is taken as 2^31 seconds.
const MAX_DELTA: Duration = Duration::from_secs(1 << 31);

fn lower_to(held: &mut Option<Duration>, seen: Duration) {
    *held = Some(held.map_or(seen, |old| old.min(seen)));
}

fn all_directives(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], Argument<'_>)> {
    headers
        .get_all(CACHE_CONTROL)
        .iter()
        .flat_map(|line| Directives(line.as_bytes()))
}

/// What follows a directive's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Argument<'a> {
    Absent,
    /// A token, or what stands between the quotes (escapes are left in: no number has any).
    Text(&'a [u8]),
    /// Not of the grammar.
    Broken,
}

impl Argument<'_> {
    fn valid_seconds(self) -> Option<Duration> {
        let Self::Text(text) = self else { return None };
        parse_delta(text)
    }

    /// Delta-seconds of a lifetime: none at all when it cannot be read.
    fn seconds(self) -> Duration {
        self.valid_seconds().unwrap_or(Duration::ZERO)
    }
}

/// `delta-seconds` (RFC 9111 section 1.2.2): digits only, saturating at 2^31.
pub(super) fn parse_delta(text: &[u8]) -> Option<Duration> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = text.iter().fold(0_u64, |sum, digit| {
        sum.saturating_mul(10)
            .saturating_add(u64::from(digit.saturating_sub(b'0')))
    });
    Some(Duration::from_secs(seconds).min(MAX_DELTA))
}

/// The directives of one line, in order.
struct Directives<'a>(&'a [u8]);

impl<'a> Iterator for Directives<'a> {
    type Item = (&'a [u8], Argument<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let separator = |byte: &u8| matches!(byte, b',' | b' ' | b'\t');
        self.0 = skip_while(self.0, separator);
        if self.0.is_empty() {
            return None;
        }
        let name = self.take_until(|byte| matches!(byte, b',' | b'=' | b' ' | b'\t' | b'"'));
        let mut argument = match self.0.split_first() {
            Some((b'=', rest)) => {
                self.0 = rest;
                self.argument()
            }
            _ => Argument::Absent,
        };
        // What still stands before the comma makes the argument unreadable. Quotes in it are
        // honoured, so that no directive is found inside of them.
        self.0 = skip_while(self.0, |byte| matches!(byte, b' ' | b'\t'));
        while let Some((&byte, rest)) = self.0.split_first() {
            if byte == b',' {
                break;
            }
            argument = Argument::Broken;
            self.0 = rest;
            if byte == b'"' {
                self.quoted();
            }
        }
        Some((name, argument))
    }
}

impl<'a> Directives<'a> {
    fn take_until(&mut self, stop: impl Fn(&u8) -> bool) -> &'a [u8] {
        let end = self.0.iter().position(stop).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at_checked(end).unwrap_or((self.0, &[]));
        self.0 = rest;
        taken
    }

    fn argument(&mut self) -> Argument<'a> {
        match self.0.split_first() {
            Some((b'"', rest)) => {
                self.0 = rest;
                self.quoted()
            }
            _ => Argument::Text(self.take_until(|byte| matches!(byte, b',' | b' ' | b'\t' | b'"'))),
        }
    }

    /// The rest of a quoted string whose opening quote is gone.
    fn quoted(&mut self) -> Argument<'a> {
        let start = self.0;
        let mut length = 0_usize;
        while let Some((&byte, rest)) = self.0.split_first() {
            self.0 = rest;
            match byte {
                b'"' => return Argument::Text(start.get(..length).unwrap_or_default()),
                b'\\' => {
                    self.0 = self.0.split_first().map_or(&[], |(_, rest)| rest);
                    length = length.saturating_add(2);
                }
                _ => length = length.saturating_add(1),
            }
        }
        Argument::Broken
    }
}

fn skip_while(bytes: &[u8], skipped: impl Fn(&u8) -> bool) -> &[u8] {
    let start = bytes
        .iter()
        .position(|byte| !skipped(byte))
        .unwrap_or(bytes.len());
    bytes.get(start..).unwrap_or_default()
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test fails by it")]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(
                CACHE_CONTROL,
                HeaderValue::from_bytes(line.as_bytes()).unwrap(),
            );
        }
        headers
    }

    fn response(lines: &[&str]) -> ResponseControl {
        ResponseControl::read(&headers(lines))
    }

    fn request(lines: &[&str]) -> RequestControl {
        RequestControl::read(&headers(lines))
    }

    fn secs(n: u64) -> Option<Duration> {
        Some(Duration::from_secs(n))
    }

    #[test]
    fn plain_directives_are_read_in_any_case_and_spacing() {
        let seen = response(&[
            "  Public ,MAX-AGE=60,,\t s-maxage=120 , No-Cache",
            "PRIVATE",
        ]);
        assert_eq!(seen.max_age, secs(60));
        assert_eq!(seen.s_maxage, secs(120));
        assert!(seen.no_cache && seen.private && !seen.no_store);
    }

    #[test]
    fn a_quoted_number_is_a_number() {
        assert_eq!(response(&["max-age=\"60\""]).max_age, secs(60));
    }

    #[test]
    fn numbers_that_cannot_be_read_mean_no_freshness() {
        for bad in [
            "max-age",
            "max-age=",
            "max-age=-1",
            "max-age=+1",
            "max-age=1.5",
            "max-age=60s",
            "max-age=\"60",
            "max-age = 60",
            "max-age= 60",
            "max-age=60 60",
            "max-age=60;x",
            "max-age=\"60\"\"70\"",
            "max-age=0x10",
        ] {
            assert_eq!(response(&[bad]).max_age, secs(0), "{bad}");
        }
    }

    #[test]
    fn huge_numbers_saturate() {
        let huge = format!("max-age={}", "9".repeat(400));
        assert_eq!(response(&[&huge]).max_age, secs(1 << 31));
    }

    #[test]
    fn of_repeated_lifetimes_the_first_counts() {
        assert_eq!(
            response(&["max-age=60, max-age=10", "max-age=30"]).max_age,
            secs(60)
        );
        assert_eq!(response(&["max-age=x, max-age=10"]).max_age, secs(0));
    }

    #[test]
    fn nothing_is_found_inside_a_quoted_argument() {
        let seen = response(&["ext=\"a, no-store, \\\", private\", max-age=5"]);
        assert!(!seen.no_store && !seen.private);
        assert_eq!(seen.max_age, secs(5));
        let seen = response(&["ext=x\"no-store, private\", max-age=5"]);
        assert!(!seen.no_store && !seen.private);
        assert_eq!(seen.max_age, secs(5));
    }

    #[test]
    fn qualified_forms_hide_what_they_name_and_nothing_else() {
        let seen = response(&["no-cache=\"Set-Cookie, x-a\", private=x-b"]);
        assert!(!seen.no_cache && !seen.private);
        assert_eq!(seen.hidden, ["set-cookie", "x-a", "x-b"]);
        for unreadable in [
            "no-cache=\"\"",
            "no-cache=\"a b\"",
            "no-cache=\"a",
            "no-cache=",
        ] {
            let seen = response(&[unreadable]);
            assert!(seen.no_cache && seen.hidden.is_empty(), "{unreadable}");
        }
    }

    #[test]
    fn each_directive_of_an_answer_is_told_from_the_others() {
        let flags = |line: &str| {
            let it = response(&[line]);
            [
                it.no_store,
                it.no_cache,
                it.private,
                it.public,
                it.must_revalidate,
                it.proxy_revalidate,
                it.must_understand,
                it.immutable,
            ]
        };
        let lines = [
            "no-store",
            "no-cache",
            "private",
            "public",
            "must-revalidate",
            "proxy-revalidate",
            "must-understand",
            "immutable",
        ];
        for (index, line) in lines.into_iter().enumerate() {
            let mut expected = [false; 8];
            expected[index] = true;
            assert_eq!(flags(&line.to_uppercase()), expected, "{line}");
        }
    }

    #[test]
    fn permission_to_be_stale_is_given_in_numbers_only() {
        let seen = response(&["stale-while-revalidate=30, stale-if-error=\"60\""]);
        assert_eq!(seen.stale_while_revalidate, secs(30));
        assert_eq!(seen.stale_if_error, secs(60));
        let seen = response(&["stale-while-revalidate, stale-if-error=x"]);
        assert_eq!(seen.stale_while_revalidate, secs(0));
        assert_eq!(seen.stale_if_error, secs(0));
    }

    #[test]
    fn a_request_says_how_stale_an_answer_it_takes() {
        let stale = |line: &str| request(&[line]).max_stale;
        let of = |seconds| Some(MaxStale::Of(Duration::from_secs(seconds)));
        assert_eq!(stale("max-stale"), Some(MaxStale::Any));
        assert_eq!(stale("max-stale=9"), of(9));
        assert_eq!(stale("max-stale, max-stale=9"), of(9));
        assert_eq!(stale("max-stale=9, max-stale"), of(9));
        assert_eq!(stale("max-stale=9, max-stale=3"), of(3));
        assert_eq!(stale("max-stale=x"), of(0));
        assert_eq!(stale("max-age=1"), None);
    }

    #[test]
    fn names_that_only_begin_alike_are_unknown() {
        assert_eq!(
            response(&["no-stored, xno-store, max-ages=1"]),
            ResponseControl::default()
        );
    }

    #[test]
    fn a_request_that_cannot_be_understood_demands_more() {
        assert_eq!(request(&["max-age=x"]).max_age, secs(0));
        assert_eq!(request(&["min-fresh=x"]).min_fresh, secs(1 << 31));
        assert_eq!(request(&["min-fresh=5, min-fresh=9"]).min_fresh, secs(9));
    }

    #[test]
    fn pragma_counts_only_without_cache_control() {
        let mut with = HeaderMap::new();
        with.insert(PRAGMA, HeaderValue::from_static("x, No-Cache"));
        assert!(RequestControl::read(&with).no_cache);
        with.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=9"));
        assert!(!RequestControl::read(&with).no_cache);
    }

    #[test]
    fn no_bytes_stop_the_reader() {
        let seed = 0x5eed;
        let mut random = fastrand::Rng::with_seed(seed);
        for round in 0..20_000 {
            let bytes: Vec<u8> = (0..random.usize(..24))
                .map(|_| random.choice(*b"a=\",\\ \t9-m").unwrap())
                .collect();
            let mut left = Directives(&bytes);
            let steps = left.by_ref().count();
            assert!(steps <= bytes.len(), "seed {seed:#x} round {round}");
            assert!(left.0.is_empty(), "seed {seed:#x} round {round}");
        }
    }
}
