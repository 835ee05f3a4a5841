//! What answers requests, as a connection sees it.
//!
//! `server` calls it, `proxy` is it; neither knows the other.

use std::error::Error;
use std::future::{Future, Ready};
use std::rc::Rc;

use bytes::Bytes;
use futures_util::future::Either;
use http::{Response, Version};
use http_body::Body;
use tokio::time::Instant;

use crate::body::Inbound;

use super::fields::FieldBlock;
use super::{Early, Fault, Head, Peer};

/// An answer that is there at once, or one that will come.
pub type Answering<B, F> = Either<Ready<Response<B>>, F>;

/// What answers requests.
pub trait Handler: 'static {
    /// Body of an answer.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin + 'static;

    /// Answers one request, whose head was read `at` that time; never fails: a refusal is an answer too.
    /// `early` takes informational answers, if the client can read them. An answer of `101` to a request
    /// that offers a tunnel opens it: its body is what goes to the client, and is polled on after its end
    /// while the client still sends. Trailers go out over HTTP/1.1 as far as the answer's `Trailer` names
    /// them. An answer with `Connection: close` is the last one of an HTTP/1.1 connection.
    fn handle(
        self: &Rc<Self>,
        peer: &Rc<Peer>,
        head: Head,
        at: Instant,
        body: Inbound,
        early: Option<Rc<dyn Early>>,
    ) -> Answering<Self::Body, impl Future<Output = Response<Self::Body>> + 'static>;

    /// Appends the field lines of an answer over HTTP/1.x that are not in its map, and says whether it
    /// has any, `Date` among them. They never concern the connection or the framing.
    fn write_fields(_body: &Self::Body, _out: &mut Vec<u8>) -> bool {
        false
    }

    /// The same over HTTP/2.
    fn show_fields(_body: &Self::Body, _to: &mut dyn FieldBlock) -> bool {
        false
    }

    /// The answer to what is no request; over HTTP/1.1 the last one of its connection. `version` is what
    /// is spoken there.
    fn refuse(
        self: &Rc<Self>,
        peer: &Rc<Peer>,
        version: Version,
        fault: Fault,
    ) -> Response<Self::Body>;
}
