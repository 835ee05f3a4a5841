//! The shared HTTP cache (RFC 9111), station 5 of a request's road.
//!
//! `proxy` looks a request up and acts on what it is told; this room never sees an upstream: where
//! something must be fetched it hands out a `Permit`, and is told through it what the origin said.
//!
//! ```text
//! look_up -> Hit            a stored answer, whole             hit, entry, store
//!            Stale          the same, to be fetched anew behind it
//!            Wait(Waiter)   someone is fetching it already     flight, reader
//!            Fill(Permit)   fetch it, for all who wait         permit, fill
//!            Part(Permit)   fetch a range, for this request alone        parts, kept
//!            Recall(Recall) look on disk first                           recall, disk
//!            Bypass(why)    go to the origin, store nothing    status
//!            Unsatisfiable  only-if-cached, and it is not
//! ```
//!
//! One `Cache` is shared by all workers. A hit takes no lock, builds its key in the caller's
//! buffer, and costs one look-up in the store and two loads of a generation. What may be stored
//! and for how long is decided in `freshness`, by what an answer says in `targeted` and `control`, by whom it may be used in `vary` and `conditional`,
//! what of it in `portion`, and in which coding in `form`.
//! Invariants: bytes are bounded by `budget` alone; what was fetched before a purge is never served
//! to a request that comes after it (`purge`).

mod ageing;
mod budget;
mod conditional;
mod content;
mod control;
mod cookies;
mod device;
mod disk;
mod entry;
mod examine;
mod fill;
mod flight;
mod form;
mod freshness;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod head;
mod hit;
mod kept;
mod key;
mod parts;
mod permit;
mod portion;
mod purge;
mod reader;
mod recall;
mod selector;
mod status;
mod store;
mod tags;
mod targeted;
mod vary;
mod written;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use ahash::RandomState;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, COOKIE, ETAG};
use http::{HeaderMap, Method, StatusCode};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::config::model::{CacheRule, CacheStore, Ranges};
use crate::range;

use ageing::Ageing;
use budget::{Budget, Reservation};
use control::MaxStale;
use control::RequestControl;
use disk::Disk;
use entry::Entry;
use flight::{Boarded, Came, Flights, Phase};
use freshness::{Personal, Times};
use hit::Way;
use key::Key;
use permit::Flying;
use purge::{Generations, Standing};
use reader::Role;
use store::{Slot, Store};
use tags::Tags;
use vary::Vary;

pub use content::HitBody;
pub use device::tell_device;
pub use disk::DiskStats;
pub use examine::is_of_others;
pub use fill::{Filled, Filler};
pub use flight::Abandoned;
pub use form::{Decoding, Form};
pub use freshness::Failure;
pub use head::strip;
pub use hit::{Hit, Lines};
pub use parts::{NotKept, PartFiller, PartPermit, Partial};
pub use permit::{Permit, Revalidated, Started};
pub use portion::Parts;
pub use purge::{Strength, TooManyPrefixes};
pub use reader::{Answer, Outcome, ReadError, Reader, Waiter};
pub use recall::{Recall, Recalled};
pub use selector::{Selection, Selector, Swept};
pub use status::{Bypass, Forward, Refusal, Uncacheable};

/// The cache of one process.
#[derive(Debug)]
pub struct Cache {
    store: Store,
    flights: Flights,
    generations: Generations,
    budget: Arc<Budget>,
    hasher: RandomState,
    clock: Clock,
    max_object: u64,
    disk: Option<Disk>,
    /// For how long stale answers are served at the least, so long after the start.
    startup_grace: Duration,
    began: Instant,
}

/// A request as the cache sees it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Who answers it: the name of its upstream, which for a sharded route is its shard.
    pub source: &'a str,
    /// Its method.
    pub method: &'a Method,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// As sent; its case and a port that is the scheme's own do not matter.
    pub host: &'a [u8],
    /// As it is forwarded.
    pub path_and_query: &'a str,
    /// The client's fields.
    pub headers: &'a HeaderMap,
    /// The cookie that Headgate itself sets for this route; it says nothing of the user.
    pub sticky_cookie: Option<&'a str>,
}

