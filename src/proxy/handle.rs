//! The road of a request, station by station.

use std::rc::Rc;

use http::{Request, Response};

use crate::body::Inbound;
use crate::router;
use crate::wire::{Early, Fault, Peer};

use super::context::Context;
use super::forward::{self, Order};
use super::outbound::{Outbound, Stream};
use super::reject::Reject;
use super::worker::Worker;
use super::{cached, challenge, normalize, respond};

/// Takes one request from its head to its answer.
pub(super) async fn handle(
    worker: Rc<Worker>,
    peer: Rc<Peer>,
    request: Request<Inbound>,
    _early: Option<Rc<dyn Early>>,
) -> Response<Outbound> {
    let (head, body) = request.into_parts();
    let mut context = Context::begin(worker, peer, head);
    match road(&mut context, body).await {
        Ok(answer) => respond::answer(context, answer),
        Err(reject) => respond::reject(context, &reject),
    }
}

/// Answers what is no request: counted and logged like one.
pub(super) fn refuse(worker: Rc<Worker>, peer: Rc<Peer>, fault: Fault) -> Response<Outbound> {
    let (head, ()) = Request::new(()).into_parts();
    let context = Context::begin(worker, peer, head);
    respond::reject(context, &Reject::Fault(fault))
}

async fn road(context: &mut Context, body: Inbound) -> Result<Response<Stream>, Reject> {
    let request = Rc::clone(&context.request);
    let view = Rc::clone(&context.view);

    let host = normalize::host(&request)?;
    if !context.peer.admits(host) {
        return Err(Reject::Misdirected);
    }

    if let Some(answer) = challenge::answer(context) {
        return Ok(answer);
    }

    let found = view
        .snapshot
        .table
        .find(&router::Request {
            method: &request.method,
            host,
            path: request.uri.path(),
            query: request.uri.query(),
            headers: &request.headers,
        })
        .ok_or(Reject::NoRoute)?;
    context.enter(found.route);
    let route = &view.snapshot.routes[found.route.0];

    let upstream = forward::upstream(context, route.target, &found)?;
    match &route.cache {
        None => forward::straight(context, &Order::new(context, upstream), body).await,
        Some(rule) => cached::look_up(context, rule, host, upstream, body).await,
    }
}
