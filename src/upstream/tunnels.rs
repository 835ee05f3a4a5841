//! The life of a tunnel, whichever version of HTTP leads to its endpoint.
//!
//! Its two directions go on by themselves: whoever answers the client polls for what the endpoint sends
//! and holds a `Receiving`; a task of the tunnel's own (`Life::keep`) moves what the client sends, since
//! a client that takes nothing must not keep its own words back, and watches for silence. Invariant: a
//! tunnel in which nothing moves for `tunnel_idle` ends, and each is counted once when it begins and once,
//! with a reason, when it ends, which is when both directions have ended or either of them broke.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::metrics::{TunnelEnd, Upstream};
use crate::net::deadline::{Deadlines, Timer};

use super::exchange::AnswerError;

/// What both directions of a tunnel share.
#[derive(Debug)]
pub(super) struct Life {
    metrics: Arc<Upstream>,
    worker: usize,
    /// Longest silence, both ways.
    idle: Duration,
    silence: Timer,
    /// Never armed. Whoever waits for the endpoint can be found by it, as all can who hold a timer.
    call: Timer,
    client_ended: Cell<bool>,
    endpoint_ended: Cell<bool>,
    over: Cell<Option<TunnelEnd>>,
    keeper: RefCell<Option<Waker>>,
    receiver: RefCell<Option<Waker>>,
}

impl Life {
    /// A tunnel opens.
    pub(super) fn begin(
        metrics: &Arc<Upstream>,
        worker: usize,
        deadlines: &Rc<Deadlines>,
        idle: Duration,
    ) -> Rc<Self> {
        metrics.worker(worker).tunnel_opened();
        let silence = deadlines.timer();
        silence.arm(idle);
        Rc::new(Self {
            metrics: Arc::clone(metrics),
            worker,
            idle,
            silence,
            call: deadlines.timer(),
            client_ended: Cell::new(false),
            endpoint_ended: Cell::new(false),
            over: Cell::new(None),
            keeper: RefCell::default(),
            receiver: RefCell::default(),
        })
    }

    /// The end of it for whoever takes what the endpoint sends.
    pub(super) fn receiving(self: &Rc<Self>) -> Receiving {
        Receiving(Rc::clone(self))
    }

    /// Bytes went in either direction.
    pub(super) fn moved(&self) {
        self.silence.arm(self.idle);
    }

    /// Moves what the client sends, by `send`, which is ready when the client has ended its side and the
    /// endpoint was told. Ends with the tunnel.
    pub(super) async fn keep(
        self: Rc<Self>,
        mut send: impl FnMut(&mut Context<'_>, &Self) -> Poll<Result<(), TunnelEnd>>,
    ) {
        poll_fn(|cx| {
            if self.over.get().is_none() && !self.client_ended.get() {
                match send(cx, &self) {
                    Poll::Ready(Ok(())) => self.side_ended(&self.client_ended),
                    Poll::Ready(Err(end)) => self.end(end),
                    Poll::Pending => {}
                }
            }
            if self.over.get().is_some() {
                return Poll::Ready(());
            }
            remember(&self.keeper, cx);
            self.silence.poll(cx).map(|()| self.end(TunnelEnd::Idle))
        })
        .await;
    }

    fn side_ended(&self, side: &Cell<bool>) {
        side.set(true);
        if self.client_ended.get() && self.endpoint_ended.get() {
            self.end(TunnelEnd::Upstream);
        }
    }

    fn end(&self, end: TunnelEnd) {
        if self.over.get().is_some() {
            return;
        }
        self.over.set(Some(end));
        self.metrics.worker(self.worker).tunnel_ended(end);
        for waiting in [&self.keeper, &self.receiver] {
            if let Some(waker) = waiting.take() {
                waker.wake();
            }
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.end(TunnelEnd::Client);
    }
}

fn remember(place: &RefCell<Option<Waker>>, cx: &Context<'_>) {
    let mut place = place.borrow_mut();
    if !place.as_ref().is_some_and(|it| it.will_wake(cx.waker())) {
        *place = Some(cx.waker().clone());
    }
}

/// Held for as long as what the endpoint sends is taken. Dropped before the endpoint has ended its side,
/// it ends the tunnel: the client has left.
#[derive(Debug)]
pub(super) struct Receiving(Rc<Life>);

impl Receiving {
    /// Bytes of the endpoint have come.
    pub(super) fn moved(&self) {
        self.0.moved();
    }

    /// The endpoint has ended its side. The client may still send.
    pub(super) fn endpoint_ended(&self) {
        self.0.side_ended(&self.0.endpoint_ended);
    }

    /// The tunnel ends here, both ways.
    pub(super) fn end(&self, end: TunnelEnd) {
        self.0.end(end);
    }

    /// Whether the endpoint may still send.
    pub(super) fn is_open(&self) -> bool {
        self.over().is_none() && !self.0.endpoint_ended.get()
    }

    /// How the tunnel has ended, if it has.
    pub(super) fn over(&self) -> Option<TunnelEnd> {
        self.0.over.get()
    }

    /// What a body ends with whose tunnel has ended: the client is told by an error of what broke off.
    pub(super) fn last_word<T>(&self) -> Option<Result<T, AnswerError>> {
        match self.over()? {
            TunnelEnd::Client | TunnelEnd::Upstream | TunnelEnd::Idle => None,
            TunnelEnd::Error | TunnelEnd::Removed => Some(Err(AnswerError::Broken(None))),
        }
    }

    /// Nothing has come of the endpoint: waits for the end of the tunnel.
    pub(super) fn poll_over(&self, cx: &Context<'_>) -> Poll<TunnelEnd> {
        if let Some(end) = self.over() {
            return Poll::Ready(end);
        }
        remember(&self.0.receiver, cx);
        // For the waker only.
        let _never = self.0.call.poll(cx);
        Poll::Pending
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        if !self.0.endpoint_ended.get() {
            self.0.end(TunnelEnd::Client);
        }
    }
}
