//! Which versions of HTTP clients may speak, and what a connection of HTTP/2 may do.

use crate::config::units::ByteSize;

/// What is spoken on a listener; at least one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocols {
    /// HTTP/1.1 and 1.0.
    pub http1: bool,
    /// HTTP/2: by ALPN over TLS, with prior knowledge without it.
    pub h2: bool,
}

impl Default for Protocols {
    fn default() -> Self {
        Self {
            http1: true,
            h2: true,
        }
    }
}

/// What a connection of HTTP/2 may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Http2Limits {
    /// Streams at a time, 1 to 1000. Default 100.
    pub streams: u32,
    /// Requests that a client may take back within 10 s, besides a tenth of those it sent; and streams
    /// that it may make Headgate reset. Default 100.
    pub resets: u32,
    /// Bytes of one request body that are taken in before they are passed on, up to 16 MiB. Default
    /// 64 KiB.
    pub stream_window: ByteSize,
    /// The same of all streams of a connection; at least the 65,535 that the protocol begins with.
    /// Default 256 KiB.
    pub connection_window: ByteSize,
}
