//! What the cache says about itself: `Cache-Status` (RFC 9211) and the reasons behind it.
//!
//! `mod` names why a request goes around the cache, `freshness` and `permit` why an answer is not
//! stored; `proxy` puts the same words into logs and metrics. Each reason is one word that comes
//! from here, never from a peer. Our member is the last of the list, after those of inner caches.

use http::header::{AGE, CACHE_STATUS, HeaderMap, HeaderValue};

pub use crate::metrics::{CacheBypass as Bypass, CacheRefusal as Uncacheable};

impl Bypass {
    /// Adds our `Cache-Status` member to the forwarded answer.
    pub fn annotate(self, headers: &mut HeaderMap) {
        let fwd = match self {
            Self::Method => return append(headers, &["headgate; fwd=method"]),
            Self::RequestNoStore => "request",
            Self::Uncacheable => "uri-miss",
            Self::Revalidating => "stale",
            Self::Range
            | Self::Precondition
            | Self::Authorization
            | Self::Upgrade
            | Self::NoTransform
            | Self::RequestBody
            | Self::Memory => "bypass",
        };
        append(
            headers,
            &["headgate; fwd=", fwd, "; detail=", self.as_str()],
        );
    }
}

/// Why a request that the cache handles went to the origin (`fwd` of RFC 9211 section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Forward {
    /// Nothing usable is stored for the URL.
    UriMiss,
    /// Something is stored, for requests with other nominated fields.
    VaryMiss,
    /// What is stored is no longer fresh.
    Stale,
    /// What is stored is fresh, but the request asked for better.
    Request,
    /// Parts are stored, and not all that are wanted.
    Partial,
}

impl Forward {
    /// The token of RFC 9211.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Stale => "stale",
            Self::Request => "request",
            Self::Partial => "partial",
        }
    }

    /// Adds our `Cache-Status` member to a part that goes to its client alone.
    pub(super) fn annotate(self, headers: &mut HeaderMap, is_stored: bool) {
        let stored = if is_stored { "; stored" } else { "" };
        append(headers, &["headgate; fwd=", self.as_str(), stored]);
    }
}

/// An answer that is not shared, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Why the answer is not stored.
    pub reason: Uncacheable,
    /// Why the request went to the origin.
    pub forward: Forward,
}

impl Refusal {
    /// Adds our `Cache-Status` member to the forwarded answer.
    pub fn annotate(self, headers: &mut HeaderMap) {
        let (fwd, detail) = (self.forward.as_str(), self.reason.as_str());
        append(headers, &["headgate; fwd=", fwd, "; detail=", detail]);
    }
}

fn append(headers: &mut HeaderMap, parts: &[&str]) {
    if let Ok(value) = HeaderValue::from_maybe_shared(bytes::Bytes::from(parts.concat())) {
        headers.append(CACHE_STATUS, value);
    }
}

/// Adds a key, of printable ASCII, to our member, which is the last.
pub(super) fn add_key(headers: &mut HeaderMap, key: &str) {
    let lines: Vec<HeaderValue> = headers.get_all(CACHE_STATUS).iter().cloned().collect();
    let Some((last, before)) = lines.split_last() else {
        return;
    };
    let key = key.replace('\\', "\\\\").replace('"', "\\\"");
    let told = [last.as_bytes(), b"; key=\"", key.as_bytes(), b"\""].concat();
    let Ok(told) = HeaderValue::from_bytes(&told) else {
        return;
    };
    headers.remove(CACHE_STATUS);
    for line in before.iter().cloned().chain([told]) {
        headers.append(CACHE_STATUS, line);
    }
}

/// How an answer of the cache came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// From the store, fresh for this many seconds more; below zero, stale for so long.
    Hit { ttl: i64 },
    /// The same, from disk.
    Recalled { ttl: i64 },
    /// From the store, stale, since the origin failed: with this status, or without one.
    Fallback {
        status: Option<u16>,
        collapsed: bool,
    },
    /// Fetched for this request and stored.
    Stored(Forward),
    /// Fetched for this request and not stored.
    Fetched(Forward),
    /// Fetched for another request that was under way.
    Collapsed(Forward),
    /// Stored, and confirmed by the origin, for this request or for another that was under way.
    Validated { forward: Forward, collapsed: bool },
}

fn fallback(collapsed: bool) -> &'static str {
    match collapsed {
        true => "; collapsed; detail=stale-if-error",
        false => "; detail=stale-if-error",
    }
}

