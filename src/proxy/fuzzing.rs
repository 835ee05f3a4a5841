//! Doors into this room for `fuzz/`, compiled for it and, so that they stay whole, with the tests.
//!
//! Each is one pure step of the road, as `handle` and `forward` call it.

use std::net::IpAddr;

use http::header::{HeaderMap, HeaderValue};
use http::request::Parts;

use crate::config::model::{Config, PathRules};
use crate::wire::{ClientAddress, Peer};

use super::{headers, normalize, path, sift, trust};

/// The canonical form of a path; `None` when it is already that.
///
/// # Errors
/// Why it has none.
pub fn canonical_path(path: &str, rules: PathRules) -> Result<Option<String>, &'static str> {
    path::canonical(path, rules)
}

/// The canonical form of a host, if it is one.
#[must_use]
pub fn canonical_host(host: &str, secure: bool) -> Option<String> {
    normalize::canonical_host(host, secure)
        .ok()
        .map(std::borrow::Cow::into_owned)
}

/// Who sent a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Sender {
    /// Its address.
    pub address: ClientAddress,
    /// Whether it spoke TLS.
    pub secure: bool,
    /// The client, then the proxies up to our peer; none when the peer is not trusted.
    pub hops: Option<Vec<IpAddr>>,
}

/// Finds out who sent a request with these fields.
#[must_use]
pub fn sender(fields: &HeaderMap, peer: &Peer, config: &Config) -> Sender {
    let client = trust::client(fields, peer, config);
    Sender {
        address: client.address,
        secure: client.secure,
        hops: client
            .told
            .map(|told| told.hops.iter().flatten().copied().collect()),
    }
}

/// Brings a head into its canonical form, and makes the fields that go to an endpoint of it; none when
/// it is refused.
#[must_use]
pub fn to_upstream(
    head: &mut Parts,
    peer: &Peer,
    empty: bool,
    config: &Config,
) -> Option<HeaderMap> {
    let client = trust::client(&head.headers, peer, config);
    normalize::scheme(&head.uri, peer.secure, client.secure).ok()?;
    normalize::head(head, client.secure, empty, config).ok()?;
    sift::request(&mut head.headers, peer, &client, config);
    let mut fields = HeaderMap::new();
    let id = HeaderValue::from_static("00000000-0000-0000-0000-000000000000");
    headers::for_upstream(head, peer, &client, config, &id, &mut |name, value| {
        fields.append(name, value.clone());
    });
    Some(fields)
}
