//! `cargo bench --bench differential`: mutated HTTP/1.1 request streams through a live proxy.
//!
//! Each stream is a well-formed sequence of requests that was bent in one to three named ways. It
//! goes through Headgate, nginx and HAProxy, each in front of an origin that reads by a strict
//! grammar of its own, written from RFC 9112 and sharing no code with Headgate.
//!
//! ```text
//! streams   seeds and mutations    client   sends one, reads the answers
//! origin    strict, and records    verdict  what was wrong, and the table of differences
//! proxies   who is asked, and how each is set up
//! ```
//!
//! What is checked for each stream: every request at the origin carries the nonce of exactly one
//! message that the client saw answered by the origin, in the order of the messages; and each head
//! and body there is beyond doubt. Invariant: the same seed makes the same streams for every proxy.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench reports to its terminal: tables on stdout, progress on stderr"
)]

mod client;
mod origin;
#[path = "../compare/process.rs"]
#[expect(
    dead_code,
    reason = "shared with the other bench, which uses more of it"
)]
mod process;
#[path = "../compare/procfs.rs"]
#[expect(
    dead_code,
    reason = "shared with the other bench, which uses more of it"
)]
mod procfs;
mod proxies;
mod streams;
mod verdict;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use clap::Parser;
use tokio::task::{JoinSet, LocalSet};

use origin::Origin;
use streams::{Maker, Stream};
use verdict::Verdicts;

/// Mutated request streams through Headgate and its peers to a strict origin.
#[derive(Debug, Parser)]
#[command(name = "differential")]
struct Args {
    /// Streams through each proxy.
    #[arg(long, default_value_t = 200_000)]
    streams: u64,
    /// Seed of the streams; any by default. The one that was used is printed.
    #[arg(long)]
    seed: Option<u64>,
    /// Streams that are under way at once.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    concurrency: u32,
    /// A Headgate to test.
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Proxies (headgate, nginx, haproxy); all that are installed by default.
    #[arg(long = "proxy", value_name = "NAME")]
    chosen: Vec<String>,
    /// Show this stream of the seed, byte by byte, and what becomes of it.
    #[arg(long)]
    show: Option<u64>,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if !args.bench {
        // `cargo test --all-targets` starts every bench without `--bench`.
        println!(
            "differential: nothing is sent without --bench (cargo bench --bench differential)"
        );
        return Ok(());
    }
    process::raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, run(&args))
}

async fn run(args: &Args) -> Result<()> {
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}, {} streams each", args.streams);
    let folder = tempfile::tempdir()?;
    let mut all = Vec::new();
    for proxy in proxies::installed(args.binary.as_deref())? {
        if !args.chosen.is_empty() && !args.chosen.iter().any(|name| name == proxy.name) {
            continue;
        }
        let origin = Origin::start().await?;
        let running = proxy.start(folder.path(), origin.address).await?;
        if let Some(number) = args.show {
            let stream = Rc::new(Maker::new(seed).stream(number));
            println!("== {} ==\n{}", proxy.name, stream.bytes.escape_ascii());
            println!("mutations: {:?}", stream.mutations);
            let answers = client::send(running.address, number, &stream).await?;
            println!(
                "answers: {answers:#?}\nat the origin: {:#?}",
                origin.take(number)
            );
        } else {
            all.push((
                proxy.title.clone(),
                send_all(args, seed, running.address, &origin).await?,
            ));
        }
        running.stop().await;
    }
    if args.show.is_some() {
        return Ok(());
    }
    print!("{}", verdict::table(&all));
    let wrong: u64 = all
        .iter()
        .filter(|(title, _)| title.starts_with("headgate"))
        .map(|(_, verdicts)| verdicts.violations())
        .sum();
    if wrong > 0 {
        bail!("{wrong} streams of seed {seed} were not as they must be");
    }
    Ok(())
}

async fn send_all(
    args: &Args,
    seed: u64,
    address: SocketAddr,
    origin: &Origin,
) -> Result<Verdicts> {
    let mut verdicts = Verdicts::default();
    let maker = Maker::new(seed);
    let mut sending: JoinSet<Result<(u64, Rc<Stream>, client::Answers)>> = JoinSet::new();
    let limit = usize::try_from(args.concurrency)?;
    let mut next = 0;
    loop {
        while next < args.streams && sending.len() < limit {
            let (number, stream) = (next, Rc::new(maker.stream(next)));
            next += 1;
            sending.spawn_local(async move {
                let answers = client::send(address, number, &stream)
                    .await
                    .with_context(|| format!("stream {number}"))?;
                Ok((number, stream, answers))
            });
        }
        let Some(done) = sending.join_next().await else {
            break;
        };
        let (number, stream, answers) = done??;
        verdicts.judge(number, &stream, &answers, &origin.take(number));
        if verdicts.judged() % 20_000 == 0 {
            eprintln!("{} of {} streams", verdicts.judged(), args.streams);
        }
    }
    // What arrives now belongs to no stream that is still open.
    verdicts.judge_late(&origin.take_all());
    Ok(verdicts)
}
