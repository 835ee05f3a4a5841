//! TLS towards endpoints.

use std::sync::Arc;

use parking_lot::Mutex;
use tempfile::TempDir;

use crate::harness::{Authority, Config, Conn, Gate, Server};

/// Answers each request with `ok`.
async fn serve(mut conn: Conn) {
    while conn.client.request().await.is_some() {
        conn.client
            .write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .await;
    }
}

fn errors(reason: &str) -> [(&'static str, String); 2] {
    [
        ("upstream", "shop".to_owned()),
        ("reason", reason.to_owned()),
    ]
}

async fn until_error(gate: &Gate, reason: &str) {
    let labels = errors(reason);
    let labels = labels
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    gate.until("headgate_upstream_errors_total", &labels, 1.0)
        .await;
}

#[tokio::test]
async fn requests_go_over_tls_that_is_verified_by_the_given_authority() {
    let folder = TempDir::new().unwrap();
    let authority = Authority::new("ca");
    authority.write(&folder.path().join("ca.pem"));
    let agreed = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&agreed);
    let protocols = ["h2", "http/1.1"];
    let server = Server::tls(authority.server("shop.internal", &protocols, false), {
        move |conn: Conn| {
            seen.lock().extend(conn.tls.clone());
            serve(conn)
        }
    })
    .await;
    let tls = "tls: { ca: ca.pem, server_name: shop.internal }, max_idle: 0";
    let config = Config::to_endpoints(&server.address().to_string(), tls).one_worker();
    let gate = Gate::start_in(folder, &config).await;

    for _ in 0..3 {
        assert_eq!(gate.get("/p").await.expect(200).text(), "ok");
    }

    let agreed = agreed.lock();
    assert_eq!(agreed.len(), 3, "a connection each");
    for one in agreed.iter() {
        assert_eq!(one.name.as_deref(), Some("shop.internal"));
        assert_eq!(one.protocol.as_deref(), Some(&b"http/1.1"[..]));
        assert!(!one.certified);
    }
    assert!(!agreed[0].resumed && agreed[2].resumed, "{agreed:?}");
}

