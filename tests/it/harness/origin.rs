//! A server that answers by script and remembers what it was asked.
//!
//! HTTP/1.1 by hand, since half of what it must do no library would: break off, lie about lengths,
//! send too much, stand still. Invariant: it holds its port from start to drop, so that it can be
//! killed and restarted where it was and nobody else comes between.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use parking_lot::Mutex;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::{Latch, eventually};

pub(crate) struct Origin {
    address: SocketAddr,
    state: Arc<State>,
    running: Option<JoinHandle<()>>,
    /// Bound, not listening: keeps the port while nothing listens.
    _port: Socket,
}

type Script = Arc<dyn Fn(&Seen) -> Reply + Send + Sync>;

#[derive(Default)]
struct State {
    name: String,
    scripts: Mutex<Vec<(String, Script)>>,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    faults: Mutex<Vec<String>>,
}

/// A request as it arrived.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) version: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<String>,
    /// Whether the body arrived to its end.
    pub(crate) whole: bool,
    /// Number of the connection, from 1.
    pub(crate) connection: usize,
    /// How often this path was asked for before.
    pub(crate) earlier: usize,
}

/// An answer as it is to be sent.
pub(crate) struct Reply {
    status: Option<u16>,
    headers: Vec<(String, String)>,
    before: Option<Latch>,
    steps: Vec<Step>,
    end: End,
}

enum Step {
    Write(Vec<u8>),
    Wait(Latch),
    /// Writes so many bytes and counts those that were taken.
    Flood(usize, Arc<AtomicUsize>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Keep,
    Close,
    Reset,
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self {
            status: Some(status),
            headers: Vec::new(),
            before: None,
            steps: Vec::new(),
            end: End::Keep,
        }
    }

    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::new(200).body(body)
    }

    /// These bytes instead of an answer.
    pub(crate) fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        let reply = Self::new(0).then(bytes);
        Self {
            status: None,
            ..reply
        }
    }

    /// Nothing at all.
    pub(crate) fn nothing() -> Self {
        Self::raw("")
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A body with its length.
    pub(crate) fn body(self, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        self.header("content-length", &body.len().to_string())
            .then(body)
    }

    /// A body in chunks, ended.
    pub(crate) fn chunks(self, chunks: &[&str]) -> Self {
        let mut reply = self.header("transfer-encoding", "chunked");
        for chunk in chunks {
            reply = reply.then(format!("{:x}\r\n{chunk}\r\n", chunk.len()));
        }
        reply.then("0\r\n\r\n")
    }

    /// Nothing is sent before the latch opens.
    pub(crate) fn after(mut self, latch: &Latch) -> Self {
        self.before = Some(latch.clone());
        self
    }

    /// Bytes after the head.
    pub(crate) fn then(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.steps.push(Step::Write(bytes.into()));
        self
    }

    pub(crate) fn then_wait(mut self, latch: &Latch) -> Self {
        self.steps.push(Step::Wait(latch.clone()));
        self
    }

    pub(crate) fn flood(mut self, bytes: usize, taken: &Arc<AtomicUsize>) -> Self {
        self.headers
            .push(("content-length".to_owned(), bytes.to_string()));
        self.steps.push(Step::Flood(bytes, Arc::clone(taken)));
        self
    }

    /// Then the connection closes, unannounced.
    pub(crate) fn close(mut self) -> Self {
        self.end = End::Close;
        self
    }

    /// Then the connection is reset.
    pub(crate) fn reset(mut self) -> Self {
        self.end = End::Reset;
        self
    }
}

impl Seen {
    /// The first field of that name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    /// All fields of that name.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let known = self.headers.iter().filter(|(known, _)| known == name);
        known.map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

impl Origin {
    /// Answers every request with `200` and its own name until told otherwise with `on`.
    pub(crate) async fn start(name: &str) -> Self {
        let port = bind(SocketAddr::from(([127, 0, 0, 1], 0)));
        let address = port.local_addr().unwrap().as_socket().unwrap();
        let state = State {
            name: name.to_owned(),
            ..State::default()
        };
        let mut origin = Self {
            address,
            state: Arc::new(state),
            running: None,
            _port: port,
        };
        origin.restart().await;
        origin
    }

