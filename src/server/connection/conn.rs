//! What the requests of one HTTP/1.1 connection and their bodies share.
//!
//! `http1` reads heads from it, `exchange` writes answers to it, and a request's body (`body`) reads
//! on from where the head ended, all on the connection's one task and without channels. Invariant:
//! nobody keeps `io` borrowed while it polls the handler or a body of the handler's, which may come
//! back here.

use std::cell::{Cell, RefCell};
use std::io;
use std::mem::MaybeUninit;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use tokio::io::ReadBuf;

use crate::body::BodyFault;
use crate::http1::{Decoded, Decoder, Framing};
use crate::metrics::CloseReason;
use crate::server::guard::{Guard, Watch};
use crate::server::out::Out;

/// Least and most room that is made for a read of a body.
const LEAST_ROOM: usize = 4 * 1024;
const MOST_ROOM: usize = 64 * 1024;
/// Bytes that are read ahead while an answer is awaited, to learn whether the client is still there.
const AHEAD: usize = 512;

/// One HTTP/1.1 connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) io: RefCell<Io>,
    pub(super) watch: Rc<Watch>,
    /// Number of the request in hand, so that the body of an earlier one cannot read it.
    pub(super) serial: Cell<u64>,
    /// Whoever was to read the body of the request in hand will read no more of it.
    pub(super) body_gone: Cell<bool>,
    /// Who waits for that: the body may be read by another task, whose end would wake nobody here.
    pub(super) awaits_gone: RefCell<Option<Waker>>,
    /// Who waits for bytes of a tunnel's client, if that is not the connection's task.
    pub(super) tunnel_reader: RefCell<Option<Waker>>,
}

/// What is read and written.
#[derive(Debug)]
pub(super) struct Io {
    pub(super) guard: Guard,
    /// Bytes that came and were not used yet.
    pub(super) read: BytesMut,
    /// Bytes that are to be written.
    pub(super) out: Out,
    /// Something was written and is perhaps not on its way yet.
    dirty: bool,
    /// Finds the end of the body of the request in hand.
    pub(super) decoder: Decoder,
    /// What is wrong with that body.
    pub(super) fault: Option<BodyFault>,
    /// The client waits for `100 Continue`.
    pub(super) expects: bool,
    /// The client sends no more.
    pub(super) eof: bool,
    pub(super) tunnel: Tunnel,
    /// Bytes of bodies and tunnels that came.
    pub(super) come: u64,
    watch: Rc<Watch>,
}

/// How a tunnel stands.
#[derive(Debug, Default)]
pub(super) enum Tunnel {
    /// None is open; who waits for it.
    #[default]
    Closed,
    /// Somebody waits for it to be opened.
    Awaited(Waker),
    /// The client's bytes are no HTTP any more.
    Open,
}

impl Conn {
    pub(super) fn new(guard: Guard, watch: &Rc<Watch>) -> Rc<Self> {
        Rc::new(Self {
            io: RefCell::new(Io {
                guard,
                read: BytesMut::new(),
                out: Out::default(),
                dirty: false,
                decoder: Decoder::new(Framing::None),
                fault: None,
                expects: false,
                eof: false,
                tunnel: Tunnel::Closed,
                come: 0,
                watch: Rc::clone(watch),
            }),
            watch: Rc::clone(watch),
            serial: Cell::new(0),
            body_gone: Cell::new(false),
            awaits_gone: RefCell::default(),
            tunnel_reader: RefCell::default(),
        })
    }

    /// A request's head has come; `expects` says that its client waits before it sends the body.
    pub(super) fn begin(&self, framing: Framing, expects: bool) {
        self.watch.exchange_begins();
        let mut io = self.io.borrow_mut();
        io.decoder = Decoder::new(framing);
        io.expects = expects;
    }

    /// The exchange is over, its body read to the end.
    pub(super) fn end(&self) {
        self.serial.set(self.serial.get() + 1);
        self.body_gone.set(false);
        self.io.borrow_mut().tunnel = Tunnel::Closed;
        self.watch.exchange_ends();
    }

    /// The tunnel is over: whoever still reads what the client sends reads no more, and lets go.
    pub(super) fn end_tunnel(&self) {
        self.serial.set(self.serial.get() + 1);
        if let Some(waker) = self.tunnel_reader.take() {
            waker.wake();
        }
    }

    /// Why the connection fails.
    pub(super) fn failed(&self) -> CloseReason {
        self.watch.ended().unwrap_or(CloseReason::Io)
    }
}

