//! Counts open tunnels.
//!
//! `http1` and `http2` hold an `Open` for as long as a tunnel lives. Invariant: each is counted once
//! when it begins and once, with a reason, when it ends; one that is dropped was given up by its client.

use std::sync::Arc;

use crate::metrics::{TunnelEnd, Upstream};

/// A tunnel that is open.
#[derive(Debug)]
pub(super) struct Open {
    metrics: Arc<Upstream>,
    worker: usize,
    end: TunnelEnd,
}

impl Open {
    pub(super) fn new(metrics: &Arc<Upstream>, worker: usize) -> Self {
        metrics.worker(worker).tunnel_opened();
        Self {
            metrics: Arc::clone(metrics),
            worker,
            end: TunnelEnd::Client,
        }
    }

    /// It will be over by this; the last word counts.
    pub(super) fn ends_by(&mut self, end: TunnelEnd) {
        self.end = end;
    }

    /// It is over.
    pub(super) fn ended(mut self, end: TunnelEnd) {
        self.end = end;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.metrics.worker(self.worker).tunnel_ended(self.end);
    }
}
