//! What a connection has to write.
//!
//! `session` frames into it, its owner writes it to the socket. Large content is not copied: it lies between the
//! frames before it and those after it. Invariant: bytes leave in the order in which they were framed.

use std::io;

use bytes::{Buf as _, Bytes};

use super::super::frame::Head;

/// Frames that are gathered before they are written: two records of TLS in one system call, which measured better
/// than one or three.
pub(super) const GATHERED: usize = 32 * 1024;
/// Content from this size on is not copied.
const LARGE: usize = 8 * 1024;

/// Bytes on their way out.
#[derive(Debug, Default)]
pub struct Outlet {
    front: Vec<u8>,
    /// How many of those are written.
    written: usize,
    content: Bytes,
    back: Vec<u8>,
}

impl Outlet {
    /// Whether nothing is to be written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.front.is_empty() && self.content.is_empty()
    }

    /// Bytes that are to be written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.front.len() - self.written + self.content.len() + self.back.len()
    }

    /// Bytes that can be framed before the rest is better written first.
    pub(super) fn room(&self) -> usize {
        if self.content.is_empty() {
            GATHERED.saturating_sub(self.front.len() - self.written)
        } else {
            0
        }
    }

    /// What is to be written, in pieces; the last ones are empty where there is no large content.
    #[must_use]
    pub fn slices(&self) -> [io::IoSlice<'_>; 3] {
        let front = self.front.get(self.written..).unwrap_or_default();
        [front, &self.content, &self.back].map(io::IoSlice::new)
    }

    /// `count` bytes of that were written.
    pub fn advance(&mut self, count: usize) {
        let front = count.min(self.front.len() - self.written);
        self.written += front;
        let content = (count - front).min(self.content.len());
        self.content.advance(content);
        if self.written < self.front.len() || !self.content.is_empty() {
            return;
        }
        // What came after the content comes first now; the content's memory goes.
        self.content = Bytes::new();
        self.front.clear();
        std::mem::swap(&mut self.front, &mut self.back);
        self.written = count - front - content;
        if self.written == self.front.len() {
            self.front.clear();
            self.written = 0;
        }
    }

    /// Gives back what an idle connection does not need.
    pub(super) fn rest(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }

    /// Where the next frames go.
    pub(super) fn frames(&mut self) -> &mut Vec<u8> {
        if self.content.is_empty() {
            &mut self.front
        } else {
            &mut self.back
        }
    }

    pub(super) fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let head = Head {
            length: payload.len(),
            kind,
            flags,
            stream,
        };
        let out = self.frames();
        out.extend_from_slice(&head.bytes());
        out.extend_from_slice(payload);
    }

    /// A frame whose payload is part of somebody's content.
    pub(super) fn content(&mut self, kind: u8, flags: u8, stream: u32, content: Bytes) {
        if content.len() < LARGE || !self.content.is_empty() {
            self.frame(kind, flags, stream, &content);
            return;
        }
        let head = Head {
            length: content.len(),
            kind,
            flags,
            stream,
        };
        self.front.extend_from_slice(&head.bytes());
        self.content = content;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(out: &mut Outlet, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while !out.is_empty() {
            let mut left = step;
            let before = out.len();
            for slice in out.slices() {
                let count = left.min(slice.len());
                all.extend_from_slice(&slice[..count]);
                left -= count;
            }
            out.advance(step - left);
            assert_eq!(out.len(), before - (step - left));
        }
        all
    }

    #[test]
    fn frames_and_content_leave_in_their_order_however_they_are_written() {
        let large = Bytes::from(vec![b'x'; LARGE + 1]);
        let mut wanted = None;
        for step in [1, 3, 9, 1000, LARGE, 1 << 20] {
            let mut out = Outlet::default();
            out.frame(1, 2, 3, b"first");
            out.content(0, 0, 5, Bytes::from_static(b"small"));
            out.content(0, 0, 7, large.clone());
            assert_eq!(out.room(), 0);
            out.frame(6, 0, 0, b"behind");
            out.content(0, 1, 7, large.clone());
            let all = drain(&mut out, step);
            assert_eq!(all.len(), 5 * 9 + 5 + 5 + 6 + 2 * large.len());
            assert_eq!(*wanted.get_or_insert_with(|| all.clone()), all, "{step}");
            out.rest();
            assert_eq!(out.room(), GATHERED);
        }
    }
}
