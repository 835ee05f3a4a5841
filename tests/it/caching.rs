//! What is answered from memory, what is asked for again, and what is never kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use crate::harness::{Config, Gate, Latch, Origin, Reply, Request, eventually};

const FRESH: &str = "max-age=3600";

fn fresh(body: &str) -> Reply {
    Reply::ok(body).header("cache-control", FRESH)
}

#[tokio::test]
async fn a_second_request_is_answered_from_memory() {
    let origin = Origin::start("a")
        .await
        .on("/p", |_| fresh("p").header("x-kept", "yes"));
    let gate = Gate::start(&Config::cached(&[&origin])).await;

    let first = gate.get("/p").await.expect(200);
    let second = gate.get("/p").await.expect(200);

    assert_eq!(first.cache(), "headgate; fwd=uri-miss; stored");
    assert!(
        second.cache().starts_with("headgate; hit; ttl="),
        "{}",
        second.cache()
    );
    assert_eq!((second.text(), second.header("x-kept")), ("p", Some("yes")));
    let age: u64 = second.header("age").expect("an age").parse().unwrap();
    assert!(age < 3600);
    assert_ne!(first.header("x-request-id"), second.header("x-request-id"));
    assert_eq!(origin.requests("/p"), 1);
    let hits = [("route", "shop"), ("result", "hit")];
    gate.until("headgate_cache_requests_total", &hits, 1.0)
        .await;
}

#[tokio::test]
async fn a_head_is_answered_from_a_stored_get() {
    let origin = Origin::start("a").await.on("/p", |_| fresh("12345"));
    let gate = Gate::start(&Config::cached(&[&origin])).await;

    gate.get("/p").await.expect(200);
    let head = gate.send(&Request::new("HEAD", "/p")).await.expect(200);

    assert!(head.is_hit(), "{}", head.cache());
    assert_eq!(
        (head.header("content-length"), origin.requests("/p")),
        (Some("5"), 1)
    );
}

#[tokio::test]
async fn hosts_and_queries_are_kept_apart() {
    let origin = Origin::start("a").await.on("/p", |seen| {
        fresh(&format!("{} {}", seen.header("host").unwrap(), seen.target))
    });
    let gate = Gate::start(&Config::cached(&[&origin])).await;

    for _ in 0..2 {
        for (host, target) in [
            ("one.test", "/p"),
            ("two.test", "/p"),
            ("one.test", "/p?x=1"),
        ] {
            let answer = gate
                .send(&Request::get(target).header("host", host))
                .await
                .expect(200);
            assert_eq!(answer.text(), format!("{host} {target}"));
        }
    }

    assert_eq!(origin.requests("/p"), 3);
}

#[tokio::test]
async fn spellings_of_one_host_share_what_is_stored() {
    let origin = Origin::start("a").await.on("/p", |_| fresh("p"));
    let gate = Gate::start(&Config::cached(&[&origin])).await;

    gate.get("/p").await.expect(200);
    for (host, same) in [
        ("SHOP.test", true),
        ("shop.test:80", true),
        ("shop.test:81", false),
    ] {
        let answer = gate
            .send(&Request::get("/p").header("host", host))
            .await
            .expect(200);
        assert_eq!(answer.is_hit(), same, "{host}");
    }
    // A write under one spelling is a write under all.
    gate.send(
        &Request::new("PUT", "/p")
            .header("host", "Shop.Test:80")
            .body("x"),
    )
    .await
    .expect(200);
    assert!(!gate.get("/p").await.expect(200).is_hit());
}

#[tokio::test]
async fn variants_are_kept_apart_by_the_fields_that_vary_names() {
    let origin = Origin::start("a").await.on("/p", |seen| {
        fresh(seen.header("accept-language").unwrap_or("none")).header("vary", "Accept-Language")
    });
    let gate = Gate::start(&Config::cached(&[&origin])).await;

    for round in 0..2 {
        for language in ["en", "de", "fr"] {
            let request = Request::get("/p").header("accept-language", language);
            let answer = gate.send(&request).await.expect(200);
            assert_eq!((answer.text(), answer.is_hit()), (language, round == 1));
        }
    }

    assert_eq!(origin.requests("/p"), 3);
}

