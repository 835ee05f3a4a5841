//! A folder as a route's target: what is served, how it is asked for, and what never leaves.

use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::harness::{Answer, Config, Gate, Request};

/// When every file of these tests was changed, unless a test says otherwise.
const CHANGED: &str = "Tue, 14 Nov 2023 22:13:20 GMT";
const BEFORE: &str = "Tue, 14 Nov 2023 22:13:19 GMT";
const AFTER: &str = "Tue, 14 Nov 2023 22:13:21 GMT";

fn changed() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn write(path: &Path, content: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(changed()).unwrap();
}

/// A gate that serves the folder `www` with these keys beside `root`.
async fn site(keys: &str, files: &[(&str, &str)]) -> Gate {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("www")).unwrap();
    for (name, content) in files {
        write(&folder.path().join("www").join(name), content);
    }
    let comma = if keys.is_empty() { "" } else { ", " };
    let target = format!("files: {{ root: www{comma}{keys} }}");
    let config = Config::new().route("site", "path_prefix: /", &target);
    Gate::start_in(folder, &config).await
}

async fn head(gate: &Gate, target: &str) -> Answer {
    gate.send(&Request::new("HEAD", target)).await
}

async fn with(gate: &Gate, target: &str, fields: &[(&str, &str)]) -> Answer {
    let request = Request::get(target);
    let request = fields.iter().fold(request, |request, (name, value)| {
        request.header(name, value)
    });
    gate.send(&request).await
}

#[tokio::test]
async fn a_file_comes_with_its_type_its_length_and_its_validators() {
    let gate = site(
        "cache_control: \"public, max-age=60\"",
        &[
            ("index.html", "<p>home"),
            ("app/main.js", "go()"),
            ("empty.css", ""),
        ],
    )
    .await;
    let mut client = gate.client().await;
    for (target, kind, content) in [
        ("/app/main.js", "text/javascript; charset=utf-8", "go()"),
        ("/app/main.js?v=1", "text/javascript; charset=utf-8", "go()"),
        ("/app/%6Dain.js", "text/javascript; charset=utf-8", "go()"),
        ("/", "text/html; charset=utf-8", "<p>home"),
        ("/index.html", "text/html; charset=utf-8", "<p>home"),
        ("/empty.css", "text/css; charset=utf-8", ""),
    ] {
        // On one connection: each answer ends where it says.
        let whole = client.get(target).await.expect(200);
        assert_eq!(whole.text(), content, "{target}");
        let only_head = client.send(&Request::new("HEAD", target)).await.expect(200);
        assert!(only_head.body.is_empty());
        for answer in [&whole, &only_head] {
            assert_eq!(answer.header("content-type"), Some(kind), "{target}");
            let length = content.len().to_string();
            assert_eq!(answer.header("content-length"), Some(length.as_str()));
            assert_eq!(answer.header("last-modified"), Some(CHANGED));
            assert_eq!(answer.header("cache-control"), Some("public, max-age=60"));
            assert_eq!(answer.header("accept-ranges"), Some("bytes"));
            assert_eq!(answer.header("vary"), None);
            assert!(answer.header("x-request-id").is_some());
        }
        assert!(whole.header("etag").unwrap().starts_with('"'));
        assert_eq!(whole.header("etag"), only_head.header("etag"));
    }
    let labels = [("route", "site"), ("code", "200")];
    gate.until("headgate_http_requests_total", &labels, 12.0)
        .await;
}

