//! The accept loop of one worker on one listener.
//!
//! `app` spawns one per worker and listener and stops it through a `Notify` when the listener goes
//! or the process drains. Before a connection is served it must find room (`admission`), and a trusted
//! proxy must say for whom it is (`proxy_header`). Invariant: accepting never spins: when the process is
//! out of descriptors it waits for the next tick and says so, and a stopped loop first takes what the
//! kernel has queued already, because closing the socket would reset it.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Notify;

use crate::config::model::{Peers, Protocols};
use crate::metrics::{CloseReason, Listener as Counters, Metrics};
use crate::net::listen::Listener;
use crate::net::proxy_protocol::Header;
use crate::net::socket::Socket;
use crate::net::tls;
use crate::net::transport::Transport;
use crate::wire::{ClientAddress, Handler, Peer};

use super::admission::{Admission, Full, Ticket};
use super::connection::Shared;
use super::proxy_header;
use super::turn_away::TurnedAway;

/// How long accepting pauses when the process is out of descriptors.
const BACK_OFF: Duration = Duration::from_millis(200);
/// Connections that are taken before others have their turn.
const AT_ONCE: u32 = 64;
/// Most connections that are taken after the loop was told to stop: more than a queue can hold.
const REST: usize = 4096;

/// TLS of a listener, replaced by a reload; none for plain HTTP.
pub type Tls = Arc<ArcSwap<Option<Arc<tls::Server>>>>;

/// Whose connections to a listener begin with a PROXY protocol header; replaced by a reload.
pub type Senders = Arc<ArcSwap<Peers>>;

/// What is spoken on a listener; replaced by a reload.
pub type Spoken = Arc<ArcSwap<Protocols>>;

/// A listening socket of a worker.
#[derive(Debug)]
pub enum Listening {
    /// On an IP address.
    Tcp(TcpListener),
    /// On a Unix socket.
    Unix(UnixListener),
}

impl Listening {
    /// Takes the socket into this worker's runtime.
    ///
    /// # Errors
    /// When the runtime cannot watch it.
    pub fn new(listener: Listener) -> io::Result<Self> {
        Ok(match listener {
            Listener::Tcp(listener) => Self::Tcp(TcpListener::from_std(listener)?),
            Listener::Unix(listener) => Self::Unix(UnixListener::from_std(listener)?),
        })
    }

    async fn accept(&self) -> io::Result<Arrival> {
        match self {
            Self::Tcp(listener) => Arrival::tcp(listener.accept().await?),
            Self::Unix(listener) => Ok(Arrival::unix(listener.accept().await?.0)),
        }
    }

    fn into_std(self) -> io::Result<Listener> {
        Ok(match self {
            Self::Tcp(listener) => Listener::Tcp(listener.into_std()?),
            Self::Unix(listener) => Listener::Unix(listener.into_std()?),
        })
    }
}

/// A connection that was just accepted.
struct Arrival {
    transport: Transport,
    address: ClientAddress,
    local: Option<SocketAddr>,
}

impl Arrival {
    fn tcp((stream, address): (TcpStream, SocketAddr)) -> io::Result<Self> {
        let local = stream.set_nodelay(true).and_then(|()| stream.local_addr());
        // Whatever it is, it is this connection's alone.
        let local = local.map_err(|_gone| io::ErrorKind::ConnectionAborted)?;
        Ok(Self {
            transport: stream.into(),
            address: address.into(),
            local: Some(local),
        })
    }

    fn unix(stream: UnixStream) -> Self {
        Self {
            transport: stream.into(),
            address: ClientAddress::Unix,
            local: None,
        }
    }

    /// The next one of the queue, if there is one.
    fn queued(listener: &Listener) -> io::Result<Self> {
        match listener {
            Listener::Tcp(listener) => {
                let (stream, address) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Self::tcp((TcpStream::from_std(stream)?, address))
            }
            Listener::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Ok(Self::unix(UnixStream::from_std(stream)?))
            }
        }
    }
}