/// What to do with a request.
#[derive(Debug)]
pub enum Lookup {
    /// Answer it from the store.
    Hit(Hit),
    /// Answer it from the store, and fetch anew for those who come later; without a permit somebody
    /// does already (RFC 5861 section 3).
    Stale(Hit, Option<Permit>),
    /// The same of a part.
    StalePart(Hit, Option<PartPermit>),
    /// Wait for another request's fetch.
    Wait(Waiter),
    /// Fetch, for this request and all that wait.
    Fill(Permit),
    /// Fetch a range, for this request alone, and keep it.
    Part(PartPermit),
    /// Look on disk, and do then as it says.
    Recall(Box<Recall>),
    /// Fetch, for this request alone.
    Bypass(Bypass),
    /// `only-if-cached`, and nothing stored will do: `504` (RFC 9111 section 5.2.1.7).
    Unsatisfiable,
}

/// Figures for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Bytes stored, being filled and still being read.
    pub bytes: u64,
    /// Bound of `bytes`.
    pub limit: u64,
    /// Keys in the store, roughly: maintenance lags behind.
    pub entries: u64,
    /// Keys evicted for room since the start.
    pub evictions: u64,
}

impl Cache {
    /// An empty cache within the bounds of the config, behind it what lies on disk if there is one.
    pub fn new(config: &CacheStore, clock: Clock) -> Arc<Self> {
        let CacheStore {
            memory,
            max_object,
            disk,
            startup_grace,
        } = config;
        let limit = usize::try_from(memory.0).unwrap_or(usize::MAX);
        let hasher = RandomState::new();
        let budget = Budget::new(limit);
        let opened = disk.as_ref().map(|disk| {
            // An eighth is for what is known of the disk, a sixteenth may wait to be written.
            Disk::open(disk, budget.reserve(limit / 8), limit / 16, &clock)
        });
        let ranked = limit - budget.used();
        let (disk, last) = opened.unzip();
        Arc::new(Self {
            store: Store::new(ranked, hasher.clone()),
            flights: Flights::new(hasher.clone()),
            generations: Generations::after(last.unwrap_or(0)),
            budget,
            hasher,
            began: clock.now(),
            clock,
            max_object: max_object.0,
            disk,
            startup_grace: *startup_grace,
        })
    }

    /// What ages are measured by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Finds out what to do with a request on a caching route, at an instant of `clock`. `scratch` is
    /// the caller's, to be used again; what it holds does not matter.
    pub fn look_up(
        self: &Arc<Self>,
        rule: &Arc<CacheRule>,
        request: &Request<'_>,
        now: Instant,
        scratch: &mut Vec<u8>,
    ) -> Lookup {
        let asked = match Asked::read(rule, request, now) {
            Ok(asked) => asked,
            Err(bypass) if bypass != Bypass::Method && forbids_asking(rule, request.headers) => {
                return Lookup::Unsatisfiable;
            }
            Err(bypass) => return Lookup::Bypass(bypass),
        };
        let url_len = key_of(rule, request, scratch);
        let slot = self.store.find(scratch);
        let url = scratch.get(..url_len).unwrap_or_default();
        let mut found = Found {
            slot: slot.as_deref(),
            url_len,
            stale: None,
            form: Form::AsSent,
            forward: Forward::UriMiss,
        };
        let mut serves_stale = None;
        if let Some(slot) = &slot {
            if let Some((entry, standing)) = slot.select(request.headers, &self.generations, url) {
                if asked.is_personal() && !entry.age.is_for_all() {
                    // Whether it would do for this user is for the origin to say.
                    return asked.past(Bypass::Authorization);
                }
                let Some(form) = entry.head.form(request.headers) else {
                    return asked.past(Bypass::NoTransform);
                };
                let is_fresh = standing == Standing::Current && entry.is_fresh(now);
                if asked.is_answered_by(&entry.age, is_fresh) {
                    let hit = asked.hit(Arc::clone(entry), form, request.method, request.headers);
                    return Lookup::Hit(hit.by(way(standing)));
                }
                serves_stale = asked
                    .takes_stale(entry, is_fresh, self.grace(now))
                    .then_some(standing);
                found.forward = if is_fresh {
                    Forward::Request
                } else {
                    Forward::Stale
                };
                found.stale = Some(entry);
                found.form = form;
            } else if slot.varies_by(&self.generations, url).is_some() {
                found.forward = Forward::VaryMiss;
            }
        }
        if let (Some(entry), Some(standing)) = (found.stale, serves_stale) {
            let entry = Arc::clone(entry);
            let hit = asked.hit(entry, found.form, request.method, request.headers);
            let hit = hit.by(way(standing));
            // A fetch asks for the whole answer, which `HEAD` does not; the next `GET` will.
            let asks = *request.method == Method::GET && !asked.control.only_if_cached;
            let fetch = asks.then(|| self.miss(rule, request, &asked, &found, scratch));
            return match fetch {
                Some(Lookup::Fill(permit)) => Lookup::Stale(hit, Some(permit)),
                _ => Lookup::Stale(hit, None),
            };
        }
        let is_whole_wanted = !asked.is_ranged
            || rule.ranges == Ranges::Fetch
            // What is stored whole is validated whole.
            || found.stale.is_some_and(|entry| entry.has_validator());
        let otherwise = if !is_whole_wanted {
            match self.partly(rule, request, &asked, url_len, scratch) {
                answered @ (Lookup::Hit(_) | Lookup::StalePart(..)) => return answered,
                otherwise => otherwise,
            }
        } else if asked.control.only_if_cached {
            Lookup::Unsatisfiable
        } else if *request.method == Method::HEAD {
            Lookup::Bypass(Bypass::Method)
        } else if found.slot.is_some_and(|slot| {
            let whose = (asked.personal.is_some(), asked.is_ranged);
            slot.is_marked(whose, now, &self.generations, url)
        }) {
            return Lookup::Bypass(Bypass::Uncacheable);
        } else {
            return self.miss(rule, request, &asked, &found, scratch);
        };
        self.unless_on_disk(request, asked, &found, scratch, otherwise)
    }

