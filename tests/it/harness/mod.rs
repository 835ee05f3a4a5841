//! What the tests are made of.
//!
//! | part       | is                                                                    |
//! |------------|-----------------------------------------------------------------------|
//! | `Gate`     | a running `headgate` with a config file of its own                    |
//! | `Config`   | the text of that file, in pieces                                      |
//! | `Origin`   | a server in this process that answers by script and remembers         |
//! | `Server`   | a server that a test plays itself, over any socket, with TLS or without |
//! | `Ca`       | a certificate authority in this process that speaks ACME              |
//! | `Client`   | one connection to either, in bytes or in requests                     |
//! | `Process`  | a child, its output in lines, its end                                 |
//! | `Timed`    | a Headgate in this process, for whose cache a test lets time pass     |
//! | `Latch`    | something that scripts wait for and tests open                        |
//! | `Metrics`  | one scrape                                                            |
//! | `Authority`| certificates; `TlsClient` shows and checks them                       |
//!
//! Invariant: whatever a test waits for is waited for with `eventually` or under `PATIENCE`, so that
//! a test that hangs fails and says at what.

mod acme;
mod client;
mod config;
mod gate;
mod latch;
mod metrics;
mod origin;
mod process;
mod server;
mod timed;
mod tls;

use std::time::Duration;

use tokio::time::{interval, timeout};

pub(crate) use acme::Ca;
pub(crate) use client::{Answer, Client, Request};
pub(crate) use config::Config;
pub(crate) use gate::Gate;
pub(crate) use latch::Latch;
pub(crate) use metrics::Metrics;
pub(crate) use origin::{Origin, Reply, Seen};
pub(crate) use process::{Process, kill};
pub(crate) use server::{Conn, Server};
pub(crate) use timed::Timed;
pub(crate) use tls::{Authority, Speaks, TlsClient, replace};

/// Bounds a test that hangs; far longer than anything takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Looks again and again until there is something to see.
#[track_caller]
pub(crate) fn eventually<T>(
    what: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    async move {
        let mut pause = interval(Duration::from_millis(5));
        let looking = async {
            loop {
                pause.tick().await;
                if let Some(found) = look().await {
                    return found;
                }
            }
        };
        match timeout(PATIENCE, looking).await {
            Ok(found) => found,
            Err(_) => panic!("it never came to pass that {what} ({place})"),
        }
    }
}

/// Waits for a future that must end.
#[track_caller]
pub(crate) fn patiently<T>(what: &str, future: impl Future<Output = T>) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    async move {
        match timeout(PATIENCE, future).await {
            Ok(found) => found,
            Err(_) => panic!("waited too long for {what} ({place})"),
        }
    }
}
