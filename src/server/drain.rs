//! The end of a worker's connections: told once, then counted down.
//!
//! `app` calls `begin` when the process stops; each connection looks at
//! `is_draining` when it is woken, finishes its request and closes. Invariant: the count is exactly
//! the number of `Held` guards alive, so `empty` cannot come too early.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::Notify;

/// Shared by the connections of a worker.
#[derive(Debug, Default)]
pub struct Drain {
    draining: Cell<bool>,
    open: Cell<usize>,
    changed: Notify,
}

impl Drain {
    /// From now on connections close after their current request. The caller wakes them.
    pub fn begin(&self) {
        self.draining.set(true);
    }

    /// Whether connections are to close.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Counts a connection until the guard drops.
    #[must_use]
    pub fn hold(self: &Rc<Self>) -> Held {
        self.open.set(self.open.get() + 1);
        Held(Rc::clone(self))
    }

    /// Resolves when no connection is open.
    pub async fn empty(&self) {
        while self.open.get() > 0 {
            self.changed.notified().await;
        }
    }
}

/// An open connection.
#[derive(Debug)]
pub struct Held(Rc<Drain>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        if self.0.open.get() == 0 {
            self.0.changed.notify_one();
        }
    }
}
