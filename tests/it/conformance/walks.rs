//! Random requests, answers and times against the cache, watched by `model`.
//!
//! Most of them go to the cache as the proxy does, through `look_up` and its permits; some through sockets.
//! A failure names its seed: `HEADGATE_WALK=7 cargo test walks` walks that one alone, `HEADGATE_WALKS=9999` many.

use std::future::Future as _;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use headgate::cache::{
    self, Cache, Failure, Filled, Lookup, Outcome, Permit, Revalidated, Started,
};
use headgate::clock::{Ahead, Clock};
use headgate::config::model::{CacheRule, CacheStore};
use headgate::config::units::ByteSize;
use http::{HeaderMap, Method, StatusCode};
use parking_lot::Mutex;

use super::date;
use super::model::{Asked, Failing, World};
use crate::harness::{Origin, Reply, Request, Timed};

const STEPS: usize = 80;

/// The walks to take: a fixed number or as many as are asked for, and one that nobody has taken before; or
/// the one that is asked for.
fn seeds(count: u64) -> Vec<u64> {
    let asked = |name| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse::<u64>().unwrap())
    };
    match asked("HEADGATE_WALK") {
        Some(seed) => vec![seed],
        None => (0..asked("HEADGATE_WALKS").unwrap_or(count))
            .chain([fastrand::u64(1 << 32..)])
            .collect(),
    }
}

fn fields(asked: &Asked) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let mut add = |name, value: &str| lines.push((name, value.to_owned()));
    if let Some(language) = asked.language {
        add("accept-language", language);
    }
    if let Some(kind) = asked.kind {
        add("x-kind", kind);
    }
    if asked.authorized {
        add("authorization", "Bearer x");
    }
    if asked.cookie {
        add("cookie", "session=1");
    }
    let mut directives = Vec::new();
    if asked.no_cache {
        directives.push("no-cache".to_owned());
    }
    if asked.only_if_cached {
        directives.push("only-if-cached".to_owned());
    }
    let numbers = [
        ("max-age", asked.max_age),
        ("min-fresh", asked.min_fresh),
        ("stale-if-error", asked.if_error),
    ];
    for (name, number) in numbers {
        directives.extend(number.map(|number| format!("{name}={number}")));
    }
    match asked.max_stale {
        Some(Some(most)) => directives.push(format!("max-stale={most}")),
        Some(None) => directives.push("max-stale".to_owned()),
        None => {}
    }
    if !directives.is_empty() {
        add("cache-control", &directives.join(", "));
    }
    lines
}