    /// For how long stale answers are served now, where they do not say.
    fn grace(&self, now: Instant) -> Duration {
        let is_over = now.saturating_duration_since(self.began) >= self.startup_grace;
        match is_over {
            true => Duration::ZERO,
            false => self.startup_grace,
        }
    }

    /// Adds the key of a request to our `Cache-Status` member, if the answer has one (RFC 9211 section 2.7).
    pub fn tell_key(
        &self,
        rule: &CacheRule,
        request: &Request<'_>,
        answer: &mut HeaderMap,
        scratch: &mut Vec<u8>,
    ) {
        key_of(rule, request, scratch);
        status::add_key(answer, &key::told(scratch));
    }

    /// What an answer to `HEAD` says of the stored answer to `GET` (RFC 9111 section 4.3.5): its head
    /// is updated, or it counts as stale. `requested` is when it was asked for, by `clock`.
    pub fn observe_head(
        &self,
        rule: &CacheRule,
        request: &Request<'_>,
        requested: Instant,
        (status, answer): (StatusCode, &HeaderMap),
        scratch: &mut Vec<u8>,
    ) {
        if status != StatusCode::OK {
            return;
        }
        let url_len = key_of(rule, request, scratch);
        let key = Key {
            bytes: scratch,
            url_len,
        };
        let Some(slot) = self.store.find_again(key.bytes) else {
            return;
        };
        let found = slot.select(request.headers, &self.generations, key.url());
        let Some((stored, _)) = found.filter(|(entry, _)| entry.head.status == StatusCode::OK)
        else {
            return;
        };
        let times = Times {
            requested,
            received: self.clock.now(),
            wall: self.clock.wall(),
        };
        let said = stored.head.said();
        if rule.coding.is_some() && answer.get(CONTENT_ENCODING) != said.get(CONTENT_ENCODING) {
            // It is asked for in the codings that its client takes, and tells of what is in another.
            return;
        }
        let merged = conditional::merged(&said, answer);
        let whose = personal(rule, request);
        let judged = freshness::judge(stored.head.status, &merged, rule, whose, &times);
        if let Err(Uncacheable::Authorization | Uncacheable::Cookie) = judged {
            // It says nothing of what others are told.
            return;
        }
        // What is nominated anew may have another value in the request that the body is of.
        let is_selected_alike = Vary::of(&merged, request.headers, form::is_settled(rule, &merged))
            .is_ok_and(|vary| vary == stored.vary);
        let is_described = is_selected_alike && conditional::describes(answer, &said);
        let Some(kept) = judged.ok().filter(|_| is_described) else {
            self.purge_url(key.url(), Strength::Soft);
            return;
        };
        let tags = Tags::of(&merged, key.url(), &self.hasher);
        let under = permit::Under {
            vary: stored.vary.clone(),
            // Too many of them to be purged by: the old ones count on.
            tags: tags.unwrap_or_else(|| stored.tags.clone()),
            generation: stored.generation,
        };
        let entry = self.under_a_new_head(stored, &merged, &kept, under, &times);
        let room = self.reserve(Slot::OVERHEAD + key.bytes.len());
        if let (Some(entry), Some(room)) = (entry, room) {
            self.keep(&key, &Arc::new(entry), room);
        }
    }

