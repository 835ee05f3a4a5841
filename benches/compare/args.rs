//! What to measure: the command line of the bench, and the cases it knows.
//!
//! `main` reads it once; every other file takes `&Args`. A case is either work under load (its
//! `Work` says which path of the origin, how long the body, and whether the origin is reached) or
//! the idle and the slow case, which have none.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Headgate beside nginx, HAProxy and Varnish: CPU per request, rate, latency, memory.
#[derive(Debug, Parser)]
#[command(name = "compare")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent command-line switches"
)]
pub(crate) struct Args {
    /// Cases to run; all by default.
    #[arg(long = "case", value_name = "CASE")]
    chosen_cases: Vec<Case>,
    /// Proxies to measure (headgate, haproxy, nginx, varnish); all that are installed by default.
    #[arg(long = "peer", value_name = "NAME")]
    pub(crate) chosen_peers: Vec<String>,
    /// Leave the peers out.
    #[arg(long, conflicts_with = "peers_only")]
    headgate_only: bool,
    /// Leave Headgate out.
    #[arg(long)]
    peers_only: bool,
    /// A Headgate to measure instead of building one (or HEADGATE_BINARY in the environment).
    #[arg(long, value_name = "PATH")]
    pub(crate) binary: Option<PathBuf>,
    /// Rounds; in each, every proxy is measured once.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Seconds of a measured slice.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seconds: u64,
    /// Seconds of load before each slice.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) warm_up: u64,
    /// Keep-alive connections of the load generator.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
    /// Connections of the idle case.
    #[arg(long, default_value_t = 9_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) idle_connections: u32,
    /// Slow connections of the slow case.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) slow_connections: u32,
    /// Pairs of runs, without and with slow connections, of each kind of the slow case.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) pairs: u32,
    /// Load generator; by default wrk where it is installed (it leaves the origin more of the
    /// core that they share), else oha.
    #[arg(long)]
    pub(crate) load: Option<Tool>,
    /// Send the headers of a browser with each request, instead of next to none.
    #[arg(long)]
    pub(crate) browser: bool,
    /// Core of the proxy under test.
    #[arg(long, default_value_t = 0)]
    pub(crate) proxy_core: u32,
    /// Core, or list of cores as taskset writes it, of the load generator and the origin.
    #[arg(long, default_value = "1")]
    pub(crate) load_core: String,
    /// Print the tables as Markdown, as they stand in benches/README.md.
    #[arg(long)]
    pub(crate) markdown: bool,
    /// Count system calls per request instead of measuring.
    #[arg(long, conflicts_with = "perf")]
    pub(crate) strace: bool,
    /// Sample where the proxy's time goes instead of measuring.
    #[arg(long)]
    pub(crate) perf: bool,
    /// Go on although a compiler runs beside the bench: for trying the bench, not for figures.
    #[arg(long)]
    pub(crate) even_if_busy: bool,

    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
    /// Run as the origin: the bench starts itself this way.
    #[arg(long, hide = true)]
    pub(crate) origin: bool,
}

impl Args {
    pub(crate) fn cases(&self) -> Vec<Case> {
        if self.chosen_cases.is_empty() {
            Case::value_variants().to_vec()
        } else {
            self.chosen_cases.clone()
        }
    }

    pub(crate) fn wants(&self, proxy: &str) -> bool {
        let is_headgate = proxy == "headgate";
        let excluded = if is_headgate {
            self.peers_only
        } else {
            self.headgate_only
        };
        let chosen =
            self.chosen_peers.is_empty() || self.chosen_peers.iter().any(|peer| peer == proxy);
        // Ratios need Headgate, so `--peer haproxy` alone still means "Headgate and HAProxy".
        !excluded && (chosen || is_headgate)
    }
}

/// Something to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Case {
    /// 1 kB of JSON, each request answered by the origin.
    #[value(name = "proxied-1k")]
    Proxied1k,
    /// 1 kB of JSON, each request answered from the proxy's cache.
    #[value(name = "cache-hit-1k")]
    CacheHit1k,
    /// 100 kB, each request answered by the origin.
    #[value(name = "proxied-100k")]
    Proxied100k,
    /// 1 kB of JSON from the proxy's cache, over TLS 1.3 connections that are kept.
    #[value(name = "tls-hit-1k")]
    TlsHit1k,
    /// A full TLS 1.3 handshake (ECDSA P-256), one cache hit, and the close.
    #[value(name = "tls-handshake")]
    TlsHandshake,
    /// 1 kB of JSON from the proxy's cache, over HTTP/2 and TLS 1.3, 32 streams a connection.
    #[value(name = "h2-hit-1k")]
    H2Hit1k,
    /// 1 kB of JSON, asked for over HTTP/2 and TLS 1.3, answered by the origin over HTTP/1.1.
    #[value(name = "h2-proxied-1k")]
    H2Proxied1k,
    /// Memory of idle keep-alive connections.
    Idle,
    /// What thousands of slow connections do to the others; Headgate alone.
    Slow,
}

impl Case {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Proxied1k => "proxied-1k",
            Self::CacheHit1k => "cache-hit-1k",
            Self::Proxied100k => "proxied-100k",
            Self::TlsHit1k => "tls-hit-1k",
            Self::TlsHandshake => "tls-handshake",
            Self::H2Hit1k => "h2-hit-1k",
            Self::H2Proxied1k => "h2-proxied-1k",
            Self::Idle => "idle",
            Self::Slow => "slow",
        }
    }

    /// The load of this case; none for idle connections.
    pub(crate) fn work(self) -> Option<Work> {
        match self {
            Self::Proxied1k => Some(Work::proxied(Over::Http1)),
            Self::CacheHit1k => Some(Work::cached(Over::Http1)),
            Self::Proxied100k => Some(Work {
                path: "/large",
                body: 102_400,
                ..Work::proxied(Over::Http1)
            }),
            Self::TlsHit1k => Some(Work::cached(Over::Tls)),
            Self::TlsHandshake => Some(Work::cached(Over::Handshakes)),
            Self::H2Hit1k => Some(Work::cached(Over::Http2)),
            Self::H2Proxied1k => Some(Work::proxied(Over::Http2)),
            Self::Idle | Self::Slow => None,
        }
    }
}

/// What a request of a case asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) path: &'static str,
    /// Bytes of the answer's body.
    pub(crate) body: u64,
    /// Whether the proxy answers by itself once warm.
    pub(crate) from_cache: bool,
    pub(crate) over: Over,
}

impl Work {
    fn proxied(over: Over) -> Self {
        Self {
            path: "/json",
            body: 1_024,
            from_cache: false,
            over,
        }
    }

    fn cached(over: Over) -> Self {
        Self {
            path: "/cached",
            from_cache: true,
            ..Self::proxied(over)
        }
    }
}

/// How the load generator speaks to the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// HTTP/1.1 without encryption, over connections that are kept.
    Http1,
    /// The same over TLS 1.3.
    Tls,
    /// A TLS connection for each request, none of them resumed.
    Handshakes,
    /// HTTP/2 over TLS 1.3.
    Http2,
}

impl Over {
    pub(crate) fn is_secure(self) -> bool {
        self != Self::Http1
    }
}

/// A load generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tool {
    Wrk,
    Oha,
}
