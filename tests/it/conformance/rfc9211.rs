//! RFC 9211: what each answer of a caching route says of the cache.

use sfv::{BareItem, List, ListEntry, Parser};

use crate::harness::{Answer, Latch, Origin, Reply, Request, Timed};

/// Our member of the field: its parameters in order, each with its value as text.
fn ours(answer: &Answer) -> Vec<(String, String)> {
    let lines = answer.all("cache-status").join(", ");
    let list: List = Parser::new(lines.as_bytes())
        .parse()
        .unwrap_or_else(|error| panic!("{lines}: {error}"));
    let Some(ListEntry::Item(member)) = list.last() else {
        panic!("no member of ours: {lines:?}")
    };
    match &member.bare_item {
        BareItem::Token(name) => assert_eq!(name.as_str(), "headgate", "{lines}"),
        other => panic!("{other:?} in {lines}"),
    }
    let parameters = member.params.iter().map(|(name, value)| {
        let text = match value {
            BareItem::Boolean(true) => "yes".to_owned(),
            BareItem::Integer(number) => number.to_string(),
            BareItem::Token(token) => token.as_str().to_owned(),
            BareItem::String(text) => text.as_str().to_owned(),
            other => panic!("{name}={other:?} in {lines}"),
        };
        (name.as_str().to_owned(), text)
    });
    parameters.collect()
}

/// The parameters of ours, checked for what section 2 forbids.
fn checked(answer: &Answer) -> Vec<(String, String)> {
    let ours = ours(answer);
    let value = |name: &str| {
        let found = ours.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    };
    assert_ne!(
        value("hit").is_some(),
        value("fwd").is_some(),
        "either it was a hit or it went forward: {ours:?}"
    );
    if value("fwd").is_none() {
        for name in ["fwd-status", "stored", "collapsed"] {
            assert_eq!(
                value(name),
                None,
                "{name} is of what went forward: {ours:?}"
            );
        }
    }
    if let Some(why) = value("fwd") {
        let words = [
            "bypass",
            "method",
            "uri-miss",
            "vary-miss",
            "miss",
            "request",
            "stale",
            "partial",
        ];
        assert!(words.contains(&why), "{why}");
    }
    for number in ["ttl", "fwd-status"] {
        assert!(value(number).is_none_or(|text| text.parse::<i64>().is_ok()));
    }
    for flag in ["hit", "stored", "collapsed"] {
        assert!(value(flag).is_none_or(|text| text == "yes"));
    }
    ours
}

fn value(answer: &Answer, name: &str) -> String {
    let found = checked(answer).into_iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value).unwrap_or_default()
}

/// An origin with a page for every road an answer can take.
async fn origin() -> Origin {
    Origin::start("a").await.on("*", |seen| {
        let fresh = Reply::ok("p").header("cache-control", "max-age=100");
        match seen.path() {
            "/fresh" => fresh.header("etag", "\"1\""),
            "/tagged" => match seen.header("if-none-match") {
                Some(_) => Reply::new(304).header("cache-control", "max-age=100"),
                None => fresh,
            }
            .header("etag", "\"1\""),
            "/varies" => fresh.header("vary", "foo"),
            "/star" => fresh.header("vary", "*"),
            "/cookie" => fresh.header("set-cookie", "a=b"),
            "/private" => Reply::ok("p").header("cache-control", "private"),
            "/no-store" => Reply::ok("p").header("cache-control", "no-store"),
            "/never" => Reply::ok("p").header("cache-control", "max-age=0"),
            "/created" => Reply::new(201).body("p"),
            "/broken" => Reply::new(500).body("p"),
            "/large" => Reply::ok(vec![b'x'; 2 << 20]).header("cache-control", "max-age=100"),
            "/inner" => fresh
                .header("cache-status", "inner; hit; ttl=5")
                .header("cache-status", "\"second one\"; fwd=miss"),
            other => panic!("{other}"),
        }
    })
}

