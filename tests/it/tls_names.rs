//! HTTPS: which certificate a client gets, and which clients get none.

use rustls::version::{TLS12, TLS13};
use serde_json::Value;
use tempfile::tempdir;

use crate::harness::{Authority, Client, Config, Gate, Origin, Request, Speaks, TlsClient};

const FAILED: [(&str, &str); 1] = [("reason", "tls_handshake")];
const CLOSED: &str = "headgate_connections_closed_total";

#[tokio::test]
async fn names_get_their_certificate_by_wildcard_and_whatever_their_case() {
    let folder = tempdir().unwrap();
    let authority = Authority::new("ca");
    let first = authority.issue(&["first.test"], 2040);
    let wild = authority.issue(&["*.shop.test"], 2040);
    first.write(folder.path(), "first");
    wild.write(folder.path(), "wild");
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin]).only_listener(
        "address: 127.0.0.1:0, tls: { certificates: [\
         { cert: first.pem, key: first.key }, { cert: wild.pem, key: wild.key }] }",
    );
    let gate = Gate::start_in(folder, &config).await;
    let client = TlsClient::trusting(&authority);

    let shown = client.shown(gate.address, "A.Shop.TEST").await.unwrap();
    assert!(shown == wild.der);
    let shown = client.shown(gate.address, "first.test").await.unwrap();
    assert!(shown == first.der);
    // One label: the default is shown, which does not fit.
    assert!(client.shown(gate.address, "a.b.shop.test").await.is_err());
    // What is recorded today is not to be read when there are quantum computers.
    let stream = client.shake(gate.address, "first.test").await.unwrap();
    let group = stream.get_ref().1.negotiated_key_exchange_group().unwrap();
    assert_eq!(group.name(), rustls::NamedGroup::X25519MLKEM768);
    gate.until(CLOSED, &FAILED, 1.0).await;
    let line = gate.log("TLS handshake failed").await;
    assert_eq!(line["reason"], "tls_handshake");
    assert!(line["client"].as_str().unwrap().starts_with("127.0.0.1:"));
}

#[tokio::test]
async fn a_name_with_two_keys_serves_clients_of_either_kind() {
    let folder = tempdir().unwrap();
    let authority = Authority::new("ca");
    let rsa = authority.issue_rsa(&["shop.test"], 2040);
    let curve = authority.issue(&["shop.test"], 2040);
    rsa.write(folder.path(), "rsa");
    curve.write(folder.path(), "ecdsa");
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin]).only_listener(
        "address: 127.0.0.1:0, tls: { certificates: [\
         { cert: rsa.pem, key: rsa.key }, { cert: ecdsa.pem, key: ecdsa.key }] }",
    );
    let gate = Gate::start_in(folder, &config).await;
    for versions in [&[&TLS12], &[&TLS13]] {
        for (rsa_only, expected) in [(false, &curve), (true, &rsa)] {
            let speaks = Speaks {
                versions,
                rsa_only,
                ..Speaks::default()
            };
            let client = TlsClient::new(&authority, speaks);
            let shown = client.shown(gate.address, "shop.test").await.unwrap();
            assert!(shown == expected.der, "{versions:?} {rsa_only}");
        }
    }
}

#[tokio::test]
async fn versions_and_ciphers_are_as_configured_and_logged() {
    let folder = tempdir().unwrap();
    let authority = Authority::new("ca");
    authority
        .issue(&["shop.test"], 2040)
        .write(folder.path(), "shop");
    let origin = Origin::start("a").await;
    let pair = "certificates: [{ cert: shop.pem, key: shop.key }]";
    let config = Config::to(&[&origin])
        .top("access_log: { format: json, path: access.log }")
        .only_listener(&format!(
            "address: 127.0.0.1:0, tls: {{ {pair}, min_version: \"1.3\" }}"
        ))
        .listener(&format!(
            "address: 127.0.0.2:0, tls: {{ {pair}, \
             cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256] }}"
        ));
    let gate = Gate::start_in(folder, &config).await;
    let old = TlsClient::new(&authority, Speaks::only(&[&TLS12]));
    let new = TlsClient::new(&authority, Speaks::only(&[&TLS13]));

    assert!(old.shake(gate.listeners[0], "shop.test").await.is_err());
    gate.until(CLOSED, &FAILED, 1.0).await;
    assert_eq!(
        new.visit(gate.listeners[0], "shop.test").await.unwrap().0,
        200
    );
    assert!(new.shake(gate.listeners[1], "shop.test").await.is_err());
    let stream = old.shake(gate.listeners[1], "shop.test").await.unwrap();
    let suite = stream.get_ref().1.negotiated_cipher_suite().unwrap();
    assert_eq!(
        suite.suite(),
        rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
    );
    Client::over(stream).get("/old").await.expect(200);

    let lines = crate::harness::eventually("both requests are logged", async || {
        let text = std::fs::read_to_string(gate.file("access.log")).ok()?;
        let lines: Vec<Value> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        (lines.len() == 2).then_some(lines)
    })
    .await;
    for (path, version) in [("/visit", "TLSv1.3"), ("/old", "TLSv1.2")] {
        let line = lines.iter().find(|line| line["path"] == path).unwrap();
        assert_eq!(line["tls"], version, "{line}");
        assert!(
            line["cipher"].as_str().unwrap().starts_with("TLS_"),
            "{line}"
        );
    }
}

