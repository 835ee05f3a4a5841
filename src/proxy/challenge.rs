//! ACME's http-01: the file that a CA looks for, on any plaintext listener, whatever the routes say.
//!
//! `acme` puts answers into `Live::acme_tokens` while an order is on its way. Invariant: a path that is
//! not expected right now goes the way of every other one, so that endpoints can have an ACME of
//! their own.

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Response};

use super::context::Context;
use super::outbound::Stream;

/// RFC 8555 section 8.3.
const FOLDER: &str = "/.well-known/acme-challenge/";

/// The answer, if this request is for one.
#[inline]
pub(super) fn answer(context: &Context) -> Option<Response<Stream>> {
    // None unless the config has http-01: then this costs a load and a branch.
    let tokens = context.view.snapshot.acme_tokens.as_ref()?;
    let request = &context.request;
    if context.peer.secure || request.method != Method::GET {
        return None;
    }
    let token = request.uri.path().strip_prefix(FOLDER)?;
    let content = tokens.load().as_ref()?.get(token)?.clone();
    let mut answer = Response::new(Stream::Whole(content));
    let headers = answer.headers_mut();
    let bytes = HeaderValue::from_static("application/octet-stream");
    headers.insert(CONTENT_TYPE, bytes);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Some(answer)
}
