//! Station 5, for a miss: the fetch for all who wait.
//!
//! `cached` begins it with the permit that the cache gave. It runs as a task of its own, which the client that
//! caused it only reads from, like everyone else that waits; so neither a slow nor a vanished client holds the
//! others up. Invariant: an answer that is not to be shared is left for exactly that client.

use std::cell::RefCell;
use std::rc::Rc;

use http::{HeaderValue, Response, StatusCode};

use crate::cache::{Failure, Filled, Permit, Recalled, Revalidated, Started};
use crate::config::model::UpstreamId;
use crate::upstream::RequestBody;

use super::context::{Context, Exchange};
use super::forms;
use super::forward::{self, Order, Sent};
use super::outbound::{Encoded, Stream};
use super::reject::Reject;

/// How often a fetch asks again because a `304` fits nothing that is stored.
const MISMATCHES: usize = 1;

/// Bytes of an answer that are sent whole to a client that asked for a part, rather than asking again.
const SPARED: u64 = 64 * 1024;

/// What a fetch leaves for the client that caused it.
#[derive(Default)]
pub(super) struct Own {
    pub(super) exchange: Exchange,
    pub(super) sticky: Option<HeaderValue>,
    /// The failure, or the answer that is for this client alone.
    pub(super) result: Option<Result<Response<Stream>, Reject>>,
    pub(super) revalidated: bool,
    /// The answer came from disk.
    pub(super) recalled: bool,
    /// A stale answer took the place of the origin's own.
    pub(super) fell_back: bool,
}

/// Begins a fetch, and returns where it leaves what is for the client that caused it.
pub(super) fn begin(context: &Context, upstream: UpstreamId, permit: Permit) -> Rc<RefCell<Own>> {
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