#[tokio::test]
async fn a_client_that_has_it_already_is_told_so_from_memory() {
    let modified = "Tue, 01 Sep 2026 00:00:00 GMT";
    let origin = Origin::start("a").await.on("/p", move |_| {
        fresh("p")
            .header("etag", "\"v1\"")
            .header("last-modified", modified)
    });
    let gate = Gate::start(&Config::cached(&[&origin])).await;
    gate.get("/p").await.expect(200);

    for (name, value, status) in [
        ("if-none-match", "\"v1\"", 304),
        ("if-none-match", "\"v0\", W/\"v1\"", 304),
        ("if-none-match", "*", 304),
        ("if-none-match", "\"v2\"", 200),
        ("if-modified-since", modified, 304),
        ("if-modified-since", "Mon, 31 Aug 2026 00:00:00 GMT", 200),
    ] {
        let answer = gate
            .send(&Request::get("/p").header(name, value))
            .await
            .expect(status);
        assert_eq!(answer.header("etag"), Some("\"v1\""), "{name}: {value}");
        assert!(
            answer.is_hit() && answer.body.is_empty() == (status == 304),
            "{name}: {value}"
        );
    }

    assert_eq!(origin.requests("/p"), 1);
}

#[tokio::test]
async fn what_is_stale_is_confirmed_or_replaced_by_the_origin() {
    let changed = Arc::new(AtomicBool::new(false));
    let now = Arc::clone(&changed);
    let origin = Origin::start("a").await.on("/p", move |seen| {
        let (tag, body) = if now.load(SeqCst) {
            ("\"v2\"", "new")
        } else {
            ("\"v1\"", "old")
        };
        let status = if seen.header("if-none-match") == Some(tag) {
            304
        } else {
            200
        };
        let reply = Reply::new(status)
            .header("cache-control", "s-maxage=0")
            .header("etag", tag);
        if status == 304 {
            reply
        } else {
            reply.body(body)
        }
    });
    let gate = Gate::start(&Config::cached(&[&origin])).await;

    assert_eq!(gate.get("/p").await.expect(200).text(), "old");
    let confirmed = gate.get("/p").await.expect(200);
    assert_eq!(confirmed.text(), "old");
    assert_eq!(confirmed.cache(), "headgate; fwd=stale; fwd-status=304");
    assert_eq!(origin.last("/p").header("if-none-match"), Some("\"v1\""));
    changed.store(true, SeqCst);
    let replaced = gate.get("/p").await.expect(200);
    assert_eq!(
        (replaced.text(), replaced.header("etag")),
        ("new", Some("\"v2\""))
    );
    assert_eq!(gate.get("/p").await.expect(200).text(), "new");

    assert_eq!(origin.requests("/p"), 4);
    let labels = [("route", "shop"), ("result", "revalidated")];
    gate.until("headgate_cache_requests_total", &labels, 2.0)
        .await;
}

#[tokio::test]
async fn what_may_be_personal_is_never_kept() {
    let origin = Origin::start("a")
        .await
        .on("/no-store", |_| {
            Reply::ok("p").header("cache-control", "no-store, max-age=60")
        })
        .on("/private", |_| {
            Reply::ok("p").header("cache-control", "private, max-age=60")
        })
        .on("/set-cookie", |_| fresh("p").header("set-cookie", "id=1"))
        .on("/vary", |_| fresh("p").header("vary", "*"))
        .on("/authorization", |_| fresh("p"));
    let gate = Gate::start(&Config::cached(&[&origin])).await;

    for (path, field) in [
        ("/no-store", ("x", "")),
        ("/private", ("x", "")),
        ("/set-cookie", ("x", "")),
        ("/vary", ("x", "")),
        ("/authorization", ("authorization", "Bearer x")),
    ] {
        for _ in 0..3 {
            let answer = gate
                .send(&Request::get(path).header(field.0, field.1))
                .await
                .expect(200);
            assert!(!answer.is_hit(), "{path}: {}", answer.cache());
            let reason = format!("detail={}", &path[1..]);
            let said =
                answer.cache().contains(&reason) || answer.cache().contains("detail=uncacheable");
            assert!(said, "{path}: {}", answer.cache());
        }
        assert_eq!(origin.requests(path), 3, "{path}");
    }
}

