//! What is left when an answer has been sent: the rest of a body that nobody read, or the client's half
//! of a tunnel.
//!
//! `exchange` calls it last. Invariant: it ends by itself, after so many bytes or so much time.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use http_body::Body;

use crate::server::guard::LINGER;

use super::conn::Conn;

/// The longest rest of a body that is read to keep the connection.
pub(super) const DRAINED: u64 = 64 * 1024;

/// Throws away what is left of a short body; false if there is more to it.
pub(super) async fn drain_body(conn: &Conn) -> bool {
    conn.watch.closes_within(LINGER);
    let mut left = DRAINED;
    poll_fn(|cx| {
        let mut io = conn.io.borrow_mut();
        loop {
            let Poll::Ready(frame) = io.poll_body(cx) else {
                return conn.watch.poll_closing(cx).map(|()| false);
            };
            match frame {
                None => return Poll::Ready(true),
                Some(Err(_)) => return Poll::Ready(false),
                Some(Ok(frame)) => {
                    let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                    let Some(rest) = left.checked_sub(length) else {
                        return Poll::Ready(false);
                    };
                    left = rest;
                }
            }
        }
    })
    .await
}

/// Our side of a tunnel is at its end: passes that on, and lets the client finish. The body is polled
/// on, since it may be what carries the client's bytes away.
pub(super) async fn finish_tunnel<B: Body<Data = Bytes> + Unpin>(conn: &Conn, mut body: B) {
    let idle = conn.watch.limits().idle;
    conn.watch.closes_within(idle);
    let mut is_shut = false;
    let mut come = conn.io.borrow().come;
    poll_fn(|cx| {
        if !is_shut {
            match conn.io.borrow_mut().guard.poll_shutdown(cx) {
                Poll::Ready(Ok(())) => is_shut = true,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
        }
        if conn.io.borrow().decoder.is_end() || conn.body_gone.get() {
            return if is_shut {
                Poll::Ready(())
            } else {
                conn.watch.poll_closing(cx)
            };
        }
        conn.awaits_gone.replace(Some(cx.waker().clone()));
        let ended = matches!(
            Pin::new(&mut body).poll_frame(cx),
            Poll::Ready(Some(Err(_)))
        );
        let io = conn.io.borrow();
        if io.come != come {
            come = io.come;
            conn.watch.closes_within(idle);
        }
        if ended || io.fault.is_some() {
            return Poll::Ready(());
        }
        drop(io);
        if is_shut && (conn.io.borrow().decoder.is_end() || conn.body_gone.get()) {
            return Poll::Ready(());
        }
        conn.watch.poll_closing(cx)
    })
    .await;
    conn.end_tunnel();
}
