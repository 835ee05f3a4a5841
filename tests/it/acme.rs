//! Certificates that are obtained and renewed by themselves, from a CA of the harness.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::harness::{Ca, Client, Config, Gate, Origin, Process, eventually, patiently};

const PLAIN: &str = "address: 127.0.0.1:0";
const TLS: &str = "address: 127.0.0.2:0, tls: { acme: true }";

/// What outlives a gate: its state, and the CA's root.
struct Home(TempDir);

impl Home {
    fn new(ca: &Ca) -> Self {
        let home = TempDir::new().unwrap();
        std::fs::write(home.path().join("root.pem"), ca.root_pem()).unwrap();
        Self(home)
    }

    fn state(&self) -> PathBuf {
        self.0.path().join("state")
    }

    /// `acme` for these domains; `more` is further keys.
    fn acme(&self, directory: &str, domains: &str, more: &str) -> String {
        format!(
            "acme: {{ domains: [{domains}], state: {}, ca: {}, directory: \"{directory}\", terms_agreed: true{more} }}",
            self.state().display(),
            self.0.path().join("root.pem").display(),
        )
    }

    fn config(&self, ca: &Ca, origin: &Origin, domains: &str, more: &str) -> Config {
        Config::to(&[origin])
            .only_listener(PLAIN)
            .listener(TLS)
            .top(&self.acme(&ca.directory(), domains, more))
    }

    /// Files of the state, by the ends of their names.
    fn files(&self, end: &str) -> Vec<PathBuf> {
        let folders = std::fs::read_dir(self.state()).into_iter().flatten();
        let files = folders.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
        let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
        files.retain(|file| file.to_str().unwrap().ends_with(end));
        files.sort();
        files
    }
}

/// A connection, and the certificate that was shown.
async fn connect(
    at: SocketAddr,
    name: &str,
    ca: &Ca,
) -> std::io::Result<(Client, CertificateDer<'static>)> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.root()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(at).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let stream = patiently("a handshake", handshake).await?;
    let leaf = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    Ok((Client::over(stream), leaf.into_owned()))
}

/// Waits until a certificate for this name is served, and asks for something under it.
async fn served(gate: &Gate, at: SocketAddr, name: &str, ca: &Ca) -> CertificateDer<'static> {
    let what = format!("a certificate for {name} is served");
    let (mut client, leaf) = eventually(&what, async || {
        let broken = gate.logged("panicked");
        assert_eq!(broken, 0);
        connect(at, name, ca).await.ok()
    })
    .await;
    client.get("/p").await.expect(200);
    leaf
}

async fn orders(gate: &Gate, name: &str, result: &str) -> f64 {
    let labels = [("certificate", name), ("result", result)];
    gate.metrics()
        .await
        .sum("headgate_acme_orders_total", &labels)
}

#[tokio::test]
async fn a_certificate_is_obtained_by_http_01_and_served_by_the_next_handshake() {
    let (ca, origin) = (Ca::start().await, Origin::start("a").await);
    let home = Home::new(&ca);
    let config = home.config(
        &ca,
        &origin,
        "shop.test",
        ", contact: [\"mailto:ops@shop.test\"]",
    );
    let gate = Gate::start(&config).await;
    let tls = gate.listeners[1];

    // It serves before the CA has done anything, and nobody is shown what is not there.
    gate.look("/readyz").await.expect(200);
    gate.get("/p").await.expect(200);
    assert!(connect(tls, "shop.test", &ca).await.is_err());
    let label = [("certificate", "shop.test")];
    assert!(!gate.metrics().await.has(
        "headgate_tls_certificate_not_after_timestamp_seconds",
        &label
    ));

    // While the CA waits to validate, the token is there, on plaintext alone, for no other path.
    let token = eventually("a challenge is on its way", async || {
        let asked = ca.requests("challenge") > 0;
        asked.then(|| ca.tokens().pop().unwrap())
    })
    .await;
    let path = format!("/.well-known/acme-challenge/{token}");
    let shown = gate.get(&path).await.expect(200);
    assert!(
        shown.text().starts_with(&format!("{token}.")),
        "{}",
        shown.text()
    );
    assert_eq!(origin.requests(&path), 0);
    let unknown = "/.well-known/acme-challenge/unknown";
    gate.get(unknown).await.expect(200);
    assert_eq!(
        origin.requests(unknown),
        1,
        "other tokens are the endpoints' own"
    );

    ca.domains_are_at(gate.address);
    served(&gate, tls, "shop.test", &ca).await;
    assert_eq!(ca.orders()[0].names, ["shop.test"]);
    assert_eq!(ca.contacts(), [serde_json::json!(["mailto:ops@shop.test"])]);
    gate.until("headgate_acme_orders_total", &[("result", "success")], 1.0)
        .await;
    assert_eq!(orders(&gate, "shop.test", "failure").await, 0.0);
    gate.until("headgate_acme_last_order_successful", &label, 1.0)
        .await;
    let metrics = gate.metrics().await;
    let ends = metrics.sum(
        "headgate_tls_certificate_not_after_timestamp_seconds",
        &label,
    );
    assert!(ends > now() + 80.0 * 86_400.0, "{ends}");

    // What has been proven is not shown any longer.
    gate.get(&path).await.expect(200);
    assert_eq!(origin.requests(&path), 1);
}

