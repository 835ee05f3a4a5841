//! HTTPS listeners.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::harness::{Client, Config, Gate, Origin, Request, patiently};

/// A certificate for `name` in `folder`, and itself for clients to trust.
fn certificate(folder: &Path, name: &str) -> CertificateDer<'static> {
    let pair = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    std::fs::write(folder.join(format!("{name}.pem")), pair.cert.pem()).unwrap();
    std::fs::write(
        folder.join(format!("{name}.key")),
        pair.signing_key.serialize_pem(),
    )
    .unwrap();
    pair.cert.der().clone()
}

async fn connect(
    address: SocketAddr,
    name: &str,
    trusted: &CertificateDer<'static>,
) -> std::io::Result<Client> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
    Ok(Client::over(patiently("a handshake", handshake).await?))
}

fn listener(names: &[&str]) -> String {
    let pair = |name: &&str| format!("{{ cert: {name}.pem, key: {name}.key }}");
    let pairs: Vec<String> = names.iter().map(pair).collect();
    format!(
        "address: 127.0.0.1:0, tls: {{ certificates: [{}] }}",
        pairs.join(", ")
    )
}

#[tokio::test]
async fn requests_over_tls_are_told_apart_and_their_cookies_are_secure() {
    let folder = TempDir::new().unwrap();
    let trusted = certificate(folder.path(), "shop.test");
    let origin = Origin::start("a").await;
    let config = Config::new()
        .only_listener(&listener(&["shop.test"]))
        .listener("address: 127.0.0.2:0")
        .upstream("shop", &[&origin], "sticky: {}")
        .route("shop", "path_prefix: /", "upstream: shop");
    let gate = Gate::start_in(folder, &config).await;

    let mut client = connect(gate.address, "shop.test", &trusted).await.unwrap();
    let answer = client.get("/p").await.expect(200);
    let (_, attributes) = answer.cookie("DAB_ROUTE").expect("a cookie");
    assert!(attributes.contains(&"Secure".to_owned()), "{attributes:?}");
    assert_eq!(origin.last("/p").all("x-forwarded-proto"), ["https"]);

    let big = vec![b'x'; 300_000];
    client
        .send(&Request::post("/big", big.clone()))
        .await
        .expect(200);
    assert!(origin.last("/big").body == big);

    let plain = Client::connect(gate.listeners[1])
        .await
        .get("/p")
        .await
        .expect(200);
    let (_, attributes) = plain.cookie("DAB_ROUTE").unwrap();
    assert!(!attributes.contains(&"Secure".to_owned()), "{attributes:?}");
    assert_eq!(origin.last("/p").all("x-forwarded-proto"), ["http"]);
}

#[tokio::test]
async fn the_certificate_is_chosen_by_name() {
    let folder = TempDir::new().unwrap();
    let one = certificate(folder.path(), "one.test");
    let two = certificate(folder.path(), "two.test");
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin]).only_listener(&listener(&["one.test", "two.test"]));
    let gate = Gate::start_in(folder, &config).await;

    for (name, trusted) in [("one.test", &one), ("two.test", &two)] {
        let mut client = connect(gate.address, name, trusted).await.unwrap();
        client.get("/").await.expect(200);
    }
    // The first one is for everybody else, and fits nobody else.
    assert!(connect(gate.address, "three.test", &one).await.is_err());
    gate.until(
        "headgate_connections_closed_total",
        &[("reason", "tls_handshake")],
        1.0,
    )
    .await;
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_cut_at_the_deadline_of_a_head() {
    let folder = TempDir::new().unwrap();
    let trusted = certificate(folder.path(), "shop.test");
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin])
        .only_listener(&listener(&["shop.test"]))
        .top("timeouts: { header: 200ms }");
    let gate = Gate::start_in(folder, &config).await;

    let mut silent = gate.client().await;
    let mut client = connect(gate.address, "shop.test", &trusted).await.unwrap();
    client.get("/").await.expect(200);

    silent.until_closed().await;
    gate.until(
        "headgate_connections_closed_total",
        &[("reason", "tls_timeout")],
        1.0,
    )
    .await;
}

#[tokio::test]
async fn a_reload_brings_new_certificates() {
    let folder = TempDir::new().unwrap();
    certificate(folder.path(), "shop.test");
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin]).only_listener(&listener(&["shop.test"]));
    let gate = Gate::start_in(folder, &config).await;

    let renewed = certificate(gate.path.parent().unwrap(), "shop.test");
    gate.hang_up(&config).await;
    let mut client = connect(gate.address, "shop.test", &renewed).await.unwrap();
    client.get("/").await.expect(200);

    // A key that does not belong to its certificate is not put into force.
    let other = rcgen::KeyPair::generate().unwrap();
    std::fs::write(gate.file("shop.test.key"), other.serialize_pem()).unwrap();
    let refused = gate.reload().await.expect(422);
    assert!(
        refused.text().contains("shop.test.key"),
        "{}",
        refused.text()
    );
    connect(gate.address, "shop.test", &renewed)
        .await
        .unwrap()
        .get("/")
        .await
        .expect(200);
}
