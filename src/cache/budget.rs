//! The hard bound on the cache's bytes.
//!
//! `store`'s eviction is asynchronous and only ranks; this bounds. What is stored, what is being
//! filled and what is still being read after its eviction all hold a `Reservation`, which travels
//! inside the bytes themselves (`counted`) and is given back with the last reference to them.
//! Invariant: the sum of the reservations never exceeds the limit, and nothing is given back before
//! its memory is free.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// Bytes in use and their limit.
#[derive(Debug)]
pub(super) struct Budget {
    used: AtomicUsize,
    limit: usize,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicUsize::new(0),
            limit,
        })
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Takes `bytes`, or nothing when they do not fit.
    pub(super) fn reserve(self: &Arc<Self>, bytes: usize) -> Option<Reservation> {
        self.used
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= self.limit)
            })
            .ok()?;
        Some(Reservation {
            budget: Arc::clone(self),
            bytes,
        })
    }
}

/// Bytes taken from a budget; given back on drop.
#[derive(Debug)]
pub(super) struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Reservation {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Parts `bytes` off, as far as there are that many.
    pub(super) fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self {
            budget: Arc::clone(&self.budget),
            bytes,
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// What one counted allocation costs beyond its own bytes: its two headers, its handle in a list
/// and the allocator's rounding.
pub(super) const ALLOCATION_OVERHEAD: usize = 128;

/// The same bytes, not copied, which give `reservation` back when their last reference is gone.
pub(super) fn held(bytes: Bytes, reservation: Reservation) -> Bytes {
    struct Held {
        bytes: Bytes,
        _reservation: Reservation,
    }
    impl AsRef<[u8]> for Held {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }
    Bytes::from_owner(Held {
        bytes,
        _reservation: reservation,
    })
}

/// A copy of `parts`, joined in one allocation of the exact size, that gives `reservation` back
/// when its last reference is gone. A slice of a read buffer would pin the whole of it.
pub(super) fn counted(parts: &[&[u8]], reservation: Reservation) -> Bytes {
    struct Counted {
        data: Box<[u8]>,
        _reservation: Reservation,
    }
    impl AsRef<[u8]> for Counted {
        fn as_ref(&self) -> &[u8] {
            &self.data
        }
    }
    Bytes::from_owner(Counted {
        data: parts.concat().into(),
        _reservation: reservation,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_and_takes_nothing() {
        let budget = Budget::new(100);
        let held = budget.reserve(60).unwrap();
        assert!(budget.reserve(41).is_none());
        assert!(budget.reserve(usize::MAX).is_none());
        assert_eq!(budget.used(), 60);
        drop(held);
        assert!(budget.reserve(100).is_some());
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn parts_of_a_reservation_are_given_back_one_by_one() {
        let budget = Budget::new(100);
        let mut whole = budget.reserve(50).unwrap();
        let part = whole.split(20);
        assert_eq!((whole.bytes(), part.bytes()), (30, 20));
        assert_eq!(whole.split(99).bytes(), 30);
        assert_eq!(budget.used(), 20);
        drop(part);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn counted_bytes_are_counted_until_the_last_reader_lets_go() {
        let budget = Budget::new(100);
        let bytes = counted(&[b"ab", b"cd"], budget.reserve(10).unwrap());
        let reader = bytes.slice(1..2);
        drop(bytes);
        assert_eq!((&*reader, budget.used()), (&b"b"[..], 10));
        drop(reader);
        assert_eq!(budget.used(), 0);
    }
}
