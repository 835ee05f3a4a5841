//! What the connection and the road tell each other.
//!
//! `server` makes a `Peer` for each connection and hands it to the `Handler` with each request; the
//! road reads it and never sees the socket. Invariant: everything else here is plain data of one
//! worker (`!Send` cells at most), so neither side can block the other.

mod early;
mod fault;
mod handler;
mod tls;

use std::net::SocketAddr;

use http::HeaderValue;

pub use early::Early;
pub use fault::Fault;
pub use handler::Handler;
pub use tls::{ClientCert, Scope, Tls};

/// The other end of a client connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Who connected.
    pub address: SocketAddr,
    /// The listener it came in by.
    pub local: SocketAddr,
    /// Whether the connection is encrypted.
    pub secure: bool,
    /// What its handshake agreed on; none before that, and on a plain connection.
    pub tls: Option<Box<Tls>>,
    /// `address` without its port, as a field value; made once, sent with every request.
    pub forwarded_for: HeaderValue,
    /// Which one of the worker's client connections this is.
    pub id: u64,
}

impl Peer {
    /// A connection from `address`, accepted at `local`.
    #[must_use]
    pub fn new(address: SocketAddr, local: SocketAddr, secure: bool, id: u64) -> Self {
        let ip = address.ip().to_canonical().to_string();
        let forwarded_for = HeaderValue::try_from(ip)
            .unwrap_or_else(|_impossible| HeaderValue::from_static("unknown"));
        Self {
            address,
            local,
            secure,
            tls: None,
            forwarded_for,
            id,
        }
    }

    /// Whether a request for this host may come over the connection, see `Scope`.
    #[must_use]
    pub fn admits(&self, host: &str) -> bool {
        let scope = self.tls.as_ref().and_then(|tls| tls.scope.as_ref());
        scope.is_none_or(|scope| scope.admits(host))
    }

    /// `http` or `https`, as the client sees it.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }
}
