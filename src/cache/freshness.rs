//! May an answer be stored, how long is it fresh, and may it be served stale (RFC 9111 sections 3 and 4.2).
//!
//! `permit` asks once for each answer of the origin. Pure: times come in, a `Freshness` or the
//! reason against storing comes out. What the answer says comes from `targeted`, what it leaves open
//! from the route's `CacheRule`. Every doubt is decided against storing, or for a shorter life.

use std::time::{Duration, SystemTime};

use http::header::{AGE, DATE, ETAG, EXPIRES, LAST_MODIFIED, SET_COOKIE};
use http::{HeaderMap, HeaderName, StatusCode};
use tokio::time::Instant;

use crate::config::model::{CacheRule, SetCookies};

use super::control::parse_delta;
use super::status::Uncacheable;
use super::targeted;

/// The life of an answer, counted from when it was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a rule of its own")]
pub(super) struct Freshness {
    /// `corrected_initial_age` of RFC 9111 section 4.2.3.
    pub(super) initial_age: Duration,
    /// `freshness_lifetime` of section 4.2.1.
    pub(super) lifetime: Duration,
    /// `no-cache`: never reused without asking the origin.
    pub(super) always_validated: bool,
    /// Never served stale (section 4.2.4).
    pub(super) never_stale: bool,
    /// How long after its life it may be served while it is fetched anew (RFC 5861 section 3).
    pub(super) stale_while_revalidate: Duration,
    /// How long after its life it may be served because the origin fails (RFC 5861 section 4). When
    /// nobody has said so: `None`.
    pub(super) stale_if_error: Option<Duration>,
    /// It will not change while it is fresh: a reload need not ask (RFC 8246).
    pub(super) immutable: bool,
    /// It says that requests of any user may have it (RFC 9111 section 3.5).
    pub(super) is_for_all: bool,
}

/// Who asked for an answer, if it may be theirs alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Personal {
    /// The request had `Authorization`.
    Authorization,
    /// The request had a cookie that the route does not name.
    Cookie,
}

/// Why a fetch brought no answer that is worth passing on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No endpoint took the request.
    Unreachable,
    /// One took it, and failed, was too late or answered with a server error.
    Failed,
}

impl Failure {
    /// What RFC 5861 section 4 calls an error.
    pub fn of(status: StatusCode) -> Option<Self> {
        matches!(status.as_u16(), 500 | 502..=504).then_some(Self::Failed)
    }
}

/// When a fetch happened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// Before the request was sent.
    pub(super) requested: Instant,
    /// The answer's head was there.
    pub(super) received: Instant,
    /// `received` by the wall clock.
    pub(super) wall: SystemTime,
}

/// An answer that may be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Storable {
    pub(super) freshness: Freshness,
    /// Fields that are for the client who fetched it alone.
    pub(super) hidden: Vec<HeaderName>,
}

impl Storable {
    /// Of an answer that is given once.
    pub(super) const NONE: Self = Self {
        freshness: Freshness::NONE,
        hidden: Vec::new(),
    };
}

impl Freshness {
    /// Of an answer that is given once.
    pub(super) const NONE: Self = Self {
        initial_age: Duration::ZERO,
        lifetime: Duration::ZERO,
        always_validated: true,
        never_stale: true,
        stale_while_revalidate: Duration::ZERO,
        stale_if_error: None,
        immutable: false,
        is_for_all: false,
    };

    /// Whether the answer may be given to a request other than the one that fetched it.
    pub(super) fn is_reusable(&self) -> bool {
        !self.always_validated && self.lifetime > self.initial_age
    }

    /// How long from its receipt the answer may be served without asking.
    pub(super) fn usable_for(&self) -> Duration {
        if self.always_validated {
            Duration::ZERO
        } else {
            self.lifetime.saturating_sub(self.initial_age)
        }
    }
}

