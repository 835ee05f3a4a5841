//! `cargo bench --bench compare`: Headgate beside its peers, on the same work, on this machine.
//!
//! One proxy process pinned to one core with one worker; the load generator and a fast origin
//! share another core. What counts is the proxy's CPU per request, from the kernel's own
//! accounting: requests per second say little where generator, origin and proxy share a machine.
//!
//! ```text
//! args     what to measure          peers    who is measured, and how each is set up
//! origin   answers, and counts      load     asks, through wrk or oha
//! rounds   interleaved slices       idle     what an idle connection costs
//! slow     what slow connections do to the others
//! profile  --strace and --perf      report   medians, quartiles, ratios; table lays them out
//! ```
//!
//! Invariant: a slice that did not do the work it is named after (an error, a short answer, a
//! cache hit that reached the origin, an upstream connection per request) ends the run with an
//! error and never becomes a figure. `benches/README.md` says how to read the figures.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench reports to its terminal: tables on stdout, progress on stderr"
)]

mod args;
mod build;
mod cpu;
mod http;
mod idle;
mod load;
mod memory;
mod origin;
mod peers;
mod process;
mod procfs;
mod profile;
mod report;
mod rounds;
mod slow;
mod spread;
mod table;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Parser;

use args::{Args, Case};
use load::Generator;
use origin::Origin;
use peers::{Peer, Subject};

fn main() -> Result<()> {
    let args = Args::parse();
    if args.origin {
        return origin::serve();
    }
    if !args.bench {
        // `cargo test --all-targets` starts every bench without `--bench`.
        println!("compare: nothing is measured without --bench (cargo bench --bench compare)");
        return Ok(());
    }
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let mut terminated =
                tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
            // Leaving through here drops the subjects, and with them their processes and folders.
            tokio::select! {
                result = compare(&args) => result,
                _ = tokio::signal::ctrl_c() => bail!("interrupted"),
                _ = terminated.recv() => bail!("terminated"),
            }
        })
}

async fn compare(args: &Args) -> Result<()> {
    process::raise_descriptor_limit();
    let generator = Generator::detect(args.load)?;
    let peers = peers_present(args)?;
    say_setting(args, &generator)?;

    let folder = temporary_folder()?;
    let origin = Origin::start(&args.load_core).await?;
    let mut subjects = Vec::new();
    for peer in &peers {
        eprintln!("starting {}", peer.name());
        subjects.push(Subject::start(peer.as_ref(), folder.path(), origin.address, args).await?);
    }

    for case in args.cases() {
        if args.strace || args.perf {
            profile::run(args, &generator, case, &subjects, folder.path()).await?;
        } else if let Some(work) = case.work() {
            if !generator.speaks(work.over) {
                eprintln!("SKIPPED: {} needs h2load or wrk", case.name());
                continue;
            }
            let direct = Subject::direct(origin.address);
            let all: Vec<&Subject> = subjects
                .iter()
                .chain(std::iter::once(&direct))
                .filter(|subject| subject.speaks(work.over))
                .collect();
            let slices = rounds::measure(args, &generator, case, &work, &origin, &all).await?;
            print!("{}", report::load(args, case, &all, &slices));
        } else if case == Case::Slow {
            let Some(headgate) = subjects.iter().find(|subject| subject.name == "headgate") else {
                continue;
            };
            process::pin_self(&args.load_core);
            let pairs = slow::measure(args, headgate).await?;
            print!("{}", report::slow(args, &pairs));
        } else {
            let costs = idle::measure(args, &generator, &subjects).await?;
            print!("{}", report::idle(args, &costs));
        }
    }
    for subject in subjects {
        subject.stop().await;
    }
    Ok(())
}

/// Those of the chosen proxies that are installed, Headgate first; says aloud which are not.
fn peers_present(args: &Args) -> Result<Vec<Box<dyn Peer>>> {
    let others = peers::others();
    let known = |name: &str| name == "headgate" || others.iter().any(|peer| peer.name() == name);
    if let Some(unknown) = args.chosen_peers.iter().find(|name| !known(name)) {
        bail!("no peer is called {unknown}");
    }
    let mut peers: Vec<Box<dyn Peer>> = Vec::new();
    if args.wants("headgate") {
        peers.push(Box::new(peers::headgate::Headgate {
            binary: headgate_binary(args)?,
        }));
    }
    for peer in others {
        if !args.wants(peer.name()) {
            continue;
        }
        if peer.version().is_some() {
            peers.push(peer);
        } else {
            eprintln!("SKIPPED: {} is not installed", peer.name());
        }
    }
    if peers.is_empty() {
        bail!("no proxy left to measure");
    }
    Ok(peers)
}

fn headgate_binary(args: &Args) -> Result<PathBuf> {
    match &args.binary {
        Some(path) => std::path::absolute(path).context("--binary"),
        None => match std::env::var_os("HEADGATE_BINARY") {
            Some(path) => std::path::absolute(Path::new(&path)).context("HEADGATE_BINARY"),
            None => build::headgate(),
        },
    }
}

/// On tmpfs where there is one, so that no peer waits for a disk; open to the unprivileged users
/// that nginx's worker runs as.
fn temporary_folder() -> Result<tempfile::TempDir> {
    use std::os::unix::fs::PermissionsExt as _;

    let shared_memory = Path::new("/dev/shm");
    let parent = if shared_memory.is_dir() {
        shared_memory.to_path_buf()
    } else {
        std::env::temp_dir()
    };
    tempfile::Builder::new()
        .prefix("headgate-compare-")
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir_in(parent)
        .context("no temporary folder")
}

fn say_setting(args: &Args, generator: &Generator) -> Result<()> {
    let cores = std::thread::available_parallelism()?;
    if cores.get() < 2 {
        bail!("two cores are needed: one for the proxy, one for load and origin");
    }
    eprintln!(
        "{}, {} keep-alive connections; proxy on core {}, load and origin on core {}; {} cores here",
        generator.version(),
        args.connections,
        args.proxy_core,
        args.load_core,
        cores
    );
    Ok(())
}
