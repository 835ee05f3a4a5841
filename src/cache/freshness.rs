//! May an answer be stored, and how long is it fresh (RFC 9111 sections 3 and 4.2).
//!
//! `permit` asks once for each answer of the origin. Pure: times come in, a `Freshness` or the
//! reason against storing comes out. Every doubt is decided against storing, or for a shorter
//! life. Requests with `Authorization` never come this far: the look-up passes them by.

use std::time::{Duration, SystemTime};

use http::header::{AGE, DATE, ETAG, EXPIRES, LAST_MODIFIED, SET_COOKIE};
use http::{HeaderMap, HeaderName, StatusCode};
use tokio::time::Instant;

use super::control::{ResponseControl, parse_delta};
use super::status::Uncacheable;

/// The life of an answer, counted from when it was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Freshness {
    /// `corrected_initial_age` of RFC 9111 section 4.2.3.
    pub(super) initial_age: Duration,
    /// `freshness_lifetime` of section 4.2.1.
    pub(super) lifetime: Duration,
    /// `no-cache`: never reused without asking the origin.
    pub(super) always_validated: bool,
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

impl Freshness {
    /// Of an answer that is given once.
    pub(super) const NONE: Self = Self {
        initial_age: Duration::ZERO,
        lifetime: Duration::ZERO,
        always_validated: true,
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

/// Decides on one answer. `default_ttl` is the route's, for a heuristically cacheable status
/// without a lifetime of its own.
pub(super) fn judge(
    status: StatusCode,
    headers: &HeaderMap,
    default_ttl: Option<Duration>,
    times: &Times,
) -> Result<Freshness, Uncacheable> {
    let control = ResponseControl::read(headers);
    let understood = Understood::of(status).ok_or(Uncacheable::Status)?;
    if control.no_store {
        return Err(Uncacheable::NoStore);
    }
    if control.private {
        return Err(Uncacheable::Private);
    }
    if headers.contains_key(SET_COOKIE) {
        return Err(Uncacheable::SetCookie);
    }
    let stated = control
        .s_maxage
        .or(control.max_age)
        .or_else(|| expires(headers, times.wall));
    let lifetime = match understood {
        Understood::ByDefault => stated.or(default_ttl).unwrap_or_default(),
        Understood::WhenStated => stated.ok_or(Uncacheable::Status)?,
    };
    let freshness = Freshness {
        initial_age: initial_age(headers, times),
        lifetime,
        always_validated: control.no_cache,
    };
    let has_validator = headers.contains_key(ETAG) || headers.contains_key(LAST_MODIFIED);
    if !freshness.is_reusable() && !has_validator {
        return Err(Uncacheable::NotReusable);
    }
    Ok(freshness)
}

/// Final statuses whose meaning this cache knows. `206` and `304` are not answers of their own.
enum Understood {
    /// Heuristically cacheable (RFC 9110 section 15.1).
    ByDefault,
    /// Only with a stated lifetime.
    WhenStated,
}

impl Understood {
    fn of(status: StatusCode) -> Option<Self> {
        match status.as_u16() {
            200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501 => {
                Some(Self::ByDefault)
            }
            302 | 303 | 307 | 400 | 403 | 406 | 429 | 451 | 500 | 502 | 503 | 504 => {
                Some(Self::WhenStated)
            }
            _ => None,
        }
    }
}

/// Lifetime by `Expires`: none at all when any of its lines cannot be read.
fn expires(headers: &HeaderMap, wall: SystemTime) -> Option<Duration> {
    let dates = headers
        .get_all(EXPIRES)
        .iter()
        .map(|value| parse_date(value.as_bytes()));
    let earliest = dates
        .map(|date| date.unwrap_or(SystemTime::UNIX_EPOCH))
        .min()?;
    let date = date_of(headers, DATE).unwrap_or(wall);
    Some(earliest.duration_since(date).unwrap_or_default())
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

fn parse_date(value: &[u8]) -> Option<SystemTime> {
    httpdate::parse_http_date(std::str::from_utf8(value).ok()?.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> String {
        httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds * 1000))
    }

    /// Received at wall second 1,000,000, two seconds after it was asked for.
    fn judged(status: u16, lines: &[(&'static str, &str)]) -> Result<Freshness, Uncacheable> {
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
        judge(
            StatusCode::from_u16(status).unwrap(),
            &headers,
            Some(7 * SECOND),
            &times,
        )
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
        assert_eq!(
            refused(("cache-control", "private=\"x\"")),
            Uncacheable::Private
        );
        assert_eq!(refused(("set-cookie", "a=b")), Uncacheable::SetCookie);
    }

    #[test]
    fn only_understood_final_statuses_are_kept() {
        let fresh = [("cache-control", "max-age=60")];
        for status in [100, 103, 206, 299, 304, 401, 407, 416, 599] {
            assert_eq!(judged(status, &fresh), Err(Uncacheable::Status), "{status}");
        }
        for status in [200, 204, 301, 302, 404, 410, 503] {
            assert!(judged(status, &fresh).is_ok(), "{status}");
        }
    }

    #[test]
    fn the_default_lifetime_is_for_heuristically_cacheable_statuses() {
        assert_eq!(judged(404, &[]).unwrap().lifetime, 7 * SECOND);
        assert_eq!(judged(302, &[]), Err(Uncacheable::Status));
        assert_eq!(judged(503, &[]), Err(Uncacheable::Status));
    }

    #[test]
    fn what_is_never_fresh_is_kept_only_with_a_validator() {
        for line in ["max-age=0", "no-cache, max-age=60", "max-age=1"] {
            let stale = [("cache-control", line)];
            assert_eq!(judged(200, &stale), Err(Uncacheable::NotReusable), "{line}");
            let kept = judged(200, &[stale[0], ("last-modified", &at(1))]).unwrap();
            assert!(!kept.is_reusable() && kept.usable_for().is_zero(), "{line}");
        }
    }
}
