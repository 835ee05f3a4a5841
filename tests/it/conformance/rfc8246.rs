//! RFC 8246: `immutable`.

use crate::harness::{Origin, Reply, Timed};

async fn gate(cache_control: &'static str) -> (Origin, Timed) {
    let origin = Origin::start("a").await.on("/p", move |seen| {
        match seen.header("if-none-match") {
            Some(_) => Reply::new(304),
            None => Reply::ok("p"),
        }
        .header("etag", "\"1\"")
        .header("cache-control", cache_control)
    });
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    (origin, gate)
}

#[tokio::test]
async fn s2_a_reload_of_what_is_immutable_and_fresh_asks_nobody() {
    for cache_control in [
        "max-age=100, immutable",
        "IMMUTABLE, s-maxage=100",
        "immutable=x, max-age=100",
    ] {
        let (origin, gate) = gate(cache_control).await;
        gate.advance(50);
        let reload = [("cache-control", "max-age=0"), ("if-none-match", "\"1\"")];
        let answer = gate.get_with("/p", &reload).await.expect(304);
        assert!(answer.is_hit(), "{cache_control}: {}", answer.cache());
        assert_eq!(origin.requests("/p"), 1);
    }
}

#[tokio::test]
async fn s2_no_cache_signals_that_a_validation_is_wanted() {
    let (origin, gate) = gate("max-age=100, immutable").await;
    let forced = [("cache-control", "no-cache"), ("if-none-match", "\"1\"")];
    let answer = gate.get_with("/p", &forced).await.expect(304);
    assert!(!answer.is_hit(), "{}", answer.cache());
    assert_eq!(origin.requests("/p"), 2);
}

#[tokio::test]
async fn s2_a_bound_on_the_age_other_than_a_reload_is_heeded() {
    let (_origin, gate) = gate("max-age=100, immutable").await;
    gate.advance(50);
    let young = [("cache-control", "max-age=10")];
    assert!(!gate.get_with("/p", &young).await.is_hit());
}

#[tokio::test]
async fn s2_what_is_stale_is_asked_about_immutable_or_not() {
    let (origin, gate) = gate("max-age=100, immutable").await;
    gate.advance(150);
    let answer = gate.get("/p").await.expect(200);
    assert!(!answer.is_hit(), "{}", answer.cache());
    let reload = [("cache-control", "max-age=0")];
    gate.advance(150);
    assert!(!gate.get_with("/p", &reload).await.is_hit());
    assert_eq!(origin.requests("/p"), 3);
}

#[tokio::test]
async fn s2_without_it_a_reload_is_asked_about() {
    let (origin, gate) = gate("max-age=100").await;
    let reload = [("cache-control", "max-age=0")];
    assert!(!gate.get_with("/p", &reload).await.expect(200).is_hit());
    assert_eq!(origin.requests("/p"), 2);
}
