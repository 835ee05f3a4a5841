//! One client connection, from its first byte to its close.
//!
//! TLS handshake if the listener has it, then `http2` for those who chose it and `http1` for the rest,
//! until the client leaves, a deadline passes or the worker drains. Invariant: whatever ends a
//! connection is counted once, with a reason, and never reaches another connection.

mod body;
mod conn;
mod early;
mod exchange;
mod http1;
mod leftover;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use tokio::io::{AsyncRead as _, ReadBuf};

use crate::config::model::Protocols;
use crate::metrics::{CloseReason, WorkerCells};
use crate::net::deadline::Deadlines;
use crate::net::socket::{Batch, Socket};
use crate::net::stream::Stream;
use crate::net::tls;
use crate::wire::{Handler, Peer};

use super::accept::Tls;
use super::dates::Dates;
use super::drain::Drain;
use super::guard::{Limits, Watch};
use super::handshake::handshake;
use super::http2::{self, Opening};

/// Bytes that a worker reads at once when it does not know what comes.
const SCRATCH: usize = 16 * 1024;
/// Bytes that are read at once before it is known what the client speaks.
const FIRST_READ: usize = 2048;

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
    /// Deadlines and bounds of new connections; replaced by a reload.
    pub limits: Cell<Limits>,
    /// What new connections of HTTP/2 may do; replaced by a reload.
    pub http2: Cell<http2::Settings>,
    /// What answers say of the time.
    pub dates: Rc<Dates>,
    /// Heads are read into it, so that an idle connection has no buffer; never kept across an await.
    scratch: RefCell<Box<[u8]>>,
    /// The same for HTTP/2.
    space: http2::Space,
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
        Rc::new(Self {
            handler,
            deadlines: Rc::clone(deadlines),
            batch: Rc::clone(batch),
            drain: Rc::clone(drain),
            limits: Cell::new(limits),
            http2: Cell::default(),
            dates: Rc::default(),
            scratch: RefCell::new(vec![0; SCRATCH].into_boxed_slice()),
            space: http2::Space::default(),
        })
    }

    /// Serves one accepted connection until it ends.
    pub async fn serve(
        self: Rc<Self>,
        socket: Socket,
        tls: Option<(Arc<tls::Server>, Tls)>,
        spoken: Protocols,
        mut peer: Peer,
        cells: &WorkerCells,
    ) {
        let held = self.drain.hold();
        let mut ending = Ending {
            reason: CloseReason::Internal,
            cells,
        };
        let watch = Watch::new(self.limits.get(), &self.deadlines);
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
                    ending.reason = reason;
                    return;
                }
            },
        };
        let client = peer.address;
        let reason = self
            .speak(stream, spoken, Rc::new(peer), &watch, cells)
            .await;
        if let CloseReason::HeaderTimeout
        | CloseReason::SlowReader
        | CloseReason::Malformed
        | CloseReason::Flood = reason
        {
            tracing::info!(%client, %reason, "client connection closed");
        }
        ending.reason = reason;
        drop((ending, held));
    }

    /// Finds out which version the client speaks, and speaks it until the connection ends.
    async fn speak(
        &self,
        stream: Stream,
        spoken: Protocols,
        peer: Rc<Peer>,
        watch: &Rc<Watch>,
        cells: &WorkerCells,
    ) -> CloseReason {
        let mut stream = stream;
        let (choice, unread) = match stream.alpn() {
            Some(b"h2") => (Opening::Http2, Bytes::new()),
            // RFC 9113 section 3.3: prior knowledge is for connections without TLS.
            None if spoken.h2 && !peer.secure => {
                match open(&mut stream, watch, &self.drain).await {
                    Ok(opened) => opened,
                    Err(reason) => return reason,
                }
            }
            _ => (Opening::Other, Bytes::new()),
        };
        if choice == Opening::Http2 {
            let service = http2::Service {
                handler: &self.handler,
                peer,
                limits: self.limits.get(),
                deadlines: &self.deadlines,
                drain: &self.drain,
                settings: self.http2.get(),
                dates: &self.dates,
                space: &self.space,
                cells,
            };
            // Boxed, so that the task of a connection of HTTP/1.1 has no room for it.
            return Box::pin(service.serve(stream, unread)).await;
        }
        if !spoken.http1 {
            return CloseReason::Malformed;
        }
        self.http1(stream, &unread, &peer, watch).await
    }
}

/// Counts the end of a connection, also when a panic is what ends it.
struct Ending<'a> {
    reason: CloseReason,
    cells: &'a WorkerCells,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.cells.closed(self.reason);
    }
}

/// Reads until it is clear whether the client begins with the preface of HTTP/2.
async fn open(
    stream: &mut Stream,
    watch: &Watch,
    drain: &Drain,
) -> Result<(Opening, Bytes), CloseReason> {
    let mut came = Vec::with_capacity(FIRST_READ);
    poll_fn(|cx| {
        loop {
            let mut space = [MaybeUninit::uninit(); FIRST_READ];
            let mut buffer = ReadBuf::uninit(&mut space);
            match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    came.extend_from_slice(buffer.filled());
                }
                Poll::Ready(Ok(())) if came.is_empty() => {
                    return Poll::Ready(Err(CloseReason::Client));
                }
                // What is there is for HTTP/1.1 to judge.
                Poll::Ready(Ok(())) => {
                    return Poll::Ready(Ok((
                        Opening::Other,
                        Bytes::from(std::mem::take(&mut came)),
                    )));
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(CloseReason::Io)),
                Poll::Pending if drain.is_draining() && came.is_empty() => {
                    return Poll::Ready(Err(CloseReason::Drain));
                }
                Poll::Pending => {
                    let over = watch.poll_deadline(cx);
                    return over.map(|_error| Err(watch.ended().unwrap_or(CloseReason::Io)));
                }
            }
            match http2::opening(&came) {
                Opening::Short => {}
                known => return Poll::Ready(Ok((known, Bytes::from(std::mem::take(&mut came))))),
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests;
