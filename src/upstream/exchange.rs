//! One request and its answer on one connection.
//!
//! `Pools::exchange` sends a request and resolves with the answer's head; the `AnswerBody` then
//! drives the connection until the body is read, and gives the connection back. Nothing is spawned:
//! whoever polls the exchange polls the connection, with deadlines of the worker's coarse tick.
//! Invariant: dropping an exchange or an answer body half-way closes the connection, so no bytes
//! of it can reach another request.

use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::Instant;

use crate::balancer::EndpointId;
use crate::body::BoxError;
use crate::metrics::ProxyError as Reason;
use crate::net::dial;
use crate::net::transport::Transport;

use super::error::{ExchangeError, Fault, Retry, Stage};
use super::pool::{Link, Pools, Target};
use super::request_body::{RequestBody, Transfer};

/// Whether an idle connection may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// Take an idle one if there is one.
    Idle,
    /// Dial: an idle one has just turned out dead.
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
    /// Sends `request` to `target` and waits for the head of its answer.
    ///
    /// # Errors
    /// With the stage, the fault and what may be done about it.
    pub async fn exchange(
        self: &Rc<Self>,
        target: Target<'_>,
        request: Request<RequestBody>,
        reuse: Reuse,
    ) -> Result<Answer, ExchangeError> {
        let failed = |stage, retry, reason, unsent, cause| ExchangeError {
            stage,
            fault: Fault::Upstream,
            retry,
            reason,
            endpoint: Arc::clone(&target.endpoint.address),
            unsent,
            cause,
        };
        let idle = match reuse {
            Reuse::Idle => self.take(target),
            Reuse::Fresh => None,
        };
        let reused = idle.is_some();
        let (link, connect) = match idle {
            Some(link) => (link, None),
            None => match self.connect(target).await {
                Ok((link, took)) => (link, Some(took)),
                Err((reason, cause)) => {
                    let body = Some(request.into_body());
                    return Err(failed(
                        Stage::Dial,
                        Retry::OtherEndpoint,
                        reason,
                        body,
                        cause,
                    ));
                }
            },
        };
        let transfer = request.body().transfer();
        match send(link, request, target, transfer.as_deref()).await {
            Ok((link, response)) => {
                let body = |incoming: Incoming| AnswerBody {
                    // A body that is over already gives its connection back at the first look.
                    incoming,
                    lease: Some(Lease {
                        link,
                        pools: Rc::clone(self),
                        endpoint: target.endpoint.id,
                        body_idle: target.timeouts.body_idle,
                        keep: target.timeouts.idle,
                        max_idle: target.max_idle,
                    }),
                };
                let mut response = response.map(body);
                if response.body().incoming.is_end_stream() {
                    response.body_mut().release();
                }
                Ok(Answer { response, connect })
            }
            Err(SendError {
                reason,
                unsent,
                cause,
            }) => {
                let client = transfer.and_then(|transfer| transfer.failure.get());
                let retry = match reason {
                    _ if client.is_some() => Retry::Never,
                    Reason::HttpResponseTimeout => Retry::OtherEndpoint,
                    _ if reused => Retry::SameOnFreshConnection,
                    _ => Retry::OtherEndpoint,
                };
                let mut error = failed(Stage::AwaitHead, retry, reason, unsent, cause);
                if let Some(failure) = client {
                    error.fault = Fault::Client(failure);
                }
                Err(error)
            }
        }
    }

    /// Makes a connection, and counts it.
    async fn connect(
        &self,
        target: Target<'_>,
    ) -> Result<(Box<Link>, Duration), (Reason, Option<BoxError>)> {
        let before = Instant::now();
        let link = self.dial(target).await?;
        let took = before.elapsed();
        target
            .upstream_metrics
            .worker(self.worker())
            .connected(took);
        target.metrics.worker(self.worker()).opened();
        Ok((link, took))
    }

    async fn dial(&self, target: Target<'_>) -> Result<Box<Link>, (Reason, Option<BoxError>)> {
        let timer = self.deadlines().timer();
        timer.arm(target.timeouts.connect);
        let mut connecting = pin!(dial::connect(&target.endpoint.socket));
        let stream: io::Result<Transport> = poll_fn(|cx| {
            if let Poll::Ready(result) = connecting.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            timer.poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
        })
        .await;
        let stream = stream.map_err(|error| (dial_reason(&error), Some(error.into())))?;
        self.link(stream)
            .await
            .map_err(|error| (Reason::ConnectionTerminated, Some(error.into())))
    }
}

fn dial_reason(error: &io::Error) -> Reason {
    match error.kind() {
        _ if dial::is_ours(error) => Reason::ConnectionLimitReached,
        io::ErrorKind::ConnectionRefused => Reason::ConnectionRefused,
        io::ErrorKind::TimedOut => Reason::ConnectionTimeout,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            Reason::DestinationIpUnroutable
        }
        _ => Reason::ConnectionTerminated,
    }
}

struct SendError {
    reason: Reason,
    unsent: Option<RequestBody>,
    cause: Option<BoxError>,
}

impl Default for SendError {
    fn default() -> Self {
        Self {
            reason: Reason::ConnectionTerminated,
            unsent: None,
            cause: None,
        }
    }
}