#[tokio::test]
async fn nothing_outside_of_the_root_is_ever_served() {
    let folder = tempfile::tempdir().unwrap();
    let www = folder.path().join("www");
    write(&www.join("a/b.txt"), "inside");
    write(&www.join(".env"), "SECRET");
    write(&www.join(".git/config"), "SECRET");
    write(&www.join(".well-known/x"), "inside");
    write(&folder.path().join("outside"), "SECRET");
    symlink("../outside", www.join("out")).unwrap();
    symlink(folder.path().join("outside"), www.join("absolute")).unwrap();
    symlink("..", www.join("up")).unwrap();
    symlink("/", www.join("system")).unwrap();
    symlink("/proc/self", www.join("self")).unwrap();
    let pipe = std::process::Command::new("mkfifo")
        .arg(www.join("pipe"))
        .status();
    assert!(pipe.unwrap().success());
    let target = "files: { root: www, fallback: /a/b.txt }";
    let config = Config::new().route("site", "path_prefix: /", target);
    let gate = Gate::start_in(folder, &config).await;

    for target in [
        "/../outside",
        "/a/../../outside",
        "/%2e%2e/outside",
        "/.%2e/outside",
        "/%2E%2E/outside",
        "/a/%2e%2e/%2e%2e/outside",
        "/..%2foutside",
        "/%2e%2e%2foutside",
        "/..%5coutside",
        "/a%2f..%2f..%2foutside",
        "/a/b.txt%00",
        "/a/b.txt%0a",
        "/a/%zz",
    ] {
        let answer = gate.get(target).await;
        assert_eq!(answer.status, 400, "{target}: {}", answer.text());
        assert!(!answer.text().contains("SECRET"), "{target}");
    }
    for target in ["/.env", "/%2eenv", "/.git/config", "/.git/"] {
        let answer = gate.get(target).await;
        answer.problem(404);
        assert!(!answer.text().contains("SECRET"), "{target}");
    }
    // What cannot be seen is as if it were not there: the fallback answers.
    for target in [
        "/out",
        "/absolute",
        "/up/outside",
        "/system/etc/passwd",
        "/self/environ",
        "/self/cwd/outside",
        "/pipe",
        "/%252e%252e/outside",
        "//outside",
    ] {
        let answer = gate.get(target).await.expect(200);
        assert_eq!(answer.text(), "inside", "{target}");
        assert_eq!(answer.header("cache-control"), Some("no-cache"), "{target}");
    }
    gate.get("/.well-known/x").await.expect(200);
    // A step that leads nowhere is gone before anybody looks.
    assert_eq!(gate.get("/./a/b.txt").await.expect(200).text(), "inside");
}

#[tokio::test]
async fn names_with_a_dot_first_are_served_when_the_config_says_so() {
    let gate = site("hidden: true", &[(".env", "a=1")]).await;
    assert_eq!(gate.get("/.env").await.expect(200).text(), "a=1");
    gate.get("/..").await.problem(400);
}

#[tokio::test]
async fn a_folder_is_led_to_its_slash_and_answered_by_its_index() {
    let gate = site(
        "index: start.htm",
        &[
            ("docs/start.htm", "docs"),
            ("docs/a.txt", "a"),
            ("bare/x", "x"),
        ],
    )
    .await;
    let led = gate.get("/docs?page=2").await.expect(308);
    assert_eq!(led.header("location"), Some("./docs/?page=2"));
    assert!(led.body.is_empty());
    assert_eq!(gate.get("/docs/").await.expect(200).text(), "docs");
    // No way to another host, whatever the path looks like.
    let led = gate.get("//docs").await;
    assert_eq!(led.expect(308).header("location"), Some("./docs/"));
    for target in [
        "/bare/",
        "/docs/a.txt/",
        "/none",
        "/none/",
        "/",
        "/docs/none",
    ] {
        gate.get(target).await.problem(404);
    }
    let labels = [("reason", "no_file")];
    gate.until("headgate_rejects_total", &labels, 6.0).await;
}

#[tokio::test]
async fn what_a_rewrite_makes_of_the_path_is_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("www/docs/a.txt"), "a");
    let target = "files: { root: www }, rewrite: { strip_prefix: /app }";
    let config = Config::new().route("site", "path_prefix: /app", target);
    let gate = Gate::start_in(folder, &config).await;
    assert_eq!(gate.get("/app/docs/a.txt").await.expect(200).text(), "a");
    gate.get("/app/app/docs/a.txt").await.problem(404);
    // Led on relatively, so that the prefix stays.
    let led = gate.get("/app/docs").await.expect(308);
    assert_eq!(led.header("location"), Some("./docs/"));
}

