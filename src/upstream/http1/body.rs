//! What follows the head of an answer over HTTP/1.1.
//!
//! `AnswerBody` polls it. Whoever polls drives both directions: the answer, and the rest of an upload
//! that the endpoint answered early. While nothing comes it holds no buffer. Invariant: the connection
//! goes back only as `http1` says; whatever else happens closes it.

use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use tokio::io::AsyncReadExt as _;

use crate::balancer::EndpointId;
use crate::http1::{Decoded, Decoder};

use super::super::exchange::AnswerError;
use super::super::pool::{Keep, Link, Pools, Target};
use super::super::tunnels::Life;
use super::poll_read;
use super::tunnel::Tunnel;
use super::upload::{Stopped, Upload, poll_rest};

/// As much of a large body is read at once: what a client's socket takes whole when it says that it has room
/// (`net::listen::UNSENT`), so that nothing of it lies here while the client is slow.
const LARGE: usize = 32 * 1024;
/// What is shorter comes through the worker's buffer and is copied, so that it takes no more than its own bytes.
const SHORT: usize = 16 * 1024;

/// What follows the head of an answer.
#[derive(Debug)]
pub(in super::super) enum Flow {
    /// A body. Boxed, since it moves with its answer from station to station.
    Message(Box<Message>),
    /// The bytes of another protocol.
    Tunnel(Box<Tunnel>),
}

/// The body of an answer.
#[derive(Debug)]
pub(in super::super) struct Message {
    /// None once the connection was given back, or closed.
    link: Option<Box<Link>>,
    /// What is left of it.
    upload: Option<Box<Upload>>,
    rest: Rest,
    lease: Lease,
}

/// What is known of an answer's body when its head has come.
#[derive(Debug)]
pub(super) struct Rest {
    /// What came with the head.
    pub(super) input: BytesMut,
    pub(super) decoder: Decoder,
    pub(super) persists: bool,
}

/// What it takes to wait for an endpoint and to give its connection back.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) pools: Rc<Pools>,
    endpoint: EndpointId,
    body_idle: Duration,
    keep: Keep,
}

impl Flow {
    pub(super) fn message(
        pools: &Rc<Pools>,
        link: Box<Link>,
        target: &Target<'_>,
        upload: Upload,
        rest: Rest,
    ) -> Self {
        let mut message = Box::new(Message {
            link: Some(link),
            upload: (!upload.is_done()).then(|| Box::new(upload)),
            rest,
            lease: Lease {
                pools: Rc::clone(pools),
                endpoint: target.endpoint.id,
                body_idle: target.timeouts.body_idle,
                keep: Keep::of(target),
            },
        });
        // Nothing may ever poll a body that is over already.
        if message.rest.decoder.is_end() {
            message.release();
        }
        Self::Message(message)
    }

    pub(super) fn tunnel(
        pools: &Rc<Pools>,
        link: Box<Link>,
        upload: Upload,
        input: BytesMut,
        target: &Target<'_>,
    ) -> Self {
        let (deadlines, idle) = (pools.deadlines(), target.timeouts.tunnel_idle);
        let life = Life::begin(target.upstream_metrics, pools.worker(), deadlines, idle);
        let tunnel = Tunnel::open(life, link, upload.into_body(), input);
        Self::Tunnel(Box::new(tunnel))
    }

    pub(in super::super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        match self {
            Self::Message(message) => message.poll_frame(cx),
            Self::Tunnel(tunnel) => tunnel.poll_frame(cx),
        }
    }

    /// Its endpoint is not to be used any more.
    pub(in super::super) fn remove(&mut self) {
        match self {
            Self::Message(message) => message.link = None,
            Self::Tunnel(tunnel) => tunnel.remove(),
        }
    }

    pub(in super::super) fn is_end(&self) -> bool {
        match self {
            Self::Message(message) => message.rest.decoder.is_end(),
            Self::Tunnel(_) => false,
        }
    }

