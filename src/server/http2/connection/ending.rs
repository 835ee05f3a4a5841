//! How a connection ends: by a drain, a limit, a violation or a client that is late or leaves.
//!
//! Invariant: from the moment that it was told to, it ends when its open streams have, and at once if
//! it must; the last frames have one deadline.

use std::future::Future;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Response;
use tokio::time::Instant;

use crate::body::Inbound;
use crate::http2::Code;
use crate::http2::session::{Flood, Violation};
use crate::metrics::{CloseReason, Http2Flood};
use crate::wire::{Answering, Early, Handler, Head};

use super::Connection;

/// How long a client has to acknowledge a GOAWAY, or to take the last one.
const LAST_WORD: Duration = Duration::from_secs(1);

impl<H, F, M> Connection<'_, H, F, M>
where
    H: Handler,
    F: Future<Output = Response<H::Body>>,
    M: Fn((Head, Inbound), Instant, Rc<dyn Early>) -> Answering<H::Body, F>,
{
    pub(super) fn violated(
        &mut self,
        cx: &mut Context<'_>,
        violation: Violation,
    ) -> Poll<CloseReason> {
        tracing::debug!(client = %self.peer.address, what = violation.what, "HTTP/2 violation");
        let reason = match violation.flood {
            Some(flood) => {
                self.cells.http2_flood(flood_label(flood));
                CloseReason::Flood
            }
            None => CloseReason::Malformed,
        };
        self.end(cx, violation.code, reason)
    }

    /// No new streams, please.
    pub(super) fn leave(&mut self, reason: CloseReason) {
        if self.leaving.is_none() {
            self.leaving = Some(reason);
            self.common.line.session.borrow_mut().warn();
            self.cells.http2_goaway(Code::No as u32);
            self.last_word.arm(LAST_WORD);
        }
    }

    /// Whether somebody who was to leave has left.
    pub(super) fn take_leave(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        let mut session = self.common.line.session.borrow_mut();
        if self.last_word.is_armed() && (session.is_heard() || self.last_word.poll(cx).is_ready()) {
            // It knows, or had the time to: streams that come from now on are not looked at.
            self.last_word.disarm();
            session.close();
            self.cells.http2_goaway(Code::No as u32);
            drop(session);
            if self.send(cx).is_err() {
                return Poll::Ready(CloseReason::Io);
            }
        } else {
            drop(session);
        }
        let told = self.leaving.is_some() && !self.last_word.is_armed();
        let left = self.common.line.session.borrow().is_left();
        if self.busy > 0 || !(told || left) {
            return Poll::Pending;
        }
        let reason = self.leaving.unwrap_or(CloseReason::Client);
        if told {
            // It was said already.
            self.begin_to_close(cx, reason)
        } else {
            self.end(cx, Code::No, reason)
        }
    }

    /// It ends here, whatever is open.
    pub(super) fn end(
        &mut self,
        cx: &mut Context<'_>,
        code: Code,
        reason: CloseReason,
    ) -> Poll<CloseReason> {
        self.common.line.session.borrow_mut().end(code);
        self.cells.http2_goaway(code as u32);
        // Their handlers go with them, and so do their exchanges with endpoints.
        self.exchanges.clear();
        self.busy = 0;
        self.begin_to_close(cx, reason)
    }

    fn begin_to_close(&mut self, cx: &mut Context<'_>, reason: CloseReason) -> Poll<CloseReason> {
        self.ending = Some(reason);
        self.last_word.arm(LAST_WORD);
        self.close(cx).map(|()| reason)
    }

    pub(super) fn close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut session = self.common.line.session.borrow_mut();
        match self.lane.close(cx, &mut session) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => self.last_word.poll(cx),
        }
    }
}

fn flood_label(flood: Flood) -> Http2Flood {
    match flood {
        Flood::Reset => Http2Flood::Reset,
        Flood::ProvokedReset => Http2Flood::ProvokedReset,
        Flood::Ping => Http2Flood::Ping,
        Flood::Settings => Http2Flood::Settings,
        Flood::Priority => Http2Flood::Priority,
        Flood::WindowUpdate => Http2Flood::WindowUpdate,
        Flood::EmptyData => Http2Flood::SmallData,
        Flood::Continuation => Http2Flood::Continuation,
        Flood::Fields => Http2Flood::Fields,
        Flood::Unknown => Http2Flood::Unknown,
    }
}
