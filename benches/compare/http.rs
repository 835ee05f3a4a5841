//! The least of an HTTP/1.1 client: one `GET` at a time with a `Content-Length` answer.
//!
//! For readiness, for the origin's counters, and for the idle case, which keeps the connection
//! afterwards. Load comes from `load`, never from here. Each wait has a deadline.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const DEADLINE: Duration = Duration::from_secs(10);

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// One request on a connection of its own.
pub(crate) async fn fetch(address: SocketAddr, path: &str) -> Result<Answer> {
    let mut stream = TcpStream::connect(address).await?;
    exchange(&mut stream, path).await
}

/// One request on `stream`, which stays usable for the next.
pub(crate) async fn exchange(stream: &mut TcpStream, path: &str) -> Result<Answer> {
    tokio::time::timeout(DEADLINE, ask(stream, path))
        .await
        .with_context(|| format!("no answer to GET {path} in time"))?
}

async fn ask(stream: &mut TcpStream, path: &str) -> Result<Answer> {
    let host = stream.peer_addr()?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())
        .await?;
    let mut received = Vec::with_capacity(2_048);
    let body_at = loop {
        if let Some(at) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break at + 4;
        }
        more(stream, &mut received).await?;
    };
    let mut body = received.split_off(body_at);
    let (status, length) = parse_head(&String::from_utf8_lossy(&received))?;
    while body.len() < length {
        more(stream, &mut body).await?;
    }
    Ok(Answer { status, body })
}

async fn more(stream: &mut TcpStream, into: &mut Vec<u8>) -> Result<()> {
    if stream.read_buf(into).await? == 0 {
        bail!("connection closed within an answer");
    }
    Ok(())
}

/// Status and `Content-Length`.
fn parse_head(head: &str) -> Result<(u16, usize)> {
    let mut lines = head.lines();
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .context("no status line")?;
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .with_context(|| format!("status {status} without Content-Length"))?;
    Ok((status.parse()?, length.1.trim().parse()?))
}
