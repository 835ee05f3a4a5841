//! A connected byte stream, plain or encrypted.
//!
//! `listen`/`tls` make them for `server`, `dial` for `upstream` and `health`. One enum instead of a
//! boxed trait object: the plain case, which is nearly every upstream, costs one predictable
//! branch.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{client, server};

use super::socket::Socket;

/// A connected stream.
#[derive(Debug)]
pub enum Stream {
    /// As it is.
    Plain(Socket),
    /// TLS over it, we being the server.
    Tls(Box<server::TlsStream<Socket>>),
    /// TLS over it, we being the client.
    TlsClient(Box<client::TlsStream<Socket>>),
}

impl Stream {
    /// Bytes that were written here and that the kernel has not taken yet.
    #[must_use]
    pub fn unsent(&self) -> usize {
        match self {
            Self::Plain(socket) => socket.unsent(),
            Self::Tls(stream) => stream.get_ref().0.unsent(),
            Self::TlsClient(stream) => stream.get_ref().0.unsent(),
        }
    }
}

impl Stream {
    /// Has the kernel break the connection off when nothing could be sent for so long.
    pub fn give_up_after(&self, time: Duration) {
        match self {
            Self::Plain(socket) => socket.give_up_after(time),
            Self::Tls(stream) => stream.get_ref().0.give_up_after(time),
            Self::TlsClient(stream) => stream.get_ref().0.give_up_after(time),
        }
    }

    /// Ready when the kernel would take more at once; costs a system call.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => socket.poll_room(cx),
            Self::Tls(stream) => stream.get_ref().0.poll_room(cx),
            Self::TlsClient(stream) => stream.get_ref().0.poll_room(cx),
        }
    }

    /// Breaks the connection, so that what came before cannot be taken for all there is. TLS says by
    /// itself when it was not closed.
    pub fn abort(&self) {
        if let Self::Plain(socket) = self {
            socket.abort();
        }
    }

    /// Lets go of the task that wrote last.
    pub fn forget_task(&self) {
        match self {
            Self::Plain(socket) => socket.forget_task(),
            Self::Tls(stream) => stream.get_ref().0.forget_task(),
            Self::TlsClient(stream) => stream.get_ref().0.forget_task(),
        }
    }

    /// What was agreed on by ALPN, if anything was.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol(),
            Self::TlsClient(stream) => stream.get_ref().1.alpn_protocol(),
        }
    }

    /// Reads what has come, without anybody to be woken when more does: for connections that nobody
    /// waits for.
    ///
    /// # Errors
    /// `WouldBlock` when nothing has come; what the kernel or TLS says otherwise.
    pub fn try_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if let Self::Plain(socket) = self {
            return socket.try_read(buf);
        }
        let mut nobody = Context::from_waker(Waker::noop());
        let mut buf = ReadBuf::new(buf);
        match Pin::new(self).poll_read(&mut nobody, &mut buf) {
            Poll::Ready(result) => result.map(|()| buf.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Ready when there is something to read, or nothing more will come.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Plain(socket) => socket.poll_readable(cx),
            Self::Tls(stream) => stream.get_ref().0.poll_readable(cx),
            Self::TlsClient(stream) => stream.get_ref().0.poll_readable(cx),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::TlsClient(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::TlsClient(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::TlsClient(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::TlsClient(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::TlsClient(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::TlsClient(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
