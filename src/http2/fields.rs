//! What HTTP/2 does to header fields (RFC 9113 section 8.2).
//!
//! Used wherever a message leaves for or comes from a connection of HTTP/2. Invariant: no field of a
//! connection goes into HTTP/2, and none that frames a message, routes it or says who sent it comes
//! through as a trailer.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::wire::{may_trail, sift_trailers};

pub use crate::wire::fields::{is_of_a_connection, strip_connection};

/// Removes from trailers what may not stand there; false if nothing is left.
pub fn clean_trailers(trailers: &mut HeaderMap) -> bool {
    sift_trailers(trailers, |name| may_trail(name) && !is_no_token(name));
    !trailers.is_empty()
}

/// Whether a value has blanks around it (RFC 9113 section 8.2.1).
#[must_use]
pub fn is_padded(value: &HeaderValue) -> bool {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    blank(value.as_bytes().first()) || blank(value.as_bytes().last())
}

/// Whether a name has the one byte that `HeaderName` takes and no token has (RFC 9110 section 5.6.2).
#[must_use]
pub fn is_no_token(name: &HeaderName) -> bool {
    name.as_str().contains('"')
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
