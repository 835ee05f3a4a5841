//! A connection whose small writes leave in batches.
//!
//! A worker that wakes up finds many connections ready at once. Writing each answer as it is made
//! wakes the peer's process for every one of them; so small messages are first gathered here, and
//! `Batch::run`, a task of each worker, sends them when every connection that was ready has had its
//! turn: one `send` per connection, all of them in a row. Large messages are written directly.
//! Used by `server` and `upstream` alike; TLS lies on top of it. Invariant: bytes leave in the order
//! in which they were written, and at most `LARGEST` of them wait; when the kernel takes no more,
//! the connection's own task is woken to wait for it, which holds the writer back as usual. A flush is
//! done when the batch has the bytes: whoever wrote flushes again when it is woken, until `unsent` is 0.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::transport::{ReadHalf, Transport, WriteHalf};

/// Messages up to this size are gathered.
const SMALL: usize = 4 * 1024;
/// Most bytes that wait for the next batch.
const LARGEST: usize = 16 * 1024;
/// Buffers that a worker keeps for the next batch.
const SPARE: usize = 256;

/// The connections of a worker that have something to send.
#[derive(Debug, Default)]
pub struct Batch {
    dirty: RefCell<Vec<Rc<Outbox>>>,
    spare: RefCell<Vec<Vec<u8>>>,
    runner: RefCell<Option<Waker>>,
}

impl Batch {
    /// An empty batch; nothing leaves until `run` is polled.
    #[must_use]
    pub fn new() -> Rc<Self> {
        Rc::default()
    }

    /// Sends what was gathered, each time the tasks that were ready have run. Never ends.
    pub async fn run(self: Rc<Self>) {
        let mut sending = Vec::new();
        std::future::poll_fn(|cx| {
            let mut runner = self.runner.borrow_mut();
            if runner.is_none() {
                *runner = Some(cx.waker().clone());
            }
            drop(runner);
            // Writing can make nothing dirty: it only wakes.
            std::mem::swap(&mut sending, &mut *self.dirty.borrow_mut());
            for outbox in sending.drain(..) {
                outbox.send(self.as_ref());
            }
            Poll::<()>::Pending
        })
        .await;
    }

    fn add(&self, outbox: &Rc<Outbox>) {
        let mut dirty = self.dirty.borrow_mut();
        // The first one wakes the runner, which then queues behind every task that is ready now.
        if dirty.is_empty()
            && let Some(runner) = &*self.runner.borrow()
        {
            runner.wake_by_ref();
        }
        dirty.push(Rc::clone(outbox));
    }

    fn buffer(&self) -> Vec<u8> {
        self.spare
            .borrow_mut()
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(SMALL))
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        let mut spare = self.spare.borrow_mut();
        if spare.len() < SPARE && buffer.capacity() > 0 {
            buffer.clear();
            spare.push(buffer);
        }
    }
}

/// What is to be sent on one connection.
#[derive(Debug)]
struct Outbox {
    /// None once the connection was aborted; `failure` says so.
    stream: RefCell<Option<WriteHalf>>,
    pending: RefCell<Pending>,
    queued: Cell<bool>,
    failure: Cell<Option<io::ErrorKind>>,
}

#[derive(Debug, Default)]
struct Pending {
    bytes: Vec<u8>,
    /// How many of them are sent.
    sent: usize,
    /// The connection's task, to be woken when the batch could not send everything.
    waker: Option<Waker>,
}

impl Pending {
    fn unsent(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }
}

