//! RFC 9110 sections 13.1.5, 13.2.2, 14, 15.3.7 and 15.5.17: parts of what is stored, or on its way there.

use crate::harness::{Config, Latch, Origin, Reply, Request, Timed};

const TEXT: &str = "0123456789abcdefghijklmnopqrstuvwxyz";
const BEFORE: &str = "Thu, 01 Jan 2026 00:00:00 GMT";
const MADE: &str = "Thu, 01 Jan 2026 01:00:00 GMT";

fn whole() -> Reply {
    Reply::ok(TEXT)
        .header("cache-control", "max-age=60")
        .header("content-type", "text/plain")
        .header("etag", "\"1\"")
}

async fn origin() -> Origin {
    Origin::start("a").await.on("/p", |_| whole())
}

/// A Headgate that has the whole of `/p` already.
async fn stored(origin: &Origin) -> Timed {
    let gate = Timed::caching(origin, "").await;
    gate.get("/p").await.expect(200);
    gate
}

fn slice(first: usize, last: usize) -> String {
    TEXT[first..=last].to_owned()
}

#[tokio::test]
async fn s14_2_a_range_is_answered_from_the_whole_that_is_stored() {
    let origin = origin().await;
    let gate = stored(&origin).await;
    for (range, first, last) in [
        ("bytes=0-4", 0, 4),
        ("bytes=10-", 10, 35),
        ("bytes=-5", 31, 35),
        ("bytes=-99", 0, 35),
        ("bytes=30-99", 30, 35),
        ("BYTES=35-35", 35, 35),
        ("bytes= 7-8 , ", 7, 8),
    ] {
        let answer = gate.get_with("/p", &[("range", range)]).await.expect(206);
        assert_eq!(answer.text(), slice(first, last), "{range}");
        let said = format!("bytes {first}-{last}/36");
        assert_eq!(answer.header("content-range"), Some(said.as_str()));
        assert!(answer.is_hit(), "{range}: {}", answer.cache());
        assert!(answer.header("age").is_some());
        assert_eq!(answer.header("content-type"), Some("text/plain"));
        assert_eq!(answer.header("etag"), Some("\"1\""));
    }
    assert_eq!(origin.requests("/p"), 1);
}

#[tokio::test]
async fn s14_2_a_body_stored_in_pieces_is_cut_across_them() {
    let body: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    let sent = body.clone();
    let origin = Origin::start("a").await.on("/p", move |_| {
        let reply = Reply::ok(sent.clone());
        reply.header("cache-control", "max-age=60")
    });
    let gate = stored(&origin).await;
    for (first, last) in [
        (0, 299_999),
        (1, 65_536),
        (65_535, 65_537),
        (99_999, 250_000),
    ] {
        let range = format!("bytes={first}-{last}");
        let answer = gate.get_with("/p", &[("range", &range)]).await.expect(206);
        assert!(answer.body == body[first..=last], "{range}");
    }
    let two = [("range", "bytes=100000-200000, 0-99999")];
    gate.get_with("/p", &two).await.expect(206);
    let two = [("range", "bytes=250000-, 5-150000")];
    let answer = gate.get_with("/p", &two).await.expect(206);
    let at = |part: &[u8]| answer.body.windows(part.len()).any(|window| window == part);
    assert!(at(&body[250_000..]) && at(&body[5..=150_000]));
    assert_eq!(origin.requests("/p"), 1);
}

#[tokio::test]
async fn s14_2_what_is_no_range_of_bytes_is_ignored() {
    let origin = origin().await;
    let gate = stored(&origin).await;
    let many: Vec<String> = (0..200).map(|_| "0-0".to_owned()).collect();
    let many = format!("bytes={}", many.join(","));
    for range in [
        "items=0-4",
        "bytes",
        "bytes=",
        "bytes=4-0",
        "bytes=a-b",
        "bytes=0-4-5",
        "bytes=0-4, x",
        "bytes 0-4",
        &many,
    ] {
        let answer = gate.get_with("/p", &[("range", range)]).await.expect(200);
        assert_eq!(answer.text(), TEXT, "{range}");
        assert!(answer.is_hit(), "{range}: {}", answer.cache());
    }
    let twice = [("range", "bytes=0-1"), ("range", "bytes=2-3")];
    gate.get_with("/p", &twice).await.expect(200);
}

#[tokio::test]
async fn s14_2_head_has_no_ranges() {
    let origin = origin().await;
    let gate = stored(&origin).await;
    let head = Request::new("HEAD", "/p").header("range", "bytes=0-4");
    let answer = gate.send(&head).await.expect(200);
    assert_eq!(answer.header("content-length"), Some("36"));
    assert_eq!(answer.header("content-range"), None);
    assert!(answer.is_hit());
}

