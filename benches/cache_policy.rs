//! What the cache keeps when it cannot keep everything, beside a plain LRU, moka by itself and what cannot be
//! had without foresight; and how long an insert stalls.
//!
//! Run with `cargo bench --bench cache_policy`; a number behind `--` is the number of requests, ten million
//! without one. The traces are made from a fixed seed: Zipf over a million keys, the same with long scans
//! of keys that never come again, and the same while keys make way for new ones. Every request goes through `Cache::look_up` and, where nothing is stored,
//! through a permit, as the proxy's do; so what is measured is the store as it is configured, with its
//! budget. All caches have room for the same number of answers; moka by itself counts answers instead of
//! bytes. The last column is the share of requests for as many keys as there is room for, the most popular
//! ones at first: as long as they stay so, no cache that must learn them does better. The ratios depend on nothing but the trace (and a little on
//! the keys of hashes); only the stalls depend on the machine.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench that cannot start should say so and stop, and what it finds is printed"
)]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::future::Future as _;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use ahash::RandomState;
use bytes::Bytes;
use headgate::cache::{self, Cache, Lookup, Started};
use headgate::clock::Clock;
use headgate::config::model::{CacheRule, CacheStore};
use headgate::config::units::ByteSize;
use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

const KEYS: u32 = 1_000_000;
const SEED: u64 = 0x5eed;

/// The cumulated weights of keys by their rank.
fn zipf(exponent: f64) -> Vec<f64> {
    let mut sum = 0.0;
    let weight = |rank: u32| {
        sum += f64::from(rank).powf(-exponent);
        sum
    };
    (1..=KEYS).map(weight).collect()
}

fn draw(weights: &[f64], random: &mut fastrand::Rng) -> u32 {
    let total = weights.last().copied().unwrap_or_default();
    let point = random.f64() * total;
    u32::try_from(weights.partition_point(|sum| *sum < point)).unwrap()
}

/// What is asked for beside popularity.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    /// Nothing: each key stays as popular as it is.
    None,
    /// Every other request is at times part of a scan of keys that never come again.
    Scans,
    /// A tenth of the keys makes way for new ones every half million requests.
    Drift,
}

fn trace(exponent: f64, change: Change, count: usize) -> Vec<u32> {
    const SCAN: u32 = 10_000;
    const SEASON: usize = 500_000;
    let weights = zipf(exponent);
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut names: Vec<u32> = (0..KEYS).collect();
    let mut next = KEYS;
    let mut left = 0;
    let mut trace = Vec::with_capacity(count);
    while trace.len() < count {
        if change == Change::Scans && left == 0 && random.u32(..2 * SCAN) == 0 {
            left = 2 * SCAN;
        }
        if change == Change::Drift && trace.len() % SEASON == SEASON - 1 {
            for name in names.iter_mut().filter(|_| random.u32(..10) == 0) {
                *name = next;
                next += 1;
            }
        }
        // Within a scan every other request is still somebody's.
        if left > 0 && left % 2 == 0 {
            trace.push(next);
            next += 1;
        } else {
            let rank = usize::try_from(draw(&weights, &mut random)).unwrap();
            trace.push(names[rank]);
        }
        left = left.saturating_sub(1);
    }
    trace
}

/// The keys that were used last, in a list through an arena.
struct Lru {
    places: HashMap<u32, usize, RandomState>,
    /// Key, newer, older.
    nodes: Vec<(u32, usize, usize)>,
    newest: usize,
    oldest: usize,
    capacity: usize,
}

const NONE: usize = usize::MAX;

impl Lru {
    fn new(capacity: usize) -> Self {
        Self {
            places: HashMap::default(),
            nodes: Vec::new(),
            newest: NONE,
            oldest: NONE,
            capacity,
        }
    }

    /// Whether it held the key; it does now.
    fn asks(&mut self, key: u32) -> bool {
        let known = self.places.get(&key).copied();
        let place = match known {
            Some(place) => {
                self.unlink(place);
                place
            }
            None if self.nodes.len() < self.capacity => {
                self.nodes.push((key, NONE, NONE));
                self.nodes.len() - 1
            }
            None => {
                let place = self.oldest;
                self.unlink(place);
                self.places.remove(&self.nodes[place].0);
                place
            }
        };
        self.nodes[place] = (key, NONE, self.newest);
        if let Some(before) = self.nodes.get_mut(self.newest) {
            before.1 = place;
        }
        self.newest = place;
        if self.oldest == NONE {
            self.oldest = place;
        }
        self.places.insert(key, place);
        known.is_some()
    }

    fn unlink(&mut self, place: usize) {
        let (_, newer, older) = self.nodes[place];
        match self.nodes.get_mut(newer) {
            Some(node) => node.2 = older,
            None => self.newest = older,
        }
        match self.nodes.get_mut(older) {
            Some(node) => node.1 = newer,
            None => self.oldest = newer,
        }
    }
}

/// A client of the cache and its origin in one.
struct Gate {
    cache: Arc<Cache>,
    rule: Arc<CacheRule>,
    fresh: HeaderMap,
    asked: HeaderMap,
    body: Bytes,
    path: String,
    scratch: Vec<u8>,
}

impl Gate {
    fn new(memory: u64) -> Self {
        let config = CacheStore {
            memory: ByteSize(memory),
            max_object: ByteSize(1 << 20),
            disk: None,
            startup_grace: Duration::ZERO,
        };
        Self::on(Cache::new(&config, Clock::default()), 64)
    }

    fn on(cache: Arc<Cache>, length: usize) -> Self {
        let mut fresh = HeaderMap::new();
        fresh.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=86400"));
        Self {
            cache,
            rule: Arc::default(),
            fresh,
            asked: HeaderMap::new(),
            body: Bytes::from(vec![b'x'; length]),
            path: String::new(),
            scratch: Vec::new(),
        }
    }

