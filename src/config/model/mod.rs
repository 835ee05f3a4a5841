//! What a config means: defaults applied, durations parsed, every reference proven to exist.
//!
//! `config::raw` is what was typed; `config::load` turns it into this, or into a list of
//! `Diagnostic`s. `snapshot::compile` builds running things from it. Invariant: a value of these
//! types is consistent by construction (ids index into the lists of the same `Config`, names are
//! unique, numbers are inside their bounds), so no later room checks again.

mod acme;
mod caching;
mod claims;
mod compress;
mod files;
mod http2;
mod limits;
mod listeners;
mod outbound;
mod road;
mod tls;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::units::ByteSize;

pub use acme::{Acme, AcmeChallenge, ExternalAccount};
pub use caching::{CacheRule, KeyRule, Purgers, QueryRule, Ranges, SetCookies, StatusPattern};
pub use claims::{CERTIFICATE, Claims, WRITTEN_ANEW};
pub use compress::{Coding, Compress, Level, TypePattern};
pub use files::Files;
pub use http2::{Http2Limits, Protocols};
pub use limits::HeadLimits;
pub use listeners::{ConnectionLimits, ListenAddress, Peers};
pub use outbound::{
    EndpointAddress, Identity, Outbound, ProxyHeader, UpstreamProtocol, UpstreamTls,
};
pub use road::{
    BodyLimit, Cors, FieldEdits, Forwarding, MAX_CORS_AGE, Network, OriginPattern, Origins,
    PathPiece, PathRules, Piece, Redirect, Respond, Rewrite, RouteEdge, Template, ToHttps,
    Variable,
};
pub use tls::{Ask, Certificate, CipherSuite, ClientAuth, NamedFile, Tls, TlsVersion};

/// One whole configuration, proven consistent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Worker threads, one runtime each. Default: the number of cores. Needs a restart to change.
    pub workers: NonZeroUsize,
    /// Public listening sockets, at least one.
    pub listeners: Vec<Listener>,
    /// The operators' listener. Default: `127.0.0.1:9900`. Needs a restart to change.
    pub admin: Admin,
    /// Certificates obtained by themselves, if any.
    pub acme: Option<Acme>,
    /// Deadlines towards clients, and the drain time.
    pub timeouts: ClientTimeouts,
    /// Diagnostics log. Needs a restart to change.
    pub log: Log,
    /// Access log. Needs a restart to change.
    pub access_log: AccessLog,
    /// The shared cache. `memory` needs a restart to change.
    pub cache: CacheStore,
    /// Bounds on what clients send and take.
    pub limits: Limits,
    /// Proxies before this one whose word about clients counts. Default none.
    pub trusted_proxies: Peers,
    /// In which fields proxies tell who the client is. Default `X-Forwarded-*`.
    pub forwarded: Forwarding,
    /// What is done about ambiguous paths.
    pub paths: PathRules,
    /// Which claims of clients pass. Default none.
    pub claims: Claims,
    /// Whether header names with `_` or `.` reach endpoints. Default not.
    pub keep_underscores: bool,
    /// Whether `TRACE` is answered or passed on. Default refused.
    pub trace: bool,
    /// In the order of the file; `UpstreamId` indexes it.
    pub upstreams: Vec<Upstream>,
    /// In the order of the file; `ShardMapId` indexes it.
    pub shard_maps: Vec<ShardMap>,
    /// In the order of the file; `RouteId` indexes it. Matching does not depend on the order.
    pub routes: Vec<Route>,
}

/// Index of an upstream in `Config::upstreams`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UpstreamId(pub usize);

/// Index of a shard map in `Config::shard_maps`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardMapId(pub usize);

/// Index of a route in `Config::routes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId(pub usize);

/// One public listening socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where it listens; unique among the listeners and distinct from the admin address.
    pub address: ListenAddress,
    /// Permission bits of a Unix socket's file. Default 0660.
    pub mode: u32,
    /// What is spoken there.
    pub protocols: Protocols,
    /// Whose connections begin with a PROXY protocol header.
    pub proxy_protocol: Peers,
    /// TLS termination, if any.
    pub tls: Option<Tls>,
}

/// The operators' listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Loopback unless the operator says otherwise.
    pub address: SocketAddr,
    /// Names by which operators ask, besides addresses and `localhost`. Default none.
    pub hosts: Vec<HostPattern>,
}

/// Deadlines towards clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTimeouts {
    /// From the first byte of a request head (or from accept, for the first) to its end. Default 10 s.
    pub header: Duration,
    /// A keep-alive connection without a request. Default 60 s.
    pub idle: Duration,
    /// Window over which a request body or a response to a reader must move at `min_rate`. Default 30 s.
    pub body_idle: Duration,
    /// Bytes per second that a client must send of a body, or take of an answer, averaged over
    /// `body_idle`. Default 240 B.
    pub min_rate: ByteSize,
    /// How long requests may go on after SIGTERM. Default 30 s.
    pub shutdown: Duration,
}

