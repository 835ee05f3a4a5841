//! Connections to origins, what becomes of them, and what is tried again.

use crate::harness::{Config, Gate, Latch, Origin, Reply, Request};

#[tokio::test]
async fn requests_one_after_the_other_share_one_connection() {
    let origin = Origin::start("a").await;
    let gate = Gate::start(&Config::to(&[&origin]).one_worker()).await;

    for _ in 0..10 {
        gate.get("/").await.expect(200);
        gate.send(&Request::post("/", "body")).await.expect(200);
        gate.send(&Request::new("HEAD", "/")).await.expect(200);
    }

    assert_eq!((origin.requests("/"), origin.connections()), (30, 1));
    assert!(
        gate.metrics()
            .await
            .sum("headgate_upstream_connections_total", &[])
            >= 1.0
    );
}

#[tokio::test]
async fn requests_at_the_same_time_have_a_connection_each() {
    let all = Latch::new();
    let wait = all.clone();
    let origin = Origin::start("a")
        .await
        .on("/held", move |_| Reply::ok("").after(&wait));
    let gate = Gate::start(&Config::to(&[&origin]).one_worker()).await;

    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(gate.begin(&Request::get("/held")).await);
    }
    origin.until_asked("/held", 5).await;
    all.open();
    for client in &mut clients {
        client.answer().await.expect(200);
    }

    assert_eq!(origin.connections(), 5);
    gate.until(
        "headgate_upstream_connections_idle",
        &[("upstream", "shop")],
        5.0,
    )
    .await;
}

#[tokio::test]
async fn an_idle_connection_that_the_origin_closed_costs_no_request() {
    for later in [false, true] {
        for request in [
            Request::get("/p"),
            Request::post("/p", "body"),
            Request::new("DELETE", "/p"),
        ] {
            // With its answer, or when the connection has long been put by.
            let latch = Latch::new();
            let wait = latch.clone();
            let origin = Origin::start("a").await.on("/once", move |_| {
                let reply = Reply::ok("once");
                if later {
                    reply.then_wait(&wait).close()
                } else {
                    reply.close()
                }
            });
            let gate = Gate::start(&Config::to(&[&origin]).one_worker()).await;

            gate.get("/once").await.expect(200);
            latch.open();
            origin.until_open(0).await;
            gate.send(&request).await.expect(200);

            assert_eq!(origin.requests("/p"), 1, "later: {later}");
            assert_eq!(origin.last("/p").method, request.method);
        }
    }
}

#[tokio::test]
async fn a_get_is_sent_again_when_a_kept_connection_dies_under_it() {
    let origin = Origin::start("a").await.on("/p", |seen| {
        // Only on the connection that was kept.
        if seen.connection == 1 {
            Reply::nothing().close()
        } else {
            Reply::ok("fresh")
        }
    });
    let gate = Gate::start(&Config::to(&[&origin]).one_worker()).await;

    gate.get("/warm").await.expect(200);
    let answer = gate.get("/p").await.expect(200);

    assert_eq!((answer.text(), origin.requests("/p")), ("fresh", 2));
}

#[tokio::test]
async fn a_post_that_an_origin_has_read_is_never_sent_twice() {
    let dies = |_: &crate::harness::Seen| Reply::nothing().close();
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    let (a, b) = (a.on("/order", dies), b.on("/order", dies));
    let gate = Gate::start(&Config::to(&[&a, &b]).one_worker()).await;

    for kept in [false, true] {
        if kept {
            // Both have a connection that is kept.
            while a.requests("/warm") == 0 || b.requests("/warm") == 0 {
                gate.get("/warm").await.expect(200);
            }
        }
        let before = a.requests("/order") + b.requests("/order");
        let answer = gate.send(&Request::post("/order", "one book")).await;
        answer.problem(502);
        assert_eq!(
            a.requests("/order") + b.requests("/order"),
            before + 1,
            "kept: {kept}"
        );
    }
    let retries = gate.metrics().await.sum("headgate_retries_total", &[]);
    assert!(retries == 0.0, "{retries}");
}

#[tokio::test]
async fn any_method_goes_to_another_endpoint_when_one_refuses_connections() {
    let (mut a, b) = (Origin::start("a").await, Origin::start("b").await);
    let gate = Gate::start(&Config::to(&[&a, &b]).one_worker()).await;
    a.kill().await;

    for round in 0..10 {
        for method in ["POST", "GET", "DELETE", "PUT"] {
            let request = Request::new(method, "/p").body(format!("{method} {round}"));
            assert_eq!(gate.send(&request).await.expect(200).by(), "b");
        }
    }

    assert_eq!(b.last("/p").body, b"PUT 9");
    let refused = [("upstream", "shop"), ("reason", "connection_refused")];
    assert!(gate.metrics().await.sum("headgate_retries_total", &refused) >= 1.0);
}

