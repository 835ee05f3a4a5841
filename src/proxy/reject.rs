//! Every way in which Headgate itself ends a request.
//!
//! Stations return a `Reject`; `respond` alone knows its status and words. Invariant: what a client
//! is told names no endpoint, no address and no file of ours.

use http::StatusCode;

use crate::metrics::{ProxyError, RejectReason};
use crate::shard::{KeyError, Problem};
use crate::upstream::{self, ClientFailure, ExchangeError, Stage};
use crate::wire::Fault;

/// Why a request gets no answer from an upstream.
#[derive(Debug, thiserror::Error)]
pub(super) enum Reject {
    /// The request is ambiguous or not HTTP.
    #[error("{0}")]
    Malformed(&'static str),
    /// What came is no request.
    #[error("{0}")]
    Fault(#[from] Fault),
    /// The host asks its clients for other certificates than the one that the connection is for.
    #[error("this connection is not for the host of the request")]
    Misdirected,
    /// The host asks more of its clients than it did when the connection was made.
    #[error("this connection is no longer for the host of the request")]
    Outdated,
    /// `TRACE`, which is switched off.
    #[error("the method is not allowed here")]
    NotAllowed,
    /// `PURGE` from a client that may not.
    #[error("purging is not allowed from this address")]
    NotPurger,
    /// An expectation that Headgate does not know (RFC 9110 section 10.1.1).
    #[error("only 100-continue can be expected")]
    Expectation,
    /// The request says that its body is larger than the limit.
    #[error("the request body is too large")]
    BodyTooLarge,
    /// A tunnel that the route does not take.
    #[error("the protocol is not supported here")]
    Upgrade,
    /// An endpoint answered without opening the tunnel, and not with a refusal either.
    #[error("the server did not open the tunnel")]
    NoTunnel,
    /// A method that Headgate does not pass on.
    #[error("the method is not supported")]
    Method,
    /// No route takes it.
    #[error("no route takes this request")]
    NoRoute,
    /// The shard key is missing or not one.
    #[error("{0}")]
    ShardKey(#[from] KeyError),
    /// `only-if-cached`, and nothing stored would do.
    #[error("there is no stored response that would do, and only a stored one was asked for")]
    NotCached,
    /// There is no file for it, or none that may be seen.
    #[error("there is nothing here")]
    NoFile,
    /// A method other than those that read, for a file.
    #[error("the method is not allowed here")]
    ReadOnly,
    /// Headgate has more to do than it can.
    #[error("there is too much to do at the moment")]
    Overloaded,
    /// Headgate, or the machine it runs on, has failed.
    #[error("something went wrong here")]
    Internal,
    /// Every endpoint is out.
    #[error("no server is available for this request")]
    NoEndpoint,
    /// An endpoint failed, or the client's own body did.
    #[error("{}", explain(.0))]
    Exchange(Box<ExchangeError>),
    /// The fetch of another request, which this one waited for, failed again and again.
    #[error("the server failed or could not be reached")]
    Fetch,
}

fn explain(error: &ExchangeError) -> &'static str {
    match (error.fault, is_timeout(error)) {
        (upstream::Fault::Client(ClientFailure::TooSlow), _) => {
            "the request body did not arrive in time"
        }
        (upstream::Fault::Client(ClientFailure::Broken), _) => {
            "the request body is malformed or incomplete"
        }
        (upstream::Fault::Client(ClientFailure::TooLarge), _) => "the request body is too large",
        (upstream::Fault::Upstream, true) => "the server did not answer in time",
        (upstream::Fault::Upstream, false) => "the server could not be reached or did not answer",
    }
}

fn is_timeout(error: &ExchangeError) -> bool {
    use ProxyError as E;
    matches!(
        error.reason,
        E::HttpResponseTimeout | E::ConnectionTimeout | E::ConnectionReadTimeout
    )
}

/// There is no room for another connection or stream, here or on those that there are: the endpoint may
/// be well.
fn is_too_much(error: &ExchangeError) -> bool {
    error.stage == Stage::Queue || error.reason == ProxyError::ConnectionLimitReached
}

impl Reject {
    /// Whether no endpoint took the request at all.
    pub(super) fn is_unreachable(&self) -> bool {
        match self {
            Self::NoEndpoint => true,
            Self::Exchange(error) => matches!(error.stage, Stage::Queue | Stage::Dial),
            _ => false,
        }
    }

    /// The status that a client gets.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) | Self::ShardKey(_) => StatusCode::BAD_REQUEST,
            Self::Fault(fault) => match fault {
                Fault::Malformed(_) => StatusCode::BAD_REQUEST,
                Fault::HeadTooLarge | Fault::TooManyFields => {
                    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
                }
                Fault::TargetTooLong => StatusCode::URI_TOO_LONG,
                Fault::UnknownCoding => StatusCode::NOT_IMPLEMENTED,
                Fault::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                Fault::Expectation => StatusCode::EXPECTATION_FAILED,
                Fault::Timeout => StatusCode::REQUEST_TIMEOUT,
            },
            Self::Misdirected | Self::Outdated => StatusCode::MISDIRECTED_REQUEST,
            Self::NotPurger => StatusCode::FORBIDDEN,
            Self::NotAllowed | Self::ReadOnly => StatusCode::METHOD_NOT_ALLOWED,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Method | Self::Upgrade => StatusCode::NOT_IMPLEMENTED,
            Self::NoRoute | Self::NoFile => StatusCode::NOT_FOUND,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NotCached => StatusCode::GATEWAY_TIMEOUT,
            Self::NoEndpoint | Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::Fetch | Self::NoTunnel => StatusCode::BAD_GATEWAY,
            Self::Exchange(error) => match error.fault {
                upstream::Fault::Client(ClientFailure::TooSlow) => StatusCode::REQUEST_TIMEOUT,
                upstream::Fault::Client(ClientFailure::Broken) => StatusCode::BAD_REQUEST,
                upstream::Fault::Client(ClientFailure::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
                upstream::Fault::Upstream if is_timeout(error) => StatusCode::GATEWAY_TIMEOUT,
                upstream::Fault::Upstream if is_too_much(error) => StatusCode::SERVICE_UNAVAILABLE,
                upstream::Fault::Upstream => StatusCode::BAD_GATEWAY,
            },
        }
    }

    /// Whether the client's connection is of no use after it: its request was ambiguous, its body did
    /// not come as it should, or another connection would get an answer.
    pub(super) fn ends_connection(&self) -> bool {
        match self {
            Self::Malformed(_) | Self::Fault(_) | Self::BodyTooLarge | Self::Outdated => true,
            Self::Exchange(error) => matches!(error.fault, upstream::Fault::Client(_)),
            _ => false,
        }
    }

    /// The word for metrics and logs.
    pub(super) fn reason(&self) -> RejectReason {
        match self {
            Self::Malformed(_) | Self::Expectation => RejectReason::Malformed,
            Self::NotAllowed | Self::NotPurger => RejectReason::Denied,
            Self::BodyTooLarge => RejectReason::BodyTooLarge,
            Self::Fault(fault) => match fault {
                Fault::Malformed(_)
                | Fault::UnknownCoding
                | Fault::Version
                | Fault::Expectation => RejectReason::Malformed,
                Fault::HeadTooLarge | Fault::TooManyFields | Fault::TargetTooLong => {
                    RejectReason::HeaderTooLarge
                }
                Fault::Timeout => RejectReason::RequestTimeout,
            },
            Self::Misdirected | Self::Outdated => RejectReason::Misdirected,
            Self::Method | Self::Upgrade => RejectReason::UpgradeRefused,
            Self::NoRoute => RejectReason::NoRoute,
            Self::NoFile => RejectReason::NoFile,
            Self::ReadOnly => RejectReason::MethodNotAllowed,
            Self::Overloaded => RejectReason::Overloaded,
            Self::Internal => RejectReason::Internal,
            Self::ShardKey(error) if error.problem == Problem::Missing => {
                RejectReason::ShardKeyMissing
            }
            Self::ShardKey(_) => RejectReason::ShardKeyInvalid,
            Self::NotCached => RejectReason::NotCached,
            Self::NoEndpoint => RejectReason::NoEndpoint,
            Self::Fetch | Self::NoTunnel => RejectReason::UpstreamFailed,
            Self::Exchange(error) => match error.fault {
                upstream::Fault::Client(ClientFailure::TooSlow) => RejectReason::RequestTimeout,
                upstream::Fault::Client(ClientFailure::Broken) => RejectReason::Malformed,
                upstream::Fault::Client(ClientFailure::TooLarge) => RejectReason::BodyTooLarge,
                upstream::Fault::Upstream if is_timeout(error) => RejectReason::UpstreamTimeout,
                upstream::Fault::Upstream if is_too_much(error) => RejectReason::Overloaded,
                upstream::Fault::Upstream => RejectReason::UpstreamFailed,
            },
        }
    }
}
