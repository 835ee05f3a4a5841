//! Partial answers: parts that were fetched are kept, put together, and answer ranges within them (RFC
//! 9111 sections 3.3 and 3.4). For routes that pass ranges on.
//!
//! What is stored of a URL lies under a key of its own, beside that of whole answers: no look-up for
//! a whole answer finds it. `mod` asks here when nothing whole answers a range; the proxy fetches with a
//! `PartPermit`, asking only for what is missing, and pushes what arrives into a `PartFiller`. Invariant:
//! parts are put together only when they share one strong validator and one length, and a body whose
//! last gap closes becomes a whole answer.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    LAST_MODIFIED, RANGE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::time::Instant;

use crate::config::model::CacheRule;
use crate::range::{ContentRange, OF_THE_CONTENT, Piece, Pieces, Span, content_range};

use super::ageing::Ageing;
use super::budget::{ALLOCATION_OVERHEAD, Reservation, counted};
use super::conditional;
use super::content::HitBody;
use super::entry::Entry;
use super::flight::Boarded;
use super::form::Form;
use super::freshness::{Failure, Personal, Storable, Times, date_of, judge};
use super::head::Head;
use super::hit::{Hit, Way};
use super::kept::Kept;
use super::key::Key;
use super::permit::Flying;
use super::portion::{Parts, Portion, Strong};
use super::purge::{Generation, Standing};
use super::reader::{ReadError, Reader};
use super::status::{Bypass, Forward, Refusal, Uncacheable};
use super::store::Slot;
use super::tags::Tags;
use super::vary::Vary;
use super::{Asked, Cache, Lookup, Request, way};

/// What the key of partial answers has behind that of whole ones. Neither an upstream nor a route has an
/// empty name, so nothing else ends like this.
const SUFFIX: &[u8] = b"\0\0parts";

/// Chunks are joined up to this size.
const SMALL: usize = 4 * 1024;

impl Cache {
    /// Answers a range from the parts that are stored, or lets it be fetched. `scratch` holds the key of
    /// whole answers, its first `url_len` bytes are the URL.
    pub(super) fn partly(
        self: &Arc<Self>,
        rule: &Arc<CacheRule>,
        request: &Request<'_>,
        asked: &Asked,
        url_len: usize,
        scratch: &mut Vec<u8>,
    ) -> Lookup {
        let stored_len = scratch.len();
        scratch.extend_from_slice(SUFFIX);
        let slot = self.store.find(scratch);
        scratch.truncate(stored_len);
        let url = scratch.get(..url_len).unwrap_or_default();
        let selected = slot
            .as_deref()
            .and_then(|slot| slot.select(request.headers, &self.generations, url));
        let mut forward = Forward::UriMiss;
        let mut gap = None;
        let mut known = None;
        let mut stale = None;
        if let Some((entry, standing)) = selected
            && let Some(kept) = &entry.parts
        {
            if asked.is_personal() && !entry.age.is_for_all() {
                return Lookup::Bypass(Bypass::Authorization);
            }
            let is_fresh = standing == Standing::Current && entry.is_fresh(asked.now);
            let does = asked.is_answered_by(&entry.age, is_fresh);
            let complete = Some(kept.complete);
            let portion = Portion::of(&entry.head, Form::AsSent, request.headers, complete);
            let has_all = match &portion {
                Portion::Held | Portion::Unsatisfiable { .. } => true,
                Portion::Parts { spans, .. } => spans.iter().all(|s| kept.missing(*s).is_none()),
                Portion::Whole => false,
            };
            let hit = || asked.hit_part(entry, request);
            if does && has_all {
                return Lookup::Hit(hit().by(way(standing)));
            }
            if has_all && !asked.control.demands() {
                let is_renewed = asked.takes_stale(entry, is_fresh, self.grace(asked.now))
                    && is_one_part(&portion, request.headers);
                stale = Some((
                    Arc::clone(entry),
                    is_renewed.then(|| hit().by(way(standing))),
                ));
            }
            forward = match (is_fresh, does) {
                (false, _) => Forward::Stale,
                (true, true) => Forward::Partial,
                (true, false) => Forward::Request,
            };
            if !asked.is_conditional && forward != Forward::Request {
                gap = Gap::of(&portion, kept);
            }
            known = Some(Arc::clone(entry));
        }
        if asked.control.only_if_cached {
            return Lookup::Unsatisfiable;
        }
        let hash = self.hasher.hash_one(Some(url));
        let generation = self.generations.capture(hash);
        let (fallback, behind) = stale.unzip();
        let mut permit = PartPermit {
            cache: Arc::clone(self),
            key: scratch.as_slice().into(),
            url_len,
            generation,
            request: Arc::new(request.headers.clone()),
            rule: Arc::clone(rule),
            personal: asked.personal,
            requested: asked.now,
            forward,
            known,
            gap,
            fallback: fallback.map(|entry| (entry, asked.control.stale_if_error)),
            refresh: None,
        };
        let Some(hit) = behind.flatten() else {
            return Lookup::Part(permit);
        };
        permit.refresh = self.refresh(request, generation, url_len, scratch);
        let permit = Some(permit).filter(|permit| permit.refresh.is_some());
        Lookup::StalePart(hit, permit)
    }

