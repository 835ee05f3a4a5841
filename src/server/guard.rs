//! The socket of a client connection, and the deadlines that its client keeps.
//!
//! `connection` reads and writes through it; deadlines are on the worker's coarse tick:
//!
//! | phase       | begins with                          | deadline                                  |
//! |-------------|--------------------------------------|-------------------------------------------|
//! | head        | accept, or the first byte when idle  | `timeouts.header`, for the whole head     |
//! | exchange    | the request's head is whole          | none here (bodies have their own pace)    |
//! | half-closed | the client sends no more             | `HALF_CLOSED` without a byte for it       |
//! | idle        | the answer's body is done            | `timeouts.idle`                           |
//!
//! After `REST` of idling the connection may be laid to rest: `connection` gives its buffers back
//! and waits on the bare socket, under the same deadline.
//!
//! A client that does not read is judged in any phase: while the socket takes nothing more, each
//! window of `timeouts.body_idle` must move `timeouts.min_rate`, save for what the kernel cannot show
//! (`net::listen::HIDDEN`). One that takes nothing at all is the kernel's to notice. Invariant: an expired deadline ends
//! the connection at the next poll of either direction, and the reason is kept for the log.

use std::cell::Cell;
use std::io;
use std::num::NonZeroU64;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWrite as _, ReadBuf};

use crate::http1;
use crate::metrics::CloseReason;
use crate::net::deadline::{Deadlines, Progress, Timer};
use crate::net::listen::HIDDEN;
use crate::net::stream::Stream;

use super::linger::Linger;
use super::out::Out;

/// How long a connection idles before it is laid to rest: a busy client's never is.
const REST: Duration = Duration::from_millis(100);

/// How long, and for how many bytes, a connection is read after the answer to an upload that was not
/// read to its end, see `linger`.
pub(super) const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 16 * 1024 * 1024;

/// How long an answer is waited for, or for more of it, when the client has shut down its side: it may
/// still read, or be gone, and nothing but a write can tell.
const HALF_CLOSED: Duration = Duration::from_secs(3);

/// Least time that a client has which takes nothing at all: packets may be lost, and are sent again.
const SILENCE: Duration = Duration::from_secs(10);

/// Deadlines and bounds of a connection.
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
    /// Of request heads.
    pub heads: http1::Limits,
    /// Requests after which the connection is closed, if there is such a number.
    pub requests: Option<NonZeroU64>,
}

impl Limits {
    /// How long a client may take nothing at all of what was sent to it. A client's kernel makes room in
    /// steps, too, of which a slow one needs more than a window for each: 128 KiB over loopback.
    pub(super) fn silence(&self) -> Duration {
        self.write_window.saturating_mul(6).max(SILENCE)
    }
}

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Head,
    Exchange,
    HalfClosed,
    Idle,
}

/// The part of a guard that the connection's requests share with it.
#[derive(Debug)]
pub struct Watch {
    limits: Limits,
    phase: Cell<Phase>,
    /// In the idle phase: the first part of it has passed.
    rests: Cell<bool>,
    reading: Timer,
    writing: Progress,
    /// Of the time after which it is to give a silent client up.
    kernel_told: Cell<bool>,
    /// Bytes written to the socket, and how many of those the kernel had taken when last asked.
    written: Cell<u64>,
    taken: Cell<u64>,
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
            rests: Cell::new(false),
            reading,
            writing: Progress::in_steps(deadlines, HIDDEN),
            kernel_told: Cell::new(false),
            written: Cell::new(0),
            taken: Cell::new(0),
            ended: Cell::new(None),
        })
    }

    /// Deadlines and bounds, as they were when the connection was made.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// A whole head has arrived.
    pub fn exchange_begins(&self) {
        self.phase.set(Phase::Exchange);
        self.reading.disarm();
    }

    /// The client sends no more, and its answer is still to come.
    pub fn client_half_closed(&self) {
        self.phase.set(Phase::HalfClosed);
        self.reading.arm(HALF_CLOSED);
    }

    /// Something went to the client: if it has shut down its side, it is given more time.
    pub fn answer_moves(&self) {
        if self.phase.get() == Phase::HalfClosed {
            self.reading.arm(HALF_CLOSED);
        }
    }

    /// Ready when a client that has shut down its side has waited long enough.
    pub fn poll_half_closed(&self, cx: &Context<'_>) -> Poll<()> {
        match self.phase.get() {
            Phase::HalfClosed => self.reading.poll(cx),
            Phase::Head | Phase::Exchange | Phase::Idle => Poll::Pending,
        }
    }

    /// What is left of the connection has `time`, whatever it was doing.
    pub fn closes_within(&self, time: Duration) {
        self.phase.set(Phase::Exchange);
        self.reading.arm(time);
    }

    /// The time for closing, or for draining, is over.
    pub fn poll_closing(&self, cx: &Context<'_>) -> Poll<()> {
        self.reading.poll(cx)
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
        self.phase.get() == Phase::Idle && self.rests.get() && !self.writing.is_waiting()
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
        if self.reading.poll(cx).is_ready() {
            match self.phase.get() {
                Phase::Idle if self.begins_to_rest(cx) => {}
                Phase::Idle => return Err(self.end(CloseReason::IdleTimeout)),
                Phase::Head => return Err(self.end(CloseReason::HeaderTimeout)),
                // Theirs to judge who wait for the answer, or for the close.
                Phase::Exchange | Phase::HalfClosed => {}
            }
        }
        if self.writing.is_waiting() {
            self.judge_reader(cx)?;
        }
        Ok(())
    }

    /// The client is waited for, to take what there is for it.
    fn judge_reader(&self, cx: &Context<'_>) -> io::Result<()> {
        let (window, least) = (self.limits.write_window, self.limits.least_written);
        match self.writing.poll(cx, self.taken.get(), window, least) {
            Poll::Ready(()) => Err(self.end(CloseReason::SlowReader)),
            Poll::Pending => Ok(()),
        }
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

    /// The socket failed: perhaps because the kernel has waited long enough for a client that takes
    /// nothing.
    fn broke(&self, error: &io::Error) {
        if error.kind() == io::ErrorKind::TimedOut && self.writing.is_waiting() {
            self.ended.set(Some(CloseReason::SlowReader));
        }
    }

    fn received(&self) {
        if self.phase.get() == Phase::Idle {
            self.head_begins();
        }
    }
}

