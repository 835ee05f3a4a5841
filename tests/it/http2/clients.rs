//! Clients that others have written: curl, and the h2 crate.

use std::process::Stdio;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_rustls::TlsConnector;

use crate::harness::{Config, Gate, Origin, patiently};

use super::wire::*;

/// Whether curl is there and speaks HTTP/2; says so if not.
async fn curl_is_here() -> bool {
    let version = Command::new("curl").arg("--version").output().await;
    let here = version.is_ok_and(|it| String::from_utf8_lossy(&it.stdout).contains("HTTP2"));
    if !here {
        assert!(
            std::env::var_os("HEADGATE_FORBID_SKIP").is_none(),
            "curl with HTTP/2 is missing"
        );
        println!("SKIPPED: there is no curl with HTTP/2");
    }
    here
}

async fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "50"])
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    let output = patiently("curl", output).await.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn curl_speaks_http_2_with_prior_knowledge() {
    if !curl_is_here().await {
        return;
    }
    let origin = Origin::start("a").await;
    let gate = Gate::start(&Config::to(&[&origin])).await;
    let url = format!("http://{}/p", gate.address);
    let told = ["--write-out", " %{http_version} %{http_code}"];
    // One URL: curl 7.88 cannot use such a connection twice.
    let get = curl(&[&["--http2-prior-knowledge"], &told[..], &[&url]].concat()).await;
    assert_eq!(get, "a 2 200");
    let upload = "x".repeat(200_000);
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("body");
    std::fs::write(&file, &upload).unwrap();
    let body = format!("@{}", file.display());
    let post = ["--http2-prior-knowledge", "--data-binary", &body];
    assert_eq!(curl(&[&post[..], &told, &[&url]].concat()).await, "a 2 200");
    assert!(origin.last("/p").body == upload.as_bytes());
}

/// A certificate for `shop.test` and itself for clients to trust.
fn certificate(folder: &TempDir) -> rcgen::CertifiedKey<rcgen::KeyPair> {
    let pair = rcgen::generate_simple_self_signed(["shop.test".to_owned()]).unwrap();
    std::fs::write(folder.path().join("shop.pem"), pair.cert.pem()).unwrap();
    std::fs::write(
        folder.path().join("shop.key"),
        pair.signing_key.serialize_pem(),
    )
    .unwrap();
    pair
}

const TLS: &str =
    "address: 127.0.0.1:0, tls: { certificates: [{ cert: shop.pem, key: shop.key }] }";

#[tokio::test]
async fn curl_agrees_on_http_2_by_alpn() {
    if !curl_is_here().await {
        return;
    }
    let folder = TempDir::new().unwrap();
    certificate(&folder);
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin]).only_listener(TLS);
    let gate = Gate::start_in(folder, &config).await;
    let (address, port) = (gate.address, gate.address.port());
    let resolve = format!("shop.test:{port}:{}", address.ip());
    let url = format!("https://shop.test:{port}/p");
    let trusted = gate.file("shop.pem");
    let told = [
        "--write-out",
        " %{http_version}",
        "--resolve",
        &resolve,
        "--cacert",
        trusted.to_str().unwrap(),
    ];
    assert_eq!(
        curl(&[&["--http2"], &told[..], &[&url, &url]].concat()).await,
        "a 2a 2"
    );
    assert_eq!(
        curl(&[&["--http1.1"], &told[..], &[&url]].concat()).await,
        "a 1.1"
    );
    assert_eq!(origin.last("/p").all("x-forwarded-proto"), ["https"]);
}

async fn over_tls(
    gate: &Gate,
    pair: &rcgen::CertifiedKey<rcgen::KeyPair>,
    alpn: &[&str],
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(pair.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(gate.address).await.unwrap();
    let name = ServerName::try_from("shop.test").unwrap();
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
    patiently("a handshake", handshake).await.unwrap()
}

#[tokio::test]
async fn over_tls_the_scheme_is_https_and_a_broken_preface_ends_the_connection() {
    let folder = TempDir::new().unwrap();
    let pair = certificate(&folder);
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin]).only_listener(TLS);
    let gate = Gate::start_in(folder, &config).await;

    let stream = over_tls(&gate, &pair, &["h2"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut wire = Wire::over(stream);
    wire.open(&[]).await;
    wire.send(get(1, "/bad")).await;
    wire.answer(1).await.expect(400);
    let mut secure = fields("GET", "/ok", &[]);
    secure[1].1 = "https";
    wire.send(headers(3, END_STREAM, &secure)).await;
    wire.answer(3).await.expect(200);

    let mut wire = Wire::over(over_tls(&gate, &pair, &["h2"]).await);
    wire.send("GET /bad HTTP/1.1\r\nhost: shop.test\r\n\r\n")
        .await;
    wire.until("the close", |wire| wire.closed).await;
    assert_eq!(origin.requests("/bad"), 0);
}

/// Sections 3.2 and 3.3 of RFC 9113.
#[tokio::test]
async fn s3_3_prior_knowledge_is_not_for_tls_and_h2c_is_not_chosen() {
    let folder = TempDir::new().unwrap();
    let pair = certificate(&folder);
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin]).only_listener(TLS);
    let gate = Gate::start_in(folder, &config).await;
    for offered in [&["http/1.1"][..], &["h2c", "http/1.1"], &[]] {
        let stream = over_tls(&gate, &pair, offered).await;
        let chosen = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        assert!(chosen.is_none_or(|it| it == b"http/1.1"));
        let mut wire = Wire::over(stream);
        wire.send([PREFACE, &settings(&[]), &get(1, "/bad")].concat())
            .await;
        wire.until("the close", |wire| wire.closed).await;
        let frames = wire.frames.iter().filter(|it| it.0 == SETTINGS);
        assert_eq!(frames.count(), 0);
    }
    assert_eq!(origin.requests("*"), 0);
}