/// Diagnostics log, written to standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Least severe level that is written. Default `info`.
    pub level: LogLevel,
    /// Default `text`.
    pub format: LogFormat,
}

/// Severity of a diagnostic line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Someone must act.
    Error,
    /// It was coped with.
    Warn,
    /// An operator's action ended, or state changed.
    Info,
    /// For developers.
    Debug,
    /// For developers, in detail.
    Trace,
}

/// Form of a diagnostic line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// To be read.
    Text,
    /// One JSON object a line.
    Json,
}

/// One line a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// Default `off`.
    pub format: AccessLogFormat,
    /// Default standard output.
    pub path: AccessLogPath,
}

/// Form of an access log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// No access log.
    Off,
    /// One JSON object a line, with timings, endpoint, cache result and the reason it ended.
    Json,
    /// The "combined" format of Apache httpd and nginx.
    Combined,
}

/// Where access log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLogPath {
    /// Spelled `stdout`.
    Stdout,
    /// A file, appended to; resolved against the folder of the config file.
    File(PathBuf),
}

/// The shared cache's bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheStore {
    /// Bytes stored, filling and still being read, together. Default 256 MiB.
    pub memory: ByteSize,
    /// Largest body that is stored; never more than a quarter of `memory`. Default 8 MiB.
    pub max_object: ByteSize,
    /// Where answers go behind memory. Default: nowhere.
    pub disk: Option<CacheDisk>,
    /// So long after the start, answers that do not say for how long they may be stale may be for so long.
    /// Default: zero.
    pub startup_grace: Duration,
}

/// The shared cache's place on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheDisk {
    /// A folder of this process alone; resolved against the folder of the config file.
    pub path: PathBuf,
    /// Bytes of its files, in blocks of 4 KiB. Default 10 GiB.
    pub size: ByteSize,
}

/// Bounds on what clients send and take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How much a request's head may have, and how many a connection may bring.
    pub heads: HeadLimits,
    /// How many connections may be open.
    pub connections: ConnectionLimits,
    /// Largest request body, where a route says nothing else. Default 1 GiB; 0 means any.
    pub body: BodyLimit,
    /// What a connection of HTTP/2 may do.
    pub http2: Http2Limits,
}

/// A named group of endpoints that serve the same thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Unique; used in metrics and logs.
    pub name: Arc<str>,
    /// Which endpoint takes the next request. Default least connections.
    pub balance: Balance,
    /// At least one; addresses are unique within the upstream.
    pub endpoints: Vec<Endpoint>,
    /// Stickiness by cookie, if any.
    pub sticky: Option<Sticky>,
    /// Active checks, if any.
    pub health_check: Option<HealthCheck>,
    /// Deadlines towards its endpoints.
    pub timeouts: UpstreamTimeouts,
    /// Idle connections that a worker keeps per endpoint, 0 to 65536. Default 256.
    pub max_idle: usize,
    /// How its endpoints are reached.
    pub outbound: Outbound,
}

/// How an endpoint is picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// Fewest requests in flight per weight; ties are broken evenly.
    LeastConnections,
    /// In turn, smoothly by weight.
    RoundRobin,
    /// By chance, by weight.
    Random,
}

/// One server of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `host:port` as typed, the host lower-cased, an IP address or a name; or `unix:/path`.
    pub address: Arc<str>,
    /// 1 to 65535. Default 1.
    pub weight: u16,
}

impl Endpoint {
    /// The Unix socket, if it is one.
    #[must_use]
    pub fn unix_path(&self) -> Option<&Path> {
        self.address.strip_prefix("unix:").map(Path::new)
    }
}

/// Stickiness by cookie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sticky {
    /// Cookie name (an RFC 6265 token). Default `DAB_ROUTE`.
    pub cookie: Arc<str>,
    /// Key of the cookie's value, at least 16 bytes, from `key` or the file `key_file`. Without
    /// one, a random key is made at start and kept across reloads, not across restarts.
    pub key: Option<Secret>,
}

/// Bytes that are never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Arc<[u8]>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// An active check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// From one check to the next, with jitter. Default 30 s.
    pub interval: Duration,
    /// Within which a check must be answered; at most `interval`. Default 5 s.
    pub timeout: Duration,
    /// Successes in a row that bring an endpoint back. Default 2.
    pub healthy_threshold: u32,
    /// Failures in a row that take an endpoint out. Default 3.
    pub unhealthy_threshold: u32,
}

