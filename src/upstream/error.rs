//! Why an exchange failed, whose fault it was, and what may be done about it.
//!
//! `proxy::forward` reads `retry` and `fault`, `proxy::respond` makes the status of `reason`, logs
//! and metrics show `reason` in the words of RFC 9209. Invariant: every failure is classified where
//! it happens; nobody guesses from the text of an error later.

use std::sync::Arc;

use crate::body::BoxError;
use crate::metrics::ProxyError as Reason;

use super::request_body::{ClientFailure, RequestBody};

/// How far the exchange had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Connecting.
    Dial,
    /// Sending the request or waiting for the answer's head.
    AwaitHead,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Dial => "connecting to",
            Self::AwaitHead => "waiting for the answer of",
        })
    }
}

/// Whose fault it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The client, with the body of its request.
    Client(ClientFailure),
    /// The endpoint.
    Upstream,
}

/// What may be done about it, as far as the exchange knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Nothing.
    Never,
    /// The connection had been idle and turned out dead; the endpoint itself may be well.
    SameOnFreshConnection,
    /// The endpoint is not well.
    OtherEndpoint,
}

/// An exchange that did not yield an answer.
#[derive(Debug, thiserror::Error)]
#[error("{stage} {endpoint}: {}", reason.as_str())]
pub struct ExchangeError {
    /// How far it had come.
    pub stage: Stage,
    /// Whose fault it was.
    pub fault: Fault,
    /// What may be done.
    pub retry: Retry,
    /// In the words of RFC 9209.
    pub reason: Reason,
    /// `host:port` of the endpoint; for logs, never for clients.
    pub endpoint: Arc<str>,
    /// The request's body, given back when no byte of the request was written.
    pub unsent: Option<RequestBody>,
    /// What the network said.
    #[source]
    pub cause: Option<BoxError>,
}
