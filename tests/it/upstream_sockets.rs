//! Unix sockets, IPv6, and the PROXY header towards endpoints.

use std::sync::Arc;

use parking_lot::Mutex;
use tempfile::TempDir;

use crate::harness::{Client, Config, Conn, Gate, Server};

async fn serve(mut conn: Conn) {
    while let Some(head) = conn.client.request().await {
        let body = format!(
            "{} {}",
            conn.number,
            head.lines().next().unwrap_or_default()
        );
        let length = body.len();
        conn.client
            .write(format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}"
            ))
            .await;
    }
}

#[tokio::test]
async fn an_endpoint_may_be_a_unix_socket_and_is_checked_there() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("origin.sock");
    let server = Server::unix(&path, serve);
    let endpoint = format!("\"unix:{}\"", path.display());
    let check = "health_check: { interval: 100ms, healthy_threshold: 1, unhealthy_threshold: 1 }";
    let gate = Gate::start(&Config::to_endpoints(&endpoint, check).one_worker()).await;

    for _ in 0..3 {
        let answer = gate.get("/p").await.expect(200);
        assert!(
            answer.text().ends_with("GET /p HTTP/1.1"),
            "{}",
            answer.text()
        );
    }
    let passed = [("upstream", "shop"), ("result", "passed")];
    crate::harness::eventually("a check passes", async || {
        let metrics = gate.metrics().await;
        (metrics.sum("headgate_health_checks_total", &passed) >= 1.0).then_some(())
    })
    .await;

    // Its server is gone: refused, as a port would be.
    drop(server);
    std::fs::remove_file(&path).unwrap();
    let failed = [("upstream", "shop"), ("result", "failed")];
    crate::harness::eventually("a check fails", async || {
        let metrics = gate.metrics().await;
        (metrics.sum("headgate_health_checks_total", &failed) >= 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_may_have_an_ipv6_address() {
    let server = Server::at("[::1]:0", None, serve).await;
    let endpoint = format!("\"{}\"", server.address());
    let gate = Gate::start(&Config::to_endpoints(&endpoint, "")).await;

    gate.get("/p").await.expect(200);
}

type Headers = Arc<Mutex<Vec<Vec<u8>>>>;

/// Takes so many bytes of each connection before it serves HTTP.
async fn behind_proxy(headers: &Headers, ends: fn(&[u8]) -> bool) -> Server {
    let headers = Arc::clone(headers);
    Server::start(move |mut conn: Conn| {
        let headers = Arc::clone(&headers);
        async move {
            let mut header = Vec::new();
            while !ends(&header) {
                header.extend(conn.client.exactly(1).await);
            }
            headers.lock().push(header);
            serve(conn).await;
        }
    })
    .await
}

#[tokio::test]
async fn the_header_of_version_1_names_the_client_and_connections_are_its_own() {
    let headers = Headers::default();
    let server = behind_proxy(&headers, |bytes| bytes.ends_with(b"\r\n")).await;
    let endpoint = server.address().to_string();
    let config = Config::to_endpoints(&endpoint, "proxy_protocol: v1").one_worker();
    let gate = Gate::start(&config).await;

    let mut clients = Vec::new();
    for _ in 0..2 {
        let stream = tokio::net::TcpStream::connect(gate.address).await.unwrap();
        let from = stream.local_addr().unwrap();
        clients.push((from, Client::over(stream)));
    }
    for _ in 0..3 {
        for (number, (_, client)) in clients.iter_mut().enumerate() {
            let answer = client.get("/p").await.expect(200);
            let expected = format!("{} GET /p HTTP/1.1", number + 1);
            assert_eq!(answer.text(), expected, "nobody else's connection");
        }
    }

    let to = gate.address;
    let headers = headers.lock();
    for (header, (from, _)) in headers.iter().zip(&clients) {
        let line = format!(
            "PROXY TCP4 {} {} {} {}\r\n",
            from.ip(),
            to.ip(),
            from.port(),
            to.port()
        );
        assert_eq!(String::from_utf8_lossy(header), line);
    }
    assert_eq!(headers.len(), 2);
}

#[tokio::test]
async fn the_header_of_version_2_names_the_client_and_a_check_names_nobody() {
    let headers = Headers::default();
    let whole = |bytes: &[u8]| {
        bytes.len() >= 16
            && bytes.len() == 16 + usize::from(bytes[14]) * 256 + usize::from(bytes[15])
    };
    let server = behind_proxy(&headers, whole).await;
    let endpoint = server.address().to_string();
    let gate = Gate::start(&Config::to_endpoints(&endpoint, "proxy_protocol: v2")).await;

    let stream = tokio::net::TcpStream::connect(gate.address).await.unwrap();
    let from = stream.local_addr().unwrap();
    Client::over(stream).get("/p").await.expect(200);
    let header = headers.lock().pop().unwrap();
    assert_eq!(header[12..16], [0x21, 0x11, 0, 12]);
    assert_eq!(header[16..20], [127, 0, 0, 1]);
    assert_eq!(header[24..26], from.port().to_be_bytes());

    let check = "proxy_protocol: v2, health_check: { interval: 60s }";
    let gate = Gate::start(&Config::to_endpoints(&endpoint, check)).await;
    let passed = [("upstream", "shop"), ("result", "passed")];
    crate::harness::eventually("a check passes", async || {
        let metrics = gate.metrics().await;
        (metrics.sum("headgate_health_checks_total", &passed) >= 1.0).then_some(())
    })
    .await;
    assert_eq!(headers.lock()[0][12..], [0x20, 0, 0, 0]);
}