    /// Makes everything stored or in flight for a URL unusable: after an unsafe method's non-error
    /// answer (RFC 9111 section 4.4), before its head is released.
    ///
    /// `source` is who answered; what others have stored for the URL goes too.
    pub fn invalidate(
        &self,
        source: &str,
        scheme: &str,
        host: &[u8],
        path_and_query: &str,
        scratch: &mut Vec<u8>,
    ) {
        let url_len = key::build(scratch, source, scheme, host, path_and_query);
        let url = scratch.get(..url_len).unwrap_or_default();
        self.purge_url(url, Strength::Hard);
        // The bump is what counts; this only gives the memory back sooner.
        self.store.remove(scratch);
    }

    /// Figures for metrics. Does the store's outstanding maintenance first, so it is not for a worker.
    pub fn stats(&self) -> Stats {
        self.store.settle();
        Stats {
            bytes: self.budget.used() as u64,
            limit: self.budget.limit() as u64,
            entries: self.store.len(),
            evictions: self.store.evictions(),
        }
    }

    /// Boards the flight for a request that nothing stored answers, or starts it.
    fn miss(
        self: &Arc<Self>,
        rule: &Arc<CacheRule>,
        request: &Request<'_>,
        asked: &Asked,
        found: &Found<'_>,
        scratch: &mut Vec<u8>,
    ) -> Lookup {
        let stored_len = scratch.len();
        let url = scratch.get(..found.url_len).unwrap_or_default();
        let hash = self.hasher.hash_one(Some(url));
        let generation = self.generations.capture(hash);
        if let Some(vary) = found
            .slot
            .and_then(|slot| slot.varies_by(&self.generations, url))
        {
            vary.extend_key(request.headers, scratch);
        }
        if asked.is_personal() {
            // Those who need not know what a user is told do not wait for it.
            scratch.extend_from_slice(b"\0user");
        }
        let may_ride = found.stale.is_none_or(|entry| entry.age.is_reusable());
        // Twice: a flight may tell by what its answer varies, and then its variant has a key.
        for _ in 0..2 {
            let generations = (&self.generations, generation);
            let key = Key {
                bytes: scratch,
                url_len: found.url_len,
            };
            match self
                .flights
                .board(key, stored_len, generations, request.headers, may_ride)
            {
                Boarded::Leader(flight) => {
                    let flying = Flying::new(Arc::clone(self), flight);
                    return self.lead(flying, rule, request, asked, found);
                }
                Boarded::Rider(ticket) => {
                    let headers = Arc::new(request.headers.clone());
                    let role = Role {
                        leads: false,
                        is_personal: asked.is_personal(),
                        is_anonymous: asked.personal.is_none(),
                        takes_stale: !asked.control.demands(),
                        came: generation,
                    };
                    let cache = Arc::clone(self);
                    return Lookup::Wait(Waiter::new(ticket, headers, found.forward, role, cache));
                }
                Boarded::Occupied => return Lookup::Bypass(Bypass::Revalidating),
                Boarded::Varies(vary) => {
                    scratch.truncate(stored_len);
                    vary.extend_key(request.headers, scratch);
                }
            }
        }
        Lookup::Bypass(Bypass::Uncacheable)
    }

