//! The command line.
//!
//! `run` serves, `check` says what is wrong with a config, `purge` purges the cache of a Headgate that
//! runs, `demo` brings up the reference shop, `backend` is one service of it. Exit codes: 0 all went well, 1 it did not, 2 the command line is
//! wrong. Invariant: what is meant to be read goes to standard output, what went wrong to standard
//! error, and whether anybody reads either changes nothing.

#[cfg(feature = "demo")]
mod backend;
mod check;
#[cfg(feature = "demo")]
mod demo;
mod logging;
mod purge;

use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{app, config};

/// An L7 load balancer, shared HTTP cache and shard router.
#[derive(Debug, Parser)]
#[command(name = "headgate", version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve what a config file says, until SIGTERM. SIGHUP reads the file again.
    Run {
        /// The config file.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Say what is wrong with a config file, or what is in it.
    Check {
        /// The config file.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Purge the cache of a Headgate that runs on this machine, or say what that would reach.
    Purge(purge::Arguments),
    /// Bring up Headgate in front of a small shop: eight services with a database each.
    #[cfg(feature = "demo")]
    Demo(demo::Arguments),
    /// Run one service of the shop (products, orders, carts, auth).
    #[cfg(feature = "demo")]
    Backend(backend::Arguments),
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Run { config } => run(&config),
        Command::Check { config } => return check::check(&config),
        Command::Purge(arguments) => purge::run(arguments),
        #[cfg(feature = "demo")]
        Command::Demo(arguments) => demo::run(&arguments),
        #[cfg(feature = "demo")]
        Command::Backend(arguments) => backend::run(arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("headgate: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// A line for standard output. `println!` would panic once nobody reads it.
fn say(line: impl Display) {
    writeln!(io::stdout().lock(), "{line}").ok();
}

/// A line for standard error.
fn complain(line: impl Display) {
    writeln!(io::stderr().lock(), "{line}").ok();
}

fn run(path: &std::path::Path) -> anyhow::Result<()> {
    let loaded = match config::load(path) {
        Ok(loaded) => loaded,
        Err(error) => anyhow::bail!("the config is not usable\n\n{}", check::explain(&error)),
    };
    let _log = logging::start(&loaded.config.log)?;
    app::serve(path, &loaded, app::Options::default())
}
