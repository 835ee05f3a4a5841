//! A stored answer, and how it becomes the answer to a request.
//!
//! `fill` makes entries, `store` holds them, a `Hit` or a `reader` serves them. Everything is
//! copied into allocations of the exact size that carry their own reservation, so what is still
//! being read counts after the entry is gone. The stored head already has a place for each field
//! that an answer overwrites: cloning it and setting them neither grows nor rehashes the map.
//! Invariant: an entry never changes; a `304` makes a new one that shares the body.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{
    AGE, CACHE_CONTROL, CACHE_STATUS, CONNECTION, CONTENT_LENGTH, CONTENT_LOCATION, DATE, ETAG,
    EXPIRES, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED, VARY,
};
use http::{Method, StatusCode};
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::range::Pieces;
use crate::wire::fields::{EachField, FieldBlock, is_hop_by_hop, members};

use super::budget::{ALLOCATION_OVERHEAD, Reservation, counted};
use super::conditional;
use super::control::{MaxStale, ResponseControl};
use super::form::{self, Coded, Decoding, Form};
use super::freshness::{Failure, Freshness};
use super::kept::Kept;
use super::portion::{Cursor, Parts, Portion, cut};
use super::purge::{Generation, Generations, Standing};
use super::status::{HIT, Verdict, stamp};
use super::tags::{CACHE_TAG, SURROGATE_KEY, Tags};
use super::targeted::{self, HEADGATE_CACHE_CONTROL, SURROGATE_CONTROL};
use super::vary::Vary;

/// Set by `proxy` on every answer; an entry keeps a place for it.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

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
    /// The same fields as a part of a block of HTTP/2, once somebody has asked for them; none if there was no
    /// room.
    pub(super) block: OnceLock<Option<(Box<[u8]>, Reservation)>>,
    /// Of what is not counted by the head's and the body's own bytes.
    pub(super) reservation: Reservation,
}

impl Entry {
    /// What an entry takes beside its head, its body and its nominated fields.
    pub(super) const OVERHEAD: usize = 512;

    fn lines(&self) -> &[u8] {
        self.lines.get_or_init(|| self.head.lines())
    }

    fn block(&self, encode: impl FnOnce() -> Box<[u8]>) -> Option<&[u8]> {
        let make = || {
            let block = encode();
            let room = self.reservation.another(block.len())?;
            Some((block, room))
        };
        let (block, _room) = self.block.get_or_init(make).as_ref()?;
        Some(block)
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

/// How long a cache serves what it has while the origin cannot be reached and nobody said how long.
const DISCONNECTED: Duration = Duration::from_secs(24 * 60 * 60);

/// How old an answer is, and how old it may become.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ageing {
    received: Instant,
    freshness: Freshness,
    fresh_until: Instant,
}

impl Ageing {
    pub(super) fn new(received: Instant, freshness: Freshness) -> Self {
        // A lifetime that the clock cannot hold is cut to a year.
        let usable = freshness.usable_for();
        let year = received + Duration::from_secs(31_536_000);
        let fresh_until = received.checked_add(usable).unwrap_or(year);
        Self {
            received,
            freshness,
            fresh_until,
        }
    }

    /// When the answer was received.
    pub(super) fn received(&self) -> Instant {
        self.received
    }

    pub(super) fn freshness(&self) -> Freshness {
        self.freshness
    }

    /// `current_age` of RFC 9111 section 4.2.3.
    pub(super) fn current(&self, now: Instant) -> Duration {
        self.freshness.initial_age + now.saturating_duration_since(self.received)
    }

    /// Freshness left.
    pub(super) fn left(&self, now: Instant) -> Duration {
        self.fresh_until.saturating_duration_since(now)
    }

    /// Freshness left in seconds; below zero, for how long it has been stale.
    pub(super) fn ttl(&self, now: Instant) -> i64 {
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        match self.staleness(now) {
            Duration::ZERO => seconds(self.left(now)),
            stale => seconds(stale).saturating_neg(),
        }
    }

