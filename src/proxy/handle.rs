//! The road of a request, station by station.

use std::future::ready;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::Either;
use http::{HeaderName, Method, Response, Version};
use http_body::Body as _;
use tokio::time::Instant;

use crate::body::Inbound;
use crate::cache::Lookup;
use crate::config::model::{RouteId, Target, UpstreamId};
use crate::router;
use crate::snapshot::Route;
use crate::wire::{Answering, Early, Fault, Head, Peer};

use super::cached::AtOnce;
use super::context::{Context, Hints};
use super::forward::{self, Order};
use super::normalize::{self, Hops};
use super::outbound::{Outbound, Stream};
use super::reject::Reject;
use super::worker::Worker;
use super::{
    cached, challenge, claims, cors, edge, own, purging, respond, sift, static_files, trust,
};

/// Takes one request from its head to its answer. What needs nobody else is done before anything is
/// polled: such an answer, a hit of the cache above all, is never a part of a future's state.
pub(super) fn handle(
    worker: Rc<Worker>,
    peer: Rc<Peer>,
    (mut head, at): (Head, Instant),
    body: Inbound,
    early: Option<Rc<dyn Early>>,
) -> Answering<Outbound, impl Future<Output = Response<Outbound>> + 'static> {
    let view = worker.view();
    let parts = head.parts();
    let config = &view.snapshot.config;
    let client = trust::client(&parts.headers, &peer, config);
    let formed = normalize::scheme(&parts.uri, peer.secure, client.secure)
        .and_then(|()| normalize::head(parts, client.secure, body.is_end_stream(), config));
    let seen = sift::request(&mut parts.headers, &peer, &client, config);
    let mut context = Context::begin(worker, view, peer, client, (head, at));
    context.hints = Hints(early);
    context.seen = seen;
    context.tunnel_only = body.offers().is_some() && context.request.version == Version::HTTP_2;
    match formed.and_then(|hops| road(&mut context, hops, body)) {
        Ok(Way::Here(answer)) => Either::Left(ready(respond::answer(context, answer))),
        Ok(Way::On(further)) => Either::Right(go_on(context, further)),
        Err(reject) => Either::Left(ready(respond::reject(context, &reject))),
    }
}

/// Where the road leads.
enum Way {
    /// To an answer.
    Here(Response<Stream>),
    /// To others, who take their time.
    On(Further),
}

/// Whom the answer comes from.
enum Further {
    Files(RouteId),
    Endpoint(UpstreamId, Inbound),
    /// An endpoint, by the cache: what it has said at once, if it was asked.
    Cache(RouteId, UpstreamId, Inbound, Option<Box<Lookup>>),
}

/// The rest of the road.
async fn go_on(mut context: Box<Context>, further: Further) -> Response<Outbound> {
    match answer(&mut context, further).await {
        Ok(answer) => respond::answer(context, answer),
        Err(reject) => respond::reject(context, &reject),
    }
}

async fn answer(context: &mut Context, further: Further) -> Result<Response<Stream>, Reject> {
    let view = Rc::clone(&context.view);
    let routes = &view.snapshot.routes;
    match further {
        Further::Files(route) => match &routes[route.0].target {
            Target::Files(site) => static_files::serve(context, site).await,
            _ => Err(Reject::NoRoute),
        },
        Further::Endpoint(upstream, body) => {
            forward::straight(context, &Order::new(context, upstream), body).await
        }
        Further::Cache(route, upstream, body, first) => match &routes[route.0].cache {
            Some(rule) => {
                let request = Rc::clone(&context.request);
                let host = normalize::host(&request);
                // Boxed: a request that no cache concerns should not carry the room of this.
                Box::pin(cached::look_up(context, rule, host, upstream, body, first)).await
            }
            None => forward::straight(context, &Order::new(context, upstream), body).await,
        },
    }
}

/// Answers what is no request: counted and logged like one.
pub(super) fn refuse(
    worker: Rc<Worker>,
    peer: Rc<Peer>,
    version: Version,
    fault: Fault,
) -> Response<Outbound> {
    let mut head = Head::new(0);
    head.parts().version = version;
    let view = worker.view();
    let client = trust::client(&head.headers, &peer, &view.snapshot.config);
    let mut context = Context::begin(worker, view, peer, client, (head, Instant::now()));
    context.unread = true;
    respond::reject(context, &Reject::Fault(fault))
}

