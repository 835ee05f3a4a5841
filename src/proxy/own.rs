//! Answers that Headgate gives by itself because it was asked to: redirects, fixed answers, and what
//! `OPTIONS` and `TRACE` ask of a proxy.
//!
//! `handle` calls these where the road ends at Headgate. Refusals are `respond`'s.

use http::header::{
    ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, ALLOW, CACHE_CONTROL, CONTENT_LENGTH,
    CONTENT_TYPE, DATE, EXPECT, HOST, HeaderName, HeaderValue, LOCATION, MAX_FORWARDS, PRAGMA,
    USER_AGENT, VIA,
};
use http::request::Parts;
use http::{Method, Response, StatusCode};

use crate::config::model::{Redirect, Respond, ToHttps};

use super::edge::{self, About};
use super::normalize::Hops;
use super::outbound::Stream;
use super::reject::Reject;

/// The methods that Headgate passes on.
pub(super) const METHODS: HeaderValue =
    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

/// The answer to `OPTIONS *`, and to an `OPTIONS` or `TRACE` that may go no further (RFC 9110 sections
/// 7.6.2, 9.3.7 and 9.3.8).
pub(super) fn to_the_proxy(request: &Parts, hops: Hops) -> Option<Response<Stream>> {
    if request.method == Method::OPTIONS && (hops == Hops::Here || request.uri.path() == "*") {
        let mut response = answer(StatusCode::NO_CONTENT, Stream::Empty);
        response.headers_mut().insert(ALLOW, METHODS);
        return Some(response);
    }
    (request.method == Method::TRACE && hops == Hops::Here).then(|| echo(request))
}

/// What an echo shows. A list of what may be seen, since no list of secrets is ever whole (RFC 9110
/// section 9.3.8): fields that say how a message came and what it is, and none that a client, a proxy or
/// a page would put a secret into.
const SHOWN: [HeaderName; 13] = [
    ACCEPT,
    ACCEPT_CHARSET,
    ACCEPT_ENCODING,
    ACCEPT_LANGUAGE,
    CACHE_CONTROL,
    CONTENT_LENGTH,
    DATE,
    EXPECT,
    HOST,
    MAX_FORWARDS,
    PRAGMA,
    USER_AGENT,
    VIA,
];

/// The request as it came, without what could be a secret.
fn echo(request: &Parts) -> Response<Stream> {
    let mut text = format!("TRACE {} HTTP/1.1\r\n", request.uri).into_bytes();
    for (name, value) in &request.headers {
        if SHOWN.contains(name) {
            text.extend_from_slice(name.as_str().as_bytes());
            text.extend_from_slice(b": ");
            text.extend_from_slice(value.as_bytes());
            text.extend_from_slice(b"\r\n");
        }
    }
    text.extend_from_slice(b"\r\n");
    let mut response = answer(StatusCode::OK, Stream::Whole(text.into()));
    let kind = HeaderValue::from_static("message/http");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// The same target over TLS.
///
/// # Errors
/// `Malformed` when the request names no host.
pub(super) fn to_https(rule: ToHttps, about: &About<'_>) -> Result<Response<Stream>, Reject> {
    let host = edge::host(about);
    let name = match host.rfind(':') {
        Some(colon) if !host.ends_with(']') => host.get(..colon).unwrap_or(host),
        _ => host,
    };
    if name.is_empty() {
        return Err(Reject::Malformed("there is no Host"));
    }
    let target = about.request.uri.path_and_query();
    let target = target.map_or("/", |target| target.as_str());
    let location = match rule.port.get() {
        443 => format!("https://{name}{target}"),
        port => format!("https://{name}:{port}{target}"),
    };
    to(HeaderValue::try_from(location).ok(), rule.status)
}

/// Somewhere else.
///
/// # Errors
/// `Malformed` when the request names no host and the target needs it.
pub(super) fn redirect(rule: &Redirect, about: &About<'_>) -> Result<Response<Stream>, Reject> {
    let location = edge::render(&rule.to, about);
    // Without a host, what follows would be read as one.
    let whole = location.filter(|to| !to.as_bytes().windows(4).any(|part| part == b":///"));
    to(whole, rule.status)
}

fn to(location: Option<HeaderValue>, status: StatusCode) -> Result<Response<Stream>, Reject> {
    let location = location.ok_or(Reject::Malformed("the request names no place to go from"))?;
    let mut response = answer(status, Stream::Empty);
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

/// The answer that stands in the config.
pub(super) fn fixed(rule: &Respond) -> Response<Stream> {
    let mut response = answer(rule.status, Stream::Whole(rule.body.clone()));
    for (name, value) in &rule.headers {
        response.headers_mut().append(name, value.clone());
    }
    response
}

fn answer(status: StatusCode, stream: Stream) -> Response<Stream> {
    let mut response = Response::new(stream);
    *response.status_mut() = status;
    response
}
