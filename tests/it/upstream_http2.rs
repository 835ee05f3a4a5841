//! HTTP/2 towards endpoints.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request as Asked, Response};
use tempfile::TempDir;

use crate::harness::{Authority, Config, Conn, Gate, Latch, Request, Server};

/// Serves a connection of HTTP/2; each request by `answer`.
async fn serve<F>(conn: Conn, answer: impl Fn(Asked<h2::RecvStream>, SendResponse<Bytes>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let stream = conn.client.into_stream();
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((asked, respond))) = connection.accept().await {
        tokio::spawn(answer(asked, respond));
    }
}

/// Says what was asked for, and how much of a body came with it.
async fn echo(asked: Asked<h2::RecvStream>, mut respond: SendResponse<Bytes>) {
    let (head, mut body) = asked.into_parts();
    let mut length = 0;
    while let Some(Ok(data)) = body.data().await {
        length += data.len();
        body.flow_control().release_capacity(data.len()).unwrap();
    }
    let trailers = body.trailers().await.unwrap_or_default();
    let sum = trailers.and_then(|trailers| trailers.get("x-sum").cloned());
    let text = format!("{} {} {length}", head.method, head.uri);
    let mut answer = Response::new(());
    if let Some(sum) = sum {
        answer.headers_mut().insert("x-sum", sum);
    }
    if let Some(te) = head.headers.get("te") {
        answer.headers_mut().insert("x-te", te.clone());
    }
    let mut out = respond.send_response(answer, false).unwrap();
    out.send_data(Bytes::from(text), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-late", HeaderValue::from_static("yes"));
    out.send_trailers(trailers).unwrap();
}

fn h2(server: &Server, more: &str) -> Config {
    let more = format!("protocol: h2{more}");
    Config::to_endpoints(&server.address().to_string(), &more).one_worker()
}

#[tokio::test]
async fn requests_at_the_same_time_share_a_connection() {
    let (both, come) = (Latch::new(), Arc::new(AtomicUsize::new(0)));
    let latch = both.clone();
    let server = Server::start(move |conn: Conn| {
        let (latch, come) = (latch.clone(), Arc::clone(&come));
        serve(conn, move |asked, respond| {
            let (latch, come) = (latch.clone(), Arc::clone(&come));
            async move {
                if come.fetch_add(1, SeqCst) == 4 {
                    latch.open();
                }
                latch.opened().await;
                echo(asked, respond).await;
            }
        })
    })
    .await;
    let gate = Gate::start(&h2(&server, "")).await;

    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(gate.begin(&Request::get("/p")).await);
    }
    for client in &mut clients {
        let answer = client.answer().await.expect(200);
        assert_eq!(answer.text(), "GET http://shop.test/p 0");
    }

    assert_eq!(server.accepted(), 1);
    let idle = [("upstream", "shop")];
    gate.until("headgate_upstream_connections_idle", &idle, 1.0)
        .await;
}

