//! Headgate: an L7 load balancer, shared HTTP cache and shard router in one binary.
//!
//! A request's road runs `server` -> `proxy` (normalize, router, cache, forward, respond); the rooms
//! beside it are what the stations use. `app` joins them, `cli` is the command line. See
//! `ARCHITECTURE.md` for the two planes, the road and the arrows between rooms.

pub mod acme;
pub mod admin;
pub mod app;
pub mod balancer;
pub mod body;
pub mod cache;
pub mod cli;
pub mod clock;
pub mod config;
pub mod encode;
pub mod files;
pub mod health;
pub mod http1;
pub mod http2;
pub mod metrics;
pub mod net;
pub mod proxy;
pub mod range;
pub mod reload;
pub mod router;
pub mod server;
pub mod shard;
pub mod snapshot;
pub mod upstream;
pub mod wire;
