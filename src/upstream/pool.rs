//! A worker's connections, by endpoint.
//!
//! `exchange` takes an idle HTTP/1.1 connection from here, and `http1` gives it back when its answer was
//! read whole. The most recently used is taken first, so that a quiet hour lets the others reach their
//! idle time. Connections of HTTP/2 are found here too (`http2::Peers`). Invariant: what lies in the
//! pool is idle and was clean when it was put there, and holds no buffers; a connection on which the
//! endpoint has said anything since, or which was made in another way than the config now wants, or
//! for another client where that matters, is never used.

use std::cell::{RefCell, RefMut};
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::io::AsyncWrite as _;

use crate::balancer::{Endpoint, EndpointId};
use crate::config::model::{UpstreamProtocol, UpstreamTimeouts};
use crate::metrics;
use crate::net::deadline::{Deadlines, Timer};
use crate::net::hop::Hop;
use crate::net::proxy_protocol::Header;
use crate::net::socket::Batch;
use crate::net::stream::Stream;

use super::http1::Gear;
use super::http2::Peers;

/// What is read at once while it is not known how much there is.
const SCRATCH: usize = 16 * 1024;
/// Sets of buffers that a worker keeps for the next exchange.
const SPARE: usize = 64;
/// Buffers that have grown beyond this are not kept.
const LARGE: usize = 64 * 1024;

/// Where an exchange goes and how long each part of it may take.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The endpoint that was picked.
    pub endpoint: &'a Arc<Endpoint>,
    /// Its upstream's deadlines.
    pub timeouts: &'a UpstreamTimeouts,
    /// Idle connections that this worker keeps to it; with HTTP/2, connections at all.
    pub max_idle: usize,
    /// How its upstream's endpoints are reached.
    pub hop: &'a Arc<Hop>,
    /// Whom the request is for, as a hop with PROXY protocol tells endpoints.
    pub client: Header,
    /// The endpoint's counters.
    pub metrics: &'a Arc<metrics::Endpoint>,
    /// The upstream's counters.
    pub upstream_metrics: &'a Arc<metrics::Upstream>,
}

impl Target<'_> {
    /// Whether an endpoint is told, with a PROXY header, whom a connection is for.
    #[must_use]
    pub fn names_clients(&self) -> bool {
        self.hop.proxy_protocol.is_some()
    }

    /// Whether requests go out over HTTP/2.
    #[must_use]
    pub fn is_http2(&self) -> bool {
        self.hop.protocol == UpstreamProtocol::H2
    }

    /// For a client at `from` that connected to `to`, as far as these are known.
    pub fn on_behalf_of(&mut self, from: Option<SocketAddr>, to: Option<SocketAddr>) {
        let Some(source) = from else {
            self.client = Header::Unknown;
            return;
        };
        let nowhere = || match source {
            SocketAddr::V4(_) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
            SocketAddr::V6(_) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
        };
        self.client = Header::Inet {
            source,
            destination: to.unwrap_or_else(nowhere),
        };
    }
}

/// The connections of one worker.
#[derive(Debug)]
pub struct Pools {
    worker: usize,
    deadlines: Rc<Deadlines>,
    batch: Rc<Batch>,
    idle: RefCell<HashMap<EndpointId, Pool, ahash::RandomState>>,
    peers: RefCell<HashMap<EndpointId, Rc<Peers>, ahash::RandomState>>,
    scratch: RefCell<Box<[u8]>>,
    gears: RefCell<Vec<Gear>>,
}

/// The idle connections to one endpoint.
#[derive(Debug)]
struct Pool {
    links: Vec<Idle>,
    metrics: Arc<metrics::Endpoint>,
}

/// A connection of HTTP/1.1.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) stream: Stream,
    pub(super) timer: Timer,
    hop: Arc<Hop>,
    client: Header,
}

/// What an endpoint says before it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// As it should be.
    Nothing,
    /// Bytes.
    Something,
    /// That it is gone.
    End,
}

/// What becomes of a connection when its exchange is over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keep {
    idle: Duration,
    max: usize,
}

impl Keep {
    pub(super) fn of(target: &Target<'_>) -> Self {
        Self {
            idle: target.timeouts.idle,
            max: target.max_idle,
        }
    }
}

#[derive(Debug)]
struct Idle {
    link: Box<Link>,
    expires: u64,
}

impl Pools {
    /// Empty pools of worker number `worker`.
    #[must_use]
    pub fn new(worker: usize, deadlines: &Rc<Deadlines>, batch: &Rc<Batch>) -> Rc<Self> {
        Rc::new(Self {
            worker,
            deadlines: Rc::clone(deadlines),
            batch: Rc::clone(batch),
            idle: RefCell::default(),
            peers: RefCell::default(),
            scratch: RefCell::new(vec![0; SCRATCH].into_boxed_slice()),
            gears: RefCell::default(),
        })
    }

    /// The worker's deadlines.
    #[must_use]
    pub fn deadlines(&self) -> &Rc<Deadlines> {
        &self.deadlines
    }

