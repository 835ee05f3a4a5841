//! One client connection, from its first byte to its close.
//!
//! TLS handshake if the listener has it, then hyper's HTTP/1.1 server over the `guard`, until the
//! client leaves, a deadline passes or the worker drains. Invariant: whatever ends a connection is
//! counted once, with a reason, and never reaches another connection.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::io::AsyncWrite as _;
use tokio::net::TcpStream;

use crate::body::{BodyFault, Inbound};
use crate::metrics::{CloseReason, WorkerCells};
use crate::net::deadline::Deadlines;
use crate::net::socket::{Batch, Socket};
use crate::net::stream::Stream;
use crate::net::tls;
use crate::wire::{Handler, Peer};

use super::drain::Drain;
use super::guard::{Guard, Limits, Watch};
use super::handshake::handshake;

/// Most bytes of a request head, and of what is buffered for a slow reader.
const MAX_BUFFER: usize = 64 * 1024;
/// Most bytes of a request head.
const MAX_HEAD: usize = 32 * 1024;

/// What every connection of a worker shares.
#[derive(Debug)]
pub struct Shared<H> {
    /// Answers requests.
    pub handler: Rc<H>,
    /// The worker's deadlines.
    pub deadlines: Rc<Deadlines>,
    /// What the worker's connections have to send.
    pub batch: Rc<Batch>,
    /// Counts connections and tells them to close.
    pub drain: Rc<Drain>,
    /// Deadlines of new connections; replaced by a reload.
    pub limits: Cell<Limits>,
    /// hyper's settings.
    pub http: http1::Builder,
}

impl<H: Handler> Shared<H> {
    /// Settings for all connections of a worker.
    #[must_use]
    pub fn new(
        handler: Rc<H>,
        deadlines: &Rc<Deadlines>,
        batch: &Rc<Batch>,
        drain: &Rc<Drain>,
        limits: Limits,
    ) -> Rc<Self> {
        let mut http = http1::Builder::new();
        // Deadlines are the guard's: hyper's own would be a boxed timer per request.
        http.header_read_timeout(None)
            .max_buf_size(MAX_BUFFER)
            .max_header_size(MAX_HEAD);
        Rc::new(Self {
            handler,
            deadlines: Rc::clone(deadlines),
            batch: Rc::clone(batch),
            drain: Rc::clone(drain),
            limits: Cell::new(limits),
            http,
        })
    }

    /// Serves one accepted connection until it ends.
    pub async fn serve(
        self: Rc<Self>,
        stream: TcpStream,
        tls: Option<Arc<tls::Server>>,
        mut peer: Peer,
        cells: &WorkerCells,
    ) {
        let held = self.drain.hold();
        let watch = Watch::new(self.limits.get(), &self.deadlines);
        let socket = Socket::new(stream, &self.batch);
        let stream = match tls {
            None => Stream::Plain(socket),
            // Boxed, so that the connection does not keep room for it.
            Some(server) => match Box::pin(handshake(socket, &server, &watch)).await {
                Ok((stream, agreed)) => {
                    peer.tls = Some(Box::new(agreed));
                    stream
                }
                Err(ended) => {
                    let reason = ended.reason;
                    if let Some(words) = ended.words {
                        tracing::info!(client = %peer.address, %reason, "TLS handshake failed: {words}");
                    }
                    cells.closed(reason);
                    return;
                }
            },
        };
        let client = peer.address;
        let reason = self.exchange(stream, Rc::new(peer), &watch).await;
        if let CloseReason::HeaderTimeout | CloseReason::SlowReader | CloseReason::Malformed =
            reason
        {
            tracing::info!(%client, %reason, "client connection closed");
        }
        cells.closed(reason);
        drop(held);
    }

    /// Speaks HTTP until the connection ends, resting between requests that are far apart.
    async fn exchange(&self, stream: Stream, peer: Rc<Peer>, watch: &Rc<Watch>) -> CloseReason {
        let mut stream = stream;
        let mut unread = Bytes::new();
        loop {
            (stream, unread) = match self.converse(stream, unread, &peer, watch).await {
                Turn::Ended(reason) => return reason,
                Turn::Idle(stream, unread) => (stream, unread),
            };
            if !unread.is_empty() {
                // A part of the next head is here already: its time runs.
                watch.head_begins();
                continue;
            }
            if let Err(reason) = self.rest(&mut stream, watch).await {
                return reason;
            }
        }
    }

