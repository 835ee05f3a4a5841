//! One request and its answer on an HTTP/1.1 connection.
//!
//! The handler's future and then the body of its answer are polled in place, by the connection's
//! task, which also writes. An answer's head leaves with the first piece of its body. Invariant: an
//! answer that breaks off, or that is not as long as its head said, ends the connection and never
//! looks whole.

use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::response::Parts;
use http::{Method, Response, StatusCode, Version};
use http_body::Body;
use tokio::time::Instant;

use crate::body::{BodyFault, Inbound};
use crate::http1::{self, Encoder, Expect, Fields, Framing, RequestHead};
use crate::metrics::CloseReason;
use crate::wire::{Early, Fault, Handler, announces, sift_trailers, spare};

use super::Shared;
use super::body::Following;
use super::conn::Conn;
use super::http1::Stretch;
use super::leftover::{DRAINED, drain_body, finish_tunnel};

/// Room for a head.
const HEAD: usize = 512;

/// After so much of an answer, the next piece is asked for only when the client's socket has room: a slow client
/// would have it lie here, in memory, and the kernel is asked once for many small pieces.
const ROOM: usize = 16 * 1024;

/// What becomes of the connection after an exchange.
pub(super) enum After {
    /// It takes the next request.
    Next,
    /// It closes, and its client may read what it was sent.
    Close {
        /// For the counters.
        reason: CloseReason,
        /// The client may still be sending.
        lingers: bool,
    },
    /// It ends as it is.
    Cut(CloseReason),
}

impl After {
    pub(super) fn closing(reason: CloseReason, says_so: bool, lingers: bool) -> Self {
        if says_so {
            Self::Close { reason, lingers }
        } else {
            Self::Cut(reason)
        }
    }
}

/// What an answer must know of its request.
struct Asked {
    head: bool,
    version: Version,
    persists: bool,
    trailers: bool,
    offers: Option<String>,
}

/// How an answer is sent.
struct Plan {
    framing: Framing,
    /// The body stays behind; the head may tell of its length.
    described: bool,
    persists: bool,
    tunnel: bool,
}

impl<H: Handler> Shared<H> {
    /// Has one request answered.
    pub(super) async fn exchange(&self, stretch: &mut Stretch<'_>, head: RequestHead) -> After {
        let conn = stretch.conn;
        let serial = conn.serial.get() + 1;
        let is_last = conn
            .watch
            .limits()
            .requests
            .is_some_and(|most| serial >= most.get());
        let asked = Asked {
            head: head.parts.method == Method::HEAD,
            version: head.parts.version,
            persists: head.persists && !is_last,
            trailers: head.trailers,
            offers: head.offers(),
        };
        conn.begin(head.framing, head.expect == Expect::Continue);
        let following = match (&asked.offers, head.framing) {
            (Some(protocol), _) => Inbound::tunnel(protocol, Following::new(conn, true)),
            (None, Framing::None | Framing::Length(0)) => Inbound::empty(),
            (None, _) => Inbound::body(Following::new(conn, false)),
        };
        // Whoever still has those of an earlier request keeps them.
        if Rc::strong_count(&stretch.hints) > 1 {
            stretch.hints = Rc::default();
        }
        let hints = &stretch.hints;
        hints.reopen();
        let early = (asked.version == Version::HTTP_11).then(|| Rc::clone(hints) as Rc<dyn Early>);

        let answer = {
            let mut handling = pin!(self.handler.handle(
                stretch.peer,
                head.parts,
                Instant::now(),
                following,
                early
            ));
            poll_fn(|cx| {
                if let Poll::Ready(answer) = handling.as_mut().poll(cx) {
                    return Poll::Ready(Ok(answer));
                }
                let mut io = conn.io.borrow_mut();
                hints.take(cx, &mut io.out.front);
                if let Poll::Ready(Err(_)) = io.poll_flush(cx) {
                    return Poll::Ready(Err(conn.failed()));
                }
                io.poll_left(cx).map(Err)
            })
            .await
        };
        match answer {
            Ok(answer) => self.answer(stretch, &asked, answer).await,
            Err(reason) => After::Cut(reason),
        }
    }

    /// The last answer of a connection whose client sent what is no request.
    pub(super) async fn refuse(&self, stretch: &Stretch<'_>, fault: Fault) -> After {
        let asked = Asked {
            head: false,
            version: Version::HTTP_11,
            persists: false,
            trailers: false,
            offers: None,
        };
        let reason = match fault {
            Fault::Timeout => CloseReason::HeaderTimeout,
            _ => CloseReason::Malformed,
        };
        stretch.conn.begin(Framing::None, false);
        let answer = self.handler.refuse(stretch.peer, Version::HTTP_11, fault);
        match self.answer(stretch, &asked, answer).await {
            After::Cut(other) => After::Cut(other),
            After::Next | After::Close { .. } => After::closing(reason, true, true),
        }
    }