#[tokio::test]
async fn each_of_many_is_answered_by_itself_when_the_answer_is_not_to_be_shared() {
    let latch = Latch::new();
    let wait = latch.clone();
    let number = AtomicUsize::new(0);
    let origin = Origin::start("a").await.on("/p", move |_| {
        let number = number.fetch_add(1, SeqCst);
        Reply::ok(format!("for {number} alone"))
            .header("set-cookie", "id=1")
            .after(&wait)
    });
    let gate = Gate::start(&Config::cached(&[&origin])).await;

    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(gate.begin(&Request::get("/p")).await);
    }
    gate.until(
        "headgate_http_in_flight_requests",
        &[("route", "shop")],
        10.0,
    )
    .await;
    latch.open();
    let mut texts = Vec::new();
    for client in &mut clients {
        texts.push(client.answer().await.expect(200).text().to_owned());
    }
    texts.sort();
    texts.dedup();

    assert_eq!(texts.len(), 10, "{texts:?}");
}

#[tokio::test]
async fn fifty_requests_at_once_for_one_key_reach_the_origin_once() {
    let latch = Latch::new();
    let wait = latch.clone();
    let origin = Origin::start("a")
        .await
        .on("/p", move |_| fresh("shared").after(&wait));
    let gate = Gate::start(&Config::cached(&[&origin]).workers(2)).await;

    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(gate.begin(&Request::get("/p")).await);
    }
    gate.until(
        "headgate_http_in_flight_requests",
        &[("route", "shop")],
        50.0,
    )
    .await;
    latch.open();
    for client in &mut clients {
        assert_eq!(client.answer().await.expect(200).text(), "shared");
    }

    assert_eq!(origin.requests("/p"), 1);
    let labels = [("route", "shop"), ("result", "collapsed")];
    gate.until("headgate_cache_requests_total", &labels, 49.0)
        .await;
}

#[tokio::test]
async fn a_client_that_leaves_does_not_fail_those_who_wait_for_its_fetch() {
    let (head, rest) = (Latch::new(), Latch::new());
    let (one, other) = (head.clone(), rest.clone());
    let origin = Origin::start("a").await.on("/p", move |_| {
        let reply = Reply::new(200)
            .header("cache-control", FRESH)
            .header("content-length", "10");
        reply
            .after(&one)
            .then("first")
            .then_wait(&other)
            .then("later")
    });
    let gate = Gate::start(&Config::cached(&[&origin])).await;
    let in_flight = "headgate_http_in_flight_requests";

    let leader = gate.begin(&Request::get("/p")).await;
    origin.until_asked("/p", 1).await;
    let mut before_head = gate.begin(&Request::get("/p")).await;
    gate.until(in_flight, &[("route", "shop")], 2.0).await;
    drop(leader);
    gate.until(in_flight, &[("route", "shop")], 1.0).await;
    head.open();
    before_head.head().await.expect(200);
    // One more comes and goes within the body.
    let mut within = gate.begin(&Request::get("/p")).await;
    within.head().await.expect(200);
    drop(within);
    rest.open();

    assert_eq!(before_head.exactly(10).await, b"firstlater");
    assert_eq!(
        (
            gate.get("/p").await.expect(200).text(),
            origin.requests("/p")
        ),
        ("firstlater", 1)
    );
}