    /// For how long the answer has been stale.
    fn staleness(&self, now: Instant) -> Duration {
        self.current(now).saturating_sub(self.freshness.lifetime)
    }

    /// Whether anything forbids to serve it stale (RFC 9111 section 4.2.4).
    fn may_be_stale(&self) -> bool {
        !self.freshness.never_stale && !self.freshness.always_validated
    }

    /// Whether a request that takes stale answers may have it (section 5.2.1.2).
    pub(super) fn is_tolerated(&self, now: Instant, tolerance: MaxStale) -> bool {
        self.may_be_stale()
            && match tolerance {
                MaxStale::Any => true,
                MaxStale::Of(most) => self.staleness(now) <= most,
            }
    }

    /// Whether it may be served while it is fetched anew (RFC 5861 section 3).
    fn may_serve_while_revalidating(&self, now: Instant) -> bool {
        self.is_within(now, self.freshness.stale_while_revalidate)
    }

    /// Whether it may be stale, and is not yet for so long.
    fn is_within(&self, now: Instant, window: Duration) -> bool {
        self.may_be_stale() && self.staleness(now) < window
    }

    /// Whether it may be served because the origin failed (RFC 5861 section 4). A cache that cannot reach
    /// it may even when nobody has said so (RFC 9111 section 4.2.4).
    fn may_serve_on(&self, failure: Failure, now: Instant, asked: Option<Duration>) -> bool {
        let unsaid = match failure {
            Failure::Unreachable => DISCONNECTED,
            Failure::Failed => Duration::ZERO,
        };
        let stated = self.freshness.stale_if_error.into_iter().chain(asked).max();
        self.is_within(now, stated.unwrap_or(unsaid))
    }

    /// Whether a reload need not ask (RFC 8246).
    pub(super) fn is_immutable(&self) -> bool {
        self.freshness.immutable
    }

    /// Whether requests of any user may have it (RFC 9111 section 3.5).
    pub(super) fn is_for_all(&self) -> bool {
        self.freshness.is_for_all
    }

    /// Whether others than the one who fetched it may have it.
    pub(super) fn is_reusable(&self) -> bool {
        self.freshness.is_reusable()
    }

    /// Whether the answer came from a cache further in.
    pub(super) fn began_old(&self) -> bool {
        self.freshness.initial_age >= Duration::from_secs(1)
    }
}

/// Status and fields of an answer, without what concerned only the connection it came on.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// What the answer says to this cache alone: kept for when it is validated, never sent on.
    pub(super) for_us: Box<[(HeaderName, HeaderValue)]>,
    /// `Cache-Status` of the caches further in.
    pub(super) inner: Option<HeaderValue>,
    /// The coding of the stored bytes, where clients are told apart by whether they take it.
    pub(super) coded: Option<Coded>,
    /// With it, what the origin has said in fields that say something else here.
    pub(super) said: Option<Box<HeaderMap>>,
}

impl Head {
    /// Bytes that a copy of these fields takes, with the places that are added and as lines.
    pub(super) fn charge(headers: &HeaderMap, coded: Option<Coded>) -> usize {
        let one = |(name, value): (&HeaderName, &HeaderValue)| {
            2 * (name.as_str().len() + value.len()) + 116
        };
        let fields: usize = headers.iter().map(one).sum();
        let said = coded.map_or(0, |_| {
            let said = headers
                .iter()
                .filter(|(name, _)| form::is_kept_as_said(name));
            // And what is marked: a coding, a `Vary`, the letters that weaken a tag.
            said.map(one).sum::<usize>() + 3 * 128 + ALLOCATION_OVERHEAD
        });
        fields + said + 5 * 128 + 2 * ALLOCATION_OVERHEAD
    }

