//! Bytes that can be read in two ways: each is refused, the connection closed, and nothing of it, or
//! nothing whole, reaches the origin.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Client, Config, Gate, Latch, Origin, Reply, Request, patiently};

const CLOSED: &str = "headgate_connections_closed_total";

async fn gate(origin: &Origin) -> Gate {
    Gate::start(&Config::to(&[origin]).one_worker()).await
}

/// Sends `head` on a connection of its own, which must be refused with `status` and closed.
async fn refused(gate: &Gate, head: &[u8], status: u16) {
    let mut client = Client::connect(gate.address).await;
    client.write(head).await;
    let answer = client.answer().await;
    println!("{}", head.escape_ascii());
    answer.problem(status);
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(client.until_closed().await, b"");
}

/// What can be read in two ways, or is no HTTP.
const MALFORMED: &[&[u8]] = &[
    // Line ends (RFC 9112 section 2.2).
    b"GET / HTTP/1.1\nhost: a\n\n",
    b"GET / HTTP/1.1\r\nhost: a\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\n\n",
    b"GET / HTTP/1.1\r\nhost: a\r\nx: b\rc\r\n\r\n",
    b"\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
    b"\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
    // The request line (section 3).
    b"GET  / HTTP/1.1\r\nhost: a\r\n\r\n",
    b" GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET /  HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET / HTTP/1.1 \r\nhost: a\r\n\r\n",
    b"GET /a b HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET\t/ HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GE[T / HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET /#a HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET /\x00 HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET /\x7f HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET * HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n",
    b"GET /\r\n\r\n",
    b"GET / HTTP/1.1x\r\nhost: a\r\n\r\n",
    b"GET / http/1.1\r\nhost: a\r\n\r\n",
    b"\x16\x03\x01\x00\xf4\x01\x00\x00",
    // Fields (section 5).
    b"GET / HTTP/1.1\r\nhost : a\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost\t: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\n folded: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\n\tfolded\r\n\r\n",
    b"GET / HTTP/1.1\r\n host: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\n: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\nno colon\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\nx\x01: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\nx\xff: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\nx: b\x00c\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\nx: b\x08\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\nx: b\x7f\r\n\r\n",
    // Host (section 3.2).
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n",
    b"GET http://a/ HTTP/1.1\r\nhost: b\r\n\r\n",
    // Lengths (section 6.2 and 6.3).
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\na",
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1, 1\r\n\r\na",
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\na",
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\na",
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0x1\r\n\r\na",
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1a\r\n\r\na",
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length:\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\n",
    // Transfer codings (section 6.1).
    b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: identity\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding:\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
];

#[tokio::test]
async fn heads_that_can_be_read_in_two_ways_are_refused_and_none_reaches_the_origin() {
    let origin = Origin::start("a").await;
    let gate = gate(&origin).await;

    for head in MALFORMED {
        refused(&gate, head, 400).await;
    }

    assert_eq!(origin.requests("*"), 0);
    let count = u32::try_from(MALFORMED.len()).unwrap();
    gate.until(
        "headgate_rejects_total",
        &[("reason", "malformed")],
        count.into(),
    )
    .await;
    gate.get("/").await.expect(200);
}

#[tokio::test]
async fn what_headgate_cannot_do_has_a_status_of_its_own() {
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin])
        .one_worker()
        .top("limits: { header_bytes: 2KiB, headers: 5, uri_bytes: 100B }");
    let gate = Gate::start(&config).await;

    let long = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(100));
    let endless = format!("GET /{}", "a".repeat(3000));
    let large = format!(
        "GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n",
        "b".repeat(2048)
    );
    let unfinished = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}", "b".repeat(2048));
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}", "x: y\r\n".repeat(5));
    for (head, status) in [
        (long.as_str(), 414),
        (&endless, 414),
        (&large, 431),
        (&unfinished, 431),
        (&many, 431),
        ("GET / HTTP/2.0\r\nhost: a\r\n\r\n", 505),
        ("GET / HTTP/0.9\r\nhost: a\r\n\r\n", 505),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            501,
        ),
        (
            "POST / HTTP/1.1\r\nhost: a\r\nexpect: more\r\ncontent-length: 1\r\n\r\n",
            417,
        ),
    ] {
        refused(&gate, head.as_bytes(), status).await;
    }

    assert_eq!(origin.requests("*"), 0);
    let just = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(99));
    let mut client = gate.client().await;
    client.write(just).await;
    client.answer().await.expect(200);
}

