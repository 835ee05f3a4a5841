//! RFC 5861: stale answers while one is fetched anew, and when the origin fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::SeqCst};

use crate::harness::{Origin, Reply, Timed, eventually};

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
