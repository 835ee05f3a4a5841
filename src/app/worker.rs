//! The worker threads.
//!
//! Each has its own current-thread runtime, accept loops, connections and pools, and takes commands
//! from the control plane over a bounded channel. Invariant: the control plane only ever sends; a
//! worker answers nothing but "drained" and its end.

use std::cell::Cell;
use std::collections::HashMap;
use std::num::NonZeroU64;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, MissedTickBehavior};

use crate::config::model::ListenAddress;
use crate::config::units::ByteSize;
use crate::http1;
use crate::metrics::Listener;
use crate::net::deadline::{Deadlines, TICK};
use crate::net::listen;
use crate::net::socket::Batch;
use crate::proxy::access_log::Writer;
use crate::proxy::{Worker, access_log};
use crate::server::accept::{Accept, Listening, Senders, Spoken, Tls};
use crate::server::admission::Admission;
use crate::server::connection::Shared;
use crate::server::drain::Drain;
use crate::server::guard::Limits;
use crate::server::http2;
use crate::server::turn_away::TurnedAway;
use crate::snapshot::{Live, Snapshot};
use crate::upstream::Pools;

/// Commands that may wait for a worker.
const COMMANDS: usize = 1024;
/// Ticks in a second.
const SECOND: u32 = 20;

/// What the control plane tells a worker.
#[derive(Debug)]
pub(super) enum Command {
    /// Accept on this socket too.
    Listen {
        socket: listen::Listener,
        key: ListenAddress,
        tls: Tls,
        senders: Senders,
        spoken: Spoken,
        counters: Arc<Listener>,
    },
    /// Accept no more at this address; connections go on.
    Close { key: ListenAddress },
    /// A new snapshot is in force.
    Refresh,
    /// Accept no more at all, and let requests finish.
    Drain,
}

/// The running workers.
#[derive(Debug)]
pub(super) struct Workers {
    commands: Vec<mpsc::Sender<Command>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    drained: Arc<tokio::sync::Semaphore>,
}

impl Workers {
    /// Starts so many threads, each of which may talk to so many clients while it turns them away.
    pub(super) fn start(
        (count, turned_away): (usize, usize),
        live: &Arc<Live>,
        current: &Arc<ArcSwap<Snapshot>>,
        admission: &Arc<Admission>,
        began: Instant,
        log: Option<&Writer>,
    ) -> Result<Self> {
        let drained = Arc::new(tokio::sync::Semaphore::new(0));
        let mut workers = Self {
            commands: Vec::new(),
            threads: Mutex::default(),
            drained,
        };
        for id in 0..count {
            let (sender, commands) = mpsc::channel(COMMANDS);
            let birth = Birth {
                id,
                live: Arc::clone(live),
                current: Arc::clone(current),
                admission: Arc::clone(admission),
                began,
                log: log.map(Writer::buffer),
                turned_away,
                commands,
                drained: Arc::clone(&workers.drained),
            };
            let thread = std::thread::Builder::new()
                .name(format!("headgate-{id}"))
                .spawn(move || birth.run())
                .context("a worker thread cannot start")?;
            workers.commands.push(sender);
            workers.threads.lock().push(thread);
        }
        Ok(workers)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.commands.len()
    }

    /// The way to tell each worker something, in order of their numbers.
    pub(super) fn commands(&self) -> &[mpsc::Sender<Command>] {
        &self.commands
    }

    /// Tells all of them to stop accepting and to let requests finish.
    pub(super) fn drain(&self) {
        for worker in &self.commands {
            tell(worker, Command::Drain);
        }
    }

    /// Resolves when every worker has drained.
    pub(super) async fn drained(&self) {
        let all = u32::try_from(self.count()).unwrap_or(u32::MAX);
        // Closed never, so that the only error cannot happen.
        drop(self.drained.acquire_many(all).await);
    }

    /// Ends the threads; connections that are still open are cut.
    pub(super) fn join(self) {
        drop(self.commands);
        for thread in self.threads.into_inner() {
            if thread.join().is_err() {
                tracing::error!("a worker thread ended in a panic");
            }
        }
    }
}

/// Sends a command. A full queue means a worker that has been stuck for a thousand commands.
pub(super) fn tell(worker: &mpsc::Sender<Command>, command: Command) {
    if let Err(error) = worker.try_send(command) {
        tracing::error!(%error, "a worker does not take commands");
    }
}

/// What a worker thread begins with.
struct Birth {
    id: usize,
    live: Arc<Live>,
    current: Arc<ArcSwap<Snapshot>>,
    admission: Arc<Admission>,
    began: Instant,
    log: Option<access_log::Buffer>,
    turned_away: usize,
    commands: mpsc::Receiver<Command>,
    drained: Arc<tokio::sync::Semaphore>,
}

impl Birth {
    fn run(self) {
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build_local(LocalOptions::default());
        match runtime {
            Ok(runtime) => runtime.block_on(self.work()),
            Err(error) => tracing::error!(worker = self.id, %error, "a worker cannot start"),
        }
    }

