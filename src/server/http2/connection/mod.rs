//! One connection of HTTP/2: its streams, its limits, its end.
//!
//! One task drives the session and the exchanges of its streams; nothing is spawned, so a stream costs
//! no turn of the runtime. Each turn takes in what has come, begins with the requests in it, polls the exchanges that
//! were woken, and writes what was framed meanwhile in as few pieces as possible. Invariant: the
//! connection ends after at most one more deadline, once it was told to: by the drain, a limit, a
//! violation or a client that is late (`ending`).

mod ending;

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::Either;
use http::Response;
use tokio::time::Instant;

use crate::body::Inbound;
use crate::http2::session::{Key, Session, Violation};
use crate::http2::{Asked, Code};
use crate::metrics::{CloseReason, Http2Flood, WorkerCells};
use crate::net::deadline::Timer;
use crate::net::stream::Stream;
use crate::server::drain::Drain;
use crate::wire::{Answering, Early, Handler, Head, Peer};

use super::board::{Board, Wakers};
use super::exchange::{self, Common, Exchange, Place, Progress, Question, Stage, safely};
use super::lane::{Lane, Verdict};
use super::voice::{Line, Voice};
use super::{Service, Space};

/// How often the streams that are woken meanwhile are polled before the task yields.
const PASSES: usize = 4;
/// Nothing is read while so much waits to be written: what comes in brings more of it about.
const TOO_MUCH: usize = 64 * 1024;

struct Connection<'a, H: Handler, F, M> {
    handler: &'a Rc<H>,
    peer: &'a Rc<Peer>,
    make: M,
    common: Common<'a, H::Body>,
    drain: &'a Drain,
    cells: &'a WorkerCells,
    space: &'a Space,
    lane: Lane,
    wakers: Wakers,
    /// By the places of their streams.
    exchanges: Vec<Option<Exchange<F, H::Body>>>,
    busy: usize,
    /// The place of a future that is done, for the next one.
    spare: Vec<Place<F>>,
    /// The voice of the last request, for the next one if nobody kept it.
    voice: Option<Rc<Voice>>,
    /// Requests that may still come.
    requests_left: u64,
    /// GOAWAY was sent, the open streams go on.
    leaving: Option<CloseReason>,
    /// GOAWAY was sent, and that is the end.
    ending: Option<CloseReason>,
    last_word: Timer,
    /// A stream was given up because its client's window stayed closed, and none is left.
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
        space,
        cells,
    } = service;
    let peer = &peer;
    let session = Session::new(settings.terms(peer.scheme()));
    let line = Rc::new(Line {
        session: RefCell::new(session),
        board: Board::new(settings.streams),
    });
    let mut connection = Connection {
        handler,
        peer,
        make: |(head, body), at, early| handler.handle(peer, head, at, body, Some(early)),
        common: Common {
            line,
            limits,
            deadlines,
            dates,
            show: H::show_fields,
        },
        drain,
        cells,
        space,
        lane: Lane::new(stream, unread, limits, deadlines),
        wakers: Wakers::default(),
        exchanges: Vec::new(),
        busy: 0,
        spare: Vec::new(),
        voice: None,
        requests_left: settings.requests,
        leaving: None,
        ending: None,
        last_word: deadlines.timer(),
        stuck: false,
    };
    let reason = poll_fn(|cx| connection.poll(cx)).await;
    connection.count();
    reason
}

