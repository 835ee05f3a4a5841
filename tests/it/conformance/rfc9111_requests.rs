//! RFC 9111 sections 5.2.1 and 5.4: what a request may ask of a cache.

use super::date;
use crate::harness::{Answer, Config, Origin, Reply, Request, Timed};

/// A gate that holds `/p`: a hundred seconds of life, of which so many have passed.
async fn holding(cache_control: &'static str, passed: u64, rule: &str) -> (Origin, Timed) {
    let origin = Origin::start("a").await.on("*", move |seen| {
        Reply::ok((seen.earlier + 1).to_string()).header("cache-control", cache_control)
    });
    let gate = Timed::caching(&origin, rule).await;
    gate.get("/p").await.expect(200);
    gate.advance(passed);
    (origin, gate)
}

async fn saying(gate: &Timed, field: (&str, &str)) -> Answer {
    gate.get_with("/p", &[field]).await
}

#[tokio::test]
async fn s5_2_1_1_max_age_bounds_the_age() {
    for (asked, is_hit) in [
        ("max-age=60", true),
        ("max-age=\"60\"", true),
        ("MAX-AGE=60", true),
        ("max-age=40", false),
        ("max-age=60, max-age=40", false),
        ("max-age=0", false),
        ("max-age=x", false),
        ("max-age", false),
        ("max-age=-1", false),
        ("max-age=99999999999", true),
    ] {
        let (_origin, gate) = holding("max-age=100", 50, "").await;
        let answer = saying(&gate, ("cache-control", asked)).await.expect(200);
        assert_eq!(answer.is_hit(), is_hit, "{asked}: {}", answer.cache());
        if !is_hit {
            assert!(answer.cache().contains("fwd=request"), "{}", answer.cache());
        }
    }
}

#[tokio::test]
async fn s5_2_1_1_the_age_that_an_answer_came_with_counts() {
    let origin = Origin::start("a").await.on("/p", |_| {
        Reply::ok("p")
            .header("cache-control", "max-age=3600")
            .header("age", "1800")
    });
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    assert!(
        saying(&gate, ("cache-control", "max-age=1900"))
            .await
            .is_hit()
    );
    assert!(
        !saying(&gate, ("cache-control", "max-age=600"))
            .await
            .is_hit()
    );
}

#[tokio::test]
async fn s5_2_1_2_max_stale_takes_what_is_stale_by_so_much() {
    for (asked, is_hit) in [
        ("max-stale", true),
        ("max-stale=60", true),
        ("max-stale=40", false),
        ("max-stale=60, max-stale=40", false),
        ("max-stale=x", false),
        ("max-stale=0", false),
        ("max-age=200, max-stale=60", true),
        ("max-age=200", false),
        ("max-age=120, max-stale=60", false),
    ] {
        let (_origin, gate) = holding("max-age=100", 150, "").await;
        let answer = saying(&gate, ("cache-control", asked)).await.expect(200);
        assert_eq!(answer.is_hit(), is_hit, "{asked}: {}", answer.cache());
        assert!(
            !is_hit || answer.cache().contains("ttl=-"),
            "{}",
            answer.cache()
        );
    }
}

#[tokio::test]
async fn s5_2_1_2_and_s4_2_4_max_stale_does_not_pass_what_forbids_it() {
    for cache_control in [
        "max-age=100, must-revalidate",
        "max-age=100, proxy-revalidate",
        "s-maxage=100",
        "max-age=100, no-cache",
    ] {
        let (origin, gate) = holding(cache_control, 150, "").await;
        let answer = saying(&gate, ("cache-control", "max-stale"))
            .await
            .expect(200);
        assert!(!answer.is_hit(), "{cache_control}: {}", answer.cache());
        assert_eq!(origin.requests("/p"), 2);
    }
}

#[tokio::test]
async fn s5_2_1_3_min_fresh_wants_life_that_is_left() {
    for (asked, is_hit) in [
        ("min-fresh=40", true),
        ("min-fresh=60", false),
        ("min-fresh=40, min-fresh=60", false),
        ("min-fresh=x", false),
        ("min-fresh", false),
        ("min-fresh=0", true),
    ] {
        let (_origin, gate) = holding("max-age=100", 50, "").await;
        let answer = saying(&gate, ("cache-control", asked)).await.expect(200);
        assert_eq!(answer.is_hit(), is_hit, "{asked}: {}", answer.cache());
    }
}

