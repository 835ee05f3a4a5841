//! A worker's idle connections, by endpoint.
//!
//! `exchange` takes a connection from here and gives it back when its answer was read whole. The
//! most recently used is taken first, so that a quiet hour lets the others reach their idle time.
//! Invariant: what lies in the pool is idle and was clean when it was put there; whether the
//! endpoint has closed it since is found out by the first poll of the next exchange, which sends
//! nothing on a closed connection.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;

use crate::balancer::{Endpoint, EndpointId};
use crate::config::model::UpstreamTimeouts;
use crate::metrics;
use crate::net::deadline::{Deadlines, Timer};
use crate::net::hop::Hop;
use crate::net::proxy_protocol::Header;
use crate::net::socket::{Batch, Socket};
use crate::net::transport::Transport;

use super::request_body::RequestBody;

/// Most bytes of an answer's head, and of what is buffered for a slow endpoint.
const MAX_BUFFER: usize = 64 * 1024;

/// Where an exchange goes and how long each part of it may take.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The endpoint that was picked.
    pub endpoint: &'a Arc<Endpoint>,
    /// Its upstream's deadlines.
    pub timeouts: &'a UpstreamTimeouts,
    /// Idle connections that this worker keeps to it.
    pub max_idle: usize,
    /// How its upstream's endpoints are reached.
    pub hop: &'a Arc<Hop>,
    /// Whom the request is for, as a hop with PROXY protocol tells endpoints.
    pub client: Header,
    /// The endpoint's counters.
    pub metrics: &'a Arc<metrics::Endpoint>,
    /// The upstream's counters.
    pub upstream_metrics: &'a metrics::Upstream,
}

/// The connections of one worker.
#[derive(Debug)]
pub struct Pools {
    worker: usize,
    deadlines: Rc<Deadlines>,
    batch: Rc<Batch>,
    builder: Builder,
    idle: RefCell<HashMap<EndpointId, Pool, ahash::RandomState>>,
}

/// The idle connections to one endpoint.
#[derive(Debug)]
struct Pool {
    links: Vec<Idle>,
    metrics: Arc<metrics::Endpoint>,
}

/// A connection and the only handle to it. Always boxed: it passes through many hands on a request's
/// way, and hyper's half of it is large.
pub(super) struct Link {
    pub(super) sender: SendRequest<RequestBody>,
    pub(super) connection: Connection<TokioIo<Socket>, RequestBody>,
    pub(super) timer: Timer,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
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
        let mut builder = Builder::new();
        builder.max_buf_size(MAX_BUFFER);
        Rc::new(Self {
            worker,
            deadlines: Rc::clone(deadlines),
            batch: Rc::clone(batch),
            builder,
            idle: RefCell::default(),
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

    /// The most recently used idle connection to the target's endpoint.
    pub(super) fn take(&self, target: Target<'_>) -> Option<Box<Link>> {
        let mut pools = self.idle.borrow_mut();
        let pool = pools.entry(target.endpoint.id).or_insert_with(|| Pool {
            links: Vec::new(),
            metrics: Arc::clone(target.metrics),
        });
        let idle = pool.links.pop()?;
        pool.metrics.worker(self.worker).unparked();
        Some(idle.link)
    }

    /// Keeps a clean connection for the next exchange.
    pub(super) fn put(
        &self,
        endpoint: EndpointId,
        link: Box<Link>,
        keep: Duration,
        max_idle: usize,
    ) {
        // No pool: the endpoint has left the config meanwhile.
        if let Some(pool) = self.idle.borrow_mut().get_mut(&endpoint)
            && pool.links.len() < max_idle
        {
            link.timer.clear();
            pool.links.push(Idle {
                link,
                expires: self.deadlines.at(keep),
            });
            pool.metrics.worker(self.worker).parked();
        }
    }

    /// Speaks HTTP/1.1 over a fresh connection.
    pub(super) async fn link(&self, stream: Transport) -> hyper::Result<Box<Link>> {
        let (sender, connection) = self
            .builder
            .handshake(TokioIo::new(Socket::new(stream, &self.batch)))
            .await?;
        let timer = self.deadlines.timer();
        Ok(Box::new(Link {
            sender,
            connection,
            timer,
        }))
    }

    /// Closes what has been idle for too long or was closed by its endpoint, and everything to
    /// endpoints that `keep` does not know any more. Called once a second by the worker.
    pub fn sweep(&self, keep: impl Fn(EndpointId) -> bool) {
        let now = self.deadlines.now();
        self.idle.borrow_mut().retain(|endpoint, pool| {
            let keep = keep(*endpoint);
            let before = pool.links.len();
            pool.links
                .retain_mut(|idle| keep && idle.expires > now && idle.link.is_open());
            for _ in pool.links.len()..before {
                pool.metrics.worker(self.worker).unparked();
            }
            keep
        });
    }
}

impl Link {
    /// Polls once with nobody to wake: an idle connection has nothing to wait for.
    pub(super) fn is_open(&mut self) -> bool {
        use std::future::Future as _;
        let mut nobody = Context::from_waker(Waker::noop());
        let ended = std::pin::Pin::new(&mut self.connection)
            .poll(&mut nobody)
            .is_ready();
        !ended && self.sender.is_ready()
    }
}
