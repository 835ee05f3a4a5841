//! One request and its answer on one stream.
//!
//! The connection's task polls it when it begins, and then when its stream's waker was called or its stream can
//! take more. An answer that is ready at once is framed at once. A client that takes its request back drops
//! the exchange, and with it everything that the request holds; a panic in it costs its stream and nothing else.
//! Invariant: an answer has one length at most and a date, and one that breaks off is reset, never ended.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderName};
use http::{Method, Response, StatusCode};
use http_body::Body;

use crate::body::Inbound;
use crate::http2::session::{Extras, Key, State};
use crate::http2::{Asked, Code};
use crate::net::deadline::{Deadlines, Timer};
use crate::server::dates::Dates;
use crate::server::guard::Limits;
use crate::wire::fields::FieldBlock;
use crate::wire::{Head, spare};

use super::body::Incoming;
use super::voice::{Line, Voice};

/// Shows the fields of an answer that are not in its map; whether it has any.
pub(super) type Show<B> = fn(&B, &mut dyn FieldBlock) -> bool;

/// What all exchanges of a connection are served with.
#[derive(Debug)]
pub(super) struct Common<'a, B> {
    pub(super) line: Rc<Line>,
    pub(super) limits: Limits,
    pub(super) deadlines: &'a Rc<Deadlines>,
    pub(super) dates: &'a Dates,
    /// `wire::Handler::show_fields`.
    pub(super) show: Show<B>,
}

/// A future with a place of its own, which is used again.
pub(super) type Place<F> = Pin<Box<Option<F>>>;

/// How far an exchange is.
pub(super) enum Stage<F, B> {
    /// The handler works.
    Answering(Place<F>),
    /// The head of the answer was framed.
    Sending(B),
    /// The answer was framed whole, and the client's half of a tunnel goes on. Its body is what carries
    /// it away.
    Tail(B),
}

/// What became of an exchange that was polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// It waits for somebody who wakes it.
    Waits,
    /// It is over.
    Over,
    /// It is over, since the client gave no window.
    Stuck,
}

/// A request that is being answered.
pub(super) struct Exchange<F, B> {
    pub(super) key: Key,
    pub(super) stage: Stage<F, B>,
    /// `offers` says, once the answer has begun, that it has opened the tunnel.
    asked: Question,
    /// Armed while the client's window is closed, or its half of a tunnel is waited for.
    timer: Option<Timer>,
    window_began_at: u64,
}

/// What an answer must know of its request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    head: bool,
    offers: bool,
}

impl Question {
    pub(super) fn of(asked: &Asked) -> Self {
        Self {
            head: asked.head.method == Method::HEAD,
            offers: asked.tunnel.is_some(),
        }
    }
}

/// The request as the road takes it.
pub(super) fn request(
    asked: Asked,
    line: &Rc<Line>,
    key: Key,
    voice: &Rc<Voice>,
) -> (Head, Inbound) {
    let inbound = match &asked.tunnel {
        Some(protocol) => Inbound::tunnel(protocol, Incoming::new(line, key, None)),
        // The road refuses CONNECT; what follows it is nobody's.
        None if !asked.follows || asked.head.method == Method::CONNECT => Inbound::empty(),
        None => {
            let waits = asked.expects.then(|| Rc::clone(voice));
            Inbound::body(Incoming::new(line, key, waits))
        }
    };
    (asked.head, inbound)
}

/// Calls what is not ours; none if it panicked. Whatever it left behind is dropped next.
pub(super) fn safely<T>(call: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call)).ok()
}

