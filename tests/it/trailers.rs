//! Trailers on their way down: who gets them, and which.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response};

use crate::harness::{Config, Conn, Gate, Origin, Reply, Request, Server};
use crate::http2::wire::{Wire, get};

/// An answer with trailers that frame, route and claim among others; `announced` names some.
fn reply(announced: Option<&str>) -> Reply {
    let mut reply = Reply::new(200).header("transfer-encoding", "chunked");
    if let Some(names) = announced {
        reply = reply.header("trailer", names);
    }
    reply.then(
        "2\r\nok\r\n0\r\nx-sum: 7\r\nx-late: 1\r\ncontent-length: 9\r\nset-cookie: a=b\r\n\
         x-forwarded-for: 6.6.6.6\r\nvia: evil\r\n\r\n",
    )
}

async fn over_http1(gate: &Gate, path: &str, te: &str) -> (Option<String>, Vec<String>) {
    let request = Request::get(path).header("te", te);
    let answer = gate.send(&request).await.expect(200);
    assert_eq!(answer.text(), "ok");
    (answer.header("trailer").map(str::to_owned), answer.trailers)
}

async fn over_http2(gate: &Gate, path: &str) -> Vec<String> {
    let mut wire = Wire::connect(gate).await;
    wire.send(get(1, path)).await;
    let answer = wire.answer(1).await.expect(200);
    assert_eq!(answer.text(), "ok");
    let mut names: Vec<_> = answer.trailers.into_iter().map(|(name, _)| name).collect();
    names.sort();
    names
}

#[tokio::test]
async fn over_http_1_trailers_go_to_those_who_ask_as_far_as_they_were_announced() {
    let origin = Origin::start("a")
        .await
        .on("/one", |_| reply(Some("X-Sum, content-length")))
        .on("/none", |_| reply(None));
    let gate = Gate::start(&Config::to(&[&origin])).await;

    let (announced, trailers) = over_http1(&gate, "/one", "gzip, trailers").await;
    assert_eq!(announced.as_deref(), Some("X-Sum, content-length"));
    assert_eq!(trailers, ["x-sum: 7"]);
    let (announced, trailers) = over_http1(&gate, "/one", "gzip").await;
    assert_eq!((announced, trailers.len()), (None, 0));
    let (announced, trailers) = over_http1(&gate, "/none", "trailers").await;
    assert_eq!((announced, trailers.len()), (None, 0));
}

#[tokio::test]
async fn over_http_2_trailers_need_no_announcement() {
    let origin = Origin::start("a").await.on("/none", |_| reply(None));
    let gate = Gate::start(&Config::to(&[&origin])).await;
    assert_eq!(over_http2(&gate, "/none").await, ["x-late", "x-sum"]);
}

#[tokio::test]
async fn the_same_rules_hold_for_endpoints_of_http_2() {
    let server = Server::start(|conn: Conn| async move {
        let stream = conn.client.into_stream();
        let Ok(mut connection) = h2::server::handshake(stream).await else {
            return;
        };
        while let Some(Ok((asked, mut respond))) = connection.accept().await {
            let mut head = Response::builder();
            if asked.uri().path() == "/one" {
                head = head.header("trailer", "x-sum");
            }
            let head = head.body(()).unwrap();
            let mut out = respond.send_response(head, false).unwrap();
            out.send_data(Bytes::from_static(b"ok"), false).unwrap();
            let names = ["x-sum", "x-late", "set-cookie", "x-forwarded-for", "via"];
            let value = HeaderValue::from_static("7");
            let trailers = names.map(|name| (HeaderName::from_static(name), value.clone()));
            out.send_trailers(HeaderMap::from_iter(trailers)).unwrap();
        }
    })
    .await;
    let endpoint = server.address().to_string();
    let gate = Gate::start(&Config::to_endpoints(&endpoint, "protocol: h2")).await;

    let (announced, trailers) = over_http1(&gate, "/one", "trailers").await;
    assert_eq!(announced.as_deref(), Some("x-sum"));
    assert_eq!(trailers, ["x-sum: 7"]);
    let (announced, trailers) = over_http1(&gate, "/none", "trailers").await;
    assert_eq!((announced, trailers.len()), (None, 0));
    assert_eq!(over_http2(&gate, "/none").await, ["x-late", "x-sum"]);
}

#[tokio::test]
async fn what_is_stored_announces_no_trailers() {
    let origin = Origin::start("a").await.on("/one", |_| {
        reply(Some("x-sum")).header("cache-control", "max-age=60")
    });
    let gate = Gate::start(&Config::cached(&[&origin])).await;
    for hit in [false, true] {
        let request = Request::get("/one").header("te", "trailers");
        let answer = gate.send(&request).await.expect(200);
        assert_eq!((answer.text(), answer.is_hit()), ("ok", hit));
        assert_eq!((answer.header("trailer"), answer.trailers.len()), (None, 0));
    }
}
