//! Station 5: what the cache is told of a request.
//!
//! `cached` asks the cache by it, `debug` and `past` as well. Invariant: what a request says beyond its key is in
//! the key, or the cache is not asked; and endpoints see of the query what the key has of it.

use std::borrow::Cow;

use http::{Method, Uri};
use http_body::Body as _;

use crate::balancer::sticky::Sticky;
use crate::body::Inbound;
use crate::cache::{self, Bypass};
use crate::config::model::{CacheRule, RouteEdge, UpstreamId};
use crate::wire;

use super::claims::{self, Beyond};
use super::context::Context;

/// What a request says of its target beyond the key; an error is why the cache is not even asked.
pub(super) fn passes_by(
    context: &Context,
    rule: &CacheRule,
    body: &Inbound,
) -> Result<String, Bypass> {
    if body.offers().is_some() {
        return Err(Bypass::Upgrade);
    }
    if context.request.method.is_safe() && !body.is_end_stream() {
        // Over HTTP/2 no field need say that a body follows.
        return Err(Bypass::RequestBody);
    }
    let shows_who = |tls: &wire::Tls| tls.client_cert.is_some();
    if context.peer.tls.as_deref().is_some_and(shows_who) {
        // A certificate says who asks, as `Authorization` does.
        return Err(Bypass::Authorization);
    }
    if !context.seen.claims {
        return Ok(String::new());
    }
    let added = context.view.snapshot.config.claims.trusted_only.as_deref();
    let keyed = &rule.key.headers;
    match claims::beyond_key(&context.request.headers, keyed, added.unwrap_or_default()) {
        Beyond::Nothing => Ok(String::new()),
        Beyond::Target(told) => Ok(told),
        Beyond::Method => Err(Bypass::Method),
        Beyond::Identity => Err(Bypass::Authorization),
    }
}

/// Whether a request that is not even looked up must not reach an endpoint (RFC 9111 section 5.2.1.7).
pub(super) fn is_only_if_cached(context: &Context, rule: &CacheRule) -> bool {
    let request = &context.request;
    matches!(request.method, Method::GET | Method::HEAD)
        && cache::forbids_asking(rule, &request.headers)
}

/// A target without what the route does not tell answers apart by, if that is another.
pub(super) fn left_of(uri: &Uri, rule: &CacheRule) -> Option<Uri> {
    let left = rule.key.query.apply(uri.query()?)?;
    let target = match left.as_str() {
        "" => uri.path().to_owned(),
        query => format!("{}?{query}", uri.path()),
    };
    target.parse().ok()
}

/// Lets the endpoint see no more of the query than the cache does, so that no answer depends on the rest.
pub(super) fn leave_out(context: &mut Context, rule: &CacheRule) {
    if context.keyed.is_none() {
        return;
    }
    context.rewritten = match context.rewritten.take() {
        // A rewrite leaves the query as it was.
        Some(rewritten) => left_of(&rewritten, rule).or(Some(rewritten)),
        None => context.keyed.clone(),
    };
}

/// Shows the cache a request as it sees it, and lends it a buffer.
pub(super) fn asking<T>(
    context: &Context,
    host: &str,
    upstream: UpstreamId,
    beyond: &str,
    ask: impl FnOnce(&cache::Request<'_>, &mut Vec<u8>) -> T,
) -> T {
    let worker = &context.worker;
    let host = context.client.key_host(host);
    let target = context.keyed.as_ref().unwrap_or(&context.request.uri);
    let target = target.path_and_query();
    let pool = &context.view.snapshot.upstreams[upstream.0].pool;
    let request = cache::Request {
        source: &source(context, upstream, beyond),
        method: &context.request.method,
        scheme: context.client.scheme(),
        host: host.as_bytes(),
        path_and_query: target.map_or("*", |target| target.as_str()),
        headers: &context.request.headers,
        sticky_cookie: pool.sticky().map(Sticky::name),
    };
    ask(&request, &mut worker.scratch.borrow_mut())
}

/// Who answers: the upstream, for a route that asks it something else than its clients asked that route
/// too, and what proxies have told of the target. Such answers are nobody else's.
fn source<'a>(context: &'a Context, upstream: UpstreamId, beyond: &str) -> Cow<'a, str> {
    let snapshot = &context.view.snapshot;
    let name = &*snapshot.upstreams[upstream.0].name;
    let changes = |edge: &RouteEdge| edge.rewrite.is_some() || edge.request_headers.is_some();
    let route = context.route.map(|route| &snapshot.routes[route.0]);
    let route = route.filter(|route| route.edge.as_deref().is_some_and(changes));
    match route {
        None if beyond.is_empty() => Cow::Borrowed(name),
        None => Cow::Owned(format!("{name}\0{beyond}")),
        Some(route) => Cow::Owned(format!("{name}\0{}{beyond}", route.name)),
    }
}