/// Our member for an answer from the store, to be followed by how long it is fresh.
pub(super) const HIT: &str = "headgate; hit; ttl=";

/// Sets `Age` (seconds; absent when `None`) and `Cache-Status`, after the member of an inner cache.
/// The two values share one allocation, since this is most of what a hit allocates.
pub(super) fn stamp(
    headers: &mut HeaderMap,
    inner: Option<&HeaderValue>,
    age: Option<u64>,
    verdict: Verdict,
) {
    let mut text = Vec::with_capacity(64 + inner.map_or(0, HeaderValue::len));
    let mut digits = itoa::Buffer::new();
    text.extend_from_slice(age.map_or("", |age| digits.format(age)).as_bytes());
    let age_len = text.len();
    if let Some(inner) = inner {
        text.extend_from_slice(inner.as_bytes());
        text.extend_from_slice(b", ");
    }
    let (start, forward, end) = match verdict {
        Verdict::Hit { ttl } => (HIT, "", digits.format(ttl)),
        Verdict::Recalled { ttl } => (HIT, digits.format(ttl), "; detail=disk"),
        Verdict::Fallback {
            status: Some(status),
            collapsed,
        } => (
            "headgate; fwd=stale; fwd-status=",
            digits.format(status),
            fallback(collapsed),
        ),
        Verdict::Fallback {
            status: None,
            collapsed,
        } => ("headgate; fwd=stale", "", fallback(collapsed)),
        Verdict::Stored(forward) => ("headgate; fwd=", forward.as_str(), "; stored"),
        Verdict::Fetched(forward) => ("headgate; fwd=", forward.as_str(), ""),
        Verdict::Collapsed(forward) => ("headgate; fwd=", forward.as_str(), "; collapsed"),
        Verdict::Validated {
            forward,
            collapsed: false,
        } => ("headgate; fwd=", forward.as_str(), "; fwd-status=304"),
        Verdict::Validated {
            forward,
            collapsed: true,
        } => (
            "headgate; fwd=",
            forward.as_str(),
            "; fwd-status=304; collapsed",
        ),
    };
    for part in [start, forward, end] {
        text.extend_from_slice(part.as_bytes());
    }
    let mut text = bytes::Bytes::from(text);
    let age_text = text.split_to(age_len);
    if age.is_none() {
        headers.remove(AGE);
    } else if let Ok(value) = HeaderValue::from_maybe_shared(age_text) {
        headers.insert(AGE, value);
    }
    if let Ok(value) = HeaderValue::from_maybe_shared(text) {
        headers.insert(CACHE_STATUS, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_member_follows_those_of_inner_caches() {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_STATUS, HeaderValue::from_static("inner; hit"));
        Bypass::Range.annotate(&mut headers);
        let lines: Vec<_> = headers.get_all(CACHE_STATUS).iter().collect();
        assert_eq!(lines, ["inner; hit", "headgate; fwd=bypass; detail=range"]);

        let inner = HeaderValue::from_static("inner; hit");
        stamp(
            &mut headers,
            Some(&inner),
            Some(5),
            Verdict::Hit { ttl: 55 },
        );
        assert_eq!(headers[CACHE_STATUS], "inner; hit, headgate; hit; ttl=55");
        assert_eq!(headers[AGE], "5");
    }

    #[test]
    fn each_verdict_has_its_words() {
        let words = |verdict| {
            let mut headers = HeaderMap::new();
            headers.insert(AGE, HeaderValue::from_static("9"));
            stamp(&mut headers, None, None, verdict);
            assert!(!headers.contains_key(AGE));
            headers[CACHE_STATUS].to_str().unwrap().to_owned()
        };
        assert_eq!(
            words(Verdict::Stored(Forward::UriMiss)),
            "headgate; fwd=uri-miss; stored"
        );
        assert_eq!(
            words(Verdict::Fetched(Forward::Request)),
            "headgate; fwd=request"
        );
        assert_eq!(
            words(Verdict::Collapsed(Forward::VaryMiss)),
            "headgate; fwd=vary-miss; collapsed"
        );
        assert_eq!(
            words(Verdict::Recalled { ttl: 5 }),
            "headgate; hit; ttl=5; detail=disk"
        );
        let validated = Verdict::Validated {
            forward: Forward::Stale,
            collapsed: false,
        };
        assert_eq!(words(validated), "headgate; fwd=stale; fwd-status=304");
    }
}
