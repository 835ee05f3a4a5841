//! A request body that waits to be wanted (`Expect: 100-continue`, RFC 9110 section 10.1.1).
//!
//! `http1` and `http2` hold the body of such a request back until the endpoint says `100`, answers
//! finally, or a second has passed: an endpoint that does not know the expectation would wait for ever.
//! Invariant: a client is not told to send before an endpoint wants it, since nobody asks for its body.

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::net::deadline::{Deadlines, Timer};

use super::request_body::RequestBody;

/// How long an endpoint that says nothing is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// A body that is held back.
#[derive(Debug)]
pub(super) struct Hold(Timer);

impl Hold {
    /// For a request that has an `Expect` or has none; none if its body need not wait.
    pub(super) fn of(expects: bool, body: &RequestBody, deadlines: &Rc<Deadlines>) -> Option<Self> {
        if !expects || !matches!(body, RequestBody::Stream(_)) {
            return None;
        }
        let timer = deadlines.timer();
        timer.arm(PATIENCE);
        Some(Self(timer))
    }

    /// Ready when it has been long enough.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        self.0.poll(cx)
    }
}
