//! What passes through, what does not, and what is added.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crate::harness::{Client, Config, Gate, Latch, Origin, Reply, Request, eventually};

const MEBIBYTE: usize = 1024 * 1024;

/// Bytes that show where something was lost or moved.
fn pattern(length: usize) -> Vec<u8> {
    (0..=250).cycle().take(length).collect()
}

#[tokio::test]
async fn method_target_and_body_reach_the_origin_as_they_were_sent() {
    let origin = Origin::start("a").await.on("/a%20b/c", |_| {
        Reply::new(201).header("x-answer", "yes").body("made")
    });
    let gate = Gate::start(&Config::to(&[&origin])).await;

    let request = Request::new("PATCH", "/a%20b/c?x=1&y=%2F&z")
        .header("x-mine", "ä")
        .body("hello");
    let answer = gate.send(&request).await.expect(201);

    assert_eq!(
        (answer.text(), answer.header("x-answer")),
        ("made", Some("yes"))
    );
    let seen = origin.last("/a%20b/c");
    assert_eq!(
        (&*seen.method, &*seen.target),
        ("PATCH", "/a%20b/c?x=1&y=%2F&z")
    );
    assert_eq!(
        (&*seen.body, seen.header("x-mine")),
        (&b"hello"[..], Some("ä"))
    );
    assert_eq!(
        (&*seen.version, seen.header("host")),
        ("HTTP/1.1", Some("shop.test"))
    );
}

#[tokio::test]
async fn statuses_and_repeated_fields_come_back_as_the_origin_sent_them() {
    let origin = Origin::start("a").await.on("/p", |_| {
        Reply::new(418)
            .header("set-cookie", "a=1")
            .header("set-cookie", "b=2")
            .body("short")
    });
    let gate = Gate::start(&Config::to(&[&origin])).await;

    let answer = gate.get("/p").await.expect(418);

    assert_eq!(answer.all("set-cookie"), ["a=1", "b=2"]);
}

#[tokio::test]
async fn a_mebibyte_streams_in_both_directions() {
    let origin = Origin::start("a")
        .await
        .on("/echo", |seen| Reply::ok(seen.body.clone()));
    let gate = Gate::start(&Config::to(&[&origin])).await;
    let sent = pattern(MEBIBYTE);

    let answer = gate
        .send(&Request::post("/echo", sent.clone()))
        .await
        .expect(200);

    assert_eq!(
        origin.last("/echo").header("content-length"),
        Some("1048576")
    );
    assert!(answer.body == sent, "the body came back changed");
}

#[tokio::test]
async fn bodies_of_unknown_length_arrive_whole_in_both_directions() {
    let text: String = "shop".repeat(1000);
    let reply = text.clone();
    let origin = Origin::start("a")
        .await
        .on("/p", move |_| Reply::new(200).chunks(&[&reply, "end"]));
    let gate = Gate::start(&Config::to(&[&origin])).await;
    let mut client = gate.client().await;

    let head = "POST /p HTTP/1.1\r\nhost: shop.test\r\ntransfer-encoding: chunked\r\n\r\n";
    client
        .write(format!(
            "{head}5\r\nhello\r\n{:x}\r\n{text}\r\n0\r\n\r\n",
            text.len()
        ))
        .await;
    let answer = client.answer().await.expect(200);

    assert_eq!(answer.text(), format!("{text}end"));
    assert_eq!(origin.last("/p").body, format!("hello{text}").into_bytes());
    client.get("/next").await.expect(200);
}

#[tokio::test]
async fn the_first_bytes_of_a_body_arrive_before_the_last_are_sent() {
    let rest = Latch::new();
    let wait = rest.clone();
    let origin = Origin::start("a").await.on("/p", move |_| {
        Reply::new(200)
            .header("content-length", "10")
            .then("first")
            .then_wait(&wait)
            .then("later")
    });
    let gate = Gate::start(&Config::to(&[&origin])).await;
    let mut client = gate.begin(&Request::get("/p")).await;

    client.head().await.expect(200);
    assert_eq!(client.exactly(5).await, b"first");
    rest.open();
    assert_eq!(client.exactly(5).await, b"later");
}

