//! Station 5, on the way out: what the cache has, as the answer to a request, in the form that its client takes.
//!
//! `cached` and `partial` call it. Invariant: fields that nobody looks at on the way stay the lines that they
//! are stored as.

use http::{HeaderMap, Response, StatusCode};
use tokio::time::Instant;

use crate::cache::{self, HitBody};
use crate::metrics::CacheResult;
use crate::snapshot::Route;
use crate::wire::spare;

use super::context::{Codings, Context};
use super::forms;
use super::outbound::Stream;

/// What is stored cannot be decompressed now.
pub(super) struct NoRoom;

pub(super) fn hit_answer(
    context: &mut Context,
    hit: cache::Hit,
    result: CacheResult,
    now: Instant,
) -> Result<Response<Stream>, NoRoom> {
    let decoder = match hit.decoding() {
        Some(decoding) => Some(forms::decoder(context, decoding).ok_or(NoRoom)?),
        None => None,
    };
    context.cache = Some(result);
    context.codings = forms::codings(context, hit.form());
    let hit = if may_stay_lines(context) {
        match hit.into_lines(now) {
            Ok((status, lines, content)) => {
                // Room for the request id.
                let headers = spare::fields(1);
                return Ok(response(status, headers, Stream::Hit { lines, content }));
            }
            Err(hit) => hit,
        }
    } else {
        hit
    };
    let (status, headers, body) = hit.into_parts(now);
    let stream = match body {
        HitBody::Empty => Stream::Empty,
        HitBody::One(bytes) => Stream::Whole(bytes),
        body @ (HitBody::Segments(_) | HitBody::Parts(_)) => Stream::Shared(body.into()),
    };
    Ok(response(status, headers, forms::through(decoder, stream)))
}

/// Whether nobody on the way to the client looks at the fields of an answer.
fn may_stay_lines(context: &Context) -> bool {
    let route = context
        .route
        .map(|route| &context.view.snapshot.routes[route.0]);
    let has_edge = |route: &Route| {
        route.edge.is_some() || (route.compress.is_some() && context.codings == Codings::Open)
    };
    !context.asks_key && route.is_some_and(|route| !has_edge(route))
}

/// An answer that others may be given too, in the form for this client; nothing when there is no room for
/// that.
pub(super) fn shared(context: &mut Context, answer: cache::Answer) -> Option<Response<Stream>> {
    let decoder = match answer.decoding() {
        Some(decoding) => Some(forms::decoder(context, decoding)?),
        None => None,
    };
    context.codings = forms::codings(context, answer.form);
    let stream = forms::through(decoder, Stream::Shared(answer.body));
    Some(response(answer.status, answer.headers, stream))
}

fn response(status: StatusCode, headers: HeaderMap, stream: Stream) -> Response<Stream> {
    let mut response = Response::new(stream);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
