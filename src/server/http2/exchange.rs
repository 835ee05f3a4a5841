//! One request and its answer on one stream.
//!
//! `connection` makes a future of `serve` for each stream that it accepts; most are ready at their first
//! poll, with the answer in h2's hands. A client that takes its request back ends the future, and with
//! it everything that the request holds. Invariant: an answer has no field of a connection, one length
//! at most, and a date.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, DATE, EXPECT, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body;

use crate::body::Inbound;
use crate::http2::fields;
use crate::http2::pump::Pump;
use crate::net::deadline::Timer;
use crate::wire::{Early, Handler};

use super::body::Incoming;
use super::connection::Common;
use super::request;

/// What can still be said to a client before the answer.
#[derive(Debug)]
pub(super) struct Voice(RefCell<SendResponse<Bytes>>);

impl Voice {
    /// `100 Continue`; too late after the answer's head, and then nobody waits for it.
    pub(super) fn carry_on(&self) {
        self.inform(StatusCode::CONTINUE, HeaderMap::new());
    }

    fn inform(&self, status: StatusCode, headers: HeaderMap) -> bool {
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        let mut out = self.0.borrow_mut();
        out.send_informational(response).is_ok()
    }

    fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.borrow_mut().poll_reset(cx).map(drop)
    }
}

impl Early for Voice {
    fn send(&self, status: StatusCode, mut headers: HeaderMap) -> bool {
        if !status.is_informational() || matches!(status.as_u16(), 100 | 101) {
            return false;
        }
        fields::strip_connection(&mut headers);
        self.inform(status, headers)
    }
}

/// Answers one request.
pub(super) async fn serve<H: Handler>(
    common: Rc<Common<H>>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let (mut head, stream) = request.into_parts();
    let voice = Rc::new(Voice(RefCell::new(respond)));
    let head_only = head.method == Method::HEAD;
    let scheme = common.peer.scheme();
    let canonical = request::canonical(&mut head, common.request, scheme, &common.last_host);
    let (answer, offers) = match canonical {
        Err(fault) => (
            common.handler.refuse(&common.peer, Version::HTTP_2, fault),
            false,
        ),
        Ok(tunnel) => {
            let offers = tunnel.is_some();
            let inbound = inbound(&head.method, &head.headers, stream, tunnel, &voice);
            let early: Rc<dyn Early> = Rc::clone(&voice) as Rc<dyn Early>;
            let request = Request::from_parts(head, inbound);
            let mut answering = pin!(common.handler.handle(&common.peer, request, Some(early)));
            let answer = poll_fn(|cx| {
                // First: of a request that was taken back already nothing is begun.
                if voice.poll_reset(cx).is_ready() {
                    return Poll::Ready(None);
                }
                answering.as_mut().poll(cx).map(Some)
            });
            match answer.await {
                Some(answer) => (answer, offers),
                None => return,
            }
        }
    };
    send(&common, &voice, answer, head_only, offers).await;
}

fn inbound(
    method: &Method,
    headers: &HeaderMap,
    stream: RecvStream,
    tunnel: Option<Box<str>>,
    voice: &Rc<Voice>,
) -> Inbound {
    if let Some(protocol) = tunnel {
        return Inbound::tunnel(&protocol, Incoming::new(stream, None, None));
    }
    // The road refuses CONNECT; what follows it is nobody's.
    if stream.is_end_stream() || *method == Method::CONNECT {
        return Inbound::empty();
    }
    let length = headers.get(CONTENT_LENGTH);
    let length = length.and_then(|text| text.to_str().ok()?.parse().ok());
    let waits = headers
        .get(EXPECT)
        .is_some_and(|expect| expect.as_bytes().eq_ignore_ascii_case(b"100-continue"))
        .then(|| Rc::clone(voice));
    Inbound::body(Incoming::new(stream, length, waits))
}

async fn send<H: Handler>(
    common: &Common<H>,
    voice: &Voice,
    answer: Response<H::Body>,
    head_only: bool,
    offers: bool,
) {
    let (mut head, body) = answer.into_parts();
    head.version = Version::HTTP_2;
    head.extensions.clear();
    fields::strip_connection(&mut head.headers);
    match head.status {
        StatusCode::SWITCHING_PROTOCOLS if offers => {
            head.status = StatusCode::OK;
            head.headers.remove(CONTENT_LENGTH);
            head.headers.remove(SEC_WEBSOCKET_ACCEPT);
        }
        status if status.is_informational() || (offers && status.is_success()) => {
            // Nobody may take it for a tunnel that was opened (RFC 8441 section 5).
            voice.0.borrow_mut().send_reset(Reason::INTERNAL_ERROR);
            return;
        }
        _ => length(&mut head, &body, head_only),
    }
    if !head.headers.contains_key(DATE) {
        head.headers.insert(DATE, common.date());
    }
    let bodiless = matches!(
        head.status,
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
    );
    let ends = head_only || bodiless || body.is_end_stream();
    let sent = voice
        .0
        .borrow_mut()
        .send_response(Response::from_parts(head, ()), ends);
    let Ok(mut out) = sent else { return };
    if ends {
        return;
    }
    Sending {
        common,
        pump: Pump::new(body),
        out: &mut out,
        timer: None,
        window_began_at: 0,
    }
    .await;
}

const SEC_WEBSOCKET_ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");

/// Says how long the body is, where that is known and not said.
fn length<B: Body>(head: &mut http::response::Parts, body: &B, head_only: bool) {
    let status = head.status;
    if head_only || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED {
        return;
    }
    if let Some(exact) = body.size_hint().exact()
        && !head.headers.contains_key(CONTENT_LENGTH)
    {
        head.headers
            .insert(CONTENT_LENGTH, HeaderValue::from(exact));
    }
}

/// A body on its way, at the pace that its client must keep.
struct Sending<'a, H: Handler> {
    common: &'a Common<H>,
    pump: Pump<H::Body>,
    out: &'a mut SendStream<Bytes>,
    /// Armed while the client's window is closed.
    timer: Option<Timer>,
    window_began_at: u64,
}

impl<H: Handler> Future for Sending<'_, H> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        match this.pump.poll(cx, this.out) {
            // Whoever made it has said so; the stream is reset.
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => this.judge(cx),
        }
    }
}

impl<H: Handler> Sending<'_, H> {
    /// A client that keeps its window closed is judged like one that does not read its socket.
    fn judge(&mut self, cx: &Context<'_>) -> Poll<()> {
        if !self.pump.is_stalled() {
            self.timer = None;
            return Poll::Pending;
        }
        let limits = &self.common.limits;
        let sent = self.pump.sent();
        if let Some(timer) = &self.timer
            && timer.is_expired()
        {
            if sent.saturating_sub(self.window_began_at) < limits.least_written {
                self.out.send_reset(Reason::CANCEL);
                self.common.stalled();
                return Poll::Ready(());
            }
            self.timer = None;
        }
        let timer = self.timer.get_or_insert_with(|| {
            self.window_began_at = sent;
            let timer = self.common.deadlines.timer();
            timer.arm(limits.write_window);
            timer
        });
        timer.poll(cx)
    }
}
