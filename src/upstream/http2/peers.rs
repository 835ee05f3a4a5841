//! The connections of HTTP/2 that a worker has to one endpoint.
//!
//! `exchange` asks for a `Seat`: a stream on a connection that has room; else a connection is made, as
//! long as there are fewer than `max_idle`; else the request waits, at most `timeouts.connect`, with at
//! most `MOST_WAITING` others. While a connection is being made the next requests wait for it instead
//! of making their own. Invariant: whoever leaves, gives up or fails wakes those who may go on.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;

use crate::body::BoxError;
use crate::metrics::{self, ProxyError as Reason};
use crate::net::deadline::Deadlines;

use super::super::error::Stage;
use super::super::exchange::Reuse;
use super::super::pool::{Pools, Target};
use super::connection::Connection;

/// Most requests that wait for one endpoint.
const MOST_WAITING: usize = 1024;
/// So many requests wait for one connection that is being made; then another one is begun.
const PER_DIAL: usize = 64;

/// The connections to one endpoint.
#[derive(Debug)]
pub(in super::super) struct Peers {
    worker: usize,
    metrics: Arc<metrics::Endpoint>,
    connections: RefCell<Vec<Rc<Connection>>>,
    dialing: Cell<usize>,
    /// How often dialing failed, and with what the last time.
    failures: Cell<(u64, Reason)>,
    waiting: RefCell<Slab<Option<Waker>>>,
}

/// Room for one request on a connection.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) connection: Rc<Connection>,
    peers: Rc<Peers>,
    deadlines: Rc<Deadlines>,
    keep: Duration,
}

/// A seat, and what it took.
pub(super) struct Seated {
    pub(super) seat: Seat,
    /// Time to connect, when a connection was made for it.
    pub(super) connect: Option<Duration>,
}

/// Why there is no seat.
pub(super) type NoSeat = (Stage, Reason, Option<BoxError>);

impl Peers {
    pub(in super::super) fn new(metrics: &Arc<metrics::Endpoint>, worker: usize) -> Rc<Self> {
        Rc::new(Self {
            worker,
            metrics: Arc::clone(metrics),
            connections: RefCell::default(),
            dialing: Cell::new(0),
            failures: Cell::new((0, Reason::ConnectionTerminated)),
            waiting: RefCell::default(),
        })
    }

    /// A seat for a request. `Reuse::Fresh` prefers a new connection.
    pub(super) async fn seat(
        self: &Rc<Self>,
        pools: &Pools,
        target: &Target<'_>,
        reuse: Reuse,
    ) -> Result<Seated, NoSeat> {
        let mut wants_fresh = reuse == Reuse::Fresh;
        let mut wait: Option<Wait> = None;
        let cells = target.upstream_metrics.worker(self.worker);
        loop {
            if !wants_fresh && let Some(seat) = self.free(pools, target) {
                if wait.is_some() {
                    cells.stream_waited(true);
                }
                return Ok(Seated {
                    seat,
                    connect: None,
                });
            }
            if self.may_dial(target, wants_fresh) {
                return self.dial(pools, target).await;
            }
            if std::mem::take(&mut wants_fresh) {
                continue;
            }
            let wait = match &mut wait {
                Some(wait) => wait,
                None => match Wait::begin(self, pools, target) {
                    Some(begun) => wait.insert(begun),
                    None => {
                        cells.stream_waited(false);
                        return Err((Stage::Queue, Reason::ConnectionLimitReached, None));
                    }
                },
            };
            if let Err(no_seat) = wait.next().await {
                cells.stream_waited(false);
                return Err(no_seat);
            }
        }
    }

    /// Room on a connection that is there.
    fn free(self: &Rc<Self>, pools: &Pools, target: &Target<'_>) -> Option<Seat> {
        self.retire(|connection| {
            let same =
                Arc::ptr_eq(&connection.hop, target.hop) || connection.hop.is_same(target.hop);
            !same || !connection.is_usable()
        });
        let connections = self.connections.borrow();
        let connection = connections.iter().find(|one| one.has_room())?;
        Some(self.take(pools, target, connection))
    }

    fn take(
        self: &Rc<Self>,
        pools: &Pools,
        target: &Target<'_>,
        connection: &Rc<Connection>,
    ) -> Seat {
        if connection.open() == 0 {
            self.metrics.worker(self.worker).unparked();
        }
        connection.enter();
        Seat {
            connection: Rc::clone(connection),
            peers: Rc::clone(self),
            deadlines: Rc::clone(pools.deadlines()),
            keep: target.timeouts.idle,
        }
    }

    fn may_dial(&self, target: &Target<'_>, insists: bool) -> bool {
        let dialing = self.dialing.get();
        let waiting = self.waiting.borrow().len();
        self.connections.borrow().len() + dialing < target.max_idle.max(1)
            && (insists || waiting >= dialing * PER_DIAL)
    }

