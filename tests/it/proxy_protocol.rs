//! The PROXY protocol header on connections of clients: who is believed, and what is refused.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::harness::{Client, Config, Gate, Origin, Request, eventually, patiently};

const TRUSTING: &str = "address: 127.0.0.1:0, proxy_protocol: { from: [127.0.0.1] }";
const LOG: &str = "access_log: { format: json, path: access.log }";
const CLOSED: &str = "headgate_connections_closed_total";

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 40001 443\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const INET: &[u8] = &[192, 0, 2, 7, 198, 51, 100, 1, 0x9c, 0x41, 0x01, 0xbb];

/// Version 2 with this command, family, and what follows the length.
fn v2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, payload].concat()
}

async fn started() -> (Gate, Origin) {
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin]).only_listener(TRUSTING).top(LOG);
    (Gate::start(&config).await, origin)
}

/// Client and port in each line of the access log, once there are so many.
async fn logged(gate: &Gate, count: usize) -> Vec<(String, Option<u64>)> {
    let path = gate.file("access.log");
    let text = eventually("the lines are written", async || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        (text.matches('\n').count() >= count).then_some(text)
    })
    .await;
    let client = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        (
            line["client"].as_str().unwrap().to_owned(),
            line["client_port"].as_u64(),
        )
    };
    text.lines().map(client).collect()
}

#[tokio::test]
async fn the_client_is_the_one_that_a_trusted_proxy_names() {
    let (gate, origin) = started().await;
    let source: std::net::Ipv6Addr = "2001:db8::7".parse().unwrap();
    let inet6 = [
        &source.octets()[..],
        &source.octets(),
        &[0x9c, 0x42, 0x01, 0xbb],
    ]
    .concat();
    let noted = [INET, b"\x01\0\x02h2\x04\0\0"].concat();
    let v1_6 = b"PROXY TCP6 2001:db8::7 2001:db8::1 40002 443\r\n".to_vec();
    for (header, client, port) in [
        (V1.to_vec(), "192.0.2.7", Some(40001)),
        (v1_6, "2001:db8::7", Some(40002)),
        (v2(0x21, 0x11, INET), "192.0.2.7", Some(40001)),
        (v2(0x21, 0x11, &noted), "192.0.2.7", Some(40001)),
        (v2(0x21, 0x21, &inet6), "2001:db8::7", Some(40002)),
        (b"PROXY UNKNOWN\r\n".to_vec(), "unknown", None),
        (v2(0x21, 0x00, b""), "unknown", None),
        (v2(0x21, 0x31, &[0; 216]), "unix:", None),
    ] {
        let mut gate_client = gate.client().await;
        let request = Request::get("/p")
            .header("x-forwarded-for", "203.0.113.9")
            .bytes();
        gate_client.write([header, request].concat()).await;
        gate_client.answer().await.expect(200);
        let forwarded = port.map_or("unknown", |_| client);
        assert_eq!(origin.last("/p").all("x-forwarded-for"), [forwarded]);
        // The next request of the connection is the same client's.
        gate_client.get("/q").await.expect(200);
        assert_eq!(origin.last("/q").all("x-forwarded-for"), [forwarded]);
        drop(gate_client);
        let lines = logged(&gate, 2 * origin.requests("/p")).await;
        assert!(
            lines.ends_with(&[(client.to_owned(), port), (client.to_owned(), port)]),
            "{lines:?}"
        );
    }
}

#[tokio::test]
async fn a_proxy_that_connects_for_itself_is_the_client() {
    let (gate, origin) = started().await;
    for payload in [&b""[..], INET] {
        let mut client = gate.client().await;
        client.write(v2(0x20, 0x11, payload)).await;
        client.get("/healthz").await.expect(200);
    }
    assert_eq!(
        origin.last("/healthz").all("x-forwarded-for"),
        ["127.0.0.1"]
    );
}

