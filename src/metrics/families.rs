//! The handles that other rooms count with.
//!
//! A handle (`Route`, `Upstream`, `Endpoint`, `Listener`) is resolved by name when a snapshot is
//! compiled or a listener is bound; `worker(w)` is then an index, and gives the cells that only
//! worker `w` may write. Each handle also says how its cells look in a scrape: series that were never
//! counted and whose labels would multiply (method, code, reason, result) are left out.

use std::sync::OnceLock;
use std::time::Duration;

use http::{Method, StatusCode};

use super::cells::{Counter, Gauge, Histogram, OwnLines, PerWorker, Tally};
use super::labels::{CODE_CELLS, METHODS, code_index, code_label, method_index};
use super::labels::{
    CacheBypass, CacheRefusal, CacheResult, CloseReason, Http2Code, Http2Flood, ProxyError,
    RejectReason, Side, TunnelEnd,
};
use super::names::Name;
use super::render::Sink;

/// What is counted for one route.
#[derive(Debug)]
pub struct Route {
    cells: PerWorker<RouteCells>,
}

/// One worker's cells of a route.
#[derive(Debug, Default)]
pub struct RouteCells {
    /// By method, then by code. A row is made when its method is first seen: most routes see two of
    /// eleven, and a table of all would cost 6 KiB a route and worker.
    requests: [OnceLock<Box<CodeRow>>; METHODS.len()],
    duration: Histogram,
    response_bytes: Counter,
    in_flight: Gauge,
    cache: Tally<{ CacheResult::COUNT }>,
    bypasses: Tally<{ CacheBypass::COUNT }>,
    refusals: Tally<{ CacheRefusal::COUNT }>,
}

type CodeRow = OwnLines<Tally<CODE_CELLS>>;

impl Route {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            cells: PerWorker::new(workers),
        }
    }

    /// The cells that only worker `worker` may write. Panics if there is no such worker.
    #[inline]
    pub fn worker(&self, worker: usize) -> &RouteCells {
        self.cells.of(worker)
    }

    pub(super) fn collect(&self, route: &str, sink: &mut Sink) {
        for (row, method) in METHODS.iter().enumerate() {
            for index in 0..CODE_CELLS {
                let count = |cells: &RouteCells| {
                    cells.requests[row]
                        .get()
                        .map_or(0, |row| row.0.value(index))
                };
                let total = self.cells.sum(count);
                if total > 0 {
                    let code = code_label(index);
                    sink.put_count(Name::HttpRequests, &[route, method, &code], total);
                }
            }
        }
        let totals = self.cells.totals(|cells| &cells.duration);
        sink.put_histogram(Name::HttpRequestDuration, &[route], &totals);
        let bytes = self.cells.sum(|cells| cells.response_bytes.value());
        sink.put_count(Name::HttpResponseBytes, &[route], bytes);
        let in_flight = self.cells.sum(|cells| cells.in_flight.value());
        sink.put_count(Name::HttpInFlight, &[route], in_flight);
        for result in CacheResult::ALL {
            let total = self.cells.sum(|cells| cells.cache.value(*result as usize));
            if total > 0 {
                sink.put_count(Name::CacheRequests, &[route, result.as_str()], total);
            }
        }
        for reason in CacheBypass::ALL {
            let count = |cells: &RouteCells| cells.bypasses.value(*reason as usize);
            let total = self.cells.sum(count);
            if total > 0 {
                sink.put_count(Name::CacheBypasses, &[route, reason.as_str()], total);
            }
        }
        for reason in CacheRefusal::ALL {
            let count = |cells: &RouteCells| cells.refusals.value(*reason as usize);
            let total = self.cells.sum(count);
            if total > 0 {
                sink.put_count(Name::CacheRefusals, &[route, reason.as_str()], total);
            }
        }
    }
}