#[tokio::test]
async fn s14_2_only_a_200_has_ranges() {
    let origin = Origin::start("a").await.on("/p", |_| {
        Reply::new(404)
            .header("cache-control", "max-age=60")
            .body(TEXT)
    });
    let gate = Timed::caching(&origin, "").await;
    for _ in 0..2 {
        let answer = gate
            .get_with("/p", &[("range", "bytes=0-4")])
            .await
            .expect(404);
        assert_eq!(answer.text(), TEXT);
    }
    assert_eq!(origin.requests("/p"), 1);
}

#[tokio::test]
async fn s14_2_a_range_of_what_is_not_stored_fetches_the_whole_once() {
    let origin = origin().await;
    let gate = Timed::caching(&origin, "").await;
    let fields = [("range", "bytes=5-9"), ("if-range", "\"1\"")];
    let answer = gate.get_with("/p", &fields).await.expect(206);
    assert_eq!(answer.text(), slice(5, 9));
    assert_eq!(answer.cache(), "headgate; fwd=uri-miss; stored");
    let asked = &origin.seen("/p")[0];
    assert_eq!(
        (asked.header("range"), asked.header("if-range")),
        (None, None)
    );

    assert!(gate.get("/p").await.expect(200).is_hit());
    let other = gate
        .get_with("/p", &[("range", "bytes=20-")])
        .await
        .expect(206);
    assert!(other.is_hit());
    assert_eq!(origin.requests("/p"), 1);
}

#[tokio::test]
async fn s14_2_a_range_is_answered_as_soon_as_its_bytes_have_come() {
    let body = TEXT.repeat(10);
    let (middle, last) = (Latch::new(), Latch::new());
    let (sent, wait, finish) = (body.clone(), middle.clone(), last.clone());
    let origin = Origin::start("a").await.on("/p", move |_| {
        Reply::new(200)
            .header("cache-control", "max-age=60")
            .header("content-length", "360")
            .then(&sent[..200])
            .then_wait(&wait)
            .then(&sent[200..300])
            .then_wait(&finish)
            .then(&sent[300..])
    });
    let gate = Timed::caching(&origin, "").await;
    let range = [("range", "bytes=50-99")];
    let leader = gate.get_with("/p", &range).await.expect(206);
    assert_eq!(leader.text(), &body[50..=99]);

    let mut late = gate.client().await;
    let request = Request::get("/p").header("range", "bytes=150-249");
    late.write(request.bytes()).await;
    let head = late.head().await.expect(206);
    assert_eq!(head.header("content-range"), Some("bytes 150-249/360"));
    assert!(head.cache().contains("collapsed"), "{}", head.cache());
    assert_eq!(late.exactly(50).await, body.as_bytes()[150..200]);
    middle.open();
    assert_eq!(late.exactly(50).await, body.as_bytes()[200..250]);
    let several = [("range", "bytes=0-1,290-299")];
    let several = gate.get_with("/p", &several).await.expect(206);
    assert!(several.text().contains("\r\n\r\n01\r\n--"));
    // In another order than they come in: the whole is no worse.
    let mut backwards = gate.client().await;
    let request = Request::get("/p").header("range", "bytes=-1,0-0");
    backwards.write(request.bytes()).await;
    backwards.head().await.expect(200);
    last.open();
    assert_eq!(backwards.exactly(360).await, body.as_bytes());
    assert_eq!(origin.requests("/p"), 1);
}

#[tokio::test]
async fn s14_4_where_the_length_is_unknown_the_whole_is_sent() {
    let origin = Origin::start("a").await.on("/p", |_| {
        let reply = Reply::new(200).header("cache-control", "max-age=60");
        reply.chunks(&[&TEXT[..10], &TEXT[10..]])
    });
    let gate = Timed::caching(&origin, "").await;
    let range = [("range", "bytes=0-4")];
    assert_eq!(gate.get_with("/p", &range).await.expect(200).text(), TEXT);
    let known = gate.get_with("/p", &range).await.expect(206);
    assert_eq!((known.text(), known.is_hit()), ("01234", true));
}

