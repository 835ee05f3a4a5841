//! What HTTP/2 does to header fields (RFC 9113 section 8.2).
//!
//! Used wherever a message leaves for or comes from a connection of HTTP/2. Invariant: no field of a
//! connection goes into HTTP/2, and none that frames a message, routes it or says who sent it comes
//! through as a trailer.

use http::header::{
    CONNECTION, COOKIE, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};

use crate::wire::{may_trail, sift_trailers};

/// Fields of a connection (RFC 9113 section 8.2.2).
const OF_A_CONNECTION: [HeaderName; 5] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Removes what belongs to a connection of HTTP/1.1.
pub fn strip_connection(headers: &mut HeaderMap) {
    for name in &OF_A_CONNECTION {
        headers.remove(name);
    }
}

/// Removes from trailers what may not stand there; false if nothing is left.
pub fn clean_trailers(trailers: &mut HeaderMap) -> bool {
    sift_trailers(trailers, |name| may_trail(name) && !is_no_token(name));
    !trailers.is_empty()
}

/// Whether a value has blanks around it, which h2 lets through (RFC 9113 section 8.2.1).
#[must_use]
pub fn is_padded(value: &HeaderValue) -> bool {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    blank(value.as_bytes().first()) || blank(value.as_bytes().last())
}

/// Whether a name has the one byte that h2 takes and no token has (RFC 9110 section 5.6.2).
#[must_use]
pub fn is_no_token(name: &HeaderName) -> bool {
    name.as_str().contains('"')
}

/// Puts the crumbs of a cookie together again (RFC 9113 section 8.2.3).
pub fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    let (Some(first), Some(_)) = (crumbs.next(), crumbs.next()) else {
        return;
    };
    let mut joined = first.as_bytes().to_vec();
    for crumb in headers.get_all(COOKIE).iter().skip(1) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    // Made of values, so a value.
    if let Ok(joined) = HeaderValue::from_maybe_shared(bytes::Bytes::from(joined)) {
        headers.insert(COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = list.iter().map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        pairs.collect()
    }

    #[test]
    fn crumbs_become_one_cookie_and_one_cookie_stays_as_it_is() {
        let mut headers = HeaderMap::new();
        for crumb in ["a=1", "b=2", "c=3; d=4"] {
            headers.append(COOKIE, HeaderValue::from_static(crumb));
        }
        join_cookies(&mut headers);
        let all: Vec<_> = headers.get_all(COOKIE).iter().collect();
        assert_eq!(all, ["a=1; b=2; c=3; d=4"]);
        join_cookies(&mut headers);
        assert_eq!(headers[COOKIE], "a=1; b=2; c=3; d=4");
    }

    #[test]
    fn the_connection_stays_behind_and_trailers_keep_only_what_may_follow() {
        let mut headers = fields(&[("connection", "x"), ("keep-alive", "1"), ("etag", "\"a\"")]);
        strip_connection(&mut headers);
        assert_eq!(headers.len(), 1);
        let mut trailers = fields(&[
            ("grpc-status", "0"),
            ("host", "evil"),
            ("content-length", "3"),
        ]);
        assert!(clean_trailers(&mut trailers));
        assert_eq!(trailers.len(), 1);
        let mut nothing = fields(&[("transfer-encoding", "chunked"), ("authorization", "x")]);
        assert!(!clean_trailers(&mut nothing));
    }

    #[test]
    fn blanks_around_a_value_are_seen() {
        for (value, padded) in [(" a", true), ("a\t", true), ("a b", false), ("", false)] {
            assert_eq!(
                is_padded(&HeaderValue::from_static(value)),
                padded,
                "{value:?}"
            );
        }
    }
}