impl RouteCells {
    /// A request ended: `duration` from its head to the end of its answer, `response_bytes` of body
    /// sent.
    #[inline]
    pub fn count(
        &self,
        method: &Method,
        status: StatusCode,
        duration: Duration,
        response_bytes: u64,
    ) {
        self.requests[method_index(method)]
            .get_or_init(Box::default)
            .0
            .count(code_index(status));
        self.duration.observe(duration);
        self.response_bytes.add(response_bytes);
    }

    /// A request begins; `leave` must follow on the same worker.
    #[inline]
    pub fn enter(&self) {
        self.in_flight.raise();
    }

    /// A request that entered is over.
    #[inline]
    pub fn leave(&self) {
        self.in_flight.lower();
    }

    /// What the cache made of a request.
    #[inline]
    pub fn cache(&self, result: CacheResult) {
        self.cache.count(result as usize);
    }

    /// Why a request went past the cache.
    #[inline]
    pub fn cache_bypass(&self, reason: CacheBypass) {
        self.bypasses.count(reason as usize);
    }

    /// Why an answer was not stored.
    #[inline]
    pub fn cache_refusal(&self, reason: CacheRefusal) {
        self.refusals.count(reason as usize);
    }
}

/// What is counted for one upstream as a whole.
#[derive(Debug)]
pub struct Upstream {
    cells: PerWorker<UpstreamCells>,
}

/// One worker's cells of an upstream.
#[derive(Debug, Default)]
pub struct UpstreamCells {
    connect: Histogram,
    errors: Tally<{ ProxyError::COUNT }>,
    retries: Tally<{ ProxyError::COUNT }>,
    stream_granted: Counter,
    stream_refused: Counter,
    informational_dropped: Counter,
    tunnels: Gauge,
    tunnel_ends: Tally<{ TunnelEnd::COUNT }>,
}

impl Upstream {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            cells: PerWorker::new(workers),
        }
    }

    /// The cells that only worker `worker` may write. Panics if there is no such worker.
    #[inline]
    pub fn worker(&self, worker: usize) -> &UpstreamCells {
        self.cells.of(worker)
    }

    pub(super) fn collect(&self, upstream: &str, sink: &mut Sink) {
        let totals = self.cells.totals(|cells| &cells.connect);
        sink.put_histogram(Name::UpstreamConnectDuration, &[upstream], &totals);
        for reason in ProxyError::ALL {
            let labels = [upstream, reason.as_str()];
            let errors = self.cells.sum(|cells| cells.errors.value(*reason as usize));
            if errors > 0 {
                sink.put_count(Name::UpstreamErrors, &labels, errors);
            }
            let retries = self
                .cells
                .sum(|cells| cells.retries.value(*reason as usize));
            if retries > 0 {
                sink.put_count(Name::Retries, &labels, retries);
            }
        }
        let total = |read: fn(&UpstreamCells) -> u64| self.cells.sum(read);
        let waits = [
            ("granted", total(|cells| cells.stream_granted.value())),
            ("refused", total(|cells| cells.stream_refused.value())),
        ];
        for (outcome, count) in waits {
            if count > 0 {
                sink.put_count(Name::UpstreamStreamWaits, &[upstream, outcome], count);
            }
        }
        let dropped = total(|cells| cells.informational_dropped.value());
        sink.put_count(Name::UpstreamInformationalDropped, &[upstream], dropped);
        let open = total(|cells| cells.tunnels.value());
        sink.put_count(Name::UpstreamTunnelsOpen, &[upstream], open);
        for end in TunnelEnd::ALL {
            let ended = self
                .cells
                .sum(|cells| cells.tunnel_ends.value(*end as usize));
            if ended > 0 {
                sink.put_count(Name::UpstreamTunnels, &[upstream, end.as_str()], ended);
            }
        }
    }
}

impl UpstreamCells {
    /// A connection was made in `duration`, handshakes included.
    #[inline]
    pub fn connected(&self, duration: Duration) {
        self.connect.observe(duration);
    }

    /// An exchange failed.
    #[inline]
    pub fn error(&self, reason: ProxyError) {
        self.errors.count(reason as usize);
    }