    /// Copies a head, as it is for bytes that are `coded`, without the fields that are `hidden`.
    /// `reservation` is its `charge`.
    pub(super) fn copy(
        status: StatusCode,
        headers: &HeaderMap,
        hidden: &[HeaderName],
        coded: Option<Coded>,
        wall: SystemTime,
        reservation: Reservation,
    ) -> Self {
        let is_kept =
            |name: &HeaderName| !is_per_connection(headers, name) && !hidden.contains(name);
        let shown = coded.map(|coded| coded.shown(headers));
        let kept = || {
            let shown = shown.as_ref().unwrap_or(headers);
            shown.iter().filter(|(name, _)| is_kept(name))
        };
        let as_said = || {
            let said = headers.iter().filter(|_| coded.is_some());
            said.filter(|(name, _)| is_kept(name) && form::is_kept_as_said(name))
        };
        let all = kept().chain(as_said());
        let parts: Vec<&[u8]> = all.map(|(_, value)| value.as_bytes()).collect();
        let mut values = counted(&parts, reservation);
        let mut copy = HeaderMap::with_capacity(parts.len() + 5);
        let mut for_us = Vec::new();
        for (name, value) in kept() {
            let bytes = values.split_to(value.len().min(values.len()));
            if let Ok(value) = HeaderValue::from_maybe_shared(bytes) {
                match FOR_US.contains(name) {
                    true => for_us.push((name.clone(), value)),
                    false => drop(copy.append(name.clone(), value)),
                }
            }
        }
        let mut said = coded.map(|_| Box::new(HeaderMap::new()));
        for (name, value) in as_said() {
            let bytes = values.split_to(value.len().min(values.len()));
            if let (Some(said), Ok(value)) = (&mut said, HeaderValue::from_maybe_shared(bytes)) {
                said.append(name.clone(), value);
            }
        }
        // RFC 9110 section 6.6.1: whoever receives an answer without a date adds it.
        if !copy.contains_key(DATE)
            && let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(wall))
        {
            copy.insert(DATE, date);
        }
        let inner = join(copy.get_all(CACHE_STATUS).iter());
        for name in [AGE, CACHE_STATUS, X_REQUEST_ID] {
            copy.insert(name, HeaderValue::from_static(""));
        }
        Self {
            status,
            headers: copy,
            for_us: for_us.into(),
            inner,
            coded,
            said,
        }
    }

    /// All that the origin said: what is sent on, and what was for this cache alone.
    pub(super) fn said(&self) -> HeaderMap {
        let mut headers = self.headers.clone();
        self.restore(&mut headers);
        for (name, value) in &self.for_us {
            headers.append(name.clone(), value.clone());
        }
        headers
    }

    /// `Cache-Status` of the caches further in.
    pub(super) fn inner(&self) -> Option<&HeaderValue> {
        self.inner.as_ref()
    }

    fn lines(&self) -> Box<[u8]> {
        let mut text = Vec::new();
        for (name, value) in &self.headers {
            if !OVERWRITTEN.contains(name) {
                text.extend_from_slice(name.as_ref());
                text.extend_from_slice(b": ");
                text.extend_from_slice(value.as_bytes());
                text.extend_from_slice(b"\r\n");
            }
        }
        text.into()
    }

    /// States the length of the whole body, where the status has one.
    pub(super) fn set_length(&mut self, length: u64) {
        if self.status != StatusCode::NO_CONTENT {
            self.headers
                .insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
    }

    /// Whether a client with these conditions already has this answer.
    pub(super) fn is_held_by(&self, request: &HeaderMap) -> bool {
        self.status == StatusCode::OK && conditional::is_not_modified(request, &self.headers)
    }

    /// The fields of an answer.
    pub(super) fn answer(&self, age: Option<u64>, verdict: Verdict) -> HeaderMap {
        let mut headers = self.headers.clone();
        stamp(&mut headers, self.inner.as_ref(), age, verdict);
        headers
    }

    /// The fields of a `304` in its place (RFC 9110 section 15.4.5).
    pub(super) fn not_modified(&self, age: Option<u64>, verdict: Verdict) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(12);
        for name in [CACHE_CONTROL, CONTENT_LOCATION, DATE, ETAG, EXPIRES, VARY] {
            for value in self.headers.get_all(&name) {
                headers.append(name.clone(), value.clone());
            }
        }
        if !headers.contains_key(ETAG)
            && let Some(modified) = self.headers.get(LAST_MODIFIED)
        {
            headers.insert(LAST_MODIFIED, modified.clone());
        }
        headers.insert(X_REQUEST_ID, HeaderValue::from_static(""));
        stamp(&mut headers, self.inner.as_ref(), age, verdict);
        headers
    }
}