#[tokio::test]
async fn s14_2_of_what_is_too_large_the_range_is_asked_for_as_it_was() {
    let origin = Origin::start("a")
        .await
        .on("/p", |seen| match seen.header("range") {
            Some(range) => Reply::new(206)
                .header("content-range", "bytes 5-9/200000")
                .body(range.to_owned()),
            None => Reply::ok(vec![b'x'; 200_000]).header("cache-control", "max-age=60"),
        });
    let config = Config::new()
        .top("cache: { memory: 1MiB, max_object: 100KiB }")
        .upstream("shop", &[&origin], "");
    let gate = Timed::start(config.route("shop", "path_prefix: /", "upstream: shop, cache: {}"));
    let gate = gate.await;
    for (requests, detail) in [(2, "too-large"), (3, "uncacheable")] {
        let fields = [("range", "bytes=5-9"), ("if-range", "\"1\"")];
        let answer = gate.get_with("/p", &fields).await.expect(206);
        assert_eq!(answer.text(), "bytes=5-9");
        assert_eq!(answer.header("content-range"), Some("bytes 5-9/200000"));
        assert!(answer.cache().contains(detail), "{}", answer.cache());
        assert_eq!(origin.requests("/p"), requests);
        assert_eq!(
            origin.seen("/p").last().unwrap().header("if-range"),
            Some("\"1\"")
        );
    }
    // To find out again costs the beginning of the whole, to a request for the whole it is the answer.
    for (passed, target_asked, range) in [(60, 4, true), (0, 5, false), (700, 7, true)] {
        gate.advance(passed);
        let fields = [("range", "bytes=5-9")];
        let fields = if range { &fields[..] } else { &[] };
        let answer = gate.get_with("/p", fields).await;
        assert_eq!(answer.status, if range { 206 } else { 200 });
        assert_eq!(origin.requests("/p"), target_asked, "after {passed} s");
    }
}

#[tokio::test]
async fn s14_2_of_what_is_small_and_not_stored_the_whole_is_sent() {
    let origin = Origin::start("a").await.on("/p", |_| {
        Reply::ok(TEXT).header("cache-control", "no-store")
    });
    let gate = Timed::caching(&origin, "").await;
    let answer = gate
        .get_with("/p", &[("range", "bytes=5-9")])
        .await
        .expect(200);
    assert_eq!((answer.text(), origin.requests("/p")), (TEXT, 1));
}

#[tokio::test]
async fn s14_2_ranges_that_overlap_are_sent_once() {
    let origin = origin().await;
    let gate = stored(&origin).await;
    for range in ["bytes=0-9,5-14", "bytes=0-,0-14", "bytes=10-14,0-4"] {
        let answer = gate.get_with("/p", &[("range", range)]).await.expect(206);
        let length = answer.body.len();
        assert!(
            length <= 36 && answer.header("content-range").is_some(),
            "{range}"
        );
    }
}

#[tokio::test]
async fn s15_3_7_2_several_ranges_are_a_multipart() {
    let body = "0123456789".repeat(100);
    let sent = body.clone();
    let origin = Origin::start("a").await.on("/p", move |_| {
        let reply = Reply::ok(sent.clone()).header("cache-control", "max-age=60");
        reply.header("content-type", "text/plain")
    });
    let gate = stored(&origin).await;
    let range = [("range", "bytes=500-509, 0-4, -1, 7000-")];
    let answer = gate.get_with("/p", &range).await.expect(206);
    assert!(answer.is_hit());
    assert_eq!(answer.header("content-range"), None);
    let kind = answer.header("content-type").unwrap();
    let mark = kind
        .strip_prefix("multipart/byteranges; boundary=")
        .unwrap();
    let part = |range: &str, text: &str| {
        format!("--{mark}\r\ncontent-type: text/plain\r\ncontent-range: {range}\r\n\r\n{text}\r\n")
    };
    let expected = [
        part("bytes 500-509/1000", "0123456789"),
        part("bytes 0-4/1000", "01234"),
        part("bytes 999-999/1000", "9"),
        format!("--{mark}--\r\n"),
    ];
    assert_eq!(answer.text(), expected.concat());
    assert!(!body.contains(mark));
}

#[tokio::test]
async fn s15_5_17_what_lies_beyond_the_end_is_refused_with_the_length() {
    let origin = origin().await;
    let gate = stored(&origin).await;
    for range in ["bytes=36-", "bytes=99-100", "bytes=-0", "bytes=40-41,50-"] {
        let answer = gate.get_with("/p", &[("range", range)]).await.expect(416);
        assert_eq!(
            answer.header("content-range"),
            Some("bytes */36"),
            "{range}"
        );
        assert_eq!(answer.header("content-length"), Some("0"));
        assert!(answer.is_hit(), "{}", answer.cache());
        // Nobody further out is to keep it in the place of the whole.
        assert_eq!(answer.header("cache-control"), None);
    }
    assert_eq!(origin.requests("/p"), 1);
}