    pub(in super::super) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Message(message) => message
                .rest
                .decoder
                .left()
                .map_or_else(SizeHint::default, SizeHint::with_exact),
            Self::Tunnel(_) => SizeHint::default(),
        }
    }
}

impl Message {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let result = ready!(self.advance(cx));
        if let Some(Err(_)) = &result {
            // Closes it.
            self.link = None;
        }
        Poll::Ready(result)
    }

    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        loop {
            let decoded = self.rest.decoder.decode(&mut self.rest.input);
            let frame = match decoded {
                Ok(Decoded::Data(data)) => Frame::data(data),
                Ok(Decoded::Trailers(trailers)) => Frame::trailers(trailers),
                Ok(Decoded::End) => {
                    self.release();
                    return Poll::Ready(None);
                }
                Ok(Decoded::NeedMore) => match ready!(self.more(cx)) {
                    Ok(true) => continue,
                    Ok(false) => return Poll::Ready(None),
                    Err(error) => return Poll::Ready(Some(Err(error))),
                },
                Err(fault) => {
                    return Poll::Ready(Some(Err(AnswerError::Broken(Some(fault.into())))));
                }
            };
            if self.rest.input.is_empty() {
                // It would keep the frame's memory alive until the next one is wanted.
                self.rest.input = BytesMut::new();
            }
            if let Some(link) = &self.link {
                link.timer.disarm();
            }
            if self.rest.decoder.is_end() {
                self.release();
            }
            return Poll::Ready(Some(Ok(frame)));
        }
    }

    /// Reads more; false at a good end.
    fn more(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, AnswerError>> {
        let Some(link) = &mut self.link else {
            return Poll::Ready(Err(AnswerError::Broken(None)));
        };
        if let Some(upload) = &mut self.upload {
            match upload.poll(cx, &mut link.stream) {
                Poll::Ready(Err(Stopped::Client)) => {
                    return Poll::Ready(Err(AnswerError::Broken(None)));
                }
                Poll::Ready(Ok(())) if upload.is_done() => self.upload = None,
                Poll::Ready(_) | Poll::Pending => {}
            }
        } else {
            // An endpoint that takes no more may answer all the same.
            let _left = poll_rest(cx, &mut link.stream);
        }
        let left = self.rest.decoder.left().unwrap_or(0);
        let room = usize::try_from(left).map_or(LARGE, |left| left.min(LARGE));
        let polled = if room >= SHORT {
            if self.rest.input.is_empty() {
                self.rest.input = BytesMut::with_capacity(room);
            }
            let mut reading = pin!(link.stream.read_buf(&mut self.rest.input));
            Future::poll(reading.as_mut(), cx)
        } else {
            let mut scratch = self.lease.pools.scratch();
            poll_read(&mut link.stream, cx, &mut scratch).map_ok(|count| {
                let bytes = scratch.get(..count).unwrap_or_default();
                self.rest.input.extend_from_slice(bytes);
                count
            })
        };
        match polled {
            Poll::Ready(Ok(0)) => {
                self.link = None;
                let whole = self.rest.decoder.close();
                Poll::Ready(match whole {
                    Ok(()) => Ok(false),
                    Err(fault) => Err(AnswerError::Broken(Some(fault.into()))),
                })
            }
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(true)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(AnswerError::Broken(Some(error.into())))),
            Poll::Pending => {
                if self.rest.input.is_empty() {
                    self.rest.input = BytesMut::new();
                }
                if !link.timer.is_armed() {
                    link.timer.arm(self.lease.body_idle);
                }
                link.timer.poll(cx).map(|()| Err(AnswerError::Timeout))
            }
        }
    }

    /// The answer is over: keeps its connection if it is clean.
    fn release(&mut self) {
        let Some(mut link) = self.link.take() else {
            return;
        };
        if self.rest.persists
            && self.upload.is_none()
            && self.rest.input.is_empty()
            && link.stream.unsent() == 0
            && link.is_quiet()
        {
            self.lease
                .pools
                .put(self.lease.endpoint, link, self.lease.keep);
        } else {
            link.close();
        }
    }
}