#[tokio::test]
async fn only_get_and_head_are_answered() {
    let gate = site("", &[("a", "a")]).await;
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"] {
        let answer = gate.send(&Request::new(method, "/a")).await;
        answer.problem(405);
        assert_eq!(answer.header("allow"), Some("GET, HEAD"), "{method}");
    }
    gate.send(&Request::post("/a", "body")).await.problem(405);
    assert_eq!(gate.get("/a").await.expect(200).text(), "a");
}

#[tokio::test]
async fn conditions_are_judged_in_the_order_of_the_rfc() {
    let gate = site("cache_control: max-age=5", &[("a.txt", "0123456789")]).await;
    let tag = gate.get("/a.txt").await.header("etag").unwrap().to_owned();
    let weak = format!("W/{tag}");
    for (fields, status) in [
        (&[("if-match", &*tag)][..], 200),
        (&[("if-match", "*")], 200),
        (&[("if-match", &weak)], 412),
        (&[("if-match", "\"x\"")], 412),
        (&[("if-match", &tag), ("if-unmodified-since", BEFORE)], 200),
        (&[("if-unmodified-since", BEFORE)], 412),
        (&[("if-unmodified-since", CHANGED)], 200),
        (&[("if-none-match", &tag)], 304),
        (&[("if-none-match", &weak)], 304),
        (&[("if-none-match", "*")], 304),
        (&[("if-none-match", "\"x\"")], 200),
        (
            &[("if-none-match", "\"x\""), ("if-modified-since", AFTER)],
            200,
        ),
        (&[("if-modified-since", BEFORE)], 200),
        (&[("if-modified-since", CHANGED)], 304),
        (&[("if-modified-since", AFTER)], 304),
        (&[("if-match", "\"x\""), ("if-none-match", &tag)], 412),
        (&[("if-match", &tag), ("if-none-match", &tag)], 304),
        (
            &[("if-unmodified-since", BEFORE), ("if-none-match", &tag)],
            412,
        ),
        (&[("if-none-match", &tag), ("range", "bytes=0-1")], 304),
        (&[("if-match", &tag), ("range", "bytes=0-1")], 206),
        (&[("if-match", "\"x\""), ("range", "bytes=50-")], 412),
    ] {
        let answer = with(&gate, "/a.txt", fields).await;
        assert_eq!(answer.status, status, "{fields:?}");
        if status == 304 {
            assert_eq!(answer.header("etag"), Some(&*tag));
            assert_eq!(answer.header("cache-control"), Some("max-age=5"));
            assert_eq!(answer.header("content-length"), None);
        }
    }
    let mut client = gate.client().await;
    let request = Request::get("/a.txt").header("if-none-match", &tag);
    for _ in 0..2 {
        client.send(&request).await.expect(304);
    }
    assert_eq!(client.get("/a.txt").await.expect(200).text(), "0123456789");
}

