//! Routes that cache and compress: one stored body for clients of every coding, in the form that each takes.

use std::io::Write as _;

use crate::compression::decoded;
use crate::harness::{Answer, Client, Config, Latch, Origin, Reply, Request, Seen, Timed};

/// What clients send, and in what they get what is stored as gzip.
const CLIENTS: [(&str, Option<&str>); 6] = [
    ("gzip", Some("gzip")),
    ("gzip, deflate, br, zstd", Some("gzip")),
    ("br", None),
    ("zstd", None),
    ("identity", None),
    ("gzip;q=0", None),
];

fn text() -> String {
    (0..4000).map(|n| format!("line {n} of many\n")).collect()
}

fn page() -> Reply {
    Reply::ok(text())
        .header("content-type", "text/html")
        .header("etag", "\"v1\"")
        .header("accept-ranges", "bytes")
        .header("content-digest", "sha-256=:x:")
        .header("cache-control", "max-age=60")
}

fn gzip(text: &str) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    writer.write_all(text.as_bytes()).unwrap();
    writer.finish().unwrap()
}

fn brotli(text: &str) -> Vec<u8> {
    let mut coded = Vec::new();
    let mut writer = brotli::CompressorWriter::new(&mut coded, 4096, 5, 22);
    writer.write_all(text.as_bytes()).unwrap();
    drop(writer);
    coded
}

fn zstd(text: &str) -> Vec<u8> {
    let mut coded = Vec::with_capacity(zstd_safe::compress_bound(text.len()));
    zstd_safe::compress(&mut coded, text.as_bytes(), 3).unwrap();
    coded
}

/// A page as an origin sends it that compresses by itself.
fn coded(coding: &str, body: Vec<u8>) -> Reply {
    Reply::ok(body)
        .header("content-type", "text/html")
        .header("content-encoding", coding)
        .header("vary", "Accept-Encoding")
        .header("etag", "\"gz\"")
        .header("cache-control", "max-age=60")
}

fn config(origin: &Origin, cache: &str, compress: &str) -> Config {
    let route = format!("upstream: shop, cache: {{ {cache} }}, compress: {{ {compress} }}");
    Config::new()
        .upstream("shop", &[origin], "")
        .route("shop", "path_prefix: /", &route)
}

async fn gate(origin: &Origin, cache: &str) -> Timed {
    Timed::start(config(origin, cache, "")).await
}

fn ask(method: &str, target: &str, accepts: &str) -> Request {
    Request::new(method, target).header("accept-encoding", accepts)
}

async fn get(gate: &Timed, target: &str, accepts: &str) -> Answer {
    gate.send(&ask("GET", target, accepts)).await
}

#[track_caller]
fn plain(answer: &Answer) -> String {
    match answer.header("content-encoding") {
        Some(coding) => decoded(coding, &answer.body),
        None => answer.text().to_owned(),
    }
}

#[tokio::test]
async fn one_fetch_serves_clients_of_every_coding_whoever_came_first() {
    for (first, _) in CLIENTS {
        let origin = Origin::start("a").await.on("/page", |_| page());
        let gate = gate(&origin, "").await;
        let fetched = get(&gate, "/page", first).await.expect(200);
        assert_eq!(plain(&fetched), text(), "{first}");
        assert_eq!(fetched.cache(), "headgate; fwd=uri-miss; stored");
        for (accepts, coding) in CLIENTS {
            let answer = get(&gate, "/page", accepts).await.expect(200);
            assert!(answer.is_hit(), "{first}, {accepts}: {}", answer.cache());
            assert_eq!(answer.header("content-encoding"), coding, "{accepts}");
            assert_eq!(plain(&answer), text(), "{accepts}");
            assert_eq!(answer.all("vary"), ["accept-encoding"], "{accepts}");
            assert_eq!(answer.header("content-type"), Some("text/html"));
            let length = answer.body.len().to_string();
            assert_eq!(answer.all("content-length"), [&*length], "{accepts}");
            let digest = answer.header("content-digest");
            match coding {
                // The bytes are Headgate's own, so no strong tag and no digest holds for them.
                Some(_) => assert_eq!((answer.header("etag"), digest), (Some("W/\"v1\""), None)),
                // These are the origin's again.
                None => {
                    let told = (answer.header("etag"), digest);
                    assert_eq!(told, (Some("\"v1\""), Some("sha-256=:x:")));
                }
            }
        }
        let without = gate.get("/page").await.expect(200);
        assert_eq!((without.is_hit(), without.text()), (true, &*text()));
        assert_eq!(origin.requests("/page"), 1, "{first}");
        let asked = origin.last("/page");
        assert_eq!(asked.all("accept-encoding"), ["gzip"], "{first}");
    }
}

