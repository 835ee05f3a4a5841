//! Bodies that are larger than they may be, and upgrades that are not taken.

use crate::harness::{Client, Config, Gate, Latch, Origin, Reply, Request};

fn limited(origin: &Origin, route: &str) -> Config {
    Config::new()
        .top("limits: { body: 10B }")
        .upstream("shop", &[origin], "")
        .route("shop", "path_prefix: /", &format!("upstream: shop{route}"))
}

#[tokio::test]
async fn a_body_that_says_it_is_too_large_is_refused_before_anything_is_sent() {
    let origin = Origin::start("a").await;
    let gate = Gate::start(&limited(&origin, "")).await;

    gate.send(&Request::post("/p", "12345678901"))
        .await
        .problem(413);
    assert_eq!((origin.requests("*"), origin.connections()), (0, 0));
    gate.send(&Request::post("/p", "1234567890"))
        .await
        .expect(200);
    assert_eq!(origin.last("/p").body, b"1234567890");
    gate.until(
        "headgate_rejects_total",
        &[("reason", "body_too_large")],
        1.0,
    )
    .await;
}

#[tokio::test]
async fn a_body_that_turns_out_too_large_is_cut_and_never_ended() {
    let origin = Origin::start("a").await;
    let gate = Gate::start(&limited(&origin, "").one_worker()).await;

    let mut client = Client::connect(gate.address).await;
    let head = "POST /p HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    client.write(format!("{head}8\r\n12345678\r\n")).await;
    origin.until_asked("/p", 1).await;
    client.write("8\r\n12345678\r\n0\r\n\r\n").await;
    client.answer().await.problem(413);
    assert_eq!(client.until_closed().await, b"");

    origin.until_open(0).await;
    let seen = origin.last("/p");
    assert!(!seen.whole && seen.body.len() <= 10, "{seen:?}");
    gate.get("/next").await.expect(200);
    assert_eq!(origin.last("/next").connection, 2);
}

#[tokio::test]
async fn a_chunk_that_says_it_is_too_large_is_refused_before_it_comes() {
    let origin = Origin::start("a").await;
    let gate = Gate::start(&limited(&origin, "").one_worker()).await;
    let head = "POST /p HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    for body in ["b\r\n", "4\r\n1234\r\n7\r\n12"] {
        let mut client = Client::connect(gate.address).await;
        client.write(format!("{head}{body}")).await;
        client.answer().await.problem(413);
        assert_eq!(client.until_closed().await, b"");
    }
    origin.until_open(0).await;
    assert!(!origin.seen("/p").iter().any(|seen| seen.whole));
}

#[tokio::test]
async fn a_route_has_the_last_word_on_its_bodies() {
    let origin = Origin::start("a").await;
    let gate = Gate::start(&limited(&origin, ", max_body: 20B")).await;
    gate.send(&Request::post("/p", [b'x'; 20]))
        .await
        .expect(200);
    gate.send(&Request::post("/p", [b'x'; 21]))
        .await
        .problem(413);

    gate.become_config(&limited(&origin, ", max_body: 0")).await;
    gate.send(&Request::post("/p", vec![b'x'; 100_000]))
        .await
        .expect(200);
}

#[tokio::test]
async fn an_answer_that_began_is_cut_when_its_request_turns_out_too_large() {
    let rest = Latch::new();
    let wait = rest.clone();
    let origin = Origin::start("a")
        .await
        .on("/p", move |_| Reply::ok("x").after(&wait));
    let gate = Gate::start(&limited(&origin, "")).await;
    let mut client = Client::connect(gate.address).await;
    let chunk =
        "POST /p HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nb\r\n12345678901\r\n";
    client.write(chunk).await;
    client.answer().await.problem(413);
    rest.open();
    assert_eq!(client.until_closed().await, b"");
}

#[tokio::test]
async fn an_upgrade_that_no_route_takes_is_ignored() {
    let origin = Origin::start("a").await;
    let gate = Gate::start(&Config::to(&[&origin])).await;
    for protocol in ["h2c", "foo/2", "websocket, h2c"] {
        let request = Request::get("/p")
            .header("connection", "Upgrade, HTTP2-Settings")
            .header("upgrade", protocol)
            .header("http2-settings", "AAMAAABkAAQAAP__");
        gate.send(&request).await.expect(200);
        let seen = origin.last("/p");
        for gone in ["upgrade", "http2-settings", "connection"] {
            assert_eq!(seen.header(gone), None, "{protocol}");
        }
    }
}

#[tokio::test]
async fn a_body_on_a_caching_route_stays_with_its_request() {
    let origin = Origin::start("a").await.on("*", |seen| {
        Reply::ok(seen.body.clone()).header("cache-control", "max-age=60")
    });
    let gate = Gate::start(&Config::cached(&[&origin]).one_worker()).await;
    let mut client = gate.client().await;
    for body in ["GET /evil HTTP/1.1\r\n\r\n", "other"] {
        let answer = client
            .send(&Request::get("/p").body(body))
            .await
            .expect(200);
        assert_eq!(answer.text(), body);
    }
    client.get("/p").await.expect(200);
    assert_eq!((origin.requests("/evil"), origin.requests("/p")), (0, 3));
}
