//! What comes after a request's head: its body, or the bytes of a tunnel that the client offers.
//!
//! `server` makes it over whatever protocol the client speaks; `upstream` reads it on. Nothing is read
//! from the client before somebody polls, so an endpoint that takes slowly holds its client back.
//! Invariant: a body that did not end as its framing said ends in a `BodyFault`, never in a clean end.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName};
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
    /// Which trailer fields pass, and names that this is judged by.
    keeps: Keeps,
    named: Option<Arc<[HeaderName]>>,
}

/// Whether a field of this name passes.
type Keeps = fn(&str, &[HeaderName]) -> bool;

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
            keeps: |_any, _named| true,
            named: None,
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

    /// Lets only those trailer fields pass whose names, in lower case, `keeps` says yes to; it is shown
    /// `named` as well.
    pub fn sieve(&mut self, keeps: Keeps, named: Option<Arc<[HeaderName]>>) {
        self.keeps = keeps;
        self.named = named;
    }

    /// The protocol that the client offers to go on in.
    #[must_use]
    pub fn offers(&self) -> Option<&str> {
        self.tunnel.as_deref()
    }
}

fn sift(trailers: &mut HeaderMap, keeps: Keeps, named: &[HeaderName]) {
    let gone: Vec<HeaderName> = trailers
        .keys()
        .filter(|name| !keeps(name.as_str(), named))
        .cloned()
        .collect();
    for name in gone {
        trailers.remove(name);
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
        let this = &mut *self;
        let Left::Bytes(mut left) = this.left else {
            return Poll::Ready(Some(Err(BodyFault::TooLarge)));
        };
        let Some(source) = &mut this.source else {
            return Poll::Ready(None);
        };
        let mut polled = Pin::new(&mut *source).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &mut polled
            && let Some(trailers) = frame.trailers_mut()
        {
            sift(
                trailers,
                this.keeps,
                this.named.as_deref().unwrap_or_default(),
            );
        }
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            let Some(rest) = left.checked_sub(data.len() as u64) else {
                this.left = Left::Exceeded;
                return Poll::Ready(Some(Err(BodyFault::TooLarge)));
            };
            left = rest;
            this.left = Left::Bytes(rest);
        }
        // A chunk says how long it will be: nobody waits for all of it to come.
        if source.size_hint().lower() > left {
            this.left = Left::Exceeded;
            return Poll::Ready(Some(Err(BodyFault::TooLarge)));
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

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::future::poll_fn;

    use http::HeaderValue;

    use super::*;

    struct Frames(VecDeque<Frame<Bytes>>);

    impl Body for Frames {
        type Data = Bytes;
        type Error = BodyFault;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
            Poll::Ready(self.0.pop_front().map(Ok))
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty()
        }
    }

    fn of(pieces: &[&'static str], trailers: &[&'static str]) -> Inbound {
        let mut frames: VecDeque<_> = pieces
            .iter()
            .map(|piece| Frame::data(Bytes::from_static(piece.as_bytes())))
            .collect();
        if !trailers.is_empty() {
            let value = |name: &&'static str| {
                (HeaderName::from_static(name), HeaderValue::from_static("1"))
            };
            frames.push_back(Frame::trailers(trailers.iter().map(value).collect()));
        }
        Inbound::body(Frames(frames))
    }

    async fn next(body: &mut Inbound) -> Option<Result<Frame<Bytes>, BodyFault>> {
        poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
    }

    #[tokio::test]
    async fn a_body_beyond_its_limit_never_ends_as_if_it_were_whole() {
        let mut body = of(&["12345", "67890", "1"], &[]);
        body.limit(10).unwrap();
        for _ in 0..2 {
            assert!(next(&mut body).await.unwrap().is_ok());
        }
        for _ in 0..3 {
            let fault = next(&mut body).await.unwrap().unwrap_err();
            assert_eq!(fault, BodyFault::TooLarge);
            assert!(!body.is_end_stream());
        }
        let mut body = of(&["12345", "67890"], &[]);
        body.limit(10).unwrap();
        assert!(next(&mut body).await.unwrap().is_ok());
        assert!(next(&mut body).await.unwrap().is_ok());
        assert!(next(&mut body).await.is_none() && body.is_end_stream());
        assert_eq!(Inbound::empty().limit(0), Ok(()));
    }

    /// Comes to nothing, and says that it will.
    struct Announced(u64);

    impl Body for Announced {
        type Data = Bytes;
        type Error = BodyFault;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
            // The size of its chunk has come now, and nothing else.
            self.0 = 11;
            Poll::Pending
        }

        fn size_hint(&self) -> SizeHint {
            let mut hint = SizeHint::default();
            hint.set_lower(self.0);
            hint
        }
    }

    #[tokio::test]
    async fn a_chunk_that_says_it_will_be_too_large_is_not_waited_for() {
        let mut body = Inbound::body(Announced(0));
        body.limit(10).unwrap();
        let fault = next(&mut body).await.unwrap().unwrap_err();
        assert_eq!(fault, BodyFault::TooLarge);
    }

    #[tokio::test]
    async fn trailers_that_may_not_pass_are_taken_out() {
        let mut body = of(&["1"], &["x-late", "x-forwarded-for"]);
        body.sieve(|name, _| name != "x-forwarded-for", None);
        assert!(next(&mut body).await.unwrap().unwrap().is_data());
        let trailers = next(&mut body)
            .await
            .unwrap()
            .unwrap()
            .into_trailers()
            .unwrap();
        assert_eq!(trailers.keys().collect::<Vec<_>>(), ["x-late"]);
    }
}
