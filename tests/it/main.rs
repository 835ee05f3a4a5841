//! Headgate from the outside: the real binary, real sockets, and origins that do as they are told.
//!
//! Every test starts a process of its own on ports of the system's choice (`harness::Gate`) in front
//! of scripted servers (`harness::Origin`), and speaks to it in bytes (`harness::Client`). Nothing is
//! shared between tests, nothing sleeps, and no test measures time: deadlines are made short in the
//! config, and what they cause is waited for. `arrows` alone reads the source instead.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::string_slice,
    clippy::print_stdout,
    reason = "a test fails by it; the relaxation misses helpers; the runner shows what it prints"
)]

mod harness;

mod access_log;
mod acme;
mod admin;
mod arrows;
mod balancing;
mod caching;
mod caching_codings;
mod caching_disk;
mod check;
mod compression;
mod conformance;
mod connection_limits;
mod cors;
mod demo;
mod descriptors;
mod early_hints;
mod edits;
mod files;
mod framing;
mod grpc;
mod grpc_errors;
mod health;
mod herds;
mod http2;
mod limits_body;
mod log_lines;
mod pool;
mod proxy_protocol;
mod proxying;
mod purging;
mod reloading;
mod routing;
mod sharding;
mod slow_clients;
mod stampede;
mod stopping;
mod targets;
mod tls;
mod tls_clients;
mod tls_files;
mod tls_names;
mod trailers;
mod trust;
mod tunnel_ends;
mod unix_listener;
mod upstream_expect;
mod upstream_http2;
mod upstream_http2_odd;
mod upstream_refusals;
mod upstream_sockets;
mod upstream_tls;
mod upstream_tunnels;
mod websocket;
