//! Informational answers on their way to an HTTP/1.1 client.
//!
//! The handler has a `wire::Early` for as long as it likes; `exchange` takes what was sent by it and
//! closes it when the final head begins. Invariant: nothing gets in between after that, also not
//! into the answer to the next request.

use std::cell::{Cell, RefCell};
use std::task::{Context, Waker};

use http::{HeaderMap, StatusCode};

use crate::http1;
use crate::wire::Early;

/// Most bytes of informational answers that wait to be written.
const MOST: usize = 16 * 1024;

/// Of one request.
#[derive(Debug, Default)]
pub(super) struct Hints {
    closed: Cell<bool>,
    heads: RefCell<Vec<u8>>,
    /// The connection's task.
    waker: RefCell<Option<Waker>>,
}

impl Hints {
    /// Appends what was sent to `out`.
    pub(super) fn take(&self, cx: &Context<'_>, out: &mut Vec<u8>) {
        let mut heads = self.heads.borrow_mut();
        if !heads.is_empty() {
            out.append(&mut heads);
        }
        let mut waker = self.waker.borrow_mut();
        if !waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            *waker = Some(cx.waker().clone());
        }
    }

    /// Appends what was sent to `out`, and takes no more.
    pub(super) fn close(&self, out: &mut Vec<u8>) {
        self.closed.set(true);
        out.append(&mut self.heads.borrow_mut());
    }

    /// For another request, if nobody of the last one has it.
    pub(super) fn reopen(&self) {
        self.closed.set(false);
    }
}

impl Early for Hints {
    fn send(&self, status: StatusCode, headers: HeaderMap) -> bool {
        let fits = status.is_informational()
            && status != StatusCode::CONTINUE
            && status != StatusCode::SWITCHING_PROTOCOLS;
        let mut heads = self.heads.borrow_mut();
        if self.closed.get() || !fits || heads.len() > MOST {
            return false;
        }
        http1::encode_informational(&mut heads, status, &headers);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
        true
    }
}