#[expect(clippy::too_many_lines, reason = "a table")]
#[tokio::test]
async fn s2_every_answer_says_what_became_of_it() {
    let origin = origin().await;
    let config = crate::harness::Config::new()
        .upstream("shop", &[&origin], "")
        .top("cache: { max_object: 1MiB }")
        .route("shop", "path_prefix: /", "upstream: shop, cache: {}");
    let gate = Timed::start(config).await;
    let get = |target: &str| Request::get(target);
    for (request, expected) in [
        (get("/fresh"), &[("fwd", "uri-miss"), ("stored", "yes")][..]),
        (get("/fresh"), &[("hit", "yes")]),
        (Request::new("HEAD", "/fresh"), &[("hit", "yes")]),
        (
            get("/fresh").header("if-none-match", "\"1\""),
            &[("hit", "yes")],
        ),
        (
            get("/fresh").header("cache-control", "no-cache"),
            &[("fwd", "request"), ("stored", "yes")],
        ),
        (
            get("/fresh").header("cache-control", "no-store"),
            &[("detail", "request-no-store")],
        ),
        (
            get("/fresh").header("if-match", "\"1\""),
            &[("fwd", "bypass"), ("detail", "precondition")],
        ),
        (
            get("/fresh").header("authorization", "x"),
            &[("fwd", "bypass"), ("detail", "authorization")],
        ),
        (
            get("/fresh").header("range", "bytes=0-0"),
            &[("hit", "yes")],
        ),
        (get("/fresh").header("range", "bytes=9-"), &[("hit", "yes")]),
        (
            get("/fresh").body("x"),
            &[("fwd", "bypass"), ("detail", "request-body")],
        ),
        (
            get("/fresh")
                .header("connection", "upgrade")
                .header("upgrade", "websocket"),
            &[("fwd", "bypass"), ("detail", "upgrade")],
        ),
        (
            get("/fresh").header("x-http-method-override", "PUT"),
            &[("fwd", "method")],
        ),
        (get("/tagged"), &[("fwd", "uri-miss"), ("stored", "yes")]),
        (
            get("/tagged").header("cache-control", "max-age=0"),
            &[("fwd", "request"), ("fwd-status", "304")],
        ),
        (
            get("/varies").header("foo", "1"),
            &[("fwd", "uri-miss"), ("stored", "yes")],
        ),
        (
            get("/varies").header("foo", "2"),
            &[("fwd", "vary-miss"), ("stored", "yes")],
        ),
        (get("/star"), &[("fwd", "uri-miss"), ("detail", "vary")]),
        (
            get("/star"),
            &[("fwd", "uri-miss"), ("detail", "uncacheable")],
        ),
        (
            get("/cookie"),
            &[("fwd", "uri-miss"), ("detail", "set-cookie")],
        ),
        (
            get("/private"),
            &[("fwd", "uri-miss"), ("detail", "private")],
        ),
        (
            get("/no-store"),
            &[("fwd", "uri-miss"), ("detail", "no-store")],
        ),
        (
            get("/never"),
            &[("fwd", "uri-miss"), ("detail", "not-reusable")],
        ),
        (
            get("/created"),
            &[("fwd", "uri-miss"), ("detail", "status")],
        ),
        (get("/broken"), &[("fwd", "uri-miss"), ("detail", "status")]),
        (
            get("/large"),
            &[("fwd", "uri-miss"), ("detail", "too-large")],
        ),
        (Request::post("/fresh", "x"), &[("fwd", "method")]),
        (Request::new("HEAD", "/created"), &[("fwd", "method")]),
        (Request::new("OPTIONS", "/fresh"), &[("fwd", "method")]),
    ] {
        let answer = gate.send(&request).await;
        assert!(answer.status < 502, "{request:?}: {}", answer.status);
        for (name, expected) in expected {
            let ours = checked(&answer);
            assert_eq!(value(&answer, name), *expected, "{request:?}: {ours:?}");
        }
        let is_stored = expected.contains(&("stored", "yes"));
        assert_eq!(
            !value(&answer, "stored").is_empty(),
            is_stored,
            "{request:?}"
        );
    }
}

