//! A tunnel in a stream (RFC 8441).
//!
//! Opened by a `2xx` to an extended CONNECT. The client's side polls it for what the endpoint sends; what
//! the client sends moves in the task of the tunnel (`upstream::tunnels`), which may outlive this. Invariant:
//! the stream holds its seat until both directions have let go of it.

use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http_body::Frame;

use crate::metrics::TunnelEnd;

use super::super::exchange::AnswerError;
use super::super::tunnels::{Life, Receiving};
use super::exchange::Upload;
use super::flow::Begun;
use super::peers::Seat;
use super::pump::Broken;

/// What the endpoint sends through an open tunnel.
#[derive(Debug)]
pub(in super::super) struct Tunnel {
    /// None when it is over.
    incoming: Option<(RecvStream, Rc<Seat>)>,
    receiving: Receiving,
}

impl Tunnel {
    pub(super) fn open(life: Rc<Life>, begun: Begun) -> Self {
        let Begun {
            seat,
            incoming,
            mut upload,
            timer: _,
            length: _,
        } = begun;
        let seat = Rc::new(seat);
        upload.let_go();
        let receiving = life.receiving();
        let mut outgoing = (upload, Rc::clone(&seat));
        tokio::task::spawn_local(life.keep(move |cx, life| send(&mut outgoing.0, cx, life)));
        Self {
            incoming: Some((incoming, seat)),
            receiving,
        }
    }

    /// It ends here: its endpoint is not to be used any more.
    pub(super) fn remove(&mut self) {
        self.receiving.end(TunnelEnd::Removed);
        self.incoming = None;
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let result = ready!(self.receive(cx));
        if !matches!(result, Some(Ok(_))) {
            self.incoming = None;
        }
        Poll::Ready(result.map(|received| received.map(Frame::data)))
    }

    fn receive(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, AnswerError>>> {
        let Some((incoming, _)) = &mut self.incoming else {
            return Poll::Ready(None);
        };
        if self.receiving.over().is_some() {
            return Poll::Ready(self.receiving.last_word());
        }
        match incoming.poll_data(cx) {
            Poll::Ready(Some(Ok(data))) => {
                self.receiving.moved();
                // A window that cannot be opened again belongs to a stream that is over.
                let _over = incoming.flow_control().release_capacity(data.len());
                Poll::Ready(Some(Ok(data)))
            }
            Poll::Ready(None) => {
                self.receiving.endpoint_ended();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(_))) => {
                self.receiving.end(TunnelEnd::Error);
                Poll::Ready(self.receiving.last_word())
            }
            Poll::Pending => {
                let over = self.receiving.poll_over(cx);
                over.map(|_end| self.receiving.last_word())
            }
        }
    }
}

/// Ready when the client's side is over and the endpoint was told, or takes no more: what it has sent
/// before that is still to be read, and tells how the tunnel ends.
fn send(upload: &mut Upload, cx: &mut Context<'_>, life: &Life) -> Poll<Result<(), TunnelEnd>> {
    let polled = upload.poll(cx);
    if upload.has_moved() {
        life.moved();
    }
    match ready!(polled) {
        Ok(()) | Err(Broken::Peer(_)) => Poll::Ready(Ok(())),
        Err(Broken::Body(())) => Poll::Ready(Err(TunnelEnd::Client)),
    }
}
