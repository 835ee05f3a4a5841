//! Station 6: pick an endpoint, exchange, report, maybe again.
//!
//! `handle` asks `upstream` for the upstream, or the shard, before the cache is asked, since it is a
//! part of the cache's key; it calls `straight` for a request that no cache concerns; `fetch` sends with
//! `send`. Rules of trying again, each at most once:
//!
//! | what happened                                     | then                                          |
//! |---------------------------------------------------|-----------------------------------------------|
//! | no connection could be made                       | another endpoint, any method                  |
//! | an idle connection was dead, nothing was written  | a fresh connection, any method                |
//! | an idle connection died before the answer's head  | a fresh connection, idempotent without a body |
//! | a fresh connection died, or the answer was late   | another endpoint, `GET`/`HEAD` without a body |
//!
//! Invariant: no request that an endpoint may have acted on is sent again, unless repeating it is
//! harmless by its method.

use std::rc::Rc;
use std::sync::Arc;

use http::header::{COOKIE, HeaderMap, HeaderName, HeaderValue, TE};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Response, Uri, Version};
use tokio::time::Instant;
use uuid::Uuid;

use crate::balancer::{EndpointId, Picked};
use crate::body::Inbound;
use crate::cache;
use crate::config::model::{FieldEdits, RouteId, Target, UpstreamId};
use crate::metrics::ProxyError;
use crate::router;
use crate::shard::KeySource;
use crate::snapshot;
use crate::upstream::exchange::Reuse;
use crate::upstream::{self, ExchangeError, Fault, Fields, Outgoing, RequestBody, Retry, Stage};
use crate::wire::{ClientAddress, Peer};

use super::complaints::causes;
use super::context::{Context, Exchange, Hints};
use super::edge;
use super::headers;
use super::outbound::Stream;
use super::reject::Reject;
use super::sift::Seen;
use super::trust::Client;
use super::worker::{View, Worker};
use super::writes::Write;

/// Everything that sending a request takes, so that a fetch can outlive the client that caused it.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) worker: Rc<Worker>,
    pub(super) view: Rc<View>,
    pub(super) peer: Rc<Peer>,
    pub(super) client: Client,
    pub(super) request: Rc<Parts>,
    seen: Seen,
    /// What endpoints see in place of the client's target.
    rewritten: Option<Uri>,
    /// What the cache knows the target as, if that is less.
    keyed: Option<Uri>,
    /// The route that the request took.
    pub(super) route: Option<RouteId>,
    /// Takes informational answers.
    pub(super) hints: Hints,
    pub(super) id: Uuid,
    id_value: HeaderValue,
    /// When the request came: its first attempt begins with it.
    began: Instant,
    upstream: UpstreamId,
}

/// What came of it.
pub(super) struct Sent {
    pub(super) result: Result<Response<Stream>, Reject>,
    pub(super) exchange: Exchange,
    /// Binds the client to the endpoint that answered.
    pub(super) sticky: Option<HeaderValue>,
}

/// Which upstream has what a request is for.
///
/// # Errors
/// `ShardKey` when the request has no usable one.
pub(super) fn upstream(
    context: &Context,
    target: &Target,
    found: &router::Found,
) -> Result<UpstreamId, Reject> {
    let (snapshot, request) = (&context.view.snapshot, &context.request);
    match target {
        Target::Upstream(upstream) => Ok(*upstream),
        Target::ShardMap(map) => Ok(snapshot.shard_maps[map.0].shard(&KeySource {
            capture: &|name| snapshot.table.capture(found, request.uri.path(), name),
            headers: &request.headers,
            query: request.uri.query(),
        })?),
        Target::Redirect(_) | Target::Respond(_) | Target::Files(_) | Target::Nothing => {
            Err(Reject::NoRoute)
        }
    }
}

