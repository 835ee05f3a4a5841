//! Every endpoint of the process, by (upstream, address, socket address).
//!
//! `snapshot::compile` asks here for the endpoints of a new config and gets the ones that live
//! already, so that in-flight counts and failures survive a reload. Invariant: while any snapshot
//! or request holds an endpoint, the same key yields that same endpoint.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::config::model::EndpointAddress;

use super::endpoint::{Endpoint, EndpointId};

type Key = (Arc<str>, Arc<str>, EndpointAddress);

/// Look-or-create for endpoints.
#[derive(Debug, Default)]
pub struct Registry(Mutex<Inside>);

#[derive(Debug, Default)]
struct Inside {
    next: u32,
    endpoints: HashMap<Key, Weak<Endpoint>>,
}

impl Registry {
    /// The endpoint of this upstream at this address, created if there is none yet.
    #[must_use]
    pub fn endpoint(
        &self,
        upstream: &Arc<str>,
        address: &Arc<str>,
        socket: &EndpointAddress,
    ) -> Arc<Endpoint> {
        let mut inside = self.0.lock();
        inside
            .endpoints
            .retain(|_, endpoint| endpoint.strong_count() > 0);
        let key = (Arc::clone(upstream), Arc::clone(address), socket.clone());
        if let Some(endpoint) = inside.endpoints.get(&key).and_then(Weak::upgrade) {
            return endpoint;
        }
        let id = EndpointId(inside.next);
        inside.next = inside.next.wrapping_add(1);
        let endpoint = Arc::new(Endpoint::new(
            id,
            Arc::clone(upstream),
            Arc::clone(address),
            socket.clone(),
        ));
        inside.endpoints.insert(key, Arc::downgrade(&endpoint));
        endpoint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balancer::InFlight;

    fn endpoint(registry: &Registry, address: &str) -> Arc<Endpoint> {
        let socket = EndpointAddress::Ip(address.parse().unwrap());
        registry.endpoint(&"shop".into(), &address.into(), &socket)
    }

    #[test]
    fn state_is_kept_while_anybody_holds_the_endpoint() {
        let registry = Registry::default();
        let guard = InFlight::new(&endpoint(&registry, "127.0.0.1:1"));
        assert_eq!(endpoint(&registry, "127.0.0.1:1").in_flight(), 1);
        drop(guard);
        assert_eq!(endpoint(&registry, "127.0.0.1:1").in_flight(), 0);
    }

    #[test]
    fn a_forgotten_endpoint_comes_back_under_a_new_id() {
        let registry = Registry::default();
        let first = endpoint(&registry, "127.0.0.1:1").id;
        assert_ne!(endpoint(&registry, "127.0.0.1:1").id, first);
    }
}
