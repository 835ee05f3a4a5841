//! One request and its answer, whatever the endpoint speaks.
//!
//! `Pools::exchange` sends a request and resolves with the answer's head; whoever polls the
//! `AnswerBody` then moves the rest, with deadlines of the worker's coarse tick. Here a connection is
//! found or made, and a failure is judged; the protocols are `http1` and `http2`. Invariant: dropping
//! an exchange or an answer body half-way closes its connection, or resets its stream, so no bytes of
//! it can reach another request.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};

use crate::body::BoxError;
use crate::config::model::UpstreamProtocol;
use crate::metrics::ProxyError as Reason;

use super::error::{ExchangeError, Failed, Fault, Retry, Stage};
use super::outgoing::Outgoing;
use super::pool::{Pools, Said, Target};
use super::{Early, http1, http2};

/// Whether a connection that is there may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// Take one if there is one.
    Idle,
    /// Dial: one that was there has just turned out dead.
    Fresh,
}

/// An answer, and what it took.
#[derive(Debug)]
pub struct Answer {
    /// Head and body.
    pub response: Response<AnswerBody>,
    /// Time to connect, when a connection was made.
    pub connect: Option<Duration>,
}

impl Pools {
    /// Sends `request` to `target` and waits for the head of its answer. `early` takes what is said
    /// before that.
    ///
    /// # Errors
    /// With the stage, the fault and what may be done about it.
    pub async fn exchange(
        self: &Rc<Self>,
        target: &Target<'_>,
        request: Outgoing<'_>,
        reuse: Reuse,
        early: Early<'_>,
    ) -> Result<Answer, ExchangeError> {
        let transfer = request.body.transfer();
        let attempt = match target.hop.protocol {
            UpstreamProtocol::Http1 => self.over_http1(target, request, reuse, early).await,
            // Boxed: the usual exchange should not carry the room of this one.
            UpstreamProtocol::H2 => {
                Box::pin(http2::exchange(self, target, request, reuse, early)).await
            }
        };
        attempt.map_err(
            |Attempt {
                 stage,
                 reused,
                 failed,
             }| {
                let Failed {
                    reason,
                    unsent,
                    cause,
                    ..
                } = failed;
                let client = transfer.and_then(|transfer| transfer.failure.get());
                let retry = match reason {
                    _ if client.is_some() => Retry::Never,
                    Reason::HttpResponseTimeout => Retry::OtherEndpoint,
                    _ if reused && stage == Stage::AwaitHead => Retry::SameOnFreshConnection,
                    _ => Retry::OtherEndpoint,
                };
                ExchangeError {
                    stage,
                    fault: client.map_or(Fault::Upstream, Fault::Client),
                    retry,
                    reason,
                    endpoint: Arc::clone(&target.endpoint.address),
                    unsent,
                    cause,
                }
            },
        )
    }

    async fn over_http1(
        self: &Rc<Self>,
        target: &Target<'_>,
        request: Outgoing<'_>,
        reuse: Reuse,
        early: Early<'_>,
    ) -> Result<Answer, Attempt> {
        let idle = match reuse {
            Reuse::Idle => self.take(target),
            Reuse::Fresh => None,
        };
        let reused = idle.is_some();
        let (link, connect) = match idle {
            Some(link) => (link, None),
            None => match self.connect(target).await {
                Ok((stream, took)) => {
                    self.count_connection(target, took);
                    // Gives the endpoint a place to put its idle connections.
                    (self.link(stream, target), Some(took))
                }
                Err((reason, cause)) => {
                    let mut failed = Failed::unsent(reason, request.body);
                    failed.cause = cause;
                    return Err(Attempt::new(Stage::Dial, false, failed));
                }
            },
        };
        let mut link = link;
        let broken = match if reused { Said::Nothing } else { link.said() } {
            Said::Nothing => None,
            // Whatever speaks before it is asked speaks no HTTP.
            Said::Something => Some(Reason::HttpProtocolError),
            Said::End => Some(Reason::ConnectionTerminated),
        };
        if let Some(reason) = broken {
            let failed = Failed::unsent(reason, request.body);
            return Err(Attempt::new(Stage::AwaitHead, false, failed));
        }
        match http1::send(self, link, request, target, early).await {
            Ok(response) => Ok(Answer {
                response: response.map(|flow| AnswerBody(Flow::Http1(flow))),
                connect,
            }),
            Err(failed) => Err(Attempt::new(Stage::AwaitHead, reused, failed)),
        }
    }
}

/// An exchange that failed.
pub(super) struct Attempt {
    stage: Stage,
    /// On a connection that others had used before.
    reused: bool,
    failed: Failed,
}

impl Attempt {
    pub(super) fn new(stage: Stage, reused: bool, failed: Failed) -> Self {
        Self {
            stage,
            reused,
            failed,
        }
    }
}

/// The body of an answer, or what an endpoint sends through a tunnel. Reading it to its end gives the
/// connection back to the pool.
#[derive(Debug)]
pub struct AnswerBody(Flow);

#[derive(Debug)]
enum Flow {
    Http1(http1::Flow),
    Http2(Box<http2::Flow>),
}

impl AnswerBody {
    pub(super) fn over_http2(flow: http2::Flow) -> Self {
        Self(Flow::Http2(Box::new(flow)))
    }

    /// Lets go of an endpoint that is not to be used any more: a body that is not over breaks off, and
    /// a tunnel counts as ended by that.
    pub fn remove(&mut self) {
        match &mut self.0 {
            Flow::Http1(flow) => flow.remove(),
            Flow::Http2(flow) => flow.remove(),
        }
    }
}

/// Why the body of an answer ended early.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The endpoint fell silent.
    #[error("the endpoint sent nothing for too long")]
    Timeout,
    /// The endpoint closed or broke the connection or its framing.
    #[error("the endpoint's answer is incomplete")]
    Broken(#[source] Option<BoxError>),
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        match &mut self.get_mut().0 {
            Flow::Http1(flow) => flow.poll_frame(cx),
            Flow::Http2(flow) => flow.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Flow::Http1(flow) => flow.is_end(),
            Flow::Http2(flow) => flow.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Flow::Http1(flow) => flow.size_hint(),
            Flow::Http2(flow) => flow.size_hint(),
        }
    }
}
