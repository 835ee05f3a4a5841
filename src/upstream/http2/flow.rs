//! What follows the head of an answer over HTTP/2: a body, or the bytes of a tunnel.
//!
//! `AnswerBody` polls it. Whoever polls takes from the stream's window, which is the back-pressure, and
//! moves the rest of a body's upload; `tunnel` has the other. Invariant: an answer that is dropped before
//! its end resets its stream, and a stream holds its seat until it is over.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Frame, SizeHint};

use crate::http2::fields;
use crate::net::deadline::Timer;

use super::super::exchange::AnswerError;
use super::exchange::Upload;
use super::peers::Seat;
use super::pump::Broken;
use super::tunnel::Tunnel;

/// What follows the head of an answer.
#[derive(Debug)]
pub(in super::super) enum Flow {
    /// A body; none when it is over.
    Message(Option<Message>),
    /// The bytes of another protocol.
    Tunnel(Tunnel),
}

/// An answer whose head has come.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) seat: Seat,
    pub(super) timer: Timer,
    /// What the head says of the content's length.
    pub(super) length: Option<u64>,
    pub(super) incoming: RecvStream,
    pub(super) upload: Upload,
}

#[derive(Debug)]
pub(in super::super) struct Message {
    incoming: RecvStream,
    upload: Upload,
    timer: Timer,
    /// Longest silence.
    idle: Duration,
    /// Bytes of content that are left to come, where that is known.
    left: Option<u64>,
    /// The content is over, trailers may follow.
    at_trailers: bool,
    _seat: Seat,
}

impl Flow {
    /// A body, within which the endpoint may be silent for `idle`.
    pub(super) fn message(begun: Begun, idle: Duration) -> Self {
        let Begun {
            seat,
            timer,
            length,
            incoming,
            mut upload,
        } = begun;
        // What is over gives up its seat now: nobody may ever poll it.
        let over = incoming.is_end_stream();
        if !over {
            upload.give_up_held();
        }
        let message = Message {
            incoming,
            upload,
            timer,
            idle,
            left: length,
            at_trailers: false,
            _seat: seat,
        };
        Self::Message((!over).then_some(message))
    }

    /// Its endpoint is not to be used any more.
    pub(in super::super) fn remove(&mut self) {
        match self {
            Self::Message(message) => *message = None,
            Self::Tunnel(tunnel) => tunnel.remove(),
        }
    }

    pub(in super::super) fn is_end(&self) -> bool {
        matches!(self, Self::Message(None))
    }

    pub(in super::super) fn size_hint(&self) -> SizeHint {
        let left = match self {
            Self::Message(None) => Some(0),
            Self::Message(Some(message)) => message.left,
            Self::Tunnel(_) => None,
        };
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    pub(in super::super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let slot = match self {
            Self::Message(slot) => slot,
            Self::Tunnel(tunnel) => return tunnel.poll_frame(cx),
        };
        let Some(message) = slot else {
            return Poll::Ready(None);
        };
        let result = ready!(message.poll(cx));
        let over = match &result {
            Some(Ok(_)) => message.incoming.is_end_stream(),
            None | Some(Err(_)) => true,
        };
        if over {
            *slot = None;
        }
        Poll::Ready(result)
    }
}

impl Message {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let broken = |error: Option<h2::Error>| {
            Poll::Ready(Some(Err(AnswerError::Broken(error.map(Into::into)))))
        };
        if let Poll::Ready(Err(Broken::Body(()))) = self.upload.poll(cx) {
            return broken(None);
        }
        if !self.at_trailers {
            match self.incoming.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    self.timer.disarm();
                    let length = data.len() as u64;
                    self.left = self.left.map(|left| left.saturating_sub(length));
                    // A window that cannot be opened again belongs to a stream that is over.
                    let _over = self.incoming.flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Poll::Ready(Some(Err(error))) => return broken(Some(error)),
                Poll::Ready(None) => self.at_trailers = true,
                Poll::Pending => return self.silence(cx),
            }
        }
        match self.incoming.poll_trailers(cx) {
            Poll::Ready(Ok(Some(trailers))) if trailers.values().any(fields::is_padded) => {
                broken(None)
            }
            Poll::Ready(Ok(Some(mut trailers))) => {
                let any = fields::clean_trailers(&mut trailers);
                Poll::Ready(any.then(|| Ok(Frame::trailers(trailers))))
            }
            Poll::Ready(Ok(None)) => Poll::Ready(None),
            Poll::Ready(Err(error)) => broken(Some(error)),
            Poll::Pending => self.silence(cx),
        }
    }

    fn silence(&self, cx: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        if !self.timer.is_armed() {
            self.timer.arm(self.idle);
        }
        self.timer
            .poll(cx)
            .map(|()| Some(Err(AnswerError::Timeout)))
    }
}