#[tokio::test]
async fn a_fetch_that_breaks_off_is_not_kept_and_not_passed_off_as_whole() {
    let latch = Latch::new();
    let wait = latch.clone();
    let origin = Origin::start("a").await.on("/p", move |seen| {
        if seen.earlier > 0 {
            return fresh("whole");
        }
        let reply = Reply::new(200).header("cache-control", FRESH);
        let reply = reply.header("content-length", "10").then("part");
        reply.then_wait(&wait).close()
    });
    let gate = Gate::start(&Config::cached(&[&origin])).await;

    let mut client = gate.begin(&Request::get("/p")).await;
    client.head().await.expect(200);
    latch.open();
    assert_eq!(client.until_closed().await, b"part");

    assert_eq!(gate.get("/p").await.expect(200).text(), "whole");
}

#[tokio::test]
async fn a_write_that_succeeds_is_seen_by_the_next_read() {
    for method in ["PUT", "POST", "DELETE", "PATCH"] {
        let version = Arc::new(AtomicUsize::new(1));
        let written = Arc::clone(&version);
        let origin = Origin::start("a")
            .await
            .on("/p", move |seen| match &*seen.method {
                "GET" => fresh(&format!("v{}", written.load(SeqCst))),
                _ => {
                    written.fetch_add(1, SeqCst);
                    Reply::new(204)
                }
            });
        let gate = Gate::start(&Config::cached(&[&origin])).await;

        assert_eq!(gate.get("/p").await.expect(200).text(), "v1");
        assert!(gate.get("/p").await.expect(200).is_hit());
        gate.send(&Request::new(method, "/p").body("x"))
            .await
            .expect(204);
        assert_eq!(gate.get("/p").await.expect(200).text(), "v2", "{method}");
    }
}

#[tokio::test]
async fn a_write_that_fails_changes_nothing() {
    let origin = Origin::start("a")
        .await
        .on("/p", |seen| match &*seen.method {
            "GET" => fresh("v1"),
            _ => Reply::new(409).body("no"),
        });
    let gate = Gate::start(&Config::cached(&[&origin])).await;

    gate.get("/p").await.expect(200);
    gate.send(&Request::new("PUT", "/p").body("x"))
        .await
        .expect(409);

    assert!(gate.get("/p").await.expect(200).is_hit());
}

#[tokio::test]
async fn a_fetch_that_began_before_a_write_is_not_served_after_it() {
    let latch = Latch::new();
    let wait = latch.clone();
    let origin =
        Origin::start("a")
            .await
            .on("/p", move |seen| match (&*seen.method, seen.earlier) {
                ("GET", 0) => fresh("old").after(&wait),
                ("GET", _) => fresh("new"),
                _ => Reply::new(204),
            });
    let gate = Gate::start(&Config::cached(&[&origin])).await;

    let mut early = gate.begin(&Request::get("/p")).await;
    origin.until_asked("/p", 1).await;
    gate.send(&Request::new("PUT", "/p").body("x"))
        .await
        .expect(204);
    let late = gate.get("/p").await.expect(200);
    latch.open();

    assert_eq!(late.text(), "new");
    assert_eq!(early.answer().await.expect(200).text(), "old");
    assert_eq!(gate.get("/p").await.expect(200).text(), "new");
}

#[tokio::test]
async fn answers_that_state_no_lifetime_have_the_routes_default() {
    let origin = Origin::start("a").await;
    let config = Config::new()
        .upstream("shop", &[&origin], "")
        .route(
            "with",
            "path: /with",
            "upstream: shop, cache: { default_ttl: 5m }",
        )
        .route("without", "path: /without", "upstream: shop, cache: {}")
        .route("none", "path: /none", "upstream: shop");
    let gate = Gate::start(&config).await;

    for path in ["/with", "/without", "/none"] {
        gate.get(path).await.expect(200);
        let second = gate.get(path).await.expect(200);
        assert_eq!(
            second.is_hit(),
            path == "/with",
            "{path}: {}",
            second.cache()
        );
    }

    assert_eq!(
        (origin.requests("/with"), origin.requests("/without")),
        (1, 2)
    );
    assert_eq!(gate.get("/none").await.header("cache-status"), None);
}

