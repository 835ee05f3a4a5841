//! One request over HTTP/2, until the head of its answer.
//!
//! Translates between the canonical form inside Headgate and HTTP/2: the `Host` field becomes
//! `:authority`, a tunnel that is offered an extended CONNECT (RFC 8441) and its `2xx` a `101`.
//! Invariant: no field of a connection goes out, and a `101`, which HTTP/2 does not have, is refused.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::ext::Protocol;
use h2::{Reason as Code, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderValue, TE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri, Version};

use crate::http2::fields::{is_no_token, is_padded, strip_connection};
use crate::metrics::ProxyError as Reason;

use super::super::early::{Early, Informed};
use super::super::error::{Failed, Stage};
use super::super::exchange::{Answer, AnswerBody, Attempt, Reuse};
use super::super::hold::Hold;
use super::super::http1::adjust;
use super::super::outgoing::Outgoing;
use super::super::pool::{Pools, Target};
use super::super::request_body::{RequestBody, Transfer};
use super::super::tunnels::Life;
use super::super::websocket;
use super::flow::{Begun, Flow};
use super::peers::Seated;
use super::pump::{Broken, Pump};
use super::tunnel::Tunnel;

/// Sends `request` and waits for the head of the answer.
pub(in super::super) async fn exchange(
    pools: &Rc<Pools>,
    target: &Target<'_>,
    request: Outgoing<'_>,
    reuse: Reuse,
    early: Early<'_>,
) -> Result<Answer, Attempt> {
    let peers = pools.peers(target);
    let Seated { seat, connect } = match peers.seat(pools, target, reuse).await {
        Ok(seated) => seated,
        Err((stage, reason, cause)) => {
            let mut failed = Failed::unsent(reason, request.body);
            failed.cause = cause;
            return Err(Attempt::new(stage, false, failed));
        }
    };
    let reused = connect.is_none();
    let wrong = |failed| Attempt::new(Stage::AwaitHead, false, failed);
    let transfer = request.body.transfer();
    let (method, path, body) = (request.method, request.target, request.body);
    let mut fields = request.fields.into_map();
    let mut sender = seat.connection.sender();
    let offered = body.offers().map(str::to_owned);
    if offered.is_some() && !sender.is_extended_connect_protocol_enabled() {
        return Err(wrong(Failed::new(Reason::HttpUpgradeFailed)));
    }
    let key = websocket::take_key(&mut fields);
    let hold = Hold::of(fields.contains_key(EXPECT), &body, pools.deadlines());
    let Some(head) = translate(method, path, fields, target, offered.as_deref()) else {
        return Err(wrong(Failed::unsent(Reason::HttpRequestError, body)));
    };
    let nothing_follows = matches!(body, RequestBody::Empty);
    let (answer, out) = match sender.send_request(head, nothing_follows) {
        Ok(begun) => begun,
        Err(error) => {
            let mut failed = refused(error);
            failed.nothing_left = true;
            failed.unsent = Some(body);
            // A connection that takes no more requests is not the endpoint's fault.
            return Err(Attempt::new(Stage::AwaitHead, true, failed));
        }
    };
    let timer = pools.deadlines().timer();
    timer.arm(target.timeouts.first_byte);
    let mut waiting = Waiting {
        answer,
        upload: Upload::new(body, out, hold, offered.is_some()),
        informed: Informed::new(early, target.upstream_metrics, pools.worker()),
        transfer: transfer.as_deref(),
        moved: 0,
        first_byte: target.timeouts.first_byte,
    };
    let result = poll_fn(|cx| waiting.poll(cx, &timer)).await;
    let upload = waiting.upload;
    let (head, incoming) = match result {
        Ok(answer) => answer.into_parts(),
        Err(mut failed) => {
            // Not processed is not dead: whether it was used before does not matter.
            let reused = reused || failed.nothing_left;
            failed.unsent = failed
                .nothing_left
                .then(|| upload.into_untouched(transfer.as_deref()))
                .flatten();
            return Err(Attempt::new(Stage::AwaitHead, reused, failed));
        }
    };
    timer.disarm();
    let begun = Begun {
        seat,
        timer,
        length: length(&head.headers),
        incoming,
        upload,
    };
    let response = receive(pools, target, head, begun, offered.map(|_offered| key));
    let response = response.map_err(wrong)?;
    Ok(Answer { response, connect })
}

