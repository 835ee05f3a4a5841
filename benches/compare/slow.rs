//! What slow clients do to the others: the p99 of a steady load, with and without thousands of
//! connections that each do as little as they are allowed to.
//!
//! Every kind is measured in pairs, first without and then with the slow connections, in one run;
//! Headgate alone, since the promise is its own. A slow connection that is closed comes back, as
//! an attacker's would. The steady load is open: a request is due at its time whether or not the
//! one before was answered, and its latency counts from then. The slow ones have a thread of their own,
//! which gives way to everybody: what keeps 5,000 clients going would count as latency otherwise.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::args::{Args, Over};
use crate::http;
use crate::memory;
use crate::peers::Subject;
use crate::report::bytes;

/// Requests per second of the steady load, over `STEADY` connections.
const RATE: u32 = 1_000;
const STEADY: u32 = 50;
/// From one sign of life of a slow connection to the next.
const PULSE: Duration = Duration::from_secs(1);
/// Slow connections per source address, well below the number of ephemeral ports.
const PER_SOURCE: u32 = 500;
/// Until what a slow connection does at its beginning is over, and after the last one has gone.
const SETTLE: Duration = Duration::from_secs(8);

/// How a connection is slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A request head, a byte a second.
    Head,
    /// A request body, just above the least rate.
    Upload,
    /// An answer, taken just above the least rate.
    Download,
    /// HTTP/2: answers that no window has room for.
    Window,
    /// HTTP/2: a header block that never ends.
    HeaderBlock,
}

/// The kinds, in the order in which they are measured.
pub(crate) const KINDS: [Kind; 5] = [
    Kind::Head,
    Kind::Upload,
    Kind::Download,
    Kind::Window,
    Kind::HeaderBlock,
];

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Head => "slow head",
            Self::Upload => "slow upload",
            Self::Download => "slow download",
            Self::Window => "h2 closed window",
            Self::HeaderBlock => "h2 endless header block",
        }
    }

    /// Bytes that a connection of this kind may take.
    pub(crate) fn most_memory(self) -> f64 {
        match self {
            Self::Head | Self::Upload | Self::Download => 20.0 * 1_024.0,
            Self::Window | Self::HeaderBlock => 64.0 * 1_024.0,
        }
    }

    /// What it says at once, and what it says with every pulse.
    fn script(self) -> (Vec<u8>, Vec<u8>) {
        match self {
            Self::Head => (
                b"GET /json HTTP/1.1\r\nHost: slow\r\nX-Slow: ".to_vec(),
                b"a".to_vec(),
            ),
            Self::Upload => (
                b"POST /upload HTTP/1.1\r\nHost: slow\r\nContent-Length: 10000000\r\n\r\n".to_vec(),
                vec![b'a'; 300],
            ),
            Self::Download => (
                b"GET /huge HTTP/1.1\r\nHost: slow\r\n\r\n".to_vec(),
                Vec::new(),
            ),
            Self::Window => {
                // SETTINGS_INITIAL_WINDOW_SIZE 0, then eight requests.
                let mut bytes = preface(&[0, 4, 0, 0, 0, 0]);
                for stream in 0..8_u32 {
                    bytes.extend(frame(1, 0x5, stream * 2 + 1, &header_block("/cached")));
                }
                // An acknowledged PING a second shows that somebody is there.
                (bytes, frame(6, 0, 0, &[0; 8]))
            }
            Self::HeaderBlock => {
                let mut bytes = preface(&[]);
                bytes.extend(frame(1, 0x1, 1, &header_block("/json")));
                // A CONTINUATION with one indexed field and no end.
                (bytes, frame(9, 0, 1, &[0x82]))
            }
        }
    }

    /// Bytes that it takes with every pulse.
    fn taken(self) -> usize {
        match self {
            Self::Download => 512,
            _ => 64 * 1_024,
        }
    }
}

fn preface(settings: &[u8]) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, settings));
    bytes
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// `GET path` from `slow` (RFC 7541: indexed fields of the static table, and literals).
fn header_block(path: &str) -> Vec<u8> {
    let literal = |index: u8, text: &str| {
        let mut bytes = vec![index, u8::try_from(text.len()).unwrap_or(0)];
        bytes.extend(text.as_bytes());
        bytes
    };
    [vec![0x82, 0x86], literal(0x04, path), literal(0x01, "slow")].concat()
}

/// One pair: the same load without and with slow connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair {
    pub(crate) kind: Kind,
    pub(crate) without: Duration,
    pub(crate) with: Duration,
    /// Bytes per slow connection.
    pub(crate) memory: f64,
}

impl Pair {
    /// At most 1.3 times the p99 without them, or 2 ms more.
    pub(crate) fn is_kept(&self) -> bool {
        self.with
            <= self
                .without
                .mul_f64(1.3)
                .max(self.without + Duration::from_millis(2))
    }
}