    /// A request waited for a stream of an HTTP/2 connection, and got one or not.
    #[inline]
    pub fn stream_waited(&self, granted: bool) {
        if granted {
            self.stream_granted.add(1);
        } else {
            self.stream_refused.add(1);
        }
    }

    /// An informational answer was not passed on.
    #[inline]
    pub fn informational_dropped(&self) {
        self.informational_dropped.add(1);
    }

    /// A tunnel was opened; `tunnel_ended` must follow on the same worker.
    #[inline]
    pub fn tunnel_opened(&self) {
        self.tunnels.raise();
    }

    /// An open tunnel is over.
    #[inline]
    pub fn tunnel_ended(&self, end: TunnelEnd) {
        self.tunnels.lower();
        self.tunnel_ends.count(end as usize);
    }

    /// An exchange is tried again, since the one before failed with `reason`.
    #[inline]
    pub fn retry(&self, reason: ProxyError) {
        self.retries.count(reason as usize);
    }
}

/// What is counted for one endpoint of one upstream.
#[derive(Debug)]
pub struct Endpoint {
    cells: PerWorker<EndpointCells>,
}

/// One worker's cells of an endpoint.
#[derive(Debug, Default)]
pub struct EndpointCells {
    answered: Histogram,
    opened: Counter,
    idle: Gauge,
}

impl Endpoint {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            cells: PerWorker::new(workers),
        }
    }

    /// The cells that only worker `worker` may write. Panics if there is no such worker.
    #[inline]
    pub fn worker(&self, worker: usize) -> &EndpointCells {
        self.cells.of(worker)
    }

    pub(super) fn collect(&self, upstream: &str, endpoint: &str, sink: &mut Sink) {
        let labels = [upstream, endpoint];
        let totals = self.cells.totals(|cells| &cells.answered);
        sink.put_histogram(Name::UpstreamRequestDuration, &labels, &totals);
        let opened = self.cells.sum(|cells| cells.opened.value());
        sink.put_count(Name::UpstreamConnections, &labels, opened);
        let idle = self.cells.sum(|cells| cells.idle.value());
        sink.put_count(Name::UpstreamConnectionsIdle, &labels, idle);
    }
}

impl EndpointCells {
    /// The head of an answer came, `duration` after the request was sent.
    #[inline]
    pub fn answered(&self, duration: Duration) {
        self.answered.observe(duration);
    }

    /// A connection was opened.
    #[inline]
    pub fn opened(&self) {
        self.opened.add(1);
    }

    /// A connection was put aside for the next request; `unparked` must follow on the same worker.
    #[inline]
    pub fn parked(&self) {
        self.idle.raise();
    }

    /// A connection that was put aside was taken again, or closed.
    #[inline]
    pub fn unparked(&self) {
        self.idle.lower();
    }
}

/// What is counted for one listener.
#[derive(Debug)]
pub struct Listener {
    cells: PerWorker<ListenerCells>,
}

/// One worker's cells of a listener.
#[derive(Debug, Default)]
pub struct ListenerCells {
    accepted: Counter,
    open: Gauge,
}

impl Listener {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            cells: PerWorker::new(workers),
        }
    }

    /// The cells that only worker `worker` may write. Panics if there is no such worker.
    #[inline]
    pub fn worker(&self, worker: usize) -> &ListenerCells {
        self.cells.of(worker)
    }

    pub(super) fn collect(&self, listener: &str, sink: &mut Sink) {
        let accepted = self.cells.sum(|cells| cells.accepted.value());
        sink.put_count(Name::Connections, &[listener], accepted);
        let open = self.cells.sum(|cells| cells.open.value());
        sink.put_count(Name::ConnectionsOpen, &[listener], open);
    }
}

impl ListenerCells {
    /// A connection was accepted; `closed` must follow on the same worker.
    #[inline]
    pub fn accepted(&self) {
        self.accepted.add(1);
        self.open.raise();
    }

    /// An accepted connection is over. Why is counted with `WorkerCells::closed`.
    #[inline]
    pub fn closed(&self) {
        self.open.lower();
    }
}