/// The head of an answer has come. `offered` has the key of a client that offers a tunnel.
fn receive(
    pools: &Rc<Pools>,
    target: &Target<'_>,
    mut head: http::response::Parts,
    begun: Begun,
    offered: Option<Option<HeaderValue>>,
) -> Result<Response<AnswerBody>, Failed> {
    check(&head.headers).map_err(|what| Failed::new(Reason::HttpProtocolError).because(what))?;
    // Nor are there more than five classes (RFC 9110 section 15).
    if head.status == StatusCode::SWITCHING_PROTOCOLS || head.status.as_u16() >= 600 {
        return Err(Failed::new(Reason::HttpProtocolError));
    }
    for value in head.headers.values_mut() {
        // h2 does not tell which of them must not be indexed on the way on (RFC 7541 section 6.2.3).
        value.set_sensitive(true);
    }
    let flow = match offered {
        Some(key) if head.status.is_success() => {
            head.status = StatusCode::SWITCHING_PROTOCOLS;
            websocket::prove(&mut head.headers, key.as_ref());
            let (deadlines, idle) = (pools.deadlines(), target.timeouts.tunnel_idle);
            let life = Life::begin(target.upstream_metrics, pools.worker(), deadlines, idle);
            Flow::Tunnel(Tunnel::open(life, begun))
        }
        _ => Flow::message(begun, target.timeouts.body_idle),
    };
    Ok(Response::from_parts(head, AnswerBody::over_http2(flow)))
}

/// What h2 takes and HTTP does not (RFC 9113 section 8.2.1, RFC 9110 section 8.6).
fn check(headers: &HeaderMap) -> Result<(), &'static str> {
    if headers.values().any(is_padded) {
        return Err("a field value begins or ends with a blank");
    }
    if headers.keys().any(is_no_token) {
        return Err("a field name that is no token");
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let is_number =
        |value: &HeaderValue| !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit);
    if !lengths.next().is_none_or(is_number) || lengths.next().is_some() {
        return Err("Content-Length is not one number");
    }
    Ok(())
}

/// The length that the head tells; h2 has held it against what it knows.
fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The head as HTTP/2 has it; none if it cannot be said there.
fn translate(
    method: &Method,
    path: &PathAndQuery,
    mut fields: HeaderMap,
    target: &Target<'_>,
    offered: Option<&str>,
) -> Option<Request<()>> {
    let scheme = if target.hop.tls.is_some() {
        Scheme::HTTPS
    } else {
        Scheme::HTTP
    };
    let authority = match fields.remove(HOST) {
        Some(host) => Authority::try_from(host.as_bytes()).ok()?,
        None => Authority::try_from(target.endpoint.host()).ok()?,
    };
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(scheme);
    uri.authority = Some(authority);
    uri.path_and_query = Some(if path == "*" {
        // h2 makes `*` of it again, `OPTIONS` being the only method that has it.
        PathAndQuery::from_static("")
    } else {
        path.clone()
    });
    let mut request = Request::new(());
    *request.uri_mut() = Uri::from_parts(uri).ok()?;
    *request.method_mut() = method.clone();
    *request.version_mut() = Version::HTTP_2;
    strip_connection(&mut fields);
    let trailers = |value: &HeaderValue| value.as_bytes() == b"trailers";
    if !fields.get(TE).is_none_or(trailers) {
        fields.remove(TE);
    }
    *request.headers_mut() = fields;
    if let Some(protocol) = offered {
        *request.method_mut() = Method::CONNECT;
        request.extensions_mut().insert(Protocol::from(protocol));
    }
    Some(request)
}

/// A request whose answer has not begun.
struct Waiting<'a> {
    answer: ResponseFuture,
    upload: Upload,
    informed: Informed<'a>,
    transfer: Option<&'a Transfer>,
    moved: u64,
    first_byte: Duration,
}

impl Waiting<'_> {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        timer: &crate::net::deadline::Timer,
    ) -> Poll<Result<Response<RecvStream>, Failed>> {
        if let Poll::Ready(Err(Broken::Body(()))) = self.upload.poll(cx) {
            return Poll::Ready(Err(Failed::new(Reason::HttpRequestError)));
        }
        while let Poll::Ready(Some(Ok(head))) = self.answer.poll_informational(cx) {
            if head.status() == StatusCode::CONTINUE {
                self.upload.let_go();
                cx.waker().wake_by_ref();
            }
            let (head, ()) = head.into_parts();
            if let Err(reason) = self.informed.take(head.status, head.headers) {
                return Poll::Ready(Err(Failed::new(reason)));
            }
        }
        if let Poll::Ready(answer) = Pin::new(&mut self.answer).poll(cx) {
            return Poll::Ready(answer.map_err(refused));
        }
        if let Some(transfer) = self.transfer
            && !self.upload.is_done()
        {
            adjust(timer, transfer, &mut self.moved, self.first_byte);
        } else if !timer.is_armed() {
            timer.arm(self.first_byte);
        }
        timer
            .poll(cx)
            .map(|()| Err(Failed::new(Reason::HttpResponseTimeout)))
    }
}

