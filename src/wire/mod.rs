//! What the connection and the road tell each other.
//!
//! `server` makes a `Peer` for each connection and hands it to the `Handler` with each request; the
//! road reads it and never sees the socket. Invariant: everything else here is plain data of one
//! worker (`!Send` cells at most), so neither side can block the other.

mod early;
mod fault;
mod handler;

use std::net::SocketAddr;

use http::HeaderValue;

pub use early::Early;
pub use fault::Fault;
pub use handler::Handler;

/// The other end of a client connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Who connected.
    pub address: SocketAddr,
    /// The listener it came in by.
    pub local: SocketAddr,
    /// Whether the connection is encrypted.
    pub secure: bool,
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
            forwarded_for,
            id,
        }
    }

    /// `http` or `https`, as the client sees it.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }
}
