//! One client connection, from its first byte to its close.
//!
//! TLS handshake if the listener has it, then the protocol that the client speaks (`http1`) over the
//! `guard`, until the client leaves, a deadline passes or the worker drains. Invariant: whatever ends
//! a connection is counted once, with a reason, and never reaches another connection.

mod body;
mod conn;
mod early;
mod exchange;
mod http1;

use std::cell::{Cell, RefCell};
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use tokio_rustls::TlsAcceptor;

use crate::clock;
use crate::http1::Date;
use crate::metrics::{CloseReason, WorkerCells};
use crate::net::deadline::Deadlines;
use crate::net::socket::{Batch, Socket};
use crate::net::stream::Stream;
use crate::wire::{Handler, Peer};

use super::drain::Drain;
use super::guard::{Limits, Watch};

/// Bytes that a worker reads at once when it does not know what comes.
const SCRATCH: usize = 16 * 1024;

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
    /// Heads are read into it, so that an idle connection has no buffer; never kept across an await.
    scratch: RefCell<Box<[u8]>>,
    /// The tick of the worker's clock that `date` is of, and the date.
    date: RefCell<(Option<u64>, Date)>,
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
            scratch: RefCell::new(vec![0; SCRATCH].into_boxed_slice()),
            date: RefCell::default(),
        })
    }

    /// Serves one accepted connection until it ends.
    pub async fn serve(
        self: Rc<Self>,
        socket: Socket,
        tls: Option<Arc<rustls::ServerConfig>>,
        peer: Peer,
        cells: &WorkerCells,
    ) {
        let held = self.drain.hold();
        let watch = Watch::new(self.limits.get(), &self.deadlines);
        let stream = match tls {
            None => Stream::Plain(socket),
            Some(config) => match handshake(socket, config, &watch).await {
                Ok(stream) => stream,
                Err(reason) => {
                    tracing::debug!(client = %peer.address, %reason, "TLS handshake failed");
                    cells.closed(reason);
                    return;
                }
            },
        };
        let client = peer.address;
        let reason = self.http1(stream, &Rc::new(peer), &watch).await;
        if let CloseReason::HeaderTimeout | CloseReason::SlowReader | CloseReason::Malformed =
            reason
        {
            tracing::info!(%client, %reason, "client connection closed");
        }
        cells.closed(reason);
        drop(held);
    }

    /// Calls `write` with the date of the worker's clock.
    fn with_date<T>(&self, write: impl FnOnce(&[u8]) -> T) -> T {
        let (tick, date) = &mut *self.date.borrow_mut();
        let now = self.deadlines.now();
        let text = if tick.replace(now) == Some(now) {
            date.last()
        } else {
            date.at(clock::since_epoch(clock::wall()))
        };
        write(text)
    }
}

async fn handshake(
    socket: Socket,
    config: Arc<rustls::ServerConfig>,
    watch: &Watch,
) -> Result<Stream, CloseReason> {
    let mut accepting = pin!(TlsAcceptor::from(config).accept(socket));
    let result: io::Result<_> = poll_fn(|cx| match accepting.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(result),
        Poll::Pending => watch.poll_deadline(cx).map(Err),
    })
    .await;
    match result {
        Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
        Err(_) if watch.ended().is_some() => Err(CloseReason::TlsTimeout),
        Err(_) => Err(CloseReason::TlsHandshake),
    }
}

#[cfg(test)]
mod tests;