    /// Sends an answer.
    async fn answer(
        &self,
        stretch: &Stretch<'_>,
        asked: &Asked,
        answer: Response<H::Body>,
    ) -> After {
        let conn = stretch.conn;
        let (mut parts, body) = answer.into_parts();
        let Some(plan) = self.plan(conn, asked, &mut parts, &body) else {
            return After::Cut(CloseReason::Internal);
        };
        self.write_head(stretch, asked, &plan, &parts, &body);
        let has_body = !plan.described && plan.framing != Framing::None && !body.is_end_stream();
        let mut sending = Sending {
            is_over: !has_body && !plan.tunnel,
            body,
            encoder: Encoder::new(plan.framing),
            unasked: 0,
            fresh: true,
            announced: if asked.trailers {
                let announced = parts.headers.get_all(header::TRAILER);
                announced.iter().cloned().collect()
            } else {
                Vec::new()
            },
        };
        spare::give_back(std::mem::take(&mut parts.headers));
        if sending.is_over && sending.finish(conn, None).is_err() {
            return After::Cut(CloseReason::Internal);
        }
        if plan.tunnel {
            conn.io.borrow_mut().open_tunnel();
        }
        if let Err(reason) = poll_fn(|cx| sending.poll(cx, conn)).await {
            if plan.framing == Framing::UntilClose {
                // The end of the connection must not pass for the end of the body.
                conn.io.borrow_mut().guard.stream().abort();
            }
            if plan.tunnel {
                conn.end_tunnel();
            }
            return After::Cut(reason);
        }
        if plan.tunnel {
            finish_tunnel(conn, sending.body).await;
            return After::closing(CloseReason::Complete, true, false);
        }
        drop(sending);
        self.settle(conn, &plan).await
    }

    /// Decides how an answer is framed and whether the connection goes on. `None` if there is no way
    /// to send it.
    fn plan(&self, conn: &Conn, asked: &Asked, parts: &mut Parts, body: &H::Body) -> Option<Plan> {
        let tunnel = parts.status == StatusCode::SWITCHING_PROTOCOLS;
        if parts.status.is_informational() && !(tunnel && asked.offers.is_some()) {
            tracing::error!(status = %parts.status, "an answer that is none was to be sent");
            return None;
        }
        let told = || {
            let field = parts.headers.get(header::CONTENT_LENGTH)?;
            field.to_str().ok()?.parse().ok()
        };
        let length = match body.size_hint().exact() {
            Some(length) => Some(length),
            None => told(),
        };
        let described = asked.head || parts.status == StatusCode::NOT_MODIFIED;
        let framing = match (length, asked.version) {
            _ if tunnel => Framing::Tunnel,
            _ if parts.status == StatusCode::NO_CONTENT || described => Framing::None,
            (Some(length), _) => Framing::Length(length),
            (None, Version::HTTP_10) => Framing::UntilClose,
            (None, _) => Framing::Chunked,
        };
        if asked.head
            && let Some(length @ 1..) = length
            && !parts.headers.contains_key(header::CONTENT_LENGTH)
        {
            parts
                .headers
                .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        if let (true, Some(protocol)) = (tunnel, &asked.offers) {
            let protocol = HeaderValue::from_str(protocol).ok()?;
            parts.headers.insert(header::UPGRADE, protocol);
        }
        let io = conn.io.borrow();
        // A body that nobody reads any more is drained, if it is short; one that the client has not
        // been asked for may come or not.
        let is_read = io.decoder.is_end()
            || (!io.expects
                && (!conn.body_gone.get()
                    || io.decoder.left().is_some_and(|left| left <= DRAINED)));
        let persists = asked.persists
            && !self.drain.is_draining()
            && framing != Framing::UntilClose
            && !says_close(&parts.headers)
            && io.fault.is_none()
            && is_read;
        Some(Plan {
            framing,
            described,
            persists,
            tunnel,
        })
    }

    fn write_head(
        &self,
        stretch: &Stretch<'_>,
        asked: &Asked,
        plan: &Plan,
        parts: &Parts,
        body: &H::Body,
    ) {
        let mut io = stretch.conn.io.borrow_mut();
        io.expects = false;
        let out = &mut io.out.front;
        out.reserve(HEAD);
        stretch.hints.close(out);
        let connection = match (plan.tunnel, plan.persists, asked.version) {
            (true, ..) => Some("upgrade"),
            (false, false, _) => Some("close"),
            (false, true, Version::HTTP_10) => Some("keep-alive"),
            (false, true, _) => None,
        };
        let fields = Fields {
            headers: &parts.headers,
            framing: plan.framing,
            connection,
        };
        http1::begin_answer(out, asked.version, parts.status);
        if H::write_fields(body, out) {
            http1::end_answer(out, fields, plan.described, None);
        } else {
            let date = self.dates.at_tick(self.deadlines.now());
            http1::end_answer(out, fields, plan.described, Some(date.as_bytes()));
        }
    }

    /// An answer is sent; what is left of the request's body decides how the connection goes on.
    async fn settle(&self, conn: &Conn, plan: &Plan) -> After {
        let reason = if self.drain.is_draining() {
            CloseReason::Drain
        } else {
            CloseReason::Complete
        };
        let is_whole = {
            let io = conn.io.borrow();
            io.fault.is_none() && io.decoder.is_end()
        };
        if plan.persists && reason == CloseReason::Complete && (is_whole || drain_body(conn).await)
        {
            return After::Next;
        }
        let reason = match conn.io.borrow().fault {
            Some(BodyFault::Malformed(_)) => CloseReason::Malformed,
            Some(BodyFault::Incomplete) => CloseReason::Client,
            Some(BodyFault::TooLarge) | None => reason,
        };
        After::closing(reason, true, !is_whole)
    }
}

/// Whether the handler wants the connection to be closed. What an upstream says of its own connection
/// does not come here.
fn says_close(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONNECTION)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"))
}

