//! What a key means when it is not typed.
//!
//! `convert` applies these and nothing else has a say, so that the manual, `config.example.yaml` and
//! the tests have one table to agree with. Defaults that depend on another key (the cap on a cached
//! object, a check's timeout) are functions of it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::time::Duration;

use super::units::ByteSize;

pub(crate) const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9900);

/// For the owner and the group, which is how a front server of another user is let in.
pub(crate) const SOCKET_MODE: u32 = 0o660;

pub(crate) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
pub(crate) const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
pub(crate) const MIN_RATE: ByteSize = ByteSize(240);
pub(crate) const SHUTDOWN: Duration = Duration::from_secs(30);

pub(crate) const HEADER_BYTES: ByteSize = ByteSize(32 << 10);
pub(crate) const HEADERS: usize = 100;
pub(crate) const URI_BYTES: ByteSize = ByteSize(8 << 10);
pub(crate) const REQUESTS_PER_CONNECTION: u64 = 10_000;
pub(crate) const HTTP2_STREAMS: u32 = 100;
pub(crate) const HTTP2_RESETS: u32 = 100;
pub(crate) const HTTP2_STREAM_WINDOW: ByteSize = ByteSize(64 << 10);
pub(crate) const HTTP2_CONNECTION_WINDOW: ByteSize = ByteSize(256 << 10);

pub(crate) const CACHE_MEMORY: ByteSize = ByteSize(256 << 20);
pub(crate) const CACHE_DISK: ByteSize = ByteSize(10 << 30);
const CACHE_MAX_OBJECT: ByteSize = ByteSize(8 << 20);

/// Larger than what people upload, smaller than what fills a disk by accident.
pub(crate) const BODY_LIMIT: ByteSize = ByteSize(1 << 30);

pub(crate) const WEIGHT: u16 = 1;
pub(crate) const MAX_IDLE: usize = 256;
pub(crate) const STICKY_COOKIE: &str = "DAB_ROUTE";

pub(crate) const PROBE_PATH: &str = "/";
pub(crate) const PROBE_STATUS: u16 = 200;
pub(crate) const PROBE_INTERVAL: Duration = Duration::from_secs(30);
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
pub(crate) const HEALTHY_THRESHOLD: u32 = 2;
pub(crate) const UNHEALTHY_THRESHOLD: u32 = 3;

pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
pub(crate) const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(30);
pub(crate) const UPSTREAM_BODY_IDLE: Duration = Duration::from_secs(30);
/// Below the 60 s after which common servers close, so that they rarely close on a request.
pub(crate) const UPSTREAM_IDLE: Duration = Duration::from_secs(50);
pub(crate) const TUNNEL_IDLE: Duration = Duration::from_secs(3600);

pub(crate) const INDEX: &str = "index.html";

pub(crate) const COMPRESS_MIN_SIZE: ByteSize = ByteSize(1 << 10);
/// What shrinks: texts, and the few binary formats that are not compressed already.
pub(crate) const COMPRESS_TYPES: &[&str] = &[
    "text/*",
    "*+json",
    "*+xml",
    "*+text",
    "application/json",
    "application/javascript",
    "application/x-javascript",
    "application/xml",
    "application/x-ndjson",
    "application/graphql",
    "application/wasm",
    "application/vnd.ms-fontobject",
    "font/ttf",
    "font/otf",
    "image/bmp",
    "image/vnd.microsoft.icon",
    "image/x-icon",
];

/// Let's Encrypt.
pub(crate) const ACME_DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";
pub(crate) const ACME_STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";

/// One worker a core, or one where the number of cores cannot be learnt.
pub(crate) fn workers() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Largest stored body: 8 MiB, or a quarter of a smaller cache.
pub(crate) fn cache_max_object(memory: ByteSize) -> ByteSize {
    CACHE_MAX_OBJECT.min(ByteSize(memory.0 / 4))
}

/// 5 s, or the whole of a shorter interval, so that one check has ended when the next begins.
pub(crate) fn probe_timeout(interval: Duration) -> Duration {
    PROBE_TIMEOUT.min(interval)
}
