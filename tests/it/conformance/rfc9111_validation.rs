//! RFC 9111 section 4.3: what is stored is confirmed, updated or replaced.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crate::harness::{Origin, Reply, Request, Timed};

/// An origin with one page in two languages, each with a tag; it says `304` where it may.
async fn bilingual() -> Origin {
    Origin::start("a").await.on("/p", |seen| {
        let language = seen.header("accept-language").unwrap_or("en");
        // Swiss readers have the German page.
        let page = match language {
            "de" | "de-ch" => "de",
            _ => "en",
        };
        let tag = format!("\"{page}\"");
        let held = seen.header("if-none-match").unwrap_or_default();
        let reply = match held.contains(&tag) {
            true => Reply::new(304),
            false => Reply::ok(page),
        };
        reply
            .header("etag", &tag)
            .header("vary", "accept-language")
            .header("cache-control", "max-age=10")
    })
}

#[tokio::test]
async fn s4_3_1_all_stored_tags_are_offered_and_the_answer_picks_one() {
    let origin = bilingual().await;
    let gate = Timed::caching(&origin, "").await;
    for language in ["en", "de"] {
        gate.get_with("/p", &[("accept-language", language)])
            .await
            .expect(200);
    }

    let swiss = gate.get_with("/p", &[("accept-language", "de-ch")]).await;

    let asked = origin.last("/p");
    let offered = asked.header("if-none-match").unwrap();
    assert!(
        offered.contains("\"en\"") && offered.contains("\"de\""),
        "{offered}"
    );
    assert_eq!((swiss.status, swiss.text()), (200, "de"));
    assert_eq!(swiss.cache(), "headgate; fwd=vary-miss; fwd-status=304");
    let again = gate.get_with("/p", &[("accept-language", "de-ch")]).await;
    assert!(again.is_hit(), "{}", again.cache());
    assert_eq!(again.text(), "de");
    assert_eq!(origin.requests("/p"), 3);
}

#[tokio::test]
async fn s4_3_4_a_304_replaces_the_fields_it_has_and_leaves_the_others() {
    let asked = Arc::new(AtomicUsize::new(0));
    let origin = Origin::start("a").await.on("/p", move |_| {
        match asked.fetch_add(1, SeqCst) {
            0 => Reply::ok("page")
                .header("x-kept", "old")
                .header("x-changed", "old")
                .header("content-type", "text/a")
                .header("cache-control", "max-age=10"),
            _ => Reply::new(304)
                .header("x-changed", "new")
                .header("x-new", "new")
                .header("content-type", "text/b")
                .header("content-length", "999")
                .header("cache-control", "max-age=100"),
        }
        .header("etag", "\"1\"")
    });
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    gate.advance(15);
    gate.get("/p").await.expect(200);
    gate.advance(50);

    let updated = gate.get("/p").await.expect(200);

    assert!(updated.is_hit(), "{}", updated.cache());
    assert_eq!(updated.text(), "page");
    let fields =
        ["x-kept", "x-changed", "x-new", "content-type", "age"].map(|name| updated.header(name));
    assert_eq!(
        fields,
        [
            Some("old"),
            Some("new"),
            Some("new"),
            Some("text/a"),
            Some("50")
        ]
    );
}

#[tokio::test]
async fn s4_3_4_a_304_about_something_else_updates_nothing() {
    let asked = Arc::new(AtomicUsize::new(0));
    let origin = Origin::start("a").await.on("/p", move |seen| {
        let reply = match asked.fetch_add(1, SeqCst) {
            1 => Reply::new(304).header("etag", "\"other\""),
            n => Reply::ok(format!("page {n} {:?}", seen.header("if-none-match")))
                .header("etag", "\"1\""),
        };
        reply.header("cache-control", "max-age=10")
    });
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    gate.advance(15);

    let fetched = gate.get("/p").await.expect(200);

    assert_eq!(fetched.text(), "page 2 None");
}

