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
            Some("text/b"),
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

#[tokio::test]
async fn s4_3_1_validators_of_a_stale_answer_go_to_the_origin_and_the_clients_own_do_not() {
    for (stored, sent) in [
        (&[("etag", "\"a\"")][..], &[("if-none-match", "\"a\"")][..]),
        (&[("etag", "W/\"a\"")], &[("if-none-match", "W/\"a\"")]),
        (
            &[("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT")],
            &[("if-modified-since", "Thu, 01 Jan 2026 00:00:00 GMT")],
        ),
        (
            &[
                ("etag", "\"a\""),
                ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT"),
            ],
            &[
                ("if-none-match", "\"a\""),
                ("if-modified-since", "Thu, 01 Jan 2026 00:00:00 GMT"),
            ],
        ),
        (&[], &[]),
    ] {
        let origin = Origin::start("a").await.on("/p", move |_| {
            let reply = Reply::ok("p").header("cache-control", "max-age=10");
            stored
                .iter()
                .fold(reply, |reply, (name, value)| reply.header(name, value))
        });
        let gate = Timed::caching(&origin, "").await;
        gate.get("/p").await.expect(200);
        gate.advance(20);
        let own = [
            ("if-none-match", "\"of the client\""),
            ("if-modified-since", "Fri, 02 Jan 2026 00:00:00 GMT"),
        ];
        gate.get_with("/p", &own).await.expect(200);
        let asked = origin.last("/p");
        for name in ["if-none-match", "if-modified-since"] {
            let expected = sent.iter().find(|(sent, _)| *sent == name);
            assert_eq!(
                asked.header(name),
                expected.map(|(_, value)| *value),
                "{stored:?}"
            );
        }
    }
}

#[tokio::test]
async fn s4_3_2_what_only_the_origin_can_judge_goes_there() {
    let origin = Origin::start("a").await.on("/p", |seen| {
        match seen
            .header("if-match")
            .or_else(|| seen.header("if-unmodified-since"))
        {
            Some(_) => Reply::new(412).body("not so"),
            None => Reply::ok("p")
                .header("etag", "\"1\"")
                .header("cache-control", "max-age=100"),
        }
    });
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    for field in [
        ("if-match", "\"1\""),
        ("if-match", "*"),
        ("if-unmodified-since", "Thu, 01 Jan 2026 00:00:00 GMT"),
    ] {
        gate.get_with("/p", &[field]).await.expect(412);
        assert_eq!(origin.last("/p").header(field.0), Some(field.1));
    }
    assert!(gate.get("/p").await.is_hit());
}

#[tokio::test]
async fn s4_3_2_without_last_modified_the_date_is_measured() {
    let origin = Origin::start("a").await.on("/p", |_| {
        Reply::ok("p").header("cache-control", "max-age=1000")
    });
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    let since = |seconds| super::date(seconds);
    let later = gate
        .get_with("/p", &[("if-modified-since", &since(60))])
        .await;
    assert!(later.status == 304 && later.is_hit(), "{}", later.status);
    let earlier = gate
        .get_with("/p", &[("if-modified-since", &since(-60))])
        .await;
    assert!(earlier.status == 200 && earlier.is_hit());
}

#[tokio::test]
async fn s4_3_2_conditions_are_for_a_200_alone() {
    let origin = Origin::start("a").await.on("/p", |_| {
        Reply::new(404)
            .header("etag", "\"1\"")
            .header("cache-control", "max-age=100")
            .body("gone")
    });
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(404);
    let answer = gate.get_with("/p", &[("if-none-match", "\"1\"")]).await;
    assert!(answer.is_hit(), "{}", answer.cache());
    assert_eq!((answer.status, answer.text()), (404, "gone"));
}

