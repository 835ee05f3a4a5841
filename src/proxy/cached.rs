//! Station 5: a request on a caching route.
//!
//! `handle` asks `at_once`, and `look_up` for what that cannot answer. What the cache has is answered (`serving`);
//! for a miss the cache hands out one permit per key (`fetch`), and the others wait; the rest goes past it
//! (`past`). Invariant: an answer that is not to be shared reaches exactly the client whose request was sent, and
//! a request looks up, waits and fetches a bounded number of times.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use http::Response;

use crate::body::Inbound;
use crate::cache::{self, Forward, Lookup, Outcome, Refusal, Uncacheable, Waiter};
use crate::config::model::{CacheRule, UpstreamId};
use crate::metrics::CacheResult;

use super::asking::{asking, is_only_if_cached, leave_out, left_of, passes_by};
use super::context::Context;
use super::debug;
use super::fetch::{self, Own};
use super::forms;
use super::forward::Order;
use super::outbound::Stream;
use super::partial;
use super::past::{learn, or_past, pass_by, straight};
use super::reject::Reject;
use super::serving::{NoRoom, hit_answer, shared};

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

/// How often a request looks up, while the fetches that it waits for fail or are for others.
const ROUNDS: usize = 3;

/// How many failed fetches a request waits for: the second, or one in its last round, is its answer. Those that may
/// have failed for another user alone are not counted.
const FAILURES: usize = 2;

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
                    drop(fetch::begin(context, upstream, permit));
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
                (waiter, Some(fetch::begin(context, upstream, permit)))
            }
        };
        match wait(context, rule, waiter, lead).await? {
            Waited::Answer(answer) => return Ok(answer),
            Waited::Alone(refusal) => {
                at_last = Ok(refusal);
                break;
            }
            Waited::ForAnother => at_last = Ok(FOR_OTHERS),
            Waited::FailedForUser(refusal) => at_last = Ok(refusal),
            Waited::Failed => {
                at_last = Err(Reject::Fetch);
                failures += 1;
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

/// What waiting for a fetch led to.
enum Waited {
    /// An answer for this request.
    Answer(Response<Stream>),
    /// The answer is not to be shared: this request goes for itself.
    Alone(Refusal),
    /// The answer is for requests with other nominated fields: look up again.
    ForAnother,
    /// The fetch failed: look up again.
    Failed,
    /// The same, perhaps for a user alone who is another: look up again, and in the end go for itself.
    FailedForUser(Refusal),
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
        (Outcome::Failed, _) => Waited::Failed,
        (Outcome::FailedForUser(refusal), _) => Waited::FailedForUser(refusal),
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