#[tokio::test]
async fn memory_holds_the_small_form() {
    let long: String = (0..100_000)
        .map(|n| format!("line {n} of many\n"))
        .collect();
    let body = long.clone();
    let origin = Origin::start("a").await.on("/long", move |_| {
        Reply::ok(body.clone())
            .header("content-type", "text/plain")
            .header("cache-control", "max-age=60")
    });
    let gate = gate(&origin, "").await;
    assert!(get(&gate, "/long", "gzip").await.body.len() < long.len() / 3);
    let held = gate.metrics().await.sum("headgate_cache_bytes", &[]);
    assert!(held < long.len() as f64 / 3.0, "{held} of {}", long.len());
    assert!(get(&gate, "/long", "br").await.expect(200).text() == long);
    assert!(get(&gate, "/long", "gzip").await.is_hit());
    assert_eq!(origin.requests("/long"), 1);
}

#[tokio::test]
async fn a_head_says_what_its_get_would_in_each_form() {
    let origin = Origin::start("a").await.on("/page", |_| page());
    let gate = gate(&origin, "").await;
    // With nothing stored, too.
    for (accepts, coding) in CLIENTS {
        let head = gate.send(&ask("HEAD", "/page", accepts)).await.expect(200);
        assert_eq!(head.header("content-encoding"), coding, "{accepts}");
        let weak = head.header("etag").unwrap().starts_with("W/");
        assert_eq!(weak, coding.is_some(), "{accepts}");
    }
    get(&gate, "/page", "br").await.expect(200);
    for (accepts, _) in CLIENTS {
        let whole = get(&gate, "/page", accepts).await.expect(200);
        let head = gate.send(&ask("HEAD", "/page", accepts)).await.expect(200);
        assert!(head.is_hit(), "{accepts}: {}", head.cache());
        for name in [
            "content-encoding",
            "etag",
            "vary",
            "content-length",
            "content-digest",
        ] {
            assert_eq!(head.all(name), whole.all(name), "{accepts}: {name}");
        }
    }
    assert_eq!(origin.requests("/page"), CLIENTS.len() + 1);
}

#[tokio::test]
async fn each_form_is_confirmed_by_its_own_tag() {
    let origin = Origin::start("a").await.on("/page", |_| page());
    let gate = gate(&origin, "").await;
    for (accepts, coding) in CLIENTS {
        let whole = get(&gate, "/page", accepts).await.expect(200);
        let tag = whole.header("etag").unwrap();
        let asked = ask("GET", "/page", accepts).header("if-none-match", tag);
        let held = gate.send(&asked).await.expect(304);
        assert_eq!(held.header("etag"), Some(tag), "{accepts}");
        assert_eq!(held.all("vary"), ["accept-encoding"], "{accepts}");
        assert_eq!(held.header("content-encoding"), None, "{accepts}");
        assert_eq!(tag.starts_with("W/"), coding.is_some(), "{accepts}");
        let other = ask("GET", "/page", accepts).header("if-none-match", "\"v0\"");
        gate.send(&other).await.expect(200);
    }
    assert_eq!(origin.requests("/page"), 1);
}

#[tokio::test]
async fn ranges_are_of_the_stored_form_and_no_others_are_cut() {
    let origin = Origin::start("a").await.on("/page", |_| page());
    let gate = gate(&origin, "").await;
    let whole = get(&gate, "/page", "gzip").await.expect(200).body;
    let part = ask("GET", "/page", "gzip").header("range", "bytes=10-99");
    let part = gate.send(&part).await.expect(206);
    assert_eq!(part.body, &whole[10..100]);
    assert_eq!(part.header("content-encoding"), Some("gzip"));
    let range = format!("bytes 10-99/{}", whole.len());
    assert_eq!(part.header("content-range"), Some(&*range));
    // Weak tags compare as different (RFC 9110 section 13.1.5).
    let resumed = ask("GET", "/page", "gzip").header("range", "bytes=10-99");
    let resumed = resumed.header("if-range", "W/\"v1\"");
    gate.send(&resumed).await.expect(200);
    let several = ask("GET", "/page", "gzip").header("range", "bytes=0-9,500-509");
    assert_eq!(gate.send(&several).await.expect(200).body, whole);
    let plain = ask("GET", "/page", "identity").header("range", "bytes=10-99");
    let plain = gate.send(&plain).await.expect(200);
    assert_eq!(plain.text(), text());
    assert_eq!(plain.header("accept-ranges"), None);
    assert_eq!(origin.requests("/page"), 1);
}

