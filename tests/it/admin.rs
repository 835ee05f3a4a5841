//! What operators see and may do.

use serde_json::json;

use crate::harness::{Client, Config, Gate, Origin, Reply, Request};

#[tokio::test]
async fn metrics_are_in_the_format_and_count_what_happened() {
    let origin = Origin::start("a")
        .await
        .on("/missing", |_| Reply::new(404).body("no"));
    let config = Config::new()
        .upstream("shop", &[&origin], "")
        .route(
            "cached",
            "path: /c",
            "upstream: shop, cache: { default_ttl: 1h }",
        )
        .route("plain", "path_prefix: /", "upstream: shop");
    let gate = Gate::start(&config).await;

    for _ in 0..3 {
        gate.get("/c").await.expect(200);
    }
    gate.get("/").await.expect(200);
    gate.send(&Request::post("/", "x")).await.expect(200);
    gate.get("/missing").await.expect(404);
    gate.until("headgate_http_requests_total", &[], 6.0).await;

    let metrics = gate.metrics().await;
    for (series, value) in [
        (
            "headgate_http_requests_total{route=cached,method=GET,code=200}",
            3,
        ),
        (
            "headgate_http_requests_total{route=plain,method=GET,code=200}",
            1,
        ),
        (
            "headgate_http_requests_total{route=plain,method=POST,code=200}",
            1,
        ),
        (
            "headgate_http_requests_total{route=plain,method=GET,code=404}",
            1,
        ),
        (
            "headgate_http_request_duration_seconds_count{route=cached}",
            3,
        ),
        (
            "headgate_http_request_duration_seconds_bucket{route=plain,le=+Inf}",
            3,
        ),
        ("headgate_http_response_bytes_total{route=cached}", 3),
        ("headgate_http_in_flight_requests", 0),
        (
            "headgate_upstream_request_duration_seconds_count{upstream=shop}",
            4,
        ),
        ("headgate_upstream_endpoint_up{upstream=shop}", 1),
        ("headgate_cache_requests_total{route=cached,result=miss}", 1),
        ("headgate_cache_requests_total{route=cached,result=hit}", 2),
        ("headgate_config_generation", 1),
        ("headgate_workers", 2),
        ("headgate_panics_total", 0),
    ] {
        assert_eq!(
            metrics.total(series).to_string(),
            value.to_string(),
            "{series}"
        );
    }
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    assert!(metrics.has("headgate_build_info", &version));
    assert_eq!(
        metrics.families["headgate_http_request_duration_seconds"],
        "histogram"
    );
    assert!(metrics.sum("headgate_cache_bytes", &[]) > 0.0);
    assert!(metrics.sum("headgate_connections_total", &[]) >= 6.0);
    assert!(metrics.sum("process_resident_memory_bytes", &[]) > 1e6);
}

#[tokio::test]
async fn labels_never_come_from_a_request() {
    let origin = Origin::start("a").await;
    let gate = Gate::start(&Config::to(&[&origin])).await;

    for number in 0..50 {
        let method = format!("M{number}");
        let request =
            Request::new(&method, &format!("/{number}")).header("host", &format!("h{number}"));
        gate.send(&request).await.expect(200);
    }
    gate.until(
        "headgate_http_requests_total",
        &[("method", "_OTHER")],
        50.0,
    )
    .await;

    let text = gate.look("/metrics").await.expect(200).text().to_owned();
    assert!(!text.contains("M49") && !text.contains("h49"));
}

