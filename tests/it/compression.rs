//! Answers that are compressed on their way out: for whom, which, and what their heads then say.

use std::io::Read as _;

use tempfile::TempDir;

use crate::harness::{Answer, Client, Config, Gate, Latch, Origin, Reply, Request};

/// What a client makes of a body, or of as much of it as came.
pub(crate) fn decoded(coding: &str, bytes: &[u8]) -> String {
    let mut reader: Box<dyn std::io::Read> = match coding {
        "gzip" => Box::new(flate2::read::GzDecoder::new(bytes)),
        "br" => Box::new(brotli::Decompressor::new(bytes, 4096)),
        "zstd" => return unzstd(bytes),
        other => panic!("no decoder for {other}"),
    };
    let mut plain = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = reader.read(&mut buffer) {
        plain.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8(plain).unwrap()
}

fn unzstd(bytes: &[u8]) -> String {
    let mut context = zstd_safe::DCtx::create();
    let mut input = zstd_safe::InBuffer::around(bytes);
    let mut plain: Vec<u8> = Vec::new();
    loop {
        plain.reserve(4096);
        let before = plain.len();
        let mut output = zstd_safe::OutBuffer::around_pos(&mut plain, before);
        context.decompress_stream(&mut output, &mut input).unwrap();
        if plain.len() == before && input.pos() == bytes.len() {
            return String::from_utf8(plain).unwrap();
        }
    }
}

fn text() -> String {
    (0..2000).map(|n| format!("line {n}\n")).collect()
}

fn page() -> Reply {
    Reply::ok(text())
        .header("content-type", "text/html; charset=utf-8")
        .header("etag", "\"v1\"")
        .header("accept-ranges", "bytes")
}

/// A gate whose one route compresses with these keys.
async fn gate(origin: &Origin, keys: &str) -> Gate {
    let target = format!("upstream: shop, compress: {{ {keys} }}");
    let config =
        Config::new()
            .upstream("shop", &[origin], "")
            .route("shop", "path_prefix: /", &target);
    Gate::start(&config).await
}

async fn get(gate: &Gate, target: &str, accepts: &str) -> Answer {
    gate.send(&Request::get(target).header("accept-encoding", accepts))
        .await
}

#[tokio::test]
async fn the_coding_is_the_one_that_the_client_likes_best() {
    let origin = Origin::start("a").await.on("/page", |_| page());
    let gate = gate(&origin, "").await;
    let mut client = gate.client().await;
    for (accepts, coding) in [
        ("gzip", Some("gzip")),
        ("br", Some("br")),
        ("zstd", Some("zstd")),
        ("gzip, deflate, br, zstd", Some("zstd")),
        ("gzip, br", Some("br")),
        ("gzip;q=1, br;q=0.9", Some("gzip")),
        ("*", Some("zstd")),
        ("*;q=0.1, gzip", Some("gzip")),
        ("x-gzip", Some("gzip")),
        ("identity;q=0, gzip;q=0.001", Some("gzip")),
        ("identity, gzip;q=0.5", None),
        ("gzip;q=0", None),
        ("deflate", None),
        ("", None),
    ] {
        let request = Request::get("/page").header("accept-encoding", accepts);
        let answer = client.send(&request).await.expect(200);
        assert_eq!(answer.header("content-encoding"), coding, "{accepts}");
        assert_eq!(answer.all("vary"), ["accept-encoding"], "{accepts}");
        match coding {
            Some(coding) => {
                assert_eq!(decoded(coding, &answer.body), text(), "{accepts}");
                assert!(answer.body.len() < text().len() / 2, "{accepts}");
                assert_eq!(answer.header("content-length"), None);
                assert_eq!(answer.header("accept-ranges"), None);
                assert_eq!(answer.header("etag"), Some("W/\"v1\""));
            }
            None => {
                assert_eq!(answer.text(), text(), "{accepts}");
                assert_eq!(answer.header("etag"), Some("\"v1\""));
                assert_eq!(answer.header("accept-ranges"), Some("bytes"));
            }
        }
        assert_eq!(
            answer.header("content-type"),
            Some("text/html; charset=utf-8")
        );
    }
    // Without the field, too, since nothing was asked for.
    let answer = client.get("/page").await.expect(200);
    assert_eq!(answer.header("content-encoding"), None);
    assert_eq!(answer.header("vary"), Some("accept-encoding"));
}

#[tokio::test]
async fn what_must_not_be_compressed_goes_out_as_it_came() {
    let origin = Origin::start("a")
        .await
        .on("/coded", |_| page().header("content-encoding", "br"))
        .on("/fixed", |_| {
            page().header("cache-control", "max-age=5, no-transform")
        })
        .on("/image", |_| {
            Reply::ok(text()).header("content-type", "image/png")
        })
        .on("/untyped", |_| Reply::ok(text()))
        .on("/part", |_| {
            let reply = Reply::new(206).header("content-range", "bytes 0-99/500");
            reply
                .header("content-type", "image/png")
                .body("x".repeat(100))
        })
        .on("/none", |_| {
            Reply::new(204).header("content-type", "text/plain")
        });
    let gate = gate(&origin, "min_size: 0B").await;
    for (target, status) in [
        ("/coded", 200),
        ("/fixed", 200),
        ("/image", 200),
        ("/untyped", 200),
        ("/part", 206),
        ("/none", 204),
    ] {
        let plain = gate.get(target).await.expect(status);
        let answer = get(&gate, target, "gzip, br, zstd").await.expect(status);
        assert_eq!(answer.body, plain.body, "{target}");
        for name in [
            "content-encoding",
            "etag",
            "content-length",
            "vary",
            "content-range",
        ] {
            assert_eq!(answer.all(name), plain.all(name), "{target} {name}");
        }
        assert_eq!(answer.header("vary"), None, "{target}");
    }
}

#[tokio::test]
async fn a_part_of_what_may_be_compressed_varies_as_the_whole_does() {
    let origin = Origin::start("a").await.on("/part", |_| {
        Reply::new(206)
            .header("content-range", "bytes 0-99/500")
            .header("content-type", "text/plain")
            .header("etag", "\"v1\"")
            .body("x".repeat(100))
    });
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("a.txt"), text()).unwrap();
    let config = Config::new()
        .upstream("shop", &[&origin], "")
        .route("shop", "path: /part", "upstream: shop, compress: {}")
        .route("site", "path_prefix: /", "files: { root: . }, compress: {}");
    let gate = Gate::start_in(folder, &config).await;
    assert_eq!(
        get(&gate, "/part", "gzip").await.header("etag"),
        Some("\"v1\"")
    );
    for target in ["/part", "/a.txt"] {
        for accepts in ["gzip", "identity"] {
            let request = Request::get(target).header("accept-encoding", accepts);
            let part = gate.send(&request.header("range", "bytes=0-99")).await;
            let part = part.expect(206);
            assert_eq!(part.all("vary"), ["accept-encoding"], "{target} {accepts}");
            assert_eq!(part.header("content-encoding"), None);
            assert_eq!(part.body.len(), 100);
        }
    }
}

