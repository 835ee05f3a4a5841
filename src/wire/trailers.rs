//! Which fields may come after a body (RFC 9110 section 6.5.1).
//!
//! One rule for both versions and both directions; `http1` and `http2` leave out whatever it says no to,
//! on the way in and on the way out. Invariant: nothing that frames or routes a message, says who sent it,
//! decides whether it is sent, or how to read or keep its content, comes through where it was not looked at.

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Fields that mean something before the content only, or on one hop only.
const NEVER: [&str; 44] = [
    "accept-ranges",
    "age",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "forwarded",
    "host",
    "http2-settings",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "retry-after",
    "set-cookie",
    "strict-transport-security",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "x-real-ip",
    "x-request-id",
];

/// Whether a field may be a trailer.
#[must_use]
pub fn may_trail(name: &HeaderName) -> bool {
    let name = name.as_str();
    NEVER.binary_search(&name).is_err() && !name.starts_with("x-forwarded")
}

/// Leaves those trailers whose names `keeps` says yes to.
pub fn sift_trailers(trailers: &mut HeaderMap, keeps: impl Fn(&HeaderName) -> bool) {
    let gone: Vec<HeaderName> = trailers.keys().filter(|it| !keeps(it)).cloned().collect();
    for name in gone {
        trailers.remove(name);
    }
}

/// Whether one of these `Trailer` fields announces a field.
pub fn announces<'a>(
    trailer: impl IntoIterator<Item = &'a HeaderValue>,
    name: &HeaderName,
) -> bool {
    let name = name.as_str().as_bytes();
    trailer
        .into_iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|member| member.trim_ascii().eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_of_lower_case() {
        assert!(NEVER.is_sorted());
        assert!(
            NEVER
                .iter()
                .all(|name| name.bytes().all(|it| !it.is_ascii_uppercase()))
        );
    }

    #[test]
    fn only_what_may_follow_a_body_does() {
        let fields = [
            "grpc-status",
            "grpc-message",
            "etag",
            "digest",
            "server-timing",
            "x-sum",
            "host",
            "content-length",
            "authorization",
            "x-forwarded-for",
            "transfer-encoding",
            "set-cookie",
            "via",
        ];
        let mut trailers: HeaderMap = fields
            .iter()
            .map(|name| {
                let value = HeaderValue::from_static("1");
                (HeaderName::from_static(name), value)
            })
            .collect();
        sift_trailers(&mut trailers, may_trail);
        let left: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left.len(), 6, "{left:?}");
        assert!(fields[..6].iter().all(|name| left.contains(name)));
    }

    #[test]
    fn a_trailer_is_announced_by_its_name_in_any_case() {
        let lists = ["X-Sum", "a,  x-late ,b"].map(HeaderValue::from_static);
        for (name, told) in [("x-sum", true), ("x-late", true), ("x", false)] {
            assert_eq!(
                announces(&lists, &HeaderName::from_static(name)),
                told,
                "{name}"
            );
        }
    }
}
