//! What ends streams and connections among the frames that go out.
//!
//! `server::http2` counts with it, since h2 does not say what it sends by itself. Invariant: it looks at
//! frames as they were written, in whatever pieces.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::{HEAD, kind};

/// What a side sends, counted by code.
#[derive(Debug, Default)]
pub struct Tally {
    raw: [u8; HEAD + 8],
    have: usize,
    left: usize,
}

/// A frame that ends something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// RST_STREAM with this code.
    Stream(u32),
    /// GOAWAY with this code.
    Connection(u32),
}

impl Tally {
    /// Takes the next bytes that go out, all of them frames; `on` is told of each that ends something.
    pub fn take(&mut self, mut bytes: &[u8], mut on: impl FnMut(Ending)) {
        loop {
            let skipped = self.left.min(bytes.len());
            self.left = self.left.saturating_sub(skipped);
            bytes = bytes.get(skipped..).unwrap_or_default();
            if bytes.is_empty() {
                return;
            }
            let wanted = self.wanted();
            let free = self.raw.get_mut(self.have..wanted).unwrap_or_default();
            let count = free.len().min(bytes.len());
            let (now, rest) = bytes.split_at(count);
            for (to, from) in free.iter_mut().zip(now) {
                *to = *from;
            }
            bytes = rest;
            self.have = self.have.saturating_add(count);
            // A head that is whole may want some of its payload too.
            if self.have == self.wanted() {
                self.judge(&mut on);
            }
        }
    }

    /// How many bytes are to be gathered: a head, or a head and the code behind it.
    fn wanted(&self) -> usize {
        let [_, _, _, kind, ..] = self.raw;
        match kind {
            kind::RST_STREAM if self.have >= HEAD => HEAD.saturating_add(4),
            kind::GOAWAY if self.have >= HEAD => HEAD.saturating_add(8),
            _ => HEAD,
        }
    }

    fn judge(&mut self, on: &mut impl FnMut(Ending)) {
        let [a, b, c, kind, _, _, _, _, _, p, q, r, s, w, x, y, z] = self.raw;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let taken = self.have.saturating_sub(HEAD);
        match kind {
            kind::RST_STREAM => on(Ending::Stream(u32::from_be_bytes([p, q, r, s]))),
            kind::GOAWAY => on(Ending::Connection(u32::from_be_bytes([w, x, y, z]))),
            _ => {}
        }
        self.left = length.saturating_sub(taken);
        self.have = 0;
    }
}
