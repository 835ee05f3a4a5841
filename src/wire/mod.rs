//! What the connection and the road tell each other.
//!
//! `server` makes a `Peer` for each connection and hands it to the `Handler` with each request; the
//! road reads it and never sees the socket. `fields` and `spare` have no part in that: they are what
//! every room must read alike, and maps to be used again. Invariant: everything else here is plain data of one
//! worker (`!Send` cells at most), so neither side can block the other.

mod address;
mod early;
mod fault;
pub mod fields;
mod handler;
mod head;
pub mod spare;
mod tls;
mod trailers;

use std::net::SocketAddr;

use http::HeaderValue;

pub use address::ClientAddress;
pub use early::Early;
pub use fault::Fault;
pub use handler::{Answering, Handler};
pub use head::{Head, give_back};
pub use tls::{ClientCert, Scope, Tls};
pub use trailers::{announces, may_trail, sift_trailers};

/// The other end of a client connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The client: who connected, or whom a trusted proxy named in a PROXY protocol header.
    pub address: ClientAddress,
    /// Where the client connected to; none for a Unix socket.
    pub local: Option<SocketAddr>,
    /// Whether the connection is encrypted.
    pub secure: bool,
    /// What its handshake agreed on; none before that, and on a plain connection.
    pub tls: Option<Box<Tls>>,
    /// `address` without its port, as a field value, `unknown` if it is no IP address (the word of
    /// RFC 7239); made once, sent with every request.
    pub forwarded_for: HeaderValue,
    /// Which one of the worker's client connections this is.
    pub id: u64,
}

impl Peer {
    /// A connection from `address`, accepted at `local`.
    #[must_use]
    pub fn new(
        address: impl Into<ClientAddress>,
        local: Option<SocketAddr>,
        secure: bool,
        id: u64,
    ) -> Self {
        let address = address.into();
        let forwarded_for = address
            .ip()
            .and_then(|ip| HeaderValue::try_from(ip.to_string()).ok())
            .unwrap_or(HeaderValue::from_static("unknown"));
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

    /// Whether the connection may still be asked for what it was made for, see `Scope`.
    #[must_use]
    pub fn stands(&self) -> bool {
        let scope = self.tls.as_ref().and_then(|tls| tls.scope.as_ref());
        scope.is_none_or(|scope| scope.stands())
    }

    /// `http` or `https`, as the client sees it.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }
}
