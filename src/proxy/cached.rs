//! Station 5: a request on a caching route.
//!
//! `handle` asks `look_up`. A hit is answered at once. For a miss the cache hands out one permit per
//! key: its fetch runs as a task of its own, which the client that caused it only reads from, like
//! everyone else that waits; so neither a slow nor a vanished client holds the others up. Invariant:
//! an answer that is not to be shared reaches exactly the client whose request was sent.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};
use http_body::Body as _;
use tokio::time::Instant;

use crate::balancer::sticky::Sticky;
use crate::body::Inbound;
use crate::cache::{
    self, Bypass, Failure, Filled, Forward, HitBody, Lookup, Outcome, Permit, Recalled, Refusal,
    Revalidated, Started, Uncacheable, Waiter,
};
use crate::config::model::{CacheRule, RouteEdge, UpstreamId};
use crate::metrics::CacheResult;
use crate::snapshot::Route;
use crate::upstream::RequestBody;
use crate::wire::{self, spare};

use super::claims::{self, Beyond};
use super::context::{Codings, Context, Exchange};
use super::debug;
use super::forms;
use super::forward::{self, Order, Sent};
use super::outbound::{Encoded, Stream};
use super::partial;
use super::reject::Reject;

/// How often a request looks up, while the fetches that it waits for fail or are for others.
const ROUNDS: usize = 3;
/// How many failed fetches a request waits for: the second, or one in its last round, is its answer.
const FAILURES: usize = 2;
/// How often a fetch asks again because a `304` fits nothing that is stored.
const MISMATCHES: usize = 1;

/// Bytes of an answer that are sent whole to a client that asked for a part, rather than asking again.
const SPARED: u64 = 64 * 1024;

/// What the cache says at once.
pub(super) enum AtOnce {
    /// The answer.
    Hit(Response<Stream>),
    /// `look_up` has to go on: with this, if the cache could be asked.
    Not(Option<Box<Lookup>>),
}

/// Answers from the cache, if it has an answer.
pub(super) fn at_once(
    context: &mut Context,
    rule: &Arc<CacheRule>,
    host: &str,
    upstream: UpstreamId,
    body: &Inbound,
) -> AtOnce {
    if body.offers().is_some() {
        return AtOnce::Not(None);
    }
    context.keyed = left_of(&context.request.uri, rule);
    if let Some(debuggers) = &rule.debuggers {
        context.asks_key = debug::asks_key(context, debuggers);
    }
    let Ok(beyond) = passes_by(context, rule, body) else {
        return AtOnce::Not(None);
    };
    let cache = &context.worker.cache;
    let now = cache.clock().at(context.began);
    let found = asking(context, host, upstream, &beyond, |request, scratch| {
        cache.look_up(rule, request, now, scratch)
    });
    match found {
        Lookup::Hit(hit) => match hit_answer(context, hit, CacheResult::Hit, now) {
            Ok(mut answer) => {
                if context.asks_key {
                    debug::tell_key(context, rule, host, upstream, (&beyond, &mut answer));
                }
                AtOnce::Hit(answer)
            }
            Err(NoRoom) => AtOnce::Not(None),
        },
        other => AtOnce::Not(Some(Box::new(other))),
    }
}

