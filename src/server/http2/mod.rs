//! HTTP/2 from clients: sockets, deadlines and handlers around `http2::session` (RFC 9113).
//!
//! `server::connection` hands over a connection whose client has chosen HTTP/2, by ALPN or by its
//! preface.
//!
//! | file         | what it is for                                                               |
//! |--------------|------------------------------------------------------------------------------|
//! | `connection` | the one task of a connection                                                 |
//! | `lane`       | its socket and its deadlines                                                 |
//! | `exchange`   | one request and its answer                                                   |
//! | `body`       | what follows a request's head                                                |
//! | `voice`      | what can be said before the answer                                           |
//! | `board`      | which exchanges were woken                                                   |
//!
//! Invariant: a client can make this hold no more than its streams' and its connection's window, and a stream
//! ends with its client.

mod board;
mod body;
mod connection;
mod exchange;
mod lane;
mod voice;

use std::cell::RefCell;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use crate::http2::session::Terms;
use crate::http2::{Bounds, PREFACE};
use crate::metrics::{CloseReason, WorkerCells};
use crate::net::deadline::Deadlines;
use crate::net::stream::Stream;
use crate::wire::{Handler, Peer};

use super::dates::Dates;
use super::drain::Drain;
use super::guard::Limits;

/// Bytes that are read at once.
const READ: usize = 16 * 1024;
/// Room for values of requests; taken anew when requests still hold the last one.
const ARENA: usize = 4 * 1024;

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
    fn terms(&self, scheme: &'static str) -> Terms {
        Terms {
            streams: self.streams,
            resets: self.resets,
            stream_window: self.stream_window,
            connection_window: self.connection_window,
            bounds: Bounds {
                fields: self.fields,
                bytes: self.header_bytes,
                target: self.target,
            },
            scheme,
        }
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

/// What all connections of a worker read into, so that none of them has a buffer of its own; never kept
/// across an await.
#[derive(Debug, Default)]
pub struct Space(RefCell<Option<Box<Buffers>>>);

#[derive(Debug)]
struct Buffers {
    bytes: Box<[u8]>,
    arena: BytesMut,
}

impl Space {
    fn take(&self) -> Box<Buffers> {
        self.0.take().unwrap_or_else(|| {
            Box::new(Buffers {
                bytes: vec![0; READ].into_boxed_slice(),
                arena: BytesMut::with_capacity(ARENA),
            })
        })
    }

    fn give_back(&self, buffers: Box<Buffers>) {
        self.0.replace(Some(buffers));
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
    pub dates: &'a Dates,
    /// What it is read into.
    pub space: &'a Space,
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
mod tests;
