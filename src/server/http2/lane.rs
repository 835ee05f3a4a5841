//! The IO under h2: what comes in is walked, what goes out leaves together, and clients have deadlines.
//!
//! h2 owns an `Io`, the connection's task its other handle, the `Lane`. Reading runs every byte through
//! `http2::frames`; a violation stops reading, and the task ends the connection. Writing gathers
//! frames, since h2 flushes after each of them: they leave when the task calls `send`, after every
//! stream that was ready has had its turn. Deadlines, on the worker's tick:
//!
//! | waits for                                   | deadline                                          |
//! |---------------------------------------------|---------------------------------------------------|
//! | the preface and the first SETTINGS          | `timeouts.header`                                 |
//! | the rest of a header block                  | `timeouts.header`                                 |
//! | a request, while there is none              | `timeouts.idle`; PING does not put it off         |
//! | room in the socket                          | `timeouts.min_rate` over `timeouts.body_idle`     |
//!
//! Invariant: at most `GATHERED` bytes wait here, besides what the socket keeps itself.

use std::cell::RefCell;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http2::frames::{Bounds, Ending, Tally, Violation, Walk};
use crate::metrics::CloseReason;
use crate::net::deadline::{Deadlines, Progress, Timer};
use crate::net::listen::HIDDEN;
use crate::net::stream::Stream;
use crate::server::guard::Limits;

/// Most bytes that are gathered before they are sent.
const GATHERED: usize = 16 * 1024;
/// Messages from this size on are not copied.
const LARGE: usize = 8 * 1024;
/// How long frames are counted before counting begins anew.
const WINDOW: Duration = Duration::from_secs(10);
/// How long, and for how many bytes, a connection is read after its last frame: closing it at once
/// would make the kernel reset it, and the GOAWAY with it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1024 * 1024;

/// What the client is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    Opening,
    Block(u64),
    Request,
    Nothing,
}

/// One connection's IO, as its task sees it.
#[derive(Debug)]
pub(super) struct Lane(Rc<RefCell<Inside>>);

/// One connection's IO, as h2 sees it.
#[derive(Debug)]
pub(super) struct Io(Rc<RefCell<Inside>>);

#[derive(Debug)]
struct Inside {
    stream: Stream,
    /// Bytes that came earlier and are to be read first.
    unread: Bytes,
    walk: Walk,
    violation: Option<Violation>,
    gathered: Vec<u8>,
    /// How many of those are sent.
    sent: usize,
    tally: Tally,
    endings: Vec<Ending>,
    limits: Limits,
    wait: Wait,
    reading: Timer,
    writing: Progress,
    counting: Timer,
    /// Bytes handed to the socket.
    written: u64,
    /// The kernel was told when to give a silent client up.
    kernel_told: bool,
    lingering: Option<usize>,
}

/// Why a client is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Late {
    /// With the preface, a header block, or room for what is sent: nothing more can be said to it.
    Cut(CloseReason),
    /// No request came.
    Idle,
}

impl Lane {
    /// Over `stream`, of which `unread` came already.
    pub(super) fn new(
        stream: Stream,
        unread: Bytes,
        bounds: Bounds,
        limits: Limits,
        deadlines: &Rc<Deadlines>,
    ) -> (Self, Io) {
        let reading = deadlines.timer();
        reading.arm(limits.header);
        let counting = deadlines.timer();
        counting.arm(WINDOW);
        let inside = Rc::new(RefCell::new(Inside {
            stream,
            unread,
            walk: Walk::new(bounds),
            violation: None,
            gathered: Vec::new(),
            sent: 0,
            tally: Tally::default(),
            endings: Vec::new(),
            limits,
            wait: Wait::Opening,
            reading,
            writing: Progress::in_steps(deadlines, HIDDEN),
            counting,
            written: 0,
            kernel_told: false,
            lingering: None,
        }));
        (Self(Rc::clone(&inside)), Io(inside))
    }

    /// What the client did that ends the connection.
    pub(super) fn violation(&self) -> Option<Violation> {
        self.0.borrow().violation
    }

    /// How many requests the client has taken back so far.
    pub(super) fn client_resets(&self) -> u64 {
        self.0.borrow().walk.resets()
    }

    /// Hands over every RST_STREAM and GOAWAY that went out since the last time.
    pub(super) fn endings(&self, on: impl FnMut(Ending)) {
        let mut inside = self.0.borrow_mut();
        if !inside.endings.is_empty() {
            inside.endings.drain(..).for_each(on);
        }
    }

    /// Sends what was gathered, as far as the socket takes it.
    pub(super) fn send(&self, cx: &mut Context<'_>) -> io::Result<()> {
        let mut inside = self.0.borrow_mut();
        match inside.send(cx) {
            Poll::Ready(result) => result?,
            Poll::Pending => inside.stalled(cx),
        }
        Ok(())
    }

