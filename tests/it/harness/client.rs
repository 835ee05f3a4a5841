//! One connection, in bytes or in requests.
//!
//! Reads answers by itself, so that a test sees the bytes that came and not a library's idea of
//! them.

use std::io;
use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::patiently;

pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

pub(crate) struct Client {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

/// A request as it is written.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) version: String,
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<String>,
}

impl Request {
    pub(crate) fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: None,
        }
    }

    pub(crate) fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    pub(crate) fn post(target: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::new("POST", target).body(body)
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// For this host, unless it names one.
    pub(crate) fn or_host(self, host: &str) -> Self {
        let names = |(name, _): &(String, String)| name.eq_ignore_ascii_case("host");
        if self.headers.iter().any(names) {
            return self;
        }
        self.header("host", host)
    }

    /// With its length.
    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    pub(crate) fn json(self, value: &Value) -> Self {
        self.header("content-type", "application/json")
            .body(value.to_string())
    }

    /// As it goes over the wire; with a `Host` unless it has one.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !self
            .headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("host"))
        {
            text.push_str("host: shop.test\r\n");
        }
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = &self.body {
            text.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address)
            .await
            .unwrap_or_else(|error| panic!("{address}: {error}"))
    }

    pub(crate) async fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let stream = patiently("a connection", TcpStream::connect(address)).await?;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }

    /// Closes with a reset, which leaves no port behind that must wait; for those who connect often.
    pub(crate) async fn connect_briefly(address: SocketAddr) -> io::Result<Self> {
        let stream = patiently("a connection", TcpStream::connect(address)).await?;
        stream.set_nodelay(true)?;
        stream.set_zero_linger()?;
        Ok(Self::over(stream))
    }

    pub(crate) fn over(stream: impl Stream + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            buffer: Vec::new(),
        }
    }

    /// Sends a request and reads its answer.
    #[track_caller]
    pub(crate) fn send(&mut self, request: &Request) -> impl Future<Output = Answer> {
        let place = std::panic::Location::caller();
        async move {
            let answer = self.try_send(request).await;
            answer.unwrap_or_else(|error| panic!("no answer: {error} ({place})"))
        }
    }

    pub(crate) async fn get(&mut self, target: &str) -> Answer {
        self.send(&Request::get(target)).await
    }

    pub(crate) async fn try_send(&mut self, request: &Request) -> io::Result<Answer> {
        self.stream.write_all(&request.bytes()).await?;
        self.stream.flush().await?;
        patiently("an answer", self.read_answer(request.method == "HEAD")).await
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_write(bytes.as_ref()).await.unwrap();
    }

    pub(crate) async fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        patiently("the peer to read", self.stream.write_all(bytes)).await?;
        self.stream.flush().await
    }

    /// The next answer.
    pub(crate) async fn answer(&mut self) -> Answer {
        patiently("an answer", self.read_answer(false))
            .await
            .unwrap()
    }

    /// The next answer's head; its body is for `some` or `rest`.
    pub(crate) async fn head(&mut self) -> Answer {
        patiently("a head", self.read_head()).await.unwrap()
    }

    /// Some more bytes; none at the end or when the connection is broken.
    pub(crate) async fn some(&mut self) -> Vec<u8> {
        if self.buffer.is_empty() {
            // A reset is an end too.
            drop(patiently("bytes", self.stream.read_buf(&mut self.buffer)).await);
        }
        std::mem::take(&mut self.buffer)
    }

    /// Exactly this many bytes.
    pub(crate) async fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            patiently("bytes", self.more()).await.unwrap();
        }
        let rest = self.buffer.split_off(count);
        std::mem::replace(&mut self.buffer, rest)
    }

    /// All bytes until the peer closes or resets.
    pub(crate) async fn until_closed(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let some = self.some().await;
            if some.is_empty() {
                return all;
            }
            all.extend_from_slice(&some);
        }
    }

    /// A request's head, where this end plays the server; none when the peer is done.
    pub(crate) async fn request(&mut self) -> Option<String> {
        let mut head = String::new();
        loop {
            match patiently("a request", self.line()).await {
                Ok(line) if line.is_empty() => return Some(head),
                Ok(line) => head.push_str(&format!("{line}\n")),
                Err(_) => return None,
            }
        }
    }

    /// The connection alone; nothing of it was read.
    pub(crate) fn into_stream(self) -> Box<dyn Stream> {
        assert!(self.buffer.is_empty(), "bytes would be lost");
        self.stream
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

    async fn read_head(&mut self) -> io::Result<Answer> {
        let first = self.line().await?;
        let mut words = first.splitn(3, ' ');
        let version = words.next().unwrap_or_default().to_owned();
        let status = words.next().and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status: {first:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| io::Error::other("no colon"))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok(Answer {
            version,
            status,
            headers,
            body: Vec::new(),
            trailers: Vec::new(),
        })
    }

    async fn read_answer(&mut self, head_only: bool) -> io::Result<Answer> {
        let mut answer = self.read_head().await?;
        if head_only || matches!(answer.status, 100..200 | 204 | 304) {
            return Ok(answer);
        }
        if answer.header("transfer-encoding").is_some() {
            self.read_chunks(&mut answer).await?;
        } else if let Some(length) = answer.header("content-length") {
            let length: usize = length.parse().map_err(io::Error::other)?;
            while self.buffer.len() < length {
                self.more().await?;
            }
            let rest = self.buffer.split_off(length);
            answer.body = std::mem::replace(&mut self.buffer, rest);
        } else {
            while self.stream.read_buf(&mut self.buffer).await? > 0 {}
            answer.body = std::mem::take(&mut self.buffer);
        }
        Ok(answer)
    }

    async fn read_chunks(&mut self, answer: &mut Answer) -> io::Result<()> {
        loop {
            let size = self.line().await?;
            let size = usize::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
            if size == 0 {
                break;
            }
            while self.buffer.len() < size + 2 {
                self.more().await?;
            }
            let rest = self.buffer.split_off(size + 2);
            let chunk = std::mem::replace(&mut self.buffer, rest);
            answer.body.extend_from_slice(&chunk[..size]);
        }
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(());
            }
            answer.trailers.push(line);
        }
    }
}

