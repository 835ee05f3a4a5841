//! One line for each request: who asked for what, who answered, where the time went, who ended it.
//!
//! `proxy::context` fills a `Record` when a request is over and gives it to its worker's `Buffer`,
//! which turns it into a line at once (`format`), without an allocation of its own. Full buffers go
//! over a bounded queue to the one thread that owns the file (`Writer`). The invariants: a line
//! cannot be forged by what a client sends, and a slow or broken sink costs lines, which are
//! counted, but never a worker's time.

mod format;
mod stamp;
mod writer;

use std::fmt;
use std::time::{Duration, SystemTime};

use http::{Method, StatusCode, Version};
use uuid::Uuid;

use crate::wire::ClientAddress;

pub use self::format::Format;
pub use self::stamp::Stamp;
pub use self::writer::{Buffer, Writer};

/// What is known of a request when it is over. Bytes are as the client sent them: nothing here has
/// to be valid or harmless.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// When the request's head was complete.
    pub at: SystemTime,
    /// As it went to the upstream and into problem documents.
    pub request_id: Uuid,
    /// The peer, or whom a trusted proxy named.
    pub client: ClientAddress,
    /// None of what was refused before it was read.
    pub line: Option<RequestLine<'a>>,
    /// `Host` or `:authority`; empty if there was none.
    pub host: &'a [u8],
    /// TLS version of the client's connection, such as `TLSv1.3`.
    pub tls: Option<&'a str>,
    /// Its cipher suite, such as `TLS_AES_128_GCM_SHA256`.
    pub cipher: Option<&'a str>,
    /// Name of the route, if one took the request.
    pub route: Option<&'a str>,
    /// Name of the upstream that was asked last.
    pub upstream: Option<&'a str>,
    /// Address of the endpoint that was asked last.
    pub endpoint: Option<&'a str>,
    /// Sent to the client; 499 if it left before the answer's head.
    pub status: StatusCode,
    /// Body bytes read from the client.
    pub bytes_in: u64,
    /// Body bytes sent to the client.
    pub bytes_out: u64,
    /// Where the time went.
    pub timings: Timings,
    /// Exchanges after the first.
    pub retries: u32,
    /// What the cache made of it, in a word of `Cache-Status`.
    pub cache: Option<&'a str>,
    /// Who ended the exchange.
    pub ended_by: EndedBy,
    /// Why it did not end well: an error type of RFC 9209 or why Headgate refused.
    pub reason: Option<&'a str>,
    /// `User-Agent`.
    pub user_agent: Option<&'a [u8]>,
    /// `Referer`.
    pub referer: Option<&'a [u8]>,
    /// Generation of the configuration that served it.
    pub generation: u64,
}

/// What a request asked for.
#[derive(Debug, Clone, Copy)]
pub struct RequestLine<'a> {
    /// As received.
    pub method: &'a Method,
    /// Path and query as received.
    pub target: &'a [u8],
    /// Of the request.
    pub version: Version,
}

/// Where a request's time went. Absent is what did not happen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// Waiting for a turn: an endpoint with room, or another request's fetch.
    pub queue: Option<Duration>,
    /// Connecting to the endpoint, handshakes included; absent on a connection that was kept.
    pub connect: Option<Duration>,
    /// From the request's head to the answer's head.
    pub first_byte: Option<Duration>,
    /// From the request's head to the end of the answer.
    pub total: Duration,
}

/// Who ended an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedBy {
    /// It left, or broke a rule.
    Client,
    /// The answer is Headgate's own or was cut by it.
    Headgate,
    /// The answer ended as the upstream ended it.
    Upstream,
}

impl EndedBy {
    /// The word in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Headgate => "headgate",
            Self::Upstream => "upstream",
        }
    }
}

impl fmt::Display for EndedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