#[tokio::test]
async fn the_process_says_that_it_lives_and_is_ready() {
    let origin = Origin::start("a").await;
    let gate = Gate::start(&Config::to(&[&origin])).await;

    assert_eq!(gate.look("/livez").await.expect(200).text(), "ok\n");
    assert_eq!(gate.look("/readyz").await.expect(200).text(), "ready\n");
    let head = gate.ask(&Request::new("HEAD", "/readyz")).await.expect(200);
    assert_eq!(head.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn probes_are_answered_beside_a_hundred_clients_that_hang() {
    let origin = Origin::start("a").await;
    let gate = Gate::start(&Config::to(&[&origin])).await;
    let mut stuck = Vec::new();
    for _ in 0..100 {
        let mut client = Client::connect(gate.admin).await;
        client.write("GET /livez HTTP/1.1\r\n").await;
        stuck.push(client);
    }

    gate.look("/livez").await.expect(200);
    gate.look("/metrics").await.expect(200);
    // Not because the deadline had made room.
    for client in &mut stuck {
        client.write("host: localhost\r\n\r\n").await;
        client.answer().await.expect(200);
    }
}

#[tokio::test]
async fn the_config_is_shown_without_its_secrets() {
    let origin = Origin::start("a").await;
    let secret = "5ecret-5ecret-5ecret-5ecret";
    let config = Config::new()
        .upstream("shop", &[&origin], &format!("sticky: {{ key: {secret} }}"))
        .route("shop", "path_prefix: /", "upstream: shop");
    let gate = Gate::start(&config).await;

    let answer = gate.look("/api/config").await.expect(200);

    assert!(!answer.text().contains("5ecret"), "{}", answer.text());
    let state = answer.json();
    assert_eq!(state["file"], gate.path.to_str().unwrap());
    assert_eq!(state["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(state["config"]["workers"], 2);
    assert_eq!(state["config"]["routes"][0]["name"], "shop");
    assert!(state["config"]["upstreams"]["shop"]["sticky"]["key"].is_string());
    // Nor does a broken file show them.
    gate.write(&config.text().replace("path_prefix", "path_prefx"));
    let refused = gate.reload().await.expect(422);
    assert!(!refused.text().contains("5ecret"), "{}", refused.text());
    assert!(!gate.look("/api/config").await.text().contains("5ecret"));
    assert_eq!(gate.logged("5ecret"), 0);
}

#[tokio::test]
async fn endpoints_are_shown_with_what_is_known_of_them() {
    let origin = Origin::start("a").await;
    let endpoints = format!("{{ address: '{}', weight: 7 }}", origin.address());
    let config = Config::new()
        .upstream_at(
            "shop",
            &endpoints,
            "health_check: { interval: 1h, timeout: 1s }",
        )
        .route("shop", "path_prefix: /", "upstream: shop");
    let gate = Gate::start(&config).await;
    gate.until("headgate_health_checks_total", &[("result", "passed")], 1.0)
        .await;

    let endpoint = gate.endpoint("shop", origin.address()).await;

    assert_eq!(
        (&endpoint["state"], &endpoint["weight"]),
        (&json!("up"), &json!(7))
    );
    assert_eq!(
        (&endpoint["in_flight"], &endpoint["reason"]),
        (&json!(0), &json!(null))
    );
    assert_eq!(endpoint["last_check"]["error"], json!(null));
    assert!(endpoint["last_check"]["seconds"].as_f64().unwrap() > 0.0);
}

#[tokio::test]
async fn a_page_of_another_site_cannot_set_off_a_reload() {
    let origin = Origin::start("a").await;
    let gate = Gate::start(&Config::to(&[&origin])).await;
    let at = |host: &str| Request::new("POST", "/api/reload").header("host", host);
    let reload = || at("127.0.0.1:9900");

    for request in [
        // A name can be made to lead here, and is then its own site.
        at("evil.test:9900").header("origin", "http://evil.test:9900"),
        at("evil.test:9900").header("sec-fetch-site", "same-origin"),
        reload().header("sec-fetch-site", "cross-site"),
        reload().header("sec-fetch-site", "same-site"),
        reload().header("origin", "http://evil.test"),
        reload().header("origin", "null"),
    ] {
        gate.ask(&request).await.expect(403);
    }
    assert_eq!(gate.generation().await, 1);

    let own = reload()
        .header("origin", "http://127.0.0.1:9900")
        .header("sec-fetch-site", "same-origin");
    gate.ask(&own).await.expect(200);
    assert_eq!(gate.generation().await, 2);
}

#[tokio::test]
async fn a_name_that_was_made_to_lead_here_learns_nothing() {
    let origin = Origin::start("a").await;
    let config = |hosts: &str| {
        let text = Config::to(&[&origin]).text();
        text.replace("admin: { ", &format!("admin: {{ hosts: [{hosts}], "))
    };
    let gate = Gate::start(&Config::to(&[&origin])).await;
    let at = |host: &str| Request::get("/api/config").header("host", host);

    for host in ["evil.test", "evil.test:9900", "ops.test"] {
        let refused = gate.ask(&at(host)).await.expect(403);
        assert!(!refused.text().contains("upstreams"), "{}", refused.text());
    }
    for path in ["/metrics", "/livez", "/readyz"] {
        let by_name = Request::get(path).header("host", "headgate:9900");
        gate.ask(&by_name).await.expect(200);
    }
    for host in ["127.0.0.1", "localhost:1", "[::1]:9900"] {
        gate.ask(&at(host)).await.expect(200);
    }
    gate.write(&config("ops.test"));
    gate.reload().await.expect(200);
    gate.ask(&at("Ops.test:9900")).await.expect(200);
    gate.ask(&at("evil.test")).await.expect(403);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_told_apart() {
    let origin = Origin::start("a").await;
    let gate = Gate::start(&Config::to(&[&origin])).await;

    gate.look("/nowhere").await.expect(404);
    let refused = gate
        .ask(&Request::new("POST", "/metrics"))
        .await
        .expect(405);
    assert_eq!(refused.header("allow"), Some("GET, HEAD"));
    let refused = gate.look("/api/reload").await.expect(405);
    assert_eq!(refused.header("allow"), Some("POST"));
    let index = gate.look("/").await.expect(200);
    for path in [
        "/metrics",
        "/livez",
        "/readyz",
        "/api/config",
        "/api/upstreams",
        "/api/reload",
    ] {
        assert!(index.text().contains(path), "{path}");
    }
    // And none of it is on the public side.
    assert_eq!(gate.get("/metrics").await.expect(200).by(), "a");
}
