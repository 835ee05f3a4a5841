//! The origin: constant answers, as cheap as a tokio server can give them, and two counters.
//!
//! The bench starts its own executable again in this role, pinned beside the load generator.
//! `rounds` reads the counters around each slice and so proves that a proxy reused its upstream
//! connections and that hits came from its cache. Health checks and the reading of the counters
//! are not counted: a connection counts from its first other request on.
//!
//! ```text
//! /json     1 kB                         /large    100 kB
//! /cached   1 kB, fresh for an hour      /huge     512 KiB
//! /upload   reads, and never answers     /healthz  then closes     /__stats  then closes
//! ```

use std::cell::{Cell, RefCell};
use std::io::Read as _;
use std::net::SocketAddr;
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use crate::http;

/// A running origin; it ends with the bench, when its standard input closes.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    _child: Child,
}

/// What the origin has seen since it started.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Stats {
    pub(crate) connections: u64,
    pub(crate) requests: u64,
}

impl Origin {
    /// Starts the origin on `core`, a list as taskset reads it.
    pub(crate) async fn start(core: &str) -> Result<Self> {
        let mut child = Command::new("taskset")
            .args(["-c", core])
            .arg(std::env::current_exe()?)
            .arg("--origin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("taskset did not start (util-linux)")?;
        let stdout = child
            .stdout
            .take()
            .context("the origin has no standard output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).await?;
        let address = line.trim().parse().context("the origin named no address")?;
        Ok(Self {
            address,
            _child: child,
        })
    }

    pub(crate) async fn stats(&self) -> Result<Stats> {
        let answer = http::fetch(self.address, "/__stats").await?;
        serde_json::from_slice(&answer.body).context("counters of the origin")
    }
}

/// The child's role: prints its address, serves until standard input closes.
pub(crate) fn serve() -> Result<()> {
    let (parent, parent_gone) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        // Whatever ends the reading, the bench is no longer there.
        std::io::stdin().read_to_end(&mut Vec::new()).ok();
        drop(parent);
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        println!("{}", listener.local_addr()?);
        tokio::select! {
            result = accept(listener) => result,
            _ = parent_gone => Ok(()),
        }
    })
}

async fn accept(listener: TcpListener) -> Result<()> {
    let shared = Rc::new(Shared {
        answers: RefCell::new(Answers::render()),
        connections: Cell::new(0),
        requests: Cell::new(0),
    });
    let clock = Rc::clone(&shared);
    tokio::task::spawn_local(async move {
        // `Date` moves on, as with any origin, so that ages are computed as they are in earnest.
        let mut second = tokio::time::interval(Duration::from_secs(1));
        loop {
            second.tick().await;
            clock.answers.replace(Answers::render());
        }
    });
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let shared = Rc::clone(&shared);
        tokio::task::spawn_local(async move {
            // A proxy that closes or resets its connection is no event for an origin.
            connection(stream, &shared).await.ok();
        });
    }
}

struct Shared {
    answers: RefCell<Answers>,
    connections: Cell<u64>,
    requests: Cell<u64>,
}

/// Whole answers, head and body, ready to be written.
struct Answers {
    json: Rc<[u8]>,
    cached: Rc<[u8]>,
    large: Rc<[u8]>,
    huge: Rc<[u8]>,
    missing: Rc<[u8]>,
}

impl Answers {
    fn render() -> Self {
        let small = json_body(1_024);
        Self {
            json: answer("200 OK", "", &small),
            cached: answer(
                "200 OK",
                "Cache-Control: max-age=3600\r\nETag: \"v1\"\r\nVary: Accept-Encoding\r\nSurrogate-Key: product-17 products\r\n",
                &small,
            ),
            large: answer("200 OK", "", &json_body(102_400)),
            huge: answer("200 OK", "", &json_body(512 * 1_024)),
            missing: answer("404 Not Found", "", ""),
        }
    }
}

async fn connection(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 * 1_024];
    let mut filled = 0;
    let mut counted = false;
    loop {
        let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) else {
            return Ok(()); // a head of 16 KiB: not from a bench
        };
        let read = stream.read(room).await?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let mut answered = 0;
        while let Some(head) = first_head(buffer.get(answered..filled).unwrap_or_default()) {
            answered += head.len();
            let path = head.split(|&byte| byte == b' ').nth(1).unwrap_or_default();
            if path == b"/upload" {
                // Takes what comes, and answers never.
                tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
                return Ok(());
            }
            if let Some(last) = closing_answer(path, shared) {
                return stream.write_all(&last).await;
            }
            if !counted {
                counted = true;
                shared.connections.set(shared.connections.get() + 1);
            }
            shared.requests.set(shared.requests.get() + 1);
            let answer = answer_to(path, &shared.answers.borrow());
            stream.write_all(&answer).await?;
        }
        buffer.copy_within(answered..filled, 0);
        filled -= answered;
    }
}

/// A request head, if a whole one is there. No request of the bench has a body.
fn first_head(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    bytes.get(..end)
}

fn answer_to(path: &[u8], answers: &Answers) -> Rc<[u8]> {
    Rc::clone(match path {
        b"/json" => &answers.json,
        b"/cached" => &answers.cached,
        b"/large" => &answers.large,
        b"/huge" => &answers.huge,
        _ => &answers.missing,
    })
}

/// Answers after which the connection closes: Varnish's probe reads until then.
fn closing_answer(path: &[u8], shared: &Shared) -> Option<Rc<[u8]>> {
    match path {
        b"/healthz" => Some(answer("200 OK", "Connection: close\r\n", "ok")),
        b"/__stats" => {
            let stats = Stats {
                connections: shared.connections.get(),
                requests: shared.requests.get(),
            };
            let body = serde_json::to_string(&stats).unwrap_or_default();
            Some(answer("200 OK", "Connection: close\r\n", &body))
        }
        _ => None,
    }
}

fn answer(status: &str, headers: &str, body: &str) -> Rc<[u8]> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the origin's own clock, outside of any test"
    )]
    let date = httpdate::fmt_http_date(std::time::SystemTime::now());
    format!(
        "HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Type: application/json\r\n{headers}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
    .into()
}

/// A JSON object of exactly `length` bytes.
fn json_body(length: usize) -> String {
    let head = r#"{"id":4711,"name":"Garden chair","price":4990,"stock":12,"description":""#;
    let tail = r#""}"#;
    format!(
        "{head}{}{tail}",
        "x".repeat(length - head.len() - tail.len())
    )
}
