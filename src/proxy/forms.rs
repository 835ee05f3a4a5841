//! Station 5, on a route that compresses: the codings of what goes into the cache and of what comes out.
//!
//! `fetch` calls `encoder` for what is stored, so that a body is compressed once, and `serving` `decoder` where
//! the cache says that a client takes the answer plain. Invariant: an answer in a coding that was asked for on
//! behalf of all clients reaches no client that does not take it.

use http::header::ACCEPT_ENCODING;
use http::{HeaderMap, HeaderValue, Response};

use crate::cache::{Decoding, Form};
use crate::config::model::{CacheRule, Coding};
use crate::encode::{self, Maker, Subject, Verdict};

use super::context::{Codings, Context};
use super::forward::Order;
use super::outbound::{Decoded, Stream};

/// Compresses an answer on its way into the cache, if it is worth it and there is room for that.
pub(super) fn encoder(
    order: &Order,
    answer: &Response<Stream>,
) -> Option<(Coding, encode::Stream)> {
    let route = &order.view.snapshot.routes[order.route?.0];
    let rule = route.compress.as_ref()?;
    let coding = route.cache.as_ref()?.coding?;
    // As for a client that takes just that.
    let mut request = HeaderMap::with_capacity(1);
    request.insert(ACCEPT_ENCODING, HeaderValue::from_static(coding.token()));
    let length = answer.body().length();
    let subject = Subject {
        rule,
        request: &request,
        status: answer.status(),
        length,
    };
    if !matches!(encode::judge(&subject, answer.headers()), Verdict::Coded(_)) {
        return None;
    }
    let compressors = &order.worker.compressors;
    match encode::Stream::new(compressors, coding, rule.level, length) {
        Ok(encoder) => Some((coding, encoder)),
        Err(error) => {
            order.worker.cells().compression_refused();
            tracing::debug!(request_id = %order.id, %error, "an answer is stored plain");
            None
        }
    }
}

/// Decompresses what is stored; nothing when there is no room for that.
pub(super) fn decoder(context: &Context, decoding: Decoding) -> Option<encode::Decoder> {
    let Decoding { coding, by, length } = decoding;
    let made = encode::Decoder::new(&context.worker.compressors, coding, by, length);
    made.inspect_err(|error| {
        tracing::debug!(request_id = %context.id, %error, "an answer is not decompressed");
    })
    .ok()
}

/// The body of an answer, decompressed if it has to be.
pub(super) fn through(decoder: Option<encode::Decoder>, source: Stream) -> Stream {
    match decoder {
        None => source,
        Some(decoder) if decoder.left() == Some(0) => Stream::Empty,
        Some(decoder) => Stream::Decoded(Box::new(Decoded { source, decoder })),
    }
}

/// What is still to be done about codings. A client that refuses plain bytes gets what was decompressed for
/// it in a coding that it takes.
pub(super) fn codings(context: &Context, form: Form) -> Codings {
    match form {
        Form::AsSent => Codings::Open,
        Form::Coded => Codings::Settled,
        Form::Plain(_) => match encode::accepted(&context.request.headers, &[]).identity {
            true => Codings::Settled,
            false => Codings::Open,
        },
    }
}

/// What becomes of an answer to `HEAD` from past the cache, which is to say what a `GET` through it would.
pub(super) fn of_head(
    verdict: Verdict,
    subject: &Subject<'_>,
    cache: Option<&CacheRule>,
) -> Verdict {
    let (Verdict::Coded(_), Some(stored)) = (verdict, cache.and_then(|rule| rule.coding)) else {
        return verdict;
    };
    let accepted = encode::accepted(subject.request, &[stored]);
    match (accepted.codings.is_empty(), accepted.identity) {
        (false, _) => Verdict::Coded(stored),
        (true, true) => Verdict::Plain,
        (true, false) => verdict,
    }
}

/// An answer for its client alone, which was asked for in one coding as if for all; nothing when the
/// client has to ask for itself.
pub(super) fn settled(context: &mut Context, answer: Response<Stream>) -> Option<Response<Stream>> {
    let Some(coding) = encode::coding_of(answer.headers()) else {
        return Some(answer);
    };
    let (mut head, stream) = answer.into_parts();
    let request = &context.request.headers;
    if encode::takes(request, coding) {
        encode::mark(Verdict::Plain, &mut head.headers);
        return Some(Response::from_parts(head, stream));
    }
    if encode::forbids(&head.headers) || encode::forbids(request) {
        return None;
    }
    let decoding = Decoding {
        coding,
        by: Maker::Origin,
        length: None,
    };
    let decoder = decoder(context, decoding)?;
    encode::mark(Verdict::Decoded, &mut head.headers);
    context.codings = codings(context, Form::Plain(decoding));
    Some(Response::from_parts(head, through(Some(decoder), stream)))
}
