//! Station 5, for a request that goes past the cache: to an endpoint, for its client alone.
//!
//! `cached` sends here what the cache does not answer and what nobody may share. Invariant: no body of it is
//! stored, and the answer says why.

use std::sync::Arc;

use http::{Method, Response};

use crate::body::Inbound;
use crate::cache::{self, Bypass};
use crate::config::model::{CacheRule, UpstreamId};
use crate::metrics::CacheResult;

use super::asking::{asking, is_only_if_cached};
use super::context::Context;
use super::forward::{self, Order};
use super::outbound::Stream;
use super::reject::Reject;
use super::serving::NoRoom;

/// Sends a request past the cache, which is told what an answer to `HEAD` says of what is stored.
pub(super) async fn learn(
    context: &mut Context,
    rule: &Arc<CacheRule>,
    (host, upstream): (&str, UpstreamId),
    body: Inbound,
    (beyond, why): (&str, Bypass),
) -> Result<Response<Stream>, Reject> {
    let requested = context.worker.cache.clock().now();
    let mut answer = go_past(context, upstream, body, why).await?;
    let may_learn = !matches!(why, Bypass::RequestNoStore | Bypass::Authorization);
    if context.request.method == Method::HEAD && may_learn {
        asking(context, host, upstream, beyond, |request, scratch| {
            let (status, headers) = (answer.status(), answer.headers());
            let cache = &context.worker.cache;
            cache.observe_head(rule, request, requested, (status, headers), scratch);
        });
    }
    label(&mut answer, why);
    Ok(answer)
}

/// Sends a request past the cache, and says why.
pub(super) async fn pass_by(
    context: &mut Context,
    upstream: UpstreamId,
    body: Inbound,
    why: Bypass,
) -> Result<Response<Stream>, Reject> {
    let mut answer = go_past(context, upstream, body, why).await?;
    label(&mut answer, why);
    Ok(answer)
}

/// What is stored, or, without room to decompress it, what the endpoint says, if it may be asked.
pub(super) async fn or_past(
    context: &mut Context,
    rule: &CacheRule,
    found: Result<Response<Stream>, NoRoom>,
    upstream: UpstreamId,
    body: Inbound,
) -> Result<Response<Stream>, Reject> {
    if let Ok(answer) = found {
        return Ok(answer);
    }
    if is_only_if_cached(context, rule) {
        return Err(Reject::NotCached);
    }
    pass_by(context, upstream, body, Bypass::Memory).await
}

/// Sends a request past the cache. The answer is what the endpoint has said.
async fn go_past(
    context: &mut Context,
    upstream: UpstreamId,
    body: Inbound,
    why: Bypass,
) -> Result<Response<Stream>, Reject> {
    context.cache = Some(CacheResult::Bypass);
    if let Some(route) = context.route {
        let metrics = &context.view.snapshot.routes[route.0].metrics;
        metrics.worker(context.worker.id).cache_bypass(why);
    }
    let order = Order::new(context, upstream);
    forward::straight(context, &order, body).await
}

/// Makes an answer from past the cache into the client's.
fn label(answer: &mut Response<Stream>, why: Bypass) {
    cache::strip(answer.headers_mut());
    why.annotate(answer.headers_mut());
}

/// Sends a request for its client alone.
pub(super) async fn straight(
    context: &mut Context,
    upstream: UpstreamId,
    body: Inbound,
) -> Result<Response<Stream>, Reject> {
    let order = Order::new(context, upstream);
    let mut answer = forward::straight(context, &order, body).await?;
    cache::strip(answer.headers_mut());
    Ok(answer)
}
