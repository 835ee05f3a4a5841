//! What outlives a reload.
//!
//! `app` makes one when the process starts; `compile` looks endpoints and health up in it, workers
//! use its cache and counters. Invariant: everything here is found again by a name of the config,
//! never by position.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;

use crate::balancer;
use crate::cache::Cache;
use crate::clock::Clock;
use crate::config::model::CacheStore;
use crate::health;
use crate::metrics::Metrics;
use crate::net::tls;
use crate::net::tls_client::ClientTlsStore;

/// Answers of ACME's http-01, by token; nothing when none is expected.
pub type AcmeTokens = ArcSwapOption<HashMap<Box<str>, Bytes>>;

/// State that all configs share.
#[derive(Debug)]
pub struct Live {
    /// Endpoints by (upstream, address).
    pub endpoints: balancer::Registry,
    /// Health by (upstream, address, check).
    pub health: health::Registry,
    /// TLS settings towards upstreams, with the sessions to resume.
    pub client_tls: ClientTlsStore,
    /// The shared cache.
    pub cache: Arc<Cache>,
    /// All counters.
    pub metrics: Arc<Metrics>,
    /// Key of sticky cookies whose upstream has none in the config.
    pub sticky_key: [u8; 32],
    /// What `/.well-known/acme-challenge/` answers; `acme` writes it.
    pub acme_tokens: Arc<AcmeTokens>,
    /// Ticket keys, and certificates that are not the config's.
    pub tls: Arc<tls::Shared>,
}

impl Live {
    /// The state of a process that starts, whose cache measures ages by `clock`, with `sticky_key` drawn at random by the caller.
    #[must_use]
    pub fn new(
        cache: &CacheStore,
        clock: Clock,
        workers: usize,
        sticky_key: [u8; 32],
        tls: Arc<tls::Shared>,
    ) -> Arc<Self> {
        Arc::new(Self {
            endpoints: balancer::Registry::default(),
            health: health::Registry::default(),
            client_tls: ClientTlsStore::default(),
            cache: Cache::new(cache, clock),
            metrics: Metrics::new(workers),
            sticky_key,
            acme_tokens: Arc::default(),
            tls,
        })
    }
}