/// Fields that speak to this cache, and to nobody behind it.
const FOR_US: [HeaderName; 4] = [
    HEADGATE_CACHE_CONTROL,
    SURROGATE_CONTROL,
    SURROGATE_KEY,
    CACHE_TAG,
];

/// Takes from an answer that is not stored what it says to this cache alone.
pub fn strip(headers: &mut HeaderMap) {
    for name in FOR_US {
        headers.remove(name);
    }
}

/// RFC 9111 section 3.1 and RFC 9110 section 7.6.1. `X-Request-Id` is of one request only.
fn is_per_connection(headers: &HeaderMap, name: &HeaderName) -> bool {
    *name == X_REQUEST_ID
        || is_hop_by_hop(name)
        || name.as_str() == "proxy-authentication-info"
        || headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(members)
            .any(|option| option.eq_ignore_ascii_case(name.as_ref()))
}

fn join<'a>(values: impl Iterator<Item = &'a HeaderValue>) -> Option<HeaderValue> {
    let parts: Vec<&[u8]> = values
        .map(HeaderValue::as_bytes)
        .filter(|v| !v.is_empty())
        .collect();
    if parts.is_empty() {
        return None;
    }
    HeaderValue::from_bytes(&parts.join(&b", "[..])).ok()
}

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

/// A stored answer to a request.
#[derive(Debug)]
pub struct Hit {
    pub(super) entry: Arc<Entry>,
    portion: Portion,
    form: Form,
    is_head: bool,
    way: Way,
}

/// How a stored answer came to be one to this request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// It was in memory.
    Memory,
    /// It was in memory, and a soft purge has made it stale whatever life it had left.
    Purged,
    /// It was on disk.
    Disk,
    /// It is stale, and the origin failed: with this status if it had one.
    Fallback(Option<StatusCode>),
}

impl Hit {
    /// `conditions` are the request's fields, where one of them may make it less than the whole.
    pub(super) fn new(
        entry: Arc<Entry>,
        form: Form,
        method: &Method,
        conditions: Option<&HeaderMap>,
    ) -> Self {
        let is_head = *method == Method::HEAD;
        let complete = || match &entry.parts {
            Some(parts) => parts.complete,
            None => entry.body.len(),
        };
        let portion = match conditions {
            // A range counts for `GET` alone (RFC 9110 section 14.2).
            Some(request) if is_head => Portion::of(&entry.head, form, request, None),
            Some(request) => Portion::of(&entry.head, form, request, Some(complete())),
            None => Portion::Whole,
        };
        Self {
            entry,
            portion,
            form,
            is_head,
            way: Way::Memory,
        }
    }

    pub(super) fn by(self, way: Way) -> Self {
        Self { way, ..self }
    }

    fn ttl(&self, now: Instant) -> i64 {
        let ttl = self.entry.age.ttl(now);
        match self.way {
            // When it was purged is not known, only that it was.
            Way::Purged => ttl.min(0),
            Way::Memory | Way::Disk | Way::Fallback(_) => ttl,
        }
    }

    fn verdict(&self, now: Instant) -> Verdict {
        match self.way {
            Way::Memory | Way::Purged => Verdict::Hit { ttl: self.ttl(now) },
            Way::Disk => Verdict::Recalled { ttl: self.ttl(now) },
            Way::Fallback(status) => Verdict::Fallback {
                status: status.map(|status| status.as_u16()),
                collapsed: false,
            },
        }
    }

    /// In which form the client gets it.
    pub fn form(&self) -> Form {
        self.form
    }