impl Order {
    /// To send the request of `context` to `upstream`.
    pub(super) fn new(context: &Context, upstream: UpstreamId) -> Self {
        Self {
            worker: Rc::clone(&context.worker),
            view: Rc::clone(&context.view),
            peer: Rc::clone(&context.peer),
            client: context.client.clone(),
            rewritten: context.rewritten.clone(),
            keyed: context.keyed.clone(),
            route: context.route,
            hints: context.hints.clone(),
            request: Rc::clone(&context.request),
            seen: context.seen,
            id: context.id,
            id_value: context.id_value.clone(),
            began: context.began,
            upstream,
        }
    }

    /// What endpoints see in place of the client's target, or that.
    fn target(&self) -> Option<&PathAndQuery> {
        let target = self.rewritten.as_ref().unwrap_or(&self.request.uri);
        target.path_and_query()
    }

    /// Tells the fields of a request to an endpoint, before any edits and but for what depends on the
    /// endpoint.
    fn tell(&self, each: &mut dyn FnMut(&HeaderName, &HeaderValue)) {
        let config = &self.view.snapshot.config;
        let (request, peer, client) = (&self.request, &self.peer, &self.client);
        headers::for_upstream(request, peer, client, config, &self.id_value, each);
    }

    /// What the request's route changes in its fields.
    fn edits(&self) -> Option<&FieldEdits> {
        let route = &self.view.snapshot.routes[self.route?.0];
        route.edge.as_deref()?.request_headers.as_ref()
    }

    /// Whether the fields of a request to `target` are just those that `tell` tells.
    fn is_plain(&self, target: &upstream::Target<'_>) -> bool {
        let nameless = self.request.version == Version::HTTP_10;
        !nameless && !target.is_http2() && self.edits().is_none() && !self.tells_device()
    }

    /// Whether endpoints are told the class of the client's device, since answers are stored by it.
    fn tells_device(&self) -> bool {
        let route = self.route.map(|route| &self.view.snapshot.routes[route.0]);
        let rule = route.and_then(|route| route.cache.as_ref());
        rule.is_some_and(|rule| rule.key.device)
    }

    /// The fields of a request to `endpoint` in a map, edited.
    fn fields(&self, edit: Option<Edit<'_>>, target: &upstream::Target<'_>) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(self.request.headers.len() + ADDED);
        self.tell(&mut |name, value| {
            headers.append(name, value.clone());
        });
        if let Some(edits) = self.edits() {
            let about = edge::About {
                request: &self.request,
                keyed: self.keyed.as_ref(),
                client: &self.client,
                id: self.id,
            };
            edge::edit(edits, &about, &mut headers);
        }
        if self.tells_device() {
            cache::tell_device(&self.request.headers, &mut headers);
        }
        if let Some(edit) = edit {
            edit(&mut headers);
        }
        headers::ensure_host(&mut headers, self.request.version, target.endpoint);
        for_http2(self, target, &mut headers);
        headers
    }
}

/// How many fields `tell` may add to those of the client.
const ADDED: usize = 6;

/// The last word on the fields of a request.
pub(super) type Edit<'a> = &'a dyn Fn(&mut HeaderMap);

/// Sends a request that no cache concerns, and streams its answer.
pub(super) async fn straight(
    context: &mut Context,
    order: &Order,
    body: Inbound,
) -> Result<Response<Stream>, Reject> {
    let body = RequestBody::new(body, order.worker.deadlines(), order.view.pace);
    let sent = send(order, None, body).await;
    context.exchange = sent.exchange;
    context.sticky = sent.sticky;
    sent.result
}

/// Sends a request to an endpoint of its upstream. `edit` has the last word on its header fields.
pub(super) async fn send(order: &Order, edit: Option<Edit<'_>>, body: RequestBody) -> Sent {
    let mut exchange = Exchange {
        upload: body.transfer(),
        ..Exchange::default()
    };
    let mut sticky = None;
    let result = attempts(order, edit, body, &mut exchange, &mut sticky).await;
    Sent {
        result,
        exchange,
        sticky,
    }
}

