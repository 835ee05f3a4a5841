//! Informational answers on their way to the client.
//!
//! `http1` and `http2` hand over each `1xx` but `101`; `proxy::forward` passes the way to the client in.
//! Invariant: only `103` goes on (RFC 8297), since the others speak of the endpoint's hop; what cannot
//! be told is counted, and an endpoint cannot inform for ever.

use http::{HeaderMap, StatusCode};

use crate::metrics::{ProxyError as Reason, Upstream};

/// Takes an informational answer to the client; says whether it will get there.
pub type Early<'a> = Option<&'a dyn Fn(StatusCode, HeaderMap) -> bool>;

/// Most informational answers before a final one.
const MOST: u32 = 16;

/// The informational answers of one exchange.
pub(super) struct Informed<'a> {
    early: Early<'a>,
    metrics: &'a Upstream,
    worker: usize,
    count: u32,
}

impl<'a> Informed<'a> {
    pub(super) fn new(early: Early<'a>, metrics: &'a Upstream, worker: usize) -> Self {
        Self {
            early,
            metrics,
            worker,
            count: 0,
        }
    }

    /// One more has come.
    ///
    /// # Errors
    /// When there were too many.
    pub(super) fn take(&mut self, status: StatusCode, headers: HeaderMap) -> Result<(), Reason> {
        self.count += 1;
        if self.count > MOST {
            return Err(Reason::HttpProtocolError);
        }
        let told = status == StatusCode::EARLY_HINTS
            && self.early.is_some_and(|early| early(status, headers));
        if !told && status != StatusCode::CONTINUE {
            self.metrics.worker(self.worker).informational_dropped();
        }
        Ok(())
    }
}
