//! What can be said to a client before the answer, and what its streams share.
//!
//! `exchange` gives each request a `Voice`; the handler may keep it for as long as it likes. Invariant: nothing is
//! said once the final head has begun, the stream was reset or the connection has ended.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, StatusCode};

use crate::http2::session::{Key, Session};
use crate::wire::Early;

use super::board::Board;

/// What the streams of a connection have in common with its task.
#[derive(Debug)]
pub(super) struct Line {
    /// Never borrowed while a handler or a body is polled: those come back here.
    pub(super) session: RefCell<Session>,
    pub(super) board: Arc<Board>,
}

impl Line {
    /// Wakes the task if there is something for it to do.
    pub(super) fn look(&self) {
        if self.session.borrow().has_work() {
            self.board.nudge();
        }
    }
}

/// Of one stream.
#[derive(Debug)]
pub(super) struct Voice {
    line: Rc<Line>,
    key: Cell<Key>,
}

impl Voice {
    pub(super) fn new(line: &Rc<Line>, key: Key) -> Self {
        Self {
            line: Rc::clone(line),
            key: Cell::new(key),
        }
    }

    /// For another stream; nobody of the last one may have it.
    pub(super) fn turn_to(&self, key: Key) {
        self.key.set(key);
    }

    /// `100 Continue`; too late after the answer's head, and then nobody waits for it.
    pub(super) fn carry_on(&self) {
        self.inform(StatusCode::CONTINUE, &HeaderMap::new());
    }

    fn inform(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let said = (self.line.session.borrow_mut()).inform(self.key.get(), status, headers);
        self.line.look();
        said
    }
}

impl Early for Voice {
    fn send(&self, status: StatusCode, headers: HeaderMap) -> bool {
        if !status.is_informational() || matches!(status.as_u16(), 100 | 101) {
            return false;
        }
        self.inform(status, &headers)
    }
}