fn map(lines: &[(&'static str, String)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, value.parse().unwrap());
    }
    headers
}

fn number(headers: &HeaderMap) -> usize {
    headers["x-number"].to_str().unwrap().parse().unwrap()
}

/// How a walk meets the cache.
struct Walker {
    cache: Arc<Cache>,
    ahead: Ahead,
    rule: Arc<CacheRule>,
    world: World,
    hits: usize,
}

impl Walker {
    fn new(seed: u64) -> Self {
        let (clock, ahead) = Clock::adjustable();
        let config = CacheStore {
            memory: ByteSize(64 << 20),
            max_object: ByteSize(1 << 20),
            disk: None,
            startup_grace: Duration::ZERO,
        };
        Self {
            cache: Cache::new(&config, clock),
            ahead,
            rule: Arc::default(),
            world: World::new(seed),
            hits: 0,
        }
    }

    fn pass(&mut self, seconds: i64) {
        self.world.now += seconds;
        self.ahead
            .advance(Duration::from_secs(seconds.unsigned_abs()));
    }

    /// Dates by the cache's own clock, whose time is the model's.
    fn dated(&self) -> impl Fn(i64) -> String + use<> {
        let wall = self.cache.clock().wall();
        move |seconds| {
            let away = Duration::from_secs(seconds.unsigned_abs());
            httpdate::fmt_http_date(if seconds < 0 {
                wall - away
            } else {
                wall + away
            })
        }
    }

    fn step(&mut self) -> Result<(), String> {
        if self.world.random.u8(..3) == 0 {
            let seconds = self.world.random.i64(1..40);
            self.pass(seconds);
        }
        let asked = self.world.request();
        let path = format!("/{}", asked.path);
        if self.world.random.u8(..25) == 0 {
            let mut scratch = Vec::new();
            self.cache
                .invalidate("shop", "http", b"shop", &path, &mut scratch);
            self.world.was_written(asked.path);
            return Ok(());
        }
        let headers = map(&fields(&asked));
        let request = cache::Request {
            source: "shop",
            method: if asked.is_head {
                &Method::HEAD
            } else {
                &Method::GET
            },
            scheme: "http",
            host: b"shop",
            path_and_query: &path,
            headers: &headers,
            sticky_cookie: None,
        };
        let now = self.cache.clock().now();
        let found = self
            .cache
            .look_up(&self.rule, &request, now, &mut Vec::new());
        if let Some(expected) = self.world.should_hit(&asked)
            && !matches!(found, Lookup::Hit(_))
        {
            return Err(format!(
                "{expected} was not served to {asked:?} but {found:?}"
            ));
        }
        match found {
            Lookup::Hit(hit) => self.served(hit, &asked),
            Lookup::Stale(hit, refresh) => {
                self.served(hit, &asked)?;
                match refresh {
                    Some(permit) => self.fetch(permit, &asked),
                    None => Ok(()),
                }
            }
            Lookup::Fill(permit) if asked.only_if_cached => {
                Err(format!("{permit:?} for {asked:?}"))
            }
            Lookup::Fill(permit) => self.fetch(permit, &asked),
            Lookup::Bypass(why) if asked.only_if_cached => Err(format!("{why:?} for {asked:?}")),
            Lookup::Bypass(_) => Ok(()),
            Lookup::Unsatisfiable if !asked.only_if_cached => Err(format!("504 for {asked:?}")),
            Lookup::Part(_) | Lookup::StalePart(..) | Lookup::Recall(_) => {
                unreachable!("nobody asks for a part, and there is no disk")
            }
            Lookup::Unsatisfiable => Ok(()),
            Lookup::Wait(_) => Err("there is nobody else to wait for".to_owned()),
        }
    }

    fn served(&mut self, hit: cache::Hit, asked: &Asked) -> Result<(), String> {
        let (_, headers, _) = hit.into_parts(self.cache.clock().now());
        self.hits += 1;
        self.world.may_serve(number(&headers), asked, Failing::No)
    }

    /// What an origin does when it is asked.
    fn fetch(&mut self, permit: Permit, asked: &Asked) -> Result<(), String> {
        let waiter = permit.waiter();
        let failing = match self.world.random.u8(..10) {
            0 => Failing::Unreachable,
            1 => Failing::Answers,
            _ => Failing::No,
        };
        let mut sent = HeaderMap::new();
        permit.prepare(&mut sent);
        let tags = sent
            .get("if-none-match")
            .map_or("", |tags| tags.to_str().unwrap());
        let mut fresh = None;
        match failing {
            Failing::Unreachable => drop(permit.fall_back(Failure::Unreachable, None)),
            Failing::Answers => {
                drop(permit.start(StatusCode::BAD_GATEWAY, &HeaderMap::new(), Some(0)));
            }
            Failing::No => fresh = self.answer(permit, asked, tags)?,
        }
        let outcome = pin!(waiter).poll(&mut Context::from_waker(Waker::noop()));
        match outcome {
            Poll::Ready(Outcome::Shared(answer)) => {
                let number = number(&answer.headers);
                match fresh {
                    Some(fresh) if fresh == number => Ok(()),
                    Some(fresh) => Err(format!("{number} in the place of {fresh}")),
                    None => self.world.may_serve(number, asked, failing),
                }
            }
            Poll::Ready(Outcome::Released(_) | Outcome::Failed) => Ok(()),
            Poll::Ready(Outcome::Varies | Outcome::FailedForUser(_)) => {
                Err("its own answer is for another".to_owned())
            }
            Poll::Pending => Err("nobody will wake it".to_owned()),
        }
    }

    /// The number of what the origin said, whole or that something holds.
    fn answer(
        &mut self,
        permit: Permit,
        asked: &Asked,
        tags: &str,
    ) -> Result<Option<usize>, String> {
        let dated = self.dated();
        let mut permit = permit;
        if let Some((number, said)) = self.world.confirm(asked, tags) {
            let lines = said.lines(number, &mut self.world.random, &dated);
            match permit.complete_not_modified(&map(&lines)) {
                Revalidated::Confirmed => {
                    self.world.was_confirmed(number);
                    return Ok(Some(number));
                }
                Revalidated::Mismatch(again) => permit = again,
            }
        }
        let (number, said) = self.world.answer(asked);
        let lines = said.lines(number, &mut self.world.random, &dated);
        let status = StatusCode::from_u16(said.status).unwrap();
        if let Started::Filling(mut filler) = permit.start(status, &map(&lines), Some(4)) {
            let pushed = pin!(filler.push(&Bytes::from_static(b"body")))
                .poll(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(pushed, Poll::Ready(Ok(()))));
            if filler.finish() == Filled::Stored {
                self.world.was_stored(number)?;
            }
        }
        Ok(Some(number))
    }
}

#[test]
fn whatever_is_asked_and_answered_the_cache_serves_only_what_the_model_allows() {
    let mut hits = 0;
    for seed in seeds(400) {
        let mut walker = Walker::new(seed);
        for step in 0..STEPS {
            if let Err(fault) = walker.step() {
                panic!("HEADGATE_WALK={seed}, step {step}: {fault}");
            }
        }
        hits += walker.hits;
    }
    println!("{hits} answers from memory were checked");
}

#[tokio::test]
async fn through_sockets_too_only_what_the_model_allows_is_served() {
    for seed in seeds(3) {
        let mut world = World::new(seed);
        world.is_busy = false;
        let world = Arc::new(Mutex::new(world));
        let asking: Arc<Mutex<Asked>> = Arc::default();
        let ahead: Arc<Mutex<i64>> = Arc::default();
        let (said, of, time) = (Arc::clone(&world), Arc::clone(&asking), Arc::clone(&ahead));
        let origin = Origin::start("a").await.on("*", move |seen| {
            let (mut world, asked) = (said.lock(), of.lock().clone());
            let away = *time.lock();
            if seen.method == "POST" {
                return Reply::new(204);
            }
            let tags = seen.header("if-none-match").unwrap_or_default().to_owned();
            let (number, said, status) = match world.confirm(&asked, &tags) {
                Some((number, said)) => (number, said, 304),
                None => {
                    let (number, said) = world.answer(&asked);
                    let status = said.status;
                    (number, said, status)
                }
            };
            let lines = said.lines(number, &mut world.random, |seconds| date(seconds + away));
            let reply = match status {
                304 => Reply::new(304),
                status => Reply::new(status).body(number.to_string()),
            };
            lines
                .iter()
                .fold(reply, |reply, (name, value)| reply.header(name, value))
        });
        let gate = Timed::caching(&origin, "").await;
        for step in 0..STEPS {
            let seconds = world.lock().random.i64(0..40);
            world.lock().now += seconds;
            *ahead.lock() += seconds;
            gate.advance(seconds.unsigned_abs());
            let asked = world.lock().request();
            asking.lock().clone_from(&asked);
            let path = format!("/{}", asked.path);
            if world.lock().random.u8(..25) == 0 {
                gate.send(&Request::post(&path, "x")).await.expect(204);
                world.lock().was_written(asked.path);
                continue;
            }
            let before = origin.requests("*");
            let method = if asked.is_head { "HEAD" } else { "GET" };
            let request = fields(&asked)
                .iter()
                .fold(Request::new(method, &path), |request, (name, value)| {
                    request.header(name, value)
                });
            let answer = gate.send(&request).await;
            let Some(number) = answer.header("x-number") else {
                assert!(
                    asked.only_if_cached,
                    "HEADGATE_WALK={seed}, step {step}: {answer:?}"
                );
                continue;
            };
            let number: usize = number.parse().unwrap();
            let mut world = world.lock();
            let checked = match answer.is_hit() {
                true => world.may_serve(number, &asked, Failing::No),
                false if answer.cache().contains("stored") => world.was_stored(number),
                false if answer.cache().contains("fwd-status=304") => {
                    world.was_confirmed(number);
                    Ok(())
                }
                false => Ok(()),
            };
            assert!(
                !asked.only_if_cached || origin.requests("*") == before,
                "HEADGATE_WALK={seed}, step {step}: {asked:?} went on"
            );
            if let Err(fault) = checked {
                panic!("HEADGATE_WALK={seed}, step {step}: {fault}");
            }
        }
    }
}
