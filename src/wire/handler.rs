//! What answers requests, as a connection sees it.
//!
//! `server` calls it, `proxy` is it; neither knows the other.

use std::error::Error;
use std::future::Future;
use std::rc::Rc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;

use super::Peer;

/// What answers requests.
pub trait Handler: 'static {
    /// Body of an answer.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin + 'static;

    /// Answers one request; never fails: a refusal is an answer too.
    fn handle(
        self: &Rc<Self>,
        peer: &Rc<Peer>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Self::Body>> + 'static;
}
