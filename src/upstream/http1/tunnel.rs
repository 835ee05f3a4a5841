//! A connection that has left HTTP: bytes both ways until both sides are done.
//!
//! Opened by a `101` that was offered. The client's side polls it for what the endpoint sends; what the
//! client sends moves in the task of the tunnel (`upstream::tunnels`), which may outlive this: an endpoint
//! that has ended its side can still be spoken to. Invariant: the connection is borrowed by neither
//! direction while it asks its client for bytes.

use std::cell::RefCell;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use http_body::{Body as _, Frame};
use tokio::io::{AsyncReadExt as _, AsyncWrite as _};

use crate::metrics::TunnelEnd;

use super::super::exchange::AnswerError;
use super::super::pool::Link;
use super::super::request_body::RequestBody;
use super::super::tunnels::{Life, Receiving};

/// As much is read at once.
const BLOCK: usize = 16 * 1024;

type Shared = Rc<RefCell<Box<Link>>>;

/// What the endpoint sends through an open tunnel.
#[derive(Debug)]
pub(in super::super) struct Tunnel {
    /// None when it is over.
    link: Option<Shared>,
    /// What came with the answer's head.
    input: BytesMut,
    receiving: Receiving,
}

/// What the client sends.
#[derive(Debug)]
struct Outgoing {
    link: Shared,
    body: RequestBody,
    piece: Bytes,
    /// The endpoint is to be told.
    client_ended: bool,
}

impl Tunnel {
    pub(super) fn open(
        life: Rc<Life>,
        link: Box<Link>,
        body: RequestBody,
        input: BytesMut,
    ) -> Self {
        let link = Rc::new(RefCell::new(link));
        let receiving = life.receiving();
        let mut outgoing = Outgoing {
            link: Rc::clone(&link),
            body,
            piece: Bytes::new(),
            client_ended: false,
        };
        tokio::task::spawn_local(life.keep(move |cx, life| outgoing.poll(cx, life)));
        Self {
            link: Some(link),
            input,
            receiving,
        }
    }

    /// It ends here: its endpoint is not to be used any more.
    pub(super) fn remove(&mut self) {
        self.receiving.end(TunnelEnd::Removed);
        self.link = None;
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        if self.link.is_none() {
            return Poll::Ready(None);
        }
        let result = ready!(self.receive(cx));
        if !matches!(result, Some(Ok(_))) {
            self.link = None;
        }
        Poll::Ready(result.map(|received| received.map(Frame::data)))
    }

    fn receive(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, AnswerError>>> {
        if !self.input.is_empty() {
            return Poll::Ready(Some(Ok(self.input.split().freeze())));
        }
        let (None, Some(link)) = (self.receiving.over(), &self.link) else {
            return Poll::Ready(self.receiving.last_word());
        };
        let mut block = BytesMut::with_capacity(BLOCK);
        let polled = {
            let mut link = link.borrow_mut();
            let mut reading = pin!(link.stream.read_buf(&mut block));
            Future::poll(reading.as_mut(), cx)
        };
        match polled {
            Poll::Ready(Ok(0)) => {
                self.receiving.endpoint_ended();
                Poll::Ready(None)
            }
            Poll::Ready(Ok(_)) => {
                self.receiving.moved();
                Poll::Ready(Some(Ok(block.freeze())))
            }
            Poll::Ready(Err(_)) => {
                self.receiving.end(TunnelEnd::Error);
                Poll::Ready(self.receiving.last_word())
            }
            Poll::Pending => {
                let over = self.receiving.poll_over(cx);
                over.map(|_end| self.receiving.last_word())
            }
        }
    }
}

impl Drop for Tunnel {
    /// A client that leaves while the endpoint may still send has not ended anything: the endpoint is to
    /// see that (RFC 9113 section 8.5).
    fn drop(&mut self) {
        if self.receiving.is_open()
            && let Some(link) = self.link.as_ref().and_then(|link| link.try_borrow().ok())
        {
            link.stream.abort();
        }
    }
}

impl Outgoing {
    /// Ready when the client's side is over and the endpoint was told, or takes no more: what it has
    /// sent before that is still to be read, and tells how the tunnel ends.
    fn poll(&mut self, cx: &mut Context<'_>, life: &Life) -> Poll<Result<(), TunnelEnd>> {
        match ready!(self.advance(cx, life)) {
            Ok(()) | Err(Stopped::Endpoint) => Poll::Ready(Ok(())),
            Err(Stopped::Client) => {
                // RFC 9113 section 8.5: what broke off is not to look like an end.
                self.link.borrow().stream.abort();
                Poll::Ready(Err(TunnelEnd::Client))
            }
        }
    }

    fn advance(&mut self, cx: &mut Context<'_>, life: &Life) -> Poll<Result<(), Stopped>> {
        let refused = |_error| Stopped::Endpoint;
        loop {
            while !self.piece.is_empty() {
                let mut link = self.link.borrow_mut();
                let written = Pin::new(&mut link.stream).poll_write(cx, &self.piece);
                match ready!(written).map_err(refused)? {
                    0 => return Poll::Ready(Err(Stopped::Endpoint)),
                    count => self.piece.advance(count),
                }
                life.moved();
            }
            if self.client_ended {
                let mut link = self.link.borrow_mut();
                return Pin::new(&mut link.stream)
                    .poll_shutdown(cx)
                    .map_err(refused);
            }
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.piece = frame.into_data().unwrap_or_default();
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(Stopped::Client)),
                Poll::Ready(None) => self.client_ended = true,
                Poll::Pending => {
                    let mut link = self.link.borrow_mut();
                    ready!(Pin::new(&mut link.stream).poll_flush(cx)).map_err(refused)?;
                    return Poll::Pending;
                }
            }
        }
    }
}

/// Who takes no more part.
enum Stopped {
    Client,
    Endpoint,
}
