//! A request on its way out: the head, and then the body as fast as both sides allow.
//!
//! Small pieces are gathered with what is before them, so that a small request is one write; large
//! ones are written from where they are. Invariant: nothing of a body is asked for while it is held
//! back, and a body that fails is never ended as if it were whole.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::HeaderMap;
use http_body::Body as _;
use tokio::io::AsyncWrite as _;

use crate::http1::{Encoder, Framing};
use crate::net::stream::Stream;

use super::super::hold::Hold;
use super::super::request_body::RequestBody;

/// Pieces up to this size are copied behind what is before them.
const SMALL: usize = 4 * 1024;
/// As much is gathered before it is written.
const GATHERED: usize = 8 * 1024;

/// Why an upload does not go on.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The client failed to send its body; `Transfer` knows how.
    Client,
    /// The endpoint takes no more.
    Endpoint(#[expect(dead_code, reason = "shown when debugging")] io::ErrorKind),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Frames are asked for.
    Flowing,
    /// Everything is in `out` and `piece`.
    Ended,
    /// Everything was written.
    Done,
    /// The endpoint takes no more.
    Stopped,
}

/// Sends what the kernel had no room for when its batch was sent. Ready when nothing is left of it.
pub(super) fn poll_rest(cx: &mut Context<'_>, stream: &mut Stream) -> Poll<Result<(), Stopped>> {
    if stream.unsent() == 0 {
        return Poll::Ready(Ok(()));
    }
    let flushed = Pin::new(stream).poll_flush(cx);
    flushed.map_err(|error| Stopped::Endpoint(error.kind()))
}

/// A request on its way.
#[derive(Debug)]
pub(super) struct Upload {
    out: Vec<u8>,
    sent: usize,
    /// Comes after `out`.
    piece: Bytes,
    encoder: Encoder,
    body: RequestBody,
    state: State,
    hold: Option<Hold>,
    /// A frame was taken from the body.
    touched: bool,
}

impl Upload {
    /// Begins with the head in `out`.
    pub(super) fn new(
        out: Vec<u8>,
        framing: Framing,
        body: RequestBody,
        hold: Option<Hold>,
    ) -> Self {
        let state = match &body {
            // The bytes of a tunnel are no body.
            RequestBody::Empty | RequestBody::Tunnel(_) => State::Ended,
            RequestBody::Stream(_) => State::Flowing,
        };
        Self {
            out,
            sent: 0,
            piece: Bytes::new(),
            encoder: Encoder::new(framing),
            body,
            state,
            hold,
            touched: false,
        }
    }

    /// The endpoint wants a body that was held back.
    pub(super) fn let_go(&mut self) {
        self.hold = None;
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether nothing more will be asked of the client.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Done | State::Stopped)
    }

    /// The body, if nothing was taken from it.
    pub(super) fn into_untouched(self) -> Option<RequestBody> {
        (!self.touched).then_some(self.body)
    }

    /// What a tunnel's client sends.
    pub(super) fn into_body(self) -> RequestBody {
        self.body
    }

    /// The answer has begun: a body that is still held back is not wanted. Gives the buffer back
    /// when nothing is left to send.
    pub(super) fn after_head(&mut self) -> Option<Vec<u8>> {
        if self.hold.take().is_some() {
            self.state = State::Stopped;
        }
        self.is_over().then(|| {
            let mut out = std::mem::take(&mut self.out);
            out.clear();
            self.sent = 0;
            out
        })
    }

    /// Goes on as far as possible: ready when everything is written, or nothing more will be.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
    ) -> Poll<Result<(), Stopped>> {
        match self.state {
            State::Stopped => return Poll::Ready(Ok(())),
            State::Done => return poll_rest(cx, stream),
            State::Flowing | State::Ended => {}
        }
        let result = ready!(self.advance(cx, stream));
        match &result {
            Ok(()) => self.state = State::Done,
            Err(_) => self.state = State::Stopped,
        }
        Poll::Ready(result)
    }

    fn advance(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<Result<(), Stopped>> {
        loop {
            let waits = self.gather(cx)?;
            ready!(self.write(cx, stream)).map_err(|error| Stopped::Endpoint(error.kind()))?;
            if waits || self.state == State::Ended {
                let flushed = Pin::new(&mut *stream).poll_flush(cx);
                ready!(flushed).map_err(|error| Stopped::Endpoint(error.kind()))?;
                return if waits {
                    Poll::Pending
                } else {
                    Poll::Ready(Ok(()))
                };
            }
        }
    }

    /// Takes frames until there is enough to write; true if the client is waited for.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<bool, Stopped> {
        while self.state == State::Flowing && self.piece.is_empty() && self.out.len() < GATHERED {
            if let Some(hold) = &self.hold {
                if hold.poll(cx).is_pending() {
                    return Ok(true);
                }
                self.hold = None;
            }
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Ok(true),
                Poll::Ready(None) => {
                    self.end(None)?;
                    break;
                }
                Poll::Ready(Some(Err(_told_by_transfer))) => return Err(Stopped::Client),
                Poll::Ready(Some(Ok(frame))) => frame,
            };
            self.touched = true;
            match frame.into_data() {
                Ok(data) => self.piece(data)?,
                Err(frame) => {
                    let trailers = frame.into_trailers().ok();
                    self.end(trailers.as_ref())?;
                    break;
                }
            }
            // Its length tells the endpoint that it is whole, so the head of a small request need not
            // wait for a look at its end.
            if self.piece.is_empty() && self.body.is_end_stream() {
                self.end(None)?;
            }
        }
        Ok(false)
    }

    fn piece(&mut self, data: Bytes) -> Result<(), Stopped> {
        let announced = self.encoder.before(data.len(), &mut self.out);
        announced.map_err(|_longer| Stopped::Client)?;
        if data.len() <= SMALL {
            self.out.extend_from_slice(&data);
            self.encoder.after(data.len(), &mut self.out);
        } else {
            self.piece = data;
        }
        Ok(())
    }

    fn end(&mut self, trailers: Option<&HeaderMap>) -> Result<(), Stopped> {
        self.state = State::Ended;
        let finished = self.encoder.finish(trailers, &mut self.out);
        finished.map_err(|_shorter| Stopped::Client)
    }

    fn write(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<io::Result<()>> {
        loop {
            let out = self.out.get(self.sent..).unwrap_or_default();
            let stream = Pin::new(&mut *stream);
            let count = match (out.is_empty(), self.piece.is_empty()) {
                (true, true) => break,
                (false, true) => ready!(stream.poll_write(cx, out))?,
                (true, false) => ready!(stream.poll_write(cx, &self.piece))?,
                (false, false) => {
                    let both = [io::IoSlice::new(out), io::IoSlice::new(&self.piece)];
                    ready!(stream.poll_write_vectored(cx, &both))?
                }
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_out = count.min(out.len());
            self.sent += of_out;
            if count > of_out {
                self.piece.advance(count - of_out);
                if self.piece.is_empty() {
                    self.out.clear();
                    self.sent = 0;
                    self.encoder.after(1, &mut self.out);
                    self.piece = Bytes::new();
                }
            }
        }
        self.out.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}