/// What TLS 1.2 must have in common with every client of HTTP/2 (RFC 9113 section 9.2.2).
#[tokio::test]
async fn s9_2_2_the_cipher_suite_that_all_must_have_is_served() {
    let folder = TempDir::new().unwrap();
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let params = rcgen::CertificateParams::new(["shop.test".to_owned()]).unwrap();
    let cert = params.self_signed(&key).unwrap();
    std::fs::write(folder.path().join("shop.pem"), cert.pem()).unwrap();
    std::fs::write(folder.path().join("shop.key"), key.serialize_pem()).unwrap();
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin]).only_listener(TLS);
    let gate = Gate::start_in(folder, &config).await;

    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    let suite = rustls::CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256;
    provider.cipher_suites.retain(|it| it.suite() == suite);
    let curve = rustls::NamedGroup::secp256r1;
    provider.kx_groups.retain(|it| it.name() == curve);
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(gate.address).await.unwrap();
    let name = ServerName::try_from("shop.test").unwrap();
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let stream = patiently("a handshake", handshake).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut wire = Wire::over(stream);
    wire.open(&[]).await;
    let mut secure = fields("GET", "/ok", &[]);
    secure[1].1 = "https";
    wire.send(headers(1, END_STREAM, &secure)).await;
    wire.answer(1).await.expect(200);
}

/// As gRPC does it: a message up, one back, and so on, and a status at the end.
#[tokio::test]
async fn both_directions_stream_at_the_same_time_and_end_in_trailers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            stream.read_line(&mut line).await.unwrap();
        }
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        loop {
            line.clear();
            stream.read_line(&mut line).await.unwrap();
            let size = usize::from_str_radix(line.trim(), 16).unwrap();
            if size == 0 {
                break;
            }
            let mut chunk = vec![0; size + 2];
            stream.read_exact(&mut chunk).await.unwrap();
            let back = [format!("{size:x}\r\n").as_bytes(), &chunk].concat();
            stream.write_all(&back).await.unwrap();
        }
        stream
            .write_all(b"0\r\ngrpc-status: 0\r\n\r\n")
            .await
            .unwrap();
        stream.read_u8().await.ok();
    });
    let config = Config::new().one_worker().upstream_at("shop", &address, "");
    let gate = Gate::start(&config.route("shop", "path_prefix: /", "upstream: shop")).await;

    let stream = TcpStream::connect(gate.address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let driving = tokio::spawn(connection);
    let request = Request::post("http://shop.test/echo")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let (answer, mut up) = client.send_request(request, false).unwrap();
    up.send_data(Bytes::from_static(b"first"), false).unwrap();
    let answer = patiently("the head", answer).await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut down = answer.into_body();
    for word in ["first", "second", "third"] {
        if word != "first" {
            up.send_data(Bytes::from_static(word.as_bytes()), false)
                .unwrap();
        }
        let mut came = Vec::new();
        while came.len() < word.len() {
            came.extend(patiently("an echo", down.data()).await.unwrap().unwrap());
        }
        assert_eq!(came, word.as_bytes());
        down.flow_control().release_capacity(word.len()).unwrap();
    }
    up.send_data(Bytes::new(), true).unwrap();
    assert!(patiently("the end", down.data()).await.is_none());
    let trailers = patiently("trailers", down.trailers())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    driving.abort();
}

#[tokio::test]
async fn a_hundred_requests_at_a_time_are_all_answered() {
    let origin = Origin::start("a").await;
    let gate = Gate::start(&Config::cached(&[&origin])).await;
    let stream = TcpStream::connect(gate.address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let driving = tokio::spawn(connection);
    for round in 0..5 {
        let mut answers = Vec::new();
        for number in 0..100 {
            let uri = format!("http://shop.test/{round}/{number}");
            let request = Request::get(uri).body(()).unwrap();
            client = patiently("a stream", client.ready()).await.unwrap();
            answers.push(client.send_request(request, true).unwrap().0);
        }
        for answer in answers {
            let answer = patiently("an answer", answer).await.unwrap();
            assert_eq!(answer.status(), 200);
            let mut body = answer.into_body();
            let mut text = Vec::new();
            while let Some(data) = patiently("a body", body.data()).await {
                text.extend(data.unwrap());
            }
            assert_eq!(text, b"a");
        }
    }
    assert_eq!(origin.requests("*"), 500);
    driving.abort();
}