#[tokio::test]
async fn two_variants_never_share_a_tag_that_is_none() {
    let origin = Origin::start("a").await.on("/page", |_| {
        Reply::ok(text())
            .header("content-type", "text/plain")
            .header("etag", "foo")
    });
    let gate = gate(&origin, "").await;
    let plain = gate.get("/page").await.expect(200);
    assert_eq!(plain.header("etag"), Some("foo"));
    let coded = get(&gate, "/page", "gzip").await.expect(200);
    assert_eq!(coded.header("content-encoding"), Some("gzip"));
    assert_eq!(coded.header("etag"), None);
}

#[tokio::test]
async fn small_answers_stay_plain_unless_the_client_refuses_that() {
    let origin = Origin::start("a")
        .await
        .on("/small", |_| {
            Reply::ok("x".repeat(99)).header("content-type", "text/css")
        })
        .on("/large", |_| {
            Reply::ok("x".repeat(100)).header("content-type", "text/css")
        })
        .on("/empty", |_| {
            Reply::ok("").header("content-type", "text/css")
        });
    let gate = gate(&origin, "min_size: 100B, algorithms: [gzip]").await;
    for (target, accepts, coding) in [
        ("/small", "gzip", None),
        ("/small", "gzip, identity;q=0", Some("gzip")),
        ("/large", "gzip, br", Some("gzip")),
        ("/large", "br", None),
        ("/empty", "gzip, identity;q=0", None),
    ] {
        let answer = get(&gate, target, accepts).await.expect(200);
        assert_eq!(
            answer.header("content-encoding"),
            coding,
            "{target} {accepts}"
        );
        assert_eq!(answer.header("vary"), Some("accept-encoding"));
    }
}