    async fn dial(self: &Rc<Self>, pools: &Pools, target: &Target<'_>) -> Result<Seated, NoSeat> {
        let dialing = Dialing::new(self);
        match Connection::make(pools, target, self).await {
            Ok((connection, took)) => {
                self.connections.borrow_mut().push(Rc::clone(&connection));
                self.metrics.worker(self.worker).parked();
                let seat = self.take(pools, target, &connection);
                drop(dialing);
                Ok(Seated {
                    seat,
                    connect: Some(took),
                })
            }
            Err((reason, cause)) => {
                let (count, _) = self.failures.get();
                self.failures.set((count + 1, reason));
                drop(dialing);
                Err((Stage::Dial, reason, cause))
            }
        }
    }

    /// Lets go of connections; streams that are open on them go on.
    fn retire(&self, is_over: impl Fn(&Connection) -> bool) {
        self.connections.borrow_mut().retain(|connection| {
            let over = is_over(connection);
            if over && connection.open() == 0 {
                self.metrics.worker(self.worker).unparked();
            }
            !over
        });
    }

    /// A connection has ended.
    pub(super) fn tidy(&self) {
        self.retire(|connection| !connection.is_usable());
        self.wake_all();
    }

    /// Closes what has had no stream for too long; everything if the endpoint is gone.
    pub(in super::super) fn sweep(&self, now: u64, keep: bool) {
        self.retire(|connection| {
            !keep || (connection.open() == 0 && connection.expires.get() <= now)
        });
    }

    fn wake_all(&self) {
        for (_, waker) in self.waiting.borrow_mut().iter_mut() {
            if let Some(waker) = waker.take() {
                waker.wake();
            }
        }
    }

    fn wake_one(&self) {
        let mut waiting = self.waiting.borrow_mut();
        if let Some(waker) = waiting.iter_mut().find_map(|(_, waker)| waker.take()) {
            waker.wake();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let connection = &self.connection;
        connection.leave();
        if connection.open() == 0 {
            connection.expires.set(self.deadlines.at(self.keep));
            let connections = self.peers.connections.borrow();
            if connections.iter().any(|it| Rc::ptr_eq(it, connection)) {
                let metrics = &self.peers.metrics;
                metrics.worker(self.peers.worker).parked();
            }
        }
        self.peers.wake_one();
    }
}

/// A connection that is being made.
struct Dialing(Rc<Peers>);

impl Dialing {
    fn new(peers: &Rc<Peers>) -> Self {
        peers.dialing.set(peers.dialing.get() + 1);
        Self(Rc::clone(peers))
    }
}

impl Drop for Dialing {
    fn drop(&mut self) {
        self.0.dialing.set(self.0.dialing.get() - 1);
        self.0.wake_all();
    }
}

/// A request that waits.
struct Wait {
    peers: Rc<Peers>,
    key: usize,
    timer: crate::net::deadline::Timer,
    /// Failures to dial that were there when it began.
    failures: u64,
    was_polled: bool,
}

impl Wait {
    /// None if too many wait already.
    fn begin(peers: &Rc<Peers>, pools: &Pools, target: &Target<'_>) -> Option<Self> {
        let mut waiting = peers.waiting.borrow_mut();
        if waiting.len() >= MOST_WAITING {
            return None;
        }
        let timer = pools.deadlines().timer();
        timer.arm(target.timeouts.connect);
        Some(Self {
            key: waiting.insert(None),
            peers: Rc::clone(peers),
            timer,
            failures: peers.failures.get().0,
            was_polled: false,
        })
    }

    /// Until it is worth another look.
    async fn next(&mut self) -> Result<(), NoSeat> {
        self.was_polled = false;
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &Context<'_>) -> Poll<Result<(), NoSeat>> {
        let (failures, reason) = self.peers.failures.get();
        if failures != self.failures {
            // The connection that it waited for could not be made.
            return Poll::Ready(Err((Stage::Dial, reason, None)));
        }
        if self.timer.poll(cx).is_ready() {
            let late = (Stage::Queue, Reason::ConnectionLimitReached, None);
            return Poll::Ready(Err(late));
        }
        let mut waiting = self.peers.waiting.borrow_mut();
        let Some(slot) = waiting.get_mut(self.key) else {
            return Poll::Ready(Ok(()));
        };
        // Taken out by whoever woke it.
        if slot.is_none() && self.was_polled {
            return Poll::Ready(Ok(()));
        }
        self.was_polled = true;
        *slot = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let woken = {
            let mut waiting = self.peers.waiting.borrow_mut();
            waiting.try_remove(self.key).is_some_and(|it| it.is_none())
        };
        // Woken for a place that it will not take, perhaps: the next may.
        if woken {
            self.peers.wake_one();
        }
    }
}
