//! Counting what happens, without being in its way.
//!
//! Every room counts here; this room uses none of ours. A request neither locks, hashes nor looks up
//! a label: handles are resolved by name when a snapshot is compiled (`Metrics::route`, `upstream`,
//! `endpoint`, `listener`), each worker writes cells of its own through `handle.worker(w)`, and only
//! a scrape (`Metrics::render`) sums them up. Handles live as long as their name stays in the
//! configuration, so counters go on across reloads; `Metrics::retain` forgets the others.
//! What other rooms own anyway (bytes in the cache, an endpoint's state) is pulled at scrape time
//! through `Metrics::pull`, so that it is not kept twice.

mod cells;
mod control;
mod families;
mod labels;
pub mod names;
mod render;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::{Registry, TextEncoder};

use self::cells::PerWorker;
pub use self::control::Control;
pub use self::families::{Endpoint, EndpointCells, Listener, ListenerCells, Route, RouteCells};
pub use self::families::{Upstream, UpstreamCells, WorkerCells};
pub use self::labels::{
    CacheBypass, CacheRefusal, CacheResult, CloseReason, Http2Code, Http2Flood, ProxyError,
    PurgeKind, PurgeStrength, RejectReason, Side, TunnelEnd,
};
pub use self::names::Name;
pub use self::render::Sink;
use self::render::{Fill, Scrape};

/// Media type of what `Metrics::render` writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything that is counted in this process.
pub struct Metrics {
    cells: Arc<Cells>,
    registry: Registry,
}

/// Names that still stand in the configuration.
#[derive(Debug, Default, Clone)]
pub struct Kept {
    /// Names of routes.
    pub routes: HashSet<Arc<str>>,
    /// Names of upstreams.
    pub upstreams: HashSet<Arc<str>>,
    /// Upstream and address of endpoints.
    pub endpoints: HashSet<(Arc<str>, Arc<str>)>,
    /// Addresses of listeners.
    pub listeners: HashSet<Arc<str>>,
}

impl Metrics {
    /// Cells for `workers` workers, numbered from 0.
    pub fn new(workers: usize) -> Arc<Self> {
        let cells = Arc::new(Cells::new(workers));
        let fill = {
            let cells = Arc::clone(&cells);
            Arc::new(move |sink: &mut Sink| cells.collect(sink))
        };
        let registry = Registry::new();
        let scrape = Scrape::new(fill).expect("a test registers the whole table of names");
        registry
            .register(Box::new(scrape))
            .expect("nothing else bears these names");
        #[cfg(target_os = "linux")]
        registry
            .register(Box::new(
                prometheus::process_collector::ProcessCollector::for_self(),
            ))
            .expect("process metrics have a prefix of their own");
        Arc::new(Self { cells, registry })
    }

    /// The handle of a route, made if there is none yet.
    pub fn route(&self, name: &str) -> Arc<Route> {
        look_or_make(&self.cells.routes, name, || Route::new(self.cells.workers))
    }

    /// The handle of an upstream, made if there is none yet.
    pub fn upstream(&self, name: &str) -> Arc<Upstream> {
        look_or_make(&self.cells.upstreams, name, || {
            Upstream::new(self.cells.workers)
        })
    }

    /// The handle of an endpoint of an upstream, made if there is none yet.
    pub fn endpoint(&self, upstream: &str, address: &str) -> Arc<Endpoint> {
        let key = (Arc::from(upstream), Arc::from(address));
        let mut endpoints = self.cells.endpoints.lock();
        let make = || Arc::new(Endpoint::new(self.cells.workers));
        Arc::clone(endpoints.entry(key).or_insert_with(make))
    }

    /// The handle of a listener, made if there is none yet.
    pub fn listener(&self, address: &str) -> Arc<Listener> {
        look_or_make(&self.cells.listeners, address, || {
            Listener::new(self.cells.workers)
        })
    }

