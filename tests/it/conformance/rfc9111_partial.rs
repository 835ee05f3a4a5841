//! RFC 9111 sections 3.3 and 3.4: partial answers are kept and put together, on routes that pass ranges on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use crate::harness::{Latch, Origin, Reply, Request, Seen, Timed, eventually};

const TEXT: &str = "0123456789abcdefghijklmnopqrstuvwxyz";

/// What an origin that knows ranges answers.
fn ranged(seen: &Seen, tag: &str, fields: &[(&str, &str)]) -> Reply {
    let is_same = seen.header("if-range").is_none_or(|held| held == tag);
    let range = seen.header("range").filter(|_| is_same);
    let span = range.and_then(|range| {
        let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        if first.is_empty() {
            return Some((36 - last.parse::<usize>().ok()?, 35));
        }
        Some((first.parse().ok()?, last.parse().unwrap_or(35)))
    });
    let reply = match span {
        Some((first, last)) => Reply::new(206)
            .header("content-range", &format!("bytes {first}-{last}/36"))
            .body(&TEXT[first..=last]),
        None => Reply::ok(TEXT),
    };
    let reply = reply
        .header("etag", tag)
        .header("content-type", "text/plain");
    fields
        .iter()
        .fold(reply, |reply, (name, value)| reply.header(name, value))
}

const FRESH: &[(&str, &str)] = &[("cache-control", "max-age=60")];

async fn origin() -> Origin {
    Origin::start("a")
        .await
        .on("/p", |seen| ranged(seen, "\"1\"", FRESH))
}

async fn passing(origin: &Origin) -> Timed {
    Timed::caching(origin, "ranges: pass").await
}

/// What the last request asked for: `Range` and `If-Range`.
fn last_asked(origin: &Origin) -> (Option<String>, Option<String>) {
    let seen = origin.seen("/p");
    let last = seen.last().unwrap();
    let field = |name| last.header(name).map(str::to_owned);
    (field("range"), field("if-range"))
}

/// Asks for a range and compares what comes; whether it was a hit.
async fn asks(gate: &Timed, first: usize, last: usize) -> bool {
    let range = format!("bytes={first}-{last}");
    let answer = gate.get_with("/p", &[("range", &range)]).await.expect(206);
    assert_eq!(answer.text(), &TEXT[first..=last], "{range}");
    let said = format!("bytes {first}-{last}/36");
    assert_eq!(answer.header("content-range"), Some(said.as_str()));
    assert_eq!(answer.header("content-type"), Some("text/plain"));
    let length = (last - first + 1).to_string();
    assert_eq!(answer.header("content-length"), Some(length.as_str()));
    answer.is_hit()
}

#[tokio::test]
async fn s3_3_a_part_answers_ranges_within_it() {
    let origin = origin().await;
    let gate = passing(&origin).await;
    let first = gate
        .get_with("/p", &[("range", "bytes=5-14")])
        .await
        .expect(206);
    assert_eq!(first.text(), &TEXT[5..=14]);
    assert_eq!(first.cache(), "headgate; fwd=uri-miss; stored");
    assert_eq!(last_asked(&origin), (Some("bytes=5-14".to_owned()), None));

    assert!(asks(&gate, 5, 14).await && asks(&gate, 7, 9).await && asks(&gate, 14, 14).await);
    let several = [("range", "bytes=5-5,14-14")];
    assert!(gate.get_with("/p", &several).await.expect(206).is_hit());
    let beyond = gate
        .get_with("/p", &[("range", "bytes=36-")])
        .await
        .expect(416);
    assert_eq!(beyond.header("content-range"), Some("bytes */36"));
    assert_eq!(origin.requests("/p"), 1);
}

#[tokio::test]
async fn s3_3_a_suffix_is_kept_as_what_it_is() {
    let origin = origin().await;
    let gate = passing(&origin).await;
    gate.get_with("/p", &[("range", "bytes=-6")])
        .await
        .expect(206);
    assert!(asks(&gate, 30, 35).await && asks(&gate, 33, 34).await);
    assert_eq!(origin.requests("/p"), 1);
}

#[tokio::test]
async fn s3_3_a_part_never_answers_a_request_for_the_whole() {
    let origin = origin().await;
    let gate = passing(&origin).await;
    asks(&gate, 0, 9).await;
    let head = gate.send(&Request::new("HEAD", "/p")).await.expect(200);
    assert!(!head.is_hit());
    let fields = [("cache-control", "only-if-cached")];
    gate.get_with("/p", &fields).await.expect(504);
    let whole = gate.get("/p").await.expect(200);
    assert_eq!((whole.text(), whole.is_hit()), (TEXT, false));
    // Now the whole answers.
    assert!(asks(&gate, 20, 30).await);
}