    /// Judges the client's deadlines while `requests` are open; the task is woken when the next passes.
    pub(super) fn judge(&self, cx: &Context<'_>, requests: bool) -> Result<(), Late> {
        self.0.borrow_mut().judge(cx, requests)
    }
}

impl Inside {
    fn judge(&mut self, cx: &Context<'_>, requests: bool) -> Result<(), Late> {
        let wait = match self.walk.open_block() {
            _ if !self.walk.is_settled() => Wait::Opening,
            Some(block) => Wait::Block(block),
            None if requests => Wait::Nothing,
            None => Wait::Request,
        };
        if wait != self.wait {
            self.wait = wait;
            match wait {
                Wait::Opening | Wait::Block(_) => self.reading.arm(self.limits.header),
                Wait::Request => {
                    self.reading.arm(self.limits.idle);
                    // What is left is not needed for long: most connections are idle most of the time.
                    if self.gathered.is_empty() {
                        self.gathered = Vec::new();
                    }
                }
                Wait::Nothing => self.reading.disarm(),
            }
        }
        if self.reading.poll(cx).is_ready() {
            return Err(match wait {
                Wait::Request => Late::Idle,
                _ => Late::Cut(CloseReason::HeaderTimeout),
            });
        }
        if self.counting.is_expired() {
            self.walk.next_window();
            self.counting.disarm();
        }
        if self.writing.is_waiting() && self.poll_reader(cx).is_ready() {
            return Err(Late::Cut(CloseReason::SlowReader));
        }
        Ok(())
    }

    /// Ready when the client takes too little of what there is for it.
    fn poll_reader(&self, cx: &Context<'_>) -> Poll<()> {
        let (window, least) = (self.limits.write_window, self.limits.least_written);
        self.writing.poll(cx, self.taken(), window, least)
    }

    fn taken(&self) -> u64 {
        self.written.saturating_sub(self.stream.unsent() as u64)
    }

    fn stalled(&mut self, cx: &Context<'_>) {
        if !std::mem::replace(&mut self.kernel_told, true) {
            self.stream.give_up_after(self.limits.silence());
        }
        // For the wake-up only, and `judge` looks at it: what is too late stays so.
        let _expired = self.poll_reader(cx);
    }

    fn wrote(&mut self, count: usize) {
        self.written += count as u64;
        self.walk.sent(count);
    }

    /// Ready when everything is with the socket and the socket has flushed.
    fn send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self
            .gathered
            .get(self.sent..)
            .filter(|rest| !rest.is_empty())
        {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += count;
            self.wrote(count);
        }
        self.gathered.clear();
        self.sent = 0;
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        if self.writing.is_waiting() {
            self.writing.rest();
        }
        Poll::Ready(Ok(()))
    }

    /// Makes room for `length` more bytes; whether they are to be gathered.
    fn make_room(&mut self, cx: &mut Context<'_>, length: usize) -> Poll<io::Result<bool>> {
        if self.gathered.len() + length > GATHERED
            && !self.gathered.is_empty()
            && self.send(cx)?.is_pending()
        {
            self.stalled(cx);
            return Poll::Pending;
        }
        Poll::Ready(Ok(length < LARGE || !self.gathered.is_empty()))
    }

    fn read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.violation.is_some() {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        if self.unread.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        } else {
            let count = self.unread.len().min(buf.remaining());
            buf.put_slice(&self.unread.split_to(count));
        }
        if !self.counting.is_armed() {
            self.counting.arm(WINDOW);
        }
        let new = buf.filled().get(before..).unwrap_or_default();
        if let Err((good, violation)) = self.walk.take(new) {
            self.violation = Some(violation);
            buf.set_filled(before + good);
            if good == 0 {
                // Nothing is to be read any more; the task looks at the violation when h2 has
                // handled what came before.
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Throws away what the client still sends, until it closes or there was enough of it.
    fn linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
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

    fn shut_down(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(self.send(cx))?;
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.lingering = Some(LINGER_BYTES);
            self.reading.arm(LINGER);
        }
        self.linger(cx).map(Ok)
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.borrow_mut().read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut inside = self.0.borrow_mut();
        let inside = &mut *inside;
        let length = bufs.iter().map(|buf| buf.len()).sum();
        let count = if ready!(inside.make_room(cx, length))? {
            for buf in bufs {
                inside.gathered.extend_from_slice(buf);
            }
            length
        } else {
            match Pin::new(&mut inside.stream).poll_write_vectored(cx, bufs)? {
                Poll::Ready(count) => {
                    inside.wrote(count);
                    count
                }
                Poll::Pending => {
                    inside.stalled(cx);
                    return Poll::Pending;
                }
            }
        };
        let mut left = count;
        for buf in bufs {
            let taken = buf.get(..left.min(buf.len())).unwrap_or_default();
            left -= taken.len();
            let endings = &mut inside.endings;
            inside.tally.take(taken, |ending| endings.push(ending));
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing leaves before the task says `send`.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().shut_down(cx)
    }
}