#[tokio::test]
async fn what_an_origin_has_compressed_is_stored_as_it_came() {
    for (coding, body) in [
        ("gzip", gzip(&text())),
        ("br", brotli(&text())),
        ("zstd", zstd(&text())),
    ] {
        let sent = body.clone();
        let origin = Origin::start("a")
            .await
            .on("/page", move |_| coded(coding, sent.clone()));
        let gate = gate(&origin, "").await;
        for (accepts, takes) in [
            ("identity", false),
            ("gzip, br, zstd", true),
            (coding, true),
            ("", false),
        ] {
            let answer = get(&gate, "/page", accepts).await.expect(200);
            let tag = answer.header("etag");
            if takes {
                assert_eq!(answer.body, body, "{coding}, {accepts}");
                assert_eq!(answer.header("content-encoding"), Some(coding));
                assert_eq!(tag, Some("\"gz\""));
            } else {
                assert_eq!(answer.text(), text(), "{coding}, {accepts}");
                assert_eq!(answer.header("content-encoding"), None);
                assert_eq!(tag, Some("W/\"gz\""));
            }
            assert_eq!(answer.all("vary"), ["Accept-Encoding"], "{accepts}");
            let asked = ask("GET", "/page", accepts).header("if-none-match", tag.unwrap());
            assert_eq!(gate.send(&asked).await.expect(304).header("etag"), tag);
        }
        assert_eq!(origin.requests("/page"), 1, "{coding}");
    }
}

#[tokio::test]
async fn what_may_not_be_transformed_reaches_nobody_in_another_form() {
    let origin = Origin::start("a")
        .await
        .on("/plain", |_| {
            Reply::ok(text())
                .header("content-type", "text/plain")
                .header("cache-control", "max-age=60, no-transform")
        })
        .on("/coded", |seen| {
            let reply = match seen.header("accept-encoding") {
                Some("gzip") => Reply::ok(gzip(&text())).header("content-encoding", "gzip"),
                _ => Reply::ok(text()),
            };
            reply
                .header("content-type", "text/plain")
                .header("vary", "accept-encoding")
                .header("cache-control", "max-age=60, no-transform")
        });
    let gate = gate(&origin, "").await;
    for accepts in ["gzip", "br", "identity"] {
        let answer = get(&gate, "/plain", accepts).await.expect(200);
        assert_eq!(answer.text(), text(), "{accepts}");
        assert_eq!(answer.header("content-encoding"), None);
    }
    assert_eq!(origin.requests("/plain"), 1);

    // The first is fetched for all, and is not for this client; it asks by itself.
    let plain = get(&gate, "/coded", "identity").await.expect(200);
    assert_eq!(plain.text(), text());
    assert_eq!(plain.cache(), "headgate; fwd=uri-miss; detail=no-transform");
    let stored = get(&gate, "/coded", "gzip").await.expect(200);
    assert!(stored.is_hit(), "{}", stored.cache());
    assert_eq!(stored.body, gzip(&text()));
    let again = get(&gate, "/coded", "br").await.expect(200);
    assert_eq!(again.text(), text());
    assert_eq!(again.cache(), "headgate; fwd=bypass; detail=no-transform");
    let asked = origin.last("/coded");
    assert_eq!(asked.header("accept-encoding"), Some("br"));
    let only = ask("GET", "/coded", "br").header("cache-control", "only-if-cached");
    gate.send(&only).await.expect(504);
}

#[tokio::test]
async fn a_request_that_forbids_it_gets_the_origins_bytes() {
    let origin = Origin::start("a")
        .await
        .on("/page", |_| page())
        .on("/coded", |seen| match seen.header("accept-encoding") {
            Some("gzip") => coded("gzip", gzip(&text())),
            _ => page(),
        });
    let gate = gate(&origin, "").await;
    let asked = |target: &str, accepts: &str| {
        ask("GET", target, accepts).header("cache-control", "no-transform")
    };
    for _ in 0..2 {
        let answer = gate.send(&asked("/page", "gzip")).await.expect(200);
        assert_eq!(answer.text(), text());
        assert_eq!(answer.header("etag"), Some("\"v1\""));
    }
    assert!(get(&gate, "/page", "gzip").await.is_hit());
    assert_eq!(origin.requests("/page"), 1);
    let coded = gate.send(&asked("/coded", "gzip")).await.expect(200);
    assert_eq!(coded.header("content-encoding"), Some("gzip"));
    let plain = gate.send(&asked("/coded", "identity")).await.expect(200);
    assert_eq!(plain.text(), text());
    assert_eq!(plain.header("etag"), Some("\"v1\""));
}