#[tokio::test]
async fn s3_4_only_what_is_missing_is_asked_for_and_put_together() {
    let origin = origin().await;
    let gate = passing(&origin).await;
    asks(&gate, 0, 9).await;
    let range = [("range", "bytes=5-14")];
    let answer = gate.get_with("/p", &range).await.expect(206);
    assert_eq!(answer.text(), &TEXT[5..=14]);
    assert_eq!(answer.cache(), "headgate; fwd=partial; stored");
    assert_eq!(answer.header("content-range"), Some("bytes 5-14/36"));
    let expected = (Some("bytes=10-14".to_owned()), Some("\"1\"".to_owned()));
    assert_eq!(last_asked(&origin), expected);
    assert!(asks(&gate, 0, 14).await);

    asks(&gate, 25, 29).await;
    assert!(!asks(&gate, 10, 27).await);
    assert_eq!(last_asked(&origin).0.as_deref(), Some("bytes=15-24"));
    assert!(asks(&gate, 0, 29).await);
    assert_eq!(origin.requests("/p"), 4);
}

#[tokio::test]
async fn s3_4_parts_that_make_the_whole_are_the_whole() {
    let origin = origin().await;
    let gate = passing(&origin).await;
    asks(&gate, 0, 17).await;
    asks(&gate, 18, 35).await;
    let whole = gate.get("/p").await.expect(200);
    assert_eq!((whole.text(), whole.is_hit()), (TEXT, true));
    assert_eq!(whole.header("content-length"), Some("36"));
    assert_eq!(whole.header("content-range"), None);
    assert!(
        gate.send(&Request::new("HEAD", "/p"))
            .await
            .expect(200)
            .is_hit()
    );
    assert_eq!(origin.requests("/p"), 2);
}

#[tokio::test]
async fn s3_4_a_digest_of_a_part_is_not_one_of_the_whole() {
    let fields = &[
        ("cache-control", "max-age=60"),
        ("content-digest", "sha-256=:x:"),
    ];
    let origin = Origin::start("a").await;
    let origin = origin.on("/p", move |seen| ranged(seen, "\"1\"", fields));
    let gate = passing(&origin).await;
    let part = gate
        .get_with("/p", &[("range", "bytes=0-17")])
        .await
        .expect(206);
    assert!(part.header("content-digest").is_some());
    let joined = gate
        .get_with("/p", &[("range", "bytes=5-35")])
        .await
        .expect(206);
    assert_eq!(joined.header("content-digest"), None);
    let whole = gate.get("/p").await.expect(200);
    assert_eq!(
        (whole.is_hit(), whole.header("content-digest")),
        (true, None)
    );
}

#[tokio::test]
async fn s3_4_parts_of_different_answers_are_never_put_together() {
    let tag = |seen: &Seen| if seen.earlier == 0 { "\"1\"" } else { "\"2\"" };
    let origin = Origin::start("a")
        .await
        .on("/p", move |seen| ranged(seen, tag(seen), FRESH));
    let gate = passing(&origin).await;
    asks(&gate, 0, 9).await;
    // It asks for 10-14 on condition of the first tag, and gets the whole of the second.
    let answer = gate
        .get_with("/p", &[("range", "bytes=5-14")])
        .await
        .expect(200);
    assert_eq!(
        (answer.text(), answer.header("etag")),
        (TEXT, Some("\"2\""))
    );
    // The part of the first is of use to nobody any more.
    assert!(!asks(&gate, 0, 9).await);
    assert!(asks(&gate, 0, 9).await);

    // An origin that does not know `If-Range` sends a part of the other.
    let origin = Origin::start("a").await.on("/p", |seen| {
        let tag = if seen.earlier == 0 { "\"1\"" } else { "\"2\"" };
        let (first, last) = if seen.earlier == 0 { (0, 9) } else { (10, 14) };
        Reply::new(206)
            .header("content-range", &format!("bytes {first}-{last}/36"))
            .header("etag", tag)
            .header("cache-control", "max-age=60")
            .body(&TEXT[first..=last])
    });
    let gate = passing(&origin).await;
    gate.get_with("/p", &[("range", "bytes=0-9")])
        .await
        .expect(206);
    let answer = gate
        .get_with("/p", &[("range", "bytes=5-14")])
        .await
        .expect(206);
    assert_eq!(answer.header("content-range"), Some("bytes 10-14/36"));
    assert_eq!(answer.text(), &TEXT[10..=14]);
}

