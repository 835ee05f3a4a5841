//! A route whose target is a folder of files.
//!
//! `handle` asks `serve` in the place of an upstream. The room `files` finds and reads on threads of
//! its own; this file bounds how long a request waits for them. Invariant: a disk that hangs holds up
//! nothing but the requests for its files, and these not for ever.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use smallvec::SmallVec;

use crate::clock;
use crate::config::model::Files;
use crate::encode;
use crate::files::{self, Reader, Refusal};
use crate::metrics::ProxyError;
use crate::net::deadline::Timer;

use super::context::Context;
use super::outbound::{Broken, Stream};
use super::reject::Reject;

/// How long a request waits for the disk, for its head and for each chunk.
const PATIENCE: Duration = Duration::from_secs(10);

/// A file on its way.
#[derive(Debug)]
pub(super) struct Sending {
    reader: Reader,
    timer: Timer,
}

/// Answers a request with a file.
///
/// # Errors
/// When there is none, or the disk does not keep up.
pub(super) async fn serve(
    context: &Context,
    site: &Arc<Files>,
) -> Result<Response<Stream>, Reject> {
    let (worker, request) = (&context.worker, &context.request);
    let codings = if site.precompressed.is_empty() {
        SmallVec::new()
    } else {
        encode::accepted(&request.headers, &site.precompressed).codings
    };
    let sent = &request.uri;
    let asked = files::Request {
        method: &request.method,
        path: context.rewritten.as_ref().unwrap_or(sent).path(),
        target: sent.path_and_query().map_or("/", |target| target.as_str()),
        headers: &request.headers,
        codings: &codings,
        now: clock::wall(),
    };
    let timer = worker.deadlines().timer();
    timer.arm(PATIENCE);
    let mut looking = pin!(files::serve(&worker.disk, site, &asked));
    let found = poll_fn(|task| match looking.as_mut().poll(task) {
        Poll::Ready(found) => Poll::Ready(found),
        Poll::Pending => timer.poll(task).map(|()| Err(Refusal::Busy)),
    })
    .await;
    timer.clear();
    let (head, body) = match found {
        Ok(answer) => answer.into_parts(),
        Err(refusal) => return Err(reject(context, refusal)),
    };
    let stream = match body {
        Some(reader) if reader.left() > 0 => Stream::File(Box::new(Sending { reader, timer })),
        _ => Stream::Empty,
    };
    Ok(Response::from_parts(head, stream))
}

fn reject(context: &Context, refusal: Refusal) -> Reject {
    match refusal {
        Refusal::Malformed(why) => Reject::Malformed(why),
        Refusal::Method => Reject::ReadOnly,
        Refusal::NotFound => Reject::NoFile,
        Refusal::Busy => {
            context.worker.cells().file_refused();
            Reject::Overloaded
        }
        Refusal::Failed(error) => {
            tracing::warn!(request_id = %context.id, %error, "a file cannot be served");
            Reject::Internal
        }
    }
}

impl Sending {
    /// Bytes to come.
    pub(super) fn left(&self) -> u64 {
        self.reader.left()
    }

    pub(super) fn poll(&mut self, task: &mut Task<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        match self.reader.poll(task) {
            Poll::Ready(read) => {
                self.timer.clear();
                Poll::Ready(read.map(|read| {
                    read.map_err(|error| {
                        tracing::warn!(%error, "a file broke off while it was sent");
                        (ProxyError::ProxyInternalError, error.into())
                    })
                }))
            }
            Poll::Pending => {
                if !self.timer.is_armed() {
                    self.timer.arm(PATIENCE);
                }
                self.timer.poll(task).map(|()| {
                    let why = "the disk took too long";
                    tracing::warn!("{why}");
                    Some(Err((ProxyError::ProxyInternalError, why.into())))
                })
            }
        }
    }
}
