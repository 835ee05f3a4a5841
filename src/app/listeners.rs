//! Which sockets are open, and what follows a new snapshot.
//!
//! The `reload::Apply` of the process: `prepare` opens the sockets that a config adds, `commit` hands
//! them to the workers, closes those that are gone, renews TLS settings and tells the prober.
//! Invariant: a listener that both configs have is not touched.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::acme;
use crate::clock;
use crate::config::model;
use crate::health::{Prober, Target};
use crate::metrics::Kept;
use crate::net::listen::{self, ListenError};
use crate::reload::Apply;
use crate::server::accept::Tls;
use crate::snapshot::{Live, Snapshot};

use super::worker::{Command, Workers, tell};

/// The sockets of one listener, one for each worker.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// The address in the config; port 0 stays 0 here.
    key: SocketAddr,
    sockets: Vec<TcpListener>,
}

impl Sockets {
    /// Where it listens really.
    pub(super) fn address(&self) -> SocketAddr {
        self.sockets
            .first()
            .and_then(|socket| socket.local_addr().ok())
            .unwrap_or(self.key)
    }
}

/// Opens the sockets of each listener, for `workers` workers.
pub(super) fn open(
    listeners: &[model::Listener],
    workers: usize,
    held: &[SocketAddr],
) -> Result<Vec<Sockets>, ListenError> {
    listeners
        .iter()
        .map(|listener| {
            let key = listener.address;
            listen::group(key, workers, held).map(|sockets| Sockets { key, sockets })
        })
        .collect()
}

/// The listeners of the process and all else that follows the snapshot.
#[derive(Debug)]
pub(crate) struct Listeners {
    workers: Vec<mpsc::Sender<Command>>,
    live: Arc<Live>,
    prober: RefCell<Prober>,
    keeper: acme::Keeper,
    open: RefCell<HashMap<SocketAddr, Tls>>,
}

impl Listeners {
    /// Puts the first snapshot to use, with the sockets opened for it.
    pub(super) fn new(
        workers: &Workers,
        live: &Arc<Live>,
        prober: Prober,
        sockets: Vec<Sockets>,
        snapshot: &Arc<Snapshot>,
    ) -> Self {
        let outlets = acme::Outlets {
            issued: Arc::clone(&live.tls.issued),
            tokens: Arc::clone(&live.acme_tokens),
        };
        let listeners = Self {
            workers: workers.commands().to_vec(),
            live: Arc::clone(live),
            prober: RefCell::new(prober),
            keeper: acme::Keeper::start(&live.metrics, outlets),
            open: RefCell::default(),
        };
        listeners.commit(sockets, snapshot);
        listeners
    }

    fn hand_out(&self, sockets: Sockets, tls: &Tls) {
        let counters = self.live.metrics.listener(&sockets.key.to_string());
        for (worker, socket) in self.workers.iter().zip(sockets.sockets) {
            let (tls, counters) = (Arc::clone(tls), Arc::clone(&counters));
            tell(
                worker,
                Command::Listen {
                    socket,
                    key: sockets.key,
                    tls,
                    counters,
                },
            );
        }
    }

    fn tell_prober(&self, snapshot: &Snapshot) {
        let mut targets = Vec::new();
        for (upstream, config) in snapshot.upstreams.iter().zip(&snapshot.config.upstreams) {
            let Some(check) = &config.health_check else {
                continue;
            };
            targets.extend(upstream.pool.members().iter().map(|member| Target {
                upstream: Arc::clone(&upstream.name),
                address: Arc::clone(&member.endpoint.address),
                socket: member.endpoint.socket,
                check: check.clone(),
                status: Arc::clone(&member.status),
            }));
        }
        self.prober.borrow_mut().apply(targets);
    }

    /// Forgets the series of whatever no config names any more.
    fn forget(&self, snapshot: &Snapshot) {
        let endpoints = snapshot.upstreams.iter().flat_map(|upstream| {
            let members = upstream.pool.members().iter();
            members.map(|m| (Arc::clone(&upstream.name), Arc::clone(&m.endpoint.address)))
        });
        self.live.metrics.retain(&Kept {
            routes: snapshot
                .routes
                .iter()
                .map(|route| Arc::clone(&route.name))
                .collect(),
            upstreams: snapshot
                .upstreams
                .iter()
                .map(|u| Arc::clone(&u.name))
                .collect(),
            endpoints: endpoints.collect(),
            listeners: self
                .open
                .borrow()
                .keys()
                .map(|key| key.to_string().into())
                .collect(),
        });
    }
}

impl Apply for Listeners {
    type Ready = Vec<Sockets>;

    fn prepare(&self, next: &Snapshot) -> Result<Vec<Sockets>, String> {
        let opened = self.open.borrow();
        let added: Vec<model::Listener> = next
            .config
            .listeners
            .iter()
            .filter(|listener| !opened.contains_key(&listener.address))
            .cloned()
            .collect();
        let held: Vec<SocketAddr> = opened.keys().copied().collect();
        open(&added, self.workers.len(), &held).map_err(|error| error.to_string())
    }

    fn commit(&self, ready: Vec<Sockets>, now: &Arc<Snapshot>) {
        // Before anybody shakes hands: what is kept on disk is served from the first connection on.
        self.keeper.apply(now.config.acme.as_ref());
        {
            let mut open = self.open.borrow_mut();
            let listeners = &now.config.listeners;
            open.retain(|key, _| {
                let stays = listeners.iter().any(|listener| listener.address == *key);
                if !stays {
                    for worker in &self.workers {
                        tell(worker, Command::Close { key: *key });
                    }
                    tracing::info!(address = %key, "listener closed");
                }
                stays
            });
            for (listener, tls) in listeners.iter().zip(&now.tls) {
                let slot = open.entry(listener.address).or_default();
                slot.store(Arc::new(tls.clone()));
                if let Some(server) = tls {
                    server.warn_of_expiry(clock::wall());
                }
            }
            for sockets in ready {
                let address = sockets.address();
                let tls = open.entry(sockets.key).or_default();
                self.hand_out(sockets, tls);
                tracing::info!(%address, "listening");
            }
        }
        for worker in &self.workers {
            tell(worker, Command::Refresh);
        }
        self.tell_prober(now);
        self.forget(now);
    }

    fn abandon(&self, current: &Snapshot) {
        self.forget(current);
    }
}
