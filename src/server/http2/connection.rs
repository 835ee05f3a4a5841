//! One connection of HTTP/2: its streams, its limits, its end.
//!
//! One task polls h2's connection and the streams that it made; nothing is spawned, so a stream costs
//! no turn of the runtime, and a panic in one of them costs the connection. Streams that are not ready
//! at once are polled only when woken. Invariant: the connection ends after at most one more deadline,
//! once it was told to: by the drain, a limit, a violation or a client that is late.

use std::cell::Cell;
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, Stream as _};
use h2::{Reason, RecvStream};
use http::Request;
use http::header::HeaderValue;

use crate::http2::frames::{self, Code, Ending};
use crate::metrics::{CloseReason, Http2Flood, WorkerCells};
use crate::net::deadline::{Deadlines, Timer};
use crate::net::stream::Stream;
use crate::server::dates::Dates;
use crate::server::drain::Drain;
use crate::server::guard;
use crate::wire::{Handler, Peer};

use super::exchange;
use super::lane::{Io, Lane, Late};
use super::request::{self, LastHost};
use super::{Service, Settings};

/// How long a client has to acknowledge a GOAWAY, or to take the last one.
const LAST_WORD: Duration = Duration::from_secs(1);

/// What the streams of a connection share.
#[derive(Debug)]
pub(super) struct Common<H> {
    pub(super) handler: Rc<H>,
    pub(super) peer: Rc<Peer>,
    pub(super) limits: guard::Limits,
    pub(super) deadlines: Rc<Deadlines>,
    pub(super) request: request::Bounds,
    pub(super) last_host: LastHost,
    dates: Rc<Dates>,
    /// Streams that were given up because their client's window stayed closed.
    stalled: Cell<u32>,
}

impl<H> Common<H> {
    /// Now, as a field value.
    pub(super) fn date(&self) -> HeaderValue {
        self.dates.at_tick(self.deadlines.now()).clone()
    }

    pub(super) fn stalled(&self) {
        self.stalled.set(self.stalled.get().saturating_add(1));
    }
}

type Running = FuturesUnordered<Pin<Box<dyn Future<Output = ()>>>>;

struct Connection<'a, H> {
    common: Rc<Common<H>>,
    drain: &'a Drain,
    cells: &'a WorkerCells,
    settings: Settings,
    lane: Lane,
    h2: h2::server::Connection<Io, Bytes>,
    running: Running,
    requests: u64,
    /// GOAWAY was sent, the open streams go on.
    leaving: Option<CloseReason>,
    /// GOAWAY was sent, and that is the end.
    ending: Option<CloseReason>,
    last_word: Timer,
    client_resets: u64,
    /// Streams that we reset in the current window of time.
    own_resets: u32,
    own_window: Timer,
    /// All that was open waited for a window that the client kept closed.
    stuck: bool,
}

/// Serves a connection whose client has spoken HTTP/2, or will: `unread` came of it already.
pub(super) async fn serve<H: Handler>(
    service: Service<'_, H>,
    stream: Stream,
    unread: Bytes,
) -> CloseReason {
    let Service {
        handler,
        peer,
        limits,
        deadlines,
        drain,
        settings,
        dates,
        cells,
    } = service;
    let bounds = frames::Bounds {
        fields: settings.fields,
        bytes: settings.header_bytes,
        resets: settings.resets,
    };
    let (lane, io) = Lane::new(stream, unread, bounds, limits, deadlines);
    let h2 = match open(&lane, io, &settings).await {
        Ok(h2) => h2,
        Err(reason) => return reason,
    };
    let common = Rc::new(Common {
        handler: Rc::clone(handler),
        peer,
        limits,
        deadlines: Rc::clone(deadlines),
        request: request::Bounds {
            fields: settings.fields,
            bytes: settings.header_bytes,
            target: settings.target,
        },
        last_host: LastHost::default(),
        dates: Rc::clone(dates),
        stalled: Cell::new(0),
    });
    let mut connection = Connection {
        common,
        drain,
        cells,
        settings,
        lane,
        h2,
        running: FuturesUnordered::new(),
        requests: 0,
        leaving: None,
        ending: None,
        last_word: deadlines.timer(),
        client_resets: 0,
        own_resets: 0,
        own_window: deadlines.timer(),
        stuck: false,
    };
    let reason = poll_fn(|cx| connection.poll(cx)).await;
    connection.count();
    reason
}