    /// Lets one request at a time fetch a part anew behind stale answers; `scratch` is the key of whole ones.
    fn refresh(
        self: &Arc<Self>,
        request: &Request<'_>,
        generation: Generation,
        url_len: usize,
        scratch: &mut Vec<u8>,
    ) -> Option<Flying> {
        let stored_len = scratch.len();
        scratch.extend_from_slice(SUFFIX);
        if let Some(range) = request.headers.get(RANGE) {
            scratch.extend_from_slice(range.as_bytes());
        }
        let key = Key {
            bytes: scratch,
            url_len,
        };
        let generations = (&self.generations, generation);
        // Nobody rides: the parts that it brings are found when they are stored.
        let boarded = self
            .flights
            .board(key, stored_len, generations, request.headers, false);
        scratch.truncate(stored_len);
        match boarded {
            Boarded::Leader(flight) => Some(Flying::new(Arc::clone(self), flight)),
            Boarded::Rider(_) | Boarded::Occupied | Boarded::Varies(_) => None,
        }
    }
}

/// Whether what a request wants can be fetched and kept as it asks for it.
fn is_one_part(portion: &Portion, request: &HeaderMap) -> bool {
    matches!(portion, Portion::Parts { spans, .. } if spans.len() == 1)
        && ![IF_RANGE, IF_NONE_MATCH, IF_MODIFIED_SINCE]
            .iter()
            .any(|name| request.contains_key(name))
}

/// Of what a request wants, what is not stored.
#[derive(Debug, Clone, Copy)]
struct Gap {
    wanted: Span,
    missing: Span,
}

impl Gap {
    /// None where nothing of what is wanted is stored, or it is not one part.
    fn of(portion: &Portion, kept: &Kept) -> Option<Self> {
        let Portion::Parts { spans, .. } = portion else {
            return None;
        };
        let [wanted] = spans[..] else { return None };
        let missing = kept.missing(wanted).filter(|missing| *missing != wanted)?;
        Some(Self { wanted, missing })
    }
}

/// The right to fetch a part and to keep it.
#[derive(Debug)]
pub struct PartPermit {
    cache: Arc<Cache>,
    /// Of whole answers.
    key: Box<[u8]>,
    url_len: usize,
    /// Captured before the fetch was sent.
    generation: Generation,
    request: Arc<HeaderMap>,
    rule: Arc<CacheRule>,
    personal: Option<Personal>,
    requested: Instant,
    forward: Forward,
    /// The parts that are stored.
    known: Option<Arc<Entry>>,
    /// Only this is asked for, where some of what is wanted is stored.
    gap: Option<Gap>,
    /// All that is wanted, but stale, should the origin fail; and for how long its client takes that by itself.
    fallback: Option<(Arc<Entry>, Option<Duration>)>,
    /// It is for nobody but the store, and the only one of its kind.
    refresh: Option<Flying>,
}

/// A part that is kept while it goes to the client, between those that were stored before.
#[derive(Debug)]
pub struct Partial {
    /// What comes first.
    pub before: Reader,
    /// Takes what arrives, which comes next.
    pub filler: PartFiller,
    /// What comes last.
    pub after: Reader,
}