impl<F, B> Exchange<F, B>
where
    F: Future<Output = Response<B>>,
    B: Body<Data = Bytes> + Unpin,
{
    pub(super) fn new(key: Key, asked: Question, stage: Stage<F, B>) -> Self {
        Self {
            key,
            stage,
            asked,
            timer: None,
            window_began_at: 0,
        }
    }

    /// An exchange whose answer needs no handler; none if it is over already.
    pub(super) fn answered(
        common: &Common<'_, B>,
        key: Key,
        asked: Question,
        answer: Response<B>,
    ) -> Option<Self> {
        let (body, offers) = answer_head(common, key, asked, answer)?;
        let asked = Question { offers, ..asked };
        Some(Self::new(key, asked, Stage::Sending(body)))
    }

    /// Goes on as far as possible. `spare` gets the place of a future that is done.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        common: &Common<'_, B>,
        spare: &mut Vec<Place<F>>,
    ) -> Progress {
        if let Stage::Answering(place) = &mut self.stage {
            let Some(future) = place.as_mut().as_pin_mut() else {
                return self.fails(common);
            };
            let answer = match safely(|| future.poll(cx)) {
                Some(Poll::Ready(answer)) => answer,
                Some(Poll::Pending) => return Progress::Waits,
                None => return self.fails(common),
            };
            let Some((body, opened)) = answer_head(common, self.key, self.asked, answer) else {
                return Progress::Over;
            };
            self.asked.offers = opened;
            if let Stage::Answering(mut place) =
                std::mem::replace(&mut self.stage, Stage::Sending(body))
            {
                place.set(None);
                spare.push(place);
            }
        }
        self.send(cx, common)
    }

    fn fails(&self, common: &Common<'_, B>) -> Progress {
        reset(common, self.key, Code::Internal);
        Progress::Over
    }

    fn send(&mut self, cx: &mut Context<'_>, common: &Common<'_, B>) -> Progress {
        loop {
            let state = common.line.session.borrow().state(self.key);
            if !matches!(state, State::Stalled | State::Done)
                && self.timer.as_ref().is_some_and(Timer::is_expired)
            {
                self.timer = None;
            }
            match state {
                State::Gone => return Progress::Over,
                State::Busy => return Progress::Waits,
                State::Stalled => return self.judge(cx, common),
                State::Done => return self.done(cx, common),
                State::Hungry => {}
            }
            let Stage::Sending(body) = &mut self.stage else {
                return self.fails(common);
            };
            let frame = match safely(|| Pin::new(&mut *body).poll_frame(cx)) {
                Some(Poll::Pending) => return Progress::Waits,
                Some(Poll::Ready(frame)) => frame,
                None => return self.fails(common),
            };
            let last = body.is_end_stream();
            let mut session = common.line.session.borrow_mut();
            match frame {
                None => session.finish(self.key, None),
                // Whoever made it has said why.
                Some(Err(_)) => {
                    session.reset(self.key, Code::Internal);
                    State::Gone
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => session.offer(self.key, data, last),
                    Err(frame) => session.finish(self.key, frame.into_trailers().ok()),
                },
            };
        }
    }

    /// The answer is out. A tunnel goes on until its client ends it too.
    fn done(&mut self, cx: &mut Context<'_>, common: &Common<'_, B>) -> Progress {
        let unwanted = common.line.session.borrow().is_unwanted(self.key);
        if self.asked.offers && !unwanted {
            return self.tail(cx, common);
        }
        // First, since whoever reads the request's body may have the rest of it for somebody.
        common.line.session.borrow_mut().over(self.key);
        Progress::Over
    }

    fn tail(&mut self, cx: &mut Context<'_>, common: &Common<'_, B>) -> Progress {
        if !matches!(self.stage, Stage::Tail(_)) {
            let timer = common.deadlines.timer();
            timer.arm(common.limits.idle);
            self.timer = Some(timer);
            self.stage = match std::mem::replace(&mut self.stage, Stage::Answering(Box::pin(None)))
            {
                Stage::Sending(body) => Stage::Tail(body),
                other => other,
            };
        }
        let Stage::Tail(body) = &mut self.stage else {
            return self.fails(common);
        };
        let ended = safely(|| Pin::new(&mut *body).poll_frame(cx));
        let failed = matches!(ended, None | Some(Poll::Ready(Some(Err(_)))));
        let unwanted = common.line.session.borrow().is_unwanted(self.key);
        let late = self.timer.as_ref().is_some_and(|it| it.poll(cx).is_ready());
        if failed || unwanted || late {
            common.line.session.borrow_mut().over(self.key);
            return Progress::Over;
        }
        Progress::Waits
    }

    /// A client that keeps its window closed is judged like one that does not read its socket.
    fn judge(&mut self, cx: &Context<'_>, common: &Common<'_, B>) -> Progress {
        let sent = common.line.session.borrow().sent(self.key);
        if let Some(timer) = &self.timer
            && timer.is_expired()
        {
            if sent.saturating_sub(self.window_began_at) < common.limits.least_written {
                reset(common, self.key, Code::Cancel);
                return Progress::Stuck;
            }
            self.timer = None;
        }
        let timer = self.timer.get_or_insert_with(|| {
            self.window_began_at = sent;
            let timer = common.deadlines.timer();
            timer.arm(common.limits.write_window);
            timer
        });
        let _expired = timer.poll(cx);
        Progress::Waits
    }
}

pub(super) fn reset<B>(common: &Common<'_, B>, key: Key, code: Code) {
    common.line.session.borrow_mut().reset(key, code);
}

/// Frames the head of an answer; its body, and whether it is the client's tunnel, unless there is no way to
/// send it.
fn answer_head<B: Body>(
    common: &Common<'_, B>,
    key: Key,
    asked: Question,
    answer: Response<B>,
) -> Option<(B, bool)> {
    let (mut head, body) = answer.into_parts();
    let opens = asked.offers && head.status == StatusCode::SWITCHING_PROTOCOLS;
    match head.status {
        StatusCode::SWITCHING_PROTOCOLS if opens => {
            head.status = StatusCode::OK;
            head.headers.remove(CONTENT_LENGTH);
            head.headers.remove(SEC_WEBSOCKET_ACCEPT);
        }
        status if status.is_informational() || (asked.offers && status.is_success()) => {
            // Nobody may take it for a tunnel that was opened (RFC 8441 section 5).
            reset(common, key, Code::Internal);
            return None;
        }
        _ => {}
    }
    let bodiless = asked.head
        || matches!(
            head.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
    let length = body.size_hint().exact().filter(|_| !bodiless && !opens);
    let ends = bodiless || body.is_end_stream();
    let date = common.dates.at_tick(common.deadlines.now());
    let extras = Extras {
        date: date.as_bytes(),
        length,
    };
    let mut session = common.line.session.borrow_mut();
    let show = |to: &mut dyn FieldBlock| (common.show)(&body, to);
    let state = session.answer(key, (head.status, &head.headers), extras, show, ends);
    spare::give_back(head.headers);
    (state != State::Gone).then_some((body, opens))
}

const SEC_WEBSOCKET_ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");