    fn lead(
        self: &Arc<Self>,
        flying: Flying,
        rule: &Arc<CacheRule>,
        request: &Request<'_>,
        asked: &Asked,
        found: &Found<'_>,
    ) -> Lookup {
        // Between this request's look-up and its boarding an earlier flight may have landed. A
        // flight is stored before it leaves the table, so looking once more leaves no gap.
        let key = flying.flight.stored_key();
        if let Some(slot) = self.store.find_again(key.bytes)
            && let Some((entry, Standing::Current)) =
                slot.select(request.headers, &self.generations, key.url())
            && entry.is_fresh(asked.now)
            && asked.is_answered_by(&entry.age, true)
            && (!asked.is_personal() || entry.age.is_for_all())
            && let Some(form) = entry.head.form(request.headers)
        {
            let entry = Arc::clone(entry);
            let shared = Ok(());
            flying.land(Phase::Ready {
                entry: Arc::clone(&entry),
                shared,
                came: Came::Found,
            });
            return Lookup::Hit(asked.hit(entry, form, request.method, request.headers));
        }
        let room = Permit::OVERHEAD + Slot::OVERHEAD + 2 * flying.flight.key_len();
        let Some(reservation) = self.reserve(room) else {
            return Lookup::Bypass(Bypass::Memory);
        };
        let candidates = found.candidates(&self.generations, flying.flight.stored_key().url());
        Lookup::Fill(Permit {
            flying,
            request: Arc::new(request.headers.clone()),
            candidates,
            forward: found.forward,
            rule: Arc::clone(rule),
            asked: asked.clone(),
            fallback: found.stale.map(Arc::clone),
            reservation,
        })
    }

    /// Takes bytes from the budget; lets the store do its evictions first where there is no room.
    fn reserve(&self, bytes: usize) -> Option<Reservation> {
        // What moka evicts is freed two turns of its epoch later, and each settling is a turn.
        const SETTLINGS: usize = 4;
        let settled = |_| {
            self.store.settle();
            self.budget.reserve(bytes)
        };
        self.budget
            .reserve(bytes)
            .or_else(|| (0..SETTLINGS).find_map(settled))
    }
}

/// What the store knows of a request that it cannot answer.
struct Found<'a> {
    /// How much of the key is the URL.
    url_len: usize,
    slot: Option<&'a Slot>,
    /// To be validated, or to be served should the origin fail.
    stale: Option<&'a Arc<Entry>>,
    /// In which form a client would be given that.
    form: Form,
    forward: Forward,
}

impl Found<'_> {
    /// Stored answers that the origin can be asked about: the one that fits, and all that have a tag, since
    /// the one that fits now may be another's (RFC 9111 section 4.3.1).
    fn candidates(&self, generations: &Generations, url: &[u8]) -> Vec<Arc<Entry>> {
        let fits = self.stale.filter(|entry| entry.has_validator());
        let key = self.slot.map(|slot| slot.variants()).unwrap_or_default();
        let others = key.iter().filter(|other| {
            other.head.validators().contains_key(ETAG)
                && self.stale.is_none_or(|fits| !Arc::ptr_eq(fits, other))
                && other.is_left(generations, url)
        });
        fits.into_iter().chain(others).map(Arc::clone).collect()
    }
}

/// Writes the key of a request into `scratch`, and returns how much of it is the URL.
fn key_of(rule: &CacheRule, request: &Request<'_>, scratch: &mut Vec<u8>) -> usize {
    let Request {
        source,
        scheme,
        host,
        path_and_query,
        ..
    } = *request;
    let url_len = key::build(scratch, source, scheme, host, path_and_query);
    key::extend(scratch, rule, request.headers);
    url_len
}

/// Whether a request must not reach the origin (RFC 9111 section 5.2.1.7).
#[must_use]
pub fn forbids_asking(rule: &CacheRule, request: &HeaderMap) -> bool {
    rule.obeys_requests && RequestControl::read(request).only_if_cached
}

fn way(standing: Standing) -> Way {
    match standing {
        Standing::Current => Way::Memory,
        Standing::Stale | Standing::Gone => Way::Purged,
    }
}

/// Whose the answer to a request may be.
fn personal(rule: &CacheRule, request: &Request<'_>) -> Option<Personal> {
    if request.headers.contains_key(AUTHORIZATION) {
        return Some(Personal::Authorization);
    }
    let mut cookies = request.headers.get_all(COOKIE).iter();
    let names = cookies.any(|line| cookies::name_a_user(rule, request.sticky_cookie, line));
    names.then_some(Personal::Cookie)
}

