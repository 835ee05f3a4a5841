//! Station 1: accept, TLS, HTTP framing.
//!
//! A worker runs one `accept` loop per listener; each connection is a task of its own (`connection`)
//! whose IO is a `guard` that keeps the deadlines towards the client. Requests go to a
//! `wire::Handler`, which is all that this room knows of the road. Invariant: a panic, a stall or garbage on one
//! connection ends that connection and nothing else.

pub mod accept;
pub mod connection;
pub mod drain;
pub mod guard;
mod handshake;
