//! Station 1: accept, TLS, HTTP framing.
//!
//! A worker runs one `accept` loop per listener, which finds room for each connection (`admission`) and
//! learns whom a trusted proxy makes it for; each connection is a task of its own (`connection`)
//! whose IO is a `guard` that keeps the deadlines towards the client. Requests go to a
//! `wire::Handler`, which is all that this room knows of the road. Invariant: a panic, a stall or garbage on one
//! connection ends that connection and nothing else.

pub mod accept;
pub mod admission;
pub mod connection;
pub mod dates;
pub mod drain;
pub mod guard;
mod handshake;
pub mod http2;
mod linger;
mod out;
mod proxy_header;
pub mod turn_away;
