//! The live state of one endpoint, shared by all workers and kept across reloads.
//!
//! `pick` reads it, `proxy::forward` reports to it. What health checks say of the endpoint is
//! `health::Status`, which a `Member` holds beside it. Invariant: every field is an atomic of its
//! own and none guards another, so `Relaxed` is enough everywhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::config::model::EndpointAddress;

/// First pause after a failed exchange; doubles with each failure in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// Number of an endpoint, never used twice within a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(pub u32);

/// One server of an upstream.
#[derive(Debug)]
pub struct Endpoint {
    /// Key of the workers' connection pools.
    pub id: EndpointId,
    /// Name of the upstream it belongs to.
    pub upstream: Arc<str>,
    /// `host:port` or `unix:/path`, as in the config.
    pub address: Arc<str>,
    /// Where that leads.
    pub socket: EndpointAddress,
    in_flight: AtomicU32,
    failures: AtomicU32,
    paused_until: AtomicU64,
}

impl Endpoint {
    pub(crate) fn new(
        id: EndpointId,
        upstream: Arc<str>,
        address: Arc<str>,
        socket: EndpointAddress,
    ) -> Self {
        Self {
            id,
            upstream,
            address,
            socket,
            in_flight: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            paused_until: AtomicU64::new(0),
        }
    }

    /// Requests that it is working on now, for all workers.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Whether it failed so recently that others should be preferred. `now` is milliseconds of a
    /// clock that all workers share.
    #[must_use]
    pub fn is_paused(&self, now: u64) -> bool {
        let until = self.paused_until.load(Relaxed);
        until != 0 && now < until
    }

    /// Failed exchanges in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures.load(Relaxed)
    }

    /// An exchange failed by the endpoint's fault. A server that refuses at once has nothing in
    /// flight, so least connections alone would send it everything: it is paused, longer each time.
    pub fn failed(&self, now: u64) {
        if self.is_paused(now) {
            // Requests that were under way when the first of them failed say nothing new.
            return;
        }
        let earlier = self.failures.fetch_add(1, Relaxed).min(16);
        let pause = FIRST_PAUSE.saturating_mul(1 << earlier).min(LONGEST_PAUSE);
        let pause = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        self.paused_until
            .store(now.saturating_add(pause).max(1), Relaxed);
    }

    /// An exchange went well. Plain loads in the common case: nothing is written.
    pub fn succeeded(&self) {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
            self.paused_until.store(0, Relaxed);
        }
    }
}

/// A request in flight at an endpoint; counted until dropped.
#[derive(Debug)]
pub struct InFlight(Arc<Endpoint>);

impl InFlight {
    /// Counts one more request at `endpoint`.
    #[must_use]
    pub fn new(endpoint: &Arc<Endpoint>) -> Self {
        endpoint.in_flight.fetch_add(1, Relaxed);
        Self(Arc::clone(endpoint))
    }

    /// Where it is.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}
