//! Where statuses are found again after a reload.
//!
//! `snapshot` asks for the status of each endpoint while it compiles; the snapshot holds the
//! `Arc`s, this room only `Weak` ones. Invariant: for one (upstream, address, check) there is at
//! most one live status, so state survives a reload exactly when all three are unchanged.

use std::sync::{Arc, Weak};

use ahash::AHashMap;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::status::Status;
use crate::config::model::HealthCheck;

/// Looks statuses up, or makes them.
#[derive(Debug, Default)]
pub struct Registry(Mutex<Shelves>);

#[derive(Debug, Default)]
struct Shelves {
    /// By upstream and address. Two checks stand side by side while a request of the former
    /// snapshot is still under way.
    known: AHashMap<(Arc<str>, Arc<str>), Shelf>,
    /// At this many keys the dead ones are cleared away.
    sweep_at: usize,
}

type Shelf = Vec<(HealthCheck, Weak<Status>)>;

impl Registry {
    /// An empty registry; one for the life of the process.
    pub fn new() -> Self {
        Self::default()
    }

    /// The status of an endpoint under `check`. Without a check it is a new one that stays up,
    /// since there is no state to keep.
    pub fn status(
        &self,
        upstream: &Arc<str>,
        address: &Arc<str>,
        check: Option<&HealthCheck>,
    ) -> Arc<Status> {
        let Some(check) = check else {
            return Arc::new(Status::new(None, Instant::now()));
        };
        let mut shelves = self.0.lock();
        shelves.sweep_if_due();
        let key = (Arc::clone(upstream), Arc::clone(address));
        let shelf = shelves.known.entry(key).or_default();
        shelf.retain(|(_, status)| status.strong_count() > 0);
        let same = shelf.iter().find(|(known, _)| known == check);
        if let Some(status) = same.and_then(|(_, status)| status.upgrade()) {
            return status;
        }
        let status = Arc::new(Status::new(Some(check), Instant::now()));
        shelf.push((check.clone(), Arc::downgrade(&status)));
        status
    }
}

impl Shelves {
    /// Twice the live number, so that the cost per look-up stays constant.
    fn sweep_if_due(&mut self) {
        const FEWEST: usize = 64;
        if self.known.len() >= self.sweep_at.max(FEWEST) {
            self.known
                .retain(|_, shelf| shelf.iter().any(|(_, status)| status.strong_count() > 0));
            self.sweep_at = self.known.len().saturating_mul(2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::status::tests::tcp_check;
    use super::*;

    #[test]
    fn a_status_is_found_again_only_by_the_same_upstream_address_and_check() {
        let registry = Registry::new();
        let (shop, other): (Arc<str>, Arc<str>) = ("shop".into(), "other".into());
        let (a, b): (Arc<str>, Arc<str>) = ("a:1".into(), "b:1".into());
        let check = tcp_check(2, 3);
        let first = registry.status(&shop, &a, Some(&check));
        assert!(Arc::ptr_eq(
            &first,
            &registry.status(&shop, &a, Some(&check))
        ));
        for different in [
            registry.status(&other, &a, Some(&check)),
            registry.status(&shop, &b, Some(&check)),
            registry.status(&shop, &a, Some(&tcp_check(2, 4))),
            registry.status(&shop, &a, None),
        ] {
            assert!(!Arc::ptr_eq(&first, &different));
        }
        assert!(Arc::ptr_eq(
            &first,
            &registry.status(&shop, &a, Some(&check))
        ));
    }

    #[test]
    fn statuses_that_nobody_holds_are_forgotten() {
        let registry = Registry::new();
        let shop: Arc<str> = "shop".into();
        let check = tcp_check(2, 3);
        let kept = registry.status(&shop, &"kept".into(), Some(&check));
        for index in 0..10_000 {
            drop(registry.status(&shop, &format!("{index}").into(), Some(&check)));
        }
        assert!(registry.0.lock().known.len() <= 130);
        assert!(Arc::ptr_eq(
            &kept,
            &registry.status(&shop, &"kept".into(), Some(&check))
        ));
    }
}