    /// Answers requests for `path` (without its query; `*` for all) by script, once they are whole.
    pub(crate) fn on(
        self,
        path: &str,
        script: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        self.state
            .scripts
            .lock()
            .push((path.to_owned(), Arc::new(script)));
        self
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything it was asked for at `path`, heads whole, bodies as far as they came.
    pub(crate) fn seen(&self, path: &str) -> Vec<Seen> {
        let seen = self.state.seen.lock();
        seen.iter()
            .filter(|one| path == "*" || one.path() == path)
            .cloned()
            .collect()
    }

    /// How often it was asked for `path`; `*` for anything.
    pub(crate) fn requests(&self, path: &str) -> usize {
        self.seen(path).len()
    }

    /// The last request for `path`.
    pub(crate) fn last(&self, path: &str) -> Seen {
        self.seen(path)
            .pop()
            .unwrap_or_else(|| panic!("nobody asked for {path}"))
    }

    /// Waits until it was asked so often.
    pub(crate) async fn until_asked(&self, path: &str, times: usize) {
        let what = format!("{} was asked for {path} {times} times", self.state.name);
        eventually(&what, async || (self.requests(path) >= times).then_some(())).await;
    }

    /// Connections it ever accepted.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(SeqCst)
    }

    /// Waits until it holds so many connections.
    pub(crate) async fn until_open(&self, count: usize) {
        let what = format!("{} holds {count} connections", self.state.name);
        eventually(&what, async || {
            (self.state.open.load(SeqCst) == count).then_some(())
        })
        .await;
    }

    /// Stops listening and cuts every connection, as a process that dies.
    pub(crate) async fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
            running.await.ok();
        }
        self.until_open(0).await;
    }

    /// Listens again where it was.
    pub(crate) async fn restart(&mut self) {
        self.kill().await;
        let socket = bind(self.address);
        socket.listen(1024).unwrap();
        socket.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(socket.into()).unwrap();
        self.running = Some(tokio::spawn(accept(listener, Arc::clone(&self.state))));
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
        let faults = self.state.faults.lock();
        let name = &self.state.name;
        assert!(
            faults.is_empty() || std::thread::panicking(),
            "in origin {name}: {faults:?}"
        );
    }
}

fn bind(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                let number = state.connections.fetch_add(1, SeqCst) + 1;
                let open = Open::new(&state);
                let state = Arc::clone(&state);
                tasks.spawn(async move {
                    stream.set_nodelay(true).ok();
                    // Peers that leave are the test's affair.
                    Connection { stream, buffer: Vec::new(), number, state }.serve().await.ok();
                    drop(open);
                });
            }
            Some(ended) = tasks.join_next() => {
                if let Err(error) = ended && error.is_panic() {
                    state.faults.lock().push(error.to_string());
                }
            }
        }
    }
}

struct Open(Arc<State>);

impl Open {
    fn new(state: &Arc<State>) -> Self {
        state.open.fetch_add(1, SeqCst);
        Self(Arc::clone(state))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, SeqCst);
    }
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    number: usize,
    state: Arc<State>,
}

impl Connection {
    async fn serve(mut self) -> io::Result<()> {
        loop {
            let Some(mut seen) = self.head().await? else {
                return Ok(());
            };
            let index = {
                let mut all = self.state.seen.lock();
                seen.earlier = all.iter().filter(|one| one.path() == seen.path()).count();
                all.push(seen.clone());
                all.len() - 1
            };
            let result = self.body(&mut seen, index).await;
            seen.whole = result.is_ok();
            self.state.seen.lock()[index].clone_from(&seen);
            result?;
            if !self.answer(&seen).await? {
                return Ok(());
            }
        }
    }

    async fn more(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn line(&mut self) -> io::Result<String> {
        let end = loop {
            if let Some(at) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                break at;
            }
            self.more().await?;
        };
        let rest = self.buffer.split_off(end + 2);
        let mut line = std::mem::replace(&mut self.buffer, rest);
        line.truncate(end);
        String::from_utf8(line).map_err(io::Error::other)
    }