#[tokio::test]
async fn what_has_expired_is_fetched_again() {
    let origin = Origin::start("a").await.on("/p", |seen| {
        Reply::ok(format!("v{}", seen.earlier)).header("cache-control", "max-age=1")
    });
    let gate = Gate::start(&Config::cached(&[&origin])).await;

    assert_eq!(gate.get("/p").await.expect(200).text(), "v0");
    eventually("it expires", async || {
        (gate.get("/p").await.expect(200).text() != "v0").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_client_may_ask_for_nothing_but_what_is_stored() {
    let origin = Origin::start("a").await.on("/p", |_| fresh("p"));
    let gate = Gate::start(&Config::cached(&[&origin])).await;
    let request = Request::get("/p").header("cache-control", "only-if-cached");

    gate.send(&request).await.problem(504);
    assert_eq!(origin.requests("/p"), 0);
    gate.get("/p").await.expect(200);

    assert!(gate.send(&request).await.expect(200).is_hit());
}

#[tokio::test]
async fn bytes_stay_below_the_limit_whatever_is_asked_for() {
    let body = "x".repeat(16 * 1024);
    let origin = Origin::start("a").await.on("*", move |_| fresh(&body));
    let gate = Gate::start(&Config::cached(&[&origin]).top("cache: { memory: 1MiB }")).await;
    let mut client = gate.client().await;

    for number in 0..300 {
        assert_eq!(
            client
                .get(&format!("/{number}"))
                .await
                .expect(200)
                .body
                .len(),
            16 * 1024
        );
        if number % 20 == 0 {
            let metrics = gate.metrics().await;
            let bytes = metrics.sum("headgate_cache_bytes", &[]);
            assert!(bytes <= 1_048_576.0, "{bytes} bytes after {number}");
        }
    }

    let metrics = gate.metrics().await;
    assert_eq!(
        metrics.sum("headgate_cache_limit_bytes", &[]).to_string(),
        "1048576"
    );
    assert!(
        metrics.sum("headgate_cache_bytes", &[]) > 100_000.0,
        "it holds next to nothing"
    );
    assert!(
        metrics.sum("headgate_cache_evictions_total", &[]) > 0.0,
        "nothing was evicted"
    );
}

#[tokio::test]
async fn what_is_too_large_to_keep_passes_through() {
    let body = "x".repeat(64 * 1024);
    let origin = Origin::start("a").await.on("/p", move |_| fresh(&body));
    let top = "cache: { memory: 1MiB, max_object: 32KiB }";
    let gate = Gate::start(&Config::cached(&[&origin]).top(top)).await;

    for _ in 0..2 {
        let answer = gate.get("/p").await.expect(200);
        assert_eq!((answer.body.len(), answer.is_hit()), (64 * 1024, false));
    }

    assert_eq!(origin.requests("/p"), 2);
}

#[tokio::test]
async fn what_is_stored_outlives_a_reload() {
    let origin = Origin::start("a").await.on("/p", |_| fresh("p"));
    let config = Config::cached(&[&origin]);
    let gate = Gate::start(&config).await;

    gate.get("/p").await.expect(200);
    gate.hang_up(&config).await;

    assert!(gate.get("/p").await.expect(200).is_hit());
}

#[tokio::test]
async fn what_one_upstream_answers_is_not_given_for_another_at_the_same_url() {
    let (web, app) = (Origin::start("web").await, Origin::start("app").await);
    let answer = |name: &'static str| move |_: &_| fresh(name);
    let (web, app) = (web.on("/p", answer("web")), app.on("/p", answer("app")));
    let config = Config::new()
        .upstream("web", &[&web], "")
        .upstream("app", &[&app], "")
        .route("web", "path: /p", "upstream: web, cache: {}")
        .route(
            "app",
            "path: /p, headers: { x-channel: app }",
            "upstream: app, cache: {}",
        );
    let gate = Gate::start(&config).await;
    let for_app = Request::get("/p").header("x-channel", "app");

    for _ in 0..2 {
        assert_eq!(gate.get("/p").await.expect(200).text(), "web");
        assert_eq!(gate.send(&for_app).await.expect(200).text(), "app");
    }
    assert_eq!((web.requests("/p"), app.requests("/p")), (1, 1));

    // A write invalidates the URL, whoever has answered for it.
    gate.send(&Request::new("POST", "/p")).await.expect(200);
    gate.send(&for_app).await.expect(200);
    assert_eq!(app.requests("/p"), 2);
}

#[tokio::test]
async fn a_shards_answers_stay_with_it_and_a_missing_key_is_refused_before_the_cache_is_asked() {
    let (acme, initech) = (Origin::start("a").await, Origin::start("i").await);
    let (acme, initech) = (
        acme.on("/t", |_| fresh("acme")),
        initech.on("/t", |_| fresh("initech")),
    );
    let config = Config::new()
        .upstream("t-0", &[&acme], "")
        .upstream("t-1", &[&initech], "")
        .shard_map(
            "tenants",
            "key: { header: X-Tenant }, strategy: list, \
             shards: [{ upstream: t-0, values: [acme] }, { upstream: t-1, values: [initech] }]",
        )
        .route("t", "path: /t", "shard_map: tenants, cache: {}");
    let gate = Gate::start(&config).await;

    for tenant in ["acme", "initech", "acme", "initech"] {
        let request = Request::get("/t").header("x-tenant", tenant);
        assert_eq!(gate.send(&request).await.expect(200).text(), tenant);
    }
    gate.get("/t").await.problem(400);
    assert_eq!((acme.requests("/t"), initech.requests("/t")), (1, 1));
}

#[tokio::test]
async fn an_origin_that_says_not_modified_to_a_plain_request_is_asked_twice_and_no_more() {
    let origin = Origin::start("a").await.on("/p", |_| Reply::new(304));
    let gate = Gate::start(&Config::cached(&[&origin])).await;

    gate.get("/p").await.problem(502);

    assert_eq!(origin.requests("/p"), 2);
}

#[tokio::test]
async fn those_who_wait_for_a_fetch_that_fails_try_once_more_together_and_then_give_up() {
    const CLIENTS: usize = 20;
    let gone = Latch::new();
    let wait = gone.clone();
    let origin = Origin::start("a")
        .await
        .on("/p", move |_| Reply::nothing().after(&wait).close());
    let gate = Gate::start(&Config::cached(&[&origin])).await;

    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(gate.begin(&Request::get("/p")).await);
    }
    gate.until("headgate_http_in_flight_requests", &[], CLIENTS as f64)
        .await;
    gone.open();
    for mut client in clients {
        client.answer().await.problem(502);
    }
    // Each fetch is a GET, which is sent on a fresh connection or to another endpoint at most once.
    assert!(origin.requests("/p") <= 4 * 2, "{}", origin.requests("/p"));
}

#[tokio::test]
async fn those_who_waited_for_an_answer_that_is_not_to_be_shared_go_alone_and_are_told_why() {
    let open = Latch::new();
    let wait = open.clone();
    let origin = Origin::start("a").await.on("/p", move |_| {
        Reply::ok("mine")
            .header("cache-control", "private")
            .after(&wait)
    });
    let gate = Gate::start(&Config::cached(&[&origin])).await;

    let mut first = gate.begin(&Request::get("/p")).await;
    origin.until_asked("/p", 1).await;
    let mut second = gate.begin(&Request::get("/p")).await;
    gate.until("headgate_http_in_flight_requests", &[], 2.0)
        .await;
    open.open();

    for client in [&mut first, &mut second] {
        let answer = client.answer().await.expect(200);
        assert_eq!(answer.cache(), "headgate; fwd=uri-miss; detail=private");
    }
    assert_eq!(origin.requests("/p"), 2);
}
