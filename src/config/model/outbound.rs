//! How endpoints are reached: over which socket, with which protocol and behind which encryption.
//!
//! `convert::outbound` reads it, `snapshot::compile` builds the TLS settings from it, `net::dial`,
//! `upstream` and `health::probe` follow it, so that a check goes the way that requests go.
//! Invariant: what cannot work together (PROXY protocol and multiplexing, TLS to a Unix socket
//! without a name) is not here.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::TlsVersion;

/// Where an endpoint is, once its name was resolved.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EndpointAddress {
    /// Over TCP.
    Ip(SocketAddr),
    /// A Unix socket of this host.
    Unix(Arc<Path>),
}

impl From<SocketAddr> for EndpointAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

/// What is spoken to an upstream's endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UpstreamProtocol {
    /// HTTP/1.1, a connection for each request at a time.
    #[default]
    Http1,
    /// HTTP/2, many requests on few connections; without `tls` with prior knowledge (RFC 9113 section
    /// 3.3).
    H2,
}

/// TLS towards endpoints, we being the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTls {
    /// PEM file of the authorities that may sign their certificates. Default: the system's.
    pub ca: Option<PathBuf>,
    /// The name that certificates must be valid for, also sent as SNI. Default: the endpoint's host.
    pub server_name: Option<Arc<str>>,
    /// What we show when an endpoint asks who we are.
    pub identity: Option<Identity>,
    /// Oldest version that is spoken. Default 1.2.
    pub min_version: TlsVersion,
    /// Whether certificates are verified. Default true.
    pub verify: bool,
}

/// What a server shows when an endpoint asks who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Chain, leaf first, as a PEM file.
    pub cert: PathBuf,
    /// Private key, as a PEM file.
    pub key: PathBuf,
}

/// The header that tells an endpoint whom a connection is for, before its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeader {
    /// Version 1: one line of text.
    V1,
    /// Version 2: binary.
    V2,
}

/// How an upstream's endpoints are reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outbound {
    /// Default HTTP/1.1.
    pub protocol: UpstreamProtocol,
    /// Default none: in clear.
    pub tls: Option<UpstreamTls>,
    /// Default none. Never with `UpstreamProtocol::H2`.
    pub proxy_protocol: Option<ProxyHeader>,
}