    /// The cells of a worker that belong to no name; only worker `worker` may write them. Panics if
    /// there is no such worker.
    #[inline]
    pub fn worker(&self, worker: usize) -> &WorkerCells {
        self.cells.own.of(worker)
    }

    /// What any thread may count.
    pub fn control(&self) -> &Control {
        &self.cells.control
    }

    /// Has `pull` called in every scrape, to put samples that another room owns. Each series may be
    /// put by one owner only.
    pub fn pull(&self, pull: impl Fn(&mut Sink) + Send + Sync + 'static) {
        self.cells.pulls.lock().push(Arc::new(pull));
    }

    /// Forgets the series of every name that is not kept. A request that still runs on an older
    /// snapshot counts into the void. To be called after each reload, failed ones too: their
    /// compilation may have made handles.
    pub fn retain(&self, kept: &Kept) {
        let Kept {
            routes,
            upstreams,
            endpoints,
            listeners,
        } = kept;
        self.cells
            .routes
            .lock()
            .retain(|name, _| routes.contains(name));
        self.cells
            .upstreams
            .lock()
            .retain(|name, _| upstreams.contains(name));
        self.cells
            .endpoints
            .lock()
            .retain(|key, _| endpoints.contains(key));
        self.cells
            .listeners
            .lock()
            .retain(|address, _| listeners.contains(address));
    }

    /// All series in Prometheus' text format, as `CONTENT_TYPE`. Walks every cell: for the control
    /// plane.
    pub fn render(&self) -> String {
        let families = self.registry.gather();
        TextEncoder::new()
            .encode_to_string(&families)
            .unwrap_or_else(|error| {
                tracing::error!(%error, "metrics cannot be written");
                String::new()
            })
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics")
            .field("workers", &self.cells.workers)
            .finish_non_exhaustive()
    }
}

type ByName<K, T> = Mutex<BTreeMap<K, Arc<T>>>;

struct Cells {
    workers: usize,
    routes: ByName<Arc<str>, Route>,
    upstreams: ByName<Arc<str>, Upstream>,
    endpoints: ByName<(Arc<str>, Arc<str>), Endpoint>,
    listeners: ByName<Arc<str>, Listener>,
    own: PerWorker<WorkerCells>,
    control: Control,
    pulls: Mutex<Vec<Arc<Fill>>>,
}

impl Cells {
    fn new(workers: usize) -> Self {
        Self {
            workers,
            routes: Mutex::default(),
            upstreams: Mutex::default(),
            endpoints: Mutex::default(),
            listeners: Mutex::default(),
            own: PerWorker::new(workers),
            control: Control::default(),
            pulls: Mutex::default(),
        }
    }

    fn collect(&self, sink: &mut Sink) {
        for (name, route) in &*self.routes.lock() {
            route.collect(name, sink);
        }
        for (name, upstream) in &*self.upstreams.lock() {
            upstream.collect(name, sink);
        }
        for ((upstream, address), endpoint) in &*self.endpoints.lock() {
            endpoint.collect(upstream, address, sink);
        }
        for (address, listener) in &*self.listeners.lock() {
            listener.collect(address, sink);
        }
        WorkerCells::collect(&self.own, sink);
        self.control.collect(sink);
        let build = [
            env!("CARGO_PKG_VERSION"),
            std::env::consts::OS,
            std::env::consts::ARCH,
        ];
        sink.put_count(Name::BuildInfo, &build, 1);
        sink.put_count(Name::Workers, &[], self.workers as u64);
        // Not under the lock: a pull may come back here for a handle.
        let pulls = self.pulls.lock().clone();
        for pull in pulls {
            pull(sink);
        }
    }
}

fn look_or_make<T>(by_name: &ByName<Arc<str>, T>, name: &str, make: impl FnOnce() -> T) -> Arc<T> {
    let mut by_name = by_name.lock();
    if let Some(found) = by_name.get(name) {
        return Arc::clone(found);
    }
    let made = Arc::new(make());
    by_name.insert(Arc::from(name), Arc::clone(&made));
    made
}

#[cfg(test)]
mod tests;
