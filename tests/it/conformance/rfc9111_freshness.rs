//! RFC 9111 section 4.2: how long an answer is fresh.

use crate::harness::{Origin, Reply, Timed};

/// An origin that answers `/p` with these fields and its number of requests so far.
async fn origin(fields: &'static [(&'static str, &'static str)]) -> Origin {
    Origin::start("a").await.on("/p", move |_| {
        let reply = Reply::ok("p").header("etag", "\"1\"");
        fields
            .iter()
            .fold(reply, |reply, (name, value)| reply.header(name, value))
    })
}

/// For how many seconds an answer with these fields is served without asking: fresh at `fresh`, and no
/// more at `stale`.
async fn lives(fields: &'static [(&'static str, &'static str)], fresh: u64, stale: u64) {
    let origin = origin(fields).await;
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    gate.advance(fresh);
    assert!(gate.get("/p").await.is_hit(), "{fields:?} after {fresh} s");
    gate.advance(stale - fresh);
    gate.get("/p").await.expect(200);
    assert_eq!(origin.requests("/p"), 2, "{fields:?} after {stale} s");
}

#[tokio::test]
async fn s4_2_1_s_maxage_goes_before_max_age_and_expires() {
    lives(&[("cache-control", "max-age=1, s-maxage=60")], 58, 61).await;
    lives(
        &[
            ("cache-control", "max-age=60"),
            ("expires", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ],
        58,
        61,
    )
    .await;
}

#[tokio::test]
async fn s4_2_1_of_repeated_directives_the_first_counts() {
    lives(&[("cache-control", "max-age=60, max-age=600")], 58, 61).await;
}

#[tokio::test]
async fn s4_2_2_a_tenth_of_the_time_unchanged_is_presumed() {
    let fields = &[
        ("date", "Thu, 01 Jan 2026 01:00:00 GMT"),
        ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT"),
    ];
    // Its date is long past, so its age is.
    let origin = origin(fields).await;
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    gate.get("/p").await.expect(200);
    assert_eq!(origin.requests("/p"), 2);
}
