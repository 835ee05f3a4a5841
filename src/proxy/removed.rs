//! What reloads have taken away from answers that go on.
//!
//! A request keeps the config that it began with, and so do a long answer and a tunnel. Once a second the
//! `Worker` has the configs that are still in use compared with the one in force (`Old`); `Outbound` cuts
//! an answer whose route or endpoint has been gone for all of `timeouts.shutdown`, as a stop would.
//! Invariant: an answer whose route and endpoint are still there is left alone, however often a reload
//! replaces what it began with, and a request whose config is in force costs a look at one flag.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::{Rc, Weak};

use crate::balancer::EndpointId;
use crate::config::model::RouteId;
use crate::net::deadline::Deadlines;
use crate::snapshot::Snapshot;

use super::worker::View;

/// What of one config is gone.
#[derive(Debug, Default)]
pub(super) struct Removed {
    /// The time of some of it is over.
    is_due: Cell<bool>,
    gone: RefCell<Vec<Gone>>,
}

/// Something that is gone, and the tick at which whatever uses it is cut.
#[derive(Debug, Clone, Copy)]
struct Gone {
    what: What,
    at: u64,
    is_due: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Route(RouteId),
    Endpoint(EndpointId),
}

impl Removed {
    /// Whether the time of anything is over.
    pub(super) fn is_due(&self) -> bool {
        self.is_due.get()
    }

    /// Whether an answer of this route and endpoint is to be cut.
    pub(super) fn concerns(&self, route: Option<RouteId>, endpoint: Option<EndpointId>) -> bool {
        let is_its = |what| match what {
            What::Route(id) => route == Some(id),
            What::Endpoint(id) => endpoint == Some(id),
        };
        let gone = self.gone.borrow();
        gone.iter().any(|gone| gone.is_due && is_its(gone.what))
    }

    /// Another config is in force: what is newly gone has until the tick `at`, what is back stays.
    fn compare(&self, own: &Snapshot, now: &Present<'_>, at: u64) {
        let mut gone = self.gone.borrow_mut();
        let routes = own.routes.iter().enumerate();
        let routes = routes
            .filter(|(_, route)| !now.routes.contains(&*route.name))
            .map(|(index, _)| What::Route(RouteId(index)));
        let members = own.upstreams.iter().flat_map(|it| it.pool.members());
        let endpoints = members
            .map(|member| member.endpoint.id)
            .filter(|id| !now.endpoints.contains(id))
            .map(What::Endpoint);
        let next = routes.chain(endpoints).map(|what| {
            let known = gone.iter().find(|known| known.what == what);
            known.copied().unwrap_or(Gone {
                what,
                at,
                is_due: false,
            })
        });
        *gone = next.collect();
    }

    /// The tick `now` has come; whether the time of anything has run out with it.
    fn judge(&self, now: u64) -> bool {
        let mut newly = false;
        let mut gone = self.gone.borrow_mut();
        for gone in gone.iter_mut() {
            newly |= gone.at <= now && !gone.is_due;
            gone.is_due |= gone.at <= now;
        }
        self.is_due.set(gone.iter().any(|gone| gone.is_due));
        newly
    }
}

/// What the config in force has.
struct Present<'a> {
    routes: HashSet<&'a str>,
    endpoints: HashSet<EndpointId>,
}

impl<'a> Present<'a> {
    fn of(snapshot: &'a Snapshot) -> Self {
        let members = snapshot.upstreams.iter().flat_map(|it| it.pool.members());
        Self {
            routes: snapshot.routes.iter().map(|route| &*route.name).collect(),
            endpoints: members.map(|member| member.endpoint.id).collect(),
        }
    }
}

/// A worker's configs that are not in force any more and perhaps still in use.
#[derive(Debug, Default)]
pub(super) struct Old {
    views: RefCell<Vec<Weak<View>>>,
    /// Generation of the config that they were compared with last.
    compared: Cell<u64>,
}

impl Old {
    /// One more.
    pub(super) fn add(&self, view: &Rc<View>) {
        self.views.borrow_mut().push(Rc::downgrade(view));
    }

    /// A second has passed, or `now` has just come into force.
    pub(super) fn judge(&self, now: &Snapshot, deadlines: &Deadlines) {
        let mut views = self.views.borrow_mut();
        views.retain(|view| view.strong_count() > 0);
        let views = || views.iter().filter_map(Weak::upgrade);
        if self.compared.replace(now.generation) != now.generation && views().next().is_some() {
            let present = Present::of(now);
            let at = deadlines.at(now.config.timeouts.shutdown);
            for view in views() {
                view.removed.compare(&view.snapshot, &present, at);
            }
        }
        let judge = |due, view: Rc<View>| view.removed.judge(deadlines.now()) | due;
        if views().fold(false, judge) {
            // Also those that wait in silence are to look.
            deadlines.wake_all();
        }
    }
}
