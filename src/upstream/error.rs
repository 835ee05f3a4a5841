//! Why an exchange failed, whose fault it was, and what may be done about it.
//!
//! `proxy::forward` reads `retry` and `fault`, `proxy::respond` makes the status of `reason`, logs
//! and metrics show `reason` in the words of RFC 9209. Invariant: every failure is classified where
//! it happens; nobody guesses from the text of an error later.

use std::io;
use std::sync::Arc;

use crate::body::BoxError;
use crate::metrics::ProxyError as Reason;

use crate::http1::AnswerFault;
use crate::net::hop::tls_error;

use super::request_body::{ClientFailure, RequestBody};

/// How far the exchange had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Waiting for a free stream on the connections there are.
    Queue,
    /// Connecting, with all handshakes.
    Dial,
    /// Sending the request or waiting for the answer's head.
    AwaitHead,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Queue => "waiting for a stream to",
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
    /// The connection had been idle and turned out dead, or the endpoint has closed it for new
    /// requests; the endpoint itself may be well.
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
    /// The request's body, given back when the endpoint has certainly not acted on the request.
    pub unsent: Option<RequestBody>,
    /// What the network said.
    #[source]
    pub cause: Option<BoxError>,
}

/// Why an exchange failed on its connection, before anybody judges it.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) reason: Reason,
    /// Certainly the endpoint has not acted on the request.
    pub(super) nothing_left: bool,
    /// The body, as far as nothing was taken from it.
    pub(super) unsent: Option<RequestBody>,
    pub(super) cause: Option<BoxError>,
}

impl Failed {
    pub(super) fn new(reason: Reason) -> Self {
        Self {
            reason,
            nothing_left: false,
            unsent: None,
            cause: None,
        }
    }

    /// Nothing of the request was written.
    pub(super) fn unsent(reason: Reason, body: RequestBody) -> Self {
        Self {
            nothing_left: true,
            unsent: Some(body),
            ..Self::new(reason)
        }
    }

    pub(super) fn because(mut self, cause: impl Into<BoxError>) -> Self {
        self.cause = Some(cause.into());
        self
    }
}

impl From<AnswerFault> for Failed {
    fn from(fault: AnswerFault) -> Self {
        let reason = if fault.is_too_large() {
            Reason::HttpResponseHeaderSectionSize
        } else if fault.is_unknown_coding() {
            Reason::HttpResponseTransferCoding
        } else {
            Reason::HttpProtocolError
        };
        Self::new(reason).because(fault)
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        let reason = tls_reason(&error).unwrap_or(Reason::ConnectionTerminated);
        Self::new(reason).because(error)
    }
}

/// What a failure within TLS is called; none if it was not TLS that failed.
pub(super) fn tls_reason(error: &io::Error) -> Option<Reason> {
    Some(match tls_error(error)? {
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
            Reason::TlsCertificateError
        }
        rustls::Error::AlertReceived(_) => Reason::TlsAlertReceived,
        _ => Reason::TlsProtocolError,
    })
}
