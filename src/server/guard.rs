//! The IO that hyper's server reads from and writes to.
//!
//! It passes bytes through and keeps the client's deadlines on the worker's coarse tick:
//!
//! | phase     | begins with                          | deadline                                  |
//! |-----------|--------------------------------------|-------------------------------------------|
//! | head      | accept, or the first byte when idle  | `timeouts.header`, for the whole head     |
//! | exchange  | the request's head is whole          | none here (bodies have their own pace)    |
//! | idle      | the answer's body is done            | `timeouts.idle`                           |
//!
//! After `REST` of idling the connection may be laid to rest: `connection` gives hyper's buffers back
//! and waits on the bare socket, under the same deadline.
//!
//! A client that does not read is judged in any phase: while the socket takes nothing more, each
//! window of `timeouts.body_idle` must move `timeouts.min_rate`. Invariant: an expired deadline ends
//! the connection at the next poll of either direction, and the reason is kept for the log.

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead as _, ReadBuf};

use crate::metrics::CloseReason;
use crate::net::deadline::{Deadlines, Timer};
use crate::net::stream::Stream;

/// How long a connection idles before it is laid to rest: a busy client's never is.
const REST: Duration = Duration::from_millis(100);

/// How long, and for how many bytes, a connection is read after the answer to an upload that was not
/// read to its end: closing it at once would make the kernel reset it, and the answer with it.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 16 * 1024 * 1024;

/// Deadlines of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For a whole request head.
    pub header: Duration,
    /// Between requests.
    pub idle: Duration,
    /// Window in which a reader must take `least_written`.
    pub write_window: Duration,
    /// Least bytes per `write_window`.
    pub least_written: u64,
}

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Head,
    Exchange,
    Idle,
}

/// The part of a guard that the connection's requests share with it.
#[derive(Debug)]
pub struct Watch {
    limits: Limits,
    phase: Cell<Phase>,
    /// The last request had a body.
    has_body: Cell<bool>,
    /// In the idle phase: the first part of it has passed.
    rests: Cell<bool>,
    reading: Timer,
    writing: Timer,
    /// Bytes written to the socket, and how many of those the kernel had taken when last asked.
    written: Cell<u64>,
    taken: Cell<u64>,
    window_began_at: Cell<u64>,
    ended: Cell<Option<CloseReason>>,
}

impl Watch {
    /// A connection that was just accepted.
    #[must_use]
    pub fn new(limits: Limits, deadlines: &Rc<Deadlines>) -> Rc<Self> {
        let reading = deadlines.timer();
        reading.arm(limits.header);
        Rc::new(Self {
            limits,
            phase: Cell::new(Phase::Head),
            has_body: Cell::new(false),
            rests: Cell::new(false),
            reading,
            writing: deadlines.timer(),
            written: Cell::new(0),
            taken: Cell::new(0),
            window_began_at: Cell::new(0),
            ended: Cell::new(None),
        })
    }

    /// A whole head has arrived; a body may follow.
    pub fn exchange_begins(&self, has_body: bool) {
        self.has_body.set(has_body);
        self.phase.set(Phase::Exchange);
        self.reading.disarm();
    }

    /// The answer's body is done.
    pub fn exchange_ends(&self) {
        self.phase.set(Phase::Idle);
        self.rests.set(false);
        self.reading.arm(self.limits.idle.min(REST));
    }

    /// Whether nothing but the next request is to be expected, and that not soon.
    #[must_use]
    pub fn may_rest(&self) -> bool {
        self.phase.get() == Phase::Idle && self.rests.get() && !self.writing.is_armed()
    }