/// Decides on one answer to a `GET`.
pub(super) fn judge(
    status: StatusCode,
    headers: &HeaderMap,
    rule: &CacheRule,
    personal: Option<Personal>,
    times: &Times,
) -> Result<Storable, Uncacheable> {
    let (control, is_targeted) = targeted::control(headers);
    let understood = Understood::of(status);
    if understood == Understood::Never {
        return Err(Uncacheable::Status);
    }
    let is_known = understood != Understood::AsItsClass;
    // Section 5.2.2.3: `must-understand` takes the place of `no-store` for those that do.
    if control.no_store && !(control.must_understand && is_known) {
        return Err(Uncacheable::NoStore);
    }
    if control.must_understand && !is_known {
        return Err(Uncacheable::Status);
    }
    if control.private {
        return Err(Uncacheable::Private);
    }
    let is_for_all = control.public || control.must_revalidate || control.s_maxage.is_some();
    match personal {
        Some(Personal::Authorization) if !is_for_all => return Err(Uncacheable::Authorization),
        Some(Personal::Cookie) if !is_for_all => return Err(Uncacheable::Cookie),
        Some(_) | None => {}
    }
    let mut hidden = control.hidden.clone();
    if headers.contains_key(SET_COOKIE) && !hidden.contains(&SET_COOKIE) {
        match rule.set_cookies {
            SetCookies::Refuse => return Err(Uncacheable::SetCookie),
            SetCookies::Strip => hidden.push(SET_COOKIE),
        }
    }
    let stated = control.s_maxage.or(control.max_age);
    let stated = match stated {
        None if !is_targeted => expires(headers, times.wall),
        stated => stated,
    };
    let presumed = || presumed(status, headers, rule, times);
    let lifetime = match stated {
        Some(lifetime) => lifetime,
        None if understood == Understood::ByDefault || control.public => {
            presumed().unwrap_or_default()
        }
        // An error that the route keeps for a moment need say nothing.
        None => rule.status_ttl(status).ok_or(Uncacheable::Status)?,
    };
    let never_stale =
        control.must_revalidate || control.proxy_revalidate || control.s_maxage.is_some();
    let freshness = Freshness {
        initial_age: initial_age(headers, times),
        lifetime,
        always_validated: control.no_cache,
        never_stale,
        stale_while_revalidate: control
            .stale_while_revalidate
            .unwrap_or(rule.stale_while_revalidate),
        stale_if_error: control.stale_if_error.or(rule.stale_if_error),
        immutable: control.immutable,
        is_for_all,
    };
    let has_validator = headers.contains_key(ETAG) || headers.contains_key(LAST_MODIFIED);
    // Of an error that nobody else may have there is no use later: if it were stored, each would ask by itself.
    let is_of_use_later =
        Failure::of(status).is_none() && (has_validator || may_serve_later(&freshness));
    if !freshness.is_reusable() && !is_of_use_later {
        return Err(Uncacheable::NotReusable);
    }
    Ok(Storable { freshness, hidden })
}

/// Whether an answer that is stale already may still be of use.
fn may_serve_later(freshness: &Freshness) -> bool {
    let error = freshness.stale_if_error.unwrap_or_default();
    let window = freshness.stale_while_revalidate.max(error);
    let staleness = freshness.initial_age.saturating_sub(freshness.lifetime);
    !freshness.always_validated && !freshness.never_stale && window > staleness
}

/// The lifetime of an answer that states none: the route's, or a tenth of the time for which it has
/// not changed (RFC 9111 section 4.2.2).
fn presumed(
    status: StatusCode,
    headers: &HeaderMap,
    rule: &CacheRule,
    times: &Times,
) -> Option<Duration> {
    rule.status_ttl(status).or(rule.default_ttl).or_else(|| {
        let most = rule.heuristic?;
        let date = date_of(headers, DATE).unwrap_or(times.wall);
        let unchanged = date.duration_since(date_of(headers, LAST_MODIFIED)?).ok()?;
        Some((unchanged / 10).min(most))
    })
}

/// What this cache knows of a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Understood {
    /// Heuristically cacheable (RFC 9110 section 15.1).
    ByDefault,
    /// Its meaning is known; kept with a stated lifetime.
    WhenStated,
    /// As the first of its class (RFC 9110 section 15); kept with a stated lifetime.
    AsItsClass,
    /// No answer of its own, or not to be stored.
    Never,
}