    /// One stretch of requests, with hyper's buffers.
    async fn converse(
        &self,
        stream: Stream,
        unread: Bytes,
        peer: &Rc<Peer>,
        watch: &Rc<Watch>,
    ) -> Turn {
        let service = service_fn(|request: Request<Incoming>| {
            watch.exchange_begins(!request.body().is_end_stream());
            let watch = Rc::clone(watch);
            let request = request.map(|body| {
                if body.is_end_stream() {
                    Inbound::empty()
                } else {
                    Inbound::body(FromHyper(body))
                }
            });
            let answer = self.handler.handle(peer, request, None);
            async move { Ok::<_, Infallible>(answer.await.map(|body| Tracked { body, watch })) }
        });
        let guard = Guard::new(stream, watch, unread);
        // Boxed, so that a connection at rest does not keep room for it.
        let mut connection = Box::new(self.http.serve_connection(guard, service));
        // A connection that is told to close before its first poll closes without looking at what
        // has come already.
        let (mut looked, mut told) = (false, false);
        let result = poll_fn(|cx| {
            if looked && !told && self.drain.is_draining() {
                told = true;
                Pin::new(&mut *connection).graceful_shutdown();
            }
            if !looked && self.drain.is_draining() {
                // Once more, to be told.
                cx.waker().wake_by_ref();
            }
            looked = true;
            match Pin::new(&mut *connection).poll(cx) {
                Poll::Ready(result) => Poll::Ready(Some(result)),
                Poll::Pending if watch.may_rest() => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        let Some(result) = result else {
            let parts = connection.into_parts();
            return Turn::Idle(parts.io.into_stream(), parts.read_buf);
        };
        Turn::Ended(match result {
            _ if watch.ended().is_some() => watch.ended().unwrap_or(CloseReason::Io),
            Ok(()) if told => CloseReason::Drain,
            Ok(()) => CloseReason::Client,
            Err(error) if error.is_parse() => CloseReason::Malformed,
            Err(error) if error.is_user() => CloseReason::Upstream,
            Err(error) if error.is_incomplete_message() => CloseReason::Client,
            Err(_) => CloseReason::Io,
        })
    }

    /// Waits for the next request with nothing but the socket.
    async fn rest(&self, stream: &mut Stream, watch: &Rc<Watch>) -> Result<(), CloseReason> {
        let woken = poll_fn(|cx| {
            // First: a request that is here already is answered, also while draining.
            if stream.poll_readable(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            if self.drain.is_draining() {
                return Poll::Ready(Err(CloseReason::Drain));
            }
            let over = watch.poll_deadline(cx);
            over.map(|_error| Err(watch.ended().unwrap_or(CloseReason::IdleTimeout)))
        })
        .await;
        if woken.is_err() {
            // A last word (TLS has one), as far as it can be said at once.
            let mut nobody = Context::from_waker(Waker::noop());
            let _said = Pin::new(stream).poll_shutdown(&mut nobody);
        }
        woken
    }
}

/// How a stretch of requests ended.
enum Turn {
    /// With the connection.
    Ended(CloseReason),
    /// Nothing has come for a while; with bytes that were read and not used.
    Idle(Stream, Bytes),
}

/// A request's body as hyper reads it.
struct FromHyper(Incoming);

impl Body for FromHyper {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        Pin::new(&mut self.get_mut().0)
            .poll_frame(cx)
            .map_err(|_error| BodyFault::Incomplete)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// An answer's body that tells the guard when it is done.
#[derive(Debug)]
struct Tracked<B> {
    body: B,
    watch: Rc<Watch>,
}

impl<B> Drop for Tracked<B> {
    fn drop(&mut self) {
        self.watch.exchange_ends();
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Tracked<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
