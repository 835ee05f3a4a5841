//! Tunnels through Headgate, from either version of HTTP to either.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request as Head, Response};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Config, Conn, Gate, Server, patiently};

const OFFER: &str = "GET /ws HTTP/1.1\r\nhost: shop.test\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Agrees to WebSocket as a server should, and sends everything back until the peer has ended its side;
/// then says goodbye.
async fn echo(mut conn: Conn, heads: Arc<Mutex<Vec<String>>>) {
    let Some(head) = conn.client.request().await else {
        return;
    };
    heads.lock().push(head);
    conn.client
        .write(format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: {ACCEPT}\r\n\r\n"
        ))
        .await;
    loop {
        let some = conn.client.some().await;
        if some.is_empty() {
            break;
        }
        conn.client.write(some).await;
    }
    conn.client.write("goodbye").await;
}

async fn echo_server() -> (Server, Arc<Mutex<Vec<String>>>) {
    let heads = Arc::<Mutex<Vec<String>>>::default();
    let list = Arc::clone(&heads);
    let server = Server::start(move |conn| echo(conn, Arc::clone(&list))).await;
    (server, heads)
}

async fn connect(gate: &Gate) -> TcpStream {
    TcpStream::connect(gate.address).await.unwrap()
}

/// Reads a head.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(patiently("a head", stream.read_u8()).await.unwrap());
    }
    String::from_utf8(head).unwrap().to_ascii_lowercase()
}

async fn exactly(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    patiently("bytes", stream.read_exact(&mut bytes))
        .await
        .unwrap();
    bytes
}

#[tokio::test]
async fn raw_bytes_go_both_ways_and_each_side_ends_by_itself() {
    let (server, heads) = echo_server().await;
    let gate = Gate::start(&Config::to_endpoints(&server.address().to_string(), "")).await;

    let mut client = connect(&gate).await;
    client.write_all(OFFER.as_bytes()).await.unwrap();
    let answer = head(&mut client).await;
    assert!(answer.starts_with("http/1.1 101 "), "{answer}");
    assert!(answer.contains("\r\nupgrade: websocket\r\n"), "{answer}");
    let accept = format!(
        "\r\nsec-websocket-accept: {}\r\n",
        ACCEPT.to_ascii_lowercase()
    );
    assert!(answer.contains(&accept), "{answer}");

    let raw = b"\0\xff\r\n\r\nGET / HTTP/1.1\r\n\r\n";
    client.write_all(raw).await.unwrap();
    assert_eq!(exactly(&mut client, raw.len()).await, raw);
    let big = vec![b'x'; 1 << 20];
    let (mut read, mut write) = client.split();
    let mut back = vec![0; big.len()];
    let (sent, received) = tokio::join!(write.write_all(&big), read.read_exact(&mut back));
    sent.unwrap();
    received.unwrap();
    assert!(back == big);

    // Our side is over; the other still speaks.
    client.shutdown().await.unwrap();
    let mut rest = Vec::new();
    patiently("the end", client.read_to_end(&mut rest))
        .await
        .unwrap();
    assert_eq!(rest, b"goodbye");
    gate.until("headgate_upstream_tunnels_open", &[], 0.0).await;
    let ended = [("upstream", "shop"), ("reason", "upstream")];
    gate.until("headgate_upstream_tunnels_total", &ended, 1.0)
        .await;
    let heads = heads.lock();
    assert!(heads[0].contains("upgrade: websocket"), "{heads:?}");
}

#[tokio::test]
async fn a_tunnel_outlives_a_reload_and_not_its_silence() {
    let (server, _heads) = echo_server().await;
    let config = Config::to_endpoints(
        &server.address().to_string(),
        "timeouts: { tunnel_idle: 300ms }",
    );
    let gate = Gate::start(&config).await;

    let mut client = connect(&gate).await;
    client.write_all(OFFER.as_bytes()).await.unwrap();
    head(&mut client).await;
    gate.reload().await.expect(200);
    client.write_all(b"still").await.unwrap();
    assert_eq!(exactly(&mut client, 5).await, b"still");
    gate.until("headgate_upstream_tunnels_open", &[], 1.0).await;

    let mut rest = Vec::new();
    patiently("the end", client.read_to_end(&mut rest))
        .await
        .unwrap();
    assert!(rest.is_empty());
    let ended = [("upstream", "shop"), ("reason", "idle")];
    gate.until("headgate_upstream_tunnels_total", &ended, 1.0)
        .await;
}