/// Measures every kind in `args.pairs` pairs.
pub(crate) async fn measure(args: &Args, subject: &Subject) -> Result<Vec<Pair>> {
    let pid = subject.pid().context("not a proxy")?;
    let address = subject.address(Over::Http1);
    let mut pairs = Vec::new();
    // Let what is set up once be set up.
    steady(address, Duration::from_secs(args.seconds)).await?;
    for kind in KINDS {
        for number in 1..=args.pairs {
            let without = steady(address, Duration::from_secs(args.seconds)).await?;
            let before = memory::proportional(pid)?;
            let slow = Slow::begin(kind, address, args.slow_connections)?;
            tokio::time::sleep(SETTLE + PULSE).await;
            let with = steady(address, Duration::from_secs(args.seconds)).await?;
            let after = memory::proportional(pid)?;
            slow.end()?;
            let memory = (bytes(after) - bytes(before)) / f64::from(args.slow_connections);
            let pair = Pair {
                kind,
                without,
                with,
                memory,
            };
            eprintln!(
                "{} pair {number}/{}: p99 {without:.2?} without, {with:.2?} with {}; {:.1} KiB each",
                kind.name(),
                args.pairs,
                args.slow_connections,
                memory / 1_024.0
            );
            pairs.push(pair);
            tokio::time::sleep(SETTLE).await;
        }
    }
    Ok(pairs)
}

/// The slow connections, on a thread of their own.
struct Slow {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Result<()>>,
}

impl Slow {
    fn begin(kind: Kind, address: SocketAddr, count: u32) -> Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("slow".to_owned());
        let thread = thread.spawn(move || {
            give_way()?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let slow = LocalSet::new();
            let script = Rc::new(kind.script());
            for index in 0..count {
                slow.spawn_local(pester(kind, address, index, Rc::clone(&script)));
            }
            // Stopped, or forgotten.
            slow.block_on(&runtime, stopped).ok();
            Ok(())
        })?;
        Ok(Self { stop, thread })
    }

    fn end(self) -> Result<()> {
        drop(self.stop);
        let ended = self.thread.join();
        ended.map_err(|_panic| anyhow!("the slow clients panicked"))?
    }
}

/// Gives this thread the lowest priority.
fn give_way() -> Result<()> {
    let task = std::fs::read_link("/proc/thread-self")?;
    let task = task.file_name().context("no name")?;
    let told = Command::new("renice")
        .args(["-n", "19", "-p"])
        .arg(task)
        .output()?;
    ensure!(told.status.success(), "renice: {}", told.status);
    Ok(())
}

/// A slow connection; begins again when it is closed.
async fn pester(kind: Kind, address: SocketAddr, index: u32, script: Rc<(Vec<u8>, Vec<u8>)>) {
    // Spread over the pulse, so that they do not come as one.
    tokio::time::sleep(PULSE.mul_f64(f64::from(index % 997) / 997.0)).await;
    loop {
        // Refused or cut off: that is the other side's right.
        be_slow(kind, address, index, &script).await.ok();
        tokio::time::sleep(PULSE).await;
    }
}

async fn be_slow(
    kind: Kind,
    address: SocketAddr,
    index: u32,
    (first, then): &(Vec<u8>, Vec<u8>),
) -> Result<()> {
    let source = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + 1 + index / PER_SOURCE);
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4_096)?;
    socket.bind((source, 0).into())?;
    let mut stream = socket.connect(address).await?;
    stream.write_all(first).await?;
    let mut space = vec![0; kind.taken()];
    loop {
        tokio::time::sleep(PULSE).await;
        stream.write_all(then).await?;
        match stream.try_read(&mut space) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The p99 of the steady load over `time`.
async fn steady(address: SocketAddr, time: Duration) -> Result<Duration> {
    let local = LocalSet::new();
    let began = Instant::now() + Duration::from_millis(100);
    let every = Duration::from_secs(1) * STEADY / RATE;
    let asking: Vec<_> = (0..STEADY)
        .map(|number| local.spawn_local(ask(address, began + every * number / STEADY, every, time)))
        .collect();
    let mut latencies = Vec::new();
    local
        .run_until(async {
            for one in asking {
                latencies.extend(one.await??);
            }
            anyhow::Ok(())
        })
        .await?;
    latencies.sort_unstable();
    ensure!(!latencies.is_empty(), "no request was answered");
    latencies
        .get(latencies.len() * 99 / 100)
        .copied()
        .context("no p99")
}

async fn ask(
    address: SocketAddr,
    first: Instant,
    every: Duration,
    time: Duration,
) -> Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut latencies = Vec::new();
    let mut due = first;
    while due < first + time {
        tokio::time::sleep_until(due).await;
        let answer = http::exchange(&mut stream, "/json").await?;
        ensure!(answer.status == 200, "status {}", answer.status);
        latencies.push(due.elapsed());
        due += every;
    }
    // A last look: nothing may be left that nobody asked for.
    stream.shutdown().await?;
    let rest = stream.read(&mut [0]).await?;
    ensure!(rest == 0, "bytes after the last answer");
    Ok(latencies)
}