#[tokio::test]
async fn a_get_without_an_answer_is_tried_once_on_another_endpoint() {
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    let gate = Gate::start(&Config::to(&[&a, &b]).one_worker()).await;
    let (a, b) = (
        a.on("/p", |_| Reply::nothing().reset()),
        b.on("/p", |_| Reply::nothing().reset()),
    );

    gate.get("/p").await.problem(502);

    assert_eq!((a.requests("/p"), b.requests("/p")), (1, 1));
    // Where the other answers, the client does not notice.
    let b = b.on("/p", |_| Reply::ok("b is well"));
    for _ in 0..10 {
        assert_eq!(gate.get("/p").await.expect(200).text(), "b is well");
    }
    assert_eq!(b.last("/p").method, "GET");
}

#[tokio::test]
async fn a_get_that_one_endpoint_is_late_with_is_answered_by_the_other() {
    let never = Latch::new();
    let wait = never.clone();
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    let a = a.on("/p", move |_| Reply::ok("").after(&wait));
    let config = Config::new()
        .upstream(
            "shop",
            &[&a, &b],
            "balance: round_robin, timeouts: { first_byte: 100ms }",
        )
        .route("shop", "path_prefix: /", "upstream: shop");
    let gate = Gate::start(&config).await;

    for _ in 0..4 {
        assert_eq!(gate.get("/p").await.expect(200).by(), "b");
    }

    assert!(a.requests("/p") > 0);
}

#[tokio::test]
async fn bytes_after_an_answer_are_never_read_as_the_next_one() {
    const EVIL: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    let later = Latch::new();
    let wait = later.clone();
    let origin = Origin::start("a")
        .await
        .on("/at-once", |_| Reply::ok("good").then(EVIL))
        .on("/later", move |_| {
            Reply::ok("good").then_wait(&wait).then(EVIL).close()
        });
    let gate = Gate::start(&Config::to(&[&origin]).one_worker()).await;

    assert_eq!(gate.get("/at-once").await.expect(200).text(), "good");
    assert_eq!(gate.get("/next").await.expect(200).text(), "a");
    assert_eq!(
        (
            origin.last("/at-once").connection,
            origin.last("/next").connection
        ),
        (1, 2)
    );

    assert_eq!(gate.get("/later").await.expect(200).text(), "good");
    let before = origin.connections();
    later.open();
    origin.until_open(0).await;
    assert_eq!(
        gate.send(&Request::post("/next", "x"))
            .await
            .expect(200)
            .text(),
        "a"
    );
    assert!(origin.last("/next").connection > before);
}

#[tokio::test]
async fn switching_protocols_that_nobody_asked_for_is_a_bad_gateway() {
    let origin = Origin::start("a").await.on("/p", |_| {
        Reply::raw(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nboo",
        )
    });
    let gate = Gate::start(&Config::to(&[&origin]).one_worker()).await;

    gate.get("/p").await.problem(502);
    gate.get("/next").await.expect(200);

    assert!(origin.last("/next").connection > origin.last("/p").connection);
}

#[tokio::test]
async fn what_is_not_http_is_a_bad_gateway() {
    let origin = Origin::start("a")
        .await
        .on("/p", |_| Reply::raw("220 mail.test ESMTP\r\n").close());
    let gate = Gate::start(&Config::to(&[&origin])).await;

    let problem = gate.get("/p").await.problem(502);

    assert!(!problem.to_string().contains("ESMTP"), "{problem}");
}

