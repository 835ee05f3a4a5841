//! What comes after a request's head: its body, or the bytes of a tunnel that the client offers.
//!
//! `server` makes it over whatever protocol the client speaks; `upstream` reads it on. Nothing is read
//! from the client before somebody polls, so an endpoint that takes slowly holds its client back.
//! Invariant: a body that did not end as its framing said ends in a `BodyFault`, never in a clean end.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// What a client did wrong after the head of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// Its framing is wrong.
    #[error("the request body is malformed: {0}")]
    Malformed(&'static str),
    /// The client left, or took the request back, before the end.
    #[error("the request body is incomplete")]
    Incomplete,
    /// It is larger than the limit.
    #[error("the request body is too large")]
    TooLarge,
}

type Source = dyn Body<Data = Bytes, Error = BodyFault> + Unpin;

/// What follows a request's head.
pub struct Inbound {
    source: Option<Box<Source>>,
    tunnel: Option<Box<str>>,
    left: Left,
}

/// How many more bytes of a body may come.
#[derive(Debug, Clone, Copy)]
enum Left {
    Bytes(u64),
    /// More came already.
    Exceeded,
}

impl Inbound {
    /// Nothing follows.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            source: None,
            tunnel: None,
            left: Left::Bytes(u64::MAX),
        }
    }

    /// A body.
    #[must_use]
    pub fn body(source: impl Body<Data = Bytes, Error = BodyFault> + Unpin + 'static) -> Self {
        Self {
            source: Some(Box::new(source)),
            ..Self::empty()
        }
    }

    /// The client offers to go on in `protocol` (lower case): by `Upgrade` in HTTP/1.1 (RFC 9110 section
    /// 7.8), by extended CONNECT in HTTP/2 (RFC 8441). What `source` yields is what it sends once its
    /// request was answered with `101`, in either version; until then there is nothing to read.
    #[must_use]
    pub fn tunnel(
        protocol: &str,
        source: impl Body<Data = Bytes, Error = BodyFault> + Unpin + 'static,
    ) -> Self {
        Self {
            source: Some(Box::new(source)),
            tunnel: Some(protocol.into()),
            ..Self::empty()
        }
    }

    /// Takes no more than `bytes` of a body: one that turns out to be larger ends in `TooLarge`.
    ///
    /// # Errors
    /// `TooLarge` when it says already that it is.
    pub fn limit(&mut self, bytes: u64) -> Result<(), BodyFault> {
        let Some(source) = &self.source else {
            return Ok(());
        };
        if source.size_hint().lower() > bytes {
            return Err(BodyFault::TooLarge);
        }
        self.left = Left::Bytes(bytes);
        Ok(())
    }

    /// The protocol that the client offers to go on in.
    #[must_use]
    pub fn offers(&self) -> Option<&str> {
        self.tunnel.as_deref()
    }
}

impl Default for Inbound {
    fn default() -> Self {
        Self::empty()
    }
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbound")
            .field("tunnel", &self.tunnel)
            .finish_non_exhaustive()
    }
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let Left::Bytes(left) = self.left else {
            return Poll::Ready(Some(Err(BodyFault::TooLarge)));
        };
        let Some(source) = &mut self.source else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(source).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            let Some(rest) = left.checked_sub(data.len() as u64) else {
                self.left = Left::Exceeded;
                return Poll::Ready(Some(Err(BodyFault::TooLarge)));
            };
            self.left = Left::Bytes(rest);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.left, Left::Bytes(_))
            && self
                .source
                .as_ref()
                .is_none_or(|source| source.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.source
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), |source| source.size_hint())
    }
}