#[tokio::test]
async fn a_header_that_comes_byte_by_byte_with_requests_right_behind_is_taken_exactly() {
    let (gate, origin) = started().await;
    for header in [
        V1.to_vec(),
        v2(0x21, 0x11, &[INET, &[4, 0, 3, 1, 2, 3]].concat()),
    ] {
        let mut stream = TcpStream::connect(gate.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let requests = [Request::get("/1").bytes(), Request::get("/2").bytes()].concat();
        let all = [header, requests].concat();
        for byte in &all[..all.len() - 1] {
            stream.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut client = Client::over(stream);
        client.write(&all[all.len() - 1..]).await;
        for _ in 0..2 {
            client.answer().await.expect(200);
        }
        assert_eq!(
            origin.last("/2").header("x-forwarded-for"),
            Some("192.0.2.7")
        );
    }
    assert_eq!(origin.requests("*"), 4);
}

#[tokio::test]
async fn what_is_no_header_ends_the_connection_without_a_word() {
    let (gate, origin) = started().await;
    let line = |text: &str| format!("PROXY TCP4 192.0.2.7 198.51.100.1 {text}").into_bytes();
    let mut wrong_crc = v2(0x21, 0x11, &[INET, &[3, 0, 4, 1, 2, 3, 4]].concat());
    let malformed: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"proxy TCP4 192.0.2.7 198.51.100.1 1 2\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n".to_vec(),
        b"PROXY UNIX a b\r\n".to_vec(),
        line("1\r\n"),
        line("1 2 \r\n"),
        line("1 2 3\r\n"),
        line("01 2\r\n"),
        line("1 65536\r\n"),
        line("1\t2\r\n"),
        line("1 2\r\r\n"),
        line("1 2\0\r\n"),
        b"PROXY TCP4 192.0.2.007 198.51.100.1 1 2\r\n".to_vec(),
        b"PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n".to_vec(),
        [b"PROXY UNKNOWN ", &[b'x'; 100][..], b"\r\n"].concat(),
        v2(0x11, 0x11, INET),
        v2(0x22, 0x11, INET),
        v2(0x21, 0x12, INET),
        v2(0x21, 0x41, INET),
        v2(0x21, 0x11, &INET[1..]),
        v2(0x21, 0x21, INET),
        v2(0x21, 0x11, &[INET, &[4]].concat()),
        v2(0x21, 0x11, &[INET, &[4, 0, 9, 1]].concat()),
        v2(0x21, 0x11, &[INET, &[0; 5000]].concat()),
        std::mem::take(&mut wrong_crc),
        // A TLS handshake.
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
    ];
    for header in &malformed {
        let mut client = gate.client().await;
        // It may be closed before all of it is sent.
        client
            .try_write(&[&header[..], &Request::get("/p").bytes()].concat())
            .await
            .ok();
        let said = client.until_closed().await;
        assert_eq!(said, b"", "{}", String::from_utf8_lossy(header));
    }
    #[expect(clippy::cast_precision_loss, reason = "a few")]
    let count = malformed.len() as f64;
    gate.until(CLOSED, &[("reason", "proxy_header")], count)
        .await;
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn half_a_header_is_given_the_time_of_a_head() {
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin])
        .only_listener(TRUSTING)
        .top("timeouts: { header: 200ms }");
    let gate = Gate::start(&config).await;
    let v2 = v2(0x21, 0x11, INET);
    for half in [&b""[..], b"PROXY TCP4 192.0", &v2[..14], &v2[..20]] {
        let mut client = gate.client().await;
        client.write(half).await;
        assert_eq!(client.until_closed().await, b"");
    }
    gate.until(CLOSED, &[("reason", "proxy_header_timeout")], 4.0)
        .await;

    let mut client = gate.client().await;
    client.write(b"PROXY").await;
    drop(client);
    gate.until(CLOSED, &[("reason", "client")], 1.0).await;
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn who_is_not_trusted_cannot_say_who_the_client_is() {
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin]).top(LOG);
    let gate = Gate::start(&config.clone().only_listener(
        "address: 127.0.0.1:0, proxy_protocol: { from: [192.0.2.0/24, '2001:db8::/32'] }",
    ))
    .await;
    gate.get("/p").await.expect(200);
    assert_eq!(origin.last("/p").all("x-forwarded-for"), ["127.0.0.1"]);
    let request = Request::get("/spoofed").bytes();
    for header in [V1.to_vec(), v2(0x21, 0x11, INET)] {
        let mut client = gate.client().await;
        client.write([header, request.clone()].concat()).await;
        let said = client.until_closed().await;
        assert!(
            said.starts_with(b"HTTP/1.1 400 "),
            "{}",
            String::from_utf8_lossy(&said)
        );
    }
    assert_eq!(origin.requests("/spoofed"), 0);
}

