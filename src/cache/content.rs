//! The body of a stored answer, in pieces that carry their own reservations.
//!
//! `fill` makes it, `portion` and `reader` cut from it what is sent. Invariant: what is still being read
//! counts after the entry is gone.

use std::sync::Arc;

use bytes::Bytes;

use super::budget::ALLOCATION_OVERHEAD;
use super::portion::{Cursor, Parts, cut};

/// The body of a stored answer.
#[derive(Debug, Clone, Default)]
pub enum HitBody {
    /// None: an empty body, or the answer to `HEAD` or to a condition that held.
    #[default]
    Empty,
    /// In one piece.
    One(Bytes),
    /// In pieces of at most some hundred kilobytes.
    Segments(Arc<[Bytes]>),
    /// What a request with `Range` asked for; never stored.
    Parts(Box<Parts>),
}

impl HitBody {
    /// Total length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::One(bytes) => bytes.len() as u64,
            Self::Segments(list) => list.iter().map(|bytes| bytes.len() as u64).sum(),
            Self::Parts(parts) => parts.left(),
        }
    }

    /// The bytes, piece by piece.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let list = match self {
            // Parts are made for one answer, and never stored.
            Self::Empty | Self::Parts(_) => &[],
            Self::One(bytes) => std::slice::from_ref(bytes),
            Self::Segments(list) => &**list,
        };
        list.iter().map(|bytes| &**bytes)
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// Up to `most` bytes of what follows the first `at`, as far as they lie in one segment.
    pub(super) fn after(&self, at: u64, most: u64, cursor: &mut Cursor) -> Option<Bytes> {
        let list = match self {
            Self::Empty | Self::Parts(_) => return None,
            Self::One(bytes) => return cut(bytes, at, most),
            Self::Segments(list) => list,
        };
        if at < cursor.start {
            *cursor = Cursor::default();
        }
        loop {
            let segment = list.get(cursor.index)?;
            if let Some(found) = cut(segment, at - cursor.start, most) {
                return Some(found);
            }
            cursor.index += 1;
            cursor.start += segment.len() as u64;
        }
    }

    /// Bytes and overhead kept.
    pub(super) fn charge(&self) -> usize {
        match self {
            Self::Empty | Self::Parts(_) => 0,
            Self::One(bytes) => bytes.len() + ALLOCATION_OVERHEAD,
            Self::Segments(list) => list
                .iter()
                .map(|bytes| bytes.len() + ALLOCATION_OVERHEAD)
                .sum(),
        }
    }
}

impl FromIterator<Bytes> for HitBody {
    fn from_iter<T: IntoIterator<Item = Bytes>>(segments: T) -> Self {
        let mut list: Vec<Bytes> = segments
            .into_iter()
            .filter(|bytes| !bytes.is_empty())
            .collect();
        match list.len() {
            0 => Self::Empty,
            1 => list.pop().map_or(Self::Empty, Self::One),
            _ => Self::Segments(list.into()),
        }
    }
}