    /// What has to be done to the body, if anything.
    pub fn decoding(&self) -> Option<Decoding> {
        match self.form {
            Form::Plain(decoding) if self.portion == Portion::Whole && !self.is_head => {
                Some(decoding)
            }
            Form::AsSent | Form::Coded | Form::Plain(_) => None,
        }
    }

    /// Age of the answer (RFC 9111 section 4.2.3).
    pub fn age(&self, now: Instant) -> Duration {
        self.entry.age.current(now)
    }

    /// The answer. Its fields hold an empty `X-Request-Id`, for the caller to overwrite.
    pub fn into_parts(self, now: Instant) -> (StatusCode, HeaderMap, HitBody) {
        let age = Some(self.age(now).as_secs());
        let verdict = self.verdict(now);
        let head = self.entry.head.in_form(self.form);
        let (status, headers, pieces) = self.portion.head(&head, age, verdict);
        let body = if self.is_head {
            HitBody::Empty
        } else {
            self.entry.portion(pieces)
        };
        (status, headers, body)
    }

    /// The answer with its fields as they are stored, where its body is whole and in one piece.
    ///
    /// # Errors
    /// With the hit, where it is not.
    pub fn into_lines(self, now: Instant) -> Result<(StatusCode, Lines, Bytes), Self> {
        let is_as_stored = self.portion == Portion::Whole && self.decoding().is_none();
        match &self.entry.body {
            HitBody::One(content)
                if is_as_stored
                    && !self.is_head
                    && matches!(self.way, Way::Memory | Way::Purged) =>
            {
                let content = content.clone();
                let lines = Lines {
                    age: self.age(now).as_secs(),
                    ttl: self.ttl(now),
                    entry: self.entry,
                };
                Ok((lines.entry.head.status, lines, content))
            }
            _ => Err(self),
        }
    }
}

/// What an answer states anew.
static OVERWRITTEN: [HeaderName; 4] = [CONTENT_LENGTH, AGE, CACHE_STATUS, X_REQUEST_ID];

/// The fields of a hit, without its length and without `X-Request-Id`: as lines of HTTP/1.1, or one by one.
#[derive(Debug)]
pub struct Lines {
    entry: Arc<Entry>,
    age: u64,
    ttl: i64,
}

impl Lines {
    /// Appends them.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut digits = itoa::Buffer::new();
        out.extend_from_slice(self.entry.lines());
        out.extend_from_slice(b"age: ");
        out.extend_from_slice(digits.format(self.age).as_bytes());
        out.extend_from_slice(b"\r\ncache-status: ");
        if let Some(inner) = &self.entry.head.inner {
            out.extend_from_slice(inner.as_bytes());
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(HIT.as_bytes());
        out.extend_from_slice(digits.format(self.ttl).as_bytes());
        out.extend_from_slice(b"\r\n");
    }

    /// Writes them to a block of HTTP/2.
    pub fn show(&self, to: &mut dyn FieldBlock) {
        let head = &self.entry.head;
        let stored = |each: EachField<'_>| {
            for (name, value) in &head.headers {
                if !OVERWRITTEN.contains(name) {
                    each(name.as_str(), value.as_bytes());
                }
            }
        };
        match self.entry.block(|| to.encode(&stored)) {
            Some(block) => to.encoded(block),
            None => stored(&mut |name, value| to.field(name, value)),
        }
        let mut digits = itoa::Buffer::new();
        to.field(AGE.as_str(), digits.format(self.age).as_bytes());
        let mut status: SmallVec<[u8; 64]> = SmallVec::new();
        if let Some(inner) = &head.inner {
            status.extend_from_slice(inner.as_bytes());
            status.extend_from_slice(b", ");
        }
        status.extend_from_slice(HIT.as_bytes());
        status.extend_from_slice(digits.format(self.ttl).as_bytes());
        to.field(CACHE_STATUS.as_str(), &status);
    }
}

