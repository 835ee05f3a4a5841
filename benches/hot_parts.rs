//! The parts of a request's road that every request pays for, each by itself: finding a route,
//! picking an endpoint, a cache hit from look-up to answer's head, and a purge of very many answers.
//!
//! Run with `cargo bench --bench hot_parts`. Figures are of one core and only tell one version of
//! the code from another; `compare` is what compares with others.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench that cannot start should say so and stop; one figure is of a single walk"
)]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use headgate::balancer::{Member, Pool, Registry};
use headgate::cache::{self, Cache, Lookup, Started};
use headgate::config::model::{Balance, CacheRule, CacheStore, Config};
use headgate::config::units::ByteSize;
use headgate::{config, health, router};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::time::Instant;

/// A config of `count` routes by host and prefix, and one with captures.
fn config(count: usize) -> Config {
    let mut text = String::from(
        "listeners: [{ address: 127.0.0.1:0 }]\nupstreams: { shop: { endpoints: [127.0.0.1:9] } }\nroutes:\n",
    );
    for index in 0..count {
        text.push_str(&format!(
            "  - {{ name: r{index}, match: {{ host: h{}.example, path_prefix: /p{index} }}, upstream: shop }}\n",
            index % 100
        ));
    }
    text.push_str(
        "  - { name: orders, match: { path: \"/users/{user}/orders/{order}\" }, upstream: shop }\n",
    );
    config::parse(&text, Path::new("bench.yaml"))
        .unwrap()
        .config
}

fn routing(criterion: &mut Criterion) {
    let headers = HeaderMap::new();
    for count in [1, 10_000] {
        let table = router::Table::new(&config(count).routes);
        let find = |host, path| {
            table.find(&router::Request {
                method: &Method::GET,
                host,
                path,
                query: None,
                headers: &headers,
            })
        };
        criterion.bench_function(&format!("route by prefix, {count} routes"), |bencher| {
            bencher.iter(|| find(black_box("h0.example"), black_box("/p0/some/where")).unwrap());
        });
        criterion.bench_function(&format!("route by captures, {count} routes"), |bencher| {
            bencher.iter(|| find(black_box("shop.example"), black_box("/users/42/orders/7")));
        });
    }
}

fn picking(criterion: &mut Criterion) {
    for balance in [
        Balance::LeastConnections,
        Balance::RoundRobin,
        Balance::Random,
    ] {
        for count in [3, 50] {
            let (endpoints, health) = (Registry::default(), health::Registry::default());
            let upstream: Arc<str> = "shop".into();
            let members = (0..count)
                .map(|index| {
                    let address: Arc<str> = format!("127.0.0.1:{}", 9000 + index).into();
                    let socket = address.parse::<std::net::SocketAddr>().unwrap().into();
                    Member {
                        endpoint: endpoints.endpoint(&upstream, &address, &socket),
                        status: health.status(&upstream, &address, None),
                        weight: 1,
                    }
                })
                .collect();
            let pool = Pool::new(balance, members, None);
            criterion.bench_function(&format!("pick {balance:?}, {count} endpoints"), |bencher| {
                bencher.iter(|| pool.pick(std::iter::empty(), None, black_box(1)).unwrap());
            });
        }
    }
}

