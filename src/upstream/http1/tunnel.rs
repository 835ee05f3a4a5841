//! A connection that has left HTTP: bytes both ways until both sides are done.
//!
//! Opened by a `101` that was offered. The client's side polls it for what the endpoint sends, and each
//! poll also moves what the client has sent. When the endpoint ends its side while the client has not,
//! the rest of the client's side moves on in a task of its own, so that the client can be told of the
//! end. Invariant: a tunnel in which nothing moves for `tunnel_idle` is closed, and each is counted
//! open from its beginning to its end.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http_body::{Body as _, Frame};
use tokio::io::{AsyncReadExt as _, AsyncWrite as _};

use crate::metrics::{self, TunnelEnd};

use super::super::exchange::AnswerError;
use super::super::pool::Link;
use super::super::request_body::RequestBody;
use super::super::tunnels::Open;

/// As much is read at once.
const BLOCK: usize = 16 * 1024;

/// An open tunnel.
#[derive(Debug)]
pub(in super::super) struct Tunnel {
    /// None when the endpoint's side is over.
    sides: Option<Sides>,
}

/// Both sides of a tunnel.
#[derive(Debug)]
struct Sides {
    link: Box<Link>,
    outgoing: Outgoing,
    /// What came with the answer's head.
    input: BytesMut,
    idle: Duration,
    open: Open,
}

/// What the client sends.
#[derive(Debug)]
struct Outgoing {
    body: RequestBody,
    piece: Bytes,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Flowing,
    /// The client has ended its side: the endpoint is to be told.
    Ending,
    Ended,
}

impl Tunnel {
    pub(super) fn new(
        link: Box<Link>,
        body: RequestBody,
        input: BytesMut,
        idle: Duration,
        metrics: &Arc<metrics::Upstream>,
        worker: usize,
    ) -> Self {
        link.timer.arm(idle);
        Self {
            sides: Some(Sides {
                link,
                outgoing: Outgoing {
                    body,
                    piece: Bytes::new(),
                    state: State::Flowing,
                },
                input,
                idle,
                open: Open::new(metrics, worker),
            }),
        }
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let Some(sides) = &mut self.sides else {
            return Poll::Ready(None);
        };
        let end = match ready!(sides.poll(cx)) {
            Ok(Some(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
            Ok(None) => TunnelEnd::Upstream,
            Err(end) => end,
        };
        if let Some(sides) = self.sides.take() {
            if end == TunnelEnd::Upstream && sides.outgoing.state != State::Ended {
                tokio::task::spawn_local(sides.finish());
            } else {
                sides.open.ended(end);
            }
        }
        match end {
            TunnelEnd::Error => Poll::Ready(Some(Err(AnswerError::Broken(None)))),
            TunnelEnd::Client | TunnelEnd::Upstream | TunnelEnd::Idle => Poll::Ready(None),
        }
    }
}

impl Sides {
    /// The next bytes of the endpoint, or their end.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, TunnelEnd>> {
        if !self.input.is_empty() {
            return Poll::Ready(Ok(Some(self.input.split().freeze())));
        }
        self.send(cx)?;
        let mut block = BytesMut::with_capacity(BLOCK);
        let polled = {
            let mut reading = pin!(self.link.stream.read_buf(&mut block));
            Future::poll(reading.as_mut(), cx)
        };
        match polled {
            Poll::Ready(Ok(0)) => Poll::Ready(Ok(None)),
            Poll::Ready(Ok(_)) => {
                self.link.timer.arm(self.idle);
                Poll::Ready(Ok(Some(block.freeze())))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Err(TunnelEnd::Error)),
            Poll::Pending => self.link.timer.poll(cx).map(|()| Err(TunnelEnd::Idle)),
        }
    }

    /// Moves what the client has sent, as far as possible.
    fn send(&mut self, cx: &mut Context<'_>) -> Result<(), TunnelEnd> {
        let before = self.outgoing.body.transfer().map(|it| it.bytes.get());
        let polled = self.outgoing.poll(cx, &mut self.link);
        if self.outgoing.body.transfer().map(|it| it.bytes.get()) != before {
            self.link.timer.arm(self.idle);
        }
        match polled {
            Poll::Ready(Err(end)) => Err(end),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    /// The endpoint has ended its side: moves on what the client still sends.
    async fn finish(mut self) {
        let end = std::future::poll_fn(|cx| {
            if let Err(end) = self.send(cx) {
                return Poll::Ready(end);
            }
            if self.outgoing.state == State::Ended {
                return Poll::Ready(TunnelEnd::Upstream);
            }
            self.link.timer.poll(cx).map(|()| TunnelEnd::Idle)
        })
        .await;
        self.open.ended(end);
    }
}

impl Outgoing {
    /// Ready when the client's side is over and the endpoint was told.
    fn poll(&mut self, cx: &mut Context<'_>, link: &mut Link) -> Poll<Result<(), TunnelEnd>> {
        loop {
            while !self.piece.is_empty() {
                let written = Pin::new(&mut link.stream).poll_write(cx, &self.piece);
                match ready!(written) {
                    Ok(0) | Err(_) => return Poll::Ready(Err(TunnelEnd::Error)),
                    Ok(count) => self.piece.advance(count),
                }
            }
            match self.state {
                State::Ended => return Poll::Ready(Ok(())),
                State::Ending => {
                    let closed = ready!(Pin::new(&mut link.stream).poll_shutdown(cx));
                    self.state = State::Ended;
                    if closed.is_err() {
                        return Poll::Ready(Err(TunnelEnd::Error));
                    }
                }
                State::Flowing => match Pin::new(&mut self.body).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => {
                        self.piece = frame.into_data().unwrap_or_default();
                    }
                    Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(TunnelEnd::Client)),
                    Poll::Ready(None) => self.state = State::Ending,
                    Poll::Pending => {
                        let flushed = ready!(Pin::new(&mut link.stream).poll_flush(cx));
                        return match flushed {
                            Ok(()) => Poll::Pending,
                            Err(_) => Poll::Ready(Err(TunnelEnd::Error)),
                        };
                    }
                },
            }
        }
    }
}
