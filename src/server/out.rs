//! What a connection has to write, in pieces that leave together.
//!
//! `connection` fills it, `guard` writes it. Invariant: the pieces leave in their order, and content is
//! let go of as soon as it is written.

use std::io;

use bytes::{Buf as _, Bytes};

/// What is to be written: a few bytes of framing, a piece of content, framing again. The content is
/// never copied here.
#[derive(Debug, Default)]
pub(super) struct Out {
    /// Heads, and what comes before the content.
    pub(super) front: Vec<u8>,
    sent: usize,
    /// Content.
    pub(super) content: Bytes,
    /// What comes after it.
    pub(super) back: Vec<u8>,
    sent_back: usize,
}

impl Out {
    pub(super) fn is_empty(&self) -> bool {
        self.front.is_empty() && self.content.is_empty() && self.back.is_empty()
    }

    /// The bytes that are left.
    pub(super) fn slices(&self) -> [io::IoSlice<'_>; 3] {
        let front = self.front.get(self.sent..).unwrap_or_default();
        let back = self.back.get(self.sent_back..).unwrap_or_default();
        [front, &self.content, back].map(io::IoSlice::new)
    }

    fn left(&self) -> usize {
        (self.front.len() - self.sent) + self.content.len() + (self.back.len() - self.sent_back)
    }

    /// `count` bytes more were written.
    pub(super) fn advance(&mut self, count: usize) {
        if count == self.left() {
            self.front.clear();
            self.content = Bytes::new();
            self.back.clear();
            (self.sent, self.sent_back) = (0, 0);
            return;
        }
        let here = count.min(self.front.len() - self.sent);
        self.sent += here;
        if self.sent == self.front.len() {
            self.front.clear();
            self.sent = 0;
        }
        let content = (count - here).min(self.content.len());
        self.content.advance(content);
        if self.content.is_empty() {
            // Lets go of the memory, too.
            self.content = Bytes::new();
        }
        self.sent_back += count - here - content;
        if self.sent_back == self.back.len() {
            self.back.clear();
            self.sent_back = 0;
        }
    }
}