/// What an active check does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// `type: http`, the default: `GET path`, healthy when the status is `status`.
    Http {
        /// Origin-form path, starts with `/`. Default `/`.
        path: Arc<str>,
        /// `Host` to send. Default: the endpoint's address.
        host: Option<Arc<str>>,
        /// Expected status. Default 200.
        status: u16,
    },
    /// `type: tcp`: a connection can be made.
    Tcp,
}

/// Deadlines towards endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTimeouts {
    /// To connect. Default 2 s.
    pub connect: Duration,
    /// From the request's last byte (or the connection, for a streamed body) to the answer's head. Default 30 s.
    pub first_byte: Duration,
    /// Silence within the answer's body. Default 30 s.
    pub body_idle: Duration,
    /// How long an idle connection is kept. Default 50 s.
    pub idle: Duration,
    /// Silence in both directions of a tunnel (WebSocket and the like). Default 1 h.
    pub tunnel_idle: Duration,
}

/// Which upstream owns which key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardMap {
    /// Unique.
    pub name: Arc<str>,
    /// Where the key is found in a request.
    pub key: ShardKey,
    /// How the key chooses a shard.
    pub strategy: ShardStrategy,
}

/// Where a shard key is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShardKey {
    /// A capture of the route's `path` template; each route that uses the map has it.
    Path(Arc<str>),
    /// A request header, lower case.
    Header(http::HeaderName),
    /// A cookie.
    Cookie(Arc<str>),
    /// A query parameter.
    Query(Arc<str>),
}

/// How a key chooses a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShardStrategy {
    /// The key is a decimal integer (no sign, at most u64); shard = key modulo the number of shards.
    Modulo {
        /// At least one.
        shards: Vec<UpstreamId>,
    },
    /// Named values own shards.
    List {
        /// Value to shard; values are unique.
        values: Vec<(Arc<str>, UpstreamId)>,
        /// Shard of every other value; without it they are refused.
        default: Option<UpstreamId>,
    },
}

/// Which requests go where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Unique; used in metrics and logs.
    pub name: Arc<str>,
    /// Which requests it takes.
    pub matches: Match,
    /// Where they go.
    pub target: Target,
    /// Caching, opted into by `cache: {}`.
    pub cache: Option<CacheRule>,
    /// Compression of answers, opted into by `compress: {}`.
    pub compress: Option<Compress>,
    /// Largest request body, if not that of `limits.body`.
    pub max_body: Option<BodyLimit>,
    /// Protocols that clients may go on in (RFC 9110 section 7.8), in lower case. Default `websocket`.
    pub upgrades: Vec<Arc<str>>,
    /// What happens on its edge.
    pub edge: RouteEdge,
}

/// Which requests a route takes. All parts must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// Default any.
    pub host: HostPattern,
    /// Default any.
    pub path: PathPattern,
    /// Empty means any; sorted, unique.
    pub methods: Vec<http::Method>,
    /// Conditions on request headers; sorted by name, names unique.
    pub headers: Vec<(http::HeaderName, ValuePattern)>,
    /// Conditions on query parameters (percent-decoded); sorted by name, names unique.
    pub query: Vec<(Arc<str>, ValuePattern)>,
}

/// Pattern of a host; never has a port, always lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// No condition.
    Any,
    /// Exactly this name.
    Exact(Arc<str>),
    /// `*.suffix`: one or more labels before this suffix (stored without `*.`).
    Suffix(Arc<str>),
}

/// Pattern of a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathPattern {
    /// No condition.
    Any,
    /// `path` without captures.
    Exact(Arc<str>),
    /// `path_prefix`: whole segments. Stored without a trailing `/`; `/` itself is `Any`.
    Prefix(Arc<str>),
    /// `path` with captures, split at `/` (without the leading empty one).
    Template(Vec<Segment>),
}

/// A segment of a path template.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Segment {
    /// Exactly this text.
    Literal(Arc<str>),
    /// `{name}`: one non-empty segment.
    Capture(Arc<str>),
    /// `{*name}`: the rest of the path, may be empty; only at the end.
    Rest(Arc<str>),
}

/// Condition on a header or a query parameter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ValuePattern {
    /// Some value is exactly this. Written as a plain string.
    Exact(Arc<str>),
    /// It is there, whatever its value. Written as `{ present: true }`.
    Present,
}

/// Where a route's requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `upstream: NAME`.
    Upstream(UpstreamId),
    /// `shard_map: NAME`.
    ShardMap(ShardMapId),
    /// `files: { root: FOLDER }`.
    Files(Arc<Files>),
    /// `redirect: { to: ... }`.
    Redirect(Arc<Redirect>),
    /// `respond`.
    Respond(Arc<Respond>),
    /// `redirect: { https: true }` and nothing else: over TLS there is nothing here.
    Nothing,
}
