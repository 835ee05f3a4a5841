//! Station 7: the answer's head goes out.
//!
//! The only place where a `Reject` becomes a status and words (RFC 9457), and where an answer gets
//! the fields that are the same for all. Invariant: every answer carries the request id that the
//! log has.

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, SET_COOKIE,
};
use http::response::Parts;
use http::{Method, Response, StatusCode, Version};
use serde::Serialize;

use crate::encode::{self, Verdict};
use crate::files;
use crate::upstream::Stage;

use super::context::{Codings, Context, End};
use super::grpc::Call;
use super::headers;
use super::outbound::{Encoded, Outbound, Stream};
use super::reject::Reject;
use super::{edge, forms, own};

/// Sends what the road found.
pub(super) fn answer(mut context: Box<Context>, answer: Response<Stream>) -> Response<Outbound> {
    if context.tunnel_only && answer.status().is_success() {
        // Nobody may take it for a tunnel that was opened (RFC 8441 section 5).
        let reject = match context.exchange.endpoint {
            Some(_) => Reject::NoTunnel,
            None => Reject::Upgrade,
        };
        return self::reject(context, &reject);
    }
    let (mut head, stream) = answer.into_parts();
    if let Some(edge) = context.edge() {
        edge::finish(edge, &context.about(), &mut head.headers);
    }
    head.headers
        .insert(headers::X_REQUEST_ID, context.id_value.clone());
    if let Some(cookie) = context.sticky.take() {
        head.headers.append(SET_COOKIE, cookie);
    }
    context.status = Some(head.status);
    let stream = compressed(&context, &mut head, stream);
    Response::from_parts(head, Outbound::new(stream, context))
}

/// The body as the route and the client want it, where the cache has not seen to that.
fn compressed(context: &Context, head: &mut Parts, stream: Stream) -> Stream {
    let routes = &context.view.snapshot.routes;
    let Some(rule) = context
        .route
        .and_then(|route| routes[route.0].compress.as_ref())
        .filter(|_| context.codings == Codings::Open)
    else {
        return stream;
    };
    let is_head = context.request.method == Method::HEAD;
    let length = if is_head { None } else { stream.length() };
    let subject = encode::Subject {
        rule,
        request: &context.request.headers,
        status: head.status,
        length,
    };
    let mut verdict = encode::judge(&subject, &head.headers);
    if is_head && let Some(route) = context.route {
        verdict = forms::of_head(verdict, &subject, routes[route.0].cache.as_deref());
    }
    let mut stream = stream;
    if let Verdict::Coded(coding) = verdict
        && !is_head
    {
        match encode::Stream::new(&context.worker.compressors, coding, rule.level, length) {
            Ok(encoder) => {
                let source = stream;
                stream = Stream::Encoded(Box::new(Encoded { source, encoder }));
            }
            Err(error) => {
                context.worker.cells().compression_refused();
                tracing::debug!(request_id = %context.id, %error, "an answer is not compressed");
                verdict = Verdict::Plain;
            }
        }
    }
    encode::mark(verdict, &mut head.headers);
    stream
}

/// Tells the client why there is no answer.
pub(super) fn reject(mut context: Box<Context>, reject: &Reject) -> Response<Outbound> {
    let status = reject.status();
    context.end = match reject {
        Reject::Exchange(error) if status.is_server_error() => End::Upstream(error.reason),
        _ => End::Rejected(reject.reason()),
    };
    if let Reject::Exchange(error) = reject
        && status.is_server_error()
    {
        tracing::debug!(
            request_id = %context.id, %error, cause = error.cause.as_deref().map(tracing::field::display),
            "request failed"
        );
    }
    context.worker.cells().reject(reject.reason());
    context.status = Some(status);
    let mut headers = HeaderMap::new();
    let body = if let Some(call) = Call::of(&context.request.headers) {
        // An endpoint that could not be reached has not begun: that is to be tried again.
        let told = match reject {
            Reject::Exchange(error) if error.stage == Stage::Dial => StatusCode::BAD_GATEWAY,
            _ => status,
        };
        call.say(&mut headers, told, &reject.to_string());
        context.status = Some(StatusCode::OK);
        Stream::Empty
    } else {
        problem(&mut headers, &context, reject, status)
    };
    if status == StatusCode::SERVICE_UNAVAILABLE {
        let seconds = HeaderValue::from(fastrand::u16(1..=5));
        headers.insert(RETRY_AFTER, seconds);
    }
    if matches!(reject, Reject::NotAllowed) {
        headers.insert(ALLOW, own::METHODS);
    }
    if matches!(reject, Reject::ReadOnly) {
        headers.insert(ALLOW, HeaderValue::from_static(files::ALLOWED));
    }
    if reject.ends_connection() && context.request.version <= Version::HTTP_11 {
        // What follows on the connection cannot be trusted, or is not wanted.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(edge) = context.edge() {
        edge::finish(edge, &context.about(), &mut headers);
    }
    headers.insert(headers::X_REQUEST_ID, context.id_value.clone());
    let status = context.status.unwrap_or(status);
    let mut response = Response::new(Outbound::new(body, context));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// A refusal as a document.
fn problem(
    headers: &mut HeaderMap,
    context: &Context,
    reject: &Reject,
    status: StatusCode,
) -> Stream {
    let problem = Problem {
        r#type: "about:blank",
        title: status.canonical_reason().unwrap_or("Error"),
        status: status.as_u16(),
        detail: reject.to_string(),
        request_id: context.id.hyphenated().to_string(),
    };
    let kind = HeaderValue::from_static("application/problem+json");
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let body = serde_json::to_vec(&problem).map_or_else(|_error| Bytes::new(), Bytes::from);
    Stream::Whole(body)
}

/// RFC 9457.
#[derive(Serialize)]
struct Problem {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    request_id: String,
}
