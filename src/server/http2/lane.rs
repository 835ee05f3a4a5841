//! The socket of a connection, and the deadlines that its client keeps.
//!
//! The connection's task reads and writes through it. Deadlines, on the worker's tick:
//!
//! | waits for                                   | deadline                                          |
//! |---------------------------------------------|---------------------------------------------------|
//! | the preface and the first SETTINGS          | `timeouts.header`                                 |
//! | the rest of a header block                  | `timeouts.header`                                 |
//! | a request, while there is none              | `timeouts.idle`; PING does not put it off         |
//! | room in the socket                          | `timeouts.min_rate` over `timeouts.body_idle`     |
//!
//! Invariant: a connection without requests has no buffer here or in its session after `REST`.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http2::session::{Session, Wait};
use crate::metrics::CloseReason;
use crate::net::deadline::{Deadlines, Progress, Timer};
use crate::net::listen::HIDDEN;
use crate::net::stream::Stream;
use crate::server::guard::Limits;

/// How long frames are counted before counting begins anew.
const WINDOW: Duration = Duration::from_secs(10);
/// How long a connection is without requests before it gives its buffers back: a busy client's never is.
const REST: Duration = Duration::from_millis(100);
/// How long, and for how many bytes, a connection is read after its last frame: closing it at once
/// would make the kernel reset it, and the GOAWAY with it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1024 * 1024;

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Client(Wait),
    /// A request, not long yet.
    Pause,
    /// Somebody else.
    Nothing,
}

/// One connection's IO.
#[derive(Debug)]
pub(super) struct Lane {
    stream: Stream,
    /// Bytes that came earlier and are to be read first.
    unread: Bytes,
    limits: Limits,
    phase: Phase,
    reading: Timer,
    writing: Progress,
    counting: Timer,
    /// Bytes handed to the socket.
    written: u64,
    /// The kernel was told when to give a silent client up.
    kernel_told: bool,
    lingering: Option<usize>,
}

/// What the deadlines say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Fine,
    /// No request has come for a little while.
    Rest,
    /// No request came.
    Idle,
    /// It is late with the preface, a header block, or room for what is sent.
    Late(CloseReason),
}

impl Lane {
    /// Over `stream`, of which `unread` came already.
    pub(super) fn new(
        stream: Stream,
        unread: Bytes,
        limits: Limits,
        deadlines: &Rc<Deadlines>,
    ) -> Self {
        let reading = deadlines.timer();
        reading.arm(limits.header);
        Self {
            stream,
            unread,
            limits,
            phase: Phase::Client(Wait::Opening),
            reading,
            writing: Progress::in_steps(deadlines, HIDDEN),
            counting: deadlines.timer(),
            written: 0,
            kernel_told: false,
            lingering: None,
        }
    }

    /// Reads what there is into `space`; 0 bytes are the end.
    pub(super) fn read(
        &mut self,
        cx: &mut Context<'_>,
        space: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if !self.counting.is_armed() {
            self.counting.arm(WINDOW);
        }
        if !self.unread.is_empty() {
            let count = self.unread.len().min(space.len());
            if let Some(space) = space.get_mut(..count) {
                self.unread.copy_to_slice(space);
            }
            return Poll::Ready(Ok(count));
        }
        let mut buffer = ReadBuf::new(space);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Writes what is framed. Ready when the socket has all of it; some may still be on its way to the
    /// kernel then.
    pub(super) fn write(
        &mut self,
        cx: &mut Context<'_>,
        session: &mut Session,
    ) -> Poll<io::Result<()>> {
        while !session.out().is_empty() {
            let stream = Pin::new(&mut self.stream);
            let written = match session.out().slices() {
                [front, content, back] if content.is_empty() && back.is_empty() => {
                    stream.poll_write(cx, &front)
                }
                slices => stream.poll_write_vectored(cx, &slices),
            };
            let Poll::Ready(written) = written else {
                self.stalls(cx);
                return Poll::Pending;
            };
            let count = written?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count as u64;
            session.wrote(count);
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when everything that was written has left.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(result) => {
                if self.writing.is_waiting() {
                    self.writing.rest();
                }
                Poll::Ready(result)
            }
            Poll::Pending => {
                self.stalls(cx);
                Poll::Pending
            }
        }
    }

    fn stalls(&mut self, cx: &Context<'_>) {
        if !std::mem::replace(&mut self.kernel_told, true) {
            self.stream.give_up_after(self.limits.silence());
        }
        // For the wake-up only, and `judge` looks at it: what is too late stays so.
        let _expired = self.poll_reader(cx);
    }

    /// Judges the client's deadlines while requests are open, or not; the task is woken when the next
    /// passes.
    pub(super) fn judge(&mut self, cx: &Context<'_>, session: &mut Session, busy: bool) -> Verdict {
        let phase = match session.wait() {
            Wait::Request if busy => Phase::Nothing,
            wait => Phase::Client(wait),
        };
        let rests = Phase::Client(Wait::Request);
        if phase != self.phase && !(phase == rests && self.phase == Phase::Pause) {
            self.phase = phase;
            match phase {
                _ if phase == rests => {
                    self.phase = Phase::Pause;
                    self.reading.arm(self.limits.idle.min(REST));
                }
                Phase::Nothing => self.reading.disarm(),
                Phase::Client(_) | Phase::Pause => self.reading.arm(self.limits.header),
            }
        }
        if self.counting.is_armed() && self.counting.is_expired() {
            session.next_window();
            self.counting.disarm();
        }
        if self.writing.is_waiting() && self.poll_reader(cx).is_ready() {
            return Verdict::Late(CloseReason::SlowReader);
        }
        if self.reading.poll(cx).is_pending() {
            return Verdict::Fine;
        }
        match self.phase {
            Phase::Pause => {
                self.phase = rests;
                self.reading.arm(self.limits.idle.saturating_sub(REST));
                match self.reading.poll(cx) {
                    Poll::Pending => Verdict::Rest,
                    Poll::Ready(()) => Verdict::Idle,
                }
            }
            Phase::Client(Wait::Request) => Verdict::Idle,
            Phase::Client(_) => Verdict::Late(CloseReason::HeaderTimeout),
            Phase::Nothing => Verdict::Fine,
        }
    }

    /// Ready when the client takes too little of what there is for it.
    fn poll_reader(&self, cx: &Context<'_>) -> Poll<()> {
        let (window, least) = (self.limits.write_window, self.limits.least_written);
        self.writing.poll(cx, self.taken(), window, least)
    }

    fn taken(&self) -> u64 {
        self.written.saturating_sub(self.stream.unsent() as u64)
    }

    /// Writes the last frames, says goodbye, and throws away what the client still sends, until it
    /// closes or there was enough of it.
    pub(super) fn close(&mut self, cx: &mut Context<'_>, session: &mut Session) -> Poll<()> {
        if self.lingering.is_none() {
            if ready!(self.write(cx, session)).is_err()
                || ready!(Pin::new(&mut self.stream).poll_shutdown(cx)).is_err()
            {
                return Poll::Ready(());
            }
            self.lingering = Some(LINGER_BYTES);
            self.reading.arm(LINGER);
        }
        let mut space = [MaybeUninit::uninit(); 4096];
        while let Some(left) = self.lingering.filter(|left| *left > 0) {
            let mut buffer = ReadBuf::uninit(&mut space);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.lingering = Some(left.saturating_sub(buffer.filled().len()));
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.reading.poll(cx),
            }
        }
        Poll::Ready(())
    }
}