#[tokio::test]
async fn only_codings_do_not_tell_requests_apart() {
    let origin = Origin::start("a").await.on("/page", |seen| {
        let kind = seen.header("x-kind").unwrap_or("none").to_owned();
        Reply::ok(format!("{kind} {}", text()))
            .header("content-type", "text/plain")
            .header("vary", "Accept-Encoding, X-Kind")
            .header("cache-control", "max-age=60")
    });
    let gate = gate(&origin, "").await;
    for (number, (accepts, _)) in CLIENTS.into_iter().enumerate() {
        for kind in ["a", "b"] {
            let request = ask("GET", "/page", accepts).header("x-kind", kind);
            let answer = gate.send(&request).await.expect(200);
            assert!(plain(&answer).starts_with(kind), "{accepts}");
            assert_eq!(answer.is_hit(), number > 0, "{accepts}");
            assert_eq!(answer.all("vary"), ["Accept-Encoding, X-Kind"]);
        }
    }
    assert_eq!(origin.requests("/page"), 2);
}

#[tokio::test]
async fn the_origin_is_asked_by_its_own_tag_and_what_is_stored_lives_on() {
    let origin = Origin::start("a")
        .await
        .on("/page", |seen| match seen.header("if-none-match") {
            Some("\"v1\"") => Reply::new(304)
                .header("etag", "\"v1\"")
                .header("x-new", "1")
                .header("cache-control", "max-age=60"),
            Some(other) => panic!("asked about {other}"),
            None => page(),
        });
    let gate = gate(&origin, "").await;
    let stored = get(&gate, "/page", "gzip").await.expect(200).body;
    for (accepts, coding) in CLIENTS {
        gate.advance(100);
        let asked = get(&gate, "/page", accepts).await.expect(200);
        assert_eq!(asked.cache(), "headgate; fwd=stale; fwd-status=304");
        for answer in [asked, get(&gate, "/page", accepts).await.expect(200)] {
            assert_eq!(answer.header("content-encoding"), coding, "{accepts}");
            assert_eq!(answer.header("x-new"), Some("1"));
            assert_eq!(plain(&answer), text(), "{accepts}");
            assert_eq!(
                answer.header("etag").unwrap().starts_with("W/"),
                coding.is_some()
            );
            let length = answer.body.len().to_string();
            assert_eq!(answer.all("content-length"), [&*length], "{accepts}");
            assert!(coding.is_none() || answer.body == stored, "{accepts}");
        }
    }
    assert_eq!(origin.requests("/page"), 1 + CLIENTS.len());
}

#[tokio::test]
async fn a_refresh_behind_a_stale_answer_is_compressed_too() {
    let origin = Origin::start("a").await.on("/page", |seen| {
        Reply::ok(format!("{} {}", seen.earlier, text()))
            .header("content-type", "text/plain")
            .header("cache-control", "max-age=60, stale-while-revalidate=600")
    });
    let gate = gate(&origin, "").await;
    get(&gate, "/page", "gzip").await.expect(200);
    gate.advance(100);
    let stale = get(&gate, "/page", "br").await.expect(200);
    assert!(stale.text().starts_with("0 "), "{}", stale.cache());
    origin.until_asked("/page", 2).await;
    assert_eq!(origin.last("/page").header("accept-encoding"), Some("gzip"));
    let fresh = crate::harness::eventually("the refresh is stored", async || {
        let answer = get(&gate, "/page", "gzip").await;
        plain(&answer).starts_with("1 ").then_some(answer)
    })
    .await;
    assert_eq!(fresh.header("content-encoding"), Some("gzip"));
    assert!(
        get(&gate, "/page", "identity")
            .await
            .text()
            .starts_with("1 ")
    );
    assert_eq!(origin.requests("/page"), 2);
}

#[tokio::test]
async fn an_answer_to_head_does_not_disturb_what_is_stored_in_another_coding() {
    let origin = Origin::start("a").await.on("/page", |seen| {
        match (&*seen.method, seen.header("accept-encoding")) {
            ("HEAD", Some("gzip")) => coded("gzip", Vec::new()),
            ("HEAD", _) => page(),
            _ => coded("gzip", gzip(&text())),
        }
    });
    let gate = gate(&origin, "").await;
    get(&gate, "/page", "gzip").await.expect(200);
    gate.advance(100);
    gate.send(&ask("HEAD", "/page", "br")).await.expect(200);
    get(&gate, "/page", "gzip").await.expect(200);
    assert!(get(&gate, "/page", "br").await.is_hit());
}