fn road(context: &mut Context, hops: Hops, body: Inbound) -> Result<Way, Reject> {
    let request = Rc::clone(&context.request);
    let view = Rc::clone(&context.view);
    if let Some(answer) = own::to_the_proxy(&request, hops) {
        return Ok(Way::Here(answer));
    }

    let host = normalize::host(&request);
    if !context.peer.admits(host) {
        return Err(if context.peer.stands() {
            Reject::Misdirected
        } else {
            Reject::Outdated
        });
    }
    if let Some(answer) = challenge::answer(context) {
        return Ok(Way::Here(answer));
    }

    let found = find(context, host)?;
    let route = &view.snapshot.routes[found.route.0];
    let trusted_only = view.snapshot.config.claims.trusted_only.as_ref();
    let body = admit(route, request.version, body, trusted_only)?;

    if let Some(edge) = &route.edge {
        if let Some(rule) = edge.to_https.filter(|_| !context.client.secure) {
            return own::to_https(rule, &context.about()).map(Way::Here);
        }
        if edge.cors.is_some() && cors::asked(&request).is_some() {
            return Ok(Way::Here(cors::preflight()));
        }
        if let Some(rule) = &edge.rewrite {
            let (table, rules) = (&view.snapshot.table, view.snapshot.config.paths);
            context.rewritten = Some(edge::rewrite(rule, &request, &found, table, rules)?);
        }
    }
    if let Some(rule) = &route.cache
        && purging::is_asked(&request)
    {
        return purging::purge(context, rule, host).map(Way::Here);
    }
    match &route.target {
        Target::Redirect(rule) => return own::redirect(rule, &context.about()).map(Way::Here),
        Target::Respond(rule) => return Ok(Way::Here(own::fixed(rule))),
        Target::Files(_) => return Ok(Way::On(Further::Files(found.route))),
        Target::Nothing => return Err(Reject::NoRoute),
        Target::Upstream(_) | Target::ShardMap(_) => {}
    }
    let upstream = forward::upstream(context, &route.target, &found)?;
    let Some(rule) = &route.cache else {
        return Ok(Way::On(Further::Endpoint(upstream, body)));
    };
    Ok(
        match cached::at_once(context, rule, host, upstream, &body) {
            AtOnce::Hit(answer) => Way::Here(answer),
            AtOnce::Not(first) => Way::On(Further::Cache(found.route, upstream, body, first)),
        },
    )
}

/// The route of a request. A preflight asks on behalf of another method: where that one's route
/// answers preflights, it is the route. `PURGE` is for the route that stores what is purged.
fn find(context: &mut Context, host: &str) -> Result<router::Found, Reject> {
    let request = Rc::clone(&context.request);
    let view = Rc::clone(&context.view);
    let snapshot = &view.snapshot;
    let find = |method: &Method| {
        snapshot.table.find(&router::Request {
            method,
            host,
            path: request.uri.path(),
            query: request.uri.query(),
            headers: &request.headers,
        })
    };
    let preflight = cors::asked(&request)
        .and_then(|method| find(&method))
        .filter(|found| {
            let edge = &snapshot.routes[found.route.0].edge;
            edge.as_ref().is_some_and(|edge| edge.cors.is_some())
        });
    let purge = purging::is_asked(&request)
        .then(|| find(&Method::GET))
        .flatten()
        .filter(|found| {
            let rule = &snapshot.routes[found.route.0].cache;
            rule.as_ref().is_some_and(|rule| rule.purgers.is_some())
        });
    let found = preflight.or(purge);
    let found = found.or_else(|| find(&request.method));
    let found = found.ok_or(Reject::NoRoute)?;
    context.enter(found.route);
    Ok(found)
}

/// What of a request's body, or of the tunnel that it offers, its route takes.
fn admit(
    route: &Route,
    version: Version,
    mut body: Inbound,
    trusted_only: Option<&Arc<[HeaderName]>>,
) -> Result<Inbound, Reject> {
    if let Some(protocol) = body.offers() {
        if route.upgrades.iter().any(|taken| **taken == *protocol) {
            return Ok(body);
        }
        // HTTP/1.1 lets an upgrade be ignored (RFC 9110 section 7.8); extended CONNECT asks for
        // nothing else (RFC 8441 section 4).
        return match version {
            Version::HTTP_2 => Err(Reject::Upgrade),
            _ => Ok(Inbound::empty()),
        };
    }
    // What may not stand in a head may not come after it either: some servers join the two.
    body.sieve(claims::may_follow, trusted_only.cloned());
    match body.limit(route.max_body) {
        Ok(()) => Ok(body),
        Err(_too_large) => Err(Reject::BodyTooLarge),
    }
}
