//! Which endpoint takes a request, and which client stays where.

use std::collections::HashMap;

use crate::harness::{Answer, Config, Gate, Latch, Origin, Reply, Request, eventually};

/// Two origins that hold `/held` until the latch opens.
async fn two_that_hold(latch: &Latch) -> (Origin, Origin) {
    let (one, other) = (latch.clone(), latch.clone());
    let a = Origin::start("a")
        .await
        .on("/held", move |_| Reply::ok("a").after(&one));
    let b = Origin::start("b")
        .await
        .on("/held", move |_| Reply::ok("b").after(&other));
    (a, b)
}

/// Waits until one of them holds a request, and names the other.
async fn free_one(a: &Origin, b: &Origin) -> &'static str {
    eventually("one of them holds a request", async || {
        match (a.requests("/held"), b.requests("/held")) {
            (1, 0) => Some("b"),
            (0, 1) => Some("a"),
            _ => None,
        }
    })
    .await
}

fn shop(origins: &[&Origin], more: &str) -> Config {
    Config::new()
        .upstream("shop", origins, more)
        .route("shop", "path_prefix: /", "upstream: shop")
}

async fn tally(gate: &Gate, requests: usize) -> HashMap<String, usize> {
    let mut tally = HashMap::new();
    for _ in 0..requests {
        let by = gate.get("/").await.expect(200).by().to_owned();
        *tally.entry(by).or_default() += 1;
    }
    tally
}

#[tokio::test]
async fn the_endpoint_with_fewer_requests_in_flight_is_chosen_on_every_worker() {
    let latch = Latch::new();
    let (a, b) = two_that_hold(&latch).await;
    let gate = Gate::start(&shop(&[&a, &b], "").workers(2)).await;

    let mut held = gate.begin(&Request::get("/held")).await;
    let free = free_one(&a, &b).await;
    // New connections land on either worker.
    let tally = tally(&gate, 40).await;

    assert_eq!(tally, HashMap::from([(free.to_owned(), 40)]));
    latch.open();
    held.answer().await.expect(200);
}

#[tokio::test]
async fn in_flight_counts_outlive_a_reload() {
    let latch = Latch::new();
    let (a, b) = two_that_hold(&latch).await;
    let config = shop(&[&a, &b], "");
    let gate = Gate::start(&config).await;

    let mut held = gate.begin(&Request::get("/held")).await;
    let free = free_one(&a, &b).await;
    gate.hang_up(&config).await;

    assert_eq!(
        tally(&gate, 20).await,
        HashMap::from([(free.to_owned(), 20)])
    );
    latch.open();
    held.answer().await.expect(200);
}

#[tokio::test]
async fn idle_endpoints_share_evenly_by_chance() {
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    let gate = Gate::start(&shop(&[&a, &b], "")).await;

    let tally = tally(&gate, 100).await;

    // By chance alone this fails once in some ten thousand million runs.
    assert!(tally["a"] >= 18 && tally["b"] >= 18, "{tally:?}");
}

#[tokio::test]
async fn round_robin_takes_turns_by_weight() {
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    let endpoints = format!(
        "{{ address: '{}', weight: 3 }}, '{}'",
        a.address(),
        b.address()
    );
    let config = Config::new()
        .upstream_at("shop", &endpoints, "balance: round_robin")
        .route("shop", "path_prefix: /", "upstream: shop");
    let gate = Gate::start(&config.one_worker()).await;

    assert_eq!(
        tally(&gate, 40).await,
        HashMap::from([("a".to_owned(), 30), ("b".to_owned(), 10)])
    );
}