#[tokio::test]
async fn a_certificate_is_obtained_by_tls_alpn_01_without_any_plaintext_listener() {
    let (ca, origin) = (Ca::start().await, Origin::start("a").await);
    let home = Home::new(&ca);
    let more = ", challenge: tls-alpn-01";
    let config = home
        .config(&ca, &origin, "shop.test, www.shop.test", more)
        .only_listener(TLS);
    let gate = Gate::start(&config).await;
    ca.domains_are_at(gate.address);

    let one = served(&gate, gate.address, "shop.test", &ca).await;
    let two = served(&gate, gate.address, "www.shop.test", &ca).await;
    assert_ne!(one, two, "each domain has a certificate of its own");
    assert_eq!(ca.orders().len(), 2);
    // Another client is never shown what proves control.
    let (_, again) = connect(gate.address, "shop.test", &ca).await.unwrap();
    assert_eq!(again, one);
}

#[tokio::test]
async fn names_that_share_a_certificate_are_proven_together() {
    let (ca, origin) = (Ca::start().await, Origin::start("a").await);
    let home = Home::new(&ca);
    let acme = home.acme(&ca.directory(), "", "");
    let acme = acme.replace(
        "domains: []",
        "certificates: [{ domains: [a.test, b.test] }]",
    );
    let config = Config::to(&[&origin]).listener(TLS).top(&acme);
    let gate = Gate::start(&config).await;
    ca.domains_are_at(gate.address);

    let one = served(&gate, gate.listeners[1], "a.test", &ca).await;
    let two = served(&gate, gate.listeners[1], "b.test", &ca).await;
    assert_eq!(one, two);
    assert_eq!(ca.orders().len(), 1);
}

