//! RFC 9111 section 4.4: what a write makes unusable.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crate::harness::{Config, Gate, Latch, Origin, Reply, Request, Timed, eventually, patiently};

fn fresh(body: &str) -> Reply {
    Reply::ok(body).header("cache-control", "max-age=3600")
}

/// An origin whose resources may be stored, and whose writes are answered with this status and these
/// fields.
async fn origin(status: u16, fields: &'static [(&'static str, &'static str)]) -> Origin {
    Origin::start("a").await.on("*", move |seen| {
        if matches!(&*seen.method, "GET" | "HEAD" | "OPTIONS") {
            return fresh("p");
        }
        let reply = Reply::new(status);
        let reply = fields
            .iter()
            .fold(reply, |reply, (name, value)| reply.header(name, value));
        match status {
            204 | 304 => reply,
            _ => reply.body(""),
        }
    })
}

/// Whether a write by `method` on `/dir/w?q=1`, answered so, makes what is stored for `target` unusable.
async fn invalidates(
    method: &str,
    status: u16,
    fields: &'static [(&'static str, &'static str)],
    target: &str,
) -> bool {
    let origin = origin(status, fields).await;
    let gate = Timed::caching(&origin, "").await;
    gate.get(target).await.expect(200);
    assert!(gate.get(target).await.is_hit(), "{target} is stored");
    let write = Request::new(method, "/dir/w?q=1");
    gate.send(&write).await.expect(status);
    !gate.get(target).await.expect(200).is_hit()
}

#[tokio::test]
async fn s4_4_a_non_error_answer_to_an_unsafe_method_invalidates_the_target() {
    for (method, status) in [
        ("POST", 200),
        ("POST", 201),
        ("POST", 303),
        ("PUT", 204),
        ("DELETE", 202),
        ("PATCH", 301),
        // Whether it is safe, nobody knows.
        ("FROB", 200),
    ] {
        let target = "/dir/w?q=1";
        assert!(
            invalidates(method, status, &[], target).await,
            "{method} {status}"
        );
    }
    assert!(!invalidates("POST", 200, &[], "/dir/w?q=2").await);
}

#[tokio::test]
async fn s4_4_errors_and_safe_methods_invalidate_nothing() {
    for (method, status) in [
        ("POST", 400),
        ("PUT", 404),
        ("DELETE", 500),
        ("PATCH", 503),
        ("OPTIONS", 200),
        ("HEAD", 200),
    ] {
        let target = "/dir/w?q=1";
        let fields = &[("location", "/dir/w?q=1")];
        assert!(
            !invalidates(method, status, fields, target).await,
            "{method} {status}"
        );
    }
}

#[tokio::test]
async fn s4_4_location_and_content_location_of_the_same_origin_are_invalidated() {
    const FIELDS: [&[(&str, &str)]; 9] = [
        &[("location", "http://shop.test/dir/x?y=1#part")],
        &[("location", "HTTP://SHOP.test:80/dir/x?y=1")],
        &[("location", "//shop.test/dir/x?y=1")],
        &[("location", "/dir/x?y=1")],
        &[("location", "/other/../dir/./%78?y=1")],
        &[("location", "x?y=1")],
        &[("location", "../dir/x?y=1")],
        &[("content-location", "/dir/x?y=1")],
        &[("location", "/else"), ("content-location", "x?y=1")],
    ];
    for fields in FIELDS {
        assert!(
            invalidates("POST", 201, fields, "/dir/x?y=1").await,
            "{fields:?}"
        );
    }
    let query = &[("content-location", "?z=3")];
    assert!(invalidates("PUT", 200, query, "/dir/w?z=3").await);
}

#[tokio::test]
async fn s4_4_what_is_of_another_origin_or_no_reference_is_left_alone() {
    const FIELDS: [&[(&str, &str)]; 7] = [
        &[("location", "http://other.test/dir/x")],
        &[("location", "https://shop.test/dir/x")],
        &[("location", "http://shop.test:8080/dir/x")],
        &[("location", "//other.test/dir/x")],
        &[("content-location", "http://shop.test.evil/dir/x")],
        &[("location", "http:/dir/x")],
        &[("location", "/dir/x%00")],
    ];
    for fields in FIELDS {
        assert!(
            !invalidates("POST", 201, fields, "/dir/x").await,
            "{fields:?}"
        );
    }
}

#[tokio::test]
async fn s4_4_another_origin_is_not_reached_by_name_either() {
    let origin = origin(201, &[("location", "http://other.test/x")]).await;
    let gate = Timed::caching(&origin, "").await;
    let other = Request::get("/x").header("host", "other.test");
    gate.send(&other).await.expect(200);
    gate.send(&Request::post("/w", "x")).await.expect(201);
    assert!(gate.send(&other).await.is_hit());
}

#[tokio::test]
async fn s4_4_every_variant_of_the_target_goes() {
    let origin = Origin::start("a").await.on("/p", |seen| {
        let language = seen.header("accept-language").unwrap_or("none").to_owned();
        match &*seen.method {
            "GET" => fresh(&language).header("vary", "accept-language"),
            _ => Reply::new(204),
        }
    });
    let gate = Timed::caching(&origin, "").await;
    for language in ["de", "en", "fr"] {
        let fields = [("accept-language", language)];
        gate.get_with("/p", &fields).await.expect(200);
        assert!(gate.get_with("/p", &fields).await.is_hit());
    }

    gate.send(&Request::new("DELETE", "/p")).await.expect(204);

    for language in ["fr", "de", "en"] {
        let answer = gate.get_with("/p", &[("accept-language", language)]).await;
        assert!(!answer.is_hit(), "{language}");
    }
}

