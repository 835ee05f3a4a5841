//! Which hosts a connection may ask for: those with the client-auth policy it was accepted under.
//!
//! `Server::choose` makes one for each handshake, `server` asks it with each request. A reload or a new
//! file may ask more of clients than a connection that is open has shown: it is judged by what is in
//! force, and not by what was. Invariant: what is looked at is never older than the last change that
//! `Shared` was told of; while nothing changes, a request costs one atomic load and a branch.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use super::build::State;
use super::certificates::canonical;
use super::{PolicyId, Server, Shared};

/// Not yet held against what is in force: the handshake may have begun before a change.
const NEVER: u64 = u64::MAX;

/// Which hosts a connection may ask for.
#[derive(Debug)]
pub struct Scope {
    shared: Arc<Shared>,
    /// What the handshake was for.
    name: Option<Box<str>>,
    policy: PolicyId,
    /// The change of `Shared` that the rest is as new as.
    seen: Cell<u64>,
    state: RefCell<Arc<State>>,
    /// Every host has the connection's policy.
    alone: Cell<bool>,
    /// The host that the handshake was for has it still.
    stands: Cell<bool>,
}

impl Scope {
    pub(super) fn new(
        state: &Arc<State>,
        shared: &Arc<Shared>,
        name: Option<String>,
        policy: PolicyId,
    ) -> Self {
        let scope = Self {
            shared: Arc::clone(shared),
            name: name.map(String::into_boxed_str),
            policy,
            seen: Cell::new(NEVER),
            state: RefCell::new(Arc::clone(state)),
            alone: Cell::new(false),
            stands: Cell::new(true),
        };
        scope.weigh();
        scope
    }

    /// Follows what is in force; `current` is asked for the listener's settings if anything has changed.
    pub fn follow(&self, current: impl FnOnce() -> Option<Arc<Server>>) {
        // Before what it counts is looked at: a change in between is seen the next time.
        let changes = self.shared.changes();
        if self.seen.replace(changes) == changes {
            return;
        }
        // A listener that speaks no TLS any more asks nothing new of those who did.
        if let Some(server) = current() {
            self.state.replace(server.state());
            self.weigh();
        }
    }

    fn weigh(&self) {
        let state = self.state.borrow();
        let same = |policy: &super::build::Policy| policy.auth.id == self.policy;
        self.alone.set(state.policies.iter().all(same));
        let own = state.policy(self.name.as_deref(), &self.shared);
        self.stands.set(same(own));
    }

    /// Whether the host that the handshake was for asks of its clients what it asked then.
    #[must_use]
    pub fn stands(&self) -> bool {
        self.stands.get()
    }

    /// Whether a request for this host, with or without a port, may come over the connection.
    #[must_use]
    pub fn admits(&self, host: &str) -> bool {
        if self.alone.get() {
            return true;
        }
        let host = match host.strip_prefix('[') {
            Some(literal) => literal.split(']').next().unwrap_or_default(),
            None => host.split(':').next().unwrap_or_default(),
        };
        let named = |name: &str| name.eq_ignore_ascii_case(host);
        if self.stands.get() && self.name.as_deref().is_some_and(named) {
            return true;
        }
        let host = canonical(host);
        let name = (!host.is_empty()).then_some(&*host);
        self.state.borrow().policy(name, &self.shared).auth.id == self.policy
    }
}