#[tokio::test]
async fn s13_1_5_if_range_wants_the_very_same() {
    let origin = Origin::start("a")
        .await
        .on("/p", |_| {
            whole()
                .header("last-modified", BEFORE)
                .header("date", MADE)
                .header("expires", "")
        })
        .on("/weak", |_| {
            let reply = Reply::ok(TEXT).header("cache-control", "max-age=99999999");
            reply.header("etag", "W/\"1\"")
        })
        .on("/dated", |_| {
            let reply = Reply::ok(TEXT).header("cache-control", "max-age=99999999");
            reply.header("last-modified", BEFORE).header("date", MADE)
        })
        .on("/hasty", |_| {
            let reply = Reply::ok(TEXT).header("cache-control", "max-age=99999999");
            reply.header("last-modified", MADE).header("date", MADE)
        });
    let gate = Timed::caching(&origin, "").await;
    for (path, condition, status) in [
        ("/p", "\"1\"", 206),
        ("/p", "\"2\"", 200),
        ("/p", "W/\"1\"", 200),
        ("/p", "1", 200),
        ("/p", "\"1\", \"2\"", 200),
        ("/p", "*", 200),
        ("/weak", "W/\"1\"", 200),
        ("/weak", "\"1\"", 200),
        ("/dated", BEFORE, 206),
        ("/dated", "Thursday, 01-Jan-26 00:00:00 GMT", 206),
        ("/dated", MADE, 200),
        ("/dated", "Wed, 31 Dec 2025 23:59:59 GMT", 200),
        ("/dated", "\"1\"", 200),
        ("/hasty", MADE, 200),
    ] {
        gate.get(path).await.expect(200);
        let fields = [("range", "bytes=0-4"), ("if-range", condition)];
        let answer = gate.get_with(path, &fields).await;
        assert_eq!(answer.status, status, "{path} {condition}");
        let text = if status == 206 { "01234" } else { TEXT };
        assert_eq!(answer.text(), text, "{path} {condition}");
    }
    let alone = gate.get_with("/weak", &[("if-range", "\"2\"")]).await;
    assert_eq!(alone.expect(200).text(), TEXT);
}

#[tokio::test]
async fn s13_2_2_conditions_come_before_ranges() {
    let origin = origin().await;
    let gate = stored(&origin).await;
    for (name, value, status) in [
        ("if-none-match", "\"1\"", 304),
        ("if-none-match", "\"2\"", 206),
    ] {
        let fields = [("range", "bytes=0-4"), (name, value)];
        let answer = gate.get_with("/p", &fields).await.expect(status);
        assert!(answer.is_hit(), "{}", answer.cache());
        assert_eq!(answer.header("content-range").is_some(), status == 206);
    }
    // The range of one who has it all is beyond the end, and yet the answer is that it has it.
    let fields = [("range", "bytes=36-"), ("if-none-match", "\"1\"")];
    gate.get_with("/p", &fields).await.expect(304);
    // For the origin alone to judge.
    let fields = [("range", "bytes=0-4"), ("if-match", "\"1\"")];
    let answer = gate.get_with("/p", &fields).await;
    assert_eq!(answer.cache(), "headgate; fwd=bypass; detail=precondition");
    assert_eq!(
        origin.seen("/p").last().unwrap().header("range"),
        Some("bytes=0-4")
    );
}

#[tokio::test]
async fn s15_3_7_who_resumes_is_not_told_what_it_knows() {
    let origin = origin().await;
    let gate = stored(&origin).await;
    let fields = [("range", "bytes=0-4"), ("if-range", "\"1\"")];
    let answer = gate.get_with("/p", &fields).await.expect(206);
    for name in [
        "date",
        "cache-control",
        "etag",
        "content-range",
        "content-length",
        "age",
    ] {
        assert!(answer.header(name).is_some(), "{name}");
    }
    assert_eq!(answer.header("content-type"), None);
}

#[tokio::test]
async fn s15_3_7_a_digest_of_the_whole_is_not_sent_with_a_part() {
    let origin = Origin::start("a").await.on("/p", |_| {
        whole()
            .header("content-digest", "sha-256=:x:")
            .header("repr-digest", "sha-256=:y:")
    });
    let gate = stored(&origin).await;
    let answer = gate
        .get_with("/p", &[("range", "bytes=0-4")])
        .await
        .expect(206);
    assert_eq!(answer.header("content-digest"), None);
    assert_eq!(answer.header("repr-digest"), Some("sha-256=:y:"));
}

