//! A body on its way into a stream of HTTP/2, under the peer's flow control.
//!
//! `exchange` sends requests with it. A frame of the body is asked for when
//! the one before has gone into h2's buffer whole, and h2's buffer takes no more than the peer's window
//! allows; so a peer that reads slowly holds back whoever makes the body. Deadlines are the caller's:
//! `sent` says how far it got. Invariant: a body
//! that breaks off ends in a reset, never in END_STREAM.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body;

use crate::http2::fields;

/// Most bytes that are reserved at once, so that one stream does not hold the connection's window.
const CHUNK: usize = 16 * 1024;

/// How a body ended that did not end well.
#[derive(Debug)]
pub(super) enum Broken<E> {
    /// Whoever made it failed; the stream was reset.
    Body(E),
    /// The peer reset the stream, or its connection is gone.
    Peer(Option<Reason>),
}

/// A body on its way.
#[derive(Debug)]
pub(super) struct Pump<B> {
    body: B,
    rest: Bytes,
    sent: u64,
}

impl<B, E> Pump<B>
where
    B: Body<Data = Bytes, Error = E> + Unpin,
{
    /// Sends what `body` yields.
    pub(super) fn new(body: B) -> Self {
        Self {
            body,
            rest: Bytes::new(),
            sent: 0,
        }
    }

    /// Bytes that went into the peer's window.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// The body, with what is left of it.
    pub(super) fn into_body(self) -> B {
        self.body
    }

    /// Goes on until everything is in h2's hands.
    ///
    /// # Errors
    /// When either side breaks off; the stream is over then.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut SendStream<Bytes>,
    ) -> Poll<Result<(), Broken<E>>> {
        match self.advance(cx, out) {
            Poll::Pending => match out.poll_reset(cx) {
                Poll::Ready(reason) => Poll::Ready(Err(Broken::Peer(reason.ok()))),
                Poll::Pending => Poll::Pending,
            },
            ready @ Poll::Ready(_) => ready,
        }
    }

    fn advance(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut SendStream<Bytes>,
    ) -> Poll<Result<(), Broken<E>>> {
        loop {
            while !self.rest.is_empty() {
                if ready!(self.send_some(cx, out))? {
                    return Poll::Ready(Ok(()));
                }
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        self.rest = data;
                        if self.rest.is_empty() && self.body.is_end_stream() {
                            return Poll::Ready(end(out));
                        }
                    }
                    Err(frame) => {
                        let Ok(mut trailers) = frame.into_trailers() else {
                            continue;
                        };
                        if fields::clean_trailers(&mut trailers) {
                            return Poll::Ready(out.send_trailers(trailers).map_err(gone));
                        }
                        return Poll::Ready(end(out));
                    }
                },
                Some(Err(error)) => {
                    out.send_reset(Reason::INTERNAL_ERROR);
                    return Poll::Ready(Err(Broken::Body(error)));
                }
                None => return Poll::Ready(end(out)),
            }
        }
    }

    /// Sends as much of the current frame as the window takes; true if that was the end.
    fn send_some(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut SendStream<Bytes>,
    ) -> Poll<Result<bool, Broken<E>>> {
        let wanted = self.rest.len().min(CHUNK);
        out.reserve_capacity(wanted);
        let mut room = out.capacity();
        while room == 0 {
            match ready!(out.poll_capacity(cx)) {
                Some(Ok(more)) => room = more,
                Some(Err(error)) => return Poll::Ready(Err(gone(error))),
                None => return Poll::Ready(Err(Broken::Peer(None))),
            }
        }
        let data = self.rest.split_to(room.min(wanted));
        let last = self.rest.is_empty() && self.body.is_end_stream();
        self.sent += data.len() as u64;
        out.send_data(data, last).map_err(gone)?;
        Poll::Ready(Ok(last))
    }
}

fn end<E>(out: &mut SendStream<Bytes>) -> Result<(), Broken<E>> {
    out.send_data(Bytes::new(), true).map_err(gone)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn gone<E>(error: h2::Error) -> Broken<E> {
    Broken::Peer(error.reason())
}
