//! One request and its answer over HTTP/1.1, on one connection.
//!
//! `Pools::exchange` hands over a clean connection and a request; `send` writes the one, reads the
//! other's head, and returns a `Flow`, which `AnswerBody` drives until the body is over. The codec is
//! `crate::http1`; here are the socket, the deadlines and the order of things:
//!
//! | what comes                          | what becomes of it                                        |
//! |-------------------------------------|-----------------------------------------------------------|
//! | a byte before the request left      | refused: it cannot be an answer to it                     |
//! | `100`, or a second without one      | a body that was held back is sent                         |
//! | `103`                               | told to the client, if it can be                          |
//! | `101` that was offered              | a tunnel                                                  |
//! | a final head                        | the answer; a body that is still held back is never sent  |
//!
//! Invariant: the connection is given back only when request and answer are over, the answer says
//! that it persists, and not a byte more has come.

mod body;
mod tunnel;
mod upload;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use http_body::Body as _;
use tokio::io::{AsyncRead as _, ReadBuf};

use crate::http1::{AnswerHead, AnswerParser, Decoder, Framing, Limits, RequestEncoder};
use crate::metrics::ProxyError as Reason;
use crate::net::deadline::Timer;
use crate::net::stream::Stream;

use super::error::Failed;
use super::hold::Hold;
use super::outgoing::{Fields, Outgoing};
use super::pool::{Link, Pools, Target};
use super::request_body::{RequestBody, Transfer};
use super::websocket::{self, Proof};
use super::{Early, Informed};

pub(super) use body::Flow;
use body::Rest;
use upload::{Stopped, Upload};

/// Bounds of an answer's head.
const LIMITS: Limits = Limits {
    head_bytes: 64 * 1024,
    fields: 128,
    target_bytes: 0,
};

/// What an exchange needs until the answer's head is there; kept by the worker for the next one.
#[derive(Debug, Default)]
pub(super) struct Gear {
    pub(super) out: Vec<u8>,
    parser: AnswerParser,
}

/// Sends `request` and waits for the head of the answer.
pub(super) async fn send(
    pools: &Rc<Pools>,
    mut link: Box<Link>,
    request: Outgoing<'_>,
    target: &Target<'_>,
    early: Early<'_>,
) -> Result<Response<Flow>, Failed> {
    let transfer = request.body.transfer();
    let method = request.method;
    let mut gear = pools.gear();
    let (sent, body) = write_head(&mut gear.out, request);
    let hold = Hold::of(sent.expects, &body, pools.deadlines());
    let Sent {
        offered, framing, ..
    } = sent;
    let mut waiting = Waiting {
        pools,
        method,
        offered: offered.as_deref(),
        informed: Informed::new(early, target.upstream_metrics, pools.worker()),
        upload: Upload::new(std::mem::take(&mut gear.out), framing, body, hold),
        transfer: transfer.as_deref(),
        input: BytesMut::new(),
        parser: gear.parser,
        moved: 0,
        first_byte: target.timeouts.first_byte,
        first: true,
    };
    link.timer.arm(target.timeouts.first_byte);
    let result = poll_fn(|cx| waiting.poll(cx, &mut link)).await;
    let answer = match result {
        Ok(answer) => answer,
        Err(mut failed) => {
            failed.unsent = failed
                .nothing_left
                .then(|| waiting.upload.into_untouched())
                .flatten();
            return Err(failed);
        }
    };
    link.timer.disarm();
    if let Some(out) = waiting.upload.after_head() {
        let parser = std::mem::take(&mut waiting.parser);
        pools.put_gear(Gear { out, parser });
    }
    let Waiting { upload, input, .. } = waiting;
    let (mut response, ()) = Response::new(()).into_parts();
    response.status = answer.status;
    response.headers = answer.headers;
    response.version = answer.version;
    if answer.status == StatusCode::SWITCHING_PROTOCOLS {
        websocket::check(&mut response.headers, sent.proof)?;
        let flow = Flow::tunnel(pools, link, upload, input, target);
        return Ok(Response::from_parts(response, flow));
    }
    let rest = Rest {
        input,
        decoder: Decoder::new(answer.framing),
        persists: answer.persists,
    };
    let flow = Flow::message(pools, link, target, upload, rest);
    Ok(Response::from_parts(response, flow))
}