#[tokio::test]
async fn a_restart_serves_what_is_kept_and_orders_nothing() {
    let (ca, origin) = (Ca::start().await, Origin::start("a").await);
    let home = Home::new(&ca);
    let config = home.config(&ca, &origin, "shop.test", "");
    let mut gate = Gate::start(&config).await;
    ca.domains_are_at(gate.address);
    let before = served(&gate, gate.listeners[1], "shop.test", &ca).await;
    gate.stop().await;
    for end in [".pem", "account.json"] {
        let [file] = &home.files(end)[..] else {
            panic!("{:?}", home.files(""));
        };
        assert_eq!(mode(file), 0o600, "{}", file.display());
        assert_eq!(mode(file.parent().unwrap()), 0o700);
    }

    let windows = ca.requests("renewal");
    let gate = Gate::start(&config).await;
    // From the first handshake on.
    let (_, after) = connect(gate.listeners[1], "shop.test", &ca).await.unwrap();
    assert_eq!(before, after);
    eventually("the CA is asked when to renew", async || {
        (ca.requests("renewal") > windows).then_some(())
    })
    .await;
    assert_eq!(ca.orders().len(), 1);
    assert_eq!(ca.requests("new-account"), 1);
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_window_in_the_past_renews_without_a_reload() {
    let (ca, origin) = (Ca::start().await, Origin::start("a").await);
    let home = Home::new(&ca);
    let windows = ca.hold_windows();
    ca.suggest_to_renew(1);
    let gate = Gate::start(&home.config(&ca, &origin, "shop.test", "")).await;
    ca.domains_are_at(gate.address);
    let tls = gate.listeners[1];
    let before = served(&gate, tls, "shop.test", &ca).await;

    windows.open();
    eventually("another certificate is served", async || {
        let (_, now) = connect(tls, "shop.test", &ca).await.unwrap();
        (now != before).then_some(())
    })
    .await;
    let orders = ca.orders();
    assert_eq!(orders.len(), 2);
    assert_eq!(orders[0].replaces, None);
    assert_eq!(orders[1].replaces.as_ref(), Some(&ca.issued()[0]));
    assert_eq!(gate.generation().await, 1);
    // The next one is for the window of the new certificate, which begins in a month.
    let month = eventually("the next order is planned for the window", async || {
        let at = gate
            .metrics()
            .await
            .sum("headgate_acme_next_order_timestamp_seconds", &[]);
        (at < now() + 33.0 * 86_400.0).then_some(at)
    })
    .await;
    assert!(month > now() + 29.0 * 86_400.0, "{month}");
}

/// Seconds since the epoch.
fn now() -> f64 {
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    now as f64
}

#[tokio::test]
async fn a_failing_ca_leaves_the_old_certificate_in_use_and_is_left_alone_for_as_long_as_it_asks() {
    let (ca, origin) = (Ca::start().await, Origin::start("a").await);
    let home = Home::new(&ca);
    let windows = ca.hold_windows();
    ca.suggest_to_renew(1);
    let config = home.config(&ca, &origin, "shop.test", "");
    let gate = Gate::start(&config).await;
    ca.domains_are_at(gate.address);
    let tls = gate.listeners[1];
    let before = served(&gate, tls, "shop.test", &ca).await;

    ca.refuse("new-order", 429, "rateLimited", Some(7200));
    windows.open();
    gate.until("headgate_acme_orders_total", &[("result", "failure")], 1.0)
        .await;
    let label = [("certificate", "shop.test")];
    let metrics = gate.metrics().await;
    assert_eq!(
        metrics.sum("headgate_acme_last_order_successful", &label),
        0.0
    );
    let next = metrics.sum("headgate_acme_next_order_timestamp_seconds", &label);
    assert!(next > now() + 7000.0 && next < now() + 8000.0, "{next}");
    let line = gate.log("not renewed").await;
    assert!(line.to_string().contains("rateLimited"), "{line}");

    // Not even a reload makes it ask again before that.
    gate.hang_up(&config).await;
    let metrics = gate.metrics().await;
    assert_eq!(
        metrics.sum("headgate_acme_next_order_timestamp_seconds", &label),
        next
    );
    let (_, after) = connect(tls, "shop.test", &ca).await.unwrap();
    assert_eq!(before, after);
    assert_eq!(ca.orders().len(), 1);
}

#[tokio::test]
async fn a_challenge_that_fails_is_told_and_a_reload_tries_again() {
    let (ca, origin) = (Ca::start().await, Origin::start("a").await);
    let home = Home::new(&ca);
    // The domain leads elsewhere.
    ca.domains_are_at(origin.address());
    let config = home.config(&ca, &origin, "shop.test", "");
    let gate = Gate::start(&config).await;
    let line = gate.log("certificate not obtained").await.to_string();
    assert!(line.contains("shop.test: http-01 failed"), "{line}");
    assert!(line.contains("/.well-known/acme-challenge/"), "{line}");
    assert_eq!(orders(&gate, "shop.test", "failure").await, 1.0);
    assert!(connect(gate.listeners[1], "shop.test", &ca).await.is_err());

    ca.domains_are_at(gate.address);
    gate.hang_up(&config).await;
    served(&gate, gate.listeners[1], "shop.test", &ca).await;
    gate.until("headgate_acme_orders_total", &[("result", "success")], 1.0)
        .await;
}

#[tokio::test]
async fn a_nonce_that_is_refused_is_no_failure() {
    let (ca, origin) = (Ca::start().await, Origin::start("a").await);
    let home = Home::new(&ca);
    for endpoint in ["new-account", "new-order", "finalize"] {
        ca.refuse(endpoint, 400, "badNonce", None);
    }
    let gate = Gate::start(&home.config(&ca, &origin, "shop.test", "")).await;
    ca.domains_are_at(gate.address);
    served(&gate, gate.listeners[1], "shop.test", &ca).await;
    assert_eq!(orders(&gate, "shop.test", "failure").await, 0.0);
}

#[tokio::test]
async fn an_account_that_the_ca_has_lost_is_made_anew() {
    let (ca, origin) = (Ca::start().await, Origin::start("a").await);
    let home = Home::new(&ca);
    ca.refuse("new-order", 400, "accountDoesNotExist", None);
    let gate = Gate::start(&home.config(&ca, &origin, "shop.test", "")).await;
    ca.domains_are_at(gate.address);
    served(&gate, gate.listeners[1], "shop.test", &ca).await;
    assert_eq!(ca.contacts().len(), 2);
    assert_eq!(orders(&gate, "shop.test", "failure").await, 0.0);
}

#[tokio::test]
async fn another_directory_has_a_folder_of_its_own_and_the_old_certificate_stays_until_then() {
    let (ca, origin) = (Ca::start().await, Origin::start("a").await);
    let home = Home::new(&ca);
    let config = home.config(&ca, &origin, "shop.test", "");
    let gate = Gate::start(&config).await;
    ca.domains_are_at(gate.address);
    let tls = gate.listeners[1];
    let before = served(&gate, tls, "shop.test", &ca).await;

    ca.refuse("new-order", 403, "unauthorized", None);
    let other = Config::to(&[&origin]).listener(TLS).top(&home.acme(
        &ca.other_directory(),
        "shop.test",
        "",
    ));
    gate.hang_up(&other).await;
    gate.until("headgate_acme_orders_total", &[("result", "failure")], 1.0)
        .await;
    let (_, still) = connect(tls, "shop.test", &ca).await.unwrap();
    assert_eq!(before, still, "a failed order changes nothing");

    gate.hang_up(&other).await;
    let after = eventually("another certificate is served", async || {
        let (_, now) = connect(tls, "shop.test", &ca).await.unwrap();
        (now != before).then_some(now)
    })
    .await;
    assert_eq!(home.files("account.json").len(), 2);
    assert_eq!(home.files(".pem").len(), 2);

    // And back: nothing is ordered, what is kept serves.
    gate.hang_up(&config).await;
    let (_, back) = connect(tls, "shop.test", &ca).await.unwrap();
    assert_eq!(back, before);
    assert_ne!(back, after);
    assert_eq!(ca.orders().len(), 2);
}

#[tokio::test]
async fn a_reload_adds_and_removes_domains() {
    let (ca, origin) = (Ca::start().await, Origin::start("a").await);
    let home = Home::new(&ca);
    let gate = Gate::start(&home.config(&ca, &origin, "one.test", "")).await;
    ca.domains_are_at(gate.address);
    let tls = gate.listeners[1];
    let one = served(&gate, tls, "one.test", &ca).await;

    gate.hang_up(&home.config(&ca, &origin, "one.test, two.test", ""))
        .await;
    served(&gate, tls, "two.test", &ca).await;
    let (_, still) = connect(tls, "one.test", &ca).await.unwrap();
    assert_eq!(one, still);
    let names: Vec<_> = ca
        .orders()
        .into_iter()
        .flat_map(|order| order.names)
        .collect();
    assert_eq!(names, ["one.test", "two.test"]);

    gate.hang_up(&home.config(&ca, &origin, "two.test", ""))
        .await;
    assert!(connect(tls, "one.test", &ca).await.is_err());
    connect(tls, "two.test", &ca).await.unwrap();
    let metrics = gate.metrics().await;
    assert!(!metrics.has("headgate_acme_orders_total", &[("certificate", "one.test")]));
    assert_eq!(home.files(".pem").len(), 2, "files are kept");

    gate.hang_up(&home.config(&ca, &origin, "one.test, two.test", ""))
        .await;
    let (_, kept) = connect(tls, "one.test", &ca).await.unwrap();
    assert_eq!(kept, one);
    assert_eq!(ca.orders().len(), 2);
}

#[tokio::test]
async fn an_order_on_its_way_outlives_a_reload() {
    let (ca, origin) = (Ca::start().await, Origin::start("a").await);
    let home = Home::new(&ca);
    let config = home.config(&ca, &origin, "shop.test", "");
    let gate = Gate::start(&config).await;
    eventually("a challenge is on its way", async || {
        (ca.requests("challenge") > 0).then_some(())
    })
    .await;
    gate.hang_up(&home.config(&ca, &origin, "shop.test, two.test", ""))
        .await;
    ca.domains_are_at(gate.address);
    served(&gate, gate.listeners[1], "shop.test", &ca).await;
    served(&gate, gate.listeners[1], "two.test", &ca).await;
    assert_eq!(ca.orders().len(), 2);
}

#[tokio::test]
async fn broken_state_is_reported_and_obtained_again() {
    let (ca, origin) = (Ca::start().await, Origin::start("a").await);
    let home = Home::new(&ca);
    let config = home.config(&ca, &origin, "shop.test", "");
    let mut gate = Gate::start(&config).await;
    ca.domains_are_at(gate.address);
    let before = served(&gate, gate.listeners[1], "shop.test", &ca).await;
    gate.stop().await;

    let [pem] = &home.files(".pem")[..] else {
        panic!("{:?}", home.files(""));
    };
    let text = std::fs::read_to_string(pem).unwrap();
    std::fs::write(pem, &text[..text.len() / 3]).unwrap();
    std::fs::write(&home.files("account.json")[0], "{}").unwrap();
    let gate = Gate::start(&config).await;
    ca.domains_are_at(gate.address);
    gate.log("a kept certificate is broken").await;
    gate.log("the ACME account cannot be read").await;
    let after = served(&gate, gate.listeners[1], "shop.test", &ca).await;
    assert_ne!(before, after);
    assert_eq!(home.files(".bad").len(), 2);
    assert_eq!(ca.contacts().len(), 2);
}

#[tokio::test]
async fn an_account_is_bound_to_one_that_the_ca_knows() {
    let (ca, origin) = (Ca::start().await, Origin::start("a").await);
    let home = Home::new(&ca);
    ca.require_external_account("kid-1", &[0xfb; 32]);
    let key = home.0.path().join("hmac.key");
    std::fs::write(&key, "-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s\n").unwrap();
    let more = format!(
        ", external_account: {{ key_id: kid-1, hmac_key_file: {} }}",
        key.display()
    );
    let gate = Gate::start(&home.config(&ca, &origin, "shop.test", &more)).await;
    ca.domains_are_at(gate.address);
    served(&gate, gate.listeners[1], "shop.test", &ca).await;
}

#[tokio::test]
async fn a_ca_that_is_not_trusted_gets_nothing_and_one_that_is_away_stops_nobody() {
    let (ca, stranger) = (Ca::start().await, Ca::start().await);
    let origin = Origin::start("a").await;
    // The root of another CA.
    let home = Home::new(&stranger);
    let gate = Gate::start(&home.config(&ca, &origin, "shop.test", "")).await;
    let line = gate.log("certificate not obtained").await.to_string();
    assert!(line.contains("cannot reach 127.0.0.1"), "{line}");
    assert_eq!(ca.requests(""), 0);
    gate.get("/p").await.expect(200);
    gate.look("/readyz").await.expect(200);
}

#[tokio::test]
async fn checking_a_config_asks_nobody() {
    let (ca, origin) = (Ca::start().await, Origin::start("a").await);
    let home = Home::new(&ca);
    let path = home.0.path().join("gate.yaml");
    std::fs::write(&path, home.config(&ca, &origin, "shop.test", "").text()).unwrap();
    let mut check = Process::start(["check", "-c", path.to_str().unwrap()], home.0.path());
    assert!(check.end().await.success(), "{:?}", check.errors());
    assert_eq!(ca.requests(""), 0);
    assert!(!home.state().exists());
}
