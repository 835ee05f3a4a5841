//! What a TLS handshake agreed on, for the road.
//!
//! `server` fills it in once per connection; the road sends the certificate along, logs the version
//! and asks the `Scope`.

use std::fmt::Debug;
use std::rc::Rc;

use http::HeaderValue;

/// What a TLS handshake agreed on.
#[derive(Debug, Clone)]
pub struct Tls {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite by its name in the IANA registry.
    pub cipher: &'static str,
    /// The certificate that the client was asked for and showed.
    pub client_cert: Option<ClientCert>,
    /// None where the connection may ask for every host of its listener.
    pub scope: Option<Rc<dyn Scope>>,
}

/// A verified client certificate as fields of a request (RFC 9440).
#[derive(Debug, Clone)]
pub struct ClientCert {
    /// Value of `Client-Cert`.
    pub leaf: HeaderValue,
    /// Value of `Client-Cert-Chain`, where endpoints are to get it.
    pub chain: Option<HeaderValue>,
}

/// Which hosts a connection may ask for. A client that was asked for one certificate must not reach
/// the host of another by naming it in a request (RFC 9110 section 15.5.20).
pub trait Scope: Debug {
    /// Whether a request for this host (it may have a port) may come over the connection, by what is
    /// in force now.
    fn admits(&self, host: &str) -> bool;

    /// Whether it may be asked for what it was made for; if not, its client needs another one.
    fn stands(&self) -> bool;
}