/// What a request asks of a cache.
#[derive(Debug, Clone)]
struct Asked {
    now: Instant,
    control: RequestControl,
    is_conditional: bool,
    /// It asks for parts.
    is_ranged: bool,
    personal: Option<Personal>,
}

impl Asked {
    /// One pass over the fields, since every hit pays for it.
    fn read(rule: &CacheRule, request: &Request<'_>, now: Instant) -> Result<Self, Bypass> {
        if !matches!(*request.method, Method::GET | Method::HEAD) {
            return Err(Bypass::Method);
        }
        let mut has_control = false;
        let mut is_conditional = false;
        let mut is_ranged = false;
        let mut personal = None;
        for (name, value) in request.headers {
            match name.as_str() {
                "range" => is_ranged = *request.method == Method::GET,
                "authorization" => personal = Some(Personal::Authorization),
                "cookie" if personal.is_none() => {
                    let ours = request.sticky_cookie;
                    personal = cookies::name_a_user(rule, ours, value).then_some(Personal::Cookie);
                }
                "if-match" | "if-unmodified-since" => return Err(Bypass::Precondition),
                "upgrade" => return Err(Bypass::Upgrade),
                "transfer-encoding" => return Err(Bypass::RequestBody),
                "content-length" if value.as_bytes() != b"0" => return Err(Bypass::RequestBody),
                "cache-control" | "pragma" => has_control = rule.obeys_requests,
                "if-none-match" | "if-modified-since" => is_conditional = true,
                _ => {}
            }
        }
        let control = if has_control {
            RequestControl::read(request.headers)
        } else {
            Default::default()
        };
        if control.no_store {
            return Err(Bypass::RequestNoStore);
        }
        Ok(Self {
            now,
            control,
            is_conditional,
            is_ranged: is_ranged && range::is_asked(request.headers),
            personal,
        })
    }

    /// What is stored is not for this request: it goes to the origin, if that may be asked.
    fn past(&self, why: Bypass) -> Lookup {
        match self.control.only_if_cached {
            true => Lookup::Unsatisfiable,
            false => Lookup::Bypass(why),
        }
    }

    /// Whether the request may be one user's, so that it is answered only with what is for all.
    /// Cookies do not make it so: of an answer that does not vary by them, the origin says that they do
    /// not matter.
    fn is_personal(&self) -> bool {
        self.personal == Some(Personal::Authorization)
    }

    /// Whether an answer of this age is good enough (RFC 9111 section 5.2.1).
    fn is_answered_by(&self, age: &Ageing, is_fresh: bool) -> bool {
        let RequestControl {
            no_store: _,
            no_cache,
            only_if_cached: _,
            max_age,
            min_fresh,
            max_stale,
            stale_if_error: _,
        } = self.control;
        let is_usable = is_fresh
            || max_stale.is_some_and(|tolerance: MaxStale| age.is_tolerated(self.now, tolerance));
        // A reload says `max-age=0`, which an answer that does not change need not heed (RFC 8246).
        let is_reload = max_age.is_some_and(|most| most.is_zero());
        let is_young = match max_age {
            Some(_) if is_reload => is_fresh && age.is_immutable(),
            Some(most) => age.current(self.now) <= most,
            None => true,
        };
        !no_cache
            && is_usable
            && is_young
            && min_fresh.is_none_or(|least| is_fresh && age.left(self.now) >= least)
    }

    /// Whether a stale answer will do while it is fetched anew.
    fn takes_stale(&self, entry: &Entry, is_fresh: bool, grace: Duration) -> bool {
        !self.control.demands() && !is_fresh && entry.may_serve_while_revalidating(self.now, grace)
    }

    /// Parts are stored as they were sent.
    fn hit_part(&self, entry: &Arc<Entry>, request: &Request<'_>) -> Hit {
        let entry = Arc::clone(entry);
        self.hit(entry, Form::AsSent, request.method, request.headers)
    }

    fn hit(&self, entry: Arc<Entry>, form: Form, method: &Method, headers: &HeaderMap) -> Hit {
        let conditions = (self.is_conditional || self.is_ranged).then_some(headers);
        Hit::new(entry, form, method, conditions)
    }
}