#[tokio::test]
async fn s5_2_1_4_no_cache_and_s5_4_pragma_want_the_origin_asked() {
    for (field, is_hit) in [
        (("cache-control", "no-cache"), false),
        (("cache-control", "No-Cache"), false),
        (("cache-control", "x, no-cache"), false),
        (("cache-control", "x=\"no-cache\""), true),
        (("pragma", "no-cache"), false),
        (("pragma", "x"), true),
    ] {
        let (_origin, gate) = holding("max-age=100", 50, "").await;
        let answer = saying(&gate, field).await.expect(200);
        assert_eq!(answer.is_hit(), is_hit, "{field:?}: {}", answer.cache());
        // What was fetched for it is stored for all.
        assert!(gate.get("/p").await.is_hit());
    }
    let (_origin, gate) = holding("max-age=100", 50, "").await;
    let both = [("pragma", "no-cache"), ("cache-control", "max-age=60")];
    assert!(gate.get_with("/p", &both).await.is_hit());
}

#[tokio::test]
async fn s5_2_1_4_no_cache_is_answered_after_validation() {
    let origin = Origin::start("a").await.on("/p", |seen| {
        match (
            seen.header("if-none-match"),
            seen.header("if-modified-since"),
        ) {
            (None, None) => Reply::ok("p"),
            _ => Reply::new(304),
        }
        .header("etag", "\"1\"")
        .header("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        .header("cache-control", "max-age=3600")
    });
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    let answer = saying(&gate, ("cache-control", "no-cache"))
        .await
        .expect(200);
    assert_eq!(answer.text(), "p");
    assert_eq!(answer.cache(), "headgate; fwd=request; fwd-status=304");
    let asked = origin.last("/p");
    assert_eq!(asked.header("if-none-match"), Some("\"1\""));
    assert_eq!(
        asked.header("if-modified-since"),
        Some("Thu, 01 Jan 2026 00:00:00 GMT")
    );
}

#[tokio::test]
async fn s5_2_1_5_nothing_of_a_no_store_exchange_is_stored() {
    for cache_control in [
        "max-age=100",
        "public, s-maxage=100",
        "immutable, max-age=100",
    ] {
        let origin = Origin::start("a").await.on("/p", move |seen| {
            Reply::ok((seen.earlier + 1).to_string()).header("cache-control", cache_control)
        });
        let gate = Timed::caching(&origin, "").await;
        let asked = [("cache-control", "no-store")];
        assert_eq!(gate.get_with("/p", &asked).await.expect(200).text(), "1");
        assert_eq!(gate.get("/p").await.expect(200).text(), "2");
        assert!(gate.get("/p").await.is_hit());
    }
}

#[tokio::test]
async fn s5_2_1_5_a_no_store_head_updates_nothing() {
    let origin = Origin::start("a").await.on("/p", |seen| {
        let reply = Reply::ok("12345").header("etag", "\"1\"");
        match seen.method.as_str() {
            "HEAD" => reply
                .header("cache-control", "max-age=9999")
                .header("x-of", "head"),
            _ => reply.header("cache-control", "max-age=100"),
        }
    });
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    let head = Request::new("HEAD", "/p").header("cache-control", "no-store");
    gate.send(&head).await.expect(200);
    let answer = gate.get("/p").await.expect(200);
    assert!(answer.is_hit() && answer.header("x-of").is_none());
}

#[tokio::test]
async fn s5_2_1_7_only_if_cached_never_reaches_the_origin() {
    let origin = Origin::start("a").await.on("*", |_| {
        Reply::ok("p").header("cache-control", "max-age=100")
    });
    let config = Config::new()
        .top("trusted_proxies: [127.0.0.1]")
        .upstream("shop", &[&origin], "");
    let gate = Timed::start(config.route("shop", "path_prefix: /", "upstream: shop, cache: {}"));
    let gate = gate.await;
    gate.get("/p").await.expect(200);
    gate.advance(50);
    let only = ("cache-control", "only-if-cached");
    assert!(saying(&gate, only).await.expect(200).is_hit());
    let asked = origin.requests("*");
    for more in [
        &[][..],
        &[("cache-control", "no-store")],
        &[("cache-control", "no-cache")],
        &[("cache-control", "max-age=1")],
        &[("cache-control", "min-fresh=90")],
        &[("range", "bytes=0-1000000")],
        &[("if-match", "\"1\"")],
        &[("if-unmodified-since", "Thu, 01 Jan 2026 00:00:00 GMT")],
        &[("authorization", "Bearer x")],
        &[("upgrade", "websocket"), ("connection", "upgrade")],
        &[("x-http-method-override", "DELETE")],
        &[
            ("x-auth-request-user", "ann"),
            ("x-forwarded-for", "10.1.2.3"),
        ],
    ] {
        let target = if more.is_empty() { "/other" } else { "/p" };
        let mut fields = vec![only];
        fields.extend(more);
        let answer = gate.get_with(target, &fields).await;
        assert!(
            answer.status == 504 || answer.is_hit(),
            "{more:?}: {} {}",
            answer.status,
            answer.cache()
        );
        if more.is_empty() {
            answer.problem(504);
        }
    }
    let head = Request::new("HEAD", "/other").header("cache-control", "only-if-cached");
    gate.send(&head).await.expect(504);
    let body = Request::get("/p").header("cache-control", "only-if-cached");
    gate.send(&body.body("x")).await.expect(504);
    gate.advance(100);
    saying(&gate, only).await.expect(504);
    let stale = saying(&gate, ("cache-control", "only-if-cached, max-stale")).await;
    assert!(stale.expect(200).is_hit());
    assert_eq!(origin.requests("*"), asked);
}

#[tokio::test]
async fn s5_2_1_a_route_may_ignore_what_requests_ask() {
    let (origin, gate) = holding("max-age=100", 50, "request_directives: ignore").await;
    for field in [
        ("cache-control", "no-cache"),
        ("cache-control", "no-store"),
        ("cache-control", "max-age=0"),
        ("cache-control", "min-fresh=90"),
        ("pragma", "no-cache"),
    ] {
        assert!(saying(&gate, field).await.is_hit(), "{field:?}");
    }
    assert_eq!(origin.requests("/p"), 1);
    let only = [("cache-control", "only-if-cached")];
    gate.get_with("/other", &only).await.expect(200);
    gate.advance(100);
    assert!(!saying(&gate, ("cache-control", "max-stale")).await.is_hit());
}

#[tokio::test]
async fn s5_2_1_many_that_force_a_fetch_share_one() {
    let latch = crate::harness::Latch::new();
    let held = latch.clone();
    let origin = Origin::start("a").await.on("/p", move |seen| {
        let reply = Reply::ok("p").header("cache-control", "max-age=100");
        match seen.earlier {
            0 => reply,
            _ => reply.after(&held),
        }
    });
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    let forced = Request::get("/p").header("cache-control", "no-cache");
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = gate.client().await;
        client.write(forced.bytes()).await;
        clients.push(client);
    }
    origin.until_asked("/p", 2).await;
    // All of them are read before any is answered: one worker reads its sockets in turns.
    gate.get("/p").await.expect(200);
    latch.open();
    let mut collapsed = 0;
    for mut client in clients {
        let answer = client.answer().await.expect(200);
        collapsed += usize::from(answer.cache().contains("collapsed"));
    }
    let asked = origin.requests("/p");
    assert_eq!(asked + collapsed, 21, "each either asked or shared");
    assert!(collapsed > 0);
}

#[tokio::test]
async fn s5_2_1_stale_if_error_of_a_request_takes_what_is_stale() {
    let origin = Origin::start("a")
        .await
        .on("/p", |seen| match seen.earlier {
            0 => Reply::ok("p")
                .header("cache-control", "max-age=100")
                .header("date", &date(0)),
            _ => Reply::new(500).body("broken"),
        });
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    gate.advance(150);
    gate.get("/p").await.expect(500);
    saying(&gate, ("cache-control", "stale-if-error=20"))
        .await
        .expect(500);
    let stale = saying(&gate, ("cache-control", "stale-if-error=90")).await;
    assert_eq!(stale.expect(200).text(), "p");
}