/// What the head of a request says.
struct Sent {
    framing: Framing,
    /// The protocol that it offers.
    offered: Option<String>,
    /// What an endpoint that agrees must prove.
    proof: Proof,
    /// It has an `Expect`.
    expects: bool,
}

/// Writes the head of a request.
fn write_head(out: &mut Vec<u8>, request: Outgoing<'_>) -> (Sent, RequestBody) {
    let Outgoing {
        method,
        target,
        fields,
        body,
    } = request;
    let offered = body.offers().map(str::to_owned);
    let mut head = RequestEncoder::begin(out, method, target);
    let (mut has_length, mut expects) = (false, false);
    let mut write = |name: &HeaderName, value: &HeaderValue| {
        has_length |= *name == header::CONTENT_LENGTH;
        expects |= *name == header::EXPECT;
        head.field(name, value);
    };
    let proof = match fields {
        Fields::Told(tell) if offered.is_none() => {
            tell(&mut write);
            Proof::None
        }
        fields => {
            let mut map = fields.into_map();
            let proof = websocket::offer(&mut map, offered.as_deref());
            for (name, value) in &map {
                write(name, value);
            }
            proof
        }
    };
    let framing = framing(method, has_length, &body);
    head.finish(framing, offered.is_some().then_some("upgrade"));
    let sent = Sent {
        framing,
        offered,
        proof,
        expects,
    };
    (sent, body)
}

/// How a request's body is framed. A request that could have one says so when it has none.
fn framing(method: &Method, has_length: bool, body: &RequestBody) -> Framing {
    match body {
        RequestBody::Tunnel(_) => Framing::None,
        RequestBody::Empty => {
            if has_length || matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
                Framing::Length(0)
            } else {
                Framing::None
            }
        }
        RequestBody::Stream(_) => body
            .size_hint()
            .exact()
            .map_or(Framing::Chunked, Framing::Length),
    }
}

/// An exchange whose answer has not begun.
struct Waiting<'a> {
    pools: &'a Rc<Pools>,
    method: &'a Method,
    offered: Option<&'a str>,
    informed: Informed<'a>,
    upload: Upload,
    transfer: Option<&'a Transfer>,
    /// What has come of a head that is not whole; after the head, what follows it.
    input: BytesMut,
    parser: AnswerParser,
    moved: u64,
    first_byte: Duration,
    /// Nothing was polled yet, so nothing that comes can be an answer.
    first: bool,
}