    /// Ready when the time for what the connection is doing is over: a head (a TLS handshake is part
    /// of it) or idling.
    pub fn poll_deadline(&self, cx: &Context<'_>) -> Poll<io::Error> {
        match self.check(cx) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(error),
        }
    }

    /// A head has begun to arrive.
    pub fn head_begins(&self) {
        self.phase.set(Phase::Head);
        self.reading.arm(self.limits.header);
    }

    /// The deadline that ended the connection, if one did.
    #[must_use]
    pub fn ended(&self) -> Option<CloseReason> {
        self.ended.get()
    }

    fn check(&self, cx: &Context<'_>) -> io::Result<()> {
        if self.reading.poll(cx).is_ready() && !self.begins_to_rest(cx) {
            let reason = match self.phase.get() {
                Phase::Idle => CloseReason::IdleTimeout,
                Phase::Head | Phase::Exchange => CloseReason::HeaderTimeout,
            };
            return Err(self.end(reason));
        }
        if self.writing.is_expired() && !self.next_window() {
            return Err(self.end(CloseReason::SlowReader));
        }
        Ok(())
    }

    /// The first part of idling is over: waits for the rest of it.
    fn begins_to_rest(&self, cx: &Context<'_>) -> bool {
        let left = self.limits.idle.saturating_sub(REST);
        if self.phase.get() != Phase::Idle || self.rests.get() || left.is_zero() {
            return false;
        }
        self.rests.set(true);
        self.reading.arm(left);
        self.reading.poll(cx).is_pending()
    }

    fn end(&self, reason: CloseReason) -> io::Error {
        self.ended.set(Some(reason));
        io::ErrorKind::TimedOut.into()
    }

    fn received(&self) {
        if self.phase.get() == Phase::Idle {
            self.head_begins();
        }
    }

    /// Begins a window of writing; false if the one that is over moved too little.
    fn next_window(&self) -> bool {
        let moved = self.taken.get() - self.window_began_at.get();
        self.window_began_at.set(self.taken.get());
        self.writing.arm(self.limits.write_window);
        moved >= self.limits.least_written
    }

    fn blocked(&self, cx: &Context<'_>) {
        if !self.writing.is_armed() {
            self.window_began_at.set(self.taken.get());
            self.writing.arm(self.limits.write_window);
        }
        // Registered for the wake-up only: an expiry is judged at the next poll.
        let _expired = self.writing.poll(cx);
    }

    fn flushed(&self) {
        if self.writing.is_armed() {
            self.writing.disarm();
        }
    }
}

/// The IO of one client connection.
#[derive(Debug)]
pub struct Guard {
    io: TokioIo<Stream>,
    watch: Rc<Watch>,
    /// Bytes that came earlier and are to be read first.
    unread: Bytes,
    /// Set while lingering: bytes that may still be thrown away.
    lingering: Option<usize>,
}

impl Guard {
    /// Guards `stream` under `watch`. `unread` came from it already and is read first.
    #[must_use]
    pub fn new(stream: Stream, watch: &Rc<Watch>, unread: Bytes) -> Self {
        Self {
            io: TokioIo::new(stream),
            watch: Rc::clone(watch),
            unread,
            lingering: None,
        }
    }

    /// The stream, for a while without hyper.
    #[must_use]
    pub fn into_stream(self) -> Stream {
        self.io.into_inner()
    }
}

impl Read for Guard {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.unread.is_empty() {
            let count = this.unread.len().min(buf.remaining());
            buf.put_slice(&this.unread.split_to(count));
            return Poll::Ready(Ok(()));
        }
        match Pin::new(&mut this.io).poll_read(cx, buf) {
            Poll::Ready(result) => {
                this.watch.received();
                Poll::Ready(result)
            }
            Poll::Pending => match this.watch.check(cx) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            },
        }
    }
}

impl Guard {
    fn wrote(&self, cx: &Context<'_>, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match result {
            Poll::Ready(Ok(count)) => {
                self.watch
                    .written
                    .set(self.watch.written.get() + count as u64);
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                self.stalled(cx)?;
                Poll::Pending
            }
        }
    }

    /// The client does not take what there is for it.
    fn stalled(&self, cx: &Context<'_>) -> io::Result<()> {
        let unsent = self.io.inner().unsent() as u64;
        self.watch
            .taken
            .set(self.watch.written.get().saturating_sub(unsent));
        self.watch.check(cx)?;
        self.watch.blocked(cx);
        Ok(())
    }
}

impl Write for Guard {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.io).poll_write(cx, buf);
        this.wrote(cx, result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        this.wrote(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.io).poll_flush(cx) {
            Poll::Ready(result) => {
                this.watch.flushed();
                Poll::Ready(result)
            }
            Poll::Pending => {
                this.stalled(cx)?;
                Poll::Pending
            }
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
            if !this.watch.has_body.get() {
                return Poll::Ready(Ok(()));
            }
            this.lingering = Some(LINGER_BYTES);
            this.watch.reading.arm(LINGER);
        }
        this.linger(cx).map(Ok)
    }
}

impl Guard {
    /// Throws away what the client still sends, until it closes or there was enough of it.
    fn linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut space = [MaybeUninit::uninit(); 4096];
        while let Some(left) = self.lingering.filter(|left| *left > 0) {
            let mut buffer = ReadBuf::uninit(&mut space);
            match Pin::new(self.io.inner_mut()).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.lingering = Some(left.saturating_sub(buffer.filled().len()));
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.watch.reading.poll(cx),
            }
        }
        Poll::Ready(())
    }
}
