//! Stations 2 to 7: what happens to a request between its head and its answer.
//!
//! ```text
//! handle -> trust -> normalize -> router -> edge -> shard -> cache -> forward -> respond
//!                                                -> static_files ------------>
//! ```
//!
//! `handle` is the road: each station is one call that passes the request on or ends it with a
//! `Reject`. Only `respond` makes statuses and headers of the outcome. `Context` follows the request
//! and, when it drops (answer sent, client gone or panic), leaves one set of metrics and one log
//! line. Invariant: a request sees one `View`, and so one config, from start to end.

pub mod access_log;
mod asking;
mod cached;
mod challenge;
mod claims;
mod complaints;
mod context;
mod cors;
mod debug;
mod edge;
mod fetch;
mod forms;
mod forward;
mod forwarded;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod grpc;
mod handle;
mod headers;
mod normalize;
mod outbound;
mod own;
mod partial;
mod past;
mod path;
mod purging;
mod reject;
mod removed;
mod respond;
mod serving;
mod sift;
mod static_files;
mod trust;
pub mod url;
mod worker;
mod writes;

pub use outbound::Outbound;
pub use worker::{View, Worker};
