//! Which sockets are open, and what follows a new snapshot.
//!
//! The `reload::Apply` of the process: `prepare` opens the sockets that a config adds, `commit` hands
//! them to the workers, closes those that are gone, renews TLS settings and tells the prober.
//! Invariant: a listener that both configs have is not touched.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::acme;
use crate::clock;
use crate::config::model::{self, ListenAddress};
use crate::health::{Prober, Target};
use crate::metrics::Kept;
use crate::net::listen::{self, ListenError, Listener, SocketFile};
use crate::reload::Apply;
use crate::server::accept::{Senders, Spoken, Tls};
use crate::server::admission::Admission;
use crate::snapshot::{Live, Snapshot};

use super::limits;
use super::worker::{Command, Workers, tell};

/// The sockets of one listener, one for each worker.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// The address in the config; port 0 stays 0 here.
    key: ListenAddress,
    sockets: Vec<Listener>,
    /// Of a Unix socket.
    file: Option<SocketFile>,
}

impl Sockets {
    fn open(
        listener: &model::Listener,
        workers: usize,
        held: &[SocketAddr],
    ) -> Result<Self, ListenError> {
        let key = listener.address.clone();
        let (sockets, file) = match &key {
            ListenAddress::Tcp(address) => {
                let sockets = listen::group(*address, workers, held)?;
                (sockets.into_iter().map(Listener::Tcp).collect(), None)
            }
            ListenAddress::Unix(path) => {
                let (sockets, file) = listen::unix_group(path, listener.mode, workers)?;
                let sockets = sockets.into_iter().map(Listener::Unix).collect();
                (sockets, Some(file))
            }
        };
        Ok(Self { key, sockets, file })
    }

    /// Where it listens really.
    pub(super) fn address(&self) -> ListenAddress {
        match self.sockets.first() {
            Some(Listener::Tcp(socket)) => socket.local_addr().ok().map(ListenAddress::Tcp),
            Some(Listener::Unix(_)) | None => None,
        }
        .unwrap_or_else(|| self.key.clone())
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
        .map(|listener| Sockets::open(listener, workers, held))
        .collect()
}

/// A listener that is open: what a reload may change about it.
#[derive(Debug, Default)]
pub(super) struct Slot {
    tls: Tls,
    senders: Senders,
    spoken: Spoken,
    /// Of a Unix socket; goes with the listener.
    file: Option<SocketFile>,
}

/// Every listener that is open, by its address in the config.
pub(super) type Slots = Rc<RefCell<HashMap<ListenAddress, Slot>>>;

/// Takes away the files of Unix sockets, so that nobody new comes in by them.
pub(super) fn remove_files(slots: &Slots) {
    for slot in slots.borrow_mut().values_mut() {
        slot.file = None;
    }
}

/// The listeners of the process and all else that follows the snapshot.
#[derive(Debug)]
pub(crate) struct Listeners {
    workers: Vec<mpsc::Sender<Command>>,
    live: Arc<Live>,
    prober: RefCell<Prober>,
    keeper: acme::Keeper,
    admission: Arc<Admission>,
    /// How many descriptors may be open.
    descriptors: usize,
    open: Slots,
}

impl Listeners {
    /// Puts the first snapshot to use, with the sockets opened for it.
    pub(super) fn new(
        workers: &Workers,
        live: &Arc<Live>,
        prober: Prober,
        (admission, descriptors): (&Arc<Admission>, usize),
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
            admission: Arc::clone(admission),
            descriptors,
            open: Rc::default(),
        };
        listeners.commit(sockets, snapshot);
        listeners
    }

    /// What stays with the control plane of each listener that is open.
    pub(super) fn slots(&self) -> Slots {
        Rc::clone(&self.open)
    }

    fn hand_out(&self, sockets: Vec<Listener>, key: &ListenAddress, slot: &Slot) {
        let counters = self.live.metrics.listener(&key.to_string());
        for (worker, socket) in self.workers.iter().zip(sockets) {
            tell(
                worker,
                Command::Listen {
                    socket,
                    key: key.clone(),
                    tls: Arc::clone(&slot.tls),
                    senders: Arc::clone(&slot.senders),
                    spoken: Arc::clone(&slot.spoken),
                    counters: Arc::clone(&counters),
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
                socket: member.endpoint.socket.clone(),
                hop: Arc::clone(&upstream.hop),
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
        let held: Vec<SocketAddr> = opened
            .keys()
            .filter_map(|key| match key {
                ListenAddress::Tcp(address) => Some(*address),
                ListenAddress::Unix(_) => None,
            })
            .collect();
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
                        tell(worker, Command::Close { key: key.clone() });
                    }
                    tracing::info!(address = %key, "listener closed");
                }
                stays
            });
            for (listener, tls) in listeners.iter().zip(&now.tls) {
                let slot = open.entry(listener.address.clone()).or_default();
                slot.tls.store(Arc::new(tls.clone()));
                slot.senders
                    .store(Arc::new(listener.proxy_protocol.clone()));
                slot.spoken.store(Arc::new(listener.protocols));
                if let Some(file) = &slot.file
                    && let Err(error) = file.set_mode(listener.mode)
                {
                    tracing::warn!(address = %listener.address, %error, "cannot set the mode");
                }
                if let Some(server) = tls {
                    server.warn_of_expiry(clock::wall());
                }
            }
            self.live.tls.changed();
            for sockets in ready {
                let address = sockets.address();
                let Sockets { key, sockets, file } = sockets;
                let slot = open.entry(key.clone()).or_default();
                slot.file = file;
                self.hand_out(sockets, &key, slot);
                tracing::info!(%address, "listening");
            }
        }
        let connections = &now.config.limits.connections;
        let room = limits::Room::of(self.descriptors, self.workers.len());
        let (total, per_address) = room.of_connections(connections);
        self.admission.limit(total, per_address);
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
