//! `headgate backend NAME`: one reference service.
//!
//! It stops on SIGTERM and SIGINT, and with `--until-stdin-closes` when whoever started it is gone,
//! however that one ended. Invariant: a folder that it shares with others is removed only in the
//! second case, since after a signal the others go on.

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use headgate_backends::{Options, Service};
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// products, orders, carts or auth.
    service: Service,
    /// Where it listens.
    #[arg(long, value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Its SQLite file, created if it is not there.
    #[arg(long, value_name = "FILE")]
    database: PathBuf,
    /// What it calls itself in `X-Served-By`. Default: the service's name.
    #[arg(long)]
    name: Option<String>,
    /// Stop when standard input closes.
    #[arg(long)]
    until_stdin_closes: bool,
    /// Remove this folder when it stops because standard input closed.
    #[arg(long, value_name = "FOLDER", hide = true)]
    remove: Option<PathBuf>,
}

pub(super) fn run(arguments: Arguments) -> Result<()> {
    let name = arguments
        .name
        .unwrap_or_else(|| arguments.service.to_string());
    let options = Options::new(
        arguments.service,
        name,
        arguments.listen,
        arguments.database,
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let end = Cell::new(None);
    let served = runtime.block_on(async {
        let listener = headgate_backends::bind(&options).await?;
        let stop = async { end.set(Some(stopped(arguments.until_stdin_closes).await)) };
        headgate_backends::serve(listener, options, stop)
            .await
            .context("the service ended")
    });
    // A read of standard input may still be under way.
    runtime.shutdown_background();
    if let (Some(folder), Some(End::StarterGone)) = (arguments.remove, end.get()) {
        // The other services that share it do the same, and only the first finds it.
        std::fs::remove_dir_all(folder).ok();
    }
    served
}

/// Why it stops.
#[derive(Debug, Clone, Copy)]
enum End {
    /// Standard input closed.
    StarterGone,
    /// Somebody wants this one service to stop.
    Signalled,
}

async fn stopped(with_stdin: bool) -> End {
    let stdin_closes = async {
        if !with_stdin {
            return std::future::pending().await;
        }
        let mut stdin = tokio::io::stdin();
        let mut sink = [0; 64];
        while stdin.read(&mut sink).await.is_ok_and(|count| count > 0) {}
    };
    let signalled = async {
        let (Ok(mut terminate), Ok(mut interrupt)) = (
            signal(SignalKind::terminate()),
            signal(SignalKind::interrupt()),
        ) else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            // Ctrl-C reaches the whole group: whoever holds our standard input decides.
            _ = interrupt.recv(), if !with_stdin => {}
        }
    };
    tokio::select! {
        // Where both are so, nobody else may be left to remove the folder.
        biased;
        () = stdin_closes => End::StarterGone,
        () = signalled => End::Signalled,
    }
}
