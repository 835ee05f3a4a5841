//! How much a client may send, and how often.
//!
//! `server` keeps these towards clients. Invariant: each has a bound, so that a head always fits in
//! memory and in the types that hold it.

use std::num::NonZeroU64;

use crate::config::units::ByteSize;

/// Bounds on the heads of requests, and on how many of them a connection may bring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadLimits {
    /// Most bytes of a request's head. Default 32 KiB.
    pub header_bytes: ByteSize,
    /// Most header fields of a request. Default 100.
    pub headers: usize,
    /// Most bytes of a request's target. Default 8 KiB.
    pub uri_bytes: ByteSize,
    /// Requests after which a connection is closed; none for no limit. Default 10,000.
    pub requests_per_connection: Option<NonZeroU64>,
}
