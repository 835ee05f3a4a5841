//! A request as an exchange takes it.
//!
//! `proxy::forward` makes one for each attempt. `http1` writes fields that are told straight behind
//! the request line; `http2`, tunnels and whoever edits want them in a map. Invariant: fields are told
//! in full and without side effects, each time anew, so that a request can be sent again.

use http::Method;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;

use super::request_body::RequestBody;

/// A request to an endpoint.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its target in origin form, or `*`.
    pub target: &'a PathAndQuery,
    /// Its fields.
    pub fields: Fields<'a>,
    /// What follows.
    pub body: RequestBody,
}

/// Calls back once for each field line, in their order.
pub type Tell<'a> = dyn Fn(&mut dyn FnMut(&HeaderName, &HeaderValue)) + 'a;

/// The fields of a request to an endpoint.
pub enum Fields<'a> {
    /// In a map; boxed, since most requests have none.
    Map(Box<HeaderMap>),
    /// Wherever they come from.
    Told(&'a Tell<'a>),
}

impl Fields<'_> {
    /// A map of them.
    #[must_use]
    pub fn into_map(self) -> HeaderMap {
        match self {
            Self::Map(map) => *map,
            Self::Told(tell) => {
                let mut map = HeaderMap::new();
                tell(&mut |name, value| {
                    map.append(name, value.clone());
                });
                map
            }
        }
    }
}

impl std::fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Map(map) => f.debug_tuple("Map").field(map).finish(),
            Self::Told(_) => f.write_str("Told"),
        }
    }
}