#[tokio::test]
async fn s3_4_without_a_strong_validator_nothing_is_kept() {
    let origin = Origin::start("a")
        .await
        .on("/p", |seen| ranged(seen, "W/\"1\"", FRESH));
    let gate = passing(&origin).await;
    for _ in 0..2 {
        let answer = gate
            .get_with("/p", &[("range", "bytes=0-9")])
            .await
            .expect(206);
        assert_eq!(answer.cache(), "headgate; fwd=uri-miss; detail=partial");
    }
    assert_eq!(origin.requests("/p"), 2);
}

#[tokio::test]
async fn s3_what_forbids_to_store_a_whole_forbids_to_store_a_part() {
    for (fields, detail) in [
        (&[("cache-control", "no-store")][..], "no-store"),
        (&[("cache-control", "private, max-age=60")], "private"),
        (
            &[("cache-control", "max-age=60"), ("set-cookie", "a=b")],
            "set-cookie",
        ),
        (&[("cache-control", "max-age=60"), ("vary", "*")], "vary"),
    ] {
        let origin = Origin::start("a").await;
        let origin = origin.on("/p", move |seen| ranged(seen, "\"1\"", fields));
        let gate = passing(&origin).await;
        for _ in 0..2 {
            let answer = gate
                .get_with("/p", &[("range", "bytes=0-9")])
                .await
                .expect(206);
            assert!(answer.cache().contains(detail), "{}", answer.cache());
        }
        assert_eq!(origin.requests("/p"), 2, "{detail}");
    }
}

#[tokio::test]
async fn s4_2_a_stale_part_is_asked_for_again_and_made_fresh_by_what_comes() {
    let origin = origin().await;
    let gate = passing(&origin).await;
    asks(&gate, 0, 9).await;
    gate.advance(70);
    let answer = gate
        .get_with("/p", &[("range", "bytes=0-9")])
        .await
        .expect(206);
    assert_eq!(answer.cache(), "headgate; fwd=stale; stored");
    assert!(asks(&gate, 0, 9).await);
    gate.advance(70);
    // The rest confirms what is there.
    assert!(!asks(&gate, 5, 19).await);
    assert_eq!(last_asked(&origin).0.as_deref(), Some("bytes=10-19"));
    assert!(asks(&gate, 0, 19).await);
}

#[tokio::test]
async fn s4_1_parts_are_for_requests_like_the_one_that_brought_them() {
    let fields = &[("cache-control", "max-age=60"), ("vary", "accept")];
    let origin = Origin::start("a").await;
    let origin = origin.on("/p", move |seen| ranged(seen, "\"1\"", fields));
    let gate = passing(&origin).await;
    for accept in ["a", "b", "a", "b"] {
        let fields = [("range", "bytes=0-9"), ("accept", accept)];
        gate.get_with("/p", &fields).await.expect(206);
    }
    assert_eq!(origin.requests("/p"), 2);
}

#[tokio::test]
async fn s4_4_a_write_takes_the_parts_too() {
    let origin = origin().await;
    let gate = passing(&origin).await;
    asks(&gate, 0, 9).await;
    gate.send(&Request::post("/p", "x")).await.expect(200);
    assert!(!asks(&gate, 0, 9).await);
}

#[tokio::test]
async fn s4_3_2_a_condition_is_answered_before_the_part() {
    let origin = origin().await;
    let gate = passing(&origin).await;
    asks(&gate, 0, 9).await;
    let fields = [("range", "bytes=0-9"), ("if-none-match", "\"1\"")];
    assert!(gate.get_with("/p", &fields).await.expect(304).is_hit());
    let fields = [("range", "bytes=0-9"), ("if-range", "\"2\"")];
    let answer = gate.get_with("/p", &fields).await.expect(200);
    assert_eq!(answer.text(), TEXT);
    assert_eq!(last_asked(&origin).1.as_deref(), Some("\"2\""));
    // The part is still of what there is.
    assert!(asks(&gate, 0, 9).await);
}