/// What a request says of its target beyond the key; an error is why the cache is not even asked.
fn passes_by(context: &Context, rule: &CacheRule, body: &Inbound) -> Result<String, Bypass> {
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
fn is_only_if_cached(context: &Context, rule: &CacheRule) -> bool {
    let request = &context.request;
    matches!(request.method, Method::GET | Method::HEAD)
        && cache::forbids_asking(rule, &request.headers)
}

/// Answers from the cache, or fetches for it. `first` is what `at_once` was told.
pub(super) async fn look_up(
    context: &mut Context,
    rule: &Arc<CacheRule>,
    host: &str,
    upstream: UpstreamId,
    body: Inbound,
    first: Option<Box<Lookup>>,
) -> Result<Response<Stream>, Reject> {
    leave_out(context, rule);
    let beyond = match context.asks_key {
        true => passes_by(context, rule, &body).ok(),
        false => None,
    };
    let mut answer = answer(context, rule, host, upstream, body, first).await?;
    if let Some(beyond) = beyond {
        debug::tell_key(context, rule, host, upstream, (&beyond, &mut answer));
    }
    Ok(answer)
}

async fn answer(
    context: &mut Context,
    rule: &Arc<CacheRule>,
    host: &str,
    upstream: UpstreamId,
    body: Inbound,
    mut first: Option<Box<Lookup>>,
) -> Result<Response<Stream>, Reject> {
    let beyond = match passes_by(context, rule, &body) {
        Ok(beyond) => beyond,
        Err(_) if is_only_if_cached(context, rule) => return Err(Reject::NotCached),
        Err(why) => return pass_by(context, upstream, body, why).await,
    };
    let mut failures = 0;
    let mut at_last = Ok(FOR_OTHERS);
    for round in 0..ROUNDS {
        let clock = context.worker.cache.clock();
        let mut now = match round {
            0 => clock.at(context.began),
            _ => clock.now(),
        };
        let mut found = match first.take() {
            Some(first) => *first,
            None => asking(context, host, upstream, &beyond, |request, scratch| {
                context.worker.cache.look_up(rule, request, now, scratch)
            }),
        };
        if let Lookup::Recall(recall) = found {
            found = recall.look().await;
            now = context.worker.cache.clock().now();
        }
        let (waiter, lead) = match found {
            Lookup::Hit(hit) => {
                let found = hit_answer(context, hit, CacheResult::Hit, now);
                return or_past(context, rule, found, upstream, body).await;
            }
            Lookup::Stale(hit, refresh) => {
                if let Some(permit) = refresh {
                    drop(begin(context, upstream, permit));
                }
                let found = hit_answer(context, hit, CacheResult::Stale, now);
                return or_past(context, rule, found, upstream, body).await;
            }
            Lookup::StalePart(hit, refresh) => {
                if let Some(permit) = refresh {
                    let order = Order::new(context, upstream);
                    tokio::task::spawn_local(partial::refresh(order, permit));
                }
                let found = hit_answer(context, hit, CacheResult::Stale, now);
                return or_past(context, rule, found, upstream, body).await;
            }
            // What is found on disk is never to be looked for again.
            Lookup::Unsatisfiable | Lookup::Recall(_) => return Err(Reject::NotCached),
            Lookup::Part(permit) => return partial::fetch(context, upstream, permit).await,
            Lookup::Bypass(why) => {
                return learn(context, rule, (host, upstream), body, (&beyond, why)).await;
            }
            Lookup::Wait(waiter) => (waiter, None),
            Lookup::Fill(permit) => {
                let waiter = permit.waiter();
                (waiter, Some(begin(context, upstream, permit)))
            }
        };
        match wait(context, rule, waiter, lead).await? {
            Waited::Answer(answer) => return Ok(answer),
            Waited::Alone(refusal) => {
                at_last = Ok(refusal);
                break;
            }
            Waited::ForAnother => at_last = Ok(FOR_OTHERS),
            Waited::Failed(whose) => {
                at_last = Err(Reject::Fetch);
                failures += usize::from(whose == Whose::Anyones);
                if failures == FAILURES {
                    break;
                }
            }
        }
    }
    // All who waited would ask at once an origin that has just failed.
    let alone = at_last?;
    context.cache = Some(CacheResult::Miss);
    let mut answer = straight(context, upstream, body).await?;
    alone.annotate(answer.headers_mut());
    Ok(answer)
}

/// Sends a request past the cache, which is told what an answer to `HEAD` says of what is stored.
async fn learn(
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

/// Sends a request for its client alone.
async fn straight(
    context: &mut Context,
    upstream: UpstreamId,
    body: Inbound,
) -> Result<Response<Stream>, Reject> {
    let order = Order::new(context, upstream);
    let mut answer = forward::straight(context, &order, body).await?;
    cache::strip(answer.headers_mut());
    Ok(answer)
}

/// A target without what the route does not tell answers apart by, if that is another.
fn left_of(uri: &Uri, rule: &CacheRule) -> Option<Uri> {
    let left = rule.key.query.apply(uri.query()?)?;
    let target = match left.as_str() {
        "" => uri.path().to_owned(),
        query => format!("{}?{query}", uri.path()),
    };
    target.parse().ok()
}

/// Lets the endpoint see no more of the query than the cache does, so that no answer depends on the rest.
fn leave_out(context: &mut Context, rule: &CacheRule) {
    if context.keyed.is_none() {
        return;
    }
    context.rewritten = match context.rewritten.take() {
        // A rewrite leaves the query as it was.
        Some(rewritten) => left_of(&rewritten, rule).or(Some(rewritten)),
        None => context.keyed.clone(),
    };
}

/// Sends a request past the cache, and says why.
async fn pass_by(
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
async fn or_past(
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

/// What is stored cannot be decompressed now.
pub(super) struct NoRoom;

pub(super) fn hit_answer(
    context: &mut Context,
    hit: cache::Hit,
    result: CacheResult,
    now: Instant,
) -> Result<Response<Stream>, NoRoom> {
    let decoder = match hit.decoding() {
        Some(decoding) => Some(forms::decoder(context, decoding).ok_or(NoRoom)?),
        None => None,
    };
    context.cache = Some(result);
    context.codings = forms::codings(context, hit.form());
    let hit = if may_stay_lines(context) {
        match hit.into_lines(now) {
            Ok((status, lines, content)) => {
                // Room for the request id.
                let headers = spare::fields(1);
                return Ok(response(status, headers, Stream::Hit { lines, content }));
            }
            Err(hit) => hit,
        }
    } else {
        hit
    };
    let (status, headers, body) = hit.into_parts(now);
    let stream = match body {
        HitBody::Empty => Stream::Empty,
        HitBody::One(bytes) => Stream::Whole(bytes),
        body @ (HitBody::Segments(_) | HitBody::Parts(_)) => Stream::Shared(body.into()),
    };
    Ok(response(status, headers, forms::through(decoder, stream)))
}

/// Whether nobody on the way to the client looks at the fields of an answer.
fn may_stay_lines(context: &Context) -> bool {
    let route = context
        .route
        .map(|route| &context.view.snapshot.routes[route.0]);
    let has_edge = |route: &Route| {
        route.edge.is_some() || (route.compress.is_some() && context.codings == Codings::Open)
    };
    !context.asks_key && route.is_some_and(|route| !has_edge(route))
}

fn response(status: StatusCode, headers: HeaderMap, stream: Stream) -> Response<Stream> {
    let mut response = Response::new(stream);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// What a fetch leaves for the client that caused it.
#[derive(Default)]
struct Own {
    exchange: Exchange,
    sticky: Option<HeaderValue>,
    /// The failure, or the answer that is for this client alone.
    result: Option<Result<Response<Stream>, Reject>>,
    revalidated: bool,
    /// The answer came from disk.
    recalled: bool,
    /// A stale answer took the place of the origin's own.
    fell_back: bool,
}

/// What waiting for a fetch led to.
enum Waited {
    /// An answer for this request.
    Answer(Response<Stream>),
    /// The answer is not to be shared: this request goes for itself.
    Alone(Refusal),
    /// The answer is for requests with other nominated fields: look up again.
    ForAnother,
    /// The fetch failed: look up again.
    Failed(Whose),
}

/// Whose request it was that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// One like that which waited.
    Anyones,
    /// A user's, and the one that waited is nobody's: it may do better.
    Users,
}

/// Waits for a fetch, one's own or another's.
///
/// # Errors
/// When one's own has failed.
async fn wait(
    context: &mut Context,
    rule: &CacheRule,
    waiter: Waiter,
    lead: Option<Rc<RefCell<Own>>>,
) -> Result<Waited, Reject> {
    context.cache = Some(match lead {
        Some(_) => CacheResult::Miss,
        None => CacheResult::Collapsed,
    });
    let outcome = waiter.await;
    let leads = lead.is_some();
    let own = lead
        .map(|own| std::mem::take(&mut *own.borrow_mut()))
        .unwrap_or_default();
    context.exchange = own.exchange;
    context.sticky = own.sticky;
    if own.revalidated {
        context.cache = Some(CacheResult::Revalidated);
    }
    if own.recalled {
        context.cache = Some(CacheResult::Hit);
    }
    if own.fell_back {
        context.cache = Some(CacheResult::Stale);
    }
    Ok(match (outcome, own.result) {
        (Outcome::Shared(answer), _) => match shared(context, answer) {
            Some(answer) => Waited::Answer(answer),
            None => Waited::Alone(NO_ROOM),
        },
        (Outcome::Released(refusal), Some(result)) => {
            let answer = match rule.coding {
                Some(_) => forms::settled(context, result?),
                None => Some(result?),
            };
            let Some(mut answer) = answer else {
                return Ok(Waited::Alone(refusal));
            };
            cache::strip(answer.headers_mut());
            refusal.annotate(answer.headers_mut());
            Waited::Answer(answer)
        }
        (Outcome::Released(refusal), None) => Waited::Alone(refusal),
        (Outcome::Varies, _) => Waited::ForAnother,
        (Outcome::Failed, result) if leads => Waited::Answer(result.unwrap_or(Err(Reject::Fetch))?),
        (Outcome::Failed, _) => Waited::Failed(Whose::Anyones),
        (Outcome::FailedForUser, _) => Waited::Failed(Whose::Users),
    })
}

/// Each fetch brought an answer for requests with other nominated fields.
const FOR_OTHERS: Refusal = Refusal {
    reason: Uncacheable::Vary,
    forward: Forward::VaryMiss,
};

/// There is no room to decompress what others get as it is.
const NO_ROOM: Refusal = Refusal {
    reason: Uncacheable::Memory,
    forward: Forward::UriMiss,
};

/// An answer that others may be given too, in the form for this client; nothing when there is no room for
/// that.
fn shared(context: &mut Context, answer: cache::Answer) -> Option<Response<Stream>> {
    let decoder = match answer.decoding() {
        Some(decoding) => Some(forms::decoder(context, decoding)?),
        None => None,
    };
    context.codings = forms::codings(context, answer.form);
    let stream = forms::through(decoder, Stream::Shared(answer.body));
    Some(response(answer.status, answer.headers, stream))
}

/// Begins a fetch, and returns where it leaves what is for the client that caused it.
fn begin(context: &Context, upstream: UpstreamId, permit: Permit) -> Rc<RefCell<Own>> {
    let own = Rc::default();
    let order = Order::new(context, upstream);
    tokio::task::spawn_local(fetch(order, permit, Rc::clone(&own)));
    own
}

/// Fetches for all who wait. Runs on the worker of the client that caused it, and outlives it.
async fn fetch(order: Order, permit: Permit, own: Rc<RefCell<Own>>) {
    let permit = match permit.recall().await {
        // Nobody looks before this task yields.
        Recalled::Answered => return own.borrow_mut().recalled = true,
        Recalled::Stale(permit) => {
            own.borrow_mut().fell_back = true;
            match permit {
                Some(permit) => return fetch_anew(&order, permit, &RefCell::default()).await,
                None => return,
            }
        }
        Recalled::Fetch(permit) => permit,
    };
    fetch_anew(&order, permit, &own).await;
}

/// The same without a look on disk.
async fn fetch_anew(order: &Order, mut permit: Permit, own: &RefCell<Own>) {
    for _ in 0..=MISMATCHES {
        let Sent {
            result,
            exchange,
            sticky,
        } = forward::send(
            order,
            Some(&|headers| permit.prepare(headers)),
            RequestBody::Empty,
        )
        .await;
        {
            let mut own = own.borrow_mut();
            own.exchange = exchange;
            own.sticky = sticky;
        }
        let answer = match result {
            Ok(answer) => answer,
            Err(reject) => {
                // Nobody looks before this task yields.
                match permit.fall_back(failure(&reject), None) {
                    Ok(()) => own.borrow_mut().fell_back = true,
                    // Dropping the permit fails the flight and wakes all.
                    Err(_permit) => own.borrow_mut().result = Some(Err(reject)),
                }
                return;
            }
        };
        if answer.status() != StatusCode::NOT_MODIFIED {
            return fill(order, permit, answer, own).await;
        }
        own.borrow_mut().revalidated = true;
        let headers = answer.headers().clone();
        // The exchange is over before anyone is served from what it confirmed.
        drop(answer);
        match permit.complete_not_modified(&headers) {
            Revalidated::Confirmed => return,
            Revalidated::Mismatch(again) => {
                permit = again;
                own.borrow_mut().revalidated = false;
            }
        }
    }
    // Asked without conditions, it said "not modified" again: the permit drops and the flight fails.
    tracing::debug!(request_id = %order.id, "an endpoint answers 304 to a request without conditions");
}

/// How a fetch has failed.
pub(super) fn failure(reject: &Reject) -> Failure {
    match reject.is_unreachable() {
        true => Failure::Unreachable,
        false => Failure::Failed,
    }
}

/// Moves an answer into the flight, or hands it to the client that caused the fetch.
async fn fill(order: &Order, permit: Permit, answer: Response<Stream>, own: &RefCell<Own>) {
    let refused = |reason| {
        if let Some(route) = order.route {
            let metrics = &order.view.snapshot.routes[route.0].metrics;
            metrics.worker(order.worker.id).cache_refusal(reason);
        }
    };
    let length = answer.body().length();
    let mut encoder = None;
    // Whoever wants a part of something large asks for it again, and gets no more than that.
    let is_asked_again = answer.status() == StatusCode::OK
        && permit.is_ranged()
        && length.is_none_or(|length| length > SPARED);
    let code = || {
        encoder = forms::encoder(order, &answer);
        encoder.as_ref().map(|(coding, _)| *coding)
    };
    match permit.start_coded(answer.status(), answer.headers(), length, code) {
        Started::FellBack => own.borrow_mut().fell_back = true,
        Started::Uncacheable(refusal) if is_asked_again => refused(refusal.reason),
        // Nobody looks before this task yields.
        Started::Uncacheable(refusal) => {
            refused(refusal.reason);
            own.borrow_mut().result = Some(Ok(answer));
        }
        Started::Filling(mut filler) => {
            let mut stream = answer.into_body();
            let is_coded = encoder.is_some();
            if let Some((_, encoder)) = encoder {
                let source = stream;
                stream = Stream::Encoded(Box::new(Encoded { source, encoder }));
            }
            loop {
                match std::future::poll_fn(|cx| stream.poll(cx)).await {
                    Some(Ok(frame)) => {
                        let Ok(chunk) = frame.into_data() else {
                            continue;
                        };
                        if filler.push(&chunk).await.is_err() {
                            return filler.fail();
                        }
                        if is_coded {
                            // A slice of work was done: the others first.
                            tokio::task::yield_now().await;
                        }
                    }
                    Some(Err((reason, error))) => {
                        tracing::debug!(%reason, %error, "a fetch for the cache broke off");
                        return filler.fail();
                    }
                    None => {
                        if let Stream::Encoded(encoded) = &stream {
                            filler.was_of(encoded.encoder.taken());
                        }
                        // Stored or purged meanwhile: its readers have it whole either way.
                        if let Filled::Unstored(reason) = filler.finish() {
                            refused(reason);
                        }
                        return;
                    }
                }
            }
        }
    }
}