/// Why an answer to a request for a part is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotKept {
    /// It is not one part.
    Bypassed(Bypass),
    /// It is, and may not be stored.
    Refused(Uncacheable),
}

impl PartPermit {
    /// The origin failed, with this status if it had one: the stale part, where it may be served.
    #[must_use]
    pub fn fall_back(&self, failure: Failure, status: Option<StatusCode>) -> Option<Hit> {
        let (entry, asked) = self.fallback.as_ref()?;
        let cache = &self.cache;
        let now = cache.clock.now();
        let url = self.key.get(..self.url_len).unwrap_or_default();
        let may_be = entry.may_serve_on(failure, now, *asked, cache.grace(now))
            && entry.is_left(&cache.generations, url);
        may_be.then(|| {
            let hit = Hit::new(
                Arc::clone(entry),
                Form::AsSent,
                &Method::GET,
                Some(&self.request),
            );
            hit.by(Way::Fallback(status))
        })
    }

    /// Makes the client's head into the one to send: it asks for what is missing, as long as the
    /// stored parts hold (RFC 9110 section 13.1.5).
    pub fn prepare(&self, headers: &mut HeaderMap) {
        let (Some(gap), Some(known)) = (&self.gap, &self.known) else {
            return;
        };
        let Span { first, last } = gap.missing;
        let condition = match Strong::of(&known.head.headers) {
            Some(Strong::Tag(tag)) => Some(tag.clone()),
            Some(Strong::Modified(date)) => {
                HeaderValue::try_from(httpdate::fmt_http_date(date)).ok()
            }
            None => None,
        };
        if let (Some(condition), Ok(range)) = (
            condition,
            HeaderValue::try_from(format!("bytes={first}-{last}")),
        ) {
            headers.insert(RANGE, range);
            headers.insert(IF_RANGE, condition);
        }
    }

    /// The origin's answer has begun: makes `headers` into what the client is told.
    ///
    /// # Errors
    /// Says why nothing is kept. The answer's body goes to the client as it is.
    pub fn start(
        mut self,
        status: StatusCode,
        headers: &mut HeaderMap,
    ) -> Result<Partial, NotKept> {
        let range = ContentRange::of(headers)
            .filter(|range| status == StatusCode::PARTIAL_CONTENT && is_as_long(headers, *range));
        let Some(range) = range else {
            let is_other =
                |known: &Arc<Entry>| Strong::of(&known.head.headers) != Strong::of(headers);
            if status == StatusCode::OK && self.known.as_ref().is_some_and(is_other) {
                // What is there is not what the parts are of.
                self.cache.store.remove(&self.parts_key());
            }
            Bypass::Range.annotate(headers);
            return Err(NotKept::Bypassed(Bypass::Range));
        };
        let known = self.known.take();
        let known = known.filter(|known| self.is_of(known, headers, range));
        let whole = whole(known.as_deref(), headers);
        let completes = known.filter(|_| self.gap.is_some());
        let entry = match self.entry(&whole, range, completes.is_some()) {
            Ok(entry) => Some(entry),
            // Nothing of it is kept, and yet the client needs what was stored before.
            Err(_) if completes.is_some() => None,
            Err(reason) => {
                let forward = self.forward;
                Refusal { reason, forward }.annotate(headers);
                return Err(NotKept::Refused(reason));
            }
        };
        let (mut before, mut after) = (HitBody::Empty.into(), HitBody::Empty.into());
        if let Some(known) = completes {
            let got = range.span;
            let sent = self.sent(got);
            *headers = whole;
            headers.insert(CONTENT_RANGE, content_range(sent, range.complete));
            headers.insert(CONTENT_LENGTH, HeaderValue::from(sent.length()));
            before = stored(&known, sent.first, got.first);
            after = stored(&known, got.last + 1, sent.last + 1);
        }
        self.forward.annotate(headers, entry.is_some());
        let filler = PartFiller {
            permit: self,
            entry,
            start: range.span.first,
            left: range.span.length(),
            segments: Vec::new(),
            tail: Bytes::new(),
        };
        Ok(Partial {
            before,
            filler,
            after,
        })
    }

