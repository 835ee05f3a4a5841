//! Station 5, for a range that is passed on: the part that is missing in the store comes from an endpoint.
//!
//! `cached` calls `fetch` where the cache hands out a permit for a part; `outbound` polls the body, which
//! is made of what was stored before the part, the part, and what was stored behind it. Invariant: the
//! store has a part before its client has the last byte of it.

use std::pin::Pin;
use std::task::{Context as Task, Poll};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body as _, Frame};

use crate::cache::{self, Failure, NotKept, PartPermit};
use crate::config::model::UpstreamId;
use crate::metrics::{CacheResult, ProxyError};
use crate::upstream::RequestBody;

use super::context::Context;
use super::fetch;
use super::forward::{self, Order};
use super::outbound::{Broken, Stream};
use super::reject::Reject;
use super::serving;

/// Sends a range on, and keeps what comes.
pub(super) async fn fetch(
    context: &mut Context,
    upstream: UpstreamId,
    permit: PartPermit,
) -> Result<Response<Stream>, Reject> {
    context.cache = Some(CacheResult::Miss);
    let order = Order::new(context, upstream);
    let edit = |head: &mut HeaderMap| permit.prepare(head);
    let sent = forward::send(&order, Some(&edit), RequestBody::Empty).await;
    context.exchange = sent.exchange;
    context.sticky = sent.sticky;
    let (failure, status) = match &sent.result {
        Ok(answer) => (Failure::of(answer.status()), Some(answer.status())),
        Err(reject) => (Some(fetch::failure(reject)), None),
    };
    if let Some(hit) = failure.and_then(|failure| permit.fall_back(failure, status)) {
        let now = context.worker.cache.clock().now();
        // Parts are stored as they were sent, so there is nothing to decompress.
        let found = serving::hit_answer(context, hit, CacheResult::Stale, now);
        return found.map_err(|_no_room| Reject::Fetch);
    }
    let (mut head, source) = sent.result?.into_parts();
    let stream = match permit.start(head.status, &mut head.headers) {
        Ok(partial) => Stream::Part(Box::new(Part { source, partial })),
        Err(why) => {
            count(context, why);
            source
        }
    };
    cache::strip(&mut head.headers);
    Ok(Response::from_parts(head, stream))
}

/// Fetches a part for nobody but the store.
pub(super) async fn refresh(order: Order, permit: PartPermit) {
    let edit = |head: &mut HeaderMap| permit.prepare(head);
    let sent = forward::send(&order, Some(&edit), RequestBody::Empty).await;
    let Ok(answer) = sent.result else {
        return;
    };
    let (mut head, source) = answer.into_parts();
    let Ok(partial) = permit.start(head.status, &mut head.headers) else {
        return;
    };
    let mut part = Part { source, partial };
    // What has come is kept, however it ends.
    while let Some(Ok(_)) = std::future::poll_fn(|task| part.poll(task)).await {}
}

fn count(context: &mut Context, why: NotKept) {
    let snapshot = &context.view.snapshot;
    let Some(route) = context.route.map(|route| &snapshot.routes[route.0]) else {
        return;
    };
    let metrics = route.metrics.worker(context.worker.id);
    match why {
        NotKept::Bypassed(reason) => {
            metrics.cache_bypass(reason);
            context.cache = Some(CacheResult::Bypass);
        }
        NotKept::Refused(reason) => metrics.cache_refusal(reason),
    }
}

/// A part that is missing in the store, and what is there before and after it.
#[derive(Debug)]
pub(super) struct Part {
    source: Stream,
    partial: cache::Partial,
}

impl Part {
    pub(super) fn is_end(&self) -> bool {
        let cache::Partial {
            before,
            filler: _,
            after,
        } = &self.partial;
        before.is_end_stream() && self.source.is_end() && after.is_end_stream()
    }

    pub(super) fn length(&self) -> Option<u64> {
        let stored = [&self.partial.before, &self.partial.after];
        let stored = stored.map(|reader| reader.size_hint().exact());
        Some(stored[0]? + self.source.length()? + stored[1]?)
    }

    pub(super) fn poll(
        &mut self,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let cache::Partial {
            before,
            filler,
            after,
        } = &mut self.partial;
        if !before.is_end_stream() {
            return read(before, task);
        }
        match self.source.poll(task) {
            Poll::Ready(None) => {
                // Its connection is free, and it is not asked twice.
                self.source = Stream::Empty;
                if !filler.is_whole() {
                    // What follows would be taken for what is missing.
                    return Poll::Ready(Some(Err(broken(cache::ReadError))));
                }
                if after.is_end_stream() {
                    Poll::Ready(None)
                } else {
                    read(after, task)
                }
            }
            Poll::Ready(Some(Ok(frame))) => {
                let kept = frame.data_ref().map_or(Ok(()), |chunk| filler.push(chunk));
                Poll::Ready(Some(kept.map(|()| frame).map_err(broken)))
            }
            polled => polled,
        }
    }
}

/// The next frame of what the cache has.
pub(super) fn read(
    reader: &mut cache::Reader,
    task: &mut Task<'_>,
) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
    Pin::new(reader).poll_frame(task).map_err(broken)
}

fn broken(error: cache::ReadError) -> Broken {
    (ProxyError::HttpResponseIncomplete, error.into())
}
