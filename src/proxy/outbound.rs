//! The body of an answer on its way to the client.
//!
//! `respond` makes it; the connection pulls frames as the client takes them. It carries the `Context`, so the
//! request is over, counted and logged, when this drops. Invariant: an answer that breaks off is
//! never ended as if it were whole: the error goes to the connection, which cuts itself off.

use std::pin::Pin;
use std::task::{Context as Task, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::balancer::InFlight;
use crate::body::BoxError;
use crate::cache;
use crate::encode::{self, CodingError};
use crate::metrics::ProxyError;
use crate::upstream::AnswerBody;
use crate::upstream::exchange::AnswerError;
use crate::wire::fields::FieldBlock;

use super::context::{Context, End};
use super::partial::{Part, read};
use super::static_files::Sending;

/// Where the bytes of an answer come from.
#[derive(Debug)]
pub(super) enum Stream {
    /// There are none.
    Empty,
    /// From memory, at once.
    Whole(Bytes),
    /// From the store, its fields too, on a route that changes nothing in them.
    Hit {
        /// The fields.
        lines: cache::Lines,
        /// The content.
        content: Bytes,
    },
    /// From an endpoint; counted as in flight there until the end.
    Upstream {
        /// What it sends.
        body: AnswerBody,
        /// Released with the body.
        _in_flight: InFlight,
    },
    /// From the store in pieces, or from a fetch that others may read too.
    Shared(cache::Reader),
    /// From an endpoint between what is stored, and stored on its way.
    Part(Box<Part>),
    /// From a disk.
    File(Box<Sending>),
    /// Compressed on its way.
    Encoded(Box<Encoded>),
    /// Decompressed on its way.
    Decoded(Box<Decoded>),
}

/// A body that is compressed, and what it is made of.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) source: Stream,
    pub(super) encoder: encode::Stream,
}

/// A body that is decompressed, and what it is made of.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) source: Stream,
    pub(super) decoder: encode::Decoder,
}

/// Why an answer breaks off, for the log and for the connection.
pub(super) type Broken = (ProxyError, BoxError);

/// The body of an answer.
#[derive(Debug)]
pub struct Outbound {
    stream: Stream,
    context: Box<Context>,
}

impl Outbound {
    pub(super) fn new(stream: Stream, mut context: Box<Context>) -> Self {
        // Nobody polls a body that says it is over.
        if stream.is_end() && context.end == End::Open {
            context.end = End::Whole;
        }
        Self { stream, context }
    }

    /// Whether its route or its endpoint has been gone for too long.
    fn is_removed(&self) -> bool {
        let Context { view, route, .. } = &*self.context;
        if !view.removed.is_due() {
            return false;
        }
        let endpoint = self.context.exchange.endpoint.as_ref();
        view.removed.concerns(*route, endpoint.map(|it| it.id))
    }

    fn cut(&mut self) -> BoxError {
        if let Stream::Upstream { body, .. } = &mut self.stream {
            body.remove();
        }
        self.stream = Stream::Empty;
        if self.context.end == End::Open {
            self.context.end = End::Removed;
        }
        "its route or its endpoint has been removed".into()
    }

    /// See `wire::Handler::show_fields`.
    pub(super) fn show_fields(&self, to: &mut dyn FieldBlock) -> bool {
        match &self.stream {
            Stream::Hit { lines, .. } => {
                lines.show(to);
                true
            }
            _ => false,
        }
    }

    /// See `wire::Handler::write_fields`.
    pub(super) fn write_fields(&self, out: &mut Vec<u8>) -> bool {
        match &self.stream {
            Stream::Hit { lines, .. } => {
                lines.write(out);
                true
            }
            _ => false,
        }
    }
}

impl Stream {
    pub(super) fn is_end(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(bytes) | Self::Hit { content: bytes, .. } => bytes.is_empty(),
            Self::Upstream { body, .. } => body.is_end_stream(),
            Self::Shared(reader) => reader.is_end_stream(),
            Self::Part(part) => part.is_end(),
            Self::File(sending) => sending.left() == 0,
            Self::Encoded(encoded) => encoded.encoder.is_end(),
            Self::Decoded(decoded) => decoded.decoder.is_end(),
        }
    }

    /// Bytes to come, when that is known.
    pub(super) fn length(&self) -> Option<u64> {
        self.size_hint().exact()
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(bytes) | Self::Hit { content: bytes, .. } => {
                SizeHint::with_exact(bytes.len() as u64)
            }
            Self::Upstream { body, .. } => body.size_hint(),
            Self::Shared(reader) => reader.size_hint(),
            Self::Part(part) => part
                .length()
                .map_or_else(SizeHint::default, SizeHint::with_exact),
            Self::File(sending) => SizeHint::with_exact(sending.left()),
            Self::Encoded(_) => SizeHint::default(),
            Self::Decoded(decoded) => {
                let left = decoded.decoder.left();
                left.map_or_else(SizeHint::default, SizeHint::with_exact)
            }
        }
    }

    /// The next frame, or why there is none.
    pub(super) fn poll(
        &mut self,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Whole(bytes) | Self::Hit { content: bytes, .. } => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Upstream { body, .. } => Pin::new(body).poll_frame(task).map_err(|error| {
                let reason = match error {
                    AnswerError::Timeout => ProxyError::ConnectionReadTimeout,
                    AnswerError::Broken(_) => ProxyError::HttpResponseIncomplete,
                };
                (reason, error.into())
            }),
            Self::Shared(reader) => read(reader, task),
            Self::Part(part) => part.poll(task),
            Self::File(sending) => sending.poll(task).map_ok(Frame::data),
            Self::Encoded(encoded) => {
                let Encoded { source, encoder } = &mut **encoded;
                let polled = encoder.poll(task, |task| source.poll(task));
                polled.map_err(|error| broken(error, ProxyError::ProxyInternalError))
            }
            Self::Decoded(decoded) => {
                let Decoded { source, decoder } = &mut **decoded;
                let polled = decoder.poll(task, |task| source.poll(task));
                polled.map_err(|error| broken(error, ProxyError::HttpResponseContentCoding))
            }
        }
    }
}

fn broken(error: CodingError<Broken>, codec: ProxyError) -> Broken {
    match error {
        CodingError::Source(broken) => broken,
        CodingError::Codec(error) => (codec, error.into()),
    }
}

impl Body for Outbound {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if this.is_removed() {
            return Poll::Ready(Some(Err(this.cut())));
        }
        let polled = this.stream.poll(task);
        let Poll::Ready(frame) = polled else {
            return Poll::Pending;
        };
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                this.context.bytes_out += frame.data_ref().map_or(0, |data| data.len() as u64);
                if this.stream.is_end() {
                    this.context.finished();
                }
                Some(Ok(frame))
            }
            Some(Err((reason, error))) => {
                this.context.broke(reason);
                Some(Err(error))
            }
            None => {
                this.context.finished();
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end()
    }

    fn size_hint(&self) -> SizeHint {
        self.stream.size_hint()
    }
}