impl Answer {
    /// The first field of that name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    /// All fields of that name.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let known = self.headers.iter().filter(|(known, _)| known == name);
        known.map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// Which origin answered.
    pub(crate) fn by(&self) -> &str {
        self.header("x-served-by").unwrap_or("nobody")
    }

    /// Our member of `Cache-Status`.
    pub(crate) fn cache(&self) -> &str {
        self.header("cache-status").unwrap_or("")
    }

    pub(crate) fn is_hit(&self) -> bool {
        self.cache().starts_with("headgate; hit")
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "{:?}\n{text}", self.headers);
        self
    }

    /// The problem document, which must be whole, carry the id of the head and name no address.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "{:?}\n{text}", self.headers);
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json")
        );
        assert_eq!(self.header("cache-control"), Some("no-store"));
        let document = self.json();
        assert_eq!(document["status"], status);
        assert!(
            document["title"].is_string() && document["detail"].is_string(),
            "{text}"
        );
        let id = self.header("x-request-id").expect("a request id");
        assert_eq!(document["request_id"], id);
        let whole = format!("{:?}{text}", self.headers);
        assert!(!whole.contains("127.0.0"), "an address is shown: {whole}");
        document
    }

    /// The value that a `Set-Cookie` gives this cookie, and its attributes.
    pub(crate) fn cookie(&self, name: &str) -> Option<(String, Vec<String>)> {
        self.all("set-cookie").into_iter().find_map(|field| {
            let mut parts = field.split(';').map(str::trim);
            let value = parts.next()?.strip_prefix(name)?.strip_prefix('=')?;
            Some((value.to_owned(), parts.map(str::to_owned).collect()))
        })
    }
}
