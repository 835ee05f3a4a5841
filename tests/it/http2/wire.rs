//! A client of HTTP/2 that says whatever a test wants, frame by frame.
//!
//! It acknowledges SETTINGS and PING and gives window back, as clients must, unless told to be `mute`.
//! Everything else is the test's. Answers are put together here and not by a library, and `watch` looks
//! at every frame.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::hpack::{Decoder, Fields, literals};
use super::watch::{Watch, pairs};
use crate::harness::{Gate, patiently};

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
pub(crate) const WITH_PRIORITY: u8 = 32;

pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const INTERNAL_ERROR: u32 = 2;
pub(crate) const FLOW_CONTROL_ERROR: u32 = 3;
pub(crate) const STREAM_CLOSED: u32 = 5;
pub(crate) const FRAME_SIZE_ERROR: u32 = 6;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const COMPRESSION_ERROR: u32 = 9;
pub(crate) const CONNECT_ERROR: u32 = 10;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// A frame as it goes over the wire.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

pub(crate) fn headers(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, &literals(fields))
}

/// The pseudo-header fields of a request, and more.
pub(crate) fn fields<'a>(
    method: &'a str,
    path: &'a str,
    more: &[(&'a str, &'a str)],
) -> Vec<(&'a str, &'a str)> {
    let mut all = vec![
        (":method", method),
        (":scheme", "http"),
        (":authority", "shop.test"),
        (":path", path),
    ];
    all.extend_from_slice(more);
    all
}

/// A whole request without a body.
pub(crate) fn get(stream: u32, path: &str) -> Vec<u8> {
    get_with(stream, path, &[])
}

pub(crate) fn get_with(stream: u32, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    headers(stream, END_STREAM, &fields("GET", path, more))
}

/// A request with a body to come.
pub(crate) fn post(stream: u32, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    headers(stream, 0, &fields("POST", path, more))
}

pub(crate) fn data(stream: u32, flags: u8, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    frame(DATA, flags, stream, bytes.as_ref())
}

pub(crate) fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

pub(crate) fn window(stream: u32, more: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

pub(crate) fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (id, value) in pairs {
        payload.extend(id.to_be_bytes());
        payload.extend(value.to_be_bytes());
    }
    frame(SETTINGS, 0, 0, &payload)
}

/// What came on one stream.
#[derive(Debug, Default, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Fields,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Fields,
    /// Informational answers that came before.
    pub(crate) early: Vec<(u16, Fields)>,
    /// Whether END_STREAM came.
    pub(crate) ended: bool,
    /// The code of the first RST_STREAM, if one came.
    pub(crate) reset: Option<u32>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// One connection.
pub(crate) struct Wire {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    decoder: Decoder,
    block: Vec<u8>,
    /// Whether the block that is coming ends its stream.
    ends: bool,
    answers: HashMap<u32, Answer>,
    pub(crate) watch: Watch,
    /// Every frame: type, flags, stream, bytes.
    pub(crate) frames: Vec<(u8, u8, u32, usize)>,
    /// Names that came as literals that are never indexed.
    pub(crate) never_indexed: Vec<String>,
    /// Every GOAWAY: last stream and code.
    pub(crate) goaways: Vec<(u32, u32)>,
    pub(crate) pongs: VecDeque<Vec<u8>>,
    /// What the server announced.
    pub(crate) settings: HashMap<u16, u32>,
    pub(crate) acks: usize,
    pub(crate) closed: bool,
    /// Acknowledges nothing and gives no window back.
    pub(crate) mute: bool,
}

impl Wire {
    /// A connection on which nothing was said.
    pub(crate) async fn silent(address: SocketAddr) -> Self {
        let stream = patiently("a connection", TcpStream::connect(address)).await;
        let stream = stream.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    pub(crate) fn over(stream: impl Stream + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            buffer: Vec::new(),
            decoder: Decoder::new(),
            block: Vec::new(),
            ends: false,
            answers: HashMap::new(),
            watch: Watch::new(),
            frames: Vec::new(),
            never_indexed: Vec::new(),
            goaways: Vec::new(),
            pongs: VecDeque::new(),
            settings: HashMap::new(),
            acks: 0,
            closed: false,
            mute: false,
        }
    }