#[tokio::test]
async fn s4_3_4_a_strong_tag_does_not_confirm_a_weak_one() {
    let asked = Arc::new(AtomicUsize::new(0));
    let origin = Origin::start("a").await.on("/p", move |_| {
        let reply = match asked.fetch_add(1, SeqCst) {
            0 => Reply::ok("old").header("etag", "W/\"1\""),
            1 => Reply::new(304).header("etag", "\"1\""),
            _ => Reply::ok("new").header("etag", "\"1\""),
        };
        reply.header("cache-control", "max-age=10")
    });
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    gate.advance(15);
    assert_eq!(gate.get("/p").await.expect(200).text(), "new");
}

/// An origin whose answer to `HEAD` has another validator, length or lifetime than that to `GET`.
async fn heads(fields: &'static [(&'static str, &'static str)]) -> Origin {
    Origin::start("a").await.on("/p", move |seen| {
        if seen.method == "HEAD" {
            let reply = Reply::new(200);
            return fields
                .iter()
                .fold(reply, |reply, (name, value)| reply.header(name, value));
        }
        Reply::ok("12345")
            .header("etag", "\"1\"")
            .header("cache-control", "max-age=10")
    })
}

#[tokio::test]
async fn s4_3_5_a_head_that_describes_the_stored_answer_freshens_it() {
    let same = &[
        ("etag", "\"1\""),
        ("content-length", "5"),
        ("cache-control", "max-age=100"),
        ("x-new", "yes"),
    ];
    let origin = heads(same).await;
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    gate.advance(15);
    gate.send(&Request::new("HEAD", "/p")).await.expect(200);
    gate.advance(50);

    let answer = gate.get("/p").await.expect(200);

    assert!(answer.is_hit(), "{}", answer.cache());
    assert_eq!(
        (answer.text(), answer.header("x-new")),
        ("12345", Some("yes"))
    );
}

#[tokio::test]
async fn s4_3_5_a_head_that_tells_of_another_answer_makes_the_stored_one_stale() {
    for other in [
        &[("etag", "\"2\""), ("cache-control", "max-age=100")][..],
        &[("content-length", "6")],
        &[("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT")],
    ] {
        let origin = heads(other).await;
        let gate = Timed::caching(&origin, "").await;
        gate.get("/p").await.expect(200);
        // Fresh, but the client wants to be sure.
        let head = Request::new("HEAD", "/p").header("cache-control", "no-cache");
        gate.send(&head).await.expect(200);

        let answer = gate.get("/p").await.expect(200);

        assert!(!answer.is_hit(), "{other:?}: {}", answer.cache());
    }
}

#[tokio::test]
async fn s4_3_2_a_clients_own_conditions_are_answered_from_the_store() {
    let origin = Origin::start("a").await.on("/p", |_| {
        Reply::ok("page")
            .header("etag", "W/\"1\"")
            .header("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            .header("cache-control", "max-age=10")
    });
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    for (fields, status) in [
        (&[("if-none-match", "\"0\", \"1\"")][..], 304),
        (&[("if-none-match", "*")], 304),
        (&[("if-none-match", "\"2\"")], 200),
        (
            &[("if-modified-since", "Thu, 01 Jan 2026 00:00:00 GMT")],
            304,
        ),
        (
            &[("if-modified-since", "Wednesday, 31-Dec-25 23:59:59 GMT")],
            200,
        ),
        (&[("if-modified-since", "no date")], 200),
        // RFC 9110 section 13.2.2: the tag goes before the date.
        (
            &[
                ("if-none-match", "\"2\""),
                ("if-modified-since", "Thu, 01 Jan 2026 00:00:00 GMT"),
            ],
            200,
        ),
    ] {
        let answer = gate.get_with("/p", fields).await;
        assert_eq!(answer.status, status, "{fields:?}");
        assert!(answer.is_hit(), "{fields:?}: {}", answer.cache());
    }
    assert_eq!(origin.requests("/p"), 1);
}