#[tokio::test]
async fn bodies_of_any_size_go_both_ways() {
    let server = Server::start(|conn: Conn| serve(conn, echo)).await;
    let gate = Gate::start(&h2(&server, "")).await;

    let answer = gate
        .send(&Request::post("/p?q=1", vec![b'x'; 1_000_000]))
        .await
        .expect(200);

    assert_eq!(answer.text(), "POST http://shop.test/p?q=1 1000000");
    let mut client = gate.client().await;
    client
        .write("POST /p HTTP/1.1\r\nhost: shop.test\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    client.write("3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n").await;
    let answer = client.answer().await.expect(200);
    assert_eq!(answer.text(), "POST http://shop.test/p 3");
    assert_eq!(answer.header("x-sum"), Some("7"), "trailers went up");
}

#[tokio::test]
async fn over_tls_the_endpoint_must_agree() {
    let folder = TempDir::new().unwrap();
    let authority = Authority::new("ca");
    authority.write(&folder.path().join("ca.pem"));
    let agrees = authority.server("127.0.0.1", &["h2"], false);
    let agrees = Server::tls(agrees, |conn: Conn| {
        assert_eq!(
            conn.tls.as_ref().unwrap().protocol.as_deref(),
            Some(&b"h2"[..])
        );
        serve(conn, echo)
    })
    .await;
    // One that knows nothing of ALPN would take HTTP/2 for a malformed request.
    let silent = authority.server("127.0.0.1", &[], false);
    let silent = Server::tls(silent, |mut conn: Conn| async move {
        assert!(
            conn.client.until_closed().await.is_empty(),
            "nothing may be sent"
        );
    })
    .await;
    let tls = "protocol: h2, tls: { ca: ca.pem }";
    let gate = Gate::start_in(
        folder,
        &Config::new()
            .upstream_at("shop", &agrees.address().to_string(), tls)
            .upstream_at("else", &silent.address().to_string(), tls)
            .route("agrees", "path_prefix: /agrees", "upstream: shop")
            .route("silent", "path_prefix: /silent", "upstream: else"),
    )
    .await;

    let answer = gate.get("/agrees").await.expect(200);
    assert_eq!(answer.text(), "GET https://shop.test/agrees 0");
    gate.get("/silent").await.problem(502);
    let failed = [("upstream", "else"), ("reason", "tls_protocol_error")];
    gate.until("headgate_upstream_errors_total", &failed, 1.0)
        .await;
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_stream_along_and_nothing_else() {
    let (gone, held) = (Latch::new(), Latch::new());
    let (tell, hold) = (gone.clone(), held.clone());
    let server = Server::start(move |conn: Conn| {
        let (tell, hold) = (tell.clone(), hold.clone());
        serve(conn, move |asked, mut respond| {
            let (tell, hold) = (tell.clone(), hold.clone());
            async move {
                if asked.uri().path() != "/left" {
                    return echo(asked, respond).await;
                }
                hold.open();
                let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
                assert_eq!(reason.unwrap(), h2::Reason::CANCEL);
                tell.open();
            }
        })
    })
    .await;
    let gate = Gate::start(&h2(&server, "")).await;

    let client = gate.begin(&Request::get("/left")).await;
    held.opened().await;
    drop(client);

    gone.opened().await;
    gate.get("/p").await.expect(200);
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn a_request_that_meets_a_goodbye_goes_to_a_new_connection() {
    let server = Server::start(|conn: Conn| async move {
        let number = conn.number;
        let stream = conn.client.into_stream();
        let Ok(mut connection) = h2::server::handshake(stream).await else {
            return;
        };
        while let Some(Ok((asked, respond))) = connection.accept().await {
            tokio::spawn(echo(asked, respond));
            if number == 1 {
                // Serves what has come and says goodbye to the rest.
                connection.graceful_shutdown();
            }
        }
    })
    .await;
    let gate = Gate::start(&h2(&server, "")).await;

    for _ in 0..5 {
        gate.send(&Request::post("/p", "x")).await.expect(200);
    }

    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn requests_beyond_what_the_endpoint_takes_are_told_that_it_is_too_much() {
    let held = Latch::new();
    let hold = held.clone();
    let server = Server::start(move |conn: Conn| {
        let hold = hold.clone();
        async move {
            let mut builder = h2::server::Builder::new();
            builder.max_concurrent_streams(1);
            let stream = conn.client.into_stream();
            let mut connection = builder.handshake(stream).await.unwrap();
            while let Some(Ok((asked, respond))) = connection.accept().await {
                let hold = hold.clone();
                tokio::spawn(async move {
                    hold.opened().await;
                    echo(asked, respond).await;
                });
            }
        }
    })
    .await;
    let gate = Gate::start(&h2(&server, ", max_idle: 1, timeouts: { connect: 300ms }")).await;

    let mut first = gate.begin(&Request::get("/first")).await;
    let in_flight = [("upstream", "shop")];
    gate.until("headgate_upstream_in_flight_requests", &in_flight, 1.0)
        .await;
    gate.get("/second").await.problem(503);
    held.open();
    first.answer().await.expect(200);
    gate.get("/third").await.expect(200);

    let refused = [("upstream", "shop"), ("outcome", "refused")];
    gate.until("headgate_upstream_stream_waits_total", &refused, 1.0)
        .await;
}

#[tokio::test]
async fn health_checks_are_made_over_http_2() {
    let server = Server::start(|conn: Conn| serve(conn, echo)).await;
    let check = "health_check: { interval: 100ms, healthy_threshold: 1, unhealthy_threshold: 1 }";
    let endpoint = server.address().to_string();
    let gate = Gate::start(
        &h2(&server, &format!(", {check}"))
            .upstream_at("old", &endpoint, check)
            .route("old", "path_prefix: /old", "upstream: old"),
    )
    .await;

    gate.until_endpoint("old", server.address(), "down").await;
    gate.until_endpoint("shop", server.address(), "up").await;
    gate.get("/p").await.expect(200);
}
