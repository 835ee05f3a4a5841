//! The reference services over real sockets, each test with servers and files of its own.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by it; the relaxation misses helpers"
)]

mod auth;
mod carts;
mod harness;
mod orders;
mod products;
mod server;