impl Understood {
    fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501 => Self::ByDefault,
            201
            | 202
            | 205
            | 302
            | 303
            | 307
            | 400..=403
            | 406
            | 408
            | 409
            | 411
            | 413
            | 415
            | 417
            | 421
            | 422
            | 425
            | 426
            | 428
            | 429
            | 431
            | 451
            | 500
            | 502..=505
            | 511 => Self::WhenStated,
            // Partial answers are `ranges`' to keep; the others answer conditions.
            0..200 | 206 | 304 | 407 | 412 | 416 => Self::Never,
            _ => Self::AsItsClass,
        }
    }
}

/// Lifetime by `Expires`: none at all when its lines disagree or cannot be read (section 5.3).
fn expires(headers: &HeaderMap, wall: SystemTime) -> Option<Duration> {
    let mut lines = headers.get_all(EXPIRES).iter();
    let first = lines.next()?;
    let expires = parse_date(first.as_bytes()).filter(|_| lines.all(|line| line == first));
    let date = date_of(headers, DATE).unwrap_or(wall);
    let left = expires.and_then(|expires| expires.duration_since(date).ok());
    Some(left.unwrap_or_default())
}

/// RFC 9111 section 4.2.3. A broken `Age` is passed over (section 5.1).
fn initial_age(headers: &HeaderMap, times: &Times) -> Duration {
    let age = headers.get(AGE).and_then(|value| {
        let first = value.as_bytes().split(|byte| *byte == b',').next()?;
        parse_delta(first.trim_ascii())
    });
    let delay = times.received.saturating_duration_since(times.requested);
    let date = date_of(headers, DATE).unwrap_or(times.wall);
    let apparent = times.wall.duration_since(date).unwrap_or_default();
    apparent.max(age.unwrap_or_default().saturating_add(delay))
}

/// The date in a field, in any of the three formats of RFC 9110 section 5.6.7.
pub(super) fn date_of(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    let mut lines = headers.get_all(name).iter();
    let date = parse_date(lines.next()?.as_bytes());
    if lines.next().is_some() { None } else { date }
}

/// Caches take names in any case (RFC 9111 section 4.2), and no zone but GMT.
fn parse_date(value: &[u8]) -> Option<SystemTime> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let parse = |text: &str| match text.contains('-') {
        true => rfc850_date(text),
        false => httpdate::parse_http_date(text).ok(),
    };
    parse(text).or_else(|| parse(&capitalised(text)))
}

/// Each word with one capital, and zones in capitals.
fn capitalised(text: &str) -> String {
    let mut begins = true;
    let letters = text.chars().map(|letter| {
        let starts = std::mem::replace(&mut begins, !letter.is_ascii_alphabetic());
        match starts {
            true => letter.to_ascii_uppercase(),
            false => letter.to_ascii_lowercase(),
        }
    });
    letters.collect::<String>().replace(" Gmt", " GMT")
}

