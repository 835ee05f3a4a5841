//! From what a config means to what runs.
//!
//! Called by `reload`, on the control plane: it reads certificate files and resolves names, which
//! may take a while, and nothing that serves waits for it. Invariant: it changes nothing that runs:
//! a compile that fails leaves at most look-up entries that no one holds.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use crate::balancer::sticky::Sticky;
use crate::balancer::{Member, Pool};
use crate::config::model::{self, EndpointAddress};
use crate::net::hop::Hop;
use crate::net::tls::{self, TlsError};
use crate::net::tls_client::ClientTlsError;
use crate::{router, shard};

use super::{AcmeTokens, Live, Route, Snapshot, Upstream};

/// Why a config that is well-formed cannot run here.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// A certificate or key is not usable.
    #[error("listener {address}")]
    Tls {
        /// The listener.
        address: model::ListenAddress,
        /// What is wrong.
        #[source]
        source: TlsError,
    },
    /// TLS to an upstream cannot be set up.
    #[error("upstream {upstream}")]
    UpstreamTls {
        /// The upstream.
        upstream: Arc<str>,
        /// What is wrong.
        #[source]
        source: ClientTlsError,
    },
    /// An endpoint's name leads nowhere.
    #[error("upstream {upstream}: endpoint {address} cannot be resolved: {reason}")]
    Resolve {
        /// The upstream.
        upstream: Arc<str>,
        /// The endpoint as in the config.
        address: Arc<str>,
        /// What the resolver says.
        reason: String,
    },
}

impl CompileError {
    /// The file that is to blame, as the config's model has it, if it is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Tls { source, .. } => source.file(),
            Self::UpstreamTls { source, .. } => source.file(),
            Self::Resolve { .. } => None,
        }
    }
}

/// Builds the snapshot of `config`, number `generation`. `now` is wall time.
///
/// # Errors
/// When a certificate cannot be used or an endpoint's name does not resolve.
pub fn compile(
    config: &Arc<model::Config>,
    live: &Live,
    generation: u64,
    now: SystemTime,
) -> Result<Snapshot, CompileError> {
    let tls = config
        .listeners
        .iter()
        .map(|listener| listener_tls(listener, &live.tls, now))
        .collect::<Result<_, _>>()?;
    let upstreams = config
        .upstreams
        .iter()
        .map(|u| upstream(u, live))
        .collect::<Result<_, _>>()?;
    let routes = config
        .routes
        .iter()
        .map(|route| Route {
            name: Arc::clone(&route.name),
            target: route.target.clone(),
            max_body: route.max_body.unwrap_or(config.limits.body).bytes(),
            upgrades: route.upgrades.iter().map(Arc::clone).collect(),
            edge: (route.edge != model::RouteEdge::default()).then(|| Box::new(route.edge.clone())),
            cache: route.cache.clone().map(Arc::new),
            compress: route.compress.clone(),
            metrics: live.metrics.route(&route.name),
        })
        .collect();
    Ok(Snapshot {
        generation,
        config: Arc::clone(config),
        table: router::Table::new(&config.routes),
        routes,
        upstreams,
        shard_maps: config.shard_maps.iter().map(shard::Map::new).collect(),
        acme_tokens: acme_tokens(config, live),
        tls,
        key_queries: key_queries(config),
    })
}

fn key_queries(config: &model::Config) -> Box<[model::QueryRule]> {
    let mut rules: Vec<model::QueryRule> = Vec::new();
    for rule in config
        .routes
        .iter()
        .filter_map(|route| route.cache.as_ref())
    {
        let query = &rule.key.query;
        if *query != model::QueryRule::default() && !rules.contains(query) {
            rules.push(query.clone());
        }
    }
    rules.into()
}

fn acme_tokens(config: &model::Config, live: &Live) -> Option<Arc<AcmeTokens>> {
    let acme = config.acme.as_ref()?;
    (acme.challenge == model::AcmeChallenge::Http01).then(|| Arc::clone(&live.acme_tokens))
}

fn listener_tls(
    listener: &model::Listener,
    shared: &Arc<tls::Shared>,
    now: SystemTime,
) -> Result<Option<Arc<tls::Server>>, CompileError> {
    let Some(tls) = &listener.tls else {
        return Ok(None);
    };
    let server = tls::Server::read(tls, listener.protocols, shared, now);
    server.map(Some).map_err(|source| CompileError::Tls {
        address: listener.address.clone(),
        source,
    })
}

fn upstream(config: &model::Upstream, live: &Live) -> Result<Upstream, CompileError> {
    let name = &config.name;
    let members = config
        .endpoints
        .iter()
        .map(|endpoint| {
            let socket = match endpoint.unix_path() {
                Some(path) => EndpointAddress::Unix(path.into()),
                None => resolve(name, &endpoint.address)?.into(),
            };
            Ok(Member {
                endpoint: live.endpoints.endpoint(name, &endpoint.address, &socket),
                status: live
                    .health
                    .status(name, &endpoint.address, config.health_check.as_ref()),
                weight: endpoint.weight,
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let sticky = config.sticky.as_ref().map(|sticky| {
        let addresses: Vec<_> = config
            .endpoints
            .iter()
            .map(|e| Arc::clone(&e.address))
            .collect();
        let key = sticky
            .key
            .as_ref()
            .map_or(&live.sticky_key[..], |key| &key.0);
        Sticky::new(&sticky.cookie, key, name, &addresses)
    });
    Ok(Upstream {
        hop: Arc::new(hop(config, live)?),
        name: Arc::clone(name),
        pool: Pool::new(config.balance, members, sticky),
        metrics: live.metrics.upstream(name),
        timeouts: config.timeouts.clone(),
        max_idle: config.max_idle,
        endpoint_metrics: config
            .endpoints
            .iter()
            .map(|endpoint| live.metrics.endpoint(name, &endpoint.address))
            .collect(),
    })
}

fn hop(config: &model::Upstream, live: &Live) -> Result<Hop, CompileError> {
    let model::Outbound {
        protocol,
        tls,
        proxy_protocol,
    } = &config.outbound;
    let settings = |tls| live.client_tls.settings(&config.name, tls, *protocol);
    let tls =
        tls.as_ref()
            .map(settings)
            .transpose()
            .map_err(|source| CompileError::UpstreamTls {
                upstream: Arc::clone(&config.name),
                source,
            })?;
    Ok(Hop {
        protocol: *protocol,
        proxy_protocol: *proxy_protocol,
        tls,
    })
}

fn resolve(upstream: &Arc<str>, address: &Arc<str>) -> Result<SocketAddr, CompileError> {
    let failed = |reason: String| CompileError::Resolve {
        upstream: Arc::clone(upstream),
        address: Arc::clone(address),
        reason,
    };
    let mut found = address
        .to_socket_addrs()
        .map_err(|error| failed(error.to_string()))?;
    found
        .next()
        .ok_or_else(|| failed("the name has no address".to_owned()))
}
