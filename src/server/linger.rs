//! Listening on after the last word.
//!
//! A socket that is closed with unread bytes is reset by the kernel, and what was written is lost on its
//! way. So whoever has said the last word to a client that may still be sending throws away what it
//! sends, for a time that is the caller's to bound. Invariant: no more than so many bytes are taken.

use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

/// Bytes that may still be thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Linger(usize);

impl Linger {
    /// For so many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        Self(bytes)
    }

    /// Throws away what has come; ready when the client has closed, or has sent enough.
    pub(super) fn poll<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<()> {
        let mut space = [MaybeUninit::uninit(); 4096];
        while self.0 > 0 {
            let mut buffer = ReadBuf::uninit(&mut space);
            match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.0 = self.0.saturating_sub(buffer.filled().len());
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn it_ends_with_the_client_or_with_its_bytes() {
        let mut cx = Context::from_waker(Waker::noop());
        let mut sent = &[0_u8; 10_000][..];
        assert!(Linger::new(100_000).poll(&mut cx, &mut sent).is_ready());
        assert!(sent.is_empty(), "all was thrown away");
        let mut endless = tokio::io::repeat(0);
        assert!(Linger::new(100_000).poll(&mut cx, &mut endless).is_ready());
        let (_silent, mut stream) = tokio::io::duplex(8);
        assert!(Linger::new(1).poll(&mut cx, &mut stream).is_pending());
    }
}