impl Outbox {
    /// Sends as much as the kernel takes. What is left, or a failure, is for the connection's task.
    fn send(&self, batch: &Batch) {
        self.queued.set(false);
        let mut pending = self.pending.borrow_mut();
        if pending.unsent().is_empty() {
            return;
        }
        let stream = self.stream.borrow();
        let Some(stream) = &*stream else { return };
        match stream.try_write(pending.unsent()) {
            Ok(count) => {
                pending.sent += count;
                if pending.unsent().is_empty() {
                    // The waker stays: nearly always the same task writes next.
                    batch.give_back(std::mem::take(&mut pending.bytes));
                    pending.sent = 0;
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => self.failure.set(Some(error.kind())),
        }
        if let Some(waker) = pending.waker.take() {
            waker.wake();
        }
    }

    /// What `call` makes of the half that is written to.
    fn with<T>(
        &self,
        call: impl FnOnce(Pin<&mut WriteHalf>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match &mut *self.stream.borrow_mut() {
            Some(stream) => call(Pin::new(stream)),
            None => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
        }
    }

    /// Ready when nothing waits any more.
    fn poll_send(&self, cx: &mut Context<'_>, batch: &Batch) -> Poll<io::Result<()>> {
        if let Some(kind) = self.failure.get() {
            return Poll::Ready(Err(kind.into()));
        }
        let mut pending = self.pending.borrow_mut();
        while !pending.unsent().is_empty() {
            let mut stream = self.stream.borrow_mut();
            let stream = stream.as_mut().ok_or(io::ErrorKind::ConnectionAborted)?;
            let count = ready!(Pin::new(stream).poll_write(cx, pending.unsent()))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            pending.sent += count;
        }
        if !pending.bytes.is_empty() {
            batch.give_back(std::mem::take(&mut *pending).bytes);
        }
        Poll::Ready(Ok(()))
    }
}

/// A TCP or Unix connection of one worker.
#[derive(Debug)]
pub struct Socket {
    read: ReadHalf,
    /// What was read and put back, to be read first.
    ahead: RefCell<Bytes>,
    outbox: Rc<Outbox>,
    batch: Rc<Batch>,
}

impl Socket {
    /// Gathers the small writes of `stream` in `batch`.
    #[must_use]
    pub fn new(stream: impl Into<Transport>, batch: &Rc<Batch>) -> Self {
        let (read, write) = stream.into().into_split();
        let outbox = Rc::new(Outbox {
            stream: RefCell::new(Some(write)),
            pending: RefCell::default(),
            queued: Cell::new(false),
            failure: Cell::new(None),
        });
        Self {
            read,
            ahead: RefCell::default(),
            outbox,
            batch: Rc::clone(batch),
        }
    }

    /// Bytes that were written here and that the kernel has not taken yet.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.outbox.pending.borrow().unsent().len()
    }

    /// Ready when the kernel would take more at once. Writing can tell only by leaving a piece here that the
    /// kernel has no room for; this costs a system call.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &*self.outbox.stream.borrow() {
            Some(stream) => stream.poll_room(cx),
            None => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
        }
    }

    /// Has the kernel break the connection off when nothing could be sent for so long.
    pub fn give_up_after(&self, time: Duration) {
        if let Some(stream) = &*self.outbox.stream.borrow() {
            stream.give_up_after(time);
        }
    }

    /// Resets the connection when it is dropped, instead of closing it. Nothing can be written any more.
    pub fn abort(&self) {
        self.outbox
            .failure
            .set(Some(io::ErrorKind::ConnectionAborted));
        if let Some(half) = self.outbox.stream.take() {
            half.abort();
        }
    }

    /// Lets go of the task that wrote last, which may be over long before the connection is.
    pub fn forget_task(&self) {
        self.outbox.pending.borrow_mut().waker = None;
    }

    /// Puts back what was read too much: it is read again, before everything else.
    pub fn put_back(&mut self, bytes: Bytes) {
        debug_assert!(
            self.ahead.get_mut().is_empty(),
            "what is put back is one piece"
        );
        *self.ahead.get_mut() = bytes;
    }