#[tokio::test]
async fn weights_hold_for_least_connections_and_chance_too() {
    for balance in ["least_connections", "random"] {
        let latch = Latch::new();
        let (a, b) = two_that_hold(&latch).await;
        let endpoints = format!(
            "{{ address: '{}', weight: 9 }}, '{}'",
            a.address(),
            b.address()
        );
        let config = Config::new()
            .upstream_at("shop", &endpoints, &format!("balance: {balance}"))
            .route("shop", "path_prefix: /", "upstream: shop");
        let gate = Gate::start(&config).await;

        let mut held = Vec::new();
        for number in 1..=40 {
            held.push(gate.begin(&Request::get("/held")).await);
            eventually("it is held", async || {
                (a.requests("/held") + b.requests("/held") == number).then_some(())
            })
            .await;
        }
        let heavy = a.requests("/held");
        latch.open();
        for client in &mut held {
            client.answer().await.expect(200);
        }

        if balance == "random" {
            // Fails by chance once in some ten thousand million runs.
            assert!(heavy >= 20, "{balance}: {heavy} of 40");
        } else {
            assert_eq!(heavy, 36, "{balance}");
        }
    }
}

const STICKY: &str = "sticky: { cookie: SHOP, key: 0123456789abcdef0123456789abcdef }";

async fn with_cookie(gate: &Gate, value: &str) -> Answer {
    gate.send(&Request::get("/").header("cookie", &format!("a=b; SHOP={value}; c=d")))
        .await
}

#[tokio::test]
async fn a_client_with_the_cookie_stays_with_its_endpoint() {
    let origins = [
        Origin::start("a").await,
        Origin::start("b").await,
        Origin::start("c").await,
    ];
    let all: Vec<&Origin> = origins.iter().collect();
    let gate = Gate::start(&shop(&all, STICKY)).await;

    let first = gate.get("/").await.expect(200);
    let (value, attributes) = first.cookie("SHOP").expect("a cookie");

    assert_eq!(attributes, ["Path=/", "HttpOnly", "SameSite=Lax"]);
    for origin in &origins {
        let port = origin.address().port().to_string();
        assert!(
            !value.contains("127.0.0.1") && !value.contains(&port),
            "{value}"
        );
    }
    for _ in 0..20 {
        let again = with_cookie(&gate, &value).await.expect(200);
        assert_eq!((again.by(), again.cookie("SHOP")), (first.by(), None));
    }
}

#[tokio::test]
async fn a_cookie_that_headgate_did_not_make_is_replaced() {
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    let gate = Gate::start(&shop(&[&a, &b], STICKY)).await;

    for forged in [
        "",
        "a",
        &a.address().to_string(),
        "00000000000000000000000000000000",
    ] {
        let answer = with_cookie(&gate, forged).await.expect(200);
        let (value, _) = answer.cookie("SHOP").expect("a new cookie");
        assert_ne!(value, forged);
    }
}

#[tokio::test]
async fn a_client_whose_endpoint_is_gone_is_moved_and_told_so() {
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    let mut origins = [a, b];
    let gate = Gate::start(&shop(&[&origins[0], &origins[1]], STICKY)).await;
    let first = gate.get("/").await.expect(200);
    let (value, _) = first.cookie("SHOP").unwrap();

    let gone = usize::from(first.by() == "b");
    origins[gone].kill().await;
    let moved = with_cookie(&gate, &value).await.expect(200);
    let (new, _) = moved.cookie("SHOP").expect("a new cookie");

    assert_ne!(moved.by(), first.by());
    for _ in 0..5 {
        let stays = with_cookie(&gate, &new).await.expect(200);
        assert_eq!((stays.by(), stays.cookie("SHOP")), (moved.by(), None));
    }
}

#[tokio::test]
async fn a_cookie_outlives_a_reload_and_with_a_key_a_restart() {
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    for (sticky, survives_restart) in [("sticky: { cookie: SHOP }", false), (STICKY, true)] {
        let config = shop(&[&a, &b], sticky);
        let gate = Gate::start(&config).await;
        let first = gate.get("/").await.expect(200);
        let (value, _) = first.cookie("SHOP").unwrap();

        gate.hang_up(&config).await;
        let again = with_cookie(&gate, &value).await.expect(200);
        assert_eq!((again.by(), again.cookie("SHOP")), (first.by(), None));

        let restarted = Gate::start(&config).await;
        let answer = with_cookie(&restarted, &value).await.expect(200);
        assert_eq!(
            answer.cookie("SHOP").is_none(),
            survives_restart,
            "{sticky}"
        );
    }
}
