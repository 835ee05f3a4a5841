//! The end of a connection for which there is no room.
//!
//! Over plain HTTP its client is told with a short answer; a TLS handshake would cost more than the
//! connection itself, so there it is only closed. Invariant: connections that are turned away are few
//! at a time and live for a moment only, so that they do not take the room that there is none of.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use crate::net::deadline::{Deadlines, Timer};
use crate::net::socket::Socket;

use super::admission::Full;
use super::linger::Linger;

/// How long, and for how many bytes, one is listened to after its answer, see `linger`.
const PATIENCE: Duration = Duration::from_millis(500);
const PATIENCE_BYTES: usize = 64 * 1024;
/// From one line in the log to the next, for each worker.
const LOG_EVERY: Duration = Duration::from_secs(10);

const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\
    cache-control: no-store\r\nretry-after: 1\r\ncontent-type: text/plain; charset=utf-8\r\n\
    content-length: 33\r\n\r\nThere are too many connections.\r\n";
const ADDRESS_FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\
    cache-control: no-store\r\nretry-after: 1\r\ncontent-type: text/plain; charset=utf-8\r\n\
    content-length: 51\r\n\r\nThere are too many connections from your address.\r\n";

/// The connections of a worker that are being turned away.
#[derive(Debug)]
pub struct TurnedAway {
    /// How many may be talked to at a time; the others are closed without a word.
    most: usize,
    talking: Cell<usize>,
    /// Those since the log was last told.
    silent: Cell<u64>,
    /// The tick from which on the log may be told again.
    quiet_until: Cell<u64>,
}

impl TurnedAway {
    /// Nobody yet; so many may be talked to at a time, who take descriptors from nobody.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            most,
            talking: Cell::new(0),
            silent: Cell::new(0),
            quiet_until: Cell::new(0),
        }
    }

    /// Room to talk to one more.
    pub(super) fn talk(self: &Rc<Self>) -> Option<Talk> {
        if self.talking.get() >= self.most {
            return None;
        }
        self.talking.set(self.talking.get() + 1);
        Some(Talk(Rc::clone(self)))
    }

    /// Counts one and tells the log, at most once in `LOG_EVERY`.
    pub(super) fn note(&self, full: Full, deadlines: &Deadlines) {
        self.silent.set(self.silent.get() + 1);
        if deadlines.now() < self.quiet_until.get() {
            return;
        }
        self.quiet_until.set(deadlines.at(LOG_EVERY));
        let connections = self.silent.take();
        let limit = match full {
            Full::Total => "limits.connections",
            Full::Address => "limits.connections_per_address",
        };
        tracing::warn!(limit, connections, "client connections are turned away");
    }
}

/// One that is talked to.
pub(super) struct Talk(Rc<TurnedAway>);

impl Drop for Talk {
    fn drop(&mut self) {
        self.0.talking.set(self.0.talking.get() - 1);
    }
}

impl Talk {
    /// Says which limit has been reached, and closes.
    pub(super) async fn say(self, full: Full, mut socket: Socket, timer: Timer) {
        timer.arm(PATIENCE);
        let words = match full {
            Full::Total => FULL,
            Full::Address => ADDRESS_FULL,
        };
        // What is written first is always taken, and what fails now concerns nobody.
        if socket.write_all(words).await.is_err() || socket.shutdown().await.is_err() {
            return;
        }
        let mut lingering = Linger::new(PATIENCE_BYTES);
        poll_fn(|cx| match lingering.poll(cx, &mut socket) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => timer.poll(cx),
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_state_their_lengths() {
        for words in [FULL, ADDRESS_FULL] {
            let text = std::str::from_utf8(words).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let length = format!("content-length: {}", body.len());
            assert!(head.contains(&length), "{text}");
        }
    }

    #[test]
    fn only_so_many_are_talked_to_at_a_time() {
        let turned_away = Rc::new(TurnedAway::new(8));
        let mut talks: Vec<Talk> = (0..8).map(|_| turned_away.talk().unwrap()).collect();
        assert!(turned_away.talk().is_none());
        talks.pop();
        assert!(turned_away.talk().is_some());
    }
}
