//! Endpoints that go down and come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use crate::harness::{Config, Gate, Origin, Reply, eventually};

const CHECK: &str = "health_check: { path: /healthz, interval: 50ms, timeout: 50ms, \
                     healthy_threshold: 2, unhealthy_threshold: 2 }";

/// An origin that is as well as the flag says.
async fn patient(name: &str, well: &Arc<AtomicBool>) -> Origin {
    let well = Arc::clone(well);
    Origin::start(name).await.on("/healthz", move |_| {
        if well.load(SeqCst) {
            Reply::ok("well")
        } else {
            Reply::new(503).body("ill")
        }
    })
}

fn shop(origins: &[&Origin], check: &str) -> Config {
    Config::new()
        .upstream("shop", origins, check)
        .route("shop", "path_prefix: /", "upstream: shop")
}

#[tokio::test]
async fn an_endpoint_that_fails_its_checks_is_left_out_until_it_passes_them_again() {
    let well = Arc::new(AtomicBool::new(true));
    let (a, b) = (patient("a", &well).await, Origin::start("b").await);
    let gate = Gate::start(&shop(&[&a, &b], CHECK)).await;
    eventually("a serves", async || {
        (gate.get("/").await.expect(200).by() == "a").then_some(())
    })
    .await;

    well.store(false, SeqCst);
    gate.until_endpoint("shop", a.address(), "down").await;
    let log = gate.log("endpoint is taken out").await;
    let seen = gate.endpoint("shop", a.address()).await;

    assert_eq!(seen["reason"], "status 503, expected 200");
    assert_eq!(log["reason"], "status 503, expected 200");
    assert_eq!(
        (&log["upstream"], &log["level"]),
        (&"shop".into(), &"WARN".into())
    );
    assert_eq!(log["endpoint"], a.address().to_string());
    assert_eq!(gate.endpoint("shop", b.address()).await["state"], "up");
    for _ in 0..20 {
        assert_eq!(gate.get("/").await.expect(200).by(), "b");
    }
    let address = a.address().to_string();
    let labels = [("upstream", "shop"), ("endpoint", address.as_str())];
    gate.until("headgate_upstream_endpoint_up", &labels, 0.0)
        .await;

    well.store(true, SeqCst);
    gate.until_endpoint("shop", a.address(), "up").await;
    eventually("a serves", async || {
        (gate.get("/").await.expect(200).by() == "a").then_some(())
    })
    .await;
    gate.log("endpoint is used again").await;
    assert_eq!(gate.logged("endpoint is taken out"), 1);
    for to in ["down", "up"] {
        let labels = [("endpoint", address.as_str()), ("to", to)];
        gate.until("headgate_health_transitions_total", &labels, 1.0)
            .await;
    }
}

#[tokio::test]
async fn one_failed_check_is_not_enough() {
    let origin = Origin::start("a").await.on("/healthz", |seen| {
        // Every second one fails.
        if seen.earlier % 2 == 0 {
            Reply::new(500).body("")
        } else {
            Reply::ok("")
        }
    });
    let gate = Gate::start(&shop(&[&origin], CHECK)).await;

    origin.until_asked("/healthz", 12).await;

    assert_eq!(gate.endpoint("shop", origin.address()).await["state"], "up");
    assert_eq!(gate.logged("endpoint is taken out"), 0);
}

#[tokio::test]
async fn without_an_endpoint_that_is_up_the_service_is_unavailable() {
    let well = Arc::new(AtomicBool::new(false));
    let origin = patient("a", &well).await;
    let gate = Gate::start(&shop(&[&origin], CHECK)).await;
    gate.until_endpoint("shop", origin.address(), "down").await;

    let answer = gate.get("/p").await;

    answer.problem(503);
    let after: u64 = answer
        .header("retry-after")
        .expect("when to come back")
        .parse()
        .unwrap();
    assert!((1..=60).contains(&after));
    assert_eq!(origin.requests("/p"), 0);
}

#[tokio::test]
async fn what_checks_found_outlives_a_reload() {
    let well = Arc::new(AtomicBool::new(false));
    let (a, b) = (patient("a", &well).await, Origin::start("b").await);
    let config = shop(&[&a, &b], CHECK);
    let gate = Gate::start(&config).await;
    gate.until_endpoint("shop", a.address(), "down").await;

    // The same upstream among others.
    let more =
        config
            .clone()
            .upstream("more", &[&b], "")
            .route("more", "path: /more", "upstream: more");
    for round in 0..5 {
        gate.hang_up(if round % 2 == 0 { &more } else { &config })
            .await;
        assert_eq!(gate.endpoint("shop", a.address()).await["state"], "down");
        assert_eq!(gate.get("/").await.expect(200).by(), "b");
    }

    assert_eq!(gate.logged("endpoint is taken out"), 1);
    assert_eq!(a.requests("/"), 0);
}

#[tokio::test]
async fn a_tcp_check_only_connects() {
    let mut origin = Origin::start("a").await;
    let check = "health_check: { type: tcp, interval: 50ms, timeout: 50ms, \
                 healthy_threshold: 1, unhealthy_threshold: 1 }";
    let gate = Gate::start(&shop(&[&origin], check)).await;
    gate.get("/").await.expect(200);

    origin.kill().await;
    gate.until_endpoint("shop", origin.address(), "down").await;
    let reason = gate.endpoint("shop", origin.address()).await["reason"].clone();
    gate.get("/").await.problem(503);
    origin.restart().await;
    gate.until_endpoint("shop", origin.address(), "up").await;
    gate.get("/").await.expect(200);

    assert_eq!(reason, "connection refused");
    assert_eq!(origin.requests("*"), 2, "a check sent a request");
}

#[tokio::test]
async fn the_first_check_comes_at_once() {
    let origin = Origin::start("a").await;
    let check = "health_check: { path: /healthz, host: check.test, interval: 1h, timeout: 1s }";
    let gate = Gate::start(&shop(&[&origin], check)).await;

    origin.until_asked("/healthz", 1).await;

    assert_eq!(origin.last("/healthz").header("host"), Some("check.test"));
    let labels = [("upstream", "shop"), ("result", "passed")];
    gate.until("headgate_health_checks_total", &labels, 1.0)
        .await;
}

#[tokio::test]
async fn a_refused_connection_has_the_endpoint_checked_at_once() {
    let (mut a, b) = (Origin::start("a").await, Origin::start("b").await);
    let check =
        "health_check: { path: /healthz, interval: 1h, timeout: 1s, unhealthy_threshold: 1 }";
    let gate = Gate::start(&shop(&[&a, &b], check)).await;
    a.until_asked("/healthz", 1).await;

    a.kill().await;
    eventually("a is found down", async || {
        assert_eq!(gate.get("/").await.expect(200).by(), "b");
        (gate.endpoint("shop", a.address()).await["state"] == "down").then_some(())
    })
    .await;
}
