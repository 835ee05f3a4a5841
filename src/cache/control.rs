//! Reads `Cache-Control` (RFC 9111 section 5.2) of requests and answers.
//!
//! `freshness` and the look-up in `mod` act on what is found here. Whatever is not well formed is
//! read so that less is stored and less is served: a broken, negative or missing `max-age` is zero,
//! of repeated numbers the smallest counts, a qualified `no-cache` or `private` counts as the
//! unqualified one, and unknown directives are passed over. `must-revalidate` and
//! `proxy-revalidate` need no flag while nothing stale is ever served.
//! Invariant: any bytes are accepted, nothing is allocated, and the work is linear.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::time::Duration;

use http::HeaderMap;
use http::header::{CACHE_CONTROL, PRAGMA};

/// What an answer says about its storage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ResponseControl {
    pub(super) no_store: bool,
    pub(super) no_cache: bool,
    pub(super) private: bool,
    pub(super) s_maxage: Option<Duration>,
    pub(super) max_age: Option<Duration>,
}

/// What a request says about the answers it takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RequestControl {
    pub(super) no_store: bool,
    pub(super) no_cache: bool,
    pub(super) only_if_cached: bool,
    pub(super) max_age: Option<Duration>,
    pub(super) min_fresh: Option<Duration>,
}

impl ResponseControl {
    /// Reads every `Cache-Control` line of an answer.
    pub(super) fn read(headers: &HeaderMap) -> Self {
        let mut control = Self::default();
        for (name, argument) in all_directives(headers) {
            if name.eq_ignore_ascii_case(b"no-store") {
                control.no_store = true;
            } else if name.eq_ignore_ascii_case(b"no-cache") {
                control.no_cache = true;
            } else if name.eq_ignore_ascii_case(b"private") {
                control.private = true;
            } else if name.eq_ignore_ascii_case(b"s-maxage") {
                lower_to(&mut control.s_maxage, argument.seconds());
            } else if name.eq_ignore_ascii_case(b"max-age") {
                lower_to(&mut control.max_age, argument.seconds());
            }
        }
        control
    }
}

impl RequestControl {
    /// Reads every `Cache-Control` line of a request, or `Pragma` where there is none (RFC 9111
    /// section 5.4). `max-stale` is permission, not a demand, and is not used.
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
            if name.eq_ignore_ascii_case(b"no-store") {
                control.no_store = true;
            } else if name.eq_ignore_ascii_case(b"no-cache") {
                control.no_cache = true;
            } else if name.eq_ignore_ascii_case(b"only-if-cached") {
                control.only_if_cached = true;
            } else if name.eq_ignore_ascii_case(b"max-age") {
                lower_to(&mut control.max_age, argument.seconds());
            } else if name.eq_ignore_ascii_case(b"min-fresh") {
                // A demand that cannot be read is one that nothing stored can meet.
                let wanted = argument.valid_seconds().unwrap_or(MAX_DELTA);
                control.min_fresh = Some(control.min_fresh.map_or(wanted, |old| old.max(wanted)));
            }
        }
        control
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
enum Argument<'a> {
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
    fn of_repeated_lifetimes_the_smallest_counts() {
        assert_eq!(
            response(&["max-age=60, max-age=10", "max-age=30"]).max_age,
            secs(10)
        );
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
    fn qualified_forms_count_as_unqualified() {
        let seen = response(&["no-cache=\"set-cookie\", private=\"x\""]);
        assert!(seen.no_cache && seen.private);
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