#[tokio::test]
async fn connections_over_tls_are_kept() {
    let folder = TempDir::new().unwrap();
    let authority = Authority::new("ca");
    authority.write(&folder.path().join("ca.pem"));
    let config = authority.server("127.0.0.1", &[], false);
    let server = Server::tls(config, serve).await;
    let config =
        Config::to_endpoints(&server.address().to_string(), "tls: { ca: ca.pem }").one_worker();
    let gate = Gate::start_in(folder, &config).await;

    // By its address, since it has no name.
    for _ in 0..5 {
        gate.get("/p").await.expect(200);
    }

    assert_eq!(server.accepted(), 1);
    // A reload that changes nothing keeps them too.
    gate.reload().await.expect(200);
    gate.get("/p").await.expect(200);
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn a_certificate_that_is_not_accepted_is_a_bad_gateway_and_nothing_arrives() {
    let folder = TempDir::new().unwrap();
    let (authority, other) = (Authority::new("ca"), Authority::new("ca"));
    authority.write(&folder.path().join("ca.pem"));
    other.write(&folder.path().join("other.pem"));
    let config = authority.server("shop.internal", &[], false);
    let server = Server::tls(config, |_| async { panic!("nobody may come through") }).await;
    let endpoint = server.address().to_string();
    let gate = Gate::start_in(
        folder,
        &Config::new()
            .upstream_at(
                "shop",
                &endpoint,
                "tls: { ca: ca.pem, server_name: other.internal }",
            )
            .upstream_at(
                "else",
                &endpoint,
                "tls: { ca: other.pem, server_name: shop.internal }",
            )
            .route("name", "path_prefix: /name", "upstream: shop")
            .route("authority", "path_prefix: /authority", "upstream: else"),
    )
    .await;

    gate.get("/name").await.problem(502);
    gate.get("/authority").await.problem(502);

    until_error(&gate, "tls_certificate_error").await;
    let all = [("reason", "tls_certificate_error")];
    gate.until("headgate_upstream_errors_total", &all, 2.0)
        .await;
    let line = gate.log("TLS to an endpoint failed").await;
    assert_eq!(line["reason"], "tls_certificate_error", "{line}");
    assert_eq!(line["endpoint"], endpoint, "{line}");
    let cause = line["cause"].as_str().unwrap();
    assert!(cause.contains("certificate"), "{line}");
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_told_of_once_with_the_reason() {
    // Nobody listens on a port that was given back, and it is not given out again soon.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = taken.local_addr().unwrap().to_string();
    drop(taken);
    let gate = Gate::start(&Config::to_endpoints(&endpoint, "").one_worker()).await;

    for _ in 0..5 {
        gate.get("/").await.problem(502);
    }

    let line = gate.log("an endpoint cannot be reached").await;
    assert_eq!(line["upstream"], "shop", "{line}");
    assert_eq!(line["endpoint"], endpoint, "{line}");
    assert_eq!(line["reason"], "connection_refused", "{line}");
    let cause = line["cause"].as_str().unwrap();
    assert!(cause.contains("Connection refused"), "{line}");
    let all = [("reason", "connection_refused")];
    gate.until("headgate_upstream_errors_total", &all, 5.0)
        .await;
    assert_eq!(gate.logged("an endpoint cannot be reached"), 1);
}

#[tokio::test]
async fn verification_that_is_switched_off_is_warned_about() {
    let authority = Authority::new("ca");
    let server = Server::tls(authority.server("whoever", &[], false), serve).await;
    let config = Config::to_endpoints(&server.address().to_string(), "tls: { verify: false }");
    let gate = Gate::start(&config).await;

    gate.log("not verified").await;
    gate.get("/p").await.expect(200);
}

#[tokio::test]
async fn an_endpoint_that_asks_who_we_are_is_shown_our_certificate() {
    let folder = TempDir::new().unwrap();
    let authority = Authority::new("ca");
    authority.write(&folder.path().join("ca.pem"));
    authority
        .issue(&["headgate"], 2040)
        .write(folder.path(), "me");
    let config = authority.server("127.0.0.1", &[], true);
    let server = Server::tls(config, |conn: Conn| {
        assert!(conn.tls.as_ref().is_some_and(|tls| tls.certified));
        serve(conn)
    })
    .await;
    let endpoint = server.address().to_string();
    let gate = Gate::start_in(
        folder,
        &Config::new()
            .upstream_at("shop", &endpoint, "tls: { ca: ca.pem }")
            .upstream_at(
                "else",
                &endpoint,
                "tls: { ca: ca.pem, cert: me.pem, key: me.key }",
            )
            .route("unknown", "path_prefix: /unknown", "upstream: shop")
            .route("known", "path_prefix: /known", "upstream: else"),
    )
    .await;

    gate.get("/known").await.expect(200);
    gate.get("/unknown").await.problem(502);
    until_error(&gate, "tls_alert_received").await;
}

#[tokio::test]
async fn plaintext_where_tls_is_expected_is_a_bad_gateway_and_no_request_is_seen() {
    let folder = TempDir::new().unwrap();
    Authority::new("ca").write(&folder.path().join("ca.pem"));
    let sent = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&sent);
    let server = Server::start(move |mut conn: Conn| {
        let seen = Arc::clone(&seen);
        async move {
            conn.client
                .write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
                .await;
            let more = conn.client.until_closed().await;
            seen.lock().extend(more);
        }
    })
    .await;
    let config = Config::to_endpoints(&server.address().to_string(), "tls: { ca: ca.pem }");
    let gate = Gate::start_in(folder, &config).await;

    gate.get("/secret").await.problem(502);

    until_error(&gate, "tls_protocol_error").await;
    let sent = sent.lock();
    assert!(!sent.windows(7).any(|window| window == b"/secret"));
}

#[tokio::test]
async fn health_checks_go_over_tls_too() {
    let folder = TempDir::new().unwrap();
    let authority = Authority::new("ca");
    authority.write(&folder.path().join("ca.pem"));
    let server = Server::tls(authority.server("127.0.0.1", &["http/1.1"], false), serve).await;
    let check = "health_check: { interval: 100ms, unhealthy_threshold: 1, healthy_threshold: 1 }";
    let endpoint = server.address().to_string();
    let gate = Gate::start_in(
        folder,
        &Config::to_endpoints(&endpoint, &format!("tls: {{ ca: ca.pem }}, {check}"))
            // Without TLS the same server is down.
            .upstream_at("plain", &endpoint, check)
            .route("plain", "path_prefix: /plain", "upstream: plain"),
    )
    .await;

    gate.until_endpoint("plain", server.address(), "down").await;
    gate.until_endpoint("shop", server.address(), "up").await;
    let passed = [("upstream", "shop"), ("result", "passed")];
    assert!(
        gate.metrics()
            .await
            .sum("headgate_health_checks_total", &passed)
            >= 1.0
    );
}

#[tokio::test]
async fn a_reload_with_a_file_of_no_use_changes_nothing_and_names_its_key() {
    let folder = TempDir::new().unwrap();
    let authority = Authority::new("ca");
    authority.write(&folder.path().join("ca.pem"));
    let server = Server::tls(authority.server("127.0.0.1", &[], false), serve).await;
    let config = Config::to_endpoints(&server.address().to_string(), "tls: { ca: ca.pem }");
    let gate = Gate::start_in(folder, &config).await;

    std::fs::write(gate.file("ca.pem"), "no certificate").unwrap();
    let refused = gate.reload().await.expect(422);

    // The place of the key in the file, and the line itself.
    for part in [
        "error: upstream shop: `tls.ca`: cannot use",
        "gate.yaml:7:",
        "tls: { ca: ca.pem }",
        "^^^^^^",
    ] {
        let text = refused.text().replace("\\n", "\n");
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    gate.get("/p").await.expect(200);
}
