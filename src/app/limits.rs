//! Limits of the process, and how many connections of clients they leave room for.

use std::sync::Arc;

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::config::model::ConnectionLimits;
use crate::server::admission::Admission;

/// Where descriptors are not limited.
const ANY_NUMBER: usize = 1 << 20;

/// Raises the soft limit of open descriptors to the hard one: each request may need two. Returns what
/// the limit is now.
pub(super) fn raise_descriptors() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let before = limit.current;
        limit.current = limit.maximum;
        match setrlimit(Resource::Nofile, limit) {
            Ok(()) => {
                tracing::debug!(limit = ?limit.maximum, "raised the limit of open descriptors");
            }
            Err(error) => {
                tracing::warn!(%error, "cannot raise the limit of open descriptors");
                limit.current = before;
            }
        }
    }
    let current = limit.current.map(usize::try_from);
    current.and_then(Result::ok).unwrap_or(ANY_NUMBER)
}

/// What the descriptors are for.
///
/// An eighth of them, 1000 at most, is a reserve for files, listeners, checks and connections that wait
/// for a client, and never less than the process itself needs. Of the rest each client's connection may
/// need a second one to an endpoint. Those for whom there is no room must not take that of the others,
/// so all that they may have is part of the reserve.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    descriptors: usize,
    workers: usize,
    reserve: usize,
}

/// Of the process, and of each worker, before anybody is connected: standard streams, a runtime, sockets.
const OF_PROCESS: usize = 16;
const OF_WORKER: usize = 8;
/// Least and most that operators may have, and the most that one worker talks to while it turns them away.
const OPERATORS: (usize, usize) = (8, 128);
const TURNED_AWAY: usize = 64;

impl Room {
    /// Where so many may be open.
    pub(super) fn of(descriptors: usize, workers: usize) -> Self {
        let own = OF_PROCESS + OF_WORKER.saturating_mul(workers);
        // As much again for those who have no room, and for operators.
        let least = own.saturating_mul(2).min(descriptors / 2);
        Self {
            descriptors,
            workers: workers.max(1),
            reserve: (descriptors / 8).min(1000).max(least),
        }
    }

    /// The limits in numbers, in total and per address (0: none).
    pub(super) fn of_connections(self, limits: &ConnectionLimits) -> (usize, usize) {
        let room = (self.descriptors.saturating_sub(self.reserve) / 2).max(1);
        let total = limits.total.map_or(room, |total| {
            if total.get() >= self.descriptors {
                tracing::warn!(
                    connections = total,
                    descriptors = self.descriptors,
                    "more connections are allowed than descriptors may be open"
                );
            }
            total.get()
        });
        (total, limits.per_address.map_or(0, |most| most.get()))
    }

    /// What counts them.
    pub(super) fn admission(self, limits: &ConnectionLimits) -> Arc<Admission> {
        let (most, per_address) = self.of_connections(limits);
        Admission::new(most, per_address)
    }

    /// How many operators may be connected.
    pub(super) fn of_operators(self) -> usize {
        let (least, most) = OPERATORS;
        (self.reserve / 4).clamp(least, most)
    }

    /// How many each worker may talk to for whom there is no room.
    pub(super) fn of_turned_away(self) -> usize {
        (self.reserve / 4 / self.workers).min(TURNED_AWAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_connections(limits: &ConnectionLimits, descriptors: usize) -> (usize, usize) {
        Room::of(descriptors, 2).of_connections(limits)
    }

    #[test]
    fn half_of_what_is_left_after_the_reserve_is_for_clients() {
        let nothing_said = ConnectionLimits {
            total: None,
            per_address: None,
        };
        let room = |descriptors| of_connections(&nothing_said, descriptors).0;
        assert_eq!(room(1024), 448);
        assert_eq!(room(21_000), 10_000);
        assert_eq!(room(0), 1);
        let limits = ConnectionLimits {
            total: None,
            per_address: None,
        };
        assert_eq!(of_connections(&limits, 1024), (448, 0));
        let limits = ConnectionLimits {
            total: std::num::NonZero::new(7),
            per_address: std::num::NonZero::new(2),
        };
        assert_eq!(of_connections(&limits, 1024), (7, 2));
    }

    #[test]
    fn nobody_takes_the_descriptors_of_those_who_have_a_place() {
        let limits = ConnectionLimits {
            total: None,
            per_address: None,
        };
        for workers in [1, 2, 4, 16, 64] {
            for descriptors in [256, 1024, 4096, 20_000, 1 << 20] {
                let room = Room::of(descriptors, workers);
                let (clients, _) = room.of_connections(&limits);
                let own = OF_PROCESS + OF_WORKER * workers;
                let others = own + room.of_operators() + room.of_turned_away() * workers;
                // Where there is hardly room for the workers themselves, nothing helps.
                if own * 4 <= descriptors {
                    assert!(
                        2 * clients + others <= descriptors,
                        "{workers} workers, {descriptors}: {clients} clients and {others}"
                    );
                }
            }
        }
        assert_eq!(Room::of(1 << 20, 4).of_turned_away(), 62);
        assert_eq!(Room::of(256, 2).of_turned_away(), 8);
    }
}
