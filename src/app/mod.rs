//! Joins the rooms: what starts, in which order, and how it all stops.
//!
//! Start: limits of the process, config, live state, first snapshot, sockets, access log, workers,
//! then the control plane (prober, admin, signals) on the calling thread. Stop: readiness fails,
//! listeners close, requests finish within `timeouts.shutdown`, logs are written out. Invariant: the
//! control plane never runs on a worker, and no worker ever waits for it.

mod certificates;
mod gauges;
mod limits;
mod listeners;
mod names;
mod rehearsal;
mod signals;
mod worker;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use arc_swap::ArcSwap;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::config::model::{Config, ListenAddress};
use crate::config::{self, Loaded};
use crate::health::Prober;
use crate::metrics::Metrics;
use crate::proxy::access_log::Writer;
use crate::reload::{self, Reloader};
use crate::snapshot::{self, Live, Snapshot};
use crate::{admin, clock, net};

pub use rehearsal::{Rehearsal, rehearse};

use listeners::Listeners;
use signals::Signals;
use worker::Workers;

/// How long the access log may take to be written out at the end.
const LOG_PATIENCE: Duration = Duration::from_secs(5);

/// How long the cache may take to be written to its disk at the end.
const DISK_PATIENCE: Duration = Duration::from_secs(30);

/// What a caller may decide besides the config file.
#[derive(Default)]
pub struct Options {
    /// Writes an access log like this instead of the one that the config asks for.
    pub access_log: Option<config::model::AccessLog>,
    /// Is told the addresses once everything listens.
    pub ready: Option<OnReady>,
    /// What the cache measures ages by; the present by default.
    pub clock: Clock,
    /// Stops it as SIGTERM does, when something is sent or the sender is dropped.
    pub stop: Option<oneshot::Receiver<()>>,
}

/// Is told where everything listens.
pub type OnReady = Box<dyn FnOnce(&Ready) + Send>;

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("access_log", &self.access_log)
            .finish_non_exhaustive()
    }
}

/// Where a running Headgate listens.
#[derive(Debug, Clone)]
pub struct Ready {
    /// Public addresses, in the order of the config.
    pub listeners: Vec<ListenAddress>,
    /// The operators' address.
    pub admin: SocketAddr,
}

/// Reads the config at `path` and serves until told to stop. Blocks the calling thread.
///
/// # Errors
/// When the config is wrong or something cannot be opened; nothing is served then.
pub fn run(path: &Path, options: Options) -> Result<()> {
    let loaded = config::load(path)?;
    serve(path, &loaded, options)
}

impl Ready {
    fn of(sockets: &[listeners::Sockets], admin: &[TcpListener], config: &Config) -> Self {
        let admin = admin
            .first()
            .and_then(|listener| listener.local_addr().ok());
        Self {
            listeners: sockets.iter().map(listeners::Sockets::address).collect(),
            admin: admin.unwrap_or(config.admin.address),
        }
    }
}

