//! The crumbs of a cookie, put together again (RFC 9113 section 8.2.3).

use bytes::Bytes;
use http::header::HeaderValue;

/// The crumbs of a cookie so far (RFC 9113 section 8.2.3).
pub(super) enum Cookie {
    None,
    Whole(HeaderValue),
    Crumbs(Vec<u8>),
}

impl Cookie {
    pub(super) fn add(&mut self, crumb: HeaderValue) {
        *self = match std::mem::replace(self, Self::None) {
            Self::None => Self::Whole(crumb),
            Self::Whole(first) => {
                Self::Crumbs([first.as_bytes(), b"; ", crumb.as_bytes()].concat())
            }
            Self::Crumbs(mut crumbs) => {
                crumbs.extend_from_slice(b"; ");
                crumbs.extend_from_slice(crumb.as_bytes());
                Self::Crumbs(crumbs)
            }
        };
    }

    pub(super) fn joined(self) -> Option<HeaderValue> {
        match self {
            Self::None => None,
            Self::Whole(value) => Some(value),
            // Made of values, so a value.
            Self::Crumbs(crumbs) => HeaderValue::from_maybe_shared(Bytes::from(crumbs)).ok(),
        }
    }
}