#[cfg(test)]
mod tests {
    use super::super::budget::Budget;
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn head(lines: &[(&'static str, &'static str)]) -> Head {
        let headers = map(lines);
        let reservation = Budget::new(1 << 20)
            .reserve(Head::charge(&headers, None))
            .unwrap();
        Head::copy(
            StatusCode::OK,
            &headers,
            &[],
            None,
            SystemTime::UNIX_EPOCH,
            reservation,
        )
    }

    #[test]
    fn what_concerned_the_connection_is_not_stored() {
        let stored = head(&[
            ("connection", "x-hop, Keep-Alive"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("x-request-id", "of another"),
            ("x", "1"),
            ("x", "2"),
        ]);
        let expected = map(&[
            ("x", "1"),
            ("x", "2"),
            ("date", "Thu, 01 Jan 1970 00:00:00 GMT"),
            ("age", ""),
            ("cache-status", ""),
            ("x-request-id", ""),
        ]);
        assert_eq!(stored.headers, expected);
    }

    #[test]
    fn what_is_for_this_cache_is_kept_for_validation_and_not_sent_on() {
        let lines = [
            ("surrogate-key", "a b"),
            ("cache-tag", "c"),
            ("surrogate-control", "max-age=1"),
            ("headgate-cache-control", "max-age=2"),
            ("cdn-cache-control", "max-age=3"),
            ("x", "1"),
        ];
        let stored = head(&lines);
        let answer = stored.answer(None, Verdict::Hit { ttl: 1 });
        let said = stored.said();
        for (index, (name, value)) in lines.into_iter().enumerate() {
            assert_eq!(answer.contains_key(name), index > 3, "{name}");
            assert_eq!(said[name], value);
        }
    }

    #[test]
    fn an_answer_does_not_grow_the_stored_map() {
        let stored = head(&[("cache-status", "a; hit"), ("cache-status", "b; fwd=miss")]);
        let answer = stored.answer(Some(3), Verdict::Hit { ttl: 7 });
        assert_eq!(answer.keys_len(), stored.headers.keys_len());
        assert_eq!(
            answer[CACHE_STATUS],
            "a; hit, b; fwd=miss, headgate; hit; ttl=7"
        );
        assert_eq!(answer[AGE], "3");
    }

    #[test]
    fn a_304_carries_only_what_it_should() {
        let lines = [
            ("cache-control", "max-age=1"),
            ("content-type", "a"),
            ("content-length", "1"),
            ("etag", "\"a\""),
            ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("vary", "accept"),
        ];
        let names = |head: &Head| {
            let headers = head.not_modified(Some(0), Verdict::Hit { ttl: 1 });
            let mut names: Vec<_> = headers
                .keys()
                .map(|name| name.as_str().to_owned())
                .collect();
            names.sort();
            names.join(" ")
        };
        assert_eq!(
            names(&head(&lines)),
            "age cache-control cache-status date etag vary x-request-id"
        );
        let without_tag: Vec<_> = lines
            .into_iter()
            .filter(|(name, _)| *name != "etag")
            .collect();
        assert_eq!(
            names(&head(&without_tag)),
            "age cache-control cache-status date last-modified vary x-request-id"
        );
    }

    #[test]
    fn conditions_are_answered_only_in_place_of_a_200() {
        let mut stored = head(&[("etag", "\"a\"")]);
        let request = map(&[("if-none-match", "\"a\"")]);
        assert!(stored.is_held_by(&request));
        stored.status = StatusCode::NOT_FOUND;
        assert!(!stored.is_held_by(&request));
    }

    #[test]
    fn the_head_is_counted_while_a_value_of_it_is_alive() {
        let headers = map(&[("x", "value")]);
        let budget = Budget::new(1 << 20);
        let reservation = budget.reserve(Head::charge(&headers, None)).unwrap();
        let head = Head::copy(
            StatusCode::OK,
            &headers,
            &[],
            None,
            SystemTime::UNIX_EPOCH,
            reservation,
        );
        let value = head.headers["x"].clone();
        drop(head);
        assert_eq!(budget.used(), Head::charge(&headers, None));
        drop(value);
        assert_eq!(budget.used(), 0);
    }
}
