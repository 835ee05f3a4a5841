//! Status and fields of a stored answer.
//!
//! Copied into one allocation of the exact size that carries its own reservation. It already has a place for
//! each field that an answer overwrites: cloning it and setting them neither grows nor rehashes the map.
//! `form` makes of it the heads of the other forms, `hit` and `reader` the heads of answers.
//! Invariant: nothing that concerned only the connection it came on is in it.

use std::time::SystemTime;

use http::StatusCode;
use http::header::{
    AGE, CACHE_CONTROL, CACHE_STATUS, CONNECTION, CONTENT_LENGTH, CONTENT_LOCATION, DATE, ETAG,
    EXPIRES, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED, VARY,
};

use crate::wire::fields::{is_hop_by_hop, members};

use super::budget::{ALLOCATION_OVERHEAD, Reservation, counted};
use super::conditional;
use super::form::{self, Coded};
use super::status::{Verdict, stamp};
use super::tags::{CACHE_TAG, SURROGATE_KEY};
use super::targeted::{HEADGATE_CACHE_CONTROL, SURROGATE_CONTROL};

/// Set by `proxy` on every answer; an entry keeps a place for it.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Status and fields of an answer, without what concerned only the connection it came on.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// What the answer says to this cache alone: kept for when it is validated, never sent on.
    pub(super) for_us: Box<[(HeaderName, HeaderValue)]>,
    /// `Cache-Status` of the caches further in.
    pub(super) inner: Option<HeaderValue>,
    /// The coding of the stored bytes, where clients are told apart by whether they take it.
    pub(super) coded: Option<Coded>,
    /// With it, what the origin has said in fields that say something else here.
    pub(super) said: Option<Box<HeaderMap>>,
}

impl Head {
    /// Bytes that a copy of these fields takes, with the places that are added, as lines and as a block.
    pub(super) fn charge(headers: &HeaderMap, coded: Option<Coded>) -> usize {
        let one = |(name, value): (&HeaderName, &HeaderValue)| {
            3 * (name.as_str().len() + value.len()) + 124
        };
        let fields: usize = headers.iter().map(one).sum();
        let said = coded.map_or(0, |_| {
            let said = headers
                .iter()
                .filter(|(name, _)| form::is_kept_as_said(name));
            // And what is marked: a coding, a `Vary`, the letters that weaken a tag.
            said.map(one).sum::<usize>() + 3 * 128 + ALLOCATION_OVERHEAD
        });
        fields + said + 5 * 128 + 2 * ALLOCATION_OVERHEAD
    }

