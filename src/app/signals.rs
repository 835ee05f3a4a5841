//! SIGHUP reloads, SIGUSR1 opens the access log's file again, SIGTERM and SIGINT stop, the second of
//! them stops at once.
//!
//! One `Signals` from start to end, so that no signal is lost between two waits.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::reload::{Apply, Reloader};

/// The signals that this process answers.
#[derive(Debug)]
pub(super) struct Signals {
    hangup: Signal,
    user: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on they are caught.
    pub(super) fn catch() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined1())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Reloads on every SIGHUP and calls `reopen` on every SIGUSR1, until a signal to stop comes.
    pub(super) async fn obey_until_stop<A: Apply>(
        &mut self,
        reloader: &Reloader<A>,
        reopen: impl Fn(),
    ) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.user.recv() => {
                    reopen();
                    continue;
                }
                _ = self.hangup.recv() => {}
            }
            tokio::select! {
                // The outcome is in the log, the gauge and the admin API already.
                _outcome = reloader.reload() => {}
                // A reload may hang on a resolver or a file system; stopping does not wait for it.
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
            }
        }
    }

    /// Resolves at the next signal to stop.
    pub(super) async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
