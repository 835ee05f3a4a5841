//! The PROXY protocol header at the start of a connection from a trusted proxy.
//!
//! `accept` calls it before TLS and HTTP; what came behind the header goes back to the socket, where
//! they find it. Invariant: nothing more is read once the header is whole or refused, and there is a
//! bound to its length and to its time.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead as _, ReadBuf};

use crate::metrics::CloseReason;
use crate::net::deadline::Timer;
use crate::net::proxy_protocol::{self, Header, HeaderFault, LONGEST};
use crate::net::socket::Socket;

use super::drain::Drain;

/// What is read at once; a header rarely has more.
const PIECE: usize = 512;

/// Why there is no header.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoHeader {
    /// What came is none.
    #[error(transparent)]
    Fault(#[from] HeaderFault),
    /// The connection ended, or the worker is draining.
    #[error("the connection ended before its PROXY protocol header was whole")]
    Ended(CloseReason),
}

impl NoHeader {
    /// As it is counted.
    pub(super) fn reason(&self) -> CloseReason {
        match self {
            Self::Fault(_) => CloseReason::ProxyHeader,
            Self::Ended(reason) => *reason,
        }
    }
}

/// Reads the header, until `timer` fires at most.
pub(super) async fn read(
    socket: &mut Socket,
    timer: &Timer,
    drain: &Drain,
) -> Result<Header, NoHeader> {
    let mut came = BytesMut::new();
    loop {
        if let Some((header, length)) = proxy_protocol::parse(&came)? {
            let behind = came.split_off(length.min(came.len()));
            socket.put_back(behind.freeze());
            return Ok(header);
        }
        // At `LONGEST` bytes there is a result, so there is room for more.
        let room = PIECE.min(LONGEST.saturating_sub(came.len()));
        let next = poll_fn(|cx| some(socket, &mut came, room, cx, timer, drain));
        next.await.map_err(NoHeader::Ended)?;
    }
}

/// Reads at most `room` bytes.
fn some(
    socket: &mut Socket,
    came: &mut BytesMut,
    room: usize,
    cx: &mut Context<'_>,
    timer: &Timer,
    drain: &Drain,
) -> Poll<Result<(), CloseReason>> {
    let mut piece = [0; PIECE];
    let (piece, _) = piece.split_at_mut(room);
    let mut piece = ReadBuf::new(piece);
    Poll::Ready(match Pin::new(socket).poll_read(cx, &mut piece) {
        Poll::Ready(Ok(())) if piece.filled().is_empty() => Err(CloseReason::Client),
        Poll::Ready(Ok(())) => {
            came.extend_from_slice(piece.filled());
            Ok(())
        }
        Poll::Ready(Err(_)) => Err(CloseReason::Io),
        Poll::Pending if timer.poll(cx).is_ready() => Err(CloseReason::ProxyHeaderTimeout),
        Poll::Pending if drain.is_draining() && came.is_empty() => Err(CloseReason::Drain),
        Poll::Pending => return Poll::Pending,
    })
}