fn cache_hit(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let store = CacheStore {
        memory: ByteSize(64 << 20),
        max_object: ByteSize(1 << 20),
        disk: None,
        startup_grace: std::time::Duration::ZERO,
    };
    let cache = Cache::new(&store, headgate::clock::Clock::default());
    let rule = Arc::new(CacheRule::default());
    let mut asked = HeaderMap::new();
    asked.insert("host", HeaderValue::from_static("shop.example"));
    asked.insert("accept", HeaderValue::from_static("*/*"));
    let request = cache::Request {
        source: "shop",
        method: &Method::GET,
        scheme: "http",
        host: b"shop.example",
        path_and_query: "/products/1",
        headers: &asked,
        sticky_cookie: None,
    };
    let mut scratch = Vec::new();
    let Lookup::Fill(permit) = cache.look_up(&rule, &request, Instant::now(), &mut scratch) else {
        unreachable!("nothing is stored yet")
    };
    let mut head = HeaderMap::new();
    for (name, value) in [
        ("content-type", "application/json"),
        ("cache-control", "max-age=3600"),
        ("etag", "\"1\""),
        ("content-length", "1024"),
        ("via", "1.1 headgate"),
    ] {
        head.insert(name, HeaderValue::from_static(value));
    }
    let now = Instant::now();
    let Started::Filling(mut filler) = permit.start(StatusCode::OK, &head, Some(1024)) else {
        unreachable!("the answer may be stored")
    };
    runtime
        .block_on(filler.push(&vec![b'x'; 1024].into()))
        .unwrap();
    filler.finish();
    criterion.bench_function("cache hit, 1 kB", |bencher| {
        bencher.iter(|| match cache.look_up(&rule, &request, now, &mut scratch) {
            Lookup::Hit(hit) => hit.into_parts(now),
            other => unreachable!("{other:?}"),
        });
    });
}

/// As many answers as a large shop has products, all with one tag.
const TAGGED: usize = 100_000;

fn purging(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let store = CacheStore {
        memory: ByteSize(1 << 30),
        max_object: ByteSize(1 << 20),
        disk: None,
        startup_grace: std::time::Duration::ZERO,
    };
    let cache = Cache::new(&store, headgate::clock::Clock::default());
    let rule = Arc::new(CacheRule::default());
    let paths: Vec<String> = (0..TAGGED).map(|number| format!("/p/{number}")).collect();
    let asked = HeaderMap::new();
    let mut head = HeaderMap::new();
    head.insert("cache-control", HeaderValue::from_static("max-age=3600"));
    head.insert(
        "surrogate-key",
        HeaderValue::from_static("catalogue products"),
    );
    let mut scratch = Vec::new();
    let now = Instant::now();
    let mut look_up = |path: &str| {
        let request = cache::Request {
            source: "shop",
            method: &Method::GET,
            scheme: "http",
            host: b"shop.example",
            path_and_query: path,
            headers: &asked,
            sticky_cookie: None,
        };
        cache.look_up(&rule, &request, now, &mut scratch)
    };
    for path in &paths {
        let Lookup::Fill(permit) = look_up(path) else {
            unreachable!("nothing is stored yet")
        };
        let Started::Filling(mut filler) = permit.start(StatusCode::OK, &head, Some(64)) else {
            unreachable!("the answer may be stored")
        };
        runtime
            .block_on(filler.push(&vec![b'x'; 64].into()))
            .unwrap();
        filler.finish();
    }
    let tag = cache::Selector::Tag("catalogue");
    let stored = cache.sweep(&[(cache.select(&[tag]), None)]);
    assert_eq!(stored.answers, [TAGGED as u64], "all of them are stored");
    let mut turn = 0..;
    let mut path = || &*paths[turn.next().unwrap_or(0) % TAGGED];
    criterion.bench_function("look-up, one of 100,000 tagged", |bencher| {
        bencher.iter(|| look_up(path()));
    });
    cache
        .purge(&cache::Selector::Tag("other"), cache::Strength::Hard)
        .unwrap();
    criterion.bench_function("the same after a purge of another tag", |bencher| {
        bencher.iter(|| look_up(path()));
    });
    criterion.bench_function("soft purge of a tag of 100,000", |bencher| {
        bencher.iter(|| cache.purge(&tag, cache::Strength::Soft));
    });
    criterion.bench_function("hard purge of a tag of 100,000", |bencher| {
        bencher.iter(|| cache.purge(&tag, cache::Strength::Hard));
    });
    criterion.bench_function("look-up after the purge", |bencher| {
        bencher.iter(|| match look_up(path()) {
            Lookup::Fill(permit) => permit,
            other => unreachable!("{other:?}"),
        });
    });
    let began = Instant::now();
    let swept = cache.sweep(&[]);
    println!("{} keys swept in {:?}", swept.keys, began.elapsed());
}

criterion_group!(hot_parts, routing, picking, cache_hit, purging);
criterion_main!(hot_parts);