#[tokio::test]
async fn rfc9110_s15_4_5_a_304_from_the_store_says_what_a_200_would_have() {
    let origin = Origin::start("a").await.on("/p", |_| {
        Reply::ok("p")
            .header("etag", "\"1\"")
            .header("date", &super::date(0))
            .header("vary", "accept")
            .header("content-location", "/other")
            .header("expires", &super::date(1000))
            .header("cache-control", "max-age=1000")
            .header("content-type", "text/plain")
    });
    let gate = Timed::caching(&origin, "").await;
    let whole = gate.get("/p").await.expect(200);
    let answer = gate
        .get_with("/p", &[("if-none-match", "W/\"1\"")])
        .await
        .expect(304);
    for name in [
        "etag",
        "date",
        "vary",
        "content-location",
        "expires",
        "cache-control",
    ] {
        assert_eq!(answer.all(name), whole.all(name), "{name}");
    }
    assert!(answer.header("age").is_some());
    assert_eq!(
        (
            answer.header("content-type"),
            answer.header("content-length")
        ),
        (None, None)
    );
}

#[tokio::test]
async fn s4_3_2_a_client_that_has_what_a_validation_confirms_is_told_so() {
    let origin = Origin::start("a").await.on("/p", |seen| {
        match seen.header("if-modified-since") {
            Some(_) => Reply::new(304),
            None => Reply::ok("p"),
        }
        .header("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        .header("cache-control", "max-age=10")
    });
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    gate.advance(20);
    let held = [("if-modified-since", "Thu Jan  1 00:00:00 2026")];
    let answer = gate.get_with("/p", &held).await.expect(304);
    assert_eq!(answer.cache(), "headgate; fwd=stale; fwd-status=304");
    gate.advance(20);
    assert_eq!(gate.get("/p").await.expect(200).text(), "p");
}

#[tokio::test]
async fn s4_3_3_a_whole_answer_replaces_what_is_stored_and_an_error_does_not() {
    let origin = Origin::start("a").await.on("/p", |seen| {
        let reply = match seen.earlier {
            1 => return Reply::new(500).body("broken"),
            2 => return Reply::new(404).body("lost"),
            n => Reply::ok(format!("page {n}")),
        };
        reply
            .header("etag", "\"1\"")
            .header("cache-control", "max-age=10")
    });
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    gate.advance(20);
    // Nobody allowed to serve stale: what came is what is told.
    assert_eq!(gate.get("/p").await.expect(500).text(), "broken");
    assert_eq!(gate.get("/p").await.expect(404).text(), "lost");
    // For a moment it is remembered that this URL has answers that cannot be kept.
    gate.advance(20);
    assert_eq!(gate.get("/p").await.expect(200).text(), "page 3");
    let hit = gate.get("/p").await.expect(200);
    assert!(hit.is_hit());
    assert_eq!(hit.text(), "page 3");
}

#[tokio::test]
async fn s3_2_each_field_of_a_304_takes_the_place_of_the_stored_one() {
    const FIELDS: &[(&str, &str, &str)] = &[
        ("test-header", "a", "b"),
        ("x-test-header", "a", "b"),
        ("content-foo", "a", "b"),
        ("x-content-foo", "a", "b"),
        ("content-location", "/foo", "/bar"),
        (
            "content-md5",
            "rL0Y20zC+Fzt72VPzMSk2A==",
            "N7UdGUp1E+RbVvZSTy1R8g==",
        ),
        (
            "content-security-policy",
            "default-src 'self'",
            "default-src *",
        ),
        ("content-type", "text/plain", "text/plain;charset=utf-8"),
        ("clear-site-data", "cache", "cookies"),
        (
            "expires",
            "Fri, 01 Jan 2038 01:01:01 GMT",
            "Mon, 11 Jan 2038 11:11:11 GMT",
        ),
        ("public-key-pins", "a", "b"),
        ("set-cookie2", "a=b", "a=c"),
        ("x-frame-options", "deny", "sameorigin"),
        ("x-xss-protection", "1", "1; mode=block"),
    ];
    let origin = Origin::start("a").await.on("/p", |seen| {
        let is_first = seen.header("if-none-match").is_none();
        let reply = match is_first {
            true => Reply::ok("page").header("cache-control", "max-age=10"),
            false => Reply::new(304).header("cache-control", "max-age=100"),
        };
        let said = FIELDS.iter().map(|(name, first, second)| match is_first {
            true => (name, first),
            false => (name, second),
        });
        let reply = said.fold(reply, |reply, (name, value)| reply.header(name, value));
        match is_first {
            true => reply
                .header("x-kept", "yes")
                .header("x-twice", "1")
                .header("x-twice", "2"),
            false => reply
                .header("x-twice", "3")
                .header("connection", "x-hop")
                .header("x-hop", "1"),
        }
        .header("etag", "\"1\"")
    });
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    gate.advance(20);
    for is_hit in [false, true] {
        let answer = gate.get("/p").await.expect(200);
        assert_eq!(answer.is_hit(), is_hit);
        assert_eq!(answer.text(), "page");
        for (name, _, second) in FIELDS {
            assert_eq!(answer.all(name), [*second], "{name}");
        }
        assert_eq!(answer.header("x-kept"), Some("yes"));
        assert_eq!(answer.all("x-twice"), ["3"]);
        assert_eq!(answer.header("x-hop"), None);
        assert_eq!(answer.header("content-length"), Some("4"));
    }
}

#[tokio::test]
async fn s3_2_a_304_does_not_change_how_the_stored_bytes_are_read() {
    let origin = Origin::start("a").await.on("/p", |seen| {
        match seen.header("if-none-match") {
            None => Reply::ok("page").header("content-encoding", "x-none"),
            Some(_) => Reply::raw(
                "HTTP/1.1 304 Not Modified\r\netag: \"1\"\r\ncontent-length: 999\r\n\
                 content-encoding: gzip\r\ncontent-range: bytes 0-1/4\r\n\
                 cache-control: max-age=100\r\n\r\n",
            ),
        }
        .header("etag", "\"1\"")
        .header("cache-control", "max-age=10")
    });
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    gate.advance(20);
    for _ in 0..2 {
        let answer = gate.get("/p").await.expect(200);
        assert_eq!(answer.text(), "page");
        assert_eq!(answer.header("content-length"), Some("4"));
        assert_eq!(answer.header("content-encoding"), Some("x-none"));
        assert_eq!(answer.header("content-range"), None);
    }
}

#[tokio::test]
async fn s4_3_4_a_304_that_forbids_storing_is_heeded() {
    let origin = Origin::start("a").await.on("/p", |seen| {
        match seen.header("if-none-match") {
            Some(_) => Reply::new(304).header("cache-control", "no-store"),
            None => {
                Reply::ok(format!("page {}", seen.earlier)).header("cache-control", "max-age=10")
            }
        }
        .header("etag", "\"1\"")
    });
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    gate.advance(20);
    assert_eq!(gate.get("/p").await.expect(200).text(), "page 0");
    assert_eq!(
        gate.get("/p").await.expect(200).text(),
        "page 2",
        "it is gone"
    );
}

#[tokio::test]
async fn s4_3_5_what_a_user_is_told_in_a_head_updates_nothing_for_others() {
    for user in [("cookie", "session=1"), ("authorization", "Bearer x")] {
        let origin = Origin::start("a").await.on("/p", |seen| {
            let reply = Reply::ok("12345").header("etag", "\"1\"");
            match seen.method.as_str() {
                "HEAD" => reply
                    .header("cache-control", "max-age=1000")
                    .header("x-user", "bob"),
                _ => reply.header("cache-control", "max-age=100"),
            }
        });
        let gate = Timed::caching(&origin, "").await;
        gate.get("/p").await.expect(200);
        gate.advance(150);
        let head = Request::new("HEAD", "/p").header(user.0, user.1);
        gate.send(&head).await.expect(200);
        let answer = gate.get("/p").await.expect(200);
        assert!(!answer.is_hit(), "{user:?}: {}", answer.cache());
        assert_eq!(answer.header("x-user"), None);
    }
}

#[tokio::test]
async fn s4_3_5_and_rfc9110_s9_3_2_a_stored_get_answers_head_and_head_stores_nothing() {
    let origin = Origin::start("a").await.on("/p", |_| {
        Reply::ok("12345")
            .header("x-kept", "yes")
            .header("cache-control", "max-age=100")
    });
    let gate = Timed::caching(&origin, "").await;
    let head = Request::new("HEAD", "/p");
    gate.send(&head).await.expect(200);
    let first = gate.get("/p").await.expect(200);
    assert_eq!((first.is_hit(), first.text()), (false, "12345"));
    let answer = gate.send(&head).await.expect(200);
    assert!(answer.is_hit());
    assert_eq!(answer.header("content-length"), Some("5"));
    assert_eq!(answer.header("x-kept"), Some("yes"));
    assert!(answer.body.is_empty());
}

#[tokio::test]
async fn rfc9110_s8_8_3_tags_are_compared_by_their_bytes() {
    for (held, asked, is_held) in [
        ("\"abc\"", "\"abc\"", true),
        ("\"abc\"", "W/\"abc\"", true),
        ("W/\"abc\"", "\"abc\"", true),
        ("W/\"abc\"", "W/\"abc\"", true),
        ("\"abc\"", "\"ABC\"", false),
        ("\"abc\"", "\"abc", false),
        ("\"abc\"", "\"1\", \"abc\", \"2\"", true),
        ("\"abc\"", "\"1\",\"2\",\"abc\"", true),
        ("\"abc\"", "\"x, \"abc\", y\"", false),
        ("\"a,b\"", "\"1\", \"a,b\"", true),
        ("\"\"", "\"\"", true),
        ("\"abc\"", "*", true),
        ("\"abc\"", "\"*\"", false),
    ] {
        let origin = Origin::start("a").await.on("/p", move |_| {
            Reply::ok("p")
                .header("etag", held)
                .header("cache-control", "max-age=100")
        });
        let gate = Timed::caching(&origin, "").await;
        gate.get("/p").await.expect(200);
        let answer = gate.get_with("/p", &[("if-none-match", asked)]).await;
        let expected = if is_held { 304 } else { 200 };
        assert_eq!(answer.status, expected, "{held} {asked}");
        assert!(answer.is_hit());
        if is_held {
            assert_eq!(answer.header("etag"), Some(held));
        }
    }
}

#[tokio::test]
async fn s4_3_5_a_head_that_nominates_other_fields_makes_the_stored_answer_stale() {
    for vary in ["accept-language", "*"] {
        let origin = Origin::start("a").await.on("/p", move |seen| {
            let language = seen.header("accept-language").unwrap_or("en").to_owned();
            let reply = match &*seen.method {
                "HEAD" => Reply::new(200).header("vary", vary),
                _ => Reply::ok(language),
            };
            reply
                .header("etag", "\"1\"")
                .header("cache-control", "max-age=60")
        });
        let gate = Timed::caching(&origin, "").await;
        let german = [("accept-language", "de")];
        gate.get_with("/p", &german).await.expect(200);
        let head = Request::new("HEAD", "/p").header("accept-language", "de");
        gate.send(&head.header("cache-control", "no-cache")).await;

        let answer = gate.get_with("/p", &[("accept-language", "en")]).await;

        assert!(!answer.is_hit(), "{vary}: {}", answer.cache());
    }
}

#[tokio::test]
async fn s4_3_5_the_tags_that_a_head_brings_count() {
    let origin = heads(&[
        ("etag", "\"1\""),
        ("cache-control", "max-age=100"),
        ("surrogate-key", "sale"),
    ])
    .await;
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    let head = Request::new("HEAD", "/p").header("cache-control", "no-cache");
    gate.send(&head).await.expect(200);
    assert!(gate.get("/p").await.is_hit());
    let purge = Request::post("/api/purge", "{\"tags\": [\"sale\"]}");
    let purge = purge.or_host(&gate.admin.to_string());
    gate.ask(&purge).await.expect(200);
    assert!(!gate.get("/p").await.is_hit());
}

#[tokio::test]
async fn s4_3_4_a_304_to_one_user_takes_nothing_from_the_others() {
    let origin = Origin::start("a").await.on("/p", |seen| {
        let reply = match seen.header("if-none-match") {
            Some(_) => Reply::new(304),
            None => Reply::ok("page"),
        };
        reply
            .header("etag", "\"1\"")
            .header("cache-control", "max-age=60")
    });
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    let user = [("cookie", "session=1"), ("cache-control", "no-cache")];
    let answer = gate.get_with("/p", &user).await.expect(200);
    assert!(
        answer.cache().contains("fwd-status=304"),
        "{}",
        answer.cache()
    );

    let answer = gate.get("/p").await.expect(200);

    assert!(answer.is_hit(), "{}", answer.cache());
    assert_eq!(origin.requests("/p"), 2);
}
