//! What follows a request's head, as the handler reads it.
//!
//! Reads from the connection itself when it is polled and not before, which is the back-pressure.
//! Invariant: it reads the bytes of its own request only; once that is over, it is broken.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::body::BodyFault;

use super::conn::{Conn, Tunnel};

/// The body of the request in hand, or what its client sends once a tunnel is open.
#[derive(Debug)]
pub(super) struct Following {
    conn: Rc<Conn>,
    serial: u64,
    tunnel: bool,
}

impl Following {
    /// Of the request that `conn` has in hand.
    pub(super) fn new(conn: &Rc<Conn>, tunnel: bool) -> Self {
        Self {
            serial: conn.serial.get(),
            conn: Rc::clone(conn),
            tunnel,
        }
    }

    fn is_current(&self) -> bool {
        self.serial == self.conn.serial.get()
    }
}

impl Body for Following {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        if !self.is_current() {
            return Poll::Ready(Some(Err(BodyFault::Incomplete)));
        }
        let mut io = self.conn.io.borrow_mut();
        if self.tunnel && !matches!(io.tunnel, Tunnel::Open) {
            io.tunnel = Tunnel::Awaited(cx.waker().clone());
            return Poll::Pending;
        }
        let polled = io.poll_body(cx);
        if self.tunnel && polled.is_pending() {
            self.conn.tunnel_reader.replace(Some(cx.waker().clone()));
        }
        polled
    }

    /// A tunnel that is not open has nothing to read, and never may have.
    fn is_end_stream(&self) -> bool {
        !self.is_current() || {
            let io = self.conn.io.borrow();
            io.fault.is_none() && io.decoder.is_end()
        }
    }

    fn size_hint(&self) -> SizeHint {
        let decoder = &self.conn.io.borrow().decoder;
        match decoder.left() {
            Some(left) => SizeHint::with_exact(left),
            None => {
                let mut hint = SizeHint::default();
                hint.set_lower(decoder.announced());
                hint
            }
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        if self.is_current() {
            self.conn.body_gone.set(true);
            if let Some(waker) = self.conn.awaits_gone.take() {
                waker.wake();
            }
        }
    }
}