#[tokio::test]
async fn http_without_tls_is_told_so_and_closed() {
    let folder = tempdir().unwrap();
    let authority = Authority::new("ca");
    authority
        .issue(&["shop.test"], 2040)
        .write(folder.path(), "shop");
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin]).only_listener(
        "address: 127.0.0.1:0, tls: { certificates: [{ cert: shop.pem, key: shop.key }] }",
    );
    let gate = Gate::start_in(folder, &config).await;

    let mut client = gate.client().await;
    let answer = client
        .send(&Request::post("/p", vec![b'x'; 10_000]))
        .await
        .expect(400);
    assert!(
        answer.text().contains("This port speaks HTTPS"),
        "{}",
        answer.text()
    );
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(client.until_closed().await, b"");
    gate.until(CLOSED, &FAILED, 1.0).await;

    // What is neither gets nothing but the close.
    let mut client = gate.client().await;
    client.write(b"\x00\x01\x02\x03").await;
    assert_eq!(client.until_closed().await, b"");
    gate.until(CLOSED, &FAILED, 2.0).await;
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn a_check_of_the_port_is_not_a_failed_handshake() {
    let folder = tempdir().unwrap();
    let authority = Authority::new("ca");
    authority
        .issue(&["shop.test"], 2040)
        .write(folder.path(), "shop");
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin]).only_listener(
        "address: 127.0.0.1:0, tls: { certificates: [{ cert: shop.pem, key: shop.key }] }",
    );
    let gate = Gate::start_in(folder, &config).await;
    drop(gate.client().await);
    gate.until(CLOSED, &[("reason", "client")], 1.0).await;
    assert_eq!(gate.logged("TLS handshake failed"), 0);
    assert!(gate.metrics().await.sum(CLOSED, &FAILED).abs() < 0.5);
}

#[tokio::test]
async fn a_hello_that_comes_in_single_bytes_is_understood() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let folder = tempdir().unwrap();
    let authority = Authority::new("ca");
    authority
        .issue(&["shop.test"], 2040)
        .write(folder.path(), "shop");
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin]).only_listener(
        "address: 127.0.0.1:0, tls: { certificates: [{ cert: shop.pem, key: shop.key }] }",
    );
    let gate = Gate::start_in(folder, &config).await;
    let hello = TlsClient::trusting(&authority).hello("shop.test");
    let mut stream = tokio::net::TcpStream::connect(gate.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in hello {
        stream.write_all(&[byte]).await.unwrap();
    }
    let mut record = [0; 5];
    stream.read_exact(&mut record).await.unwrap();
    assert_eq!(record[0], 22, "a record of the handshake");
}

#[tokio::test]
async fn a_client_of_unknown_protocols_is_refused_with_the_right_alert() {
    let folder = tempdir().unwrap();
    let authority = Authority::new("ca");
    authority
        .issue(&["shop.test"], 2040)
        .write(folder.path(), "shop");
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin]).only_listener(
        "address: 127.0.0.1:0, tls: { certificates: [{ cert: shop.pem, key: shop.key }] }",
    );
    let gate = Gate::start_in(folder, &config).await;
    for protocol in [&b"spdy/3"[..], b"acme-tls/1"] {
        let speaks = Speaks {
            protocols: &[protocol],
            ..Speaks::default()
        };
        let client = TlsClient::new(&authority, speaks);
        let error = client.shake(gate.address, "shop.test").await.unwrap_err();
        assert!(
            error.to_string().contains("NoApplicationProtocol"),
            "{error}"
        );
    }
    gate.until(CLOSED, &FAILED, 2.0).await;
}
