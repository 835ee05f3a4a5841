//! The body of a request on its way to an endpoint, or the bytes of a tunnel.
//!
//! `proxy::forward` makes it from the client's stream; `http1` and `http2` pull frames when the
//! endpoint takes them, which is the back-pressure. Invariant: a client that stops sending, or
//! sends slower than the configured rate, ends the exchange with an error instead of holding the
//! endpoint's connection; a tunnel has no rate, it may be silent until its own deadline.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::body::{BodyFault, BoxError, Inbound};
use crate::net::deadline::{Deadlines, Progress};

/// A client sent its body too slowly, or not at all.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the client sent its request body too slowly")]
pub struct TooSlow;

/// The rate at which a client must send.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Length of a window.
    pub window: Duration,
    /// Least bytes in a window.
    pub bytes: u64,
}

impl Pace {
    /// `rate` bytes per second, judged over `window`.
    #[must_use]
    pub fn new(rate: u64, window: Duration) -> Self {
        let bytes = u128::from(rate).saturating_mul(window.as_millis()) / 1000;
        Self {
            window,
            bytes: u64::try_from(bytes).unwrap_or(u64::MAX).max(1),
        }
    }
}

/// How the transfer of a request body stands; shared with the exchange, which waits differently
/// for a client than for an endpoint.
#[derive(Debug, Default)]
pub struct Transfer {
    /// Bytes taken from the client.
    pub bytes: Cell<u64>,
    /// The endpoint would take more, the client has sent no more.
    pub waits_for_client: Cell<bool>,
    /// Everything was taken.
    pub complete: Cell<bool>,
    /// How the client failed to send it, if it did.
    pub failure: Cell<Option<ClientFailure>>,
}

/// What a client did wrong with its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientFailure {
    /// It was too slow, or silent.
    TooSlow,
    /// It broke off, or its framing is wrong.
    Broken,
    /// It is larger than the limit.
    TooLarge,
}

/// A request body.
#[derive(Debug)]
pub enum RequestBody {
    /// None.
    Empty,
    /// Streamed from the client.
    Stream(Box<Stream>),
    /// The client offers to go on in another protocol; nothing is read before an endpoint agrees.
    Tunnel(Box<Tunnel>),
}

/// What a client sends once its tunnel is open.
#[derive(Debug)]
pub struct Tunnel {
    incoming: Inbound,
    transfer: Rc<Transfer>,
}

/// A body that comes from a client.
#[derive(Debug)]
pub struct Stream {
    incoming: Inbound,
    progress: Progress,
    pace: Pace,
    transfer: Rc<Transfer>,
}

impl RequestBody {
    /// Streams what the client sends, at no less than `pace`.
    #[must_use]
    pub fn new(incoming: Inbound, deadlines: &Rc<Deadlines>, pace: Pace) -> Self {
        if incoming.offers().is_some() {
            return Self::Tunnel(Box::new(Tunnel {
                incoming,
                transfer: Rc::default(),
            }));
        }
        if incoming.is_end_stream() {
            return Self::Empty;
        }
        Self::Stream(Box::new(Stream {
            incoming,
            progress: Progress::new(deadlines),
            pace,
            transfer: Rc::default(),
        }))
    }

    /// How the transfer stands; none for an empty body.
    #[must_use]
    pub fn transfer(&self) -> Option<Rc<Transfer>> {
        match self {
            Self::Empty => None,
            Self::Stream(stream) => Some(Rc::clone(&stream.transfer)),
            Self::Tunnel(tunnel) => Some(Rc::clone(&tunnel.transfer)),
        }
    }

    /// The protocol of the tunnel that the client offers.
    #[must_use]
    pub fn offers(&self) -> Option<&str> {
        match self {
            Self::Empty | Self::Stream(_) => None,
            Self::Tunnel(tunnel) => tunnel.incoming.offers(),
        }
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Stream(stream) => stream.poll_frame(cx),
            Self::Tunnel(tunnel) => tunnel.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Stream(stream) => stream.incoming.is_end_stream(),
            Self::Tunnel(tunnel) => tunnel.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Stream(stream) => stream.incoming.size_hint(),
            Self::Tunnel(_) => SizeHint::default(),
        }
    }
}

impl Tunnel {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let length = frame.data_ref().map_or(0, Bytes::len) as u64;
            self.transfer.bytes.set(self.transfer.bytes.get() + length);
        }
        polled.map_err(Into::into)
    }
}

impl Stream {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let transfer = &self.transfer;
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                transfer.waits_for_client.set(false);
                let length = frame.data_ref().map_or(0, Bytes::len);
                transfer.bytes.set(transfer.bytes.get() + length as u64);
                if self.incoming.is_end_stream() {
                    transfer.complete.set(true);
                    self.progress.rest();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                transfer.failure.set(Some(match error {
                    BodyFault::TooLarge => ClientFailure::TooLarge,
                    BodyFault::Malformed(_) | BodyFault::Incomplete => ClientFailure::Broken,
                }));
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                transfer.waits_for_client.set(false);
                transfer.complete.set(true);
                self.progress.rest();
                Poll::Ready(None)
            }
            Poll::Pending => {
                transfer.waits_for_client.set(true);
                let Pace { window, bytes } = self.pace;
                let moved = transfer.bytes.get();
                if self.progress.poll(cx, moved, window, bytes).is_ready() {
                    self.transfer.failure.set(Some(ClientFailure::TooSlow));
                    return Poll::Ready(Some(Err(TooSlow.into())));
                }
                Poll::Pending
            }
        }
    }
}
