//! What an idle keep-alive connection costs: memory with thousands of them, less memory without.
//!
//! Each connection makes one request first, since a connection that never spoke may not have a
//! buffer yet, and is then left alone. After the measurement each must still be open: a proxy that
//! closes connections does not hold them cheaply.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::args::{Args, Case, Over};
use crate::http;
use crate::load::Generator;
use crate::memory;
use crate::peers::Subject;
use crate::report::bytes;

/// Connections that are being opened at the same time.
const OPENING: usize = 64;
/// Connections per source address, well below the number of ephemeral ports.
const PER_SOURCE: u32 = 8_000;
/// For freed buffers to be given back and pools to settle.
const SETTLE: Duration = Duration::from_secs(2);

/// A proxy's memory around its idle connections.
#[derive(Debug)]
pub(crate) struct Cost {
    pub(crate) title: String,
    pub(crate) connections: u32,
    /// Bytes.
    pub(crate) before: u64,
    /// Bytes.
    pub(crate) after: u64,
}

impl Cost {
    /// Bytes per connection.
    pub(crate) fn per_connection(&self) -> f64 {
        (bytes(self.after) - bytes(self.before)) / f64::from(self.connections)
    }
}

/// Opens the connections to each proxy in turn.
pub(crate) async fn measure(
    args: &Args,
    generator: &Generator,
    subjects: &[Subject],
) -> Result<Vec<Cost>> {
    let mut costs = Vec::new();
    for subject in subjects {
        let cost = of(args, generator, subject)
            .await
            .with_context(|| format!("idle connections of {}", subject.name))?;
        eprintln!(
            "idle: {} {:.2} KiB each",
            subject.name,
            cost.per_connection() / 1_024.0
        );
        costs.push(cost);
    }
    Ok(costs)
}

async fn of(args: &Args, generator: &Generator, subject: &Subject) -> Result<Cost> {
    let pid = subject.pid().context("not a proxy")?;
    let warm_up = Case::Proxied1k
        .work()
        .context("work of a case under load")?;
    // What a proxy sets up once, at its first load, is not the price of a connection.
    generator
        .run(args, subject.address(Over::Http1), &warm_up, args.warm_up)
        .await?;
    tokio::time::sleep(SETTLE).await;
    let before = memory::proportional(pid)?;

    let held = open(subject.address(Over::Http1), args.idle_connections).await?;
    tokio::time::sleep(SETTLE).await;
    let after = memory::proportional(pid)?;
    let open = held.iter().filter(|stream| is_open(stream)).count();
    ensure!(
        open == held.len(),
        "only {open} of {} connections are still open",
        held.len()
    );
    Ok(Cost {
        title: subject.title(),
        connections: args.idle_connections,
        before,
        after,
    })
}

async fn open(address: SocketAddr, count: u32) -> Result<Vec<TcpStream>> {
    let mut held = Vec::new();
    let mut opening = JoinSet::new();
    for number in 0..count {
        if opening.len() == OPENING {
            held.extend(opening.join_next().await.transpose()?.transpose()?);
        }
        opening.spawn(open_one(address, number));
    }
    while let Some(stream) = opening.join_next().await {
        held.push(stream??);
    }
    Ok(held)
}

async fn open_one(address: SocketAddr, number: u32) -> Result<TcpStream> {
    // Every address of 127.0.0.0/8 is this machine's.
    let source = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + number / PER_SOURCE);
    let socket = TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    let mut stream = socket.connect(address).await?;
    let answer = http::exchange(&mut stream, "/json").await?;
    ensure!(answer.status == 200, "status {}", answer.status);
    Ok(stream)
}

/// Nothing to read: neither an end nor bytes that nobody asked for.
fn is_open(stream: &TcpStream) -> bool {
    matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}
