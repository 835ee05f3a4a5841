//! One connection of HTTP/2 to an endpoint.
//!
//! `peers` asks for one and keeps it; a local task drives it until it ends. It counts as made when the
//! endpoint's SETTINGS have come: then it is known to speak HTTP/2, how many streams it takes and
//! whether it takes tunnels. Invariant: a connection with open streams on which the endpoint does not
//! answer a PING is given up, and with it the streams.

use std::cell::Cell;
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{Ping, PingPong};

use crate::metrics::ProxyError as Reason;
use crate::net::deadline::Timer;
use crate::net::hop::Hop;
use crate::net::stream::Stream;

use super::super::connect::NoConnection;
use super::super::pool::{Pools, Target};
use super::peers::Peers;

/// Window of a stream: what an endpoint may send of one answer before its client has taken any.
const STREAM_WINDOW: u32 = 64 * 1024;
/// Window of all streams of a connection together.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Most bytes of an answer's fields.
const HEADER_LIST: u32 = 32 * 1024;
/// Most bytes that h2 takes from us for one stream ahead of the window.
const SEND_BUFFER: usize = 64 * 1024;
/// Most streams of ours, however many the endpoint takes.
const MOST_STREAMS: usize = 128;
/// No endpoint says this: stands for SETTINGS that have not come.
const NOT_SAID: usize = 0x7fff_fffe;
/// With open streams, the endpoint is asked for a sign of life so often,
const PING_EVERY: Duration = Duration::from_secs(15);
/// and must give it in this time.
const PING_WITHIN: Duration = Duration::from_secs(10);

/// A connection that was made.
#[derive(Debug)]
pub(super) struct Connection {
    /// Never used itself: each request has a clone.
    sender: SendRequest<Bytes>,
    pub(super) hop: Arc<Hop>,
    /// Streams that are open.
    open: Cell<usize>,
    /// Its task has ended.
    ended: Cell<bool>,
    /// While no stream is open: the tick at which it is closed.
    pub(super) expires: Cell<u64>,
}

type Driven = h2::client::Connection<Stream, Bytes>;

impl Connection {
    /// Connects to the target's endpoint, within `timeouts.connect`.
    pub(super) async fn make(
        pools: &Pools,
        target: &Target<'_>,
        peers: &Rc<Peers>,
    ) -> Result<(Rc<Self>, Duration), NoConnection> {
        let (stream, took) = pools.connect(target).await?;
        let timer = pools.deadlines().timer();
        timer.arm(target.timeouts.connect.saturating_sub(took));
        let broken = |error: h2::Error| {
            let reason = if error.is_io() {
                Reason::ConnectionTerminated
            } else {
                Reason::HttpProtocolError
            };
            (reason, Some(error.into()))
        };
        let (sender, mut driven): (SendRequest<Bytes>, Driven) =
            settings().handshake(stream).await.map_err(broken)?;
        poll_fn(|cx| {
            let ended = Pin::new(&mut driven).poll(cx);
            if sender.current_max_send_streams() != NOT_SAID {
                return Poll::Ready(Ok(()));
            }
            if let Poll::Ready(result) = ended {
                let closed = (Reason::ConnectionTerminated, None);
                return Poll::Ready(Err(result.err().map_or(closed, broken)));
            }
            timer
                .poll(cx)
                .map(|()| Err((Reason::ConnectionTimeout, None)))
        })
        .await?;
        pools.count_connection(target, took);
        let connection = Rc::new(Self {
            sender,
            hop: Arc::clone(target.hop),
            open: Cell::new(0),
            ended: Cell::new(false),
            expires: Cell::new(0),
        });
        timer.disarm();
        let watch = Watch {
            pings: driven.ping_pong(),
            timer,
            waits: false,
        };
        let (of, peers) = (Rc::downgrade(&connection), Rc::downgrade(peers));
        tokio::task::spawn_local(drive(driven, watch, of, peers));
        Ok((connection, took))
    }

    /// How many streams are open.
    pub(super) fn open(&self) -> usize {
        self.open.get()
    }

    pub(super) fn enter(&self) {
        self.open.set(self.open.get() + 1);
    }

    pub(super) fn leave(&self) {
        self.open.set(self.open.get().saturating_sub(1));
    }

    /// Whether there is room for one more stream.
    pub(super) fn has_room(&self) -> bool {
        self.open.get() < self.sender.current_max_send_streams().min(MOST_STREAMS)
    }

    /// Whether the endpoint takes new streams: not after GOAWAY, an error or the end.
    pub(super) fn is_usable(&self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        !self.ended.get() && !matches!(self.sender().poll_ready(&mut nobody), Poll::Ready(Err(_)))
    }

    /// For one request.
    pub(super) fn sender(&self) -> SendRequest<Bytes> {
        self.sender.clone()
    }
}

fn settings() -> Builder {
    let mut settings = Builder::new();
    settings
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADER_LIST)
        .max_send_buffer_size(SEND_BUFFER)
        .initial_max_send_streams(NOT_SAID);
    settings
}

/// Moves a connection's frames until it ends.
async fn drive(mut driven: Driven, mut watch: Watch, of: Weak<Connection>, peers: Weak<Peers>) {
    poll_fn(|cx| {
        if Pin::new(&mut driven).poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let open = of.upgrade().map_or(0, |connection| connection.open());
        watch.poll(cx, open > 0)
    })
    .await;
    // Its streams break off here, if there are any left.
    drop(driven);
    if let Some(connection) = of.upgrade() {
        connection.ended.set(true);
    }
    if let Some(peers) = peers.upgrade() {
        peers.tidy();
    }
}

/// Looks for signs of life.
struct Watch {
    pings: Option<PingPong>,
    timer: Timer,
    /// A PING was sent and not answered.
    waits: bool,
}

impl Watch {
    /// Ready when the endpoint is dead.
    fn poll(&mut self, cx: &mut Context<'_>, is_busy: bool) -> Poll<()> {
        let Some(pings) = &mut self.pings else {
            return Poll::Pending;
        };
        if self.waits && pings.poll_pong(cx).is_ready() {
            self.waits = false;
            self.timer.disarm();
        }
        if !is_busy && !self.waits {
            self.timer.disarm();
            return Poll::Pending;
        }
        if !self.timer.is_armed() {
            self.timer.arm(PING_EVERY);
        }
        if self.timer.poll(cx).is_pending() {
            return Poll::Pending;
        }
        if self.waits {
            return Poll::Ready(());
        }
        if pings.send_ping(Ping::opaque()).is_ok() {
            self.waits = true;
            // To be told of the answer, and to have it sent.
            let _not_yet = pings.poll_pong(cx);
            cx.waker().wake_by_ref();
        }
        self.timer.arm(PING_WITHIN);
        self.timer.poll(cx)
    }
}
