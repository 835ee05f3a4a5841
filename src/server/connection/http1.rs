//! The requests of an HTTP/1.1 connection, one after the other.
//!
//! Heads are read into the worker's scratch buffer, so that a connection that waits holds none of its
//! own; what is left over there is kept. `exchange` does what lies between a head and the next one.
//! A connection whose next request is not near is laid to rest: the state of its requests is dropped
//! and it waits on its bare socket. Invariant: requests are answered in their order, one at a time,
//! and after a fault nothing more is read as a request.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Buf as _;

use tokio::io::ReadBuf;

use crate::http1::{Expect, Limits, RequestHead, RequestParser};
use crate::metrics::CloseReason;
use crate::net::stream::Stream;
use crate::server::guard::{Guard, LINGER, Watch};
use crate::wire::{Fault, Handler, Peer};

use super::Shared;
use super::conn::{Conn, Io};
use super::early::Hints;
use super::exchange::After;

/// Room that is made for the rest of a head.
const HEAD_ROOM: usize = 2 * 1024;

/// What came instead of a head, or a head.
enum Next {
    Head(RequestHead),
    Fault(Fault),
    /// Nothing has come for a while.
    Idle,
    Ended(CloseReason),
}

/// How a stretch of requests ended.
pub(super) enum Turn {
    /// With the connection.
    Ended(CloseReason),
    /// Nothing has come for a while.
    Idle,
}

/// The requests of a stretch.
pub(super) struct Stretch<'a> {
    pub(super) conn: &'a Rc<Conn>,
    pub(super) peer: &'a Rc<Peer>,
    /// Takes informational answers; made once for all requests that leave none of it behind.
    pub(super) hints: Rc<Hints>,
}

impl<H: Handler> Shared<H> {
    /// Speaks HTTP/1.1 until the connection ends. `unread` came from it already.
    pub(super) async fn http1(
        &self,
        stream: Stream,
        unread: &[u8],
        peer: &Rc<Peer>,
        watch: &Rc<Watch>,
    ) -> CloseReason {
        let conn = Conn::new(Guard::new(stream, watch), watch);
        conn.io.borrow_mut().read.extend_from_slice(unread);
        loop {
            // Boxed, so that a connection at rest does not keep room for it.
            match Box::pin(self.converse(&conn, peer)).await {
                Turn::Ended(reason) => return reason,
                Turn::Idle => conn.io.borrow_mut().rest(),
            }
            if let Err(reason) = self.rest(&conn).await {
                return reason;
            }
        }
    }

    /// One stretch of requests.
    pub(super) async fn converse(&self, conn: &Rc<Conn>, peer: &Rc<Peer>) -> Turn {
        let mut parser = RequestParser::default();
        let mut stretch = Stretch {
            conn,
            peer,
            hints: Rc::default(),
        };
        loop {
            let after = match self.next(conn, &mut parser).await {
                Next::Head(head) if head.expect == Expect::Unknown => {
                    self.refuse(&stretch, Fault::Expectation).await
                }
                Next::Head(head) => self.exchange(&mut stretch, head).await,
                Next::Fault(fault) => self.refuse(&stretch, fault).await,
                Next::Idle => return Turn::Idle,
                Next::Ended(reason) => {
                    let says_so = !matches!(reason, CloseReason::Io | CloseReason::SlowReader);
                    After::closing(reason, says_so, false)
                }
            };
            match after {
                After::Next => conn.end(),
                After::Close { reason, lingers } => {
                    close(conn, lingers).await;
                    return Turn::Ended(reason);
                }
                After::Cut(reason) => return Turn::Ended(reason),
            }
        }
    }

