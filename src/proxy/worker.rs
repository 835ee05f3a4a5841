//! What one worker holds while it serves: its view of the config, its pools, its log buffer.
//!
//! `app` makes one per worker thread and hands it to `server` as the handler; it calls `second` once
//! a second. Invariant: nothing here is shared with another thread but what `View` points at.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::BytesMut;
use http::{HeaderValue, Response, Version};
use tokio::time::Instant;
use uuid::Uuid;

use crate::body::Inbound;
use crate::cache::Cache;
use crate::clock;
use crate::encode::Budget;
use crate::files::Disk;
use crate::metrics::{Metrics, WorkerCells};
use crate::net::deadline::Deadlines;
use crate::snapshot::Snapshot;
use crate::upstream::Pools;
use crate::upstream::request_body::Pace;
use crate::wire::fields::FieldBlock;
use crate::wire::{Answering, Early, Fault, Handler, Head, Peer};

use super::access_log;
use super::complaints::Complaints;
use super::removed::{Old, Removed};
use super::{Outbound, handle};

/// Bytes for the texts of request ids that are set aside at once; each keeps them while it is in use.
const IDS: usize = 1024;

/// One config as this worker's requests see it.
#[derive(Debug)]
pub struct View {
    /// Everything compiled from the config.
    pub snapshot: Arc<Snapshot>,
    /// The pace at which clients must send request bodies.
    pub pace: Pace,
    /// What of it later configs do not have.
    pub(super) removed: Removed,
}

/// The state of one worker.
#[derive(Debug)]
pub struct Worker {
    /// Its number.
    pub id: usize,
    /// All counters.
    pub metrics: Arc<Metrics>,
    /// The shared cache.
    pub cache: Arc<Cache>,
    /// Connections to endpoints.
    pub pools: Rc<Pools>,
    current: RefCell<arc_swap::Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>>,
    view: RefCell<Rc<View>>,
    old: Old,
    process_began: Instant,
    wall_ms: Cell<u64>,
    log: RefCell<Option<access_log::Buffer>>,
    /// Room for compressing answers.
    pub(super) compressors: Budget,
    /// Threads that read files, made when there is something to read.
    pub(super) disk: Disk,
    /// What the log was told of failing endpoints.
    pub(super) complaints: Complaints,
    /// Reused for cache keys, so that a look-up allocates nothing.
    pub(super) scratch: RefCell<Vec<u8>>,
    /// Where the texts of request ids are cut from.
    ids: RefCell<BytesMut>,
}

impl Worker {
    /// A worker that serves whatever `current` points at.
    #[must_use]
    pub fn new(
        metrics: &Arc<Metrics>,
        cache: &Arc<Cache>,
        pools: &Rc<Pools>,
        current: &Arc<ArcSwap<Snapshot>>,
        process_began: Instant,
        log: Option<access_log::Buffer>,
    ) -> Rc<Self> {
        let mut current = arc_swap::Cache::new(Arc::clone(current));
        let view = Rc::new(View::new(Arc::clone(current.load())));
        Rc::new(Self {
            id: pools.worker(),
            metrics: Arc::clone(metrics),
            cache: Arc::clone(cache),
            pools: Rc::clone(pools),
            current: RefCell::new(current),
            view: RefCell::new(view),
            old: Old::default(),
            process_began,
            wall_ms: Cell::new(wall_ms()),
            log: RefCell::new(log),
            compressors: Budget::default(),
            disk: Disk::default(),
            complaints: Complaints::default(),
            scratch: RefCell::default(),
            ids: RefCell::new(BytesMut::with_capacity(IDS)),
        })
    }

    /// The config of a request that begins now.
    #[must_use]
    pub fn view(&self) -> Rc<View> {
        let mut current = self.current.borrow_mut();
        let snapshot = current.load();
        let mut view = self.view.borrow_mut();
        if !Arc::ptr_eq(snapshot, &view.snapshot) {
            let next = Rc::new(View::new(Arc::clone(snapshot)));
            self.old.add(&std::mem::replace(&mut *view, next));
        }
        Rc::clone(&view)
    }