    /// Ready when there is something to read, or nothing more will come.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.ahead.borrow().is_empty() {
            return Poll::Ready(());
        }
        // An error shows itself to whoever reads.
        self.read.poll_read_ready(cx).map(drop)
    }

    /// What can be read at once, into `buf`.
    ///
    /// # Errors
    /// `WouldBlock` when nothing has come; what the kernel says otherwise.
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut ahead = self.ahead.borrow_mut();
        if ahead.is_empty() {
            return self.read.try_read(buf);
        }
        let count = ahead.len().min(buf.len());
        buf[..count].copy_from_slice(&ahead.split_to(count));
        Ok(count)
    }

    /// Whether `length` more bytes are to be gathered; room is made for them first.
    fn poll_gather(&self, cx: &mut Context<'_>, length: usize) -> Poll<io::Result<bool>> {
        if let Some(kind) = self.outbox.failure.get() {
            return Poll::Ready(Err(kind.into()));
        }
        let waiting = self.unsent();
        if waiting > 0
            && (length > SMALL || waiting + length > LARGEST || !self.outbox.queued.get())
        {
            ready!(self.outbox.poll_send(cx, &self.batch))?;
        }
        Poll::Ready(Ok(length <= SMALL))
    }

    fn gather<'a>(&self, cx: &Context<'_>, parts: impl Iterator<Item = &'a [u8]>) -> usize {
        let mut pending = self.outbox.pending.borrow_mut();
        if pending.bytes.capacity() == 0 {
            pending.bytes = self.batch.buffer();
        }
        let before = pending.bytes.len();
        for part in parts {
            pending.bytes.extend_from_slice(part);
        }
        let count = pending.bytes.len() - before;
        if count > 0 {
            // Always, and not only with the first bytes of a batch: what was gathered before may
            // have been another task's.
            if !pending
                .waker
                .as_ref()
                .is_some_and(|waker| waker.will_wake(cx.waker()))
            {
                pending.waker = Some(cx.waker().clone());
            }
            if !self.outbox.queued.replace(true) {
                self.batch.add(&self.outbox);
            }
        }
        count
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let ahead = self.ahead.get_mut();
        if !ahead.is_empty() {
            let count = ahead.len().min(buf.remaining());
            buf.put_slice(&ahead.split_to(count));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.read).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if ready!(self.poll_gather(cx, buf.len()))? {
            return Poll::Ready(Ok(self.gather(cx, std::iter::once(buf))));
        }
        self.outbox.with(|stream| stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = bufs.iter().map(|buf| buf.len()).sum();
        if ready!(self.poll_gather(cx, length))? {
            return Poll::Ready(Ok(self.gather(cx, bufs.iter().map(|buf| &**buf))));
        }
        self.outbox
            .with(|stream| stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(kind) = self.outbox.failure.get() {
            return Poll::Ready(Err(kind.into()));
        }
        if self.outbox.queued.get() {
            // The batch sends it as soon as this task yields.
            return Poll::Ready(Ok(()));
        }
        self.outbox.poll_send(cx, &self.batch)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.outbox.poll_send(cx, &self.batch))?;
        self.outbox.with(|stream| stream.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::LocalSet;

    use super::*;

    async fn pair(batch: &Rc<Batch>) -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
        (Socket::new(client.unwrap(), batch), server.unwrap().0)
    }

    fn with_batch<F: Future>(test: impl FnOnce(Rc<Batch>) -> F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .unwrap();
        let batch = Batch::new();
        let local = LocalSet::new();
        local.spawn_local(Rc::clone(&batch).run());
        local.block_on(&runtime, test(batch))
    }

    #[test]
    fn small_writes_wait_for_the_batch_and_arrive_as_one() {
        with_batch(|batch| async move {
            let (mut socket, mut peer) = pair(&batch).await;
            for piece in ["one ", "two ", "three"] {
                socket.write_all(piece.as_bytes()).await.unwrap();
            }
            assert_eq!(socket.unsent(), 13, "nothing leaves before the task yields");
            let mut buffer = [0; 64];
            let count = peer.read(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..count], b"one two three");
            assert_eq!(socket.unsent(), 0);
        });
    }

    #[test]
    fn what_is_put_back_is_read_first() {
        with_batch(|batch| async move {
            let (mut socket, mut peer) = pair(&batch).await;
            peer.write_all(b"header and more").await.unwrap();
            let mut came = [0; 12];
            socket.read_exact(&mut came).await.unwrap();
            socket.put_back(Bytes::copy_from_slice(&came[6..]));
            std::future::poll_fn(|cx| socket.poll_readable(cx)).await;
            let mut two = [0; 2];
            assert_eq!(socket.try_read(&mut two).unwrap(), 2);
            assert_eq!(&two, b" a");
            let mut rest = [0; 7];
            socket.read_exact(&mut rest).await.unwrap();
            assert_eq!(&rest, b"nd more");
        });
    }

    #[test]
    fn sizes_of_every_kind_arrive_whole_and_in_order_at_a_reader_that_lags() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        with_batch(|batch| async move {
            let (mut socket, mut peer) = pair(&batch).await;
            let messages: Vec<Vec<u8>> = (0..400)
                .map(|index: u32| {
                    let length = match random.u8(..4) {
                        0 => random.usize(1..64),
                        1 => random.usize(1..SMALL * 2),
                        2 => SMALL,
                        _ => random.usize(1..128 * 1024),
                    };
                    vec![u8::try_from(index % 251).unwrap(); length]
                })
                .collect();
            let expected = messages.concat();
            let writing = async {
                for message in &messages {
                    socket.write_all(message).await.unwrap();
                }
                socket.flush().await.unwrap();
                socket.shutdown().await.unwrap();
            };
            let reading = async {
                let mut all = Vec::new();
                peer.read_to_end(&mut all).await.unwrap();
                all
            };
            let ((), all) = tokio::join!(writing, reading);
            assert!(all == expected, "{} of {} bytes", all.len(), expected.len());
        });
    }

    async fn room_ends_and_comes_back(mut socket: Socket, mut peer: impl AsyncRead + Unpin) {
        let room = |socket: &Socket| {
            let mut nobody = Context::from_waker(Waker::noop());
            socket.poll_room(&mut nobody).is_ready()
        };
        let mut written = 0;
        while room(&socket) {
            // Never waits: a part of it is taken at least.
            written += socket.write(&[b'x'; SMALL * 2]).await.unwrap();
            // The runtime looks at what the kernel has to say.
            tokio::task::yield_now().await;
        }
        let reading = async {
            let mut sink = vec![0; 1 << 20];
            let mut read = 0;
            while read < written {
                read += peer.read(&mut sink).await.unwrap();
            }
        };
        let again = std::future::poll_fn(|cx| socket.poll_room(cx));
        let ((), again) = tokio::join!(reading, again);
        again.unwrap();
        assert!(room(&socket));
    }

    #[test]
    fn there_is_room_until_the_kernel_has_none_and_again_once_the_reader_goes_on() {
        with_batch(|batch| async move {
            let (socket, peer) = pair(&batch).await;
            room_ends_and_comes_back(socket, peer).await;
            let (ours, peer) = tokio::net::UnixStream::pair().unwrap();
            room_ends_and_comes_back(Socket::new(ours, &batch), peer).await;
        });
    }

    #[test]
    fn whoever_waits_for_room_learns_that_the_reader_is_gone() {
        with_batch(|batch| async move {
            let (mut socket, peer) = pair(&batch).await;
            let full = |socket: &Socket| {
                let mut nobody = Context::from_waker(Waker::noop());
                socket.poll_room(&mut nobody).is_pending()
            };
            while !full(&socket) {
                let _taken = socket.write(&[b'x'; SMALL * 2]).await.unwrap();
                tokio::task::yield_now().await;
            }
            let leaving = async { drop(peer) };
            let told = std::future::poll_fn(|cx| socket.poll_room(cx));
            // With an error or without one, whoever writes finds out.
            let ((), _told) = tokio::join!(leaving, told);
            assert!(socket.write(&[b'x'; SMALL * 2]).await.is_err());
        });
    }

    #[test]
    fn a_reader_that_stops_holds_the_writer_back() {
        with_batch(|batch| async move {
            let (mut socket, mut peer) = pair(&batch).await;
            let piece = [b'x'; 1000];
            let mut written = 0;
            // Until the kernel takes no more: then a write waits, and only a bounded rest is here.
            loop {
                let turn = async {
                    tokio::select! {
                        biased;
                        result = socket.write_all(&piece) => result.is_ok(),
                        () = idle() => false,
                    }
                };
                if !turn.await {
                    break;
                }
                written += piece.len();
                tokio::task::yield_now().await;
            }
            assert!(socket.unsent() <= LARGEST, "{}", socket.unsent());
            let reading = async {
                let mut sink = vec![0; 1 << 20];
                let mut read = 0;
                while read < written {
                    read += peer.read(&mut sink).await.unwrap();
                }
            };
            let ((), flushed) = tokio::join!(reading, socket.flush());
            flushed.unwrap();
            assert_eq!(socket.unsent(), 0);
        });
    }

    /// Writes as much as is taken; the caller then waits to be woken.
    fn write_all_at_once(socket: &mut Socket, cx: &mut Context<'_>, length: usize) -> usize {
        match Pin::new(socket).poll_write(cx, &vec![b'x'; length]) {
            Poll::Ready(count) => count.unwrap(),
            Poll::Pending => 0,
        }
    }

    #[test]
    fn what_is_gathered_after_a_large_write_of_the_same_turn_is_sent_when_there_is_room() {
        with_batch(|batch| async move {
            let (mut socket, peer) = pair(&batch).await;
            let written = Rc::new(Cell::new(None));
            let total = Rc::clone(&written);
            let mut full = None;
            let writing = tokio::task::spawn_local(std::future::poll_fn(move |cx| {
                let Some(before) = full else {
                    let mut count = 0;
                    while let more @ 1.. = write_all_at_once(&mut socket, cx, SMALL * 16) {
                        count += more;
                    }
                    full = Some(count);
                    return Poll::Pending;
                };
                if total.get().is_none() {
                    // There is some room. One turn: a small message, a large one that takes it
                    // along and of which a part is taken, and a small one again.
                    let turn =
                        [10, 64 << 20, 10].map(|length| write_all_at_once(&mut socket, cx, length));
                    assert!(turn[1] < 64 << 20, "the kernel is full again");
                    total.set(Some(before + turn.iter().sum::<usize>()));
                }
                match Pin::new(&mut socket).poll_flush(cx) {
                    Poll::Ready(Ok(())) if socket.unsent() > 0 => Poll::Pending,
                    flushed => flushed,
                }
            }));
            let mut read = 0;
            let mut sink = vec![0; 1 << 20];
            for _ in 0..10_000 {
                tokio::task::yield_now().await;
                read += peer.try_read(&mut sink).unwrap_or(0);
                if written.get() == Some(read) {
                    break;
                }
            }
            assert_eq!(
                written.get(),
                Some(read),
                "nobody was woken to send the rest"
            );
            writing.await.unwrap().unwrap();
        });
    }

    /// Long enough for everything that is ready to run.
    async fn idle() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn a_peer_that_is_gone_is_an_error_at_the_next_flush() {
        with_batch(|batch| async move {
            let (mut socket, peer) = pair(&batch).await;
            peer.set_zero_linger().unwrap();
            drop(peer);
            let mut result = Ok(());
            while result.is_ok() {
                socket.write_all(b"anyone?").await.unwrap();
                tokio::task::yield_now().await;
                result = socket.flush().await;
            }
        });
    }
}
