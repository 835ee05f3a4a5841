//! What follows a request's head: DATA and trailers of its stream.
//!
//! Window is given back as pieces are taken, so a client is held back by whoever reads its body. The
//! first look at a body that waits for it sends `100 Continue`. Invariant: a stream that was reset, by whomever,
//! ends in a fault.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::body::BodyFault;
use crate::http2::session::{Key, Piece};

use super::voice::{Line, Voice};

/// The body of one request.
#[derive(Debug)]
pub(super) struct Incoming {
    line: Rc<Line>,
    key: Key,
    /// Says `100 Continue`, once.
    waits: Option<Rc<Voice>>,
    over: bool,
}

impl Incoming {
    /// Reads what comes on a stream; a client that waits is told to go on by `waits`.
    pub(super) fn new(line: &Rc<Line>, key: Key, waits: Option<Rc<Voice>>) -> Self {
        Self {
            line: Rc::clone(line),
            key,
            waits,
            over: false,
        }
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let this = self.get_mut();
        if this.over {
            return Poll::Ready(None);
        }
        if let Some(voice) = this.waits.take() {
            voice.carry_on();
        }
        let piece = this.line.session.borrow_mut().read(this.key, cx);
        let piece = ready!(piece);
        this.over = !matches!(piece, Piece::Data(_));
        // The client may be owed window.
        this.line.look();
        Poll::Ready(match piece {
            Piece::Data(data) => Some(Ok(Frame::data(data))),
            Piece::Trailers(trailers) => Some(Ok(Frame::trailers(trailers))),
            Piece::End => None,
            Piece::Gone => Some(Err(BodyFault::Incomplete)),
        })
    }

    fn is_end_stream(&self) -> bool {
        let session = self.line.session.borrow();
        self.over || (session.is_open(self.key) && session.is_read(self.key))
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.line.session.borrow().left(self.key);
        left.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.line.session.borrow_mut().forget(self.key);
        self.line.look();
    }
}