    /// This worker's deadlines.
    #[must_use]
    pub fn deadlines(&self) -> &Rc<Deadlines> {
        self.pools.deadlines()
    }

    /// This worker's counters that belong to no name.
    #[must_use]
    pub fn cells(&self) -> &WorkerCells {
        self.metrics.worker(self.id)
    }

    /// Milliseconds since the process began, on the clock that all workers share.
    #[must_use]
    pub fn ms(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.process_began);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// A request id: UUID version 7, its time taken from the worker's last tick.
    #[must_use]
    pub fn request_id(&self) -> Uuid {
        let random = fastrand::u128(..).to_ne_bytes();
        let mut counter = [0; 10];
        counter.copy_from_slice(&random[..10]);
        uuid::Builder::from_unix_timestamp_millis(self.wall_ms.get(), &counter).into_uuid()
    }

    /// A request id as a field value.
    pub(super) fn id_value(&self, id: Uuid) -> HeaderValue {
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        let text = id.hyphenated().encode_lower(&mut text);
        let mut ids = self.ids.borrow_mut();
        ids.extend_from_slice(text.as_bytes());
        HeaderValue::from_maybe_shared(ids.split().freeze())
            .unwrap_or_else(|_impossible| HeaderValue::from_static(""))
    }

    /// Writes one line to the access log, if there is one.
    pub(super) fn log(&self, record: impl FnOnce(&mut access_log::Buffer)) {
        if let Some(buffer) = &mut *self.log.borrow_mut() {
            record(buffer);
        }
    }

    /// Makes what is stored under a URL unusable, on every worker, and gives its memory back.
    pub(super) fn invalidate(&self, source: &str, scheme: &str, host: &str, target: &str) {
        let mut scratch = self.scratch.borrow_mut();
        self.cache
            .invalidate(source, scheme, host.as_bytes(), target, &mut scratch);
    }

    /// One tick of the worker's clock has passed.
    pub async fn tick(&self) {
        self.wall_ms.set(wall_ms());
        self.deadlines().tick_in_turns().await;
    }

    /// A second has passed: lets go of an old config and of what it alone had, of idle connections and
    /// of log lines.
    pub fn second(&self) {
        let view = self.view();
        self.pools
            .sweep(|endpoint| view.snapshot.has_endpoint(endpoint));
        self.old.judge(&view.snapshot, self.deadlines());
        self.flush();
    }

    /// Hands the access log's lines to its writer.
    pub fn flush(&self) {
        if let Some(buffer) = &mut *self.log.borrow_mut() {
            buffer.flush();
        }
    }
}

impl View {
    fn new(snapshot: Arc<Snapshot>) -> Self {
        let timeouts = &snapshot.config.timeouts;
        let pace = Pace::new(timeouts.min_rate.0, timeouts.body_idle);
        Self {
            snapshot,
            pace,
            removed: Removed::default(),
        }
    }
}

fn wall_ms() -> u64 {
    u64::try_from(clock::since_epoch(clock::wall()).as_millis()).unwrap_or(u64::MAX)
}

impl Handler for Worker {
    type Body = Outbound;

    fn handle(
        self: &Rc<Self>,
        peer: &Rc<Peer>,
        head: Head,
        at: Instant,
        body: Inbound,
        early: Option<Rc<dyn Early>>,
    ) -> Answering<Outbound, impl Future<Output = Response<Outbound>> + 'static> {
        handle::handle(Rc::clone(self), Rc::clone(peer), (head, at), body, early)
    }

    fn write_fields(body: &Outbound, out: &mut Vec<u8>) -> bool {
        body.write_fields(out)
    }

    fn show_fields(body: &Outbound, to: &mut dyn FieldBlock) -> bool {
        body.show_fields(to)
    }

    fn refuse(
        self: &Rc<Self>,
        peer: &Rc<Peer>,
        version: Version,
        fault: Fault,
    ) -> Response<Outbound> {
        handle::refuse(Rc::clone(self), Rc::clone(peer), version, fault)
    }
}
