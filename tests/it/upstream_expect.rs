//! Bodies that wait to be wanted, early hints, and trailers, from the client to the endpoint and back.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request as Head, Response};
use parking_lot::Mutex;
use tokio::net::TcpStream;

use crate::harness::{Config, Conn, Gate, Latch, Server, patiently};

const ASK: &str =
    "POST /p HTTP/1.1\r\nhost: shop.test\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";

#[tokio::test]
async fn a_client_is_told_to_send_when_the_endpoint_wants_the_body() {
    let (go, asked) = (Latch::new(), Latch::new());
    let (wait, tell) = (go.clone(), asked.clone());
    let server = Server::start(move |mut conn: Conn| {
        let (wait, tell) = (wait.clone(), tell.clone());
        async move {
            let Some(head) = conn.client.request().await else {
                return;
            };
            assert!(head.contains("expect: 100-continue"), "{head}");
            tell.open();
            wait.opened().await;
            conn.client.write("HTTP/1.1 100 Continue\r\n\r\n").await;
            assert_eq!(conn.client.exactly(4).await, b"body");
            conn.client
                .write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .await;
            conn.client.until_closed().await;
        }
    })
    .await;
    let gate = Gate::start(&Config::to_endpoints(&server.address().to_string(), "")).await;

    let mut client = gate.client().await;
    client.write(ASK).await;
    asked.opened().await;
    go.open();
    client.head().await.expect(100);
    client.write("body").await;
    assert_eq!(client.answer().await.expect(200).text(), "ok");
}

#[tokio::test]
async fn a_client_is_not_told_to_send_what_the_endpoint_refuses() {
    let after = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&after);
    let server = Server::start(move |mut conn: Conn| {
        let kept = Arc::clone(&kept);
        async move {
            if conn.client.request().await.is_some() {
                conn.client
                    .write("HTTP/1.1 403 No\r\ncontent-length: 2\r\n\r\nno")
                    .await;
                let more = conn.client.until_closed().await;
                *kept.lock() = Some(more);
            }
        }
    })
    .await;
    let gate = Gate::start(&Config::to_endpoints(&server.address().to_string(), "")).await;

    let mut client = gate.client().await;
    client.write(ASK).await;
    // The next thing that is said is the final answer: no 100.
    assert_eq!(client.answer().await.expect(403).text(), "no");
    let after = crate::harness::eventually("it was closed", async || after.lock().take()).await;
    assert!(after.is_empty());
}

#[tokio::test]
async fn grpc_goes_end_to_end_with_its_trailers() {
    let server = Server::start(|conn: Conn| async move {
        let stream = conn.client.into_stream();
        let Ok(mut connection) = h2::server::handshake(stream).await else {
            return;
        };
        while let Some(Ok((asked, mut respond))) = connection.accept().await {
            tokio::spawn(async move {
                assert_eq!(asked.headers()["te"], "trailers");
                let mut body = asked.into_body();
                let head = Response::builder().header("content-type", "application/grpc");
                let mut out = respond
                    .send_response(head.body(()).unwrap(), false)
                    .unwrap();
                // A message back for each that comes, while more may come.
                while let Some(Ok(data)) = body.data().await {
                    body.flow_control().release_capacity(data.len()).unwrap();
                    if !data.is_empty() {
                        out.send_data(data, false).unwrap();
                    }
                }
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                out.send_trailers(trailers).unwrap();
            });
        }
    })
    .await;
    let endpoint = server.address().to_string();
    let gate = Gate::start(&Config::to_endpoints(&endpoint, "protocol: h2")).await;

    let stream = TcpStream::connect(gate.address).await.unwrap();
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    let driving = tokio::spawn(connection);
    let request = Head::builder()
        .method("POST")
        .uri("http://shop.test/shop.Shop/Talk")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let (answer, mut out) = sender.send_request(request, false).unwrap();
    let answer = patiently("an answer", answer).await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut body = answer.into_body();
    for message in ["\0\0\0\0\x03one", "\0\0\0\0\x03two"] {
        out.send_data(Bytes::from_static(message.as_bytes()), false)
            .unwrap();
        let back = patiently("a message", body.data()).await.unwrap().unwrap();
        assert_eq!(back, message);
    }
    out.send_data(Bytes::new(), true).unwrap();
    assert!(patiently("the end", body.data()).await.is_none());
    let trailers = patiently("trailers", body.trailers())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    driving.abort();
}