    /// The worker's number.
    #[must_use]
    pub fn worker(&self) -> usize {
        self.worker
    }

    pub(super) fn batch(&self) -> &Rc<Batch> {
        &self.batch
    }

    /// Where bytes are read to before it is known what they are. Not held across a poll.
    pub(super) fn scratch(&self) -> RefMut<'_, Box<[u8]>> {
        self.scratch.borrow_mut()
    }

    /// Empty buffers for an exchange.
    pub(super) fn gear(&self) -> Gear {
        self.gears.borrow_mut().pop().unwrap_or_default()
    }

    /// Keeps buffers for the next exchange.
    pub(super) fn put_gear(&self, gear: Gear) {
        let mut gears = self.gears.borrow_mut();
        if gears.len() < SPARE && gear.out.is_empty() && gear.out.capacity() <= LARGE {
            gears.push(gear);
        }
    }

    /// The most recently used idle connection to the target's endpoint on which nothing has come.
    pub(super) fn take(&self, target: &Target<'_>) -> Option<Box<Link>> {
        let mut pools = self.idle.borrow_mut();
        let pool = pools.entry(target.endpoint.id).or_insert_with(|| Pool {
            links: Vec::new(),
            metrics: Arc::clone(target.metrics),
        });
        loop {
            let idle = match target.hop.proxy_protocol {
                None => pool.links.pop()?,
                Some(_) => {
                    let fits = |idle: &Idle| is_for(idle.link.client, target.client);
                    let at = pool.links.iter().rposition(fits)?;
                    pool.links.remove(at)
                }
            };
            pool.metrics.worker(self.worker).unparked();
            let mut link = idle.link;
            let same = Arc::ptr_eq(&link.hop, target.hop) || link.hop.is_same(target.hop);
            if same && link.is_quiet() {
                return Some(link);
            }
        }
    }

    /// Keeps a clean connection for the next exchange.
    pub(super) fn put(&self, endpoint: EndpointId, link: Box<Link>, keep: Keep) {
        // No pool: the endpoint has left the config meanwhile.
        let mut pools = self.idle.borrow_mut();
        let Some(pool) = pools.get_mut(&endpoint) else {
            return;
        };
        let is_anybodys = link.hop.proxy_protocol.is_none();
        if pool.links.len() >= keep.max {
            // One that waits for its one client gives way to one whose client was just here.
            if is_anybodys || pool.links.is_empty() {
                return;
            }
            drop(pool.links.remove(0));
            pool.metrics.worker(self.worker).unparked();
        }
        link.timer.clear();
        link.stream.forget_task();
        pool.links.push(Idle {
            link,
            expires: self.deadlines.at(keep.idle),
        });
        pool.metrics.worker(self.worker).parked();
    }

    /// A fresh connection of HTTP/1.1.
    pub(super) fn link(&self, stream: Stream, target: &Target<'_>) -> Box<Link> {
        Box::new(Link {
            stream,
            timer: self.deadlines.timer(),
            hop: Arc::clone(target.hop),
            client: target.client,
        })
    }

    /// The connections of HTTP/2 to the target's endpoint.
    pub(super) fn peers(&self, target: &Target<'_>) -> Rc<Peers> {
        let mut all = self.peers.borrow_mut();
        let peers = all.entry(target.endpoint.id);
        Rc::clone(peers.or_insert_with(|| Peers::new(target.metrics, self.worker)))
    }

    /// Closes what has been idle for too long or was closed by its endpoint, and everything to
    /// endpoints that `keep` does not know any more. Called once a second by the worker.
    pub fn sweep(&self, keep: impl Fn(EndpointId) -> bool) {
        let now = self.deadlines.now();
        self.idle.borrow_mut().retain(|endpoint, pool| {
            let keep = keep(*endpoint);
            let before = pool.links.len();
            pool.links
                .retain_mut(|idle| keep && idle.expires > now && idle.link.is_quiet());
            for _ in pool.links.len()..before {
                pool.metrics.worker(self.worker).unparked();
            }
            keep
        });
        self.peers.borrow_mut().retain(|endpoint, peers| {
            let keep = keep(*endpoint);
            peers.sweep(now, keep);
            keep
        });
    }
}

/// Only a client with an address and a port can be told from others.
fn is_for(kept: Header, client: Header) -> bool {
    matches!(client, Header::Inet { source, .. } if source.port() != 0) && kept == client
}

impl Link {
    /// Whether the endpoint has said nothing: no byte, no end.
    pub(super) fn is_quiet(&mut self) -> bool {
        self.said() == Said::Nothing
    }

    /// What the endpoint has said unasked.
    pub(super) fn said(&mut self) -> Said {
        match self.stream.try_read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Said::Nothing,
            Ok(1..) => Said::Something,
            Ok(0) | Err(_) => Said::End,
        }
    }

    /// Says the last word that TLS has, as far as it can be said at once.
    pub(super) fn close(mut self) {
        let mut nobody = Context::from_waker(Waker::noop());
        let _said = Pin::new(&mut self.stream).poll_shutdown(&mut nobody);
    }
}