#[tokio::test]
async fn an_early_hint_goes_ahead_of_the_answer_and_is_not_taken_for_it() {
    let origin = Origin::start("a").await.on("/p", |_| {
        Reply::raw("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    });
    let gate = Gate::start(&Config::to(&[&origin])).await;
    let mut client = gate.begin(&Request::get("/p")).await;

    let early = client.answer().await.expect(103);
    assert_eq!(early.header("link"), Some("</a>"));
    assert_eq!(client.answer().await.expect(200).text(), "ok");
}

#[tokio::test]
async fn no_endpoint_that_listens_is_a_bad_gateway_without_its_address() {
    let mut origin = Origin::start("a").await;
    let gate = Gate::start(&Config::to(&[&origin])).await;
    origin.kill().await;

    let answer = gate.get("/p").await;

    answer.problem(502);
    let whole = format!("{answer:?}");
    assert!(
        !whole.contains(&origin.address().port().to_string()),
        "{whole}"
    );
    assert!(!whole.contains("shop\""), "the upstream is named: {whole}");
}

#[tokio::test]
async fn an_answer_that_does_not_begin_in_time_is_a_gateway_timeout() {
    let never = Latch::new();
    let wait = never.clone();
    let origin = Origin::start("a")
        .await
        .on("/p", move |_| Reply::ok("").after(&wait));
    let config = Config::new()
        .upstream("shop", &[&origin], "timeouts: { first_byte: 100ms }")
        .route("shop", "path_prefix: /", "upstream: shop");
    let gate = Gate::start(&config.one_worker()).await;

    gate.get("/p").await.problem(504);
    gate.send(&Request::post("/p", "x")).await.problem(504);
    gate.get("/next").await.expect(200);

    // Nobody waits on the late one's connection.
    assert!(origin.last("/next").connection > origin.last("/p").connection);
    let late = [("upstream", "shop"), ("reason", "http_response_timeout")];
    assert!(
        gate.metrics()
            .await
            .sum("headgate_upstream_errors_total", &late)
            >= 2.0
    );
}

#[tokio::test]
async fn an_answer_that_stalls_is_cut_and_never_ends_as_if_it_were_whole() {
    let never = Latch::new();
    let (one, other) = (never.clone(), never.clone());
    let origin = Origin::start("a")
        .await
        .on("/length", move |_| {
            Reply::new(200)
                .header("content-length", "9")
                .then("part")
                .then_wait(&one)
        })
        .on("/chunks", move |_| {
            let chunked = Reply::new(200).header("transfer-encoding", "chunked");
            chunked.then("4\r\npart\r\n").then_wait(&other)
        });
    let config = Config::new()
        .upstream("shop", &[&origin], "timeouts: { body_idle: 100ms }")
        .route("shop", "path_prefix: /", "upstream: shop");
    let gate = Gate::start(&config).await;

    for (path, bytes) in [("/length", &b"part"[..]), ("/chunks", b"4\r\npart\r\n")] {
        let mut client = gate.begin(&Request::get(path)).await;
        client.head().await.expect(200);
        assert_eq!(client.until_closed().await, bytes, "{path}");
    }

    let stalled = [("upstream", "shop"), ("reason", "connection_read_timeout")];
    gate.until("headgate_upstream_errors_total", &stalled, 2.0)
        .await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_cut_for_the_client_too() {
    let latch = Latch::new();
    let wait = latch.clone();
    let origin = Origin::start("a").await.on("/p", move |_| {
        let reply = Reply::new(200).header("content-length", "9");
        reply.then("part").then_wait(&wait).close()
    });
    let gate = Gate::start(&Config::to(&[&origin])).await;

    let mut client = gate.begin(&Request::get("/p")).await;
    client.head().await.expect(200);
    latch.open();

    assert_eq!(client.until_closed().await, b"part");
    let broken = [("upstream", "shop"), ("reason", "http_response_incomplete")];
    gate.until("headgate_upstream_errors_total", &broken, 1.0)
        .await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_time() {
    let origin = Origin::start("a").await;
    let config = Config::new()
        .upstream("shop", &[&origin], "timeouts: { idle: 100ms }")
        .route("shop", "path_prefix: /", "upstream: shop");
    let gate = Gate::start(&config).await;

    gate.get("/").await.expect(200);

    origin.until_open(0).await;
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_goes_on_uploading() {
    let origin = Origin::start("a").await;
    let config = Config::new().upstream("a", &[&origin], "");
    let gate = Gate::start(&config.route("p", "path: /p", "upstream: a")).await;

    for _ in 0..5 {
        let upload = Request::post("/nowhere", vec![b'x'; 8 << 20]);
        gate.send(&upload).await.problem(404);
    }
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn an_early_answer_to_an_upload_reaches_the_client() {
    let origin = Origin::start("a")
        .await
        .on("/p", |_| Reply::new(413).body("too much"));
    let gate = Gate::start(&Config::to(&[&origin]).one_worker()).await;

    gate.send(&Request::post("/p", vec![b'x'; 300_000]))
        .await
        .expect(413);
    gate.get("/next").await.expect(200);
}