/// Reads until so many bytes of text have come; they are decoded first.
async fn until(client: &mut Client, raw: &mut Vec<u8>, coding: Option<&str>, bytes: usize) {
    loop {
        let body = unchunked(raw);
        let seen = match coding {
            Some(coding) => decoded(coding, &body).len(),
            None => body.len(),
        };
        if seen >= bytes {
            return;
        }
        let some = client.some().await;
        assert!(!some.is_empty(), "the connection closed");
        raw.extend_from_slice(&some);
    }
}

/// The data of chunks, as far as they have come whole.
fn unchunked(raw: &[u8]) -> Vec<u8> {
    let mut rest = raw;
    let mut data = Vec::new();
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let size = std::str::from_utf8(&rest[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        let Some(chunk) = rest.get(end + 2..end + 2 + size) else {
            break;
        };
        data.extend_from_slice(chunk);
        rest = rest.get(end + 4 + size..).unwrap_or_default();
    }
    data
}

#[tokio::test]
async fn all_who_wait_read_on_as_bytes_arrive_each_in_its_form() {
    let (half, end) = (Latch::new(), Latch::new());
    let (wait, last) = (half.clone(), end.clone());
    let origin = Origin::start("a").await.on("/slow", move |_| {
        Reply::new(200)
            .header("content-type", "text/plain")
            .header("transfer-encoding", "chunked")
            .header("cache-control", "max-age=60")
            .then("7d0\r\n")
            .then("x".repeat(2000))
            .then("\r\n")
            .then_wait(&wait)
            .then("7d0\r\n")
            .then("y".repeat(2000))
            .then("\r\n")
            .then_wait(&last)
            .then("0\r\n\r\n")
    });
    let gate = gate(&origin, "").await;
    let mut clients = Vec::new();
    for (accepts, coding) in [("identity", None), ("gzip", Some("gzip")), ("br", None)] {
        let mut client = gate.client().await;
        client.write(ask("GET", "/slow", accepts).bytes()).await;
        let head = client.head().await.expect(200);
        assert_eq!(head.header("content-encoding"), coding);
        clients.push((client, Vec::new(), coding));
    }
    for (client, raw, coding) in &mut clients {
        until(client, raw, *coding, 2000).await;
    }
    half.open();
    for (client, raw, coding) in &mut clients {
        until(client, raw, *coding, 4000).await;
    }
    end.open();
    for (client, raw, coding) in &mut clients {
        while !raw.ends_with(b"0\r\n\r\n") {
            let some = client.some().await;
            assert!(!some.is_empty(), "{coding:?}");
            raw.extend_from_slice(&some);
        }
    }
    let stored = get(&gate, "/slow", "identity").await.expect(200);
    assert!(stored.is_hit());
    assert_eq!(stored.header("content-length"), Some("4000"));
    assert_eq!(origin.requests("/slow"), 1);
}

#[tokio::test]
async fn a_decoded_answer_that_breaks_off_is_not_ended_as_if_it_were_whole() {
    let latch = Latch::new();
    let body = gzip(&text());
    let (wait, length) = (latch.clone(), body.len().to_string());
    let origin = Origin::start("a").await.on("/half", move |_| {
        Reply::new(200)
            .header("content-type", "text/html")
            .header("content-encoding", "gzip")
            .header("cache-control", "max-age=60")
            .header("content-length", &length)
            .then(body[..body.len() / 2].to_vec())
            .then_wait(&wait)
            .close()
    });
    let gate = gate(&origin, "").await;
    let mut client = gate.client().await;
    client.write(ask("GET", "/half", "identity").bytes()).await;
    let head = client.head().await.expect(200);
    assert_eq!(head.header("content-encoding"), None);
    assert_eq!(head.header("transfer-encoding"), Some("chunked"));
    let mut raw = Vec::new();
    until(&mut client, &mut raw, None, 1000).await;
    assert!(text().as_bytes().starts_with(&unchunked(&raw)));
    latch.open();
    raw.extend(client.until_closed().await);
    assert!(!raw.ends_with(b"0\r\n\r\n"), "it was ended");
    assert!(unchunked(&raw).len() < text().len());
}

#[tokio::test]
async fn what_is_stored_and_is_not_what_its_coding_says_breaks_off() {
    let whole = gzip(&text());
    let mut wrong = whole.clone();
    let sum = wrong.len() - 6;
    wrong[sum] ^= 1;
    let cut = whole[..whole.len() - 20].to_vec();
    let trailed = [&whole[..], b"more"].concat();
    for body in [wrong, cut, trailed, b"no gzip at all".to_vec()] {
        let sent = body.clone();
        let origin = Origin::start("a")
            .await
            .on("/bad", move |_| coded("gzip", sent.clone()));
        let gate = gate(&origin, "").await;
        assert_eq!(get(&gate, "/bad", "gzip").await.expect(200).body, body);
        let mut client = gate.client().await;
        client.write(ask("GET", "/bad", "identity").bytes()).await;
        let raw = client.until_closed().await;
        assert!(!raw.ends_with(b"0\r\n\r\n"), "it was ended");
        // Those that take it have it all the same.
        assert!(get(&gate, "/bad", "gzip").await.is_hit());
    }
}

#[tokio::test]
async fn an_answer_that_is_not_stored_reaches_its_client_in_a_form_that_it_takes() {
    let origin = Origin::start("a").await.on("*", |seen| {
        let forbids = match seen.path() {
            "/fixed" => "private, no-transform",
            _ => "private",
        };
        let takes = seen.header("accept-encoding");
        let reply = match takes.is_some_and(|takes| takes.contains("gzip")) {
            true => Reply::ok(gzip(&text())).header("content-encoding", "gzip"),
            false => Reply::ok(text()),
        };
        reply
            .header("content-type", "text/html")
            .header("etag", "\"gz\"")
            .header("cache-control", forbids)
    });
    let gate = gate(&origin, "").await;
    let answer = get(&gate, "/private", "identity").await.expect(200);
    assert_eq!(answer.text(), text());
    assert_eq!(answer.header("etag"), Some("W/\"gz\""));
    assert_eq!(answer.header("content-encoding"), None);
    assert_eq!(answer.all("vary"), ["accept-encoding"]);
    assert_eq!(origin.requests("/private"), 1);
    let answer = get(&gate, "/other", "gzip").await.expect(200);
    assert_eq!(answer.body, gzip(&text()));
    assert_eq!(answer.header("etag"), Some("\"gz\""));
    let answer = get(&gate, "/fixed", "identity").await.expect(200);
    assert_eq!(answer.text(), text());
    assert_eq!(answer.header("etag"), Some("\"gz\""));
}

#[tokio::test]
async fn a_client_that_refuses_plain_bytes_gets_none() {
    let origin = Origin::start("a").await.on("/page", |_| page());
    let gate = gate(&origin, "").await;
    get(&gate, "/page", "gzip").await.expect(200);
    for method in ["GET", "HEAD"] {
        let answer = gate.send(&ask(method, "/page", "br, identity;q=0")).await;
        assert!(answer.is_hit());
        assert_eq!(answer.header("content-encoding"), Some("br"), "{method}");
        assert_eq!(answer.header("etag"), Some("W/\"v1\""));
        if method == "GET" {
            assert_eq!(plain(&answer), text());
        }
    }
    assert_eq!(origin.requests("/page"), 1);
}

#[tokio::test]
async fn what_is_not_worth_it_is_stored_plain() {
    let origin = Origin::start("a")
        .await
        .on("/small", |_| {
            Reply::ok("small")
                .header("content-type", "text/plain")
                .header("etag", "\"s\"")
                .header("cache-control", "max-age=60")
        })
        .on("/image", |_| {
            Reply::ok(text())
                .header("content-type", "image/png")
                .header("cache-control", "max-age=60")
        });
    let gate = gate(&origin, "").await;
    for target in ["/small", "/image"] {
        let first = get(&gate, target, "gzip").await.expect(200);
        for (accepts, _) in CLIENTS {
            let answer = get(&gate, target, accepts).await.expect(200);
            assert!(answer.is_hit(), "{target}");
            assert_eq!(answer.header("content-encoding"), None);
            assert_eq!(answer.body, first.body);
            let part = ask("GET", target, accepts).header("range", "bytes=0-1");
            assert_eq!(gate.send(&part).await.expect(206).body, &first.body[..2]);
        }
        assert_eq!(origin.requests(target), 1);
    }
}

#[tokio::test]
async fn the_stored_coding_is_one_that_the_route_has() {
    for (algorithms, coding) in [
        ("[zstd, br]", "zstd"),
        ("[br]", "br"),
        ("[zstd, gzip]", "gzip"),
    ] {
        let origin = Origin::start("a").await.on("/page", |_| page());
        let keys = format!("algorithms: {algorithms}");
        let gate = Timed::start(config(&origin, "", &keys)).await;
        for accepts in ["zstd, br, gzip", "identity", "zstd, br, gzip"] {
            let answer = get(&gate, "/page", accepts).await.expect(200);
            let takes = (accepts != "identity").then_some(coding);
            assert_eq!(answer.header("content-encoding"), takes, "{algorithms}");
            assert_eq!(plain(&answer), text());
        }
        assert_eq!(origin.requests("/page"), 1);
        assert_eq!(origin.last("/page").header("accept-encoding"), Some(coding));
    }
}

#[tokio::test]
async fn a_coding_that_nobody_here_reads_is_for_clients_that_ask_alike() {
    let origin = Origin::start("a")
        .await
        .on("/odd", |_| coded("x-odd", b"odd".to_vec()));
    let gate = gate(&origin, "").await;
    for (accepts, is_hit) in [("x-odd", false), ("x-odd", true), ("gzip", false)] {
        let answer = get(&gate, "/odd", accepts).await.expect(200);
        assert_eq!(answer.is_hit(), is_hit, "{accepts}: {}", answer.cache());
        assert_eq!(answer.text(), "odd");
        assert_eq!(answer.header("content-encoding"), Some("x-odd"));
    }
}

#[tokio::test]
async fn routes_of_both_kinds_do_not_share_what_they_store() {
    let origin = Origin::start("a").await.on("/page", |_| page());
    let config = Config::new()
        .upstream("shop", &[&origin], "")
        .route(
            "coded",
            "path_prefix: /, headers: { x-coded: \"1\" }",
            "upstream: shop, cache: {}, compress: {}",
        )
        .route("plain", "path_prefix: /", "upstream: shop, cache: {}");
    let gate = Timed::start(config).await;
    let asked = ask("GET", "/page", "gzip, br").header("x-coded", "1");
    gate.send(&asked).await.expect(200);
    let answer = get(&gate, "/page", "gzip, br").await.expect(200);
    assert!(!answer.is_hit(), "{}", answer.cache());
    assert_eq!(answer.header("content-encoding"), None);
    assert_eq!(answer.header("vary"), None);
    let asked = origin.last("/page");
    assert_eq!(asked.header("accept-encoding"), Some("gzip, br"));
    // A write reaches both.
    gate.send(&Request::new("DELETE", "/page")).await;
    let asked = ask("GET", "/page", "gzip, br").header("x-coded", "1");
    assert!(!gate.send(&asked).await.is_hit());
}

#[tokio::test]
async fn files_of_the_disk_keep_their_coding() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start("a")
        .await
        .on("/page", |seen| match seen.header("if-none-match") {
            Some("\"v1\"") => Reply::new(304).header("cache-control", "max-age=60"),
            Some(other) => panic!("asked about {other}"),
            None => page(),
        })
        .on("/coded", |_| coded("br", brotli(&text())));
    let path = folder.path().join("disk").display().to_string();
    let disk = format!("cache: {{ memory: 8MiB, disk: {{ path: {path}, size: 64MiB }} }}");
    let open = || Timed::start(config(&origin, "", "").top(&disk));
    let gate = open().await;
    for (written, target) in [(1.0, "/page"), (2.0, "/coded")] {
        get(&gate, target, "gzip").await.expect(200);
        gate.until("headgate_cache_disk_writes_total", written)
            .await;
    }
    drop(gate);
    for (target, took, tags) in [
        ("/coded", "br", ["\"gz\"", "W/\"gz\""]),
        ("/page", "gzip", ["W/\"v1\"", "\"v1\""]),
    ] {
        let gate = open().await;
        gate.until("headgate_cache_disk_objects", 2.0).await;
        for (accepts, coding) in [("identity", None), (took, Some(took))] {
            let answer = get(&gate, target, accepts).await.expect(200);
            assert!(answer.is_hit(), "{target}: {}", answer.cache());
            assert_eq!(answer.header("content-encoding"), coding, "{target}");
            assert_eq!(plain(&answer), text(), "{target}");
            let tag = tags[usize::from(coding.is_none())];
            assert_eq!(answer.header("etag"), Some(tag), "{target}");
        }
        assert_eq!(origin.requests(target), 1);
        if target == "/page" {
            gate.advance(100);
            let asked = get(&gate, target, "identity").await.expect(200);
            assert_eq!(asked.cache(), "headgate; fwd=stale; fwd-status=304");
            assert_eq!(asked.text(), text());
        }
    }
}