#[tokio::test]
async fn s5_2_1_what_a_request_demands_holds_for_parts() {
    let origin = origin().await;
    let gate = passing(&origin).await;
    let cached = [("range", "bytes=0-9"), ("cache-control", "only-if-cached")];
    gate.get_with("/p", &cached).await.expect(504);
    asks(&gate, 0, 9).await;
    assert!(gate.get_with("/p", &cached).await.expect(206).is_hit());
    let demands = [("range", "bytes=0-9"), ("cache-control", "no-cache")];
    let answer = gate.get_with("/p", &demands).await.expect(206);
    assert_eq!(answer.cache(), "headgate; fwd=request; stored");
    assert_eq!(origin.requests("/p"), 2);
}

#[tokio::test]
async fn s3_5_what_may_be_one_users_is_not_for_others() {
    let origin = origin().await;
    let gate = passing(&origin).await;
    let user = [("range", "bytes=0-9"), ("authorization", "Bearer x")];
    let answer = gate.get_with("/p", &user).await.expect(206);
    assert!(
        answer.cache().contains("detail=authorization"),
        "{}",
        answer.cache()
    );
    assert!(!asks(&gate, 0, 9).await);
    let answer = gate.get_with("/p", &user).await.expect(206);
    assert!(!answer.is_hit(), "{}", answer.cache());
}

#[tokio::test]
async fn s3_3_of_a_part_that_breaks_off_what_came_is_kept() {
    let origin = Origin::start("a")
        .await
        .on("/p", |seen| match seen.earlier {
            0 => Reply::new(206)
                .header("content-range", "bytes 0-19/36")
                .header("content-type", "text/plain")
                .header("content-length", "20")
                .header("etag", "\"1\"")
                .header("cache-control", "max-age=60")
                .then(&TEXT[..10])
                .close(),
            _ => ranged(seen, "\"1\"", FRESH),
        });
    let gate = passing(&origin).await;
    let mut client = gate.client().await;
    client
        .write(Request::get("/p").header("range", "bytes=0-19").bytes())
        .await;
    client.head().await.expect(206);
    assert_eq!(client.until_closed().await, TEXT.as_bytes()[..10]);
    assert!(asks(&gate, 0, 9).await);
    assert!(!asks(&gate, 0, 19).await);
    assert_eq!(last_asked(&origin).0.as_deref(), Some("bytes=10-19"));
}

#[tokio::test]
async fn s3_3_what_is_not_one_part_passes_by() {
    let origin = Origin::start("a")
        .await
        .on("/p", |seen| match seen.header("range") {
            Some(range) if range.contains(',') => Reply::new(206)
                .header("content-type", "multipart/byteranges; boundary=x")
                .header("etag", "\"1\"")
                .header("cache-control", "max-age=60")
                .body("--x--"),
            _ => Reply::new(416)
                .header("content-range", "bytes */36")
                .body(""),
        });
    let gate = passing(&origin).await;
    for (range, status) in [("bytes=0-0,200-300", 206), ("bytes=40-", 416)] {
        for _ in 0..2 {
            let answer = gate
                .get_with("/p", &[("range", range)])
                .await
                .expect(status);
            assert_eq!(answer.cache(), "headgate; fwd=bypass; detail=range");
        }
    }
    assert_eq!(origin.requests("/p"), 4);
    assert_eq!(last_asked(&origin).0.as_deref(), Some("bytes=40-"));
}

#[tokio::test]
async fn rfc5861_s4_a_stale_part_is_served_when_the_origin_fails() {
    let failing = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&failing);
    let origin = Origin::start("a").await.on("/p", move |seen| {
        let fields = &[("cache-control", "max-age=60, stale-if-error=60")];
        match told.load(SeqCst) {
            true => Reply::new(503).body("failed"),
            false => ranged(seen, "\"1\"", fields),
        }
    });
    let mut origin = origin;
    let gate = passing(&origin).await;
    asks(&gate, 0, 9).await;
    gate.advance(70);
    failing.store(true, SeqCst);
    let within = [("range", "bytes=2-7")];
    let stale = gate.get_with("/p", &within).await.expect(206);
    let said = "headgate; fwd=stale; fwd-status=503; detail=stale-if-error";
    assert_eq!((stale.text(), stale.cache()), (&TEXT[2..=7], said));
    // What is not stored cannot be served, and a demand is one.
    for more in [
        &[("range", "bytes=5-14")][..],
        &[within[0], ("cache-control", "max-age=5")],
    ] {
        gate.get_with("/p", more).await.expect(503);
    }
    origin.kill().await;
    let stale = gate.get_with("/p", &within).await.expect(206);
    assert_eq!(stale.cache(), "headgate; fwd=stale; detail=stale-if-error");
    gate.advance(60);
    assert!(gate.get_with("/p", &within).await.status >= 500);
}

