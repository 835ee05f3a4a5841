//! The road of a request, station by station.

use std::rc::Rc;

use http::{Method, Request, Response, Version};
use http_body::Body as _;

use crate::body::Inbound;
use crate::config::model::Target;
use crate::router;
use crate::snapshot::Route;
use crate::wire::{Early, Fault, Peer};

use super::context::{Context, Hints};
use super::forward::{self, Order};
use super::normalize::{self, Hops};
use super::outbound::{Outbound, Stream};
use super::reject::Reject;
use super::worker::Worker;
use super::{cached, challenge, claims, cors, edge, own, purging, respond, static_files, trust};

/// Takes one request from its head to its answer.
pub(super) async fn handle(
    worker: Rc<Worker>,
    peer: Rc<Peer>,
    request: Request<Inbound>,
    early: Option<Rc<dyn Early>>,
) -> Response<Outbound> {
    let (mut head, body) = request.into_parts();
    let view = worker.view();
    let config = &view.snapshot.config;
    let client = trust::client(&head.headers, &peer, config);
    let formed = normalize::head(&mut head, client.secure, body.is_end_stream(), config);
    let mut context = Context::begin(worker, view, peer, client, head);
    context.hints = Hints(early);
    let outcome = match formed {
        Ok(hops) => road(&mut context, hops, body).await,
        Err(reject) => Err(reject),
    };
    match outcome {
        Ok(answer) => respond::answer(context, answer),
        Err(reject) => respond::reject(context, &reject),
    }
}

/// Answers what is no request: counted and logged like one.
pub(super) fn refuse(worker: Rc<Worker>, peer: Rc<Peer>, fault: Fault) -> Response<Outbound> {
    let (head, ()) = Request::new(()).into_parts();
    let view = worker.view();
    let client = trust::client(&head.headers, &peer, &view.snapshot.config);
    let context = Context::begin(worker, view, peer, client, head);
    respond::reject(context, &Reject::Fault(fault))
}

async fn road(
    context: &mut Context,
    hops: Hops,
    body: Inbound,
) -> Result<Response<Stream>, Reject> {
    let request = Rc::clone(&context.request);
    let view = Rc::clone(&context.view);
    if let Some(answer) = own::to_the_proxy(&request, hops) {
        return Ok(answer);
    }

    let host = normalize::host(&request);
    if !context.peer.admits(host) {
        return Err(Reject::Misdirected);
    }
    if let Some(answer) = challenge::answer(context) {
        return Ok(answer);
    }

    let found = find(context, host)?;
    let route = &view.snapshot.routes[found.route.0];
    let body = admit(route, request.version, body)?;

    if let Some(edge) = &route.edge {
        if let Some(rule) = edge.to_https.filter(|_| !context.client.secure) {
            return own::to_https(rule, &context.about());
        }
        if edge.cors.is_some() && cors::asked(&request).is_some() {
            return Ok(cors::preflight());
        }
        if let Some(rule) = &edge.rewrite {
            let (table, rules) = (&view.snapshot.table, view.snapshot.config.paths);
            context.rewritten = Some(edge::rewrite(rule, &request, &found, table, rules)?);
        }
    }
    if let Some(rule) = &route.cache
        && purging::is_asked(&request)
    {
        return purging::purge(context, rule, host);
    }
    match &route.target {
        Target::Redirect(rule) => return own::redirect(rule, &context.about()),
        Target::Respond(rule) => return Ok(own::fixed(rule)),
        Target::Files(site) => return static_files::serve(context, site).await,
        Target::Nothing => return Err(Reject::NoRoute),
        Target::Upstream(_) | Target::ShardMap(_) => {}
    }
    let upstream = forward::upstream(context, &route.target, &found)?;
    match &route.cache {
        None => forward::straight(context, &Order::new(context, upstream), body).await,
        Some(rule) => cached::look_up(context, rule, host, upstream, body).await,
    }
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
fn admit(route: &Route, version: Version, mut body: Inbound) -> Result<Inbound, Reject> {
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
    body.sieve(|name| claims::may_pass(name, false, false));
    match body.limit(route.max_body) {
        Ok(()) => Ok(body),
        Err(_too_large) => Err(Reject::BodyTooLarge),
    }
}