    async fn take(&mut self, count: usize, into: &mut Vec<u8>) -> io::Result<()> {
        while self.buffer.len() < count {
            self.more().await?;
        }
        let rest = self.buffer.split_off(count);
        into.append(&mut std::mem::replace(&mut self.buffer, rest));
        Ok(())
    }

    /// The next request's head, or nothing when the peer is done.
    async fn head(&mut self) -> io::Result<Option<Seen>> {
        if self.buffer.is_empty() && self.stream.read_buf(&mut self.buffer).await? == 0 {
            return Ok(None);
        }
        let first = self.line().await?;
        let words: Vec<&str> = first.split(' ').collect();
        let [method, target, version] = words[..] else {
            panic!("not a request line: {first:?}");
        };
        let mut seen = Seen {
            method: method.to_owned(),
            target: target.to_owned(),
            version: version.to_owned(),
            connection: self.number,
            ..Seen::default()
        };
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(Some(seen));
            }
            let (name, value) = line.split_once(':').expect("a header field");
            seen.headers
                .push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// The body, kept in `State` too while it comes, so that a test sees what came of a broken one.
    async fn body(&mut self, seen: &mut Seen, index: usize) -> io::Result<()> {
        if seen.header("transfer-encoding").is_some() {
            loop {
                let size = usize::from_str_radix(self.line().await?.trim(), 16).expect("a size");
                if size == 0 {
                    break;
                }
                self.take(size, &mut seen.body).await?;
                assert_eq!(self.line().await?, "", "the end of a chunk");
                self.state.seen.lock()[index].body.clone_from(&seen.body);
            }
            loop {
                let line = self.line().await?;
                if line.is_empty() {
                    return Ok(());
                }
                seen.trailers.push(line);
            }
        }
        let length: usize = seen
            .header("content-length")
            .map_or(0, |text| text.parse().unwrap());
        while self.buffer.len() < length {
            self.state.seen.lock()[index].body.clone_from(&self.buffer);
            self.more().await?;
        }
        self.take(length, &mut seen.body).await
    }

    /// Sends what the script says; whether the connection stays.
    async fn answer(&mut self, seen: &Seen) -> io::Result<bool> {
        let script = {
            let scripts = self.state.scripts.lock();
            let fits = |path: &str| path == "*" || path == seen.path();
            scripts
                .iter()
                .rev()
                .find(|(path, _)| fits(path))
                .map(|(_, script)| Arc::clone(script))
        };
        let reply =
            script.map_or_else(|| Reply::ok(self.state.name.clone()), |script| script(seen));
        let Reply {
            status,
            headers,
            before,
            steps,
            end,
        } = reply;
        if let Some(latch) = before {
            latch.opened().await;
        }
        let mut bytes = Vec::new();
        if let Some(status) = status {
            let mut head = format!(
                "HTTP/1.1 {status} Scripted\r\nx-served-by: {}\r\n",
                self.state.name
            );
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            head.push_str("\r\n");
            bytes.append(&mut head.into_bytes());
        }
        for step in steps {
            match step {
                Step::Write(more) if seen.method == "HEAD" => drop(more),
                // Head and body in one write, as servers do.
                Step::Write(mut more) => bytes.append(&mut more),
                Step::Wait(latch) => {
                    self.stream.write_all(&std::mem::take(&mut bytes)).await?;
                    latch.opened().await;
                }
                Step::Flood(total, taken) => {
                    self.stream.write_all(&std::mem::take(&mut bytes)).await?;
                    let block = vec![b'x'; 64 * 1024];
                    let mut left = total;
                    while left > 0 {
                        let count = self.stream.write(&block[..left.min(block.len())]).await?;
                        taken.fetch_add(count, SeqCst);
                        left -= count;
                    }
                }
            }
        }
        self.stream.write_all(&bytes).await?;
        match end {
            End::Keep => {}
            End::Close => return Ok(false),
            End::Reset => {
                SockRef::from(&self.stream).set_linger(Some(std::time::Duration::ZERO))?;
                return Ok(false);
            }
        }
        Ok(!seen
            .all("connection")
            .iter()
            .any(|value| value.eq_ignore_ascii_case("close")))
    }
}