/// What a failed stream or connection means.
pub(super) fn refused(error: h2::Error) -> Failed {
    let refused = error.is_reset() && error.reason() == Some(Code::REFUSED_STREAM);
    // h2 tells this only to streams above the last one that the endpoint took.
    let nothing_left = error.is_remote() && (refused || error.is_go_away());
    let reason = match error.reason() {
        _ if error.is_io() || nothing_left => Reason::ConnectionTerminated,
        Some(Code::PROTOCOL_ERROR | Code::HTTP_1_1_REQUIRED | Code::COMPRESSION_ERROR) => {
            Reason::HttpProtocolError
        }
        _ if error.is_remote() => Reason::ConnectionTerminated,
        _ => Reason::HttpProtocolError,
    };
    let mut failed = Failed::new(reason).because(error);
    failed.nothing_left = nothing_left;
    failed
}

/// What goes to the endpoint after the head.
#[derive(Debug)]
pub(super) struct Upload {
    state: State,
    out: SendStream<Bytes>,
    /// Bytes that had gone out when last asked.
    seen: u64,
}

#[derive(Debug)]
enum State {
    /// Not wanted yet.
    Held(Hold, RequestBody),
    /// Not before the endpoint has agreed.
    Offered(RequestBody),
    Flowing(Box<Pump<RequestBody>>),
    /// The endpoint takes no more of it.
    Stopped(Box<Pump<RequestBody>>),
    Done,
}

impl Upload {
    fn new(body: RequestBody, out: SendStream<Bytes>, hold: Option<Hold>, offered: bool) -> Self {
        let state = match (hold, body) {
            (_, RequestBody::Empty) => State::Done,
            (Some(hold), body) => State::Held(hold, body),
            (None, body) if offered => State::Offered(body),
            (None, body) => State::Flowing(Box::new(Pump::new(body))),
        };
        Self {
            state,
            out,
            seen: 0,
        }
    }

    /// The endpoint wants what was held back.
    pub(super) fn let_go(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Done) {
            State::Held(_, body) | State::Offered(body) => {
                State::Flowing(Box::new(Pump::new(body)))
            }
            other => other,
        };
    }

    /// Whether nothing is left to send, or nothing will be.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Done | State::Stopped(_))
    }

    /// Whether bytes went out since the last time.
    pub(super) fn has_moved(&mut self) -> bool {
        let sent = match &self.state {
            State::Flowing(pump) => pump.sent(),
            State::Held(..) | State::Offered(_) | State::Stopped(_) | State::Done => self.seen,
        };
        std::mem::replace(&mut self.seen, sent) != sent
    }

    /// The answer has begun: what is still held back is not wanted.
    pub(super) fn give_up_held(&mut self) {
        if matches!(self.state, State::Held(..) | State::Offered(_)) {
            self.state = State::Done;
            // The endpoint need not wait for it.
            self.out.send_reset(Code::NO_ERROR);
        }
    }

    /// The body, if nothing was taken from it.
    fn into_untouched(self, transfer: Option<&Transfer>) -> Option<RequestBody> {
        if transfer.is_some_and(|it| it.bytes.get() > 0 || it.complete.get()) {
            return None;
        }
        match self.state {
            State::Held(_, body) | State::Offered(body) => Some(body),
            State::Flowing(pump) | State::Stopped(pump) => Some(pump.into_body()),
            State::Done => Some(RequestBody::Empty).filter(|_| transfer.is_none()),
        }
    }

    /// Goes on as far as possible; an error of the client's alone is of interest, since the answer tells
    /// what became of the endpoint.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken<()>>> {
        if let State::Held(hold, _) = &self.state
            && hold.poll(cx).is_ready()
        {
            self.let_go();
        }
        let State::Flowing(pump) = &mut self.state else {
            return if self.is_done() {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            };
        };
        let result = std::task::ready!(pump.poll(cx, &mut self.out));
        self.state = match std::mem::replace(&mut self.state, State::Done) {
            State::Flowing(pump) if matches!(result, Err(Broken::Peer(_))) => State::Stopped(pump),
            _ => State::Done,
        };
        Poll::Ready(result.map_err(|broken| match broken {
            Broken::Body(_told_by_transfer) => Broken::Body(()),
            Broken::Peer(code) => Broken::Peer(code),
        }))
    }
}
