//! The key of the cache, told to those who look for a fault (RFC 9211 section 2.7).
//!
//! `cached` asks here on routes whose `cache.debug` names anybody; elsewhere it costs a branch. A key tells
//! upstreams, and values of the client's own fields. Invariant: nobody else is told, and nobody without asking,
//! so that a cache between Headgate and such a client has no reason to keep it.

use http::{HeaderName, Response};

use crate::config::model::{CacheRule, Peers, UpstreamId};
use crate::wire::ClientAddress;

use super::asking::asking;
use super::context::Context;
use super::outbound::Stream;

/// Asks with `1`.
const HEADGATE_DEBUG: HeaderName = HeaderName::from_static("headgate-debug");

/// Whether a client asks for the key, and is one of those who may.
pub(super) fn asks_key(context: &Context, debuggers: &Peers) -> bool {
    let field = context.request.headers.get(HEADGATE_DEBUG);
    field.is_some_and(|value| value == "1")
        && match context.client.address {
            ClientAddress::Inet(address) => debuggers.include(Some(address.ip())),
            ClientAddress::Unix => debuggers.include(None),
            ClientAddress::UnixAtProxy | ClientAddress::Unknown => false,
        }
}

/// Adds the key to our member of `Cache-Status`, if the answer has one.
pub(super) fn tell_key(
    context: &Context,
    rule: &CacheRule,
    host: &str,
    upstream: UpstreamId,
    (beyond, answer): (&str, &mut Response<Stream>),
) {
    asking(context, host, upstream, beyond, |request, scratch| {
        let cache = &context.worker.cache;
        cache.tell_key(rule, request, answer.headers_mut(), scratch);
    });
}