#[tokio::test]
async fn a_head_is_the_same_however_it_is_cut() {
    let origin = Origin::start("a").await;
    let gate = gate(&origin).await;

    let mut client = gate.client().await;
    for byte in b"\r\nGET /good HTTP/1.1\r\nhost: a\r\nx-kept: yes\r\n\r\n" {
        client.write([*byte]).await;
    }
    client.answer().await.expect(200);
    assert_eq!(origin.last("/good").header("x-kept"), Some("yes"));

    // Refused at the byte that makes it certain, or before the end.
    for byte in b"GET /bad HTTP/1.1\r\nhost: a\r\nx : y\r\n\r\n" {
        if client.try_write(&[*byte]).await.is_err() {
            break;
        }
    }
    client.answer().await.problem(400);
    assert_eq!(client.until_closed().await, b"");
    assert_eq!(origin.requests("/bad"), 0);
}

#[tokio::test]
async fn a_good_request_before_a_malformed_one_is_answered_first() {
    let origin = Origin::start("a").await;
    let gate = gate(&origin).await;

    let mut client = gate.client().await;
    client
        .write(
            "POST /good HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody\
             surplus /bad HTTP/1.1\r\nhost: a\r\n\r\n\n\nGET /after HTTP/1.1\r\nhost: a\r\n\r\n",
        )
        .await;
    // `surplus` is a method like any other; what follows it is no request.
    client.answer().await.expect(200);
    client.answer().await.expect(200);
    client.answer().await.problem(400);
    assert_eq!(client.until_closed().await, b"");
    assert_eq!(origin.last("/good").body, b"body");
    assert_eq!(origin.requests("/after"), 0);
    gate.until(CLOSED, &[("reason", "malformed")], 1.0).await;
}

#[tokio::test]
async fn faults_in_a_body_reach_the_origin_as_no_whole_message() {
    let origin = Origin::start("a").await;
    let gate = gate(&origin).await;

    let extension = format!("5;{}\r\nhello\r\n", "a".repeat(17 * 1024));
    let trailers = format!("0\r\n{}\r\n", "x: y\r\n".repeat(65));
    for (index, bad) in [
        "zz\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5_0\r\nhello\r\n0\r\n\r\n",
        "\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "00000000000000005\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5;\r\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5;a=\"b\r\nhello\r\n0\r\n\r\n",
        &extension,
        "0\r\nx : y\r\n\r\n",
        "0\r\nx: y\n\r\n",
        "0\r\n x: y\r\n\r\n",
        "0\r\n: y\r\n\r\n",
        &trailers,
        "0\n\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        println!("{:?}", bad.get(..40).unwrap_or(bad));
        let path = format!("/up{index}");
        let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
        let mut client = gate.client().await;
        client.write(&format!("{head}5\r\nhello\r\n")).await;
        origin.until_asked(&path, 1).await;
        client.write(bad).await;

        let answer = client.answer().await;
        answer.problem(400);
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(client.until_closed().await, b"");
        gate.get("/next").await.expect(200);
        let (up, next) = (origin.last(&path), origin.last("/next"));
        assert!(!up.whole, "{up:?}");
        assert_ne!(up.connection, next.connection);
    }
}

#[tokio::test]
async fn trailers_that_would_be_headers_stay_behind() {
    let origin = Origin::start("a").await;
    let gate = gate(&origin).await;

    let mut client = gate.client().await;
    client
        .write(
            "POST /up HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\
             host: evil\r\ncontent-length: 1\r\nauthorization: me\r\nx-forwarded-for: 1.2.3.4\r\n\r\n",
        )
        .await;
    client.answer().await.expect(200);

    let seen = origin.last("/up");
    assert!(seen.whole);
    assert_eq!((&*seen.body, seen.trailers.len()), (&b"hello"[..], 0));
    assert_eq!(seen.all("host"), ["a"]);
    assert_eq!(seen.header("authorization"), None);
    client.get("/next").await.expect(200);
}