impl Waiting<'_> {
    fn poll(&mut self, cx: &mut Context<'_>, link: &mut Link) -> Poll<Result<AnswerHead, Failed>> {
        match self.upload.poll(cx, &mut link.stream) {
            Poll::Ready(Err(Stopped::Client)) => {
                return Poll::Ready(Err(Failed::new(Reason::HttpRequestError)));
            }
            // An endpoint may answer and close without reading on: the answer is looked for all the
            // same, and its absence tells.
            Poll::Ready(Ok(()) | Err(Stopped::Endpoint(_))) | Poll::Pending => {}
        }
        loop {
            let head = match self.head(cx, link) {
                Poll::Ready(Ok(head)) => head,
                Poll::Ready(Err(failed)) => return Poll::Ready(Err(failed)),
                Poll::Pending => break,
            };
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                let result = self.switched(&head).map(|()| head);
                return Poll::Ready(result);
            }
            if !head.status.is_informational() {
                return Poll::Ready(Ok(head));
            }
            if head.status == StatusCode::CONTINUE {
                self.upload.let_go();
                cx.waker().wake_by_ref();
            }
            if let Err(reason) = self.informed.take(head.status, head.headers) {
                return Poll::Ready(Err(Failed::new(reason)));
            }
        }
        self.first = false;
        if let Some(transfer) = self.transfer
            && !self.upload.is_over()
        {
            adjust(&link.timer, transfer, &mut self.moved, self.first_byte);
        } else if !link.timer.is_armed() {
            link.timer.arm(self.first_byte);
        }
        link.timer
            .poll(cx)
            .map(|()| Err(Failed::new(Reason::HttpResponseTimeout)))
    }

    /// The next head, final or not.
    fn head(&mut self, cx: &mut Context<'_>, link: &mut Link) -> Poll<Result<AnswerHead, Failed>> {
        loop {
            if !self.input.is_empty() {
                match self.parser.parse(&self.input, self.method, &LIMITS) {
                    Ok(Some((head, length))) => {
                        self.input.advance(length);
                        return Poll::Ready(Ok(head));
                    }
                    Ok(None) => {}
                    Err(fault) => return Poll::Ready(Err(fault.into())),
                }
            }
            let mut scratch = self.pools.scratch();
            let count = match poll_read(&mut link.stream, cx, &mut scratch) {
                Poll::Ready(Ok(count)) => count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => return Poll::Pending,
            };
            let too_early = self.first && link.stream.unsent() > 0;
            if count == 0 {
                let mut failed = Failed::new(if self.input.is_empty() {
                    Reason::ConnectionTerminated
                } else {
                    Reason::HttpResponseIncomplete
                });
                failed.nothing_left = too_early;
                return Poll::Ready(Err(failed));
            }
            if too_early {
                return Poll::Ready(Err(Failed::new(Reason::HttpProtocolError)));
            }
            let bytes = scratch.get(..count).unwrap_or_default();
            if !self.input.is_empty() {
                self.input.extend_from_slice(bytes);
                continue;
            }
            match self.parser.parse(bytes, self.method, &LIMITS) {
                Ok(Some((head, length))) => {
                    self.input = BytesMut::from(bytes.get(length..).unwrap_or_default());
                    return Poll::Ready(Ok(head));
                }
                Ok(None) => self.input.extend_from_slice(bytes),
                Err(fault) => return Poll::Ready(Err(fault.into())),
            }
        }
    }

    /// `101` opens what was offered and nothing else (RFC 9110 section 15.2.2).
    fn switched(&self, head: &AnswerHead) -> Result<(), Failed> {
        let Some(offered) = self.offered else {
            return Err(Failed::new(Reason::HttpProtocolError));
        };
        let mut upgrades = head.headers.get_all(header::UPGRADE).iter();
        let named = upgrades.next().is_some_and(|it| is(it, offered)) && upgrades.next().is_none();
        let options = head.headers.get_all(header::CONNECTION).iter();
        let upgrade = options
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|option| option.trim().eq_ignore_ascii_case("upgrade"));
        if named && upgrade {
            Ok(())
        } else {
            Err(Failed::new(Reason::HttpUpgradeFailed))
        }
    }
}

fn is(value: &HeaderValue, protocol: &str) -> bool {
    value.as_bytes().eq_ignore_ascii_case(protocol.as_bytes())
}

/// The endpoint's time runs from the last byte that it took, and stands still while the client has
/// nothing to send.
pub(super) fn adjust(timer: &Timer, transfer: &Transfer, moved: &mut u64, first_byte: Duration) {
    if transfer.waits_for_client.get() && !transfer.complete.get() {
        timer.disarm();
    } else if transfer.bytes.get() != *moved || !timer.is_armed() {
        *moved = transfer.bytes.get();
        timer.arm(first_byte);
    }
}

/// Reads what has come into `buffer`: the count, 0 at the end.
fn poll_read(
    stream: &mut Stream,
    cx: &mut Context<'_>,
    buffer: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(buffer);
    Pin::new(stream)
        .poll_read(cx, &mut buffer)
        .map_ok(|()| buffer.filled().len())
}
