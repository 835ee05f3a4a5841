//! Where the heads of one connection are kept.
//!
//! `request` and `response` copy each head into it, and names, values and the target are slices of the
//! copy. Mostly nobody holds the head before when the next one comes: then its memory is used again.
//! Invariant: what was handed out never changes; a head that somebody still holds keeps its memory.

use bytes::{Bytes, BytesMut};

/// Larger heads get memory of their own, so that a connection does not go on holding it.
const KEPT: usize = 4 * 1024;

/// Memory for one head at a time.
#[derive(Debug, Default)]
pub(super) struct Memory(BytesMut);

impl Memory {
    /// A copy of `head`.
    pub(super) fn copy(&mut self, head: &[u8]) -> Bytes {
        if head.len() > KEPT {
            return Bytes::copy_from_slice(head);
        }
        self.0.extend_from_slice(head);
        self.0.split().freeze()
    }

    /// Lets go of what is held for the next head.
    pub(super) fn reset(&mut self) {
        self.0 = BytesMut::new();
    }
}