    /// Whether the stored parts are of the answer that a new part is of.
    fn is_of(&self, known: &Entry, headers: &HeaderMap, range: ContentRange) -> bool {
        let kept = known.parts.as_ref();
        if kept.is_none_or(|kept| kept.complete != range.complete) {
            return false;
        }
        let stored = Strong::of(&known.head.headers);
        match Strong::of(headers) {
            Some(validator) => stored == Some(validator),
            // It was asked for on condition of a date, which such an answer need not repeat; a tag it must
            // (RFC 9110 section 15.3.7).
            None => {
                let by_date = matches!(stored, Some(Strong::Modified(_)));
                self.gap.is_some() && is_silent(headers) && by_date
            }
        }
    }

    /// What goes to the client with the part that came: all that it wants, but for an origin that sends
    /// another part than it was asked for.
    fn sent(&self, got: Span) -> Span {
        let Some(Gap { wanted, missing }) = self.gap else {
            return got;
        };
        if got.first != missing.first || got.last > missing.last {
            return got;
        }
        let last = if got.last == missing.last {
            wanted.last
        } else {
            got.last
        };
        Span {
            first: wanted.first,
            last,
        }
    }

    /// What is stored of the part, or why it is not.
    fn entry(
        &self,
        whole: &HeaderMap,
        range: ContentRange,
        completes: bool,
    ) -> Result<Entry, Uncacheable> {
        let cache = &self.cache;
        let wall = cache.clock.wall();
        let times = Times {
            requested: self.requested,
            received: cache.clock.now(),
            wall,
        };
        // As if it were a whole answer that broke off (RFC 9111 section 3.3).
        let judged = judge(StatusCode::OK, whole, &self.rule, self.personal, &times)?;
        let Storable { freshness, hidden } = judged;
        let vary = Vary::of(whole, &self.request, false).map_err(|_any| Uncacheable::Vary)?;
        // To one who resumes, an answer need not say what it is of.
        let is_told = completes || (self.gap.is_none() && !self.request.contains_key(IF_RANGE));
        if Strong::of(whole).is_none() || !is_told {
            return Err(Uncacheable::Partial);
        }
        if range.span.length() > cache.max_object {
            return Err(Uncacheable::TooLarge);
        }
        let url = self.key.get(..self.url_len).unwrap_or_default();
        let tags = Tags::of(whole, url, &cache.hasher).ok_or(Uncacheable::Tags)?;
        let head_charge = Head::charge(whole, None);
        let own = vary.charge() + tags.charge() + Entry::OVERHEAD;
        let mut room = cache
            .reserve(head_charge + own)
            .ok_or(Uncacheable::Memory)?;
        let charge = room.split(head_charge);
        let head = Head::copy(StatusCode::OK, whole, &hidden, None, wall, charge);
        Ok(Entry {
            charge: head_charge + own,
            head,
            body: HitBody::Empty,
            parts: Some(Kept::new(range.complete)),
            age: Ageing::new(times.received, freshness),
            dated: date_of(whole, DATE).unwrap_or(wall),
            vary,
            generation: self.generation,
            tags,
            lines: OnceLock::new(),
            block: OnceLock::new(),
            _reservation: room,
        })
    }

    fn parts_key(&self) -> Vec<u8> {
        [&*self.key, SUFFIX].concat()
    }

    /// Puts a part to what is stored by now, or makes it the first.
    fn store(&self, mut entry: Entry, start: u64, part: &[Bytes]) {
        let cache = &self.cache;
        let parts_key = self.parts_key();
        let url = self.key.get(..self.url_len).unwrap_or_default();
        let slot = cache.store.find_again(&parts_key);
        let others = slot
            .as_deref()
            .and_then(|slot| slot.select(&self.request, &cache.generations, url));
        let Some(new) = entry.parts.take() else {
            return;
        };
        let is_same = |other: &&Arc<Entry>| {
            Strong::of(&other.head.headers) == Strong::of(&entry.head.headers)
        };
        let other = others.map(|(other, _)| other).filter(is_same);
        let base = other.and_then(|other| other.parts.as_ref());
        let base = base.filter(|kept| kept.complete == new.complete);
        let kept = base.unwrap_or(&new).with(start, part, cache.max_object);
        let whole = kept.is_whole();
        let key = if whole { &*self.key } else { &*parts_key };
        let Some(room) = cache.reserve(Slot::OVERHEAD + key.len()) else {
            return;
        };
        entry.charge += kept.charge();
        if whole {
            entry.head.set_length(kept.complete);
            entry.body = kept.segments().collect();
        } else {
            entry.parts = Some(kept);
        }
        let key = Key {
            bytes: key,
            url_len: self.url_len,
        };
        let entry = Arc::new(entry);
        if !whole {
            cache
                .store
                .put(&key, &entry, room, &cache.generations, || ());
        } else if cache.keep(&key, &entry, room) {
            cache.store.remove(&parts_key);
        }
    }
}

