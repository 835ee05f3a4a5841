//! Sends one stream over a connection of its own and reads the answers to the end.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::time::timeout;

use crate::streams::Stream;

/// A proxy that neither answers nor closes after the client has closed its half is given up.
const PATIENCE: Duration = Duration::from_secs(20);

/// What came back.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// Status, and the nonce that the origin answered.
    pub(crate) heads: Vec<(u16, Option<String>)>,
    /// The proxy did not close in time.
    pub(crate) is_stuck: bool,
}

pub(crate) async fn send(address: SocketAddr, number: u64, stream: &Stream) -> Result<Answers> {
    // Spread over addresses, so that ports in TIME_WAIT do not run out.
    let host = u32::try_from(number % 200)? + 2;
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + host), 0).into())?;
    let connected = socket.connect(address).await.context("no connection")?;
    connected.set_nodelay(true)?;
    let (mut reading, mut writing) = connected.into_split();
    // A proxy may well close while the rest is still being sent.
    let write = async {
        for part in stream.parts() {
            if writing.write_all(part).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        writing.shutdown().await.ok();
        writing
    };
    let mut bytes = Vec::new();
    // A reset ends the reading like a close: what came before counts.
    let read = async { reading.read_to_end(&mut bytes).await.ok() };
    let done = timeout(PATIENCE, async { tokio::join!(write, read) }).await;
    Ok(Answers {
        heads: heads(&bytes),
        is_stuck: done.is_err(),
    })
}

/// Walks the answers by their lengths; what is no answer ends the walk.
fn heads(mut bytes: &[u8]) -> Vec<(u16, Option<String>)> {
    let mut found = Vec::new();
    while let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
        let (head, rest) = bytes.split_at(end + 4);
        let text = String::from_utf8_lossy(head);
        let mut lines = text.lines();
        let Some(status) = lines
            .next()
            .and_then(|line| line.strip_prefix("HTTP/1."))
            .and_then(|line| line.split(' ').nth(1))
            .and_then(|status| status.parse().ok())
        else {
            break;
        };
        let field = |name: &str| {
            text.lines().find_map(|line| {
                let (found, value) = line.split_once(':')?;
                found
                    .eq_ignore_ascii_case(name)
                    .then(|| value.trim().to_owned())
            })
        };
        let nonce = field("x-seen");
        let is_head = field("x-method").as_deref() == Some("HEAD");
        let length = match field("content-length") {
            _ if is_head || (100..200).contains(&status) || status == 204 => 0,
            Some(length) => length.parse().unwrap_or(0),
            None if field("transfer-encoding").is_some() => {
                let end = rest.windows(5).position(|window| window == b"0\r\n\r\n");
                end.map_or(rest.len(), |end| end + 5)
            }
            None => rest.len(),
        };
        found.push((status, nonce));
        bytes = rest.get(length..).unwrap_or_default();
    }
    found
}