#[tokio::test]
async fn a_request_can_forbid_it() {
    let origin = Origin::start("a").await.on("/page", |_| page());
    let gate = gate(&origin, "").await;
    let request = Request::get("/page").header("accept-encoding", "gzip");
    let answer = gate
        .send(&request.header("cache-control", "no-transform"))
        .await;
    assert_eq!(answer.header("content-encoding"), None);
    assert_eq!(answer.header("vary"), Some("accept-encoding"));
}

#[tokio::test]
async fn a_head_says_what_its_get_would() {
    let origin = Origin::start("a").await.on("/page", |_| page());
    let gate = gate(&origin, "").await;
    let mut client = gate.client().await;
    let head = Request::new("HEAD", "/page").header("accept-encoding", "br");
    let head = client.send(&head).await.expect(200);
    let whole = Request::get("/page").header("accept-encoding", "br");
    let whole = client.send(&whole).await.expect(200);
    for name in [
        "content-encoding",
        "etag",
        "vary",
        "content-type",
        "accept-ranges",
    ] {
        assert_eq!(head.all(name), whole.all(name), "{name}");
    }
    assert_eq!(head.header("content-encoding"), Some("br"));
    assert_eq!(head.header("content-length"), None);
}

#[tokio::test]
async fn digests_of_the_plain_bytes_do_not_go_out_with_others() {
    let origin = Origin::start("a").await.on("/page", |_| {
        page()
            .header("content-digest", "sha-256=:x:")
            .header("repr-digest", "sha-256=:x:")
            .header("digest", "sha-256=x")
            .header("content-md5", "x")
    });
    let gate = gate(&origin, "").await;
    let (plain, coded) = (gate.get("/page").await, get(&gate, "/page", "gzip").await);
    for name in ["content-digest", "repr-digest", "digest", "content-md5"] {
        assert_eq!(plain.all(name).len(), 1, "{name}");
        assert_eq!(coded.all(name).len(), 0, "{name}");
    }
}

#[tokio::test]
async fn a_confirmation_names_the_tag_of_what_was_sent() {
    let origin = Origin::start("a")
        .await
        .on("/page", |seen| match seen.header("if-none-match") {
            Some(_) => Reply::new(304).header("etag", "\"v1\""),
            None => page(),
        });
    let gate = gate(&origin, "").await;
    let sent = get(&gate, "/page", "gzip").await.expect(200);
    let tag = sent.header("etag").unwrap();
    let again = Request::get("/page").header("accept-encoding", "gzip");
    let again = gate
        .send(&again.header("if-none-match", tag))
        .await
        .expect(304);
    assert_eq!(again.header("etag"), Some(tag));
    assert_eq!(again.header("vary"), Some("accept-encoding"));
    assert_eq!(again.header("content-encoding"), None);
    assert_eq!(origin.last("/page").header("if-none-match"), Some(tag));
}