    /// Waits for the next head.
    async fn next(&self, conn: &Conn, parser: &mut RequestParser) -> Next {
        let mut unparsed = !conn.io.borrow().read.is_empty();
        if unparsed {
            // A part of the next head is here already: its time runs.
            conn.watch.head_begins();
        }
        let mut looked = false;
        poll_fn(|cx| {
            let mut io = conn.io.borrow_mut();
            let limits = &conn.watch.limits().heads;
            let result = self.poll_next(cx, &mut io, parser, limits, &mut unparsed);
            match result {
                Poll::Ready(Ok(next)) => Poll::Ready(next),
                Poll::Ready(Err(_)) => Poll::Ready(match conn.failed() {
                    CloseReason::HeaderTimeout if !io.read.is_empty() => {
                        Next::Fault(Fault::Timeout)
                    }
                    reason => Next::Ended(reason),
                }),
                Poll::Pending if !io.read.is_empty() => Poll::Pending,
                Poll::Pending if self.drain.is_draining() => {
                    if looked {
                        return Poll::Ready(Next::Ended(CloseReason::Drain));
                    }
                    // A connection that was made a moment ago is looked at once more: its socket
                    // has had no time to say that a request is here.
                    looked = true;
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                Poll::Pending if conn.watch.may_rest() && io.is_flushed() => {
                    Poll::Ready(Next::Idle)
                }
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    fn poll_next(
        &self,
        cx: &mut Context<'_>,
        io: &mut Io,
        parser: &mut RequestParser,
        limits: &Limits,
        unparsed: &mut bool,
    ) -> Poll<io::Result<Next>> {
        // What the last answer left behind, if the client is slow to take it.
        if let Poll::Ready(Err(error)) = io.poll_flush(cx) {
            return Poll::Ready(Err(error));
        }
        loop {
            if std::mem::take(unparsed) {
                match parser.parse(&io.read, limits) {
                    Ok(Some((head, length))) => {
                        io.read.advance(length);
                        return Poll::Ready(Ok(Next::Head(head)));
                    }
                    Ok(None) => {}
                    Err(fault) => return Poll::Ready(Ok(Next::Fault(fault))),
                }
            }
            if io.eof {
                return Poll::Ready(Ok(Next::Ended(CloseReason::Client)));
            }
            if !io.read.is_empty() {
                io.read.reserve(HEAD_ROOM);
                let Io { guard, read, .. } = io;
                io.eof = ready!(guard.poll_fill(cx, read))? == 0;
                *unparsed = !io.eof;
                continue;
            }
            let mut scratch = self.scratch.borrow_mut();
            let mut buffer = ReadBuf::new(&mut scratch);
            let _count = ready!(io.guard.poll_read(cx, &mut buffer))?;
            let come = buffer.filled();
            io.eof = come.is_empty();
            match parser.parse(come, limits) {
                Ok(Some((head, length))) => {
                    io.read
                        .extend_from_slice(come.get(length..).unwrap_or_default());
                    return Poll::Ready(Ok(Next::Head(head)));
                }
                Ok(None) => io.read.extend_from_slice(come),
                Err(fault) => return Poll::Ready(Ok(Next::Fault(fault))),
            }
        }
    }

    /// Waits for the next request with nothing but the socket.
    async fn rest(&self, conn: &Conn) -> Result<(), CloseReason> {
        let woken = poll_fn(|cx| {
            // First: a request that is here already is answered, also while draining.
            if conn
                .io
                .borrow_mut()
                .guard
                .stream()
                .poll_readable(cx)
                .is_ready()
            {
                return Poll::Ready(Ok(()));
            }
            if self.drain.is_draining() {
                return Poll::Ready(Err(CloseReason::Drain));
            }
            let over = conn.watch.poll_deadline(cx);
            over.map(|_error| Err(conn.watch.ended().unwrap_or(CloseReason::IdleTimeout)))
        })
        .await;
        if woken.is_err() {
            // A last word (TLS has one), as far as it can be said at once.
            let mut nobody = Context::from_waker(Waker::noop());
            let _said = conn.io.borrow_mut().guard.poll_shutdown(&mut nobody);
        }
        woken
    }
}

/// Closes so that the client can read what it was sent.
async fn close(conn: &Conn, lingers: bool) {
    conn.watch.closes_within(LINGER);
    poll_fn(|cx| conn.io.borrow_mut().guard.poll_close(cx, lingers)).await;
}