/// The socket of one client connection.
#[derive(Debug)]
pub(super) struct Guard {
    stream: Stream,
    watch: Rc<Watch>,
    /// Set once our side is shut down: bytes that may still be thrown away.
    lingering: Option<Linger>,
}

impl Guard {
    /// Guards `stream` under `watch`.
    #[must_use]
    pub(super) fn new(stream: Stream, watch: &Rc<Watch>) -> Self {
        Self {
            stream,
            watch: Rc::clone(watch),
            lingering: None,
        }
    }

    /// The stream, for who waits for the next request with nothing else.
    pub(super) fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// Reads what there is into `buffer`; 0 bytes are the end.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let count = buffer.filled().len();
        self.read(cx, result.map_ok(|()| count))
    }

    /// Appends what there is to `buffer`, as far as it has room; 0 bytes are the end.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        let result = pin!(self.stream.read_buf(buffer)).poll(cx);
        self.read(cx, result)
    }

    /// The same without a look at the deadlines, for who is not the connection's task: that one keeps
    /// them, and is to be woken by them.
    pub(super) fn poll_fill_unwatched(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        pin!(self.stream.read_buf(buffer)).poll(cx)
    }

    fn read(&self, cx: &Context<'_>, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match result {
            Poll::Ready(result) => {
                if let Err(error) = &result {
                    self.watch.broke(error);
                }
                self.watch.received();
                Poll::Ready(result)
            }
            Poll::Pending => match self.watch.check(cx) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            },
        }
    }

    /// Writes all of `out`; some of it may still be on its way to the kernel then.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Out,
    ) -> Poll<io::Result<()>> {
        while !out.is_empty() {
            let stream = Pin::new(&mut self.stream);
            let result = match out.slices() {
                [front, content, back] if content.is_empty() && back.is_empty() => {
                    stream.poll_write(cx, &front)
                }
                slices => stream.poll_write_vectored(cx, &slices),
            };
            let Poll::Ready(result) = result else {
                self.stalled(cx)?;
                return Poll::Pending;
            };
            let count = result.inspect_err(|error| self.watch.broke(error))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let written = &self.watch.written;
            written.set(written.get() + count as u64);
            out.advance(count);
        }
        Poll::Ready(Ok(()))
    }

    /// The client does not take what there is for it.
    fn stalled(&self, cx: &Context<'_>) -> io::Result<()> {
        let unsent = self.stream.unsent() as u64;
        self.watch
            .taken
            .set(self.watch.written.get().saturating_sub(unsent));
        if !self.watch.kernel_told.replace(true) {
            self.stream.give_up_after(self.watch.limits.silence());
        }
        self.watch.check(cx)?;
        self.watch.judge_reader(cx)
    }

    /// Ready when everything that was written is on its way.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(result) => {
                if let Err(error) = &result {
                    self.watch.broke(error);
                }
                self.watch.writing.rest();
                Poll::Ready(result)
            }
            Poll::Pending => {
                self.stalled(cx)?;
                Poll::Pending
            }
        }
    }

    /// Ready when the client has taken so much that the kernel has room for more; until then it is judged
    /// like one whose socket takes nothing.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.stream.poll_room(cx) {
            Poll::Ready(result) => {
                if let Err(error) = &result {
                    self.watch.broke(error);
                }
                Poll::Ready(result)
            }
            Poll::Pending => {
                self.stalled(cx)?;
                Poll::Pending
            }
        }
    }

    /// Shuts down our side; the client may go on sending.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    /// Shuts down our side and throws away what the client has sent meanwhile. With `lingers`, a client
    /// that is still sending is given some time to notice. The watch bounds the whole.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>, lingers: bool) -> Poll<()> {
        let lingering = match &mut self.lingering {
            Some(lingering) => lingering,
            None => {
                if self.watch.poll_closing(cx).is_ready() {
                    return Poll::Ready(());
                }
                if ready!(Pin::new(&mut self.stream).poll_shutdown(cx)).is_err() {
                    return Poll::Ready(());
                }
                self.lingering.insert(Linger::new(LINGER_BYTES))
            }
        };
        match lingering.poll(cx, &mut self.stream) {
            Poll::Pending if lingers => self.watch.poll_closing(cx),
            Poll::Ready(()) | Poll::Pending => Poll::Ready(()),
        }
    }
}