#[tokio::test]
async fn a_reload_changes_who_is_trusted() {
    let origin = Origin::start("a").await;
    let plain = Config::to(&[&origin]).only_listener("address: 127.0.0.1:0");
    let gate = Gate::start(&plain).await;
    let mut before = gate.client().await;
    before.get("/p").await.expect(200);

    gate.become_config(&plain.clone().only_listener(TRUSTING))
        .await;
    before.get("/p").await.expect(200);
    let mut client = gate.client().await;
    client.write(V1).await;
    client.get("/p").await.expect(200);
    assert_eq!(
        origin.last("/p").header("x-forwarded-for"),
        Some("192.0.2.7")
    );
    gate.become_config(&plain).await;
    gate.get("/p").await.expect(200);
    assert_eq!(
        origin.last("/p").header("x-forwarded-for"),
        Some("127.0.0.1")
    );
}

#[tokio::test]
async fn everyone_on_a_unix_socket_can_be_trusted() {
    let origin = Origin::start("a").await;
    let listener = "address: 'unix:gate.sock', proxy_protocol: { from: [unix] }";
    let gate = Gate::start(&Config::to(&[&origin]).only_listener(listener).top(LOG)).await;
    let mut client = gate.unix_client("gate.sock").await;
    client.write(V1).await;
    client.get("/p").await.expect(200);
    assert_eq!(
        origin.last("/p").header("x-forwarded-for"),
        Some("192.0.2.7")
    );
    assert_eq!(
        logged(&gate, 1).await,
        [("192.0.2.7".to_owned(), Some(40001))]
    );

    let mut client = gate.unix_client("gate.sock").await;
    client.try_write(&Request::get("/q").bytes()).await.ok();
    assert_eq!(client.until_closed().await, b"");
    assert_eq!(origin.requests("/q"), 0);
}

#[tokio::test]
async fn tls_begins_right_behind_the_header() {
    let folder = TempDir::new().unwrap();
    let pair = rcgen::generate_simple_self_signed(["shop.test".to_owned()]).unwrap();
    std::fs::write(folder.path().join("cert.pem"), pair.cert.pem()).unwrap();
    std::fs::write(
        folder.path().join("key.pem"),
        pair.signing_key.serialize_pem(),
    )
    .unwrap();
    let origin = Origin::start("a").await;
    let tls = "tls: { certificates: [{ cert: cert.pem, key: key.pem }] }";
    let config = Config::to(&[&origin]).only_listener(&format!("{TRUSTING}, {tls}"));
    let gate = Gate::start_in(folder, &config).await;

    let mut roots = RootCertStore::empty();
    roots.add(pair.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(client));
    let name = ServerName::try_from("shop.test").unwrap();
    for header in [V1.to_vec(), v2(0x21, 0x11, INET)] {
        // The header and the whole of the first flight in one write.
        let mut handshake = Vec::new();
        let (client_end, mut wire) = tokio::io::duplex(64 * 1024);
        let connecting = connector.connect(name.clone(), client_end);
        let stream = TcpStream::connect(gate.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let relay = tokio::spawn(async move {
            let (mut from_gate, mut to_gate) = stream.into_split();
            let mut first = vec![0; 32 * 1024];
            let count = tokio::io::AsyncReadExt::read(&mut wire, &mut first)
                .await
                .unwrap();
            handshake.extend_from_slice(&header);
            handshake.extend_from_slice(&first[..count]);
            to_gate.write_all(&handshake).await.unwrap();
            let (mut from_client, mut to_client) = tokio::io::split(wire);
            // Ends with either side.
            tokio::select! {
                _ = tokio::io::copy(&mut from_client, &mut to_gate) => {}
                _ = tokio::io::copy(&mut from_gate, &mut to_client) => {}
            }
        });
        let mut client = Client::over(patiently("a handshake", connecting).await.unwrap());
        client.get("/p").await.expect(200);
        assert_eq!(
            origin.last("/p").header("x-forwarded-for"),
            Some("192.0.2.7")
        );
        drop(client);
        relay.await.unwrap();
    }
}
