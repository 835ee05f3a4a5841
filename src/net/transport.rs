//! A connected socket, whichever family it is of.
//!
//! `dial` and `listen` make them; `socket` splits one to gather its writes, `health::probe` uses one
//! whole. An enum of two: TCP, which nearly every peer speaks, stays the predictable branch.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
#[cfg(target_os = "linux")]
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream, tcp, unix};

/// A connected stream socket.
#[derive(Debug)]
pub enum Transport {
    /// TCP over IPv4 or IPv6.
    Tcp(TcpStream),
    /// A Unix socket of this host.
    Unix(UnixStream),
}

impl From<TcpStream> for Transport {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl From<UnixStream> for Transport {
    fn from(stream: UnixStream) -> Self {
        Self::Unix(stream)
    }
}

impl Transport {
    pub(super) fn into_split(self) -> (ReadHalf, WriteHalf) {
        match self {
            Self::Tcp(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::Tcp(read), WriteHalf::Tcp(write))
            }
            Self::Unix(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::Unix(read), WriteHalf::Unix(write))
            }
        }
    }
}

/// Whether a socket takes more at this moment. What the runtime knows is when it last began or ceased to.
fn has_room(socket: impl AsFd) -> io::Result<()> {
    let mut sockets = [PollFd::new(&socket, PollFlags::OUT)];
    match poll(&mut sockets, Some(&Timespec::default())) {
        Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
        // Whoever writes finds out.
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[derive(Debug)]
pub(super) enum ReadHalf {
    Tcp(tcp::OwnedReadHalf),
    Unix(unix::OwnedReadHalf),
}

#[derive(Debug)]
pub(super) enum WriteHalf {
    Tcp(tcp::OwnedWriteHalf),
    Unix(unix::OwnedWriteHalf),
}

impl ReadHalf {
    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(half) => half.as_ref().poll_read_ready(cx),
            Self::Unix(half) => half.as_ref().poll_read_ready(cx),
        }
    }

    pub(super) fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(half) => half.try_read(buf),
            Self::Unix(half) => half.try_read(buf),
        }
    }
}

impl WriteHalf {
    /// Lets go of the connection without the end of stream that dropping would send; the rest of it,
    /// when dropped, resets it where the family knows of that.
    pub(super) fn abort(self) {
        match self {
            Self::Tcp(half) => {
                // A socket that is gone already has nothing left to pretend.
                let _told = half.as_ref().set_zero_linger();
                half.forget();
            }
            Self::Unix(half) => half.forget(),
        }
    }

    /// Has the kernel break a connection off on which nothing could be sent for so long.
    pub(super) fn give_up_after(&self, time: Duration) {
        #[cfg(target_os = "linux")]
        if let Self::Tcp(half) = self {
            // Where it is gone already there is nothing to give up.
            let _told = SockRef::from(half.as_ref()).set_tcp_user_timeout(Some(time));
        }
    }

    /// Ready when the kernel would take more at once; an error shows itself to whoever writes. Costs a system
    /// call.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let room = match self {
                Self::Tcp(half) => {
                    let stream = half.as_ref();
                    ready!(stream.poll_write_ready(cx))?;
                    stream.try_io(Interest::WRITABLE, || has_room(stream))
                }
                Self::Unix(half) => {
                    let stream = half.as_ref();
                    ready!(stream.poll_write_ready(cx))?;
                    stream.try_io(Interest::WRITABLE, || has_room(stream))
                }
            };
            match room {
                // From now on it is not ready before the kernel says so.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(half) => half.try_write(bytes),
            Self::Unix(half) => half.try_write(bytes),
        }
    }
}

impl AsyncRead for ReadHalf {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(half) => Pin::new(half).poll_read(cx, buf),
            Self::Unix(half) => Pin::new(half).poll_read(cx, buf),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

/// Both write alike, each in its own words.
macro_rules! writes {
    ($type:ident) => {
        impl AsyncWrite for $type {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::Tcp(it) => Pin::new(it).poll_write(cx, buf),
                    Self::Unix(it) => Pin::new(it).poll_write(cx, buf),
                }
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::Tcp(it) => Pin::new(it).poll_write_vectored(cx, bufs),
                    Self::Unix(it) => Pin::new(it).poll_write_vectored(cx, bufs),
                }
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Tcp(it) => Pin::new(it).poll_flush(cx),
                    Self::Unix(it) => Pin::new(it).poll_flush(cx),
                }
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Tcp(it) => Pin::new(it).poll_shutdown(cx),
                    Self::Unix(it) => Pin::new(it).poll_shutdown(cx),
                }
            }
        }
    };
}

writes!(Transport);
writes!(WriteHalf);