/// The data of the chunks that have come whole.
async fn chunks(client: &mut Client, raw: &mut Vec<u8>) -> Vec<u8> {
    let some = client.some().await;
    assert!(!some.is_empty(), "the connection closed");
    raw.extend_from_slice(&some);
    let mut rest = &raw[..];
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
async fn an_event_is_not_held_back() {
    for coding in ["gzip", "br", "zstd"] {
        let (second, end) = (Latch::new(), Latch::new());
        let (wait, last) = (second.clone(), end.clone());
        let origin = Origin::start("a").await.on("/events", move |_| {
            Reply::new(200)
                .header("content-type", "text/event-stream")
                .header("transfer-encoding", "chunked")
                .then("b\r\ndata: one\n\n\r\n")
                .then_wait(&wait)
                .then("b\r\ndata: two\n\n\r\n")
                .then_wait(&last)
                .then("0\r\n\r\n")
        });
        let gate = gate(&origin, "").await;
        let request = Request::get("/events").header("accept-encoding", coding);
        let mut client = gate.begin(&request).await;
        let head = client.head().await.expect(200);
        assert_eq!(head.header("content-encoding"), Some(coding));
        let mut raw = Vec::new();
        let mut seen = String::new();
        while seen != "data: one\n\n" {
            seen = decoded(coding, &chunks(&mut client, &mut raw).await);
        }
        second.open();
        while seen != "data: one\n\ndata: two\n\n" {
            seen = decoded(coding, &chunks(&mut client, &mut raw).await);
        }
        end.open();
        while !raw.ends_with(b"0\r\n\r\n") {
            chunks(&mut client, &mut raw).await;
        }
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_ended_as_if_it_were_whole() {
    for coding in ["gzip", "br", "zstd"] {
        let latch = Latch::new();
        let wait = latch.clone();
        let origin = Origin::start("a").await.on("/half", move |_| {
            Reply::new(200)
                .header("content-type", "text/plain")
                .header("content-length", "5000")
                .then("x".repeat(2000))
                .then_wait(&wait)
                .close()
        });
        let gate = gate(&origin, "").await;
        let request = Request::get("/half").header("accept-encoding", coding);
        let mut client = gate.begin(&request).await;
        client.head().await.expect(200);
        let mut raw = Vec::new();
        while decoded(coding, &chunks(&mut client, &mut raw).await).len() < 2000 {}
        latch.open();
        let rest = client.until_closed().await;
        assert!(!rest.ends_with(b"0\r\n\r\n"), "{coding}: it was ended");
    }
}

#[tokio::test]
async fn a_long_body_comes_whole_at_every_level() {
    let long: String = (0..200_000).map(|n| format!("{n:x};")).collect();
    let body = long.clone();
    let origin = Origin::start("a").await.on("/long", move |_| {
        Reply::ok(body.clone()).header("content-type", "text/plain")
    });
    for level in ["fast", "balanced", "small"] {
        let gate = gate(&origin, &format!("level: {level}")).await;
        for coding in ["gzip", "br", "zstd"] {
            let answer = get(&gate, "/long", coding).await.expect(200);
            assert!(decoded(coding, &answer.body) == long, "{level} {coding}");
        }
        let most = long.len() as f64 * 10.0;
        let sent = gate
            .metrics()
            .await
            .sum("headgate_http_response_bytes_total", &[]);
        assert!(sent < most, "what is counted is what is sent");
    }
}

#[tokio::test]
async fn files_are_compressed_where_no_variant_lies_beside_them() {
    let folder = tempfile::tempdir().unwrap();
    let www = folder.path().join("www");
    std::fs::create_dir(&www).unwrap();
    std::fs::write(www.join("a.txt"), text()).unwrap();
    std::fs::write(www.join("b.txt"), text()).unwrap();
    std::fs::write(www.join("b.txt.gz"), "beside").unwrap();
    let target = "files: { root: www, precompressed: [gzip] }, compress: {}";
    let config = Config::new().route("site", "path_prefix: /", target);
    let gate = Gate::start_in(folder, &config).await;
    let answer = get(&gate, "/a.txt", "gzip").await.expect(200);
    assert_eq!(decoded("gzip", &answer.body), text());
    assert!(answer.header("etag").unwrap().starts_with("W/"));
    assert_eq!(answer.all("vary"), ["accept-encoding"]);
    assert_eq!(
        get(&gate, "/b.txt", "gzip").await.expect(200).text(),
        "beside"
    );
    let ranged = Request::get("/a.txt").header("accept-encoding", "gzip");
    let part = gate
        .send(&ranged.header("range", "bytes=0-5"))
        .await
        .expect(206);
    assert_eq!(
        (part.text(), part.header("content-encoding")),
        ("line 0", None)
    );
    assert_eq!(part.all("vary"), ["accept-encoding"]);
}

#[tokio::test]
async fn a_route_without_the_key_leaves_answers_alone() {
    let origin = Origin::start("a").await.on("/page", |_| page());
    let gate = Gate::start(&Config::to(&[&origin])).await;
    let answer = get(&gate, "/page", "gzip").await.expect(200);
    assert_eq!(answer.text(), text());
    assert_eq!(
        (answer.header("vary"), answer.header("etag")),
        (None, Some("\"v1\""))
    );
}