    async fn work(self) {
        let deadlines = Deadlines::new();
        let batch = Batch::new();
        let sending = tokio::task::spawn_local(Rc::clone(&batch).run());
        let pools = Pools::new(self.id, &deadlines, &batch);
        let (metrics, cache) = (&self.live.metrics, &self.live.cache);
        let worker = Worker::new(metrics, cache, &pools, &self.current, self.began, self.log);
        let drain = Rc::new(Drain::default());
        let shared = Shared::new(
            Rc::clone(&worker),
            &deadlines,
            &batch,
            &drain,
            limits(&worker),
        );
        shared.http2.set(http2(&worker));
        let ticking = tokio::task::spawn_local(tick(Rc::clone(&worker)));
        let mut desk = Desk {
            id: self.id,
            live: self.live,
            shared,
            worker,
            admission: self.admission,
            turned_away: Rc::new(TurnedAway::new(self.turned_away)),
            stops: HashMap::new(),
            next_id: Rc::default(),
            drained: self.drained,
        };
        let mut commands = self.commands;
        // The channel closes when the process ends.
        while let Some(command) = commands.recv().await {
            desk.obey(command);
        }
        ticking.abort();
        sending.abort();
        desk.worker.flush();
    }
}

async fn tick(worker: Rc<Worker>) {
    let mut interval = tokio::time::interval(TICK);
    // After a stall every missed tick is made up for, so that deadlines keep to real time.
    interval.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut ticks: u32 = 0;
    loop {
        interval.tick().await;
        worker.tick().await;
        ticks = (ticks + 1) % SECOND;
        if ticks == 0 {
            worker.second();
        }
    }
}

fn limits(worker: &Worker) -> Limits {
    let view = worker.view();
    let config = &view.snapshot.config;
    let (timeouts, limits) = (&config.timeouts, &config.limits.heads);
    Limits {
        header: timeouts.header,
        idle: timeouts.idle,
        write_window: timeouts.body_idle,
        least_written: view.pace.bytes,
        heads: http1::Limits {
            head_bytes: bytes(limits.header_bytes),
            fields: limits.headers,
            target_bytes: bytes(limits.uri_bytes),
        },
        requests: limits.requests_per_connection,
    }
}

fn http2(worker: &Worker) -> http2::Settings {
    let view = worker.view();
    let heads = &view.snapshot.config.limits.heads;
    let limits = &view.snapshot.config.limits.http2;
    let window = |size: ByteSize| u32::try_from(size.0).unwrap_or(u32::MAX);
    http2::Settings {
        streams: limits.streams,
        resets: limits.resets,
        stream_window: window(limits.stream_window),
        connection_window: window(limits.connection_window),
        fields: heads.headers,
        header_bytes: bytes(heads.header_bytes),
        target: bytes(heads.uri_bytes),
        requests: heads
            .requests_per_connection
            .map_or(u64::MAX, NonZeroU64::get),
    }
}

fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.0).unwrap_or(usize::MAX)
}

/// Takes the commands of a worker.
struct Desk {
    id: usize,
    live: Arc<Live>,
    shared: Rc<Shared<Worker>>,
    worker: Rc<Worker>,
    admission: Arc<Admission>,
    turned_away: Rc<TurnedAway>,
    stops: HashMap<ListenAddress, Rc<Notify>>,
    next_id: Rc<Cell<u64>>,
    drained: Arc<tokio::sync::Semaphore>,
}

impl Desk {
    fn obey(&mut self, command: Command) {
        match command {
            // Stopping has begun: nothing new is taken.
            Command::Listen { .. } if self.shared.drain.is_draining() => {}
            Command::Listen {
                socket,
                key,
                tls,
                senders,
                spoken,
                counters,
            } => match Listening::new(socket) {
                Ok(listening) => self.listen(listening, key, (tls, senders, spoken), counters),
                Err(error) => tracing::error!(address = %key, %error, "cannot listen"),
            },
            Command::Close { key } => {
                if let Some(stop) = self.stops.remove(&key) {
                    stop.notify_one();
                }
            }
            Command::Refresh => {
                self.shared.limits.set(limits(&self.worker));
                self.shared.http2.set(http2(&self.worker));
                self.worker.second();
            }
            Command::Drain => self.drain(),
        }
    }

    fn listen(
        &mut self,
        listening: Listening,
        key: ListenAddress,
        (tls, senders, spoken): (Tls, Senders, Spoken),
        counters: Arc<Listener>,
    ) {
        let stop = Rc::new(Notify::new());
        self.stops.insert(key, Rc::clone(&stop));
        let accept = Accept {
            worker: self.id,
            shared: Rc::clone(&self.shared),
            tls,
            senders,
            spoken,
            admission: Arc::clone(&self.admission),
            turned_away: Rc::clone(&self.turned_away),
            counters,
            metrics: Arc::clone(&self.live.metrics),
            next_id: Rc::clone(&self.next_id),
        };
        tokio::task::spawn_local(accept.run(listening, stop));
    }

    fn drain(&mut self) {
        for (_, stop) in self.stops.drain() {
            stop.notify_one();
        }
        let shared = Rc::clone(&self.shared);
        let (worker, drained) = (Rc::clone(&self.worker), Arc::clone(&self.drained));
        tokio::task::spawn_local(async move {
            // The accept loops take what is queued before they end.
            tokio::task::yield_now().await;
            shared.drain.begin();
            shared.deadlines.wake_all();
            shared.drain.empty().await;
            worker.flush();
            drained.add_permits(1);
        });
    }
}