#[tokio::test]
async fn half_a_head_is_told_that_its_time_is_over() {
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin])
        .one_worker()
        .top("timeouts: { header: 200ms }");
    let gate = Gate::start(&config).await;

    let mut client = gate.client().await;
    client.write("GET /half HTTP/1.1\r\nhost: a\r\nx: ").await;
    let answer = client.answer().await;
    answer.problem(408);
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(client.until_closed().await, b"");
    gate.until(CLOSED, &[("reason", "header_timeout")], 1.0)
        .await;
    assert_eq!(origin.requests("*"), 0);
}

#[tokio::test]
async fn a_client_that_sends_no_more_still_gets_its_answer() {
    let latch = Latch::new();
    let wait = latch.clone();
    let origin = Origin::start("a")
        .await
        .on("/held", move |_| Reply::ok("answer").after(&wait));
    let gate = gate(&origin).await;

    let mut stream = TcpStream::connect(gate.address).await.unwrap();
    stream
        .write_all(&Request::get("/held").bytes())
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    origin.until_asked("/held", 1).await;
    latch.open();
    let mut text = String::new();
    patiently("the answer", stream.read_to_string(&mut text))
        .await
        .unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.ends_with("\r\n\r\nanswer"), "{text}");
}

#[tokio::test]
async fn an_upload_that_its_client_gives_up_is_no_whole_message() {
    let origin = Origin::start("a").await;
    let gate = gate(&origin).await;

    let mut stream = TcpStream::connect(gate.address).await.unwrap();
    let head = b"POST /up HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf!";
    stream.write_all(head).await.unwrap();
    origin.until_asked("/up", 1).await;
    stream.shutdown().await.unwrap();
    let mut text = String::new();
    patiently("the answer", stream.read_to_string(&mut text))
        .await
        .unwrap();

    assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
    assert!(text.contains("connection: close\r\n"), "{text}");
    gate.get("/next").await.expect(200);
    let (up, next) = (origin.last("/up"), origin.last("/next"));
    assert!(!up.whole && up.connection != next.connection, "{up:?}");
}

#[tokio::test]
async fn a_body_is_asked_for_only_when_it_will_be_read() {
    let origin = Origin::start("a").await;
    let config = Config::new()
        .upstream("shop", &[&origin], "")
        .route("shop", "path_prefix: /shop", "upstream: shop")
        .one_worker();
    let gate = Gate::start(&config).await;
    let expecting = "HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";

    let mut client = gate.client().await;
    client.write(format!("POST /shop {expecting}")).await;
    let first = client.head().await;
    assert_eq!(first.status, 100);
    client.write("body").await;
    client.answer().await.expect(200);
    assert_eq!(origin.last("/shop").body, b"body");

    client.write(format!("POST /nowhere {expecting}")).await;
    let answer = client.answer().await;
    answer.problem(404);
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(client.until_closed().await, b"");
}

#[tokio::test]
async fn a_connection_is_closed_after_its_last_request() {
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin])
        .one_worker()
        .top("limits: { requests_per_connection: 2 }");
    let gate = Gate::start(&config).await;

    let mut client = gate.client().await;
    let one = client.get("/one").await.expect(200);
    let two = client.get("/two").await.expect(200);
    assert_eq!(
        (one.header("connection"), two.header("connection")),
        (None, Some("close"))
    );
    assert_eq!(client.until_closed().await, b"");
    gate.until(CLOSED, &[("reason", "complete")], 1.0).await;
}

#[tokio::test]
async fn an_answer_of_unknown_length_that_breaks_off_does_not_end_cleanly_for_http_1_0() {
    let origin = Origin::start("a").await.on("/p", |_| {
        let reply = Reply::new(200).header("transfer-encoding", "chunked");
        reply.then("5\r\nhello\r\n").close()
    });
    let gate = gate(&origin).await;

    let mut stream = TcpStream::connect(gate.address).await.unwrap();
    stream
        .write_all(b"GET /p HTTP/1.0\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let mut text = Vec::new();
    let ended = patiently("the end", stream.read_to_end(&mut text)).await;
    assert!(ended.is_err(), "{}", String::from_utf8_lossy(&text));
}