#[tokio::test]
async fn without_room_to_decompress_clients_go_to_the_origin() {
    // More than sockets hold, so that whoever does not read has not got all of it.
    let zeros = "0".repeat(64 << 20);
    let small = zstd(&zeros);
    drop(zeros);
    let origin =
        Origin::start("a")
            .await
            .on("/zeros", move |seen| match seen.header("accept-encoding") {
                Some("gzip") => coded("zstd", small.clone()),
                _ => page(),
            });
    let gate = gate(&origin, "").await;
    get(&gate, "/zeros", "zstd").await.expect(200);
    let mut slow = Vec::new();
    loop {
        let mut client = gate.client().await;
        client.write(ask("GET", "/zeros", "br").bytes()).await;
        let head = client.head().await.expect(200);
        if !head.is_hit() {
            assert_eq!(head.cache(), "headgate; fwd=bypass; detail=memory");
            break;
        }
        slow.push(client);
    }
    assert!((5..50).contains(&slow.len()), "{}", slow.len());
    assert_eq!(origin.last("/zeros").header("accept-encoding"), Some("br"));
    let only = ask("GET", "/zeros", "br").header("cache-control", "only-if-cached");
    gate.send(&only).await.expect(504);
    assert!(get(&gate, "/zeros", "zstd").await.is_hit());
    let head = gate.send(&ask("HEAD", "/zeros", "br")).await.expect(200);
    assert!(head.is_hit(), "{}", head.cache());
    // Who leaves gives room.
    drop(slow);
    crate::harness::eventually("there is room again", async || {
        let mut client = gate.client().await;
        client.write(ask("GET", "/zeros", "br").bytes()).await;
        client.head().await.expect(200).is_hit().then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_room_to_compress_an_answer_is_stored_plain() {
    let zeros = zstd(&"0".repeat(64 << 20));
    let origin = Origin::start("a").await;
    let origin = origin.on("/zeros", move |seen| match seen.header("accept-encoding") {
        Some("br") => coded("zstd", zeros.clone()),
        _ => page(),
    });
    // How long it is is not told, so that a compressor needs all that it may.
    let cold = |_: &Seen| {
        Reply::new(200)
            .header("content-type", "text/html")
            .header("cache-control", "max-age=60")
            .chunks(&[&text()])
    };
    let origin = origin.on("/cold", cold).on("/later", cold);
    let gate = Timed::start(config(&origin, "", "algorithms: [br, zstd]")).await;
    get(&gate, "/zeros", "zstd").await.expect(200);
    let mut slow = Vec::new();
    loop {
        let mut client = gate.client().await;
        client.write(ask("GET", "/zeros", "identity").bytes()).await;
        if !client.head().await.expect(200).is_hit() {
            break;
        }
        slow.push(client);
    }
    let refused = async || {
        let metrics = gate.metrics().await;
        metrics.sum("headgate_compression_refused_total", &[])
    };
    let before = refused().await;

    let first = get(&gate, "/cold", "br").await.expect(200);

    assert_eq!(first.cache(), "headgate; fwd=uri-miss; stored");
    assert_eq!(
        (first.header("content-encoding"), first.text()),
        (None, &*text())
    );
    assert!(refused().await > before);
    // It stays so, for all.
    drop(slow);
    for accepts in ["br", "zstd", "identity"] {
        let hit = get(&gate, "/cold", accepts).await.expect(200);
        assert!(hit.is_hit(), "{accepts}: {}", hit.cache());
        assert_eq!(plain(&hit), text(), "{accepts}");
    }
    assert_eq!(origin.requests("/cold"), 1);
    // Who leaves gives room to what comes next.
    gate.until("headgate_http_in_flight_requests", 0.0).await;
    let later = get(&gate, "/later", "br").await.expect(200);
    assert_eq!(later.header("content-encoding"), Some("br"));
}

#[tokio::test]
async fn parts_that_are_passed_on_are_kept_by_what_their_clients_take() {
    let origin = Origin::start("a").await.on("/p", |seen| {
        let (body, tag) = match seen.header("accept-encoding") {
            Some("gzip") => (gzip(&text()), "\"gz\""),
            _ => (text().into_bytes(), "\"v1\""),
        };
        let reply = Reply::new(206)
            .header("content-range", &format!("bytes 0-9/{}", body.len()))
            .header("content-type", "text/plain")
            .header("vary", "accept-encoding")
            .header("etag", tag)
            .header("cache-control", "max-age=60");
        let reply = match tag {
            "\"gz\"" => reply.header("content-encoding", "gzip"),
            _ => reply,
        };
        reply.body(&body[..10])
    });
    let gate = gate(&origin, "ranges: pass").await;
    for is_hit in [false, true] {
        for (accepts, body) in [("gzip", gzip(&text())), ("identity", text().into_bytes())] {
            let request = ask("GET", "/p", accepts).header("range", "bytes=0-9");
            let part = gate.send(&request).await.expect(206);
            assert_eq!(part.is_hit(), is_hit, "{accepts}: {}", part.cache());
            assert_eq!(part.body, &body[..10], "{accepts}");
        }
    }
    assert_eq!(origin.requests("/p"), 2);
}
