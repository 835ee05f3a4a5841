//! Exchanges over HTTP/2: many requests on few connections.
//!
//! | file         | what it is for                                                               |
//! |--------------|------------------------------------------------------------------------------|
//! | `peers`      | an endpoint's connections; a seat for each request, or a wait with a bound   |
//! | `connection` | one connection: how it is made, the task that drives it, its keepalive       |
//! | `exchange`   | one request, until the head of its answer                                    |
//! | `flow`       | what follows that head: a body,                                              |
//! | `tunnel`     | or a tunnel (RFC 8441)                                                       |
//! | `pump`       | a request's body under the endpoint's flow control                           |
//!
//! The h2 crate speaks the protocol; `crate::http2` holds what the server side uses as well. Invariant:
//! a request has a seat before it is handed to h2, so nothing is queued there without a bound; one that
//! the endpoint has certainly not processed (RFC 9113 section 8.7) is given back whole.

mod connection;
mod exchange;
mod flow;
mod peers;
mod pump;
mod tunnel;

pub(super) use exchange::exchange;
pub(super) use flow::Flow;
pub(super) use peers::Peers;