    /// Copies a head, as it is for bytes that are `coded`, without the fields that are `hidden`.
    /// `reservation` is its `charge`.
    pub(super) fn copy(
        status: StatusCode,
        headers: &HeaderMap,
        hidden: &[HeaderName],
        coded: Option<Coded>,
        wall: SystemTime,
        reservation: Reservation,
    ) -> Self {
        let is_kept =
            |name: &HeaderName| !is_per_connection(headers, name) && !hidden.contains(name);
        let shown = coded.map(|coded| coded.shown(headers));
        let kept = || {
            let shown = shown.as_ref().unwrap_or(headers);
            shown.iter().filter(|(name, _)| is_kept(name))
        };
        let as_said = || {
            let said = headers.iter().filter(|_| coded.is_some());
            said.filter(|(name, _)| is_kept(name) && form::is_kept_as_said(name))
        };
        let all = kept().chain(as_said());
        let parts: Vec<&[u8]> = all.map(|(_, value)| value.as_bytes()).collect();
        let mut values = counted(&parts, reservation);
        let mut copy = HeaderMap::with_capacity(parts.len() + 5);
        let mut for_us = Vec::new();
        for (name, value) in kept() {
            let bytes = values.split_to(value.len().min(values.len()));
            if let Ok(value) = HeaderValue::from_maybe_shared(bytes) {
                match FOR_US.contains(name) {
                    true => for_us.push((name.clone(), value)),
                    false => drop(copy.append(name.clone(), value)),
                }
            }
        }
        let mut said = coded.map(|_| Box::new(HeaderMap::new()));
        for (name, value) in as_said() {
            let bytes = values.split_to(value.len().min(values.len()));
            if let (Some(said), Ok(value)) = (&mut said, HeaderValue::from_maybe_shared(bytes)) {
                said.append(name.clone(), value);
            }
        }
        // RFC 9110 section 6.6.1: whoever receives an answer without a date adds it.
        if !copy.contains_key(DATE)
            && let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(wall))
        {
            copy.insert(DATE, date);
        }
        let inner = join(copy.get_all(CACHE_STATUS).iter());
        for name in [AGE, CACHE_STATUS, X_REQUEST_ID] {
            copy.insert(name, HeaderValue::from_static(""));
        }
        Self {
            status,
            headers: copy,
            for_us: for_us.into(),
            inner,
            coded,
            said,
        }
    }

    /// All that the origin said: what is sent on, and what was for this cache alone.
    pub(super) fn said(&self) -> HeaderMap {
        let mut headers = self.headers.clone();
        self.restore(&mut headers);
        for (name, value) in &self.for_us {
            headers.append(name.clone(), value.clone());
        }
        headers
    }

    /// `Cache-Status` of the caches further in.
    pub(super) fn inner(&self) -> Option<&HeaderValue> {
        self.inner.as_ref()
    }

    pub(super) fn lines(&self) -> Box<[u8]> {
        let mut text = Vec::new();
        for (name, value) in &self.headers {
            if !OVERWRITTEN.contains(name) {
                text.extend_from_slice(name.as_ref());
                text.extend_from_slice(b": ");
                text.extend_from_slice(value.as_bytes());
                text.extend_from_slice(b"\r\n");
            }
        }
        text.into()
    }

    /// States the length of the whole body, where the status has one.
    pub(super) fn set_length(&mut self, length: u64) {
        if self.status != StatusCode::NO_CONTENT {
            self.headers
                .insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
    }

    /// Whether a client with these conditions already has this answer.
    pub(super) fn is_held_by(&self, request: &HeaderMap) -> bool {
        self.status == StatusCode::OK && conditional::is_not_modified(request, &self.headers)
    }

    /// The fields of an answer.
    pub(super) fn answer(&self, age: Option<u64>, verdict: Verdict) -> HeaderMap {
        let mut headers = self.headers.clone();
        stamp(&mut headers, self.inner.as_ref(), age, verdict);
        headers
    }

    /// The fields of a `304` in its place (RFC 9110 section 15.4.5).
    pub(super) fn not_modified(&self, age: Option<u64>, verdict: Verdict) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(12);
        for name in [CACHE_CONTROL, CONTENT_LOCATION, DATE, ETAG, EXPIRES, VARY] {
            for value in self.headers.get_all(&name) {
                headers.append(name.clone(), value.clone());
            }
        }
        if !headers.contains_key(ETAG)
            && let Some(modified) = self.headers.get(LAST_MODIFIED)
        {
            headers.insert(LAST_MODIFIED, modified.clone());
        }
        headers.insert(X_REQUEST_ID, HeaderValue::from_static(""));
        stamp(&mut headers, self.inner.as_ref(), age, verdict);
        headers
    }
}

/// What an answer states anew.
pub(super) static OVERWRITTEN: [HeaderName; 4] = [CONTENT_LENGTH, AGE, CACHE_STATUS, X_REQUEST_ID];

/// Fields that speak to this cache, and to nobody behind it.
const FOR_US: [HeaderName; 4] = [
    HEADGATE_CACHE_CONTROL,
    SURROGATE_CONTROL,
    SURROGATE_KEY,
    CACHE_TAG,
];

/// Takes from an answer that is not stored what it says to this cache alone.
pub fn strip(headers: &mut HeaderMap) {
    for name in FOR_US {
        headers.remove(name);
    }
}

/// RFC 9111 section 3.1 and RFC 9110 section 7.6.1. `X-Request-Id` is of one request only.
fn is_per_connection(headers: &HeaderMap, name: &HeaderName) -> bool {
    *name == X_REQUEST_ID
        || is_hop_by_hop(name)
        || name.as_str() == "proxy-authentication-info"
        || headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(members)
            .any(|option| option.eq_ignore_ascii_case(name.as_ref()))
}

fn join<'a>(values: impl Iterator<Item = &'a HeaderValue>) -> Option<HeaderValue> {
    let parts: Vec<&[u8]> = values
        .map(HeaderValue::as_bytes)
        .filter(|v| !v.is_empty())
        .collect();
    if parts.is_empty() {
        return None;
    }
    HeaderValue::from_bytes(&parts.join(&b", "[..])).ok()
}

