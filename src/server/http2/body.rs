//! What follows a request's head: DATA and trailers of its stream.
//!
//! Window is given back as frames are taken, so a client is held back by whoever reads its body. The
//! first look at a body that waits for it sends `100 Continue`. Invariant: a stream that was reset, or
//! whose DATA disagrees with its `Content-Length`, ends in a fault (h2 resets it then).

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame, SizeHint};

use crate::body::BodyFault;
use crate::http2::fields;

use super::exchange::Voice;

/// The body of one request.
#[derive(Debug)]
pub(super) struct Incoming {
    stream: RecvStream,
    /// By `Content-Length`, what is still to come.
    left: Option<u64>,
    /// Says `100 Continue`, once.
    waits: Option<Rc<Voice>>,
    over: bool,
}

impl Incoming {
    /// Reads `stream`, which holds `length` bytes if that was said.
    pub(super) fn new(stream: RecvStream, length: Option<u64>, waits: Option<Rc<Voice>>) -> Self {
        Self {
            stream,
            left: length,
            waits,
            over: false,
        }
    }

    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        match ready!(self.stream.poll_data(cx)) {
            Some(Ok(data)) => {
                if let Some(left) = &mut self.left {
                    *left = left.saturating_sub(data.len() as u64);
                }
                // Never more than came.
                drop(self.stream.flow_control().release_capacity(data.len()));
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            None => match ready!(self.stream.poll_trailers(cx)) {
                Ok(Some(mut trailers)) => {
                    let left = fields::clean_trailers(&mut trailers);
                    Poll::Ready(left.then(|| Ok(Frame::trailers(trailers))))
                }
                Ok(None) => Poll::Ready(None),
                Err(error) => Poll::Ready(Some(Err(error))),
            },
        }
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let this = self.get_mut();
        if this.over {
            return Poll::Ready(None);
        }
        if let Some(voice) = this.waits.take() {
            voice.carry_on();
        }
        let polled = ready!(this.advance(cx));
        this.over = polled
            .as_ref()
            .is_none_or(|frame| !frame.as_ref().is_ok_and(Frame::is_data));
        Poll::Ready(polled.map(|frame| {
            frame.map_err(|error| match error.is_library() {
                true => BodyFault::Malformed("its frames disagree with its head"),
                false => BodyFault::Incomplete,
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}