#[tokio::test]
async fn s2_2_4_ttl_is_the_life_left_and_below_zero_the_time_past_it() {
    let origin = Origin::start("a").await.on("/p", |_| {
        Reply::ok("p").header("cache-control", "max-age=100, stale-while-revalidate=100")
    });
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    gate.advance(50);
    let ttl: i64 = value(&gate.get("/p").await, "ttl").parse().unwrap();
    assert!((20..=50).contains(&ttl), "{ttl}");
    gate.advance(80);
    let ttl: i64 = value(&gate.get("/p").await, "ttl").parse().unwrap();
    assert!((-60..=-30).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn s2_2_1_and_s2_6_what_is_stale_says_how_it_was_validated_and_shared() {
    let latch = Latch::new();
    let held = latch.clone();
    let origin = Origin::start("a")
        .await
        .on("/p", move |seen| match seen.earlier {
            0 => Reply::ok("p")
                .header("etag", "\"1\"")
                .header("cache-control", "max-age=10"),
            _ => Reply::new(304)
                .header("cache-control", "max-age=10")
                .after(&held),
        });
    let gate = Timed::caching(&origin, "").await;
    gate.get("/p").await.expect(200);
    gate.advance(20);
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = gate.client().await;
        client.write(Request::get("/p").bytes()).await;
        clients.push(client);
        origin.until_asked("/p", 2).await;
    }
    // The second is read before the first is answered: one worker, and this one comes after it.
    gate.get("/other").await.expect(200);
    latch.open();
    let mut collapsed = 0;
    for mut client in clients {
        let answer = client.answer().await.expect(200);
        if checked(&answer).contains(&("hit".to_owned(), "yes".to_owned())) {
            continue;
        }
        assert_eq!(value(&answer, "fwd"), "stale");
        assert_eq!(value(&answer, "fwd-status"), "304");
        collapsed += usize::from(value(&answer, "collapsed") == "yes");
    }
    assert!(collapsed <= 1);
    assert_eq!(origin.requests("/p"), 2);
}

#[tokio::test]
async fn s2_our_member_follows_those_of_caches_nearer_to_the_origin() {
    let origin = origin().await;
    let gate = Timed::caching(&origin, "").await;
    for _ in 0..2 {
        let answer = gate.get("/inner").await.expect(200);
        let lines = answer.all("cache-status").join(", ");
        assert!(
            lines.starts_with("inner; hit; ttl=5, \"second one\"; fwd=miss, headgate; "),
            "{lines}"
        );
        checked(&answer);
    }
}

#[tokio::test]
async fn s2_what_headgate_says_by_itself_has_no_member() {
    let mut origin = origin().await;
    let gate = Timed::caching(&origin, "").await;
    let only = Request::get("/fresh").header("cache-control", "only-if-cached");
    let answer = gate.send(&only).await.expect(504);
    assert_eq!(answer.header("cache-status"), None);
    origin.kill().await;
    let answer = gate.get("/fresh").await;
    assert!(answer.status >= 500, "{}", answer.status);
    assert_eq!(answer.header("cache-status"), None);
}

#[tokio::test]
async fn s2_2_4_what_was_softly_purged_has_no_life_left() {
    let origin = Origin::start("a").await.on("/p", |_| {
        Reply::ok("p").header("cache-control", "max-age=100, stale-while-revalidate=100")
    });
    let gate = Timed::caching(&origin, "purge: [127.0.0.1]").await;
    for asks in [None, Some(("cache-control", "max-stale"))] {
        gate.get("/p").await.expect(200);
        let purge = Request::new("PURGE", "/p").header("soft-purge", "1");
        gate.send(&purge).await.expect(200);

        let stale = gate.get_with("/p", asks.as_slice()).await.expect(200);

        assert_eq!(value(&stale, "hit"), "yes", "{asks:?}");
        assert_eq!(value(&stale, "ttl"), "0", "{asks:?}");
    }
}

#[tokio::test]
async fn s2_7_the_key_is_told_to_those_who_may_know_it_and_ask() {
    let origin = origin().await;
    let rule = "debug: [127.0.0.1], key: { headers: [x-currency], query: { sort: true } }";
    let gate = Timed::caching(&origin, rule).await;
    let asks = [("headgate-debug", "1"), ("x-currency", "\\\"\u{fc}")];
    let key = "http shop.test /fresh?a=1&b=2 shop x-currency=\\\"%C3%BC";
    for expected in ["fwd", "hit", "hit"] {
        let answer = gate.get_with("/fresh?b=2&a=1", &asks).await.expect(200);
        assert_ne!(value(&answer, expected), "");
        assert_eq!(value(&answer, "key"), key);
    }
    // Ours is the last of several, and other answers are told it too.
    let answer = gate.get_with("/inner", &asks).await.expect(200);
    assert!(
        value(&answer, "key").contains("/inner"),
        "{}",
        answer.cache()
    );
    let held = [asks[0], ("if-none-match", "\"1\"")];
    let held = gate.get_with("/fresh", &held).await.expect(304);
    assert!(value(&held, "key").contains("/fresh"), "{}", held.cache());
    let post = Request::post("/fresh", "x").header("headgate-debug", "1");
    assert!(value(&gate.send(&post).await, "key").contains("/fresh"));

    for asks in [&[][..], &[("headgate-debug", "0")]] {
        let answer = gate.get_with("/fresh?b=2&a=1", asks).await.expect(200);
        assert_eq!(value(&answer, "key"), "");
    }
    for rule in ["", "debug: [10.0.0.0/8, unix]"] {
        let gate = Timed::caching(&origin, rule).await;
        let answer = gate.get_with("/fresh", &asks).await.expect(200);
        assert_eq!(value(&answer, "key"), "", "{rule}");
    }
}