async fn attempts(
    order: &Order,
    edit: Option<Edit<'_>>,
    body: RequestBody,
    exchange: &mut Exchange,
    sticky: &mut Option<HeaderValue>,
) -> Result<Response<Stream>, Reject> {
    let upstream = &order.view.snapshot.upstreams[order.upstream.0];
    let replay = Replay::of(&order.request.method, body.is_empty());
    let mut body = Some(body);
    let mut reuse = Reuse::Idle;
    let mut failed: Option<EndpointId> = None;
    let mut began = order.began;
    let mut picked = pick(order, upstream, None, began)?;
    let mut write = Write::new(order, order.upstream);
    loop {
        exchange.attempts += 1;
        exchange.endpoint = Some(Arc::clone(picked.in_flight.endpoint()));
        let mut target = upstream.target(picked.member);
        tell_client(order, &mut target);
        let tell = |each: &mut dyn FnMut(&HeaderName, &HeaderValue)| order.tell(each);
        let request = Outgoing {
            method: &order.request.method,
            target: order.target().ok_or(NO_PATH)?,
            fields: if edit.is_none() && order.is_plain(&target) {
                Fields::Told(&tell)
            } else {
                Fields::Map(Box::new(order.fields(edit, &target)))
            },
            body: body.take().unwrap_or(RequestBody::Empty),
        };
        write.is_sent();
        let early = |status, headers: HeaderMap| order.hints.send(status, &headers);
        let error = match order
            .worker
            .pools
            .exchange(&target, request, reuse, Some(&early))
            .await
        {
            Ok(answer) => {
                let now = Instant::now();
                let took = now.saturating_duration_since(began);
                exchange.connect = answer.connect;
                exchange.first_byte = Some(now.saturating_duration_since(order.began));
                picked.in_flight.endpoint().succeeded();
                target.metrics.worker(order.worker.id).answered(took);
                *sticky = cookie(order, upstream, &picked);
                write.answered(answer.response.status(), answer.response.headers());
                return Ok(receive(order, answer.response, picked));
            }
            Err(error) => error,
        };
        report(order, upstream, &picked, &error);
        let again = match error.retry {
            Retry::SameOnFreshConnection if reuse == Reuse::Idle => {
                error.unsent.is_some() || replay >= Replay::Idempotent
            }
            Retry::OtherEndpoint if failed.is_none() => {
                error.unsent.is_some() || replay == Replay::Safe
            }
            _ => false,
        };
        write.has_failed(error.unsent.is_some());
        if !again {
            return Err(Reject::Exchange(Box::new(error)));
        }
        began = Instant::now();
        if error.retry == Retry::OtherEndpoint {
            failed = Some(picked.in_flight.endpoint().id);
            match pick(order, upstream, failed, began) {
                Ok(other) => picked = other,
                // Nobody else: what happened says more than that nobody is left.
                Err(_) => return Err(Reject::Exchange(Box::new(error))),
            }
            reuse = Reuse::Idle;
        } else {
            reuse = Reuse::Fresh;
        }
        upstream.metrics.worker(order.worker.id).retry(error.reason);
        body = error.unsent;
    }
}

/// Whether a request that may have been acted on can be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Replay {
    Never,
    Idempotent,
    Safe,
}

impl Replay {
    fn of(method: &Method, no_body: bool) -> Self {
        if !no_body {
            Self::Never
        } else if matches!(*method, Method::GET | Method::HEAD) {
            Self::Safe
        } else if method.is_idempotent() {
            Self::Idempotent
        } else {
            Self::Never
        }
    }
}