impl Io {
    /// Gives back what an idle connection does not need.
    pub(super) fn rest(&mut self) {
        debug_assert!(self.read.is_empty() && self.out.is_empty(), "not idle");
        self.read = BytesMut::new();
        self.out = Out::default();
    }

    /// Ready when `out` is written.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.out.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.dirty = true;
        self.guard.poll_write(cx, &mut self.out)
    }

    /// Ready when everything is on its way to the client.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.poll_write(cx)?.is_pending() {
            return Poll::Pending;
        }
        if self.dirty {
            if self.guard.poll_flush(cx)?.is_pending() {
                return Poll::Pending;
            }
            // What is in the batch's hands may come back, and is looked at again then.
            self.dirty = self.guard.stream().unsent() > 0;
        }
        Poll::Ready(Ok(()))
    }

    /// Whether everything that was written is on its way, for certain.
    pub(super) fn is_flushed(&self) -> bool {
        self.out.is_empty() && !self.dirty
    }

    /// Ready when the client has left, as far as that shows while nothing is written to it. A body
    /// that is still under way is watched by whoever reads it.
    pub(super) fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        if !self.decoder.is_end() {
            return Poll::Pending;
        }
        if !self.eof && self.read.is_empty() {
            let mut space = [MaybeUninit::uninit(); AHEAD];
            let mut space = ReadBuf::uninit(&mut space);
            match self.guard.poll_read(cx, &mut space) {
                Poll::Ready(Ok(0)) => {
                    self.eof = true;
                    self.watch.client_half_closed();
                }
                Poll::Ready(Ok(_)) => self.read.extend_from_slice(space.filled()),
                Poll::Ready(Err(_)) => {
                    return Poll::Ready(self.watch.ended().unwrap_or(CloseReason::Client));
                }
                Poll::Pending => {}
            }
        }
        self.watch
            .poll_half_closed(cx)
            .map(|()| CloseReason::Client)
    }

    /// The next piece of the body of the request in hand.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        if let Some(fault) = self.fault {
            return Poll::Ready(Some(Err(fault)));
        }
        if std::mem::take(&mut self.expects) && self.read.is_empty() {
            self.out
                .front
                .extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            // What does not leave now is written by whoever drives the connection.
            if let Poll::Ready(Err(_)) = self.poll_flush(cx) {
                return self.broken(BodyFault::Incomplete);
            }
        }
        loop {
            match self.decoder.decode(&mut self.read) {
                Ok(Decoded::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Decoded::Trailers(map)) => return Poll::Ready(Some(Ok(Frame::trailers(map)))),
                Ok(Decoded::End) => return Poll::Ready(None),
                Err(fault) => return self.broken(fault),
                Ok(Decoded::NeedMore) => {}
            }
            if self.eof {
                return match self.decoder.close() {
                    Ok(()) => Poll::Ready(None),
                    Err(fault) => self.broken(fault),
                };
            }
            match self.poll_fill(cx) {
                Poll::Ready(Ok(0)) => self.eof = true,
                Poll::Ready(Ok(count)) => self.come += count as u64,
                Poll::Ready(Err(_)) => return self.broken(BodyFault::Incomplete),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Reads on into `read`, with room for what the body still has.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let left = self.decoder.left().unwrap_or(SOME_ROOM);
        let room = usize::try_from(left)
            .unwrap_or(MOST_ROOM)
            .clamp(LEAST_ROOM, MOST_ROOM);
        if self.read.capacity() - self.read.len() < LEAST_ROOM {
            self.read.reserve(room);
        }
        match self.tunnel {
            // The deadlines are the connection's task's, and another one may read here.
            Tunnel::Open => self.guard.poll_fill_unwatched(cx, &mut self.read),
            Tunnel::Closed | Tunnel::Awaited(_) => self.guard.poll_fill(cx, &mut self.read),
        }
    }

    fn broken(&mut self, fault: BodyFault) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        self.fault = Some(fault);
        Poll::Ready(Some(Err(fault)))
    }

    /// From now on the client's bytes are no HTTP.
    pub(super) fn open_tunnel(&mut self) {
        self.decoder = Decoder::new(Framing::Tunnel);
        if let Tunnel::Awaited(waker) = std::mem::replace(&mut self.tunnel, Tunnel::Open) {
            waker.wake();
        }
    }
}

/// Room for a read of a body of unknown length.
const SOME_ROOM: u64 = 16 * 1024;
