//! A stored answer: its `head`, its `content`, its `ageing`, and what it is found and purged by.
//!
//! `fill` makes entries, `store` holds them, a `hit` or a `reader` serves them. Everything is copied into
//! allocations of the exact size that carry their own reservation.
//! Invariant: an entry never changes; a `304` makes a new one that shares the body.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use http::header::{ETAG, LAST_MODIFIED};
use tokio::time::Instant;

use crate::range::Pieces;

use super::ageing::Ageing;
use super::budget::Reservation;
use super::content::HitBody;
use super::control::ResponseControl;
use super::freshness::Failure;
use super::head::Head;
use super::kept::Kept;
use super::portion::Parts;
use super::purge::{Generation, Generations, Standing};
use super::tags::Tags;
use super::targeted;
use super::vary::Vary;

/// A stored answer.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) head: Head,
    pub(super) body: HitBody,
    /// What there is of the body, when it is not whole: such an entry is found by `parts` alone.
    pub(super) parts: Option<Kept>,
    pub(super) age: Ageing,
    /// Its `Date`: of several answers that would do, the latest is served (RFC 9111 section 4.1).
    pub(super) dated: SystemTime,
    pub(super) vary: Vary,
    pub(super) generation: Generation,
    pub(super) tags: Tags,
    /// All bytes that this entry keeps, for ranking.
    pub(super) charge: usize,
    /// The head's fields as lines of HTTP/1.1, once somebody has asked for them. Without its length and
    /// what an answer overwrites. The head's reservation has room for them.
    pub(super) lines: OnceLock<Box<[u8]>>,
    /// The same fields as a part of a block of HTTP/2, in the same way.
    pub(super) block: OnceLock<Box<[u8]>>,
    /// Of what is not counted by the head's and the body's own bytes.
    pub(super) _reservation: Reservation,
}

impl Entry {
    /// What an entry takes beside its head, its body and its nominated fields.
    pub(super) const OVERHEAD: usize = 512;

    pub(super) fn lines(&self) -> &[u8] {
        self.lines.get_or_init(|| self.head.lines())
    }

    pub(super) fn block(&self, encode: impl FnOnce() -> Box<[u8]>) -> &[u8] {
        self.block.get_or_init(encode)
    }

    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        now < self.age.fresh_until
    }

    /// What purges have left of this answer, which is stored for `url`.
    pub(super) fn standing(&self, generations: &Generations, url: &[u8]) -> Standing {
        generations.standing(self.generation, url, self.tags.hashes())
    }

    /// Whether purges have left anything of it.
    pub(super) fn is_left(&self, generations: &Generations, url: &[u8]) -> bool {
        self.standing(generations, url) != Standing::Gone
    }

    /// What of the body is sent: these pieces, or all of it.
    pub(super) fn portion(self: &Arc<Self>, pieces: Option<Pieces>) -> HitBody {
        let Some(pieces) = pieces else {
            return self.body.clone();
        };
        if pieces.is_empty() {
            return HitBody::Empty;
        }
        let parts = match self.parts {
            Some(_) => Parts::of_kept(pieces, Arc::clone(self)),
            None => Parts::of_whole(pieces, self.body.clone()),
        };
        match parts.in_one() {
            Some(bytes) => HitBody::One(bytes),
            None => HitBody::Parts(Box::new(parts)),
        }
    }

    /// Whether the origin can be asked if the entry still holds.
    pub(super) fn has_validator(&self) -> bool {
        let said = self.head.validators();
        said.contains_key(ETAG) || said.contains_key(LAST_MODIFIED)
    }

    /// Whether it is served stale while it is fetched anew (RFC 5861 section 3). `grace` is what a
    /// beginning cache adds where the answer itself does not say how long.
    pub(super) fn may_serve_while_revalidating(&self, now: Instant, grace: Duration) -> bool {
        self.age.may_serve_while_revalidating(now)
            || self.is_in_grace(now, grace, |control| control.stale_while_revalidate)
    }

    /// Whether it is served stale because the origin failed, see `Ageing::may_serve_on`.
    pub(super) fn may_serve_on(
        &self,
        failure: Failure,
        now: Instant,
        asked: Option<Duration>,
        grace: Duration,
    ) -> bool {
        self.age.may_serve_on(failure, now, asked)
            || self.is_in_grace(now, grace, |control| control.stale_if_error)
    }

    fn is_in_grace(
        &self,
        now: Instant,
        grace: Duration,
        stated: fn(&ResponseControl) -> Option<Duration>,
    ) -> bool {
        // What the answer says is read again: that is rare, and needs no room in each entry.
        !grace.is_zero()
            && self.age.is_within(now, grace)
            && stated(&targeted::control(&self.head.said()).0).is_none()
    }
}
