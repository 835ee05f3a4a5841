//! RFC 5861: stale answers while one is fetched anew, and when the origin fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::SeqCst};

use crate::harness::{Config, Origin, Reply, Timed, eventually};

/// An origin whose `/p` answers with a status that a test sets.
async fn origin(cache_control: &'static str) -> (Origin, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(200));
    let told = Arc::clone(&status);
    let origin = Origin::start("a").await.on("/p", move |_| {
        Reply::new(told.load(SeqCst))
            .header("cache-control", cache_control)
            .body("p")
    });
    (origin, status)
}

#[tokio::test]
async fn s3_a_stale_answer_is_served_at_once_and_fetched_anew_behind_it() {
    let (origin, _) = origin("max-age=10, stale-while-revalidate=30").await;
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    gate.advance(15);

    let stale = gate.get("/p").await.expect(200);

    assert!(stale.is_hit(), "{}", stale.cache());
    assert!(stale.cache().contains("ttl=-5"), "{}", stale.cache());
    eventually("it is fetched anew", async || {
        let answer = gate.get("/p").await;
        (!answer.cache().contains("ttl=-")).then_some(())
    })
    .await;
    assert_eq!(origin.requests("/p"), 2);
}

#[tokio::test]
async fn s3_past_its_window_a_stale_answer_is_fetched_first() {
    let (origin, _) = origin("max-age=10, stale-while-revalidate=30").await;
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    gate.advance(45);

    let answer = gate.get("/p").await.expect(200);

    assert!(!answer.is_hit(), "{}", answer.cache());
    assert_eq!(origin.requests("/p"), 2);
}

#[tokio::test]
async fn s4_an_error_of_the_origin_is_answered_with_what_is_stale() {
    let (origin, status) = origin("max-age=10, stale-if-error=60").await;
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    gate.advance(15);
    status.store(500, SeqCst);

    let stale = gate.get("/p").await.expect(200);

    assert_eq!(
        stale.cache(),
        "headgate; fwd=stale; fwd-status=500; detail=stale-if-error"
    );
    assert_eq!(stale.header("age"), Some("15"));
    gate.advance(60);
    gate.get("/p").await.expect(500);
}

#[tokio::test]
async fn s4_must_revalidate_is_never_served_stale() {
    let (origin, status) = origin("max-age=10, stale-if-error=60, must-revalidate").await;
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    gate.advance(15);
    status.store(500, SeqCst);

    gate.get("/p").await.expect(500);
}

#[tokio::test]
async fn s4_an_error_is_a_500_502_503_or_504_and_nothing_else() {
    for (code, is_stale) in [
        (500, true),
        (502, true),
        (503, true),
        (504, true),
        (501, false),
        (505, false),
        (599, false),
        (404, false),
        (429, false),
    ] {
        let (origin, status) = origin("max-age=10, stale-if-error=60").await;
        let gate = Timed::caching(&origin, "").await;
        gate.get("/p").await.expect(200);
        gate.advance(20);
        status.store(code, SeqCst);
        let answer = gate.get("/p").await;
        assert_eq!(answer.status, if is_stale { 200 } else { code }, "{code}");
    }
}

#[tokio::test]
async fn s4_what_cannot_be_read_permits_nothing() {
    for cache_control in [
        "max-age=10, stale-if-error",
        "max-age=10, stale-if-error=x",
        "max-age=10, stale-if-error=-60",
        "max-age=10, stale-if-error=0",
        "max-age=10, x=\"stale-if-error=60\"",
    ] {
        let (origin, status) = origin(cache_control).await;
        let gate = Timed::caching(&origin, "").await;
        gate.get("/p").await.expect(200);
        gate.advance(20);
        status.store(503, SeqCst);
        gate.get("/p").await.expect(503);
    }
}

#[tokio::test]
async fn rfc9111_s4_2_4_nothing_stale_is_served_where_the_answer_forbids_it() {
    for cache_control in [
        "max-age=10, must-revalidate",
        "max-age=10, proxy-revalidate",
        "s-maxage=10",
        "max-age=10, no-cache",
    ] {
        for window in ["stale-if-error=60", "stale-while-revalidate=60"] {
            let all: &'static str = format!("{cache_control}, {window}").leak();
            let (origin, status) = origin(all).await;
            let rule = "stale_if_error: 60s, stale_while_revalidate: 60s";
            let gate = Timed::caching(&origin, rule).await;
            gate.get("/p").await.expect(200);
            gate.advance(20);
            status.store(503, SeqCst);
            gate.get("/p").await.expect(503);
        }
    }
}

#[tokio::test]
async fn rfc9111_s4_2_4_and_s5_2_2_2_a_cache_that_is_cut_off_serves_what_is_stale_unless_forbidden()
{
    for (cache_control, is_served) in [
        ("max-age=10", true),
        ("max-age=10, stale-if-error=5", false),
        ("max-age=10, must-revalidate", false),
        ("max-age=10, proxy-revalidate", false),
        ("s-maxage=10", false),
        ("max-age=10, no-cache", false),
    ] {
        let (mut origin, _) = origin(cache_control).await;
        let gate = Timed::caching(&origin, "").await;
        gate.get("/p").await.expect(200);
        gate.advance(20);
        origin.kill().await;
        let answer = gate.get("/p").await;
        match is_served {
            true => assert_eq!(answer.expect(200).text(), "p"),
            false => assert!((502..=504).contains(&answer.status), "{cache_control}"),
        }
    }
}