/// The body of an answer on its way.
struct Sending<B> {
    body: B,
    encoder: Encoder,
    /// The whole body was handed over.
    is_over: bool,
    /// Bytes written since the kernel was last asked whether it has room for more.
    unasked: usize,
    /// Nothing was written yet: the head waits for the first piece of the body.
    fresh: bool,
    /// `Trailer` of the answer, if the client takes trailers: others are not sent.
    announced: Vec<HeaderValue>,
}

impl<B: Body<Data = Bytes> + Unpin> Sending<B> {
    /// Ready when all is written and flushed.
    fn poll(&mut self, cx: &mut Context<'_>, conn: &Conn) -> Poll<Result<(), CloseReason>> {
        let failed = |_error: io::Error| conn.failed();
        loop {
            if !self.fresh || self.is_over {
                let mut io = conn.io.borrow_mut();
                if !io.out.is_empty() {
                    ready!(io.poll_write(cx)).map_err(failed)?;
                    conn.watch.answer_moves();
                }
                if self.is_over {
                    return io.poll_flush(cx).map_err(failed);
                }
                // While the request's body comes, whoever answers may wait for the rest of it, and moves it on
                // only when it is asked.
                if self.unasked >= ROOM && io.decoder.is_end() {
                    ready!(io.guard.poll_room(cx)).map_err(failed)?;
                    conn.watch.answer_moves();
                    self.unasked = 0;
                }
            }
            self.fresh = false;
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => {
                    let mut io = conn.io.borrow_mut();
                    return match io.poll_flush(cx) {
                        Poll::Ready(Err(error)) => Poll::Ready(Err(failed(error))),
                        Poll::Ready(Ok(())) | Poll::Pending => io.poll_left(cx).map(Err),
                    };
                }
                Poll::Ready(Some(Err(_))) => {
                    // What was sent so far is not held back.
                    let _left = conn.io.borrow_mut().poll_flush(cx);
                    return Poll::Ready(Err(CloseReason::Upstream));
                }
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.piece(conn, data)?,
                    Err(frame) => {
                        let mut trailers = frame.into_trailers().unwrap_or_default();
                        sift_trailers(&mut trailers, |name| announces(&self.announced, name));
                        self.finish(conn, Some(&trailers))?;
                    }
                },
                Poll::Ready(None) => self.finish(conn, None)?,
            }
        }
    }

    fn piece(&mut self, conn: &Conn, data: Bytes) -> Result<(), CloseReason> {
        let mut io = conn.io.borrow_mut();
        let (length, out) = (data.len(), &mut io.out);
        self.unasked = self.unasked.saturating_add(length);
        let before = self.encoder.before(length, &mut out.front);
        before.map_err(|_wrong| CloseReason::Upstream)?;
        out.content = data;
        self.encoder.after(length, &mut out.back);
        drop(io);
        if self.body.is_end_stream() {
            self.finish(conn, None)?;
        }
        Ok(())
    }

    fn finish(&mut self, conn: &Conn, trailers: Option<&HeaderMap>) -> Result<(), CloseReason> {
        self.is_over = true;
        let out = &mut conn.io.borrow_mut().out;
        self.encoder
            .finish(trailers, &mut out.back)
            .map_err(|_wrong| CloseReason::Upstream)
    }
}