/// The obsolete format with two digits of the year, which is no more than fifty years ahead (RFC 9110
/// section 5.6.7).
fn rfc850_date(text: &str) -> Option<SystemTime> {
    const WEEKDAYS: [&str; 7] = [
        "Monday",
        "Tuesday",
        "Wednesday",
        "Thursday",
        "Friday",
        "Saturday",
        "Sunday",
    ];
    let (weekday, rest) = text.split_once(", ")?;
    let (date, time) = rest.split_once(' ')?;
    let mut parts = date.split('-');
    let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
    let is_whole = parts.next().is_none() && year.len() == 2 && WEEKDAYS.contains(&weekday);
    let weekday = weekday.get(..3).filter(|_| is_whole)?;
    let today = httpdate::fmt_http_date(crate::clock::wall());
    let this_year: u64 = today.get(12..16)?.parse().ok()?;
    let ahead = this_year - this_year % 100 + year.parse::<u64>().ok()?;
    let year = match ahead > this_year + 50 {
        true => ahead - 100,
        false => ahead,
    };
    httpdate::parse_http_date(&format!("{weekday}, {day} {month} {year:04} {time}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> String {
        httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds * 1000))
    }

    /// Received at wall second 1,000,000, two seconds after it was asked for.
    fn by(
        rule: CacheRule,
        personal: Option<Personal>,
        status: u16,
        lines: &[(&'static str, &str)],
    ) -> Result<Storable, Uncacheable> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        let requested = Instant::now();
        let times = Times {
            requested,
            received: requested + 2 * SECOND,
            wall: SystemTime::UNIX_EPOCH + 1_000_000 * SECOND,
        };
        let rule = CacheRule {
            default_ttl: Some(7 * SECOND),
            ..rule
        };
        judge(
            StatusCode::from_u16(status).unwrap(),
            &headers,
            &rule,
            personal,
            &times,
        )
    }

    fn judged(status: u16, lines: &[(&'static str, &str)]) -> Result<Freshness, Uncacheable> {
        by(CacheRule::default(), None, status, lines).map(|kept| kept.freshness)
    }

    fn lifetime(lines: &[(&'static str, &str)]) -> u64 {
        judged(200, &[lines, &[("etag", "\"x\"")]].concat())
            .unwrap()
            .lifetime
            .as_secs()
    }

    #[test]
    fn the_most_specific_lifetime_wins() {
        let date = at(1000);
        let expires = at(1001);
        let all = [
            ("date", date.as_str()),
            ("expires", expires.as_str()),
            ("cache-control", "max-age=60"),
            ("cache-control", "s-maxage=30"),
        ];
        assert_eq!(lifetime(&all), 30);
        assert_eq!(lifetime(&all[..3]), 60);
        assert_eq!(lifetime(&all[..2]), 1000);
        assert_eq!(lifetime(&all[..1]), 7);
    }

    #[test]
    fn expires_counts_from_date_and_from_now_without_one() {
        assert_eq!(
            lifetime(&[("date", &at(990)), ("expires", &at(1001))]),
            11_000
        );
        assert_eq!(lifetime(&[("expires", &at(1001))]), 1000);
        assert_eq!(lifetime(&[("expires", &at(999))]), 0);
    }

    #[test]
    fn an_expires_that_cannot_be_read_is_in_the_past() {
        assert_eq!(lifetime(&[("expires", "0")]), 0);
        assert_eq!(lifetime(&[("expires", &at(1001)), ("expires", "-1")]), 0);
        assert_eq!(
            lifetime(&[("expires", &at(1001)), ("expires", &at(1002))]),
            0
        );
    }

    #[test]
    fn all_three_date_formats_are_read() {
        for date in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            let seconds = parse_date(date.as_bytes()).unwrap();
            assert_eq!(seconds, SystemTime::UNIX_EPOCH + 784_111_777 * SECOND);
        }
    }

    #[test]
    fn dates_are_read_in_any_case_and_by_no_other_zone() {
        let seconds = SystemTime::UNIX_EPOCH + 784_111_777 * SECOND;
        for date in [
            "SUN, 06 nov 1994 08:49:37 gmt",
            "sunday, 06-NOV-94 08:49:37 Gmt",
            "sun nov  6 08:49:37 1994",
        ] {
            assert_eq!(parse_date(date.as_bytes()), Some(seconds), "{date}");
        }
        for broken in [
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 +0000",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun, 06-Nov-94 08:49:37 GMT",
            "Sunday, 06-Nov-1994 08:49:37 GMT",
            "Sun 06 Nov 1994 08:49:37 GMT",
            "Sun, 06  Nov  1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08.49.37 GMT",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "Mon, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-9\u{e9} 08:49:37 GMT",
            "0",
            "-1",
            "",
        ] {
            assert_eq!(parse_date(broken.as_bytes()), None, "{broken}");
        }
    }

    #[test]
    fn two_digits_of_a_year_are_at_most_fifty_years_ahead() {
        let wall = crate::clock::wall();
        let year = 31_556_952 * SECOND;
        for (distance, is_ahead) in [(40, true), (49, true), (52, false), (99, false)] {
            // Both centuries have the day; only one of them has it on this weekday.
            let date = match is_ahead {
                true => wall + distance * year,
                false => wall - (100 - distance) * year,
            };
            let text = httpdate::fmt_http_date(date);
            let (_, rest) = text.split_once(", ").unwrap();
            let mut words = rest.split(' ');
            let (day, month, year) = (
                words.next().unwrap(),
                words.next().unwrap(),
                words.next().unwrap(),
            );
            let time = words.next().unwrap();
            let weekdays = [
                "Monday",
                "Tuesday",
                "Wednesday",
                "Thursday",
                "Friday",
                "Saturday",
                "Sunday",
            ];
            let weekday = weekdays
                .into_iter()
                .find(|name| text.starts_with(name.get(..3).unwrap()));
            let year = year.get(2..).unwrap();
            let old = format!("{}, {day}-{month}-{year} {time} GMT", weekday.unwrap());
            assert_eq!(
                parse_date(old.as_bytes()).map(httpdate::fmt_http_date),
                Some(text),
                "{old}"
            );
        }
    }

    #[test]
    fn the_initial_age_is_the_larger_of_both_ways_to_count() {
        let age = |lines: &[(&'static str, &str)]| {
            let lines = [lines, &[("cache-control", "max-age=9000")]].concat();
            judged(200, &lines).unwrap().initial_age.as_secs()
        };
        assert_eq!(age(&[]), 2);
        assert_eq!(age(&[("age", "50")]), 52);
        assert_eq!(age(&[("age", "50, 90")]), 52);
        assert_eq!(age(&[("age", "x")]), 2);
        assert_eq!(age(&[("date", &at(999)), ("age", "50")]), 1000);
        assert_eq!(age(&[("date", &at(1001))]), 2);
    }

    #[test]
    fn what_might_be_personal_or_must_not_be_kept_is_refused_by_name() {
        let fresh = ("cache-control", "max-age=60");
        let refused = |line| judged(200, &[fresh, line]).unwrap_err();
        assert_eq!(refused(("cache-control", "no-store")), Uncacheable::NoStore);
        assert_eq!(refused(("cache-control", "private")), Uncacheable::Private);
        assert_eq!(refused(("set-cookie", "a=b")), Uncacheable::SetCookie);
    }

    #[test]
    fn named_fields_are_hidden_and_the_rest_is_kept() {
        let lines = [
            (
                "cache-control",
                "max-age=60, private=\"set-cookie\", no-cache=x-a",
            ),
            ("set-cookie", "a=b"),
        ];
        let kept = by(CacheRule::default(), None, 200, &lines).unwrap();
        assert_eq!(kept.hidden, ["set-cookie", "x-a"]);
        let strip = CacheRule {
            set_cookies: SetCookies::Strip,
            ..CacheRule::default()
        };
        let kept = by(
            strip,
            None,
            200,
            &[("cache-control", "max-age=60"), ("set-cookie", "a=b")],
        )
        .unwrap();
        assert_eq!(kept.hidden, [SET_COOKIE]);
    }

    #[test]
    fn an_answer_to_a_user_is_kept_only_when_it_says_that_it_is_for_all() {
        for (personal, reason) in [
            (Personal::Authorization, Uncacheable::Authorization),
            (Personal::Cookie, Uncacheable::Cookie),
        ] {
            let kept = |line| {
                by(
                    CacheRule::default(),
                    Some(personal),
                    200,
                    &[("cache-control", line)],
                )
            };
            assert_eq!(kept("max-age=60"), Err(reason));
            for line in [
                "max-age=60, public",
                "max-age=60, must-revalidate",
                "s-maxage=60",
            ] {
                assert!(kept(line).unwrap().freshness.is_for_all, "{line}");
            }
            assert_eq!(kept("max-age=60, proxy-revalidate"), Err(reason));
        }
    }

    #[test]
    fn final_statuses_are_kept_when_they_state_a_lifetime() {
        let fresh = [("cache-control", "max-age=60")];
        for status in [100, 103, 206, 304, 407, 412, 416] {
            assert_eq!(judged(status, &fresh), Err(Uncacheable::Status), "{status}");
        }
        for status in [200, 204, 299, 301, 302, 401, 404, 410, 499, 503, 599] {
            assert!(judged(status, &fresh).is_ok(), "{status}");
        }
    }

    #[test]
    fn must_understand_replaces_no_store_for_a_status_that_is_known() {
        let lines = [("cache-control", "max-age=60, no-store, must-understand")];
        assert!(judged(200, &lines).is_ok());
        assert_eq!(judged(599, &lines), Err(Uncacheable::NoStore));
        let alone = [("cache-control", "max-age=60, must-understand")];
        assert_eq!(judged(299, &alone), Err(Uncacheable::Status));
    }

    #[test]
    fn the_default_lifetime_is_for_heuristically_cacheable_statuses() {
        assert_eq!(judged(404, &[]).unwrap().lifetime, 7 * SECOND);
        assert_eq!(judged(302, &[]), Err(Uncacheable::Status));
        assert_eq!(judged(503, &[]), Err(Uncacheable::Status));
        let public = judged(302, &[("cache-control", "public")]).unwrap();
        assert_eq!(public.lifetime, 7 * SECOND);
    }

    #[test]
    fn without_a_default_a_tenth_of_the_time_unchanged_is_a_guess() {
        let guess = |heuristic, lines: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, value.parse().unwrap());
            }
            let requested = Instant::now();
            let times = Times {
                requested,
                received: requested,
                wall: SystemTime::UNIX_EPOCH + 1_000_000 * SECOND,
            };
            let rule = CacheRule {
                heuristic,
                ..CacheRule::default()
            };
            presumed(StatusCode::OK, &headers, &rule, &times).map(|ttl| ttl.as_secs())
        };
        let day = Some(86_400 * SECOND);
        let lines = [("last-modified", &*at(900)), ("date", &at(1000))];
        assert_eq!(guess(day, &lines), Some(10_000));
        assert_eq!(guess(Some(60 * SECOND), &lines), Some(60));
        assert_eq!(guess(None, &lines), None);
        assert_eq!(
            guess(day, &lines[..1]),
            Some(10_000),
            "by the time of receipt"
        );
        assert_eq!(guess(day, &lines[1..]), None);
        assert_eq!(guess(day, &[("last-modified", &at(1001))]), None);
    }

    #[test]
    fn a_targeted_field_replaces_expires_too() {
        let lines = [("expires", &*at(1001)), ("cdn-cache-control", "public")];
        assert_eq!(lifetime(&lines), 7);
    }

    #[test]
    fn what_may_never_be_stale_is_told() {
        for line in ["must-revalidate", "proxy-revalidate", "s-maxage=60"] {
            let lines = [
                ("cache-control", "max-age=60, stale-if-error=9"),
                ("cache-control", line),
            ];
            assert!(judged(200, &lines).unwrap().never_stale, "{line}");
        }
        let lines = [(
            "cache-control",
            "max-age=60, stale-while-revalidate=3, stale-if-error=9",
        )];
        let kept = judged(200, &lines).unwrap();
        assert!(!kept.never_stale);
        assert_eq!(kept.stale_while_revalidate, 3 * SECOND);
        assert_eq!(kept.stale_if_error, Some(9 * SECOND));
    }

    #[test]
    fn an_error_that_is_never_fresh_is_not_kept_whatever_it_would_be_good_for_later() {
        for (name, value) in [
            ("etag", "\"1\""),
            ("cache-control", "stale-while-revalidate=9"),
            ("cache-control", "stale-if-error=9"),
        ] {
            let lines = [("cache-control", "max-age=0"), (name, value)];
            assert!(judged(200, &lines).is_ok(), "{value}");
            for status in [500, 502, 503, 504] {
                let kept = judged(status, &lines);
                assert_eq!(kept, Err(Uncacheable::NotReusable), "{status} {value}");
            }
        }
    }

    #[test]
    fn what_is_never_fresh_is_kept_only_with_a_validator() {
        for line in ["max-age=0", "no-cache, max-age=60", "max-age=1"] {
            let stale = [("cache-control", line)];
            assert_eq!(judged(200, &stale), Err(Uncacheable::NotReusable), "{line}");
            let kept = judged(200, &[stale[0], ("last-modified", &at(1))]).unwrap();
            assert!(!kept.is_reusable() && kept.usable_for().is_zero(), "{line}");
        }
        assert!(
            judged(
                200,
                &[("cache-control", "max-age=0, stale-while-revalidate=9")]
            )
            .is_ok()
        );
    }
}