#[tokio::test]
async fn trailers_of_a_request_go_on_and_those_that_a_client_does_not_ask_for_are_dropped() {
    let origin = Origin::start("a").await.on("/p", |_| {
        let chunked = Reply::new(200).header("transfer-encoding", "chunked");
        chunked.then("2\r\nok\r\n0\r\nx-late: 1\r\n\r\n")
    });
    let gate = Gate::start(&Config::to(&[&origin])).await;
    let mut client = gate.client().await;

    let head = "POST /p HTTP/1.1\r\nhost: shop.test\r\ntransfer-encoding: chunked\r\n\r\n";
    client
        .write(format!("{head}3\r\nabc\r\n0\r\nx-late: 1\r\n\r\n"))
        .await;
    let answer = client.answer().await.expect(200);

    assert_eq!((answer.text(), answer.trailers.len()), ("ok", 0));
    let seen = origin.last("/p");
    assert_eq!(&*seen.body, b"abc");
    assert_eq!(seen.trailers, ["x-late: 1"]);
    client.get("/next").await.expect(200);
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_origin_back() {
    const TOTAL: usize = 64 * MEBIBYTE;
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    let origin = Origin::start("a")
        .await
        .on("/big", move |_| Reply::new(200).flood(TOTAL, &count));
    let gate = Gate::start(&Config::to(&[&origin])).await;
    gate.get("/").await.expect(200);
    let (before, _) = gate.memory();

    let mut client = gate.begin(&Request::get("/big")).await;
    origin.until_asked("/big", 1).await;
    let mut last = 0;
    let mut unchanged = 0;
    eventually("the origin is held back", async || {
        let now = taken.load(SeqCst);
        unchanged = if now == last && now > 0 {
            unchanged + 1
        } else {
            0
        };
        last = now;
        (unchanged >= 50).then_some(())
    })
    .await;

    // The kernel's buffers of two connections, and what Headgate holds.
    assert!(last < TOTAL / 2, "the origin could write {last} bytes");
    let (_, most) = gate.memory();
    assert!(
        most < before + 8 * MEBIBYTE,
        "grew from {before} to {most} bytes"
    );
    client.head().await.expect(200);
    let mut read = 0;
    while read < TOTAL {
        let some = client.some().await;
        assert!(!some.is_empty(), "cut after {read} bytes");
        read += some.len();
    }
    let (_, most) = gate.memory();
    assert!(
        most < before + 8 * MEBIBYTE,
        "grew from {before} to {most} bytes"
    );
}

#[tokio::test]
async fn an_origin_that_does_not_read_holds_the_client_back() {
    const TOTAL: usize = 64 * MEBIBYTE;
    // An origin that accepts and never reads.
    let deaf = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = deaf.local_addr().unwrap().to_string();
    let config = Config::new().upstream_at("shop", &address, "");
    let gate = Gate::start(&config.route("all", "path_prefix: /", "upstream: shop")).await;
    let (before, _) = gate.memory();

    let mut client = gate.client().await;
    client
        .write(format!(
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {TOTAL}\r\n\r\n"
        ))
        .await;
    let written = AtomicUsize::new(0);
    let write = async {
        let block = vec![b'x'; 64 * 1024];
        while client.try_write(&block).await.is_ok() {
            written.fetch_add(block.len(), SeqCst);
        }
    };
    let (mut last, mut unchanged) = (0, 0);
    let watch = eventually("the client is held back", async || {
        let now = written.load(SeqCst);
        unchanged = if now == last && now > 0 {
            unchanged + 1
        } else {
            0
        };
        last = now;
        (unchanged >= 50).then_some(())
    });
    tokio::select! {
        () = write => panic!("the connection broke"),
        () = watch => {}
    }

    assert!(
        written.load(SeqCst) < TOTAL / 2,
        "the client could write {written:?} bytes"
    );
    let (_, most) = gate.memory();
    assert!(
        most < before + 8 * MEBIBYTE,
        "grew from {before} to {most} bytes"
    );
}

#[tokio::test]
async fn hop_by_hop_fields_and_claims_of_the_client_stay_behind() {
    let origin = Origin::start("a").await;
    let gate = Gate::start(&Config::to(&[&origin])).await;

    let request = Request::get("/p")
        .header("host", "shop.example:8080")
        .header("connection", "keep-alive, X-Mine, X-Forwarded-For, Via")
        .header("keep-alive", "timeout=5")
        .header("x-mine", "1")
        .header("te", "trailers")
        .header("proxy-authorization", "Basic eA==")
        .header("proxy-connection", "keep-alive")
        .header("x-forwarded-for", "6.6.6.6")
        .header("X_Forwarded_For", "6.6.6.6")
        .header("x-forwarded-prefix", "/6.6.6.6")
        .header("forwarded", "for=6.6.6.6")
        .header("x-real-ip", "6.6.6.6")
        .header("x-request-id", "6.6.6.6")
        .header("x-kept", "yes");
    let answer = gate.send(&request).await.expect(200);

    let seen = origin.last("/p");
    for gone in [
        "connection",
        "keep-alive",
        "x-mine",
        "te",
        "proxy-authorization",
        "proxy-connection",
        "x_forwarded_for",
        "x-forwarded-prefix",
        "forwarded",
        "x-real-ip",
    ] {
        assert_eq!(seen.header(gone), None, "{gone}");
    }
    assert_eq!(seen.header("x-kept"), Some("yes"));
    assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.all("x-forwarded-proto"), ["http"]);
    assert_eq!(seen.all("x-forwarded-host"), ["shop.example:8080"]);
    assert_eq!(seen.all("host"), ["shop.example:8080"]);
    assert_eq!(seen.all("via"), ["1.1 headgate"]);
    let ids = seen.all("x-request-id");
    assert_eq!((ids.len(), ids[0].len()), (1, 36), "{ids:?}");
    assert_eq!(answer.all("x-request-id"), ids);
}