/// SETTINGS out, the preface in.
async fn open(
    lane: &Lane,
    io: Io,
    settings: &Settings,
) -> Result<h2::server::Connection<Io, Bytes>, CloseReason> {
    let mut opening = settings.builder().handshake(io);
    poll_fn(|cx| {
        let polled = Pin::new(&mut opening).poll(cx);
        if lane.send(cx).is_err() {
            return Poll::Ready(Err(CloseReason::Io));
        }
        match polled {
            Poll::Ready(Ok(h2)) => Poll::Ready(Ok(h2)),
            _ if lane.violation().is_some() => Poll::Ready(Err(CloseReason::Malformed)),
            Poll::Ready(Err(error)) if error.is_io() => Poll::Ready(Err(CloseReason::Client)),
            Poll::Ready(Err(_)) => Poll::Ready(Err(CloseReason::Malformed)),
            Poll::Pending => match lane.judge(cx, true) {
                Ok(()) => Poll::Pending,
                Err(Late::Cut(reason)) => Poll::Ready(Err(reason)),
                Err(Late::Idle) => Poll::Ready(Err(CloseReason::IdleTimeout)),
            },
        }
    })
    .await
}

impl<H: Handler> Connection<'_, H> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        loop {
            if self.drain.is_draining() {
                self.leave(CloseReason::Drain);
            }
            if let Some(reason) = self.accept(cx) {
                return Poll::Ready(reason);
            }
            self.count();
            if self.ending.is_none()
                && let Some((code, reason)) = self.verdict()
            {
                self.end(code, reason);
                continue;
            }
            let mut progress = false;
            while let Poll::Ready(Some(())) = Pin::new(&mut self.running).poll_next(cx) {
                progress = true;
            }
            // Their answers are to be framed, and their ends to be seen.
            if progress {
                continue;
            }
            if self.lane.send(cx).is_err() {
                return Poll::Ready(self.ending.unwrap_or(CloseReason::Io));
            }
            if let Err(late) = self.lane.judge(cx, !self.running.is_empty())
                && self.ending.is_none()
            {
                match late {
                    // It does not read, or was never spoken to: no more words.
                    Late::Cut(reason @ CloseReason::SlowReader) => return Poll::Ready(reason),
                    Late::Cut(reason) => self.end(Reason::ENHANCE_YOUR_CALM, reason),
                    Late::Idle => self.end(Reason::NO_ERROR, CloseReason::IdleTimeout),
                }
                continue;
            }
            return self.rest(cx);
        }
    }

    /// Takes what has come; how the connection ended, if it has.
    fn accept(&mut self, cx: &mut Context<'_>) -> Option<CloseReason> {
        loop {
            match self.h2.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => self.begin(cx, request, respond),
                Poll::Ready(Some(Err(error))) => {
                    let reason = self.why(&error);
                    // As far as it can be said at once: GOAWAY was sent by h2 where it could.
                    let _last = self.lane.send(cx);
                    return Some(reason);
                }
                Poll::Ready(None) => {
                    let _last = self.lane.send(cx);
                    let told = self.ending.or(self.leaving);
                    return Some(told.unwrap_or(CloseReason::Client));
                }
                Poll::Pending => return None,
            }
        }
    }

    fn why(&self, error: &h2::Error) -> CloseReason {
        if let Some(reason) = self.ending {
            return reason;
        }
        match error.reason() {
            _ if error.is_remote() => CloseReason::Client,
            Some(Reason::ENHANCE_YOUR_CALM) => {
                // Of what h2 counts, the walk counts all but small DATA by itself.
                self.cells.http2_flood(Http2Flood::SmallData);
                CloseReason::Flood
            }
            Some(Reason::NO_ERROR) => self.leaving.unwrap_or(CloseReason::Client),
            Some(_) => CloseReason::Malformed,
            None if error.is_io() => CloseReason::Io,
            None => CloseReason::Internal,
        }
    }

    fn begin(
        &mut self,
        cx: &mut Context<'_>,
        request: Request<RecvStream>,
        respond: h2::server::SendResponse<Bytes>,
    ) {
        self.requests += 1;
        self.cells.http2_stream();
        if self.requests >= self.settings.requests {
            self.leave(CloseReason::Complete);
        }
        let common = Rc::clone(&self.common);
        let mut stream: Pin<Box<dyn Future<Output = ()>>> =
            Box::pin(exchange::serve(common, request, respond));
        if stream.as_mut().poll(cx).is_pending() {
            self.running.push(stream);
        }
    }

    /// What the client, or too much of something, has brought about.
    fn verdict(&self) -> Option<(Reason, CloseReason)> {
        if let Some(violation) = self.lane.violation() {
            tracing::debug!(client = %self.common.peer.address, what = violation.what, "HTTP/2 violation");
            let reason = match violation.flood {
                Some(flood) => {
                    self.cells.http2_flood(flood_label(flood));
                    CloseReason::Flood
                }
                None => CloseReason::Malformed,
            };
            return Some((code(violation.code), reason));
        }
        if self.own_resets > self.settings.resets {
            self.cells.http2_flood(Http2Flood::ProvokedReset);
            return Some((Reason::ENHANCE_YOUR_CALM, CloseReason::Flood));
        }
        if self.stuck {
            return Some((Reason::ENHANCE_YOUR_CALM, CloseReason::SlowReader));
        }
        None
    }

    /// Counts what went out and came in since the last time.
    fn count(&mut self) {
        let resets = self.lane.client_resets();
        if resets != self.client_resets {
            self.cells
                .http2_resets_received(resets - self.client_resets);
            self.client_resets = resets;
        }
        if self.own_window.is_armed() && self.own_window.is_expired() {
            self.own_window.disarm();
            self.own_resets = 0;
        }
        let mut own = 0_u32;
        self.lane.endings(|ending| match ending {
            Ending::Stream(code) => {
                self.cells.http2_reset_sent();
                // The others are for what the client could not help.
                if code == u32::from(Reason::PROTOCOL_ERROR)
                    || code == u32::from(Reason::FLOW_CONTROL_ERROR)
                    || code == u32::from(Reason::STREAM_CLOSED)
                {
                    own = own.saturating_add(1);
                }
            }
            Ending::Connection(code) => self.cells.http2_goaway(code),
        });
        if own > 0 {
            if !self.own_window.is_armed() {
                self.own_window.arm(super::WINDOW);
            }
            self.own_resets = self.own_resets.saturating_add(own);
        }
        let stalled = self.common.stalled.take();
        self.stuck |= stalled > 0 && self.running.is_empty();
        for _ in 0..stalled {
            self.cells.http2_flood(Http2Flood::ClosedWindow);
        }
    }

    /// No new streams, please.
    fn leave(&mut self, reason: CloseReason) {
        if self.leaving.is_none() && self.ending.is_none() {
            self.leaving = Some(reason);
            self.h2.graceful_shutdown();
            self.last_word.arm(LAST_WORD);
        }
    }

    /// It ends here, whatever is open.
    fn end(&mut self, code: Reason, reason: CloseReason) {
        self.ending = Some(reason);
        self.h2.abrupt_shutdown(code);
        // Their handlers go with them, and so do their exchanges with endpoints.
        self.running.clear();
        self.last_word.arm(LAST_WORD);
    }

    /// Nothing is to be done until somebody wakes the task.
    fn rest(&mut self, cx: &Context<'_>) -> Poll<CloseReason> {
        if self.last_word.is_armed() && self.last_word.poll(cx).is_ready() {
            if let Some(reason) = self.ending {
                return Poll::Ready(reason);
            }
            if let Some(reason) = self.leaving
                && self.running.is_empty()
            {
                // It has not acknowledged the first GOAWAY; there is nothing to wait for.
                self.end(Reason::NO_ERROR, reason);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if self.leaving.is_some() {
                self.last_word.arm(LAST_WORD);
                let _pending = self.last_word.poll(cx);
            }
        }
        Poll::Pending
    }
}

fn code(code: Code) -> Reason {
    Reason::from(u32::from(code as u8))
}

fn flood_label(flood: frames::Flood) -> Http2Flood {
    use frames::Flood;
    match flood {
        Flood::Reset => Http2Flood::Reset,
        Flood::Ping => Http2Flood::Ping,
        Flood::Settings => Http2Flood::Settings,
        Flood::Priority => Http2Flood::Priority,
        Flood::WindowUpdate => Http2Flood::WindowUpdate,
        Flood::EmptyData => Http2Flood::SmallData,
        Flood::Continuation => Http2Flood::Continuation,
        Flood::Fields => Http2Flood::Fields,
        Flood::Unknown => Http2Flood::Unknown,
    }
}