#[tokio::test]
async fn an_endpoint_that_opens_something_else_is_a_bad_gateway() {
    for answer in ["upgrade: h2c\r\nconnection: upgrade", "upgrade: websocket"] {
        let server = Server::start(move |mut conn: Conn| async move {
            if conn.client.request().await.is_some() {
                conn.client
                    .write(format!("HTTP/1.1 101 Go\r\n{answer}\r\n\r\nevil"))
                    .await;
                assert!(conn.client.until_closed().await.is_empty());
            }
        })
        .await;
        let gate = Gate::start(&Config::to_endpoints(&server.address().to_string(), "")).await;

        let mut client = connect(&gate).await;
        client.write_all(OFFER.as_bytes()).await.unwrap();
        let head = head(&mut client).await;

        assert!(head.starts_with("http/1.1 502 "), "{head}");
        let failed = [("upstream", "shop"), ("reason", "http_upgrade_failed")];
        gate.until("headgate_upstream_errors_total", &failed, 1.0)
            .await;
    }
}

/// An endpoint of HTTP/2 that takes tunnels, and sends back what it gets.
async fn serve_h2(conn: Conn) {
    let mut builder = h2::server::Builder::new();
    builder.enable_connect_protocol();
    let stream = conn.client.into_stream();
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else {
        return;
    };
    while let Some(Ok((asked, mut respond))) = connection.accept().await {
        tokio::spawn(async move {
            assert_eq!(*asked.method(), Method::CONNECT);
            let protocol = asked.extensions().get::<h2::ext::Protocol>().unwrap();
            assert_eq!(protocol.as_str(), "websocket");
            assert!(!asked.headers().contains_key("sec-websocket-key"));
            let mut out = respond.send_response(Response::new(()), false).unwrap();
            let mut body = asked.into_body();
            while let Some(Ok(data)) = body.data().await {
                body.flow_control().release_capacity(data.len()).unwrap();
                out.send_data(data, false).unwrap();
            }
            out.send_data(Bytes::from_static(b"goodbye"), true).unwrap();
        });
    }
}

#[tokio::test]
async fn a_client_of_http_1_reaches_an_endpoint_of_http_2() {
    let server = Server::start(serve_h2).await;
    let endpoint = server.address().to_string();
    let gate = Gate::start(&Config::to_endpoints(&endpoint, "protocol: h2")).await;

    let mut client = connect(&gate).await;
    client.write_all(OFFER.as_bytes()).await.unwrap();
    let answer = head(&mut client).await;
    assert!(answer.starts_with("http/1.1 101 "), "{answer}");
    // The proof that the endpoint could not give.
    let accept = format!(
        "\r\nsec-websocket-accept: {}\r\n",
        ACCEPT.to_ascii_lowercase()
    );
    assert!(answer.contains(&accept), "{answer}");
    client.write_all(b"frames").await.unwrap();
    assert_eq!(exactly(&mut client, 6).await, b"frames");
    client.shutdown().await.unwrap();
    let mut rest = Vec::new();
    patiently("the end", client.read_to_end(&mut rest))
        .await
        .unwrap();
    assert_eq!(rest, b"goodbye");
}

#[tokio::test]
async fn a_client_of_http_2_reaches_an_endpoint_of_http_1_that_must_prove_itself() {
    let server = Server::start(|mut conn: Conn| async move {
        let Some(head) = conn.client.request().await else {
            return;
        };
        let key = head
            .lines()
            .find_map(|line| line.strip_prefix("sec-websocket-key: "))
            .expect("a key was made");
        let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
        let digest =
            aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        let accept = base64(digest.as_ref());
        conn.client
            .write(format!(
                "HTTP/1.1 101 Go\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: {accept}\r\n\r\nhello"
            ))
            .await;
        while !conn.client.some().await.is_empty() {}
    })
    .await;
    let gate = Gate::start(&Config::to_endpoints(&server.address().to_string(), "")).await;

    let stream = connect(&gate).await;
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    let driving = tokio::spawn(connection);
    let announced = || async { sender.is_extended_connect_protocol_enabled().then_some(()) };
    crate::harness::eventually("tunnels are announced", announced).await;
    let mut request = Head::builder()
        .method(Method::CONNECT)
        .uri("http://shop.test/ws")
        .header("sec-websocket-version", "13")
        .body(())
        .unwrap();
    request
        .extensions_mut()
        .insert(h2::ext::Protocol::from_static("websocket"));
    let (answer, mut out) = sender.send_request(request, false).unwrap();
    let answer = patiently("an answer", answer).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(!answer.headers().contains_key("sec-websocket-accept"));
    let mut body = answer.into_body();
    let data = patiently("bytes", body.data()).await.unwrap().unwrap();
    assert_eq!(data, "hello");
    out.send_data(Bytes::new(), true).unwrap();
    assert!(
        patiently("the end", body.data())
            .await
            .is_none_or(|it| it.unwrap().is_empty())
    );
    driving.abort();
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * at) & 63) as usize];
            text.push(if at > group.len() {
                '='
            } else {
                char::from(digit)
            });
        }
    }
    text
}