#[tokio::test]
async fn hop_by_hop_fields_of_the_origin_stay_behind() {
    let origin = Origin::start("a").await.on("/p", |_| {
        Reply::new(200)
            .header("connection", "keep-alive, x-internal")
            .header("keep-alive", "timeout=5")
            .header("x-internal", "secret")
            .header("proxy-authenticate", "Basic")
            .header("x-kept", "yes")
            .body("ok")
    });
    let gate = Gate::start(&Config::to(&[&origin])).await;

    let answer = gate.get("/p").await.expect(200);

    for gone in ["keep-alive", "x-internal", "proxy-authenticate"] {
        assert_eq!(answer.header(gone), None, "{gone}");
    }
    assert_eq!(
        (answer.header("x-kept"), answer.header("via")),
        (Some("yes"), Some("1.1 headgate"))
    );
}

#[tokio::test]
async fn every_request_has_an_id_of_its_own() {
    let origin = Origin::start("a").await;
    let gate = Gate::start(&Config::to(&[&origin])).await;
    let mut client = gate.client().await;

    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(
            client
                .get("/")
                .await
                .header("x-request-id")
                .unwrap()
                .to_owned(),
        );
    }
    ids.sort();
    ids.dedup();

    assert_eq!(ids.len(), 20);
}

#[tokio::test]
async fn head_has_the_length_and_no_body_and_the_connection_goes_on() {
    let origin = Origin::start("a")
        .await
        .on("/p", |_| Reply::ok("0123456789"));
    let gate = Gate::start(&Config::to(&[&origin])).await;
    let mut client = gate.client().await;

    let head = client.send(&Request::new("HEAD", "/p")).await.expect(200);
    let get = client.get("/p").await.expect(200);

    assert_eq!(
        (head.header("content-length"), head.body.len()),
        (Some("10"), 0)
    );
    assert_eq!(get.text(), "0123456789");
    assert_eq!(origin.seen("/p")[0].method, "HEAD");
}

#[tokio::test]
async fn an_http_1_0_client_gets_its_answer_without_chunks_and_then_the_close() {
    let origin = Origin::start("a")
        .await
        .on("/p", |_| Reply::new(200).chunks(&["one", "two"]));
    let gate = Gate::start(&Config::to(&[&origin])).await;
    let mut client = gate.client().await;

    client
        .write("GET /p HTTP/1.0\r\nhost: shop.test\r\n\r\n")
        .await;
    let answer = client.answer().await.expect(200);

    assert_eq!(
        (answer.text(), answer.header("transfer-encoding")),
        ("onetwo", None)
    );
    assert_eq!(client.until_closed().await, b"");
    let versions = (&*answer.version, &*origin.last("/p").version);
    assert_eq!(versions, ("HTTP/1.0", "HTTP/1.1"));
}