    /// Whether the cache had an answer; otherwise it has been offered one.
    fn asks(&mut self, key: u32) -> bool {
        self.path.clear();
        write!(self.path, "/products/{key:08}").unwrap();
        let request = cache::Request {
            source: "shop",
            method: &Method::GET,
            scheme: "http",
            host: b"shop.example",
            path_and_query: &self.path,
            headers: &self.asked,
            sticky_cookie: None,
        };
        let found = self
            .cache
            .look_up(&self.rule, &request, Instant::now(), &mut self.scratch);
        match found {
            Lookup::Hit(_) => true,
            Lookup::Fill(permit) => {
                let length = self.body.len() as u64;
                if let Started::Filling(mut filler) =
                    permit.start(StatusCode::OK, &self.fresh, Some(length))
                {
                    let pushed =
                        pin!(filler.push(&self.body)).poll(&mut Context::from_waker(Waker::noop()));
                    assert!(pushed.is_ready());
                    filler.finish();
                }
                false
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Bytes that one stored answer takes.
fn charge() -> u64 {
    const SAMPLE: u32 = 1000;
    let mut gate = Gate::new(64 << 20);
    for key in 0..SAMPLE {
        gate.asks(key);
    }
    gate.cache.stats().bytes / u64::from(SAMPLE)
}

fn percent(hits: usize, of: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    let ratio = hits as f64 / of as f64;
    ratio * 100.0
}

fn ratios(count: usize) {
    let charge = charge();
    println!("{count} requests for {KEYS} keys, {charge} bytes an answer; hits in percent\n");
    println!("| trace | room for | Headgate | LRU | difference | moka alone | most popular |");
    println!("|---|---|---|---|---|---|---|");
    for (name, exponent, change) in [
        ("Zipf 0.9", 0.9, Change::None),
        ("Zipf 1.0", 1.0, Change::None),
        ("Zipf 1.0 with scans", 1.0, Change::Scans),
        ("Zipf 1.0 that drifts", 1.0, Change::Drift),
    ] {
        let trace = trace(exponent, change, count);
        for part in [100, 10] {
            let room = KEYS / part;
            // The store evicts at seven eighths of `memory`.
            let mut gate = Gate::new(charge * u64::from(room) * 8 / 7);
            let mut lru = Lru::new(room as usize);
            let moka = moka::sync::Cache::new(u64::from(room));
            let (mut ours, mut plain, mut alone, mut popular) = (0, 0, 0, 0);
            for key in &trace {
                ours += usize::from(gate.asks(*key));
                plain += usize::from(lru.asks(*key));
                alone += usize::from(moka.get(key).is_some());
                if !moka.contains_key(key) {
                    moka.insert(*key, ());
                }
                popular += usize::from(*key < room);
            }
            let [ours, plain, alone, popular] =
                [ours, plain, alone, popular].map(|hits| percent(hits, count));
            let difference = ours - plain;
            println!(
                "| {name} | {} % | {ours:.1} | {plain:.1} | {difference:+.1} | {alone:.1} | {popular:.1} |",
                100 / part
            );
        }
    }
}

/// How long inserts take into a cache that is full: on a thread by itself, and beside another that does nothing
/// else. Of both times the thread's own tells what an insert does, and the clock's also what it waits for, which
/// on a busy machine is mostly its turn.
fn stalls() {
    const INSERTS: u32 = 1_000_000;
    println!(
        "\n| body | threads | inserts | clock: half under | 99.9 % | longest | own: half under | 99.9 % | longest |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (length, inserts) in [(1 << 10, INSERTS), (64 << 10, INSERTS / 10)] {
        for threads in [1, 2] {
            let config = CacheStore {
                memory: ByteSize(64 << 20),
                max_object: ByteSize(1 << 20),
                disk: None,
                startup_grace: Duration::ZERO,
            };
            let cache = Cache::new(&config, Clock::default());
            let mut gate = Gate::on(Arc::clone(&cache), length);
            (1 << 30..(1 << 30) + INSERTS / 10).for_each(|key| {
                gate.asks(key);
            });
            let ended = AtomicBool::new(threads == 1);
            let (clock, own) = std::thread::scope(|scope| {
                let mut other = Gate::on(Arc::clone(&cache), length);
                let ended = &ended;
                scope.spawn(move || {
                    let mut key = 1 << 31;
                    while !ended.load(Ordering::Relaxed) {
                        other.asks(key);
                        key += 1;
                    }
                });
                let times = (0..inserts).map(|key| timed(|| gate.asks(key)));
                let times: (Vec<_>, Vec<_>) = times.unzip();
                ended.store(true, Ordering::Relaxed);
                times
            });
            let (clock, own) = (spread(clock), spread(own));
            let kibibytes = length >> 10;
            println!("| {kibibytes} KiB | {threads} | {inserts} | {clock} | {own} |");
        }
    }
}

/// How long it takes by the clock and of the thread's own time.
fn timed(what: impl FnOnce() -> bool) -> (Duration, Duration) {
    let own = || {
        let spent = clock_gettime(ClockId::ThreadCPUTime);
        Duration::try_from(spent).unwrap()
    };
    let (spent, began) = (own(), Instant::now());
    what();
    let took = began.elapsed();
    (took, own() - spent)
}

/// Half, all but a thousandth, and all of them are under these.
fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |part: usize| times[times.len() * part / 1000 - 1];
    format!("{:.1?} | {:.1?} | {:.1?}", at(500), at(999), at(1000))
}

fn main() {
    let count = std::env::args().find_map(|word| word.parse().ok());
    ratios(count.unwrap_or(10_000_000));
    stalls();
}
