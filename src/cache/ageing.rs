//! How old a stored answer is, and for how long it may be served (RFC 9111 section 4.2, RFC 5861).
//!
//! `freshness` has judged it once, when it was received; what is asked here again and again is by the clock
//! alone. Invariant: nothing is served stale that `freshness` says never to be.

use std::time::Duration;

use tokio::time::Instant;

use super::control::MaxStale;
use super::freshness::{Failure, Freshness};

/// How long a cache serves what it has while the origin cannot be reached and nobody said how long.
const DISCONNECTED: Duration = Duration::from_secs(24 * 60 * 60);

/// How old an answer is, and how old it may become.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ageing {
    received: Instant,
    freshness: Freshness,
    pub(super) fresh_until: Instant,
}

impl Ageing {
    pub(super) fn new(received: Instant, freshness: Freshness) -> Self {
        // A lifetime that the clock cannot hold is cut to a year.
        let usable = freshness.usable_for();
        let year = received + Duration::from_secs(31_536_000);
        let fresh_until = received.checked_add(usable).unwrap_or(year);
        Self {
            received,
            freshness,
            fresh_until,
        }
    }

    /// When the answer was received.
    pub(super) fn received(&self) -> Instant {
        self.received
    }

    pub(super) fn freshness(&self) -> Freshness {
        self.freshness
    }

    /// `current_age` of RFC 9111 section 4.2.3.
    pub(super) fn current(&self, now: Instant) -> Duration {
        self.freshness.initial_age + now.saturating_duration_since(self.received)
    }

    /// Freshness left.
    pub(super) fn left(&self, now: Instant) -> Duration {
        self.fresh_until.saturating_duration_since(now)
    }

    /// Freshness left in seconds; below zero, for how long it has been stale.
    pub(super) fn ttl(&self, now: Instant) -> i64 {
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        match self.staleness(now) {
            Duration::ZERO => seconds(self.left(now)),
            stale => seconds(stale).saturating_neg(),
        }
    }

    /// For how long the answer has been stale.
    fn staleness(&self, now: Instant) -> Duration {
        self.current(now).saturating_sub(self.freshness.lifetime)
    }

    /// Whether anything forbids to serve it stale (RFC 9111 section 4.2.4).
    fn may_be_stale(&self) -> bool {
        !self.freshness.never_stale && !self.freshness.always_validated
    }

    /// Whether a request that takes stale answers may have it (section 5.2.1.2).
    pub(super) fn is_tolerated(&self, now: Instant, tolerance: MaxStale) -> bool {
        self.may_be_stale()
            && match tolerance {
                MaxStale::Any => true,
                MaxStale::Of(most) => self.staleness(now) <= most,
            }
    }

    /// Whether it may be served while it is fetched anew (RFC 5861 section 3).
    pub(super) fn may_serve_while_revalidating(&self, now: Instant) -> bool {
        self.is_within(now, self.freshness.stale_while_revalidate)
    }

    /// Whether it may be stale, and is not yet for so long.
    pub(super) fn is_within(&self, now: Instant, window: Duration) -> bool {
        self.may_be_stale() && self.staleness(now) < window
    }

    /// Whether it may be served because the origin failed (RFC 5861 section 4). A cache that cannot reach
    /// it may even when nobody has said so (RFC 9111 section 4.2.4).
    pub(super) fn may_serve_on(
        &self,
        failure: Failure,
        now: Instant,
        asked: Option<Duration>,
    ) -> bool {
        let unsaid = match failure {
            Failure::Unreachable => DISCONNECTED,
            Failure::Failed => Duration::ZERO,
        };
        let stated = self.freshness.stale_if_error.into_iter().chain(asked).max();
        self.is_within(now, stated.unwrap_or(unsaid))
    }

    /// Whether a reload need not ask (RFC 8246).
    pub(super) fn is_immutable(&self) -> bool {
        self.freshness.immutable
    }

    /// Whether requests of any user may have it (RFC 9111 section 3.5).
    pub(super) fn is_for_all(&self) -> bool {
        self.freshness.is_for_all
    }

    /// Whether others than the one who fetched it may have it.
    pub(super) fn is_reusable(&self) -> bool {
        self.freshness.is_reusable()
    }

    /// Whether the answer came from a cache further in.
    pub(super) fn began_old(&self) -> bool {
        self.freshness.initial_age >= Duration::from_secs(1)
    }
}
