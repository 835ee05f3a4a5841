//! The method `PURGE`: a URL is purged by asking for that.
//!
//! `handle` calls it on caching routes, before anything is sent on. Where the route's `purge` names nobody,
//! the method is not allowed; `Soft-Purge: 1` leaves what is stored as a stale answer.
//! Invariant: `PURGE` never reaches an endpoint of a caching route, whoever sends it.

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode};

use crate::cache::{Selector, Strength};
use crate::config::model::CacheRule;
use crate::metrics::{PurgeKind, PurgeStrength};
use crate::wire::ClientAddress;

use super::context::Context;
use super::outbound::Stream;
use super::reject::Reject;

const SOFT_PURGE: HeaderName = HeaderName::from_static("soft-purge");

/// Whether a request asks for a purge.
pub(super) fn is_asked(request: &Parts) -> bool {
    request.method.as_str() == "PURGE"
}

/// Purges the URL that was asked for, with all its variants.
///
/// # Errors
/// `NotAllowed` on a route that nobody may purge, `NotPurger` for a client that may not, `Malformed` when
/// `Soft-Purge` is neither 0 nor 1.
pub(super) fn purge(
    context: &Context,
    rule: &CacheRule,
    host: &str,
) -> Result<Response<Stream>, Reject> {
    let purgers = rule.purgers.as_ref().ok_or(Reject::NotAllowed)?;
    let may = match context.client.address {
        ClientAddress::Inet(address) => purgers.include(Some(address.ip())),
        ClientAddress::Unix => purgers.include(None),
        // Who gets to a socket of another machine is for nobody here to say.
        ClientAddress::UnixAtProxy | ClientAddress::Unknown => false,
    };
    if !may {
        return Err(Reject::NotPurger);
    }
    let request = &context.request;
    let strength = match request.headers.get(SOFT_PURGE).map(HeaderValue::as_bytes) {
        None | Some(b"0") => Strength::Hard,
        Some(b"1") => Strength::Soft,
        Some(_) => return Err(Reject::Malformed("Soft-Purge is 0 or 1")),
    };
    let (scheme, host) = (context.client.scheme(), context.client.key_host(host));
    let target = request.uri.path_and_query();
    let target = target.map_or("/", |target| target.as_str());
    for target in context.view.snapshot.stored_forms(target) {
        let url = Selector::Url {
            scheme,
            host: &host,
            target: &target,
        };
        // Only prefixes can be too many.
        context.worker.cache.purge(&url, strength).ok();
    }
    let counted = match strength {
        Strength::Hard => PurgeStrength::Hard,
        Strength::Soft => PurgeStrength::Soft,
    };
    let metrics = context.worker.metrics.control();
    metrics.purged(PurgeKind::Url, counted);
    tracing::debug!(request_id = %context.id, scheme, %host, target, ?strength, "purged by PURGE");
    Ok(answer(strength))
}

fn answer(strength: Strength) -> Response<Stream> {
    let text = match strength {
        Strength::Hard => "{\"purged\":true,\"soft\":false}\n",
        Strength::Soft => "{\"purged\":true,\"soft\":true}\n",
    };
    let mut response = Response::new(Stream::Whole(text.into()));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