#[tokio::test]
async fn s14_a_range_is_of_the_bytes_that_are_stored() {
    let body = "0123456789".repeat(500);
    let sent = body.clone();
    let origin = Origin::start("a").await.on("/p", move |_| {
        let reply = Reply::ok(sent.clone()).header("cache-control", "max-age=60");
        reply
            .header("content-type", "text/plain")
            .header("etag", "\"1\"")
    });
    let config = Config::new().upstream("shop", &[&origin], "");
    let route = "upstream: shop, cache: {}, compress: {}";
    let gate = Timed::start(config.route("shop", "path_prefix: /", route)).await;
    let gzip = ("accept-encoding", "gzip");
    let coded = gate.get_with("/p", &[gzip]).await.expect(200);
    assert_eq!(coded.header("content-encoding"), Some("gzip"));
    let part = gate.get_with("/p", &[gzip, ("range", "bytes=5-14")]).await;
    let part = part.expect(206);
    assert_eq!(part.header("content-encoding"), Some("gzip"));
    assert!(part.is_hit() && part.body == coded.body[5..15]);
    // It gets other bytes, of which there are no parts.
    let plain = gate.get_with("/p", &[("range", "bytes=5-14")]).await;
    assert!(plain.expect(200).text() == body);
    let beyond = [gzip, ("range", "bytes=4000-")];
    gate.get_with("/p", &beyond).await.expect(416);
    // A weak tag compares as different (section 13.1.5).
    let weak = coded.header("etag").unwrap();
    let fields = [gzip, ("range", "bytes=0-9"), ("if-range", weak)];
    gate.get_with("/p", &fields).await.expect(200);
}

#[tokio::test]
async fn s14_a_range_of_an_encoded_answer_is_of_its_encoded_bytes() {
    let origin = Origin::start("a").await.on("/p", |_| {
        whole()
            .header("content-encoding", "x-rot13")
            .header("vary", "accept-encoding")
    });
    let gate = stored(&origin).await;
    let answer = gate
        .get_with("/p", &[("range", "bytes=10-12")])
        .await
        .expect(206);
    assert_eq!(
        (answer.text(), answer.header("content-encoding")),
        ("abc", Some("x-rot13"))
    );
}

#[tokio::test]
async fn s14_a_range_of_a_stale_answer_is_validated_as_the_whole_is() {
    let origin = Origin::start("a")
        .await
        .on("/p", |seen| match seen.header("if-none-match") {
            Some(_) => Reply::new(304).header("cache-control", "max-age=60"),
            None => whole(),
        });
    for rule in ["", "ranges: pass"] {
        let gate = Timed::caching(&origin, rule).await;
        gate.get("/p").await.expect(200);
        gate.advance(70);
        let before = origin.requests("/p");
        let answer = gate
            .get_with("/p", &[("range", "bytes=0-4")])
            .await
            .expect(206);
        assert_eq!(answer.text(), "01234");
        assert!(
            answer.cache().contains("fwd-status=304"),
            "{}",
            answer.cache()
        );
        assert_eq!(origin.requests("/p"), before + 1);
        assert_eq!(origin.seen("/p").last().unwrap().header("range"), None);
    }
}

#[tokio::test]
async fn s14_a_range_of_a_stale_answer_is_served_where_the_whole_would_be() {
    let origin = Origin::start("a").await.on("/p", |_| {
        Reply::ok(TEXT).header("cache-control", "max-age=10, stale-while-revalidate=60")
    });
    let gate = stored(&origin).await;
    gate.advance(15);
    let answer = gate
        .get_with("/p", &[("range", "bytes=0-4")])
        .await
        .expect(206);
    assert_eq!(answer.text(), "01234");
    assert!(
        answer.cache().starts_with("headgate; hit; ttl=-"),
        "{}",
        answer.cache()
    );
}

#[tokio::test]
async fn s14_a_part_of_an_answer_that_breaks_off_is_never_ended_as_if_it_were_whole() {
    let latch = Latch::new();
    let wait = latch.clone();
    let origin = Origin::start("a").await.on("/p", move |_| {
        Reply::new(200)
            .header("cache-control", "max-age=60")
            .header("content-length", "36")
            .then(&TEXT[..20])
            .then_wait(&wait)
            .close()
    });
    let gate = Timed::caching(&origin, "").await;
    let mut client = gate.client().await;
    let request = Request::get("/p").header("range", "bytes=10-29");
    client.write(request.bytes()).await;
    client.head().await.expect(206);
    latch.open();
    assert_eq!(client.until_closed().await, slice(10, 19).into_bytes());
}