/// One worker's cells that belong to no name of the configuration.
#[derive(Debug, Default)]
pub struct WorkerCells {
    closed: Tally<{ CloseReason::COUNT }>,
    rejects: Tally<{ RejectReason::COUNT }>,
    files_refused: Counter,
    compression_refused: Counter,
    http2: OnceLock<Box<OwnLines<Http2Cells>>>,
}

/// Made when the first client speaks HTTP/2.
#[derive(Debug, Default)]
struct Http2Cells {
    streams: Counter,
    resets: Tally<{ Side::COUNT }>,
    goaways: Tally<{ Http2Code::COUNT }>,
    floods: Tally<{ Http2Flood::COUNT }>,
}

impl WorkerCells {
    /// A client's connection ended.
    #[inline]
    pub fn closed(&self, reason: CloseReason) {
        self.closed.count(reason as usize);
    }

    /// Headgate answered with an error of its own.
    #[inline]
    pub fn reject(&self, reason: RejectReason) {
        self.rejects.count(reason as usize);
    }

    /// A request for a file was refused because the disk was behind.
    #[inline]
    pub fn file_refused(&self) {
        self.files_refused.add(1);
    }

    /// An answer went out plain because too much was being compressed.
    #[inline]
    pub fn compression_refused(&self) {
        self.compression_refused.add(1);
    }

    fn http2(&self) -> &Http2Cells {
        &self.http2.get_or_init(Box::default).0
    }

    /// A request came by a stream of HTTP/2.
    #[inline]
    pub fn http2_stream(&self) {
        self.http2().streams.add(1);
    }

    /// Clients took back so many requests.
    pub fn http2_resets_received(&self, count: u64) {
        self.http2().resets.add(Side::Client as usize, count);
    }

    /// Headgate reset a stream.
    pub fn http2_reset_sent(&self) {
        self.http2().resets.count(Side::Headgate as usize);
    }

    /// Headgate sent a GOAWAY with this code.
    pub fn http2_goaway(&self, code: u32) {
        let code = usize::try_from(code).unwrap_or(usize::MAX);
        if code < Http2Code::COUNT {
            self.http2().goaways.count(code);
        }
    }

    /// A client sent too much of something.
    pub fn http2_flood(&self, kind: Http2Flood) {
        self.http2().floods.count(kind as usize);
    }

    fn collect_http2(workers: &PerWorker<Self>, sink: &mut Sink) {
        let sum = |count: &dyn Fn(&Http2Cells) -> u64| {
            workers.sum(|cells| cells.http2.get().map_or(0, |cells| count(&cells.0)))
        };
        sink.put_count(Name::Http2Streams, &[], sum(&|cells| cells.streams.value()));
        for side in Side::ALL {
            let total = sum(&|cells| cells.resets.value(*side as usize));
            sink.put_count(Name::Http2Resets, &[side.as_str()], total);
        }
        for code in Http2Code::ALL {
            let total = sum(&|cells| cells.goaways.value(*code as usize));
            sink.put_count(Name::Http2GoAways, &[code.as_str()], total);
        }
        for kind in Http2Flood::ALL {
            let total = sum(&|cells| cells.floods.value(*kind as usize));
            sink.put_count(Name::Http2Floods, &[kind.as_str()], total);
        }
    }

    pub(super) fn collect(workers: &PerWorker<Self>, sink: &mut Sink) {
        Self::collect_http2(workers, sink);
        for reason in CloseReason::ALL {
            let total = workers.sum(|cells| cells.closed.value(*reason as usize));
            sink.put_count(Name::ConnectionsClosed, &[reason.as_str()], total);
        }
        for reason in RejectReason::ALL {
            let total = workers.sum(|cells| cells.rejects.value(*reason as usize));
            sink.put_count(Name::Rejects, &[reason.as_str()], total);
        }
        let refused = workers.sum(|cells| cells.files_refused.value());
        sink.put_count(Name::FilesRefused, &[], refused);
        let refused = workers.sum(|cells| cells.compression_refused.value());
        sink.put_count(Name::CompressionRefused, &[], refused);
    }
}
