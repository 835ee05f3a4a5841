//! Everything compiled from one config: what runs.
//!
//! `compile` builds a `Snapshot` against the `Live` state that outlives reloads; `reload` puts it
//! behind the one shared pointer; a request uses one from start to end. Invariant: a snapshot is
//! immutable: what changes while it is in force (counts, health, the cache) is `Live`'s, and only
//! pointed at from here.

mod compile;
mod live;

use std::borrow::Cow;
use std::sync::Arc;

use crate::balancer::{Endpoint, EndpointId, Pool};
use crate::config::model::{self, CacheRule, Compress, QueryRule, RouteEdge, Target};
use crate::metrics::{self, ProxyError};
use crate::net::hop::Hop;
use crate::net::proxy_protocol::Header;
use crate::net::tls;
use crate::{router, shard, upstream};

pub use compile::{CompileError, compile};
pub use live::{AcmeTokens, Live};

/// One config, ready to run.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts configs that came into force, from 1.
    pub generation: u64,
    /// What it was compiled from.
    pub config: Arc<model::Config>,
    /// Finds a request's route.
    pub table: router::Table,
    /// By `RouteId`.
    pub routes: Box<[Route]>,
    /// By `UpstreamId`.
    pub upstreams: Box<[Upstream]>,
    /// By `ShardMapId`.
    pub shard_maps: Box<[shard::Map]>,
    /// Answers of ACME's http-01, where the config has that.
    pub acme_tokens: Option<Arc<AcmeTokens>>,
    /// TLS of `config.listeners`, in their order.
    pub tls: Box<[Option<Arc<tls::Server>>]>,
    /// What caching routes make of queries in the cache's keys; each once, none that changes nothing.
    key_queries: Box<[QueryRule]>,
}

/// A route.
#[derive(Debug)]
pub struct Route {
    /// Its name.
    pub name: Arc<str>,
    /// Where its requests go.
    pub target: Target,
    /// How it caches, if it does.
    pub cache: Option<Arc<CacheRule>>,
    /// How its answers are compressed, if they are.
    pub compress: Option<Compress>,
    /// Largest request body in bytes.
    pub max_body: u64,
    /// Protocols that clients may go on in, in lower case.
    pub upgrades: Box<[Arc<str>]>,
    /// What happens on its edge; none where nothing does.
    pub edge: Option<Box<RouteEdge>>,
    /// Its counters.
    pub metrics: Arc<metrics::Route>,
}

/// An upstream.
#[derive(Debug)]
pub struct Upstream {
    /// Its name.
    pub name: Arc<str>,
    /// Chooses endpoints.
    pub pool: Pool,
    /// Its counters.
    pub metrics: Arc<metrics::Upstream>,
    /// How its endpoints are reached.
    pub hop: Arc<Hop>,
    timeouts: model::UpstreamTimeouts,
    max_idle: usize,
    /// In member order.
    endpoint_metrics: Box<[Arc<metrics::Endpoint>]>,
}

impl Upstream {
    /// What exchanging with a member takes.
    #[must_use]
    pub fn target(&self, member: usize) -> upstream::Target<'_> {
        upstream::Target {
            endpoint: &self.pool.members()[member].endpoint,
            timeouts: &self.timeouts,
            max_idle: self.max_idle,
            hop: &self.hop,
            client: Header::Unknown,
            metrics: &self.endpoint_metrics[member],
            upstream_metrics: &self.metrics,
        }
    }
}

impl Snapshot {
    /// The forms of path and query under which routes may have stored what is asked for by `target`.
    pub fn stored_forms<'a>(&'a self, target: &'a str) -> impl Iterator<Item = Cow<'a, str>> {
        let parts = target.split_once('?');
        let others = self.key_queries.iter().filter_map(move |rule| {
            let (path, query) = parts?;
            let left = rule.apply(query)?;
            Some(match left.as_str() {
                "" => Cow::Borrowed(path),
                left => Cow::Owned(format!("{path}?{left}")),
            })
        });
        std::iter::once(Cow::Borrowed(target)).chain(others)
    }

    /// Whether any upstream has this endpoint.
    #[must_use]
    pub fn has_endpoint(&self, id: EndpointId) -> bool {
        self.upstreams.iter().any(|upstream| {
            upstream
                .pool
                .members()
                .iter()
                .any(|member| member.endpoint.id == id)
        })
    }

    /// Counts an error of an endpoint that was found after its answer began.
    pub fn count_error(&self, endpoint: &Endpoint, worker: usize, reason: ProxyError) {
        if let Some(upstream) = self.upstreams.iter().find(|u| u.name == endpoint.upstream) {
            upstream.metrics.worker(worker).error(reason);
        }
    }
}