/// What the connections of one listener share on one worker.
#[derive(Debug)]
pub struct Accept<H> {
    /// Number of the worker.
    pub worker: usize,
    /// What its connections share.
    pub shared: Rc<Shared<H>>,
    /// TLS settings.
    pub tls: Tls,
    /// Whose connections begin with a PROXY protocol header.
    pub senders: Senders,
    /// What is spoken.
    pub spoken: Spoken,
    /// Whether there is room.
    pub admission: Arc<Admission>,
    /// The connections of this worker for which there was none.
    pub turned_away: Rc<TurnedAway>,
    /// The listener's counters.
    pub counters: Arc<Counters>,
    /// All counters.
    pub metrics: Arc<Metrics>,
    /// Next connection number of this worker.
    pub next_id: Rc<Cell<u64>>,
}

impl<H: Handler> Accept<H> {
    /// Accepts until `stop` is notified and the queue is empty.
    pub async fn run(self, listening: Listening, stop: Rc<Notify>) {
        let this = Rc::new(self);
        let mut complained = false;
        let mut in_a_row = 0;
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.notified() => break,
                accepted = listening.accept() => accepted,
            };
            match accepted {
                Ok(arrival) => {
                    complained = false;
                    this.take(arrival);
                    in_a_row += 1;
                    if in_a_row == AT_ONCE {
                        in_a_row = 0;
                        tokio::task::yield_now().await;
                    }
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
        // Without the runtime, which would make us wait for our turn in between.
        let Ok(listener) = listening.into_std() else {
            return;
        };
        for _ in 0..REST {
            match Arrival::queued(&listener) {
                Ok(arrival) => this.take(arrival),
                Err(error) if is_per_connection(&error) => {}
                Err(_) => break,
            }
        }
    }

    fn take(self: &Rc<Self>, arrival: Arrival) {
        let open = Open::new(&self.counters, self.worker);
        let Arrival {
            transport,
            address,
            local,
        } = arrival;
        let socket = Socket::new(transport, &self.shared.batch);
        let mut ticket = match self.admission.enter() {
            Ok(ticket) => ticket,
            Err(full) => return self.turn_away(full, socket, open),
        };
        let proxied = self.senders.load().include(address.ip());
        if !proxied
            && let Some(ip) = address.ip()
            && let Err(full) = ticket.is_from(ip)
        {
            drop(ticket);
            return self.turn_away(full, socket, open);
        }
        let this = Rc::clone(self);
        tokio::task::spawn_local(async move {
            if proxied {
                this.introduce(socket, ticket, address, local, open).await;
            } else {
                this.serve(socket, address, local).await;
                drop((ticket, open));
            }
        });
    }

    /// Hears from a trusted proxy for whom a connection is, and serves it.
    async fn introduce(
        self: Rc<Self>,
        mut socket: Socket,
        mut ticket: Ticket,
        proxy: ClientAddress,
        local: Option<SocketAddr>,
        open: Open,
    ) {
        let held = self.shared.drain.hold();
        let timer = self.shared.deadlines.timer();
        timer.arm(self.shared.limits.get().header);
        let header = proxy_header::read(&mut socket, &timer, &self.shared.drain).await;
        drop(timer);
        let (address, local) = match header {
            Ok(Header::Local) => (proxy, local),
            // Not the proxy's own address: that may be trusted with more than this client is.
            Ok(Header::Unknown) => (ClientAddress::Unknown, None),
            Ok(Header::Unix) => (ClientAddress::UnixAtProxy, None),
            Ok(Header::Inet {
                source,
                destination,
            }) => (source.into(), Some(destination)),
            Err(none) => {
                let reason = none.reason();
                if let CloseReason::ProxyHeader | CloseReason::ProxyHeaderTimeout = reason {
                    tracing::info!(%proxy, %reason, "client connection closed: {none}");
                }
                self.metrics.worker(self.worker).closed(reason);
                return;
            }
        };
        if let Some(ip) = address.ip()
            && let Err(full) = ticket.is_from(ip)
        {
            drop(ticket);
            return self.turn_away(full, socket, open);
        }
        self.serve(socket, address, local).await;
        drop((ticket, open, held));
    }

    async fn serve(&self, socket: Socket, address: ClientAddress, local: Option<SocketAddr>) {
        let tls = Option::clone(&self.tls.load()).map(|server| (server, Arc::clone(&self.tls)));
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        let peer = Peer::new(address, local, tls.is_some(), id);
        let cells = self.metrics.worker(self.worker);
        Rc::clone(&self.shared)
            .serve(socket, tls, **self.spoken.load(), peer, cells)
            .await;
    }

    /// There is no room: says so if that is cheap, and closes.
    fn turn_away(&self, full: Full, socket: Socket, open: Open) {
        let reason = match full {
            Full::Total => CloseReason::ConnectionLimit,
            Full::Address => CloseReason::AddressLimit,
        };
        self.metrics.worker(self.worker).closed(reason);
        self.turned_away.note(full, &self.shared.deadlines);
        if self.tls.load().is_none()
            && let Some(talk) = self.turned_away.talk()
        {
            let (timer, held) = (self.shared.deadlines.timer(), self.shared.drain.hold());
            tokio::task::spawn_local(async move {
                talk.say(full, socket, timer).await;
                drop((open, held));
            });
        }
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Response;
    use http_body_util::Full;
    use tokio::task::LocalSet;

    use super::*;
    use crate::body::Inbound;
    use crate::net::deadline::Deadlines;
    use crate::net::listen;
    use crate::net::socket::Batch;
    use crate::server::guard::Limits;
    use crate::wire::{Answering, Early, Fault, Head};
    use futures_util::future::Either;

    struct Nobody;

    impl Handler for Nobody {
        type Body = Full<Bytes>;

        fn handle(
            self: &Rc<Self>,
            _peer: &Rc<Peer>,
            _head: Head,
            _at: tokio::time::Instant,
            _body: Inbound,
            _early: Option<Rc<dyn Early>>,
        ) -> Answering<Full<Bytes>, impl Future<Output = Response<Full<Bytes>>> + 'static> {
            Either::Left::<_, std::future::Ready<_>>(std::future::ready(Response::default()))
        }

        fn refuse(
            self: &Rc<Self>,
            _peer: &Rc<Peer>,
            _version: http::Version,
            _fault: Fault,
        ) -> Response<Full<Bytes>> {
            Response::default()
        }
    }

    #[test]
    fn a_loop_that_is_stopped_takes_the_whole_queue_first() {
        // More than a task of the runtime may do in one turn.
        const QUEUED: usize = 300;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        LocalSet::new().block_on(&runtime, async {
            let mut group = listen::group(SocketAddr::from(([127, 0, 0, 1], 0)), 1, &[]).unwrap();
            let address = group[0].local_addr().unwrap();
            let clients: Vec<_> = (0..QUEUED)
                .map(|_| std::net::TcpStream::connect(address).unwrap())
                .collect();
            let metrics = Metrics::new(1);
            let limits = Limits {
                header: Duration::from_secs(1),
                idle: Duration::from_secs(1),
                write_window: Duration::from_secs(1),
                least_written: 1,
                heads: crate::http1::Limits::default(),
                requests: None,
            };
            let (deadlines, batch) = (Deadlines::new(), Batch::new());
            let shared = Shared::new(Rc::new(Nobody), &deadlines, &batch, &Rc::default(), limits);
            let accept = Accept {
                worker: 0,
                shared,
                tls: Tls::default(),
                senders: Senders::default(),
                spoken: Spoken::default(),
                admission: Admission::new(QUEUED, 0),
                turned_away: Rc::new(TurnedAway::new(1)),
                counters: metrics.listener("here"),
                metrics: Arc::clone(&metrics),
                next_id: Rc::default(),
            };
            let listening = Listening::new(Listener::Tcp(group.remove(0))).unwrap();
            let stop = Rc::new(Notify::new());
            stop.notify_one();
            accept.run(listening, stop).await;
            let line = format!("headgate_connections_total{{listener=\"here\"}} {QUEUED}");
            assert!(metrics.render().contains(&line), "{}", metrics.render());
            drop(clients);
        });
    }
}