#[tokio::test]
async fn parts_of_a_file_are_sent_as_they_are_asked_for() {
    let text: String = ('a'..='z').cycle().take(1000).collect();
    let gate = site("", &[("a.txt", &text)]).await;
    let tag = gate.get("/a.txt").await.header("etag").unwrap().to_owned();
    for (range, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=10-19", 10, 19),
        ("bytes=990-", 990, 999),
        ("bytes=-5", 995, 999),
        ("bytes=-5000", 0, 999),
        ("bytes=900-5000", 900, 999),
        ("bytes=0-9,5-14", 0, 14),
        ("bytes=0-9,5000-", 0, 9),
    ] {
        let answer = with(&gate, "/a.txt", &[("range", range)]).await.expect(206);
        assert_eq!(answer.text(), &text[first..=last], "{range}");
        let said = format!("bytes {first}-{last}/1000");
        assert_eq!(answer.header("content-range"), Some(said.as_str()));
        assert_eq!(
            answer.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
        assert_eq!(answer.header("etag"), Some(&*tag));
    }
    for range in ["bytes=1000-", "bytes=-0", "bytes=5000-6000"] {
        let answer = with(&gate, "/a.txt", &[("range", range)]).await.expect(416);
        assert_eq!(
            answer.header("content-range"),
            Some("bytes */1000"),
            "{range}"
        );
        assert!(answer.body.is_empty());
    }
    for range in [
        "bytes=9-0",
        "bytes=x",
        "lines=1-2",
        "bytes=",
        "bytes=0-1;q=1",
    ] {
        let answer = with(&gate, "/a.txt", &[("range", range)]).await.expect(200);
        assert_eq!(answer.body.len(), 1000, "{range}");
    }
    for (condition, status) in [
        (&*tag, 206),
        (CHANGED, 206),
        ("\"x\"", 200),
        (BEFORE, 200),
        (AFTER, 200),
    ] {
        let fields = [("range", "bytes=0-1"), ("if-range", condition)];
        let answer = with(&gate, "/a.txt", &fields).await;
        assert_eq!(answer.status, status, "{condition}");
    }
    let ranged = Request::new("HEAD", "/a.txt").header("range", "bytes=0-1");
    let answer = gate.send(&ranged).await.expect(200);
    assert_eq!(answer.header("content-length"), Some("1000"));
}

#[tokio::test]
async fn several_parts_come_in_one_body() {
    let text: String = ('a'..='z').cycle().take(1000).collect();
    let gate = site("", &[("a.txt", &text)]).await;
    let range = [("range", "bytes=500-509, 0-9, -1")];
    let answer = with(&gate, "/a.txt", &range).await.expect(206);
    assert_eq!(answer.header("content-range"), None);
    let kind = answer.header("content-type").unwrap();
    let boundary = kind
        .strip_prefix("multipart/byteranges; boundary=")
        .unwrap();
    let delimiter = format!("--{boundary}");
    let parts: Vec<&str> = answer.text().split(delimiter.as_str()).collect();
    assert_eq!((parts[0], parts[4]), ("", "--\r\n"));
    for (part, (first, last)) in parts[1..4].iter().zip([(500, 509), (0, 9), (999, 999)]) {
        let (head, body) = part.trim_start().split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-range: bytes {first}-{last}/1000")));
        assert!(head.contains("content-type: text/plain; charset=utf-8"));
        assert_eq!(body.strip_suffix("\r\n"), Some(&text[first..=last]));
    }
    // Many small parts cost more than the file: it comes whole.
    let specs: Vec<String> = (0..17).map(|n| format!("{0}-{0}", n * 100)).collect();
    write(&gate.file("www/big"), vec![b'x'; 2000]);
    let range = format!("bytes={}", specs.join(","));
    let answer = with(&gate, "/big", &[("range", &range)]).await.expect(200);
    assert_eq!(answer.body.len(), 2000);
}

#[tokio::test]
async fn the_variant_that_the_client_likes_best_is_sent() {
    let gate = site(
        "precompressed: [br, zstd, gzip]",
        &[
            ("app.js", "plain"),
            ("app.js.br", "as br"),
            ("app.js.zst", "as zstd"),
            ("app.js.gz", "as gzip"),
            ("some.css", "plain"),
            ("some.css.gz", "as gzip"),
            ("none.txt", "plain"),
        ],
    )
    .await;
    let mut tags = Vec::new();
    for (target, accepts, coding) in [
        ("/app.js", None, None),
        ("/app.js", Some(""), None),
        ("/app.js", Some("gzip, br, zstd"), Some("br")),
        ("/app.js", Some("gzip, br;q=0.5"), Some("gzip")),
        ("/app.js", Some("gzip;q=0.2, zstd;q=0.3"), Some("zstd")),
        ("/app.js", Some("br;q=0, *"), Some("zstd")),
        ("/app.js", Some("identity, *;q=0.5"), None),
        ("/app.js", Some("deflate"), None),
        ("/some.css", Some("gzip, br, zstd"), Some("gzip")),
        ("/some.css", Some("br, zstd"), None),
        ("/none.txt", Some("gzip, br, zstd"), None),
    ] {
        let fields: Vec<_> = accepts
            .map(|accepts| ("accept-encoding", accepts))
            .into_iter()
            .collect();
        let answer = with(&gate, target, &fields).await.expect(200);
        assert_eq!(
            answer.header("content-encoding"),
            coding,
            "{target} {accepts:?}"
        );
        let content = coding.map_or_else(|| "plain".to_owned(), |coding| format!("as {coding}"));
        assert_eq!(answer.text(), content, "{target} {accepts:?}");
        // Whatever was sent: another client may get another variant.
        assert_eq!(answer.header("vary"), Some("accept-encoding"), "{target}");
        let kind = answer.header("content-type").unwrap();
        assert!(kind.starts_with("text/"), "{kind}");
        if target == "/app.js" {
            tags.push((coding, answer.header("etag").unwrap().to_owned()));
        }
    }
    for (coding, tag) in &tags {
        for (other, another) in &tags {
            assert_eq!(coding == other, tag == another, "{coding:?} {other:?}");
        }
    }
    // A part of a variant is a part of its bytes, and its tag tells it from the others.
    let gzip = [("accept-encoding", "gzip"), ("range", "bytes=3-")];
    let part = with(&gate, "/app.js", &gzip).await.expect(206);
    assert_eq!(
        (part.text(), part.header("content-encoding")),
        ("gzip", Some("gzip"))
    );
    let (_, plain) = tags.iter().find(|(coding, _)| coding.is_none()).unwrap();
    let fields = [gzip[0], gzip[1], ("if-range", plain)];
    assert_eq!(
        with(&gate, "/app.js", &fields).await.expect(200).text(),
        "as gzip"
    );
    let fields = [gzip[0], ("if-none-match", plain)];
    with(&gate, "/app.js", &fields).await.expect(200);
}

#[tokio::test]
async fn a_file_that_shrinks_while_it_is_sent_breaks_the_answer_off() {
    const LENGTH: u64 = 64 << 20;
    let gate = site("", &[("big", "")]).await;
    let file = File::options()
        .write(true)
        .open(gate.file("www/big"))
        .unwrap();
    file.set_len(LENGTH).unwrap();
    let mut client = gate.begin(&Request::get("/big")).await;
    let head = client.head().await.expect(200);
    assert_eq!(
        head.header("content-length"),
        Some(LENGTH.to_string().as_str())
    );
    client.exactly(1 << 20).await;
    file.set_len(2 << 20).unwrap();
    let rest = client.until_closed().await;
    assert!((rest.len() as u64) < LENGTH - (1 << 20), "it came whole");
    gate.log("a file broke off while it was sent").await;
    // The next one is served from what is there now.
    assert_eq!(gate.get("/big").await.expect(200).body.len(), 2 << 20);
}

#[tokio::test]
async fn a_large_file_takes_little_memory_however_its_client_reads() {
    let gate = site("", &[("big", "")]).await;
    let file = File::options()
        .write(true)
        .open(gate.file("www/big"))
        .unwrap();
    file.set_len(1 << 30).unwrap();
    head(&gate, "/big").await.expect(200);
    let (before, _) = gate.memory();
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = gate.begin(&Request::get("/big")).await;
        client.head().await.expect(200);
        client.exactly(4 << 20).await;
        clients.push(client);
    }
    let (_, most) = gate.memory();
    assert!(most < before + (32 << 20), "{before} bytes became {most}");
}

#[tokio::test]
async fn a_reload_serves_another_folder() {
    let gate = site("", &[("a", "old")]).await;
    assert_eq!(gate.get("/a").await.expect(200).text(), "old");
    write(&gate.file("new/a"), "new");
    let config = Config::new().route("site", "path_prefix: /", "files: { root: new }");
    gate.become_config(&config).await;
    assert_eq!(gate.get("/a").await.expect(200).text(), "new");
    let config = Config::new().route("site", "path_prefix: /", "files: { root: none }");
    gate.write(&config.text());
    assert_eq!(gate.reload().await.status, 422);
    assert_eq!(gate.get("/a").await.expect(200).text(), "new");
    std::fs::rename(gate.file("new"), gate.file("gone")).unwrap();
    gate.get("/a").await.problem(500);
}
