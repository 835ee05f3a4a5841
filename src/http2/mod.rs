//! HTTP/2 as bytes, on the side of the server (RFC 9113), and what both sides do to fields.
//!
//! | module    | what it is for                                                               |
//! |-----------|------------------------------------------------------------------------------|
//! | `frame`   | heads of frames, their types, flags and codes                                |
//! | `hpack`   | header compression (RFC 7541), both directions                               |
//! | `request` | from a header block to a request in the form of the road, or why it is none  |
//! | `session` | one connection with a client: streams, windows, floods; no sockets           |
//! | `fields`  | what HTTP/2 does to header fields; `upstream` uses it too                    |
//!
//! `server::http2` owns the socket and the time. Towards endpoints the h2 crate speaks the protocol
//! (`upstream::http2`).

pub mod fields;
mod frame;
mod hpack;
mod request;
pub mod session;

pub use frame::{Code, PREFACE};
pub use request::{Asked, Bounds};