#[tokio::test]
async fn rfc5861_s3_a_stale_part_is_served_at_once_and_fetched_anew_once_behind_it() {
    let latch = Latch::new();
    let held = latch.clone();
    let origin = Origin::start("a").await.on("/p", move |seen| {
        let fields = &[("cache-control", "max-age=60, stale-while-revalidate=60")];
        let reply = ranged(seen, "\"1\"", fields);
        match seen.earlier {
            0 => reply,
            _ => reply.after(&held),
        }
    });
    let gate = passing(&origin).await;
    asks(&gate, 0, 9).await;
    gate.advance(70);
    for _ in 0..3 {
        let stale = gate.get_with("/p", &[("range", "bytes=0-9")]).await;
        assert_eq!(stale.expect(206).cache(), "headgate; hit; ttl=-10");
    }
    origin.until_asked("/p", 2).await;
    latch.open();
    eventually("it is fetched anew", async || {
        let answer = gate.get_with("/p", &[("range", "bytes=0-9")]).await;
        (!answer.cache().contains("ttl=-")).then_some(())
    })
    .await;
    assert_eq!(origin.requests("/p"), 2);
}

#[tokio::test]
async fn s3_4_a_part_that_does_not_repeat_the_tag_is_joined_to_nothing() {
    let changed = Arc::new(AtomicBool::new(false));
    let is_changed = Arc::clone(&changed);
    let origin = Origin::start("a").await.on("/p", move |seen| {
        if !is_changed.load(SeqCst) {
            return ranged(seen, "\"1\"", FRESH);
        }
        // It knows no `If-Range`, and says no tag.
        Reply::new(206)
            .header("content-range", "bytes 10-19/36")
            .header("cache-control", "max-age=60")
            .body("##########")
    });
    let gate = passing(&origin).await;
    asks(&gate, 0, 9).await;
    changed.store(true, SeqCst);

    let answer = gate.get_with("/p", &[("range", "bytes=0-19")]).await;

    assert_eq!(answer.text(), "##########");
    assert_eq!(answer.header("content-range"), Some("bytes 10-19/36"));
}

#[tokio::test]
async fn s3_3_a_part_of_another_length_than_it_says_is_joined_to_nothing() {
    for (is_told, body) in [(true, "abcde"), (true, "abcdefghijklmno"), (false, "abcde")] {
        let origin = Origin::start("a")
            .await
            .on("/p", move |seen| match seen.header("range") {
                Some("bytes=10-19") => {
                    let reply = Reply::new(206)
                        .header("content-range", "bytes 10-19/36")
                        .header("cache-control", "max-age=60")
                        .header("etag", "\"1\"");
                    match is_told {
                        true => reply.body(body),
                        false => reply.chunks(&[body]),
                    }
                }
                _ => ranged(seen, "\"1\"", FRESH),
            });
        let gate = passing(&origin).await;
        asks(&gate, 0, 9).await;
        asks(&gate, 20, 29).await;

        let mut client = gate.client().await;
        let request = Request::get("/p").header("range", "bytes=0-29");
        let answer = client.try_send(&request).await;

        match answer {
            // As it came, with what it says of itself.
            Ok(answer) => {
                assert!(is_told);
                assert_eq!(answer.header("content-range"), Some("bytes 10-19/36"));
                assert_eq!(answer.text(), body);
            }
            // Joined already: then it breaks off.
            Err(_) => assert!(!is_told),
        }
    }
}

#[tokio::test]
async fn rfc9213_what_is_for_this_cache_alone_ends_here_in_parts_too() {
    let fields = &[
        ("cache-control", "max-age=60"),
        ("headgate-cache-control", "max-age=30"),
        ("surrogate-key", "a b"),
    ];
    let origin = Origin::start("a").await;
    let origin = origin.on("/p", move |seen| ranged(seen, "\"1\"", fields));
    let gate = passing(&origin).await;
    for range in ["bytes=0-9", "bytes=0-9", "bytes=0-19"] {
        let answer = gate.get_with("/p", &[("range", range)]).await.expect(206);
        for name in ["headgate-cache-control", "surrogate-key"] {
            assert_eq!(answer.header(name), None, "{range}: {name}");
        }
    }
}
