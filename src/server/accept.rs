//! The accept loop of one worker on one listener.
//!
//! `app` spawns one per worker and listener and stops it through a `Notify` when the listener goes
//! or the process drains. Invariant: accepting never spins: when the process is out of
//! descriptors it waits for the next tick and says so, and a stopped loop first takes what the
//! kernel has queued already, because closing the socket would reset it.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::metrics::{Listener as Counters, Metrics};
use crate::net::tls;
use crate::wire::{Handler, Peer};

use super::connection::Shared;

/// How long accepting pauses when the process is out of descriptors.
const BACK_OFF: Duration = Duration::from_millis(200);

/// TLS of a listener, replaced by a reload; none for plain HTTP.
pub type Tls = Arc<ArcSwap<Option<Arc<tls::Server>>>>;

/// One listener on one worker.
#[derive(Debug)]
pub struct Accept<H> {
    /// Number of the worker.
    pub worker: usize,
    /// What its connections share.
    pub shared: Rc<Shared<H>>,
    /// The socket.
    pub listener: TcpListener,
    /// TLS settings.
    pub tls: Tls,
    /// The listener's counters.
    pub counters: Arc<Counters>,
    /// All counters.
    pub metrics: Arc<Metrics>,
    /// Next connection number of this worker.
    pub next_id: Rc<Cell<u64>>,
}

impl<H: Handler> Accept<H> {
    /// Accepts until `stop` is notified and the queue is empty.
    pub async fn run(self, stop: Rc<Notify>) {
        let mut complained = false;
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.notified() => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    complained = false;
                    self.spawn(stream, address);
                }
                Err(error) if is_per_connection(&error) => {}
                Err(error) => {
                    if !complained {
                        complained = true;
                        tracing::error!(%error, "cannot accept connections, trying again");
                    }
                    tokio::time::sleep(BACK_OFF).await;
                }
            }
        }
        self.take_the_rest();
    }

    /// Takes what is queued without waiting for more.
    fn take_the_rest(self) {
        let mut nobody = Context::from_waker(Waker::noop());
        while let Poll::Ready(Ok((stream, address))) = self.listener.poll_accept(&mut nobody) {
            self.spawn(stream, address);
        }
    }

    fn spawn(&self, stream: TcpStream, address: std::net::SocketAddr) {
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let Ok(local) = stream.local_addr() else {
            return;
        };
        let tls = Option::clone(&self.tls.load());
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        let peer = Peer::new(address, local, tls.is_some(), id);
        let open = Open::new(&self.counters, self.worker);
        let (shared, metrics, worker) = (
            Rc::clone(&self.shared),
            Arc::clone(&self.metrics),
            self.worker,
        );
        tokio::task::spawn_local(async move {
            shared
                .serve(stream, tls, peer, metrics.worker(worker))
                .await;
            drop(open);
        });
    }
}

/// Errors of `accept` that concern the one connection which was about to come.
fn is_per_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::ConnectionRefused
    )
}

/// Counts an open connection, also when its task panics.
struct Open {
    counters: Arc<Counters>,
    worker: usize,
}

impl Open {
    fn new(counters: &Arc<Counters>, worker: usize) -> Self {
        counters.worker(worker).accepted();
        Self {
            counters: Arc::clone(counters),
            worker,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.counters.worker(self.worker).closed();
    }
}