#[tokio::test]
async fn s4_4_a_write_on_a_route_that_does_not_cache_counts() {
    let origin = origin(201, &[("location", "/p")]).await;
    let config = Config::new()
        .upstream("reads", &[&origin], "")
        .upstream("writes", &[&origin], "")
        .route(
            "writes",
            "path_prefix: /, methods: [POST, PUT]",
            "upstream: writes",
        )
        .route("reads", "path_prefix: /", "upstream: reads, cache: {}");
    let gate = Timed::start(config).await;
    for (write, read) in [("/p", "/p"), ("/new", "/p")] {
        gate.get(read).await.expect(200);
        assert!(gate.get(read).await.is_hit());
        gate.send(&Request::post(write, "x")).await.expect(201);
        assert!(!gate.get(read).await.is_hit(), "{write}");
    }
}

#[tokio::test]
async fn s4_4_what_is_stored_without_some_parameters_goes_by_any_of_its_urls() {
    let origin = origin(201, &[("location", "/q?b=2&a=1&utm_x=9")]).await;
    let config = Config::new()
        .upstream("shop", &[&origin], "")
        .route(
            "writes",
            "path_prefix: /, methods: [POST]",
            "upstream: shop",
        )
        .route(
            "reads",
            "path_prefix: /",
            "upstream: shop, cache: { key: { query: { drop: [\"utm_*\"], sort: true } } }",
        );
    let gate = Timed::start(config).await;
    for (read, write) in [
        ("/p?utm_a=1", "/p?utm_b=2"),
        ("/p", "/p?utm_b=2"),
        ("/p?a=1&b=2", "/p?utm_a&b=2&a=1"),
        ("/q?a=1&b=2", "/else"),
    ] {
        gate.get(read).await.expect(200);
        assert!(gate.get(read).await.is_hit());
        gate.send(&Request::post(write, "x")).await.expect(201);
        assert!(!gate.get(read).await.is_hit(), "{read} by {write}");
    }
}

#[tokio::test]
async fn s4_4_a_writer_sees_its_answer_after_every_worker_has_lost_what_was_changed() {
    let version = Arc::new(AtomicUsize::new(0));
    let written = Arc::clone(&version);
    let origin = Origin::start("a")
        .await
        .on("*", move |seen| match &*seen.method {
            "GET" => fresh(&written.load(SeqCst).to_string()),
            _ => {
                written.fetch_add(1, SeqCst);
                Reply::new(201).header("location", "/list").body("")
            }
        });
    let gate = Gate::start(&Config::cached(&[&origin]).workers(2)).await;
    // The kernel gives them to both workers.
    let mut readers = Vec::new();
    for _ in 0..16 {
        readers.push(gate.client().await);
    }
    for round in 0..20 {
        for reader in &mut readers {
            for path in ["/item", "/list"] {
                let answer = reader.get(path).await.expect(200);
                assert_eq!(answer.text(), round.to_string(), "{path}");
            }
        }
        gate.send(&Request::post("/item", "x")).await.expect(201);
    }
    assert_eq!(version.load(SeqCst), 20);
}

#[tokio::test]
async fn s4_4_an_older_fetch_does_not_bring_back_what_location_names() {
    let latch = Latch::new();
    let wait = latch.clone();
    let origin = Origin::start("a")
        .await
        .on("/p", move |seen| match seen.earlier {
            0 => fresh("old").after(&wait),
            _ => fresh("new"),
        });
    let origin = origin.on("/w", |_| Reply::new(303).header("location", "/p").body(""));
    let gate = Gate::start(&Config::cached(&[&origin]).workers(2)).await;

    let mut early = gate.begin(&Request::get("/p")).await;
    origin.until_asked("/p", 1).await;
    gate.send(&Request::post("/w", "x")).await.expect(303);
    let late = gate.get("/p").await.expect(200);
    latch.open();

    assert_eq!(late.text(), "new");
    assert_eq!(early.answer().await.expect(200).text(), "old");
    let after = gate.get("/p").await.expect(200);
    assert_eq!((after.text(), after.is_hit()), ("new", true));
}

#[tokio::test]
async fn s4_4_a_write_of_which_nobody_knows_how_it_ended_invalidates_too() {
    let latch = Latch::new();
    let wait = latch.clone();
    let origin = Origin::start("a")
        .await
        .on("*", move |seen| match &*seen.method {
            "GET" => fresh("p"),
            "PUT" => Reply::nothing().close(),
            _ => Reply::new(204).after(&wait),
        });
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    // It broke off.
    gate.send(&Request::new("PUT", "/p").body("x"))
        .await
        .expect(502);
    assert!(!gate.get("/p").await.is_hit());

    // Its client left.
    assert!(gate.get("/p").await.is_hit());
    let mut client = gate.client().await;
    client.write(Request::post("/p", "x").bytes()).await;
    origin.until_asked("/p", 4).await;
    drop(client);
    eventually("what it may have changed is asked for again", async || {
        (!gate.get("/p").await.is_hit()).then_some(())
    })
    .await;
    patiently("the origin", async { latch.open() }).await;
}

#[tokio::test]
async fn s4_4_a_write_that_no_endpoint_got_changes_nothing() {
    let mut origin = origin(204, &[]).await;
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    origin.kill().await;
    let refused = gate.send(&Request::post("/p", "x")).await;
    assert!(matches!(refused.status, 502 | 503), "{}", refused.status);
    assert!(gate.get("/p").await.is_hit());
}
