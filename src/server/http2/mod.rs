//! HTTP/2 from clients, with the h2 crate and without hyper's layer above it (RFC 9113).
//!
//! `server::connection` hands over a connection whose client has chosen HTTP/2, by ALPN or by its
//! preface. `connection` is its one task, `lane` the IO under h2 with the deadlines, `exchange` one
//! stream, `request` the way into the one form that the road knows, `body` what follows a head.
//! What h2 lets through is stopped in `http2::frames` and `request`. Invariant: a client can make this
//! hold no more than its streams' and its connection's window, and a stream ends with its client.

mod body;
mod connection;
mod exchange;
mod lane;
mod request;

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use crate::http2::frames::{EXCESS, PREFACE};
use crate::metrics::{CloseReason, WorkerCells};
use crate::net::deadline::Deadlines;
use crate::net::stream::Stream;
use crate::wire::{Handler, Peer};

use super::dates::Dates;
use super::drain::Drain;
use super::guard::Limits;

/// The window of time in which resets are counted.
const WINDOW: Duration = Duration::from_secs(10);
/// Most bytes of one answer that wait in h2 for the socket.
const SEND_BUFFER: usize = 32 * 1024;
/// Streams that were reset here and whose last frames may still be on their way.
const RESET_STREAMS: usize = 32;

/// What connections of HTTP/2 may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Streams at a time.
    pub streams: u32,
    /// Requests that a client may take back in 10 s, besides a tenth of those it sent; and streams
    /// that it may make Headgate reset.
    pub resets: u32,
    /// Bytes of a request body that are taken in before they are passed on, of one stream.
    pub stream_window: u32,
    /// The same of all streams of a connection.
    pub connection_window: u32,
    /// Header fields of a request.
    pub fields: usize,
    /// Bytes of its header section: names, values and 32 a field.
    pub header_bytes: usize,
    /// Bytes of its target.
    pub target: usize,
    /// Requests of one connection.
    pub requests: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            streams: 100,
            resets: 100,
            stream_window: 64 * 1024,
            connection_window: 256 * 1024,
            fields: 100,
            header_bytes: 32 * 1024,
            target: 8 * 1024,
            requests: u64::MAX,
        }
    }
}

impl Settings {
    fn builder(&self) -> h2::server::Builder {
        let mut builder = h2::server::Builder::new();
        let list = u32::try_from(self.header_bytes.saturating_mul(EXCESS)).unwrap_or(u32::MAX);
        builder
            .max_concurrent_streams(self.streams)
            .initial_window_size(self.stream_window)
            .initial_connection_window_size(self.connection_window)
            .max_header_list_size(list)
            .max_send_buffer_size(SEND_BUFFER)
            .max_concurrent_reset_streams(RESET_STREAMS)
            .max_pending_accept_reset_streams(self.streams as usize)
            .max_local_error_reset_streams(None)
            .enable_connect_protocol();
        builder
    }
}

/// How bytes compare to the preface of HTTP/2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// They begin with it.
    Http2,
    /// They may become it.
    Short,
    /// They are something else.
    Other,
}

/// Whether a client that began with these bytes speaks HTTP/2 with prior knowledge (RFC 9113 section
/// 3.3). The preface begins like no request of HTTP/1.1.
#[must_use]
pub fn opening(bytes: &[u8]) -> Opening {
    if bytes.starts_with(PREFACE) {
        Opening::Http2
    } else if PREFACE.starts_with(bytes) {
        Opening::Short
    } else {
        Opening::Other
    }
}

/// What one connection is served with.
#[derive(Debug)]
pub struct Service<'a, H> {
    /// Answers requests.
    pub handler: &'a Rc<H>,
    /// The client.
    pub peer: Rc<Peer>,
    /// Its deadlines.
    pub limits: Limits,
    /// The worker's deadlines.
    pub deadlines: &'a Rc<Deadlines>,
    /// Tells it to close.
    pub drain: &'a Drain,
    /// What it may do.
    pub settings: Settings,
    /// The worker's dates.
    pub dates: &'a Rc<Dates>,
    /// The worker's counters.
    pub cells: &'a WorkerCells,
}

impl<H: Handler> Service<'_, H> {
    /// Serves the connection until it ends. `unread` came from `stream` already.
    pub async fn serve(self, stream: Stream, unread: Bytes) -> CloseReason {
        connection::serve(self, stream, unread).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preface_is_told_from_every_other_beginning() {
        assert_eq!(opening(b""), Opening::Short);
        for length in 1..PREFACE.len() {
            assert_eq!(opening(&PREFACE[..length]), Opening::Short, "{length}");
        }
        assert_eq!(opening(PREFACE), Opening::Http2);
        assert_eq!(
            opening(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore"),
            Opening::Http2
        );
        for other in [&b"GET / HTTP/1.1"[..], b"PRI * HTTP/1.1", b"P0ST"] {
            assert_eq!(opening(other), Opening::Other);
        }
    }
}
