//! Limits of the process, and how many connections of clients they leave room for.

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::config::model::ConnectionLimits;

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

/// The limits in numbers, in total and per address (0: none), where `descriptors` may be open.
pub(super) fn of_connections(limits: &ConnectionLimits, descriptors: usize) -> (usize, usize) {
    let room = room(descriptors);
    let total = limits.total.map_or(room, |total| {
        if total.get() >= descriptors {
            tracing::warn!(
                connections = total,
                descriptors,
                "more connections are allowed than descriptors may be open"
            );
        }
        total.get()
    });
    (total, limits.per_address.map_or(0, |most| most.get()))
}

/// An eighth, 1000 at most, is for files, listeners, checks and connections that wait for a client;
/// of the rest each client's connection may need a second one to an endpoint.
fn room(descriptors: usize) -> usize {
    let reserve = (descriptors / 8).min(1000);
    (descriptors.saturating_sub(reserve) / 2).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_what_is_left_after_the_reserve_is_for_clients() {
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
}
