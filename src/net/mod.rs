//! Sockets: listening (`listen`), dialing (`dial`, `hop`), TLS (`tls`, `tls_client`, `roots`), the PROXY
//! protocol (`proxy_protocol`), and a worker's deadlines (`deadline`).
//!
//! `server` and `upstream` build on these; `health` dials through the same `dial`. Invariant:
//! `dial` is the only place that opens an outbound connection, and every wait on a peer can be
//! given a `deadline::Timer`.

pub mod deadline;
pub mod dial;
pub mod hop;
pub mod listen;
pub mod proxy_protocol;
pub mod roots;
pub mod socket;
pub mod stream;
pub mod tls;
pub mod tls_client;
pub mod transport;