#[tokio::test]
async fn an_http_1_0_request_without_a_host_reaches_the_origin_with_one() {
    let origin = Origin::start("a").await;
    let gate = Gate::start(&Config::to(&[&origin])).await;
    let mut client = gate.client().await;

    client.write("GET /p HTTP/1.0\r\n\r\n").await;
    client.answer().await.expect(200);

    assert_eq!(
        origin.last("/p").all("host"),
        [origin.address().to_string()]
    );
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let first = Latch::new();
    let wait = first.clone();
    let origin = Origin::start("a")
        .await
        .on("/1", move |_| Reply::ok("one").after(&wait))
        .on("/2", |_| Reply::ok("two"))
        .on("/3", |seen| Reply::ok(seen.body.clone()));
    let gate = Gate::start(&Config::to(&[&origin])).await;
    let mut client = gate.client().await;

    let (one, two) = (Request::get("/1").bytes(), Request::get("/2").bytes());
    let three = Request::post("/3", "three").bytes();
    client.write([one, two, three].concat()).await;
    origin.until_asked("/1", 1).await;
    first.open();

    for expected in ["one", "two", "three"] {
        assert_eq!(client.answer().await.expect(200).text(), expected);
    }
}

#[tokio::test]
async fn a_client_that_leaves_within_its_answer_leaves_nothing_for_the_next() {
    let rest = Latch::new();
    let wait = rest.clone();
    let origin = Origin::start("a").await.on("/long", move |_| {
        Reply::new(200)
            .header("content-length", "100")
            .then("part")
            .then_wait(&wait)
            .then("late")
    });
    let gate = Gate::start(&Config::to(&[&origin]).one_worker()).await;

    let mut client = gate.begin(&Request::get("/long")).await;
    client.head().await.expect(200);
    drop(client);
    let labels = [("upstream", "shop")];
    gate.until("headgate_upstream_in_flight_requests", &labels, 0.0)
        .await;
    rest.open();
    let answer = gate.get("/next").await.expect(200);

    assert_eq!(answer.text(), "a");
    assert_eq!(
        (
            origin.last("/long").connection,
            origin.last("/next").connection
        ),
        (1, 2)
    );
}

#[tokio::test]
async fn a_client_that_leaves_before_its_answer_frees_the_endpoint() {
    let never = Latch::new();
    let wait = never.clone();
    let origin = Origin::start("a")
        .await
        .on("/held", move |_| Reply::ok("").after(&wait));
    let gate = Gate::start(&Config::to(&[&origin]).one_worker()).await;

    let client = gate.begin(&Request::get("/held")).await;
    origin.until_asked("/held", 1).await;
    drop(client);

    gate.until(
        "headgate_upstream_in_flight_requests",
        &[("upstream", "shop")],
        0.0,
    )
    .await;
    let code = [("route", "shop"), ("code", "499")];
    gate.until("headgate_http_requests_total", &code, 1.0).await;
    gate.get("/next").await.expect(200);
    assert_eq!(origin.last("/next").connection, 2);
}

#[tokio::test]
async fn an_absolute_target_is_sent_on_in_origin_form() {
    let origin = Origin::start("a").await;
    let gate = Gate::start(&Config::to(&[&origin])).await;

    gate.send(&Request::get("http://shop.test/p?q=1"))
        .await
        .expect(200);

    assert_eq!(origin.last("/p").target, "/p?q=1");
}

#[tokio::test]
async fn requests_that_can_be_read_in_two_ways_are_refused() {
    let origin = Origin::start("a").await;
    let gate = Gate::start(&Config::to(&[&origin])).await;

    for head in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a/b\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\nhost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\n folded\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "not http at all\r\n\r\n",
    ] {
        let mut client = Client::connect(gate.address).await;
        client.write(head).await;
        assert_eq!(client.answer().await.status, 400, "{head:?}");
    }
    let mut client = Client::connect(gate.address).await;
    client
        .write("CONNECT shop.test:443 HTTP/1.1\r\nhost: shop.test:443\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.status, 501);

    assert_eq!(origin.requests("*"), 0);
    gate.get("/").await.expect(200);
}

#[tokio::test]
async fn an_origin_that_speaks_http_1_0_does_not_make_us_speak_it() {
    let origin = Origin::start("a").await.on("/old", |_| {
        Reply::raw("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok").close()
    });
    let gate = Gate::start(&Config::to(&[&origin])).await;

    let mut client = gate.client().await;
    client.write("GET /old HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let answer = client.answer().await.expect(200);
    assert_eq!((answer.text(), &*answer.version), ("ok", "HTTP/1.1"));
    client.write("GET /old HTTP/1.1\r\nhost: a\r\n\r\n").await;
    client.answer().await.expect(200);
}