/// What hyper says of a request, and the request itself if no byte of it was written.
fn refused(mut error: TrySendError<Request<RequestBody>>) -> SendError {
    SendError {
        unsent: error.take_message().map(Request::into_body),
        reason: reason_of(error.error()),
        cause: Some(error.into_error().into()),
    }
}

/// Sends the request and waits for the head, polling the connection from here.
async fn send(
    mut link: Box<Link>,
    request: Request<RequestBody>,
    target: Target<'_>,
    transfer: Option<&Transfer>,
) -> Result<(Box<Link>, Response<Incoming>), SendError> {
    let mut answer = pin!(link.sender.try_send_request(request));
    link.timer.arm(target.timeouts.first_byte);
    let mut wait = Wait {
        moved: 0,
        first_byte: target.timeouts.first_byte,
    };
    let (connection, timer) = (&mut link.connection, &link.timer);
    let result = poll_fn(|cx| {
        let ended = Pin::new(&mut *connection).poll(cx);
        // Only the connection can complete the answer, and it was polled just now: its waker is
        // ours, and one for the answer too would only wake us twice.
        let mut nobody = Context::from_waker(Waker::noop());
        if let Poll::Ready(answer) = answer.as_mut().poll(&mut nobody) {
            return Poll::Ready(Some(answer.map_err(refused)));
        }
        if ended.is_ready() {
            return Poll::Ready(None);
        }
        if let Some(transfer) = transfer {
            wait.adjust(timer, transfer);
        }
        timer.poll(cx).map(|()| {
            Some(Err(SendError {
                reason: Reason::HttpResponseTimeout,
                unsent: None,
                cause: None,
            }))
        })
    })
    .await;
    let Some(result) = result else {
        // An idle connection turned out closed before it took the request; it gives the request back
        // when it is dropped, and not before.
        drop(link);
        return Err(answer.await.err().map_or_else(SendError::default, refused));
    };
    let response = result?;
    link.timer.disarm();
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // Nobody asked for it: whatever follows is not an answer.
        return Err(SendError {
            reason: Reason::HttpProtocolError,
            unsent: None,
            cause: None,
        });
    }
    Ok((link, response))
}

/// The wait for an answer while a body is being sent: the endpoint's time runs from the last byte
/// it took, and stands still while the client has nothing to send.
struct Wait {
    moved: u64,
    first_byte: Duration,
}

impl Wait {
    fn adjust(&mut self, timer: &crate::net::deadline::Timer, transfer: &Transfer) {
        if transfer.waits_for_client.get() && !transfer.complete.get() {
            timer.disarm();
        } else if transfer.bytes.get() != self.moved || !timer.is_armed() {
            self.moved = transfer.bytes.get();
            timer.arm(self.first_byte);
        }
    }
}

fn reason_of(error: &hyper::Error) -> Reason {
    if error.is_parse() {
        Reason::HttpProtocolError
    } else if error.is_timeout() {
        Reason::HttpResponseTimeout
    } else {
        Reason::ConnectionTerminated
    }
}

/// The body of an answer. Reading it to its end gives the connection back to the pool.
#[derive(Debug)]
pub struct AnswerBody {
    incoming: Incoming,
    lease: Option<Lease>,
}

#[derive(Debug)]
struct Lease {
    link: Box<Link>,
    pools: Rc<Pools>,
    endpoint: EndpointId,
    body_idle: Duration,
    keep: Duration,
    max_idle: usize,
}

/// Why the body of an answer ended early.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The endpoint fell silent.
    #[error("the endpoint sent nothing for too long")]
    Timeout,
    /// The endpoint closed or broke the connection or its framing.
    #[error("the endpoint's answer is incomplete")]
    Broken(#[source] Option<hyper::Error>),
}

impl AnswerBody {
    /// The exchange is over: keep the connection if it is clean.
    fn release(&mut self) {
        if let Some(mut lease) = self.lease.take()
            && lease.link.is_open()
        {
            lease
                .pools
                .put(lease.endpoint, lease.link, lease.keep, lease.max_idle);
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let this = self.get_mut();
        let mut nobody = Context::from_waker(Waker::noop());
        let frame = match Pin::new(&mut this.incoming).poll_frame(&mut nobody) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                let Some(lease) = &mut this.lease else {
                    return Poll::Ready(Some(Err(AnswerError::Broken(None))));
                };
                // Asking the body for a frame has told the connection that one is wanted.
                let ended = Pin::new(&mut lease.link.connection).poll(cx);
                match Pin::new(&mut this.incoming).poll_frame(&mut nobody) {
                    Poll::Ready(frame) => frame,
                    Poll::Pending if ended.is_ready() => {
                        this.lease = None;
                        return Poll::Ready(Some(Err(AnswerError::Broken(None))));
                    }
                    Poll::Pending => {
                        let timer = &lease.link.timer;
                        if !timer.is_armed() {
                            timer.arm(lease.body_idle);
                        }
                        ready!(timer.poll(cx));
                        this.lease = None;
                        return Poll::Ready(Some(Err(AnswerError::Timeout)));
                    }
                }
            }
        };
        match frame {
            Some(Ok(frame)) => {
                if let Some(lease) = &this.lease {
                    lease.link.timer.disarm();
                }
                if this.incoming.is_end_stream() {
                    this.release();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                this.lease = None;
                Poll::Ready(Some(Err(AnswerError::Broken(Some(error)))))
            }
            None => {
                this.release();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
