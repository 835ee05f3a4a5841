//! What follows the head of an answer over HTTP/2: a body, or the bytes of a tunnel.
//!
//! `AnswerBody` polls it. Whoever polls takes from the stream's window, which is the back-pressure, and
//! moves the rest of the upload. Invariant: an answer that is dropped before its end resets its stream,
//! and a stream holds its seat until it is over.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Frame, SizeHint};

use crate::config::model::UpstreamTimeouts;
use crate::metrics::TunnelEnd;
use crate::net::deadline::Timer;

use super::super::exchange::AnswerError;
use super::super::tunnels::Open;
use super::exchange::Upload;
use super::peers::Seat;
use super::pump::Broken;

/// What follows the head of an answer.
#[derive(Debug)]
pub(in super::super) struct Flow {
    parts: Option<Parts>,
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
struct Parts {
    incoming: RecvStream,
    upload: Upload,
    timer: Timer,
    /// Longest silence.
    idle: Duration,
    /// Bytes of content that are left to come, where that is known.
    left: Option<u64>,
    tunnel: Option<Open>,
    /// The content is over, trailers may follow.
    at_trailers: bool,
    _seat: Seat,
}

impl Flow {
    pub(super) fn new(timeouts: &UpstreamTimeouts, begun: Begun, tunnel: Option<Open>) -> Self {
        let Begun {
            seat,
            timer,
            length,
            incoming,
            mut upload,
        } = begun;
        let opens = tunnel.is_some();
        if opens {
            upload.let_go();
        } else if !incoming.is_end_stream() {
            upload.give_up_held();
        }
        // What is over gives up its seat now: nobody may ever poll it.
        let over = !opens && incoming.is_end_stream();
        let parts = Parts {
            incoming,
            upload,
            timer,
            idle: if opens {
                timeouts.tunnel_idle
            } else {
                timeouts.body_idle
            },
            left: length.filter(|_| !opens),
            tunnel,
            at_trailers: false,
            _seat: seat,
        };
        Self {
            parts: (!over).then_some(parts),
        }
    }

    pub(in super::super) fn is_end(&self) -> bool {
        self.parts.is_none()
    }

    pub(in super::super) fn size_hint(&self) -> SizeHint {
        let left = self.parts.as_ref().map_or(Some(0), |parts| parts.left);
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    pub(in super::super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let Some(parts) = &mut self.parts else {
            return Poll::Ready(None);
        };
        let result = ready!(parts.poll(cx));
        let over = match &result {
            Some(Ok(_)) => parts.tunnel.is_none() && parts.incoming.is_end_stream(),
            None | Some(Err(_)) => true,
        };
        if over && let Some(parts) = self.parts.take() {
            parts.end(result.is_none());
        }
        Poll::Ready(match result {
            Some(Err(Broke::Idle)) => None,
            Some(Err(Broke::Answer(error))) => Some(Err(error)),
            Some(Ok(frame)) => Some(Ok(frame)),
            None => None,
        })
    }
}

enum Broke {
    Answer(AnswerError),
    /// A tunnel in which nobody says anything.
    Idle,
}

impl Parts {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broke>>> {
        let broken = |error: Option<h2::Error>| {
            let error = AnswerError::Broken(error.map(Into::into));
            Poll::Ready(Some(Err(Broke::Answer(error))))
        };
        if let Poll::Ready(Err(Broken::Body(()))) = self.upload.poll(cx) {
            if let Some(tunnel) = &mut self.tunnel {
                tunnel.ends_by(TunnelEnd::Client);
            }
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
            Poll::Ready(Ok(Some(mut trailers))) => {
                let any = crate::http2::fields::clean_trailers(&mut trailers);
                Poll::Ready(any.then(|| Ok(Frame::trailers(trailers))))
            }
            Poll::Ready(Ok(None)) => Poll::Ready(None),
            Poll::Ready(Err(error)) => broken(Some(error)),
            Poll::Pending => self.silence(cx),
        }
    }

    fn silence(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broke>>> {
        let moved = self.upload.has_moved();
        if !self.timer.is_armed() || (moved && self.tunnel.is_some()) {
            self.timer.arm(self.idle);
        }
        self.timer.poll(cx).map(|()| {
            Some(Err(if self.tunnel.is_some() {
                Broke::Idle
            } else {
                Broke::Answer(AnswerError::Timeout)
            }))
        })
    }

    /// It is over, cleanly or not. The other side of a tunnel goes on.
    fn end(mut self, cleanly: bool) {
        let Some(mut tunnel) = self.tunnel.take() else {
            return;
        };
        if cleanly && !self.upload.is_done() {
            tokio::task::spawn_local(self.finish(tunnel));
            return;
        }
        let silent = self.timer.is_armed() && self.timer.is_expired();
        tunnel.ends_by(match (cleanly, silent) {
            (true, _) => TunnelEnd::Upstream,
            (false, true) => TunnelEnd::Idle,
            (false, false) => TunnelEnd::Error,
        });
    }

    /// The endpoint has ended its side: moves on what the client still sends.
    async fn finish(mut self, mut tunnel: Open) {
        let end = poll_fn(|cx| {
            let polled = self.upload.poll(cx);
            if self.upload.has_moved() || !self.timer.is_armed() {
                self.timer.arm(self.idle);
            }
            match polled {
                Poll::Ready(Ok(())) => Poll::Ready(TunnelEnd::Upstream),
                Poll::Ready(Err(Broken::Body(()))) => Poll::Ready(TunnelEnd::Client),
                Poll::Ready(Err(Broken::Peer(_))) => Poll::Ready(TunnelEnd::Error),
                Poll::Pending => self.timer.poll(cx).map(|()| TunnelEnd::Idle),
            }
        })
        .await;
        tunnel.ends_by(end);
    }
}