impl<H, F, M> Connection<'_, H, F, M>
where
    H: Handler,
    F: Future<Output = Response<H::Body>>,
    M: Fn((Head, Inbound), Instant, Rc<dyn Early>) -> Answering<H::Body, F>,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        self.common.line.board.runs(cx.waker());
        for _ in 0..PASSES {
            if let Some(reason) = self.ending {
                // The streams are gone; whoever still wakes them wakes nobody.
                return self.close(cx).map(|()| reason);
            }
            let polled = self.turn(cx);
            if polled.is_ready() || self.common.line.board.rests() {
                return polled;
            }
        }
        // Some stream wakes itself again and again: others of the worker have their turn first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Everything that can be done now.
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        if self.drain.is_draining() {
            self.leave(CloseReason::Drain);
        }
        loop {
            match self.take_in(cx) {
                Ok(None) => {}
                Ok(Some(violation)) => return self.violated(cx, violation),
                Err(reason) => {
                    // What is framed already may still be read by a client that sends no more.
                    let _last = self.send(cx);
                    return Poll::Ready(self.leaving.unwrap_or(reason));
                }
            }
            let full = self.is_full();
            self.awake();
            if self.send(cx).is_err() {
                return Poll::Ready(CloseReason::Io);
            }
            // Nothing was read for a while, and nobody would say that there is something.
            if !full || self.is_full() {
                break;
            }
        }
        self.count();
        if self.stuck {
            return self.end(cx, Code::EnhanceYourCalm, CloseReason::SlowReader);
        }
        let verdict = {
            let mut session = self.common.line.session.borrow_mut();
            self.lane.judge(cx, &mut session, self.busy > 0)
        };
        match verdict {
            Verdict::Fine => {}
            Verdict::Rest => self.rest(),
            Verdict::Idle => return self.end(cx, Code::No, CloseReason::IdleTimeout),
            // It does not read: no more words.
            Verdict::Late(reason @ CloseReason::SlowReader) => return Poll::Ready(reason),
            Verdict::Late(reason) => return self.end(cx, Code::EnhanceYourCalm, reason),
        }
        self.take_leave(cx)
    }

    fn is_full(&self) -> bool {
        self.common.line.session.borrow_mut().out().len() > TOO_MUCH
    }

    /// Takes what has come, and begins with the requests in it.
    fn take_in(&mut self, cx: &mut Context<'_>) -> Result<Option<Violation>, CloseReason> {
        loop {
            if self.is_full() {
                return Ok(None);
            }
            let mut space = self.space.take();
            let came = self.lane.read(cx, &mut space.bytes);
            let taken = match came {
                Poll::Ready(Ok(count @ 1..)) => {
                    let bytes = space.bytes.get(..count).unwrap_or_default();
                    let mut session = self.common.line.session.borrow_mut();
                    Some(session.take(bytes, &mut space.arena))
                }
                Poll::Ready(_) | Poll::Pending => None,
            };
            self.space.give_back(space);
            match (taken, came) {
                (Some(Err(violation)), _) => return Ok(Some(violation)),
                (Some(Ok(())), _) => {}
                (None, Poll::Pending) => return Ok(None),
                (None, Poll::Ready(Ok(_))) => return Err(CloseReason::Client),
                (None, Poll::Ready(Err(_))) => return Err(CloseReason::Io),
            }
            self.drop_gone();
            self.begin_all(cx)?;
        }
    }

    fn begin_all(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        // They have come together.
        let mut at = None;
        loop {
            let next = self.common.line.session.borrow_mut().next_request();
            let Some((key, asked)) = next else {
                return Ok(());
            };
            self.cells.http2_stream();
            self.requests_left = self.requests_left.saturating_sub(1);
            if self.requests_left == 0 {
                self.leave(CloseReason::Complete);
            }
            // Of a request that was taken back already nothing is begun.
            if self.common.line.session.borrow().is_open(key) {
                let at = *at.get_or_insert_with(Instant::now);
                self.begin(key, asked, at);
            }
            let mut session = self.common.line.session.borrow_mut();
            if session.is_full() {
                // What the socket does not take now it takes later; there are only so many.
                let written = self.lane.write(cx, &mut session);
                let _later = written.map_err(|_broken| CloseReason::Io)?;
            }
        }
    }

    fn begin(&mut self, key: Key, asked: Asked, at: Instant) {
        let question = Question::of(&asked);
        let line = &self.common.line;
        let begun = match asked.fault {
            Some(fault) => safely(|| self.handler.refuse(self.peer, http::Version::HTTP_2, fault))
                .map(|answer| Exchange::answered(&self.common, key, question, answer)),
            None => {
                let voice = match self.voice.take() {
                    Some(voice) if Rc::strong_count(&voice) == 1 => {
                        voice.turn_to(key);
                        voice
                    }
                    _ => Rc::new(Voice::new(line, key)),
                };
                self.voice = Some(Rc::clone(&voice));
                let request = exchange::request(asked, line, key, &voice);
                let spare = &mut self.spare;
                let begun = safely(|| match (self.make)(request, at, voice) {
                    Either::Left(answer) => Either::Left(answer.into_inner()),
                    Either::Right(future) => {
                        let mut place = spare.pop().unwrap_or_else(|| Box::pin(None));
                        place.set(Some(future));
                        Either::Right(Stage::Answering(place))
                    }
                });
                begun.map(|begun| match begun {
                    Either::Left(answer) => Exchange::answered(&self.common, key, question, answer),
                    Either::Right(stage) => Some(Exchange::new(key, question, stage)),
                })
            }
        };
        let Some(exchange) = begun else {
            return exchange::reset(&self.common, key, Code::Internal);
        };
        if let Some(exchange) = exchange {
            self.advance(exchange);
        }
    }

    /// Polls an exchange, and keeps it if it is not over.
    fn advance(&mut self, mut exchange: Exchange<F, H::Body>) {
        let place = exchange.key.place;
        let waker = self.wakers.at(&self.common.line.board, place);
        let mut cx = Context::from_waker(waker);
        match exchange.poll(&mut cx, &self.common, &mut self.spare) {
            Progress::Waits => {
                if self.exchanges.len() <= place {
                    self.exchanges.resize_with(place + 1, || None);
                }
                if let Some(slot) = self.exchanges.get_mut(place) {
                    *slot = Some(exchange);
                    self.busy += 1;
                }
            }
            Progress::Over => {}
            Progress::Stuck => {
                self.cells.http2_flood(Http2Flood::ClosedWindow);
                drop(exchange);
                self.stuck = self.busy == 0;
            }
        }
    }

    /// The exchange at a place, which is polled or dropped next.
    fn lift(&mut self, place: usize) -> Option<Exchange<F, H::Body>> {
        let exchange = self.exchanges.get_mut(place)?.take()?;
        self.busy -= 1;
        Some(exchange)
    }

    /// Drops the exchanges of streams that are gone.
    fn drop_gone(&mut self) {
        loop {
            let gone = self.common.line.session.borrow_mut().next_gone();
            let Some(key) = gone else { return };
            if self.is_at(key) {
                drop(self.lift(key.place));
            }
        }
    }

    fn is_at(&self, key: Key) -> bool {
        let at = self.exchanges.get(key.place).and_then(Option::as_ref);
        at.is_some_and(|exchange| exchange.key == key)
    }

    /// Polls the exchanges whose wakers were called.
    fn awake(&mut self) {
        let mut word = 0;
        while let Some(mut bits) = self.common.line.board.take(word) {
            while bits != 0 {
                let place = word * u64::BITS as usize + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                if let Some(exchange) = self.lift(place) {
                    self.advance(exchange);
                }
            }
            word += 1;
        }
    }

    /// Frames and writes for as long as both the streams and the socket go on.
    fn send(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        loop {
            self.common.line.session.borrow_mut().fill();
            self.feed();
            let mut session = self.common.line.session.borrow_mut();
            if session.out().is_empty() {
                let flushed = self.lane.flush(cx);
                let _on_its_way = flushed.map_err(|_broken| CloseReason::Io)?;
                return Ok(());
            }
            let written = self.lane.write(cx, &mut session);
            if written.map_err(|_broken| CloseReason::Io)?.is_pending() {
                return Ok(());
            }
        }
    }

    /// Polls the exchanges that can give more.
    fn feed(&mut self) {
        self.drop_gone();
        loop {
            let hungry = self.common.line.session.borrow_mut().next_hungry();
            let Some(key) = hungry else { return };
            if self.is_at(key)
                && let Some(exchange) = self.lift(key.place)
            {
                self.advance(exchange);
            }
        }
    }

    /// Counts what went out and came in since the last time.
    fn count(&self) {
        let endings = self.common.line.session.borrow_mut().endings();
        if endings.resets_received > 0 {
            let count = u64::from(endings.resets_received);
            self.cells.http2_resets_received(count);
        }
        for _ in 0..endings.resets_sent {
            self.cells.http2_reset_sent();
        }
    }

    /// Gives back what an idle connection does not need.
    fn rest(&mut self) {
        self.common.line.session.borrow_mut().rest();
        self.exchanges = Vec::new();
        self.wakers.rest();
        self.spare = Vec::new();
        self.voice = None;
    }
}
