//! Which streams a client has opened and ended.
//!
//! `intake` judges frames for streams that are gone by it. Invariant: nothing is kept of a stream but two
//! bits, and of old ones not even those.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// Which streams were opened and ended by the client: the last 128, newest in the lowest bit.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The newest one, counted from 1.
    newest: u32,
    opened: u128,
    ended: u128,
}

/// What is known of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Not opened yet, or not the client's to open.
    Idle,
    Open,
    /// The client has ended it.
    Ended,
    /// Never opened, or too long ago.
    Unknown,
}

impl History {
    fn bit(&self, number: u32) -> Option<u128> {
        1_u128.checked_shl(self.newest.checked_sub(number)?)
    }

    pub(super) fn standing(&self, id: u32) -> Standing {
        let number = number(id);
        if number > self.newest || id.is_multiple_of(2) {
            return Standing::Idle;
        }
        match self.bit(number) {
            Some(bit) if self.ended & bit != 0 => Standing::Ended,
            Some(bit) if self.opened & bit != 0 => Standing::Open,
            _ => Standing::Unknown,
        }
    }

    pub(super) fn open(&mut self, id: u32) {
        let number = number(id);
        let by = number.saturating_sub(self.newest);
        self.opened = self.opened.checked_shl(by).unwrap_or(0) | 1;
        self.ended = self.ended.checked_shl(by).unwrap_or(0);
        self.newest = number;
    }

    pub(super) fn end(&mut self, id: u32) {
        if let Some(bit) = self.bit(number(id)) {
            self.ended |= bit;
        }
    }
}

/// 1 for the first stream that a client can open, 2 for the second.
fn number(id: u32) -> u32 {
    (id >> 1).saturating_add(1)
}