#[cfg(test)]
mod tests {
    use super::super::budget::Budget;
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn head(lines: &[(&'static str, &'static str)]) -> Head {
        let headers = map(lines);
        let reservation = Budget::new(1 << 20)
            .reserve(Head::charge(&headers, None))
            .unwrap();
        Head::copy(
            StatusCode::OK,
            &headers,
            &[],
            None,
            SystemTime::UNIX_EPOCH,
            reservation,
        )
    }

    #[test]
    fn what_concerned_the_connection_is_not_stored() {
        let stored = head(&[
            ("connection", "x-hop, Keep-Alive"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("x-request-id", "of another"),
            ("x", "1"),
            ("x", "2"),
        ]);
        let expected = map(&[
            ("x", "1"),
            ("x", "2"),
            ("date", "Thu, 01 Jan 1970 00:00:00 GMT"),
            ("age", ""),
            ("cache-status", ""),
            ("x-request-id", ""),
        ]);
        assert_eq!(stored.headers, expected);
    }

    #[test]
    fn what_is_for_this_cache_is_kept_for_validation_and_not_sent_on() {
        let lines = [
            ("surrogate-key", "a b"),
            ("cache-tag", "c"),
            ("surrogate-control", "max-age=1"),
            ("headgate-cache-control", "max-age=2"),
            ("cdn-cache-control", "max-age=3"),
            ("x", "1"),
        ];
        let stored = head(&lines);
        let answer = stored.answer(None, Verdict::Hit { ttl: 1 });
        let said = stored.said();
        for (index, (name, value)) in lines.into_iter().enumerate() {
            assert_eq!(answer.contains_key(name), index > 3, "{name}");
            assert_eq!(said[name], value);
        }
    }

    #[test]
    fn an_answer_does_not_grow_the_stored_map() {
        let stored = head(&[("cache-status", "a; hit"), ("cache-status", "b; fwd=miss")]);
        let answer = stored.answer(Some(3), Verdict::Hit { ttl: 7 });
        assert_eq!(answer.keys_len(), stored.headers.keys_len());
        assert_eq!(
            answer[CACHE_STATUS],
            "a; hit, b; fwd=miss, headgate; hit; ttl=7"
        );
        assert_eq!(answer[AGE], "3");
    }

    #[test]
    fn a_304_carries_only_what_it_should() {
        let lines = [
            ("cache-control", "max-age=1"),
            ("content-type", "a"),
            ("content-length", "1"),
            ("etag", "\"a\""),
            ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("vary", "accept"),
        ];
        let names = |head: &Head| {
            let headers = head.not_modified(Some(0), Verdict::Hit { ttl: 1 });
            let mut names: Vec<_> = headers
                .keys()
                .map(|name| name.as_str().to_owned())
                .collect();
            names.sort();
            names.join(" ")
        };
        assert_eq!(
            names(&head(&lines)),
            "age cache-control cache-status date etag vary x-request-id"
        );
        let without_tag: Vec<_> = lines
            .into_iter()
            .filter(|(name, _)| *name != "etag")
            .collect();
        assert_eq!(
            names(&head(&without_tag)),
            "age cache-control cache-status date last-modified vary x-request-id"
        );
    }

    #[test]
    fn conditions_are_answered_only_in_place_of_a_200() {
        let mut stored = head(&[("etag", "\"a\"")]);
        let request = map(&[("if-none-match", "\"a\"")]);
        assert!(stored.is_held_by(&request));
        stored.status = StatusCode::NOT_FOUND;
        assert!(!stored.is_held_by(&request));
    }

    #[test]
    fn the_head_is_counted_while_a_value_of_it_is_alive() {
        let headers = map(&[("x", "value")]);
        let budget = Budget::new(1 << 20);
        let reservation = budget.reserve(Head::charge(&headers, None)).unwrap();
        let head = Head::copy(
            StatusCode::OK,
            &headers,
            &[],
            None,
            SystemTime::UNIX_EPOCH,
            reservation,
        );
        let value = head.headers["x"].clone();
        drop(head);
        assert_eq!(budget.used(), Head::charge(&headers, None));
        drop(value);
        assert_eq!(budget.used(), 0);
    }
}