#[tokio::test]
async fn rfc9111_s4_2_4_what_is_older_than_a_day_is_not_served_when_cut_off() {
    let (mut origin, _) = origin("max-age=10").await;
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    gate.advance(90_000);
    origin.kill().await;
    let answer = gate.get("/p").await;
    assert!((502..=504).contains(&answer.status), "{}", answer.status);
}

#[tokio::test]
async fn s3_and_s4_what_the_answer_says_goes_before_what_the_route_says() {
    let rule = "stale_if_error: 1000s, stale_while_revalidate: 1000s";
    for (cache_control, is_stale) in [
        ("max-age=10", true),
        (
            "max-age=10, stale-while-revalidate=0, stale-if-error=0",
            false,
        ),
    ] {
        let (origin, status) = origin(cache_control).await;
        let gate = Timed::caching(&origin, rule).await;
        gate.get("/p").await.expect(200);
        gate.advance(20);
        status.store(503, SeqCst);
        let expected = if is_stale { 200 } else { 503 };
        gate.get("/p").await.expect(expected);
    }
}

#[tokio::test]
async fn s3_many_that_are_served_what_is_stale_cause_one_fetch() {
    let latch = crate::harness::Latch::new();
    let held = latch.clone();
    let origin = Origin::start("a").await.on("/p", move |seen| {
        let reply = Reply::ok("p").header("cache-control", "max-age=10, stale-while-revalidate=60");
        match seen.earlier {
            0 => reply,
            _ => reply.after(&held),
        }
    });
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    gate.advance(20);
    for _ in 0..20 {
        assert!(gate.get("/p").await.expect(200).is_hit());
    }
    origin.until_asked("/p", 2).await;
    assert_eq!(origin.requests("/p"), 2);
    latch.open();
}

#[tokio::test]
async fn s3_a_demanding_request_is_not_served_what_is_stale() {
    let (origin, _) = origin("max-age=10, stale-while-revalidate=60").await;
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    gate.advance(20);
    for asked in ["no-cache", "max-age=5", "min-fresh=1"] {
        let answer = gate.get_with("/p", &[("cache-control", asked)]).await;
        assert!(!answer.is_hit(), "{asked}: {}", answer.cache());
        gate.advance(20);
    }
}

/// A gate that began this moment, with so much grace.
async fn beginning(origin: &Origin, grace: &str) -> Timed {
    let config = Config::new()
        .top(&format!("cache: {{ startup_grace: {grace} }}"))
        .upstream("shop", &[origin], "");
    Timed::start(config.route("shop", "path_prefix: /", "upstream: shop, cache: {}")).await
}

#[tokio::test]
async fn rfc9111_s4_2_4_a_cache_that_begins_is_allowed_more_for_a_while() {
    let origin = Origin::start("a").await.on("*", |seen| {
        Reply::ok(seen.earlier.to_string()).header("cache-control", "max-age=10")
    });
    let gate = beginning(&origin, "100s").await;
    gate.get("/p").await.expect(200);
    gate.advance(80);

    let stale = gate.get("/p").await.expect(200);

    assert!(stale.cache().contains("hit; ttl=-70"), "{}", stale.cache());
    eventually("it is fetched anew", async || {
        let answer = gate.get("/p").await;
        (!answer.cache().contains("ttl=-")).then_some(())
    })
    .await;
    assert_eq!(origin.requests("*"), 2);
    // The grace has ended, though nothing is stale for that long.
    gate.advance(30);
    let late = gate.get("/p").await.expect(200);
    assert_eq!(late.cache(), "headgate; fwd=stale; stored");
}

#[tokio::test]
async fn rfc9111_s4_2_4_no_grace_goes_past_what_the_answer_says() {
    for (said, on_error) in [
        ("must-revalidate", false),
        ("proxy-revalidate", false),
        ("s-maxage=10", false),
        ("no-cache", false),
        ("stale-while-revalidate=0, stale-if-error=0", false),
        ("stale-while-revalidate=0", true),
    ] {
        let status = Arc::new(AtomicU16::new(200));
        let told = Arc::clone(&status);
        let origin = Origin::start("a").await.on("/p", move |_| {
            Reply::new(told.load(SeqCst))
                .header("cache-control", &format!("max-age=10, {said}"))
                .header("etag", "\"1\"")
                .body("p")
        });
        let gate = beginning(&origin, "100s").await;
        gate.get("/p").await.expect(200);
        gate.advance(20);

        assert!(!gate.get("/p").await.expect(200).is_hit(), "{said}");
        gate.advance(20);
        status.store(503, SeqCst);
        let answer = gate.get("/p").await;
        assert_eq!(answer.status, if on_error { 200 } else { 503 }, "{said}");
    }
}
