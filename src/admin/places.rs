//! How many operators' connections there are, and who goes when there is no place for the next.
//!
//! `serve` takes a place for each connection. One that has sent no request yet may be anybody; the
//! one that has been so for the longest gives its place up when another is wanted. Invariant: places
//! that are taken are never more than there are, and one whose request is being answered is kept.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::pending;
use std::rc::{Rc, Weak};

use tokio::sync::Notify;

/// The places of a listener.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    taken: Cell<usize>,
    /// Those that have asked for nothing yet, the oldest first; some of them may be gone.
    silent: RefCell<VecDeque<Weak<Visit>>>,
    left: Notify,
}

#[derive(Debug, Default)]
struct Visit {
    asked: Cell<bool>,
    wanted: Notify,
}

/// A place that is taken until this drops.
#[derive(Debug)]
pub(super) struct Place {
    places: Rc<Places>,
    visit: Rc<Visit>,
}

impl Places {
    pub(super) fn new(most: usize) -> Rc<Self> {
        Rc::new(Self {
            most: most.max(1),
            taken: Cell::new(0),
            silent: RefCell::default(),
            left: Notify::new(),
        })
    }

    /// A place, as soon as one is given up: at once if anybody is silent.
    pub(super) async fn take(self: &Rc<Self>) -> Place {
        while self.taken.get() >= self.most {
            self.send_one_away();
            self.left.notified().await;
        }
        self.taken.set(self.taken.get() + 1);
        let visit = Rc::<Visit>::default();
        let mut silent = self.silent.borrow_mut();
        silent.retain(|visit| visit.upgrade().is_some_and(|visit| !visit.asked.get()));
        silent.push_back(Rc::downgrade(&visit));
        drop(silent);
        Place {
            places: Rc::clone(self),
            visit,
        }
    }

    fn send_one_away(&self) {
        let mut silent = self.silent.borrow_mut();
        while let Some(oldest) = silent.pop_front() {
            if let Some(visit) = oldest.upgrade().filter(|visit| !visit.asked.get()) {
                visit.wanted.notify_one();
                return;
            }
        }
    }
}

impl Place {
    /// A request has come.
    pub(super) fn asks(&self) {
        self.visit.asked.set(true);
    }

    /// Another one is to have the place, and nothing was asked for.
    pub(super) async fn wanted(&self) {
        self.visit.wanted.notified().await;
        self.until_silent().await;
    }

    /// At once if nothing was asked for, else never.
    pub(super) async fn until_silent(&self) {
        if self.visit.asked.get() {
            pending::<()>().await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.set(self.places.taken.get() - 1);
        // Not kept for later: who waits next is to send one away and wait for that.
        self.places.left.notify_waiters();
    }
}