    /// A connection on which both sides have said their SETTINGS.
    pub(crate) async fn connect(gate: &Gate) -> Self {
        Self::connect_with(gate.address, &[]).await
    }

    pub(crate) async fn connect_with(address: SocketAddr, ours: &[(u16, u32)]) -> Self {
        let mut wire = Self::silent(address).await;
        wire.open(ours).await;
        wire
    }

    /// Says the preface and SETTINGS, and hears the server's.
    pub(crate) async fn open(&mut self, ours: &[(u16, u32)]) {
        self.send([PREFACE, &settings(ours)].concat()).await;
        self.until("SETTINGS", |wire| {
            wire.acks > 0 && !wire.settings.is_empty()
        })
        .await;
    }

    /// Writes these bytes; a peer that has closed is found out when reading.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.watch.says(bytes.as_ref());
        let write = self.stream.write_all(bytes.as_ref());
        if patiently("the gate to read", write).await.is_err() {
            return;
        }
        self.stream.flush().await.ok();
    }

    /// The next frame; nothing when the peer has closed.
    async fn frame(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        loop {
            if self.buffer.len() >= 9 {
                let head: Vec<u8> = self.buffer[..9].to_vec();
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                if self.buffer.len() >= 9 + length {
                    let payload = self.buffer[9..9 + length].to_vec();
                    self.buffer.drain(..9 + length);
                    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                    return Some((head[3], head[4], stream, payload));
                }
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Reads until there is what the test waits for.
    #[track_caller]
    pub(crate) fn until(
        &mut self,
        what: &str,
        mut done: impl FnMut(&Self) -> bool,
    ) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            while !done(self) {
                assert!(
                    !self.closed,
                    "closed before {what}: {:?} {:?} ({place})",
                    self.goaways, self.answers
                );
                match patiently(what, self.frame()).await {
                    Some((kind, flags, stream, payload)) => {
                        self.take(kind, flags, stream, payload).await;
                    }
                    None => self.closed = true,
                }
            }
        }
    }

    async fn take(&mut self, kind: u8, flags: u8, stream: u32, payload: Vec<u8>) {
        self.frames.push((kind, flags, stream, payload.len()));
        for table in self.watch.hears(kind, flags, stream, &payload) {
            self.decoder.allow(table as usize);
        }
        match kind {
            SETTINGS if flags & ACK != 0 => self.acks += 1,
            SETTINGS => {
                self.settings.extend(pairs(&payload));
                if !self.mute {
                    self.send(frame(SETTINGS, ACK, 0, &[])).await;
                }
            }
            PING if flags & ACK != 0 => self.pongs.push_back(payload),
            PING if !self.mute => self.send(frame(PING, ACK, 0, &payload)).await,
            GOAWAY => {
                let word = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
                self.goaways.push((word(0), word(4)));
            }
            RST_STREAM => {
                let code = u32::from_be_bytes(payload[..4].try_into().unwrap());
                let answer = self.answers.entry(stream).or_default();
                // The first one closes it.
                answer.reset.get_or_insert(code);
            }
            HEADERS | CONTINUATION => {
                assert_eq!(
                    flags & (PADDED | WITH_PRIORITY) & if kind == HEADERS { 0xff } else { 0 },
                    0
                );
                self.block.extend(payload);
                self.ends |= kind == HEADERS && flags & END_STREAM != 0;
                if flags & END_HEADERS != 0 {
                    let block = std::mem::take(&mut self.block);
                    let fields = self.decoder.block(&block);
                    self.never_indexed.append(&mut self.decoder.never);
                    let ends = std::mem::take(&mut self.ends);
                    self.watch.section(stream, &fields, ends);
                    self.section(stream, fields);
                    self.answers.entry(stream).or_default().ended |= ends;
                }
            }
            DATA => {
                let padding = (flags & PADDED != 0).then(|| usize::from(payload[0]));
                let content = payload.len() - padding.unwrap_or(0);
                let answer = self.answers.entry(stream).or_default();
                answer
                    .body
                    .extend_from_slice(&payload[usize::from(padding.is_some())..content]);
                answer.ended |= flags & END_STREAM != 0;
                let ended = answer.ended;
                if !self.mute && !payload.is_empty() {
                    let more = u32::try_from(payload.len()).unwrap();
                    let mut bytes = window(0, more);
                    if !ended {
                        bytes.extend(window(stream, more));
                    }
                    self.send(bytes).await;
                }
            }
            _ => {}
        }
    }

    fn section(&mut self, stream: u32, mut fields: Fields) {
        let answer = self.answers.entry(stream).or_default();
        if answer.status > 0 {
            answer.trailers = fields;
            return;
        }
        let (_, status) = fields.remove(0);
        match status.parse().unwrap() {
            early @ 100..200 => answer.early.push((early, fields)),
            status => (answer.status, answer.headers) = (status, fields),
        }
    }

    /// What has come on a stream so far.
    pub(crate) fn so_far(&self, stream: u32) -> Answer {
        self.answers.get(&stream).cloned().unwrap_or_default()
    }

    /// The answer on a stream, when it has ended or was reset.
    #[track_caller]
    pub(crate) fn answer(&mut self, stream: u32) -> impl Future<Output = Answer> {
        let place = std::panic::Location::caller();
        async move {
            let what = format!("the answer on stream {stream} ({place})");
            self.until(&what, |wire| {
                let so_far = wire.so_far(stream);
                so_far.ended || so_far.reset.is_some()
            })
            .await;
            self.so_far(stream)
        }
    }

    /// The head of the answer on a stream.
    pub(crate) async fn head(&mut self, stream: u32) -> Answer {
        self.until("a head", |wire| wire.so_far(stream).status > 0)
            .await;
        self.so_far(stream)
    }

    /// Sends a request without a body and reads its answer.
    pub(crate) async fn fetch(&mut self, stream: u32, path: &str) -> Answer {
        self.send(get(stream, path)).await;
        self.answer(stream).await
    }

    /// The connection is in order: a PING comes back.
    pub(crate) async fn is_alive(&mut self) {
        let before = self.pongs.len();
        self.send(frame(PING, 0, 0, b"are you?")).await;
        self.until("a pong", |wire| wire.pongs.len() > before).await;
        assert_eq!(self.goaways, []);
    }

    /// The connection ends with this code, and then with its close.
    #[track_caller]
    pub(crate) fn ends_with(&mut self, code: u32) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            self.until("the close", |wire| wire.closed).await;
            let last = self.goaways.last().map(|(_, code)| *code);
            assert_eq!(last, Some(code), "{:?} ({place})", self.answers);
        }
    }
}

impl Wire {
    /// The rest of the preface, and SETTINGS.
    pub(crate) async fn open_after(&mut self, cut: usize) {
        self.send([&PREFACE[cut..], &settings(&[])].concat()).await;
        self.until("SETTINGS", |wire| {
            wire.acks > 0 && !wire.settings.is_empty()
        })
        .await;
    }

    /// The message on this stream is malformed (RFC 9113 section 8.1.1): its stream or its connection
    /// ends with PROTOCOL_ERROR, or it is answered that it is no request. Others go on.
    #[track_caller]
    pub(crate) fn ends_malformed(&mut self, stream: u32) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            self.until("an end", |wire| {
                let so_far = wire.so_far(stream);
                wire.closed || so_far.ended || so_far.reset.is_some()
            })
            .await;
            let so_far = self.so_far(stream);
            let code = self.goaways.last().map(|(_, code)| *code);
            let answered = so_far.status >= 400;
            let judged = so_far.reset.or(code) == Some(PROTOCOL_ERROR);
            assert!(
                answered || judged,
                "{so_far:?} {:?} ({place})",
                self.goaways
            );
            if !self.closed && code.is_none() {
                self.is_alive().await;
            }
        }
    }
}