/// Serves a config that is loaded already, see `run`.
///
/// # Errors
/// When something cannot be opened or a certificate cannot be used.
pub fn serve(path: &Path, loaded: &Loaded, options: Options) -> Result<()> {
    let began = Instant::now();
    let control = Builder::new_current_thread()
        .enable_all()
        .thread_name("headgate-blocking")
        .build_local(LocalOptions::default())
        .context("the control plane cannot start")?;
    // From here on a signal is for us, however early it comes.
    let mut signals = control.block_on(async { Signals::catch() })?;
    let descriptors = limits::raise_descriptors();
    let mut config = loaded.config.clone();
    if let Some(access_log) = options.access_log {
        config.access_log = access_log;
    }
    let config = Arc::new(config);
    let workers = config.workers.get();
    let live = Live::new(
        &config.cache,
        options.clock,
        workers,
        random_key()?,
        net::tls::Shared::new()?,
    );
    let snapshot = control.block_on(first_snapshot(&config, &live, loaded, &mut signals))?;
    let current = Arc::new(ArcSwap::from_pointee(snapshot));
    let sockets = listeners::open(&config.listeners, workers, &[])?;
    let admin = net::listen::group(config.admin.address, 1, &[])?;
    let log = Writer::start(&config.access_log, Arc::clone(&live.metrics))
        .context("the access log cannot be opened")?;

    let ready = Ready::of(&sockets, &admin, &config);
    count_panics(&live.metrics, options.stop.is_some());
    let room = limits::Room::of(descriptors, workers);
    let operators = room.of_operators();
    let admission = room.admission(&config.limits.connections);
    let workers = (workers, room.of_turned_away());
    let workers = Workers::start(workers, &live, &current, &admission, began, log.as_ref())?;
    gauges::register(&live, &current, &admission);
    let outcome = control.block_on(async {
        let prober = Prober::new(tokio::runtime::Handle::current());
        let room = (&admission, descriptors);
        let listeners = Listeners::new(&workers, &live, prober, room, sockets, &current.load());
        let slots = listeners.slots();
        let reloader = Rc::new(Reloader::new(path, &live, listeners, &current, loaded));
        let state = Rc::new(admin::State::new(&live, reloader));
        for listener in admin {
            tokio::task::spawn_local(admin::serve(listener, Rc::clone(&state), operators));
        }
        tokio::task::spawn_local(certificates::watch(
            Arc::clone(&live),
            Arc::clone(&current),
            certificates::PERIOD,
        ));
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"), workers = workers.count(),
            listeners = %listed(&ready.listeners), admin = %ready.admin, "headgate is ready"
        );
        state.set_ready(true);
        if let Some(tell) = options.ready {
            tell(&ready);
        }
        let reopen = || {
            if let Some(log) = &log {
                log.reopen();
            }
        };
        let obeyed = signals.obey_until_stop(state.reloader(), reopen);
        told_or(obeyed, options.stop).await;
        state.set_ready(false);
        listeners::remove_files(&slots);
        drain(
            &workers,
            current.load().config.timeouts.shutdown,
            &mut signals,
        )
        .await;
        anyhow::Ok(())
    });
    // The control plane holds the other ends of the workers' commands.
    control.shutdown_background();
    workers.join();
    write_out(&live, log);
    outcome
}

/// What still waits to be written, after the workers have ended: nothing is stored or purged any more.
fn write_out(live: &Live, log: Option<Writer>) {
    if !live.cache.close(DISK_PATIENCE) {
        tracing::warn!("the cache could not be written to its disk in time");
    }
    if let Some(log) = log
        && !log.finish(LOG_PATIENCE)
    {
        tracing::warn!("the access log could not be written out");
    }
}

/// Resolves when the caller wants it to stop, or when `signals` do.
async fn told_or(signals: impl Future<Output = ()>, stop: Option<oneshot::Receiver<()>>) {
    let Some(stop) = stop else {
        return signals.await;
    };
    tokio::select! {
        () = signals => {}
        // Dropped or used, it says the same.
        _told = stop => {}
    }
}

/// Addresses as a list in one field of a log line.
fn listed(addresses: &[ListenAddress]) -> String {
    let shown: Vec<String> = addresses.iter().map(ListenAddress::to_string).collect();
    format!("[{}]", shown.join(", "))
}

/// Lets requests finish, for as long as the config allows and nobody insists.
async fn drain(workers: &Workers, patience: Duration, signals: &mut Signals) {
    tracing::info!(
        seconds = patience.as_secs_f64(),
        "stopping: requests may finish"
    );
    workers.drain();
    tokio::select! {
        () = workers.drained() => tracing::info!("stopped: every request has finished"),
        () = tokio::time::sleep(patience) => tracing::warn!("stopped: time was up, requests were cut"),
        () = signals.stop() => tracing::warn!("stopped at once: requests were cut"),
    }
}

/// Compiles the first config. Names are resolved there, which may take long: a signal ends it.
async fn first_snapshot(
    config: &Arc<Config>,
    live: &Arc<Live>,
    loaded: &Loaded,
    signals: &mut Signals,
) -> Result<Snapshot> {
    let (config, live) = (Arc::clone(config), Arc::clone(live));
    let compiling =
        tokio::task::spawn_blocking(move || snapshot::compile(&config, &live, 1, clock::wall()));
    tokio::select! {
        compiled = compiling => Ok(compiled?.map_err(|error| reload::placed(error, loaded))?),
        () = signals.stop() => anyhow::bail!("stopped while starting"),
    }
}

/// A panic costs one request: it is counted and logged, and its task is gone.
fn count_panics(metrics: &Arc<Metrics>, is_guest: bool) {
    // Whoever stops it by hand has other things in this process, and a hook for them.
    if is_guest {
        return;
    }
    let metrics = Arc::clone(metrics);
    std::panic::set_hook(Box::new(move |panic| {
        metrics.control().panicked();
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(%backtrace, "panicked: {panic}");
    }));
}

fn random_key() -> Result<[u8; 32]> {
    let mut key = [0; 32];
    aws_lc_rs::rand::fill(&mut key)
        .ok()
        .context("the system has no randomness")?;
    Ok(key)
}