fn pick(
    order: &Order,
    upstream: &snapshot::Upstream,
    exclude: Option<EndpointId>,
    now: Instant,
) -> Result<Picked, Reject> {
    let now = order.worker.ms(now);
    // Not looked for where nobody wants them.
    let cookies = upstream.pool.sticky().into_iter().flat_map(|_sticky| {
        let cookies = order.request.headers.get_all(COOKIE);
        cookies.iter().map(HeaderValue::as_bytes)
    });
    upstream
        .pool
        .pick(cookies, exclude, now)
        .map_err(|_none| Reject::NoEndpoint)
}

fn cookie(order: &Order, upstream: &snapshot::Upstream, picked: &Picked) -> Option<HeaderValue> {
    let sticky = upstream.pool.sticky().filter(|_| picked.tell_client)?;
    sticky.cookie(picked.member, order.client.secure).cloned()
}

/// Whom a PROXY header names, where endpoints are sent one.
fn tell_client(order: &Order, target: &mut upstream::Target<'_>) {
    if target.names_clients() {
        let from = match order.client.address {
            ClientAddress::Inet(address) => Some(address),
            ClientAddress::Unix | ClientAddress::UnixAtProxy | ClientAddress::Unknown => None,
        };
        target.on_behalf_of(from, order.peer.local);
    }
}

/// What HTTP/2 is asked for by a client that takes trailers (RFC 9113 section 8.2.2).
fn for_http2(order: &Order, target: &upstream::Target<'_>, headers: &mut HeaderMap) {
    if target.is_http2() && order.seen.trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// `normalize` lets no such target pass.
const NO_PATH: Reject = Reject::Malformed("the request target has no path");

/// The endpoint's answer, without what belongs to its hop.
fn receive(
    order: &Order,
    response: Response<upstream::AnswerBody>,
    picked: Picked,
) -> Response<Stream> {
    let (mut head, body) = response.into_parts();
    let takes_trailers = order.seen.takes_trailers(order.request.version);
    headers::for_client(&mut head.headers, takes_trailers);
    headers::sign(&mut head.headers, head.version);
    // The version of our own hop, whatever the endpoint speaks (RFC 9110 section 2.5).
    head.version = Version::HTTP_11;
    Response::from_parts(
        head,
        Stream::Upstream {
            body,
            _in_flight: picked.in_flight,
        },
    )
}

/// What a failure says about its endpoint.
fn report(order: &Order, upstream: &snapshot::Upstream, picked: &Picked, error: &ExchangeError) {
    if matches!(error.fault, Fault::Client(_)) {
        return;
    }
    upstream.metrics.worker(order.worker.id).error(error.reason);
    if error.stage == Stage::Queue {
        // Too many requests at once: that says nothing about the endpoint's health.
        return;
    }
    if error.reason == ProxyError::ConnectionLimitReached {
        tracing::warn!(%error, "out of descriptors, ports or memory for connections to endpoints");
        return;
    }
    let is_dead = error.stage == Stage::Dial
        || (error.retry == Retry::OtherEndpoint && error.reason != ProxyError::HttpResponseTimeout);
    let now = Instant::now();
    complain(order, upstream, error, now);
    if is_dead {
        picked.in_flight.endpoint().failed(order.worker.ms(now));
        upstream.pool.members()[picked.member].status.suspect();
    }
}

/// Tells the log why an endpoint cannot be reached or how it breaks TLS, not for each request.
fn complain(order: &Order, upstream: &snapshot::Upstream, error: &ExchangeError, now: Instant) {
    let what = match error.reason {
        ProxyError::TlsCertificateError
        | ProxyError::TlsAlertReceived
        | ProxyError::TlsProtocolError => "TLS to an endpoint failed",
        _ if error.stage == Stage::Dial => "an endpoint cannot be reached",
        _ => return,
    };
    let complaints = &order.worker.complaints;
    if let Some(untold) = complaints.due(&upstream.name, error.reason, now) {
        tracing::warn!(
            upstream = %upstream.name, endpoint = %error.endpoint, reason = error.reason.as_str(),
            cause = causes(error), untold, "{what}"
        );
    }
}