/// The head of the whole answer, as a new part and the stored ones tell it (RFC 9110 section 15.3.7.3).
fn whole(known: Option<&Entry>, headers: &HeaderMap) -> HeaderMap {
    let mut whole = match known {
        Some(known) => conditional::merged(&known.head.headers, headers),
        None => headers.clone(),
    };
    // These are of the part alone.
    for name in [CONTENT_RANGE, CONTENT_LENGTH]
        .iter()
        .chain(&OF_THE_CONTENT)
    {
        whole.remove(name);
    }
    whole
}

/// Whether an answer does not say that its content is longer or shorter than its part.
fn is_as_long(headers: &HeaderMap, range: ContentRange) -> bool {
    let said = headers.get(CONTENT_LENGTH).map(|said| said.to_str());
    said.is_none_or(|said| {
        said.ok().and_then(|said| said.parse().ok()) == Some(range.span.length())
    })
}

fn is_silent(headers: &HeaderMap) -> bool {
    !headers.contains_key(ETAG) && !headers.contains_key(LAST_MODIFIED)
}

/// The stored bytes from the first up to before `end`.
fn stored(entry: &Arc<Entry>, first: u64, end: u64) -> Reader {
    match end.checked_sub(first).filter(|length| *length > 0) {
        None => HitBody::Empty.into(),
        Some(length) => {
            let pieces = Pieces::from([Piece::Span {
                start: first,
                length,
            }]);
            Parts::of_kept(pieces, Arc::clone(entry)).into()
        }
    }
}

/// Takes a part as it goes to the client. What has come when it is dropped is kept, however the fetch
/// ended.
#[derive(Debug)]
pub struct PartFiller {
    permit: PartPermit,
    /// What it is to become, while it is kept.
    entry: Option<Entry>,
    start: u64,
    /// Bytes to come.
    left: u64,
    segments: Vec<Bytes>,
    /// The last segment while it is small, to be joined with what follows.
    tail: Bytes,
}

impl PartFiller {
    /// Keeps a copy. With the last byte it is stored, before anyone can ask for it.
    ///
    /// # Errors
    /// When more comes than the part has.
    pub fn push(&mut self, chunk: &Bytes) -> Result<(), ReadError> {
        let length = chunk.len() as u64;
        let Some(left) = self.left.checked_sub(length) else {
            // What came before is still right.
            self.finish();
            return Err(ReadError);
        };
        self.left = left;
        let is_kept = self.entry.is_none() || length == 0 || self.keep(chunk);
        if !is_kept || left == 0 {
            self.finish();
        }
        Ok(())
    }

    /// Whether all of the part has come.
    pub fn is_whole(&self) -> bool {
        self.left == 0
    }

    fn keep(&mut self, chunk: &Bytes) -> bool {
        let joins = !self.tail.is_empty() && self.tail.len() + chunk.len() <= SMALL;
        let parts: &[&[u8]] = if joins {
            &[&self.tail, chunk]
        } else {
            &[chunk]
        };
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let Some(room) = self.room(length) else {
            return false;
        };
        let segment = counted(parts, room);
        if joins {
            self.segments.pop();
        }
        self.tail = if segment.len() < SMALL {
            segment.clone()
        } else {
            Bytes::new()
        };
        self.segments.push(segment);
        true
    }

    fn room(&self, length: usize) -> Option<Reservation> {
        self.permit.cache.reserve(length + ALLOCATION_OVERHEAD)
    }

    fn finish(&mut self) {
        let segments = std::mem::take(&mut self.segments);
        if let Some(entry) = self.entry.take()
            && !segments.is_empty()
        {
            self.permit.store(entry, self.start, &segments);
        }
    }
}

impl Drop for PartFiller {
    fn drop(&mut self) {
        self.finish();
    }
}
