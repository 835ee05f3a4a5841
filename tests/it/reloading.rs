//! A new config takes over without a request noticing; a broken one changes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::harness::{Client, Config, Gate, Latch, Origin, Reply, Request, eventually};

#[tokio::test]
async fn a_pipe_in_place_of_the_config_is_refused_and_the_next_reload_works() {
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin]);
    let gate = Gate::start(&config).await;
    let pipe = gate.file("pipe");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    std::fs::rename(pipe, &gate.path).unwrap();

    let refused = gate.reload().await.expect(422);
    assert!(
        refused.text().contains("regular file"),
        "{}",
        refused.text()
    );
    gate.become_config(&config).await;
    assert_eq!(gate.generation().await, 2);
}

#[tokio::test]
async fn routes_and_upstreams_change_while_requests_finish_on_what_they_began_with() {
    let latch = Latch::new();
    let wait = latch.clone();
    let a = Origin::start("a")
        .await
        .on("/held", move |_| Reply::ok("from the old").after(&wait));
    let b = Origin::start("b").await;
    let old = Config::new()
        .upstream("a", &[&a], "")
        .route("a", "path_prefix: /", "upstream: a");
    let new = Config::new()
        .upstream("b", &[&b], "")
        .route("b", "path_prefix: /b", "upstream: b");
    let gate = Gate::start(&old).await;

    let mut held = gate.begin(&Request::get("/held")).await;
    a.until_asked("/held", 1).await;
    gate.hang_up(&new).await;

    assert_eq!(gate.get("/b").await.expect(200).by(), "b");
    gate.get("/held").await.problem(404);
    latch.open();
    assert_eq!(held.answer().await.expect(200).text(), "from the old");
    // Its connection goes on under the new config.
    assert_eq!(held.get("/b").await.expect(200).by(), "b");
    // Connections to endpoints that are gone are closed.
    a.until_open(0).await;
    assert!(
        !gate
            .metrics()
            .await
            .has("headgate_http_requests_total", &[("route", "a")])
    );
}

#[tokio::test]
async fn shard_maps_cache_rules_and_deadlines_change_too() {
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    let late = Latch::new();
    let wait = late.clone();
    let a = a.on("/late", move |_| Reply::ok("").after(&wait));
    let config = |shards: &str, cache: &str, timeouts: &str| {
        Config::new()
            .upstream("a", &[&a], timeouts)
            .upstream("b", &[&b], "")
            .shard_map(
                "m",
                &format!("key: {{ query: k }}, strategy: modulo, shards: [{shards}]"),
            )
            .route("m", "path: /m", "shard_map: m")
            .route("c", "path: /c", &format!("upstream: a{cache}"))
            .route("late", "path: /late", "upstream: a")
    };
    let gate = Gate::start(&config("a", "", "")).await;
    assert_eq!(gate.get("/m?k=1").await.expect(200).by(), "a");
    assert_eq!(
        gate.get("/c").await.expect(200).header("cache-status"),
        None
    );

    let next = config(
        "a, b",
        ", cache: { default_ttl: 1h }",
        "timeouts: { first_byte: 100ms }",
    );
    gate.hang_up(&next).await;

    assert_eq!(gate.get("/m?k=1").await.expect(200).by(), "b");
    gate.get("/c").await.expect(200);
    assert!(gate.get("/c").await.expect(200).is_hit());
    gate.get("/late").await.problem(504);
}

#[tokio::test]
async fn listeners_come_and_go_without_touching_the_others() {
    let latch = Latch::new();
    let wait = latch.clone();
    let origin = Origin::start("a")
        .await
        .on("/held", move |_| Reply::ok("").after(&wait));
    let one = Config::to(&[&origin]);
    let two = one.clone().listener("address: 127.0.0.2:0");
    let gate = Gate::start(&one).await;
    let mut kept = gate.client().await;
    kept.get("/").await.expect(200);

    gate.hang_up(&two).await;
    let line = gate.log("\"address\":\"127.0.0.2:").await;
    assert_eq!(line["message"], "listening");
    let added = line["address"].as_str().unwrap().parse().unwrap();
    let mut client = Client::connect(added).await;
    client.get("/").await.expect(200);
    let mut held = Client::connect(added).await;
    held.write(Request::get("/held").bytes()).await;
    origin.until_asked("/held", 1).await;

    gate.hang_up(&one).await;
    eventually("nobody listens there", async || {
        Client::try_connect(added).await.err()
    })
    .await;
    latch.open();
    held.answer().await.expect(200);
    kept.get("/").await.expect(200);
    gate.get("/").await.expect(200);

    // And once more, since nothing of it may be left behind.
    gate.hang_up(&two).await;
    gate.log("\"address\":\"127.0.0.2:").await;
}

#[tokio::test]
async fn a_listener_that_cannot_be_opened_leaves_everything_as_it_was() {
    let origin = Origin::start("a").await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = Config::to(&[&origin]);
    let gate = Gate::start(&config).await;

    let next = Config::new()
        .listener(&format!("address: {address}"))
        .upstream("other", &[&origin], "")
        .route("other", "path_prefix: /other", "upstream: other");
    gate.write(&next.text());
    let answer = gate.reload().await.expect(422);

    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(
        detail.contains(&format!("cannot listen on {address}")),
        "{detail}"
    );
    gate.get("/").await.expect(200);
    assert_eq!(gate.generation().await, 1);
    let series = "headgate_http_in_flight_requests";
    let metrics = gate.metrics().await;
    assert!(metrics.has(series, &[("route", "shop")]));
    assert!(
        !metrics.has(series, &[("route", "other")]),
        "a config that never ran left series"
    );
}

#[tokio::test]
async fn a_broken_file_changes_nothing_and_is_seen_in_four_places() {
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin]);
    let gate = Gate::start(&config).await;
    let good = "headgate_config_last_reload_successful";
    gate.until(good, &[], 1.0).await;

    gate.write(&config.text().replace("upstream: shop", "upstream: shoe"));
    gate.process.signal(Signal::HUP);
    let log = gate.log("config not reloaded").await;
    let message = "no upstream is named `shoe`";
    assert_eq!(log["level"], "ERROR");
    assert!(log["message"].as_str().unwrap().contains(message), "{log}");
    gate.until(good, &[], 0.0).await;
    let answer = gate.reload().await.expect(422).json();
    assert!(
        answer["detail"].as_str().unwrap().contains(message),
        "{answer}"
    );
    assert!(
        answer["detail"]
            .as_str()
            .unwrap()
            .contains("did you mean `shop`?"),
        "{answer}"
    );
    let state = gate.config().await;
    assert_eq!(
        (&state["generation"], &state["last_reload"]["successful"]),
        (&1.into(), &false.into())
    );
    assert!(
        state["last_reload"]["error"]
            .as_str()
            .unwrap()
            .contains(message),
        "{state}"
    );
    gate.get("/").await.expect(200);

    gate.hang_up(&config).await;
    gate.until(good, &[], 1.0).await;
    let state = gate.config().await;
    assert_eq!(state["last_reload"]["successful"], true);
    let metrics = gate.metrics().await;
    let count = |outcome| metrics.sum("headgate_config_reloads_total", &[("outcome", outcome)]);
    assert_eq!(
        format!("{:?}", metrics.sum("headgate_config_generation", &[])),
        "2.0"
    );
    assert!(
        count("success") >= 1.0 && count("failure") >= 2.0,
        "{metrics:?}"
    );
}

#[tokio::test]
async fn the_api_reloads_and_says_what_came_of_it() {
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin]);
    let gate = Gate::start(&config).await;
    let before = gate.config().await;

    gate.write(&format!("{}# changed\n", config.text()));
    let answer = gate.reload().await.expect(200).json();

    let after = gate.config().await;
    assert_eq!(
        (&answer["generation"], &after["generation"]),
        (&2.into(), &2.into())
    );
    assert_eq!(answer["sha256"], after["sha256"]);
    assert_ne!(before["sha256"], after["sha256"]);
    assert_eq!(answer["needs_restart"], serde_json::json!([]));
    gate.log("config reloaded").await;
}

#[tokio::test]
async fn what_needs_a_restart_is_reported_and_the_rest_is_used() {
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin]);
    let gate = Gate::start(&config).await;

    let next = config
        .workers(1)
        .top("log: { format: text }")
        .top("cache: { memory: 64MiB }")
        .top("access_log: { format: json }")
        .route(
            "more",
            "path: /more",
            "upstream: shop, cache: { default_ttl: 1h }",
        );
    gate.write(&next.text());
    let answer = gate.reload().await.expect(200).json();

    let keys = serde_json::json!(["workers", "log", "access_log", "cache.memory"]);
    assert_eq!(answer["needs_restart"], keys);
    assert_eq!(gate.config().await["needs_restart"], keys);
    let log = gate.log("needs a restart").await;
    assert_eq!(log["keys"], "workers, log, access_log, cache.memory");
    gate.get("/more").await.expect(200);
    assert!(gate.get("/more").await.expect(200).is_hit());
    // Back as it was, nothing needs a restart.
    gate.become_config(&Config::to(&[&origin])).await;
    assert_eq!(gate.config().await["needs_restart"], serde_json::json!([]));
}

#[derive(Default)]
struct Load {
    over: AtomicBool,
    answered: AtomicUsize,
    failed: parking_lot::Mutex<Vec<String>>,
}

impl Load {
    /// Sends requests until it is over, on connections that serve so many of them.
    async fn run(self: Arc<Self>, gate: std::net::SocketAddr, per_connection: usize) {
        while !self.over.load(SeqCst) {
            let outcome = self.connection(gate, per_connection).await;
            if let Err(error) = outcome {
                self.failed.lock().push(error.to_string());
            }
        }
    }

    async fn connection(&self, gate: std::net::SocketAddr, requests: usize) -> std::io::Result<()> {
        let mut client = Client::connect_briefly(gate).await?;
        for number in 0..requests {
            if self.over.load(SeqCst) {
                return Ok(());
            }
            let request = match number % 3 {
                0 => Request::post("/p", "body"),
                _ => Request::get("/p?x=1"),
            };
            let answer = client.try_send(&request).await?;
            if answer.status != 200 || answer.body != b"same" {
                return Err(std::io::Error::other(format!("{answer:?}")));
            }
            self.answered.fetch_add(1, SeqCst);
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_reloads_under_load_fail_no_request() {
    const RELOADS: usize = 20;
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    let (a, b) = (
        a.on("/p", |_| Reply::ok("same")),
        b.on("/p", |_| Reply::ok("same")),
    );
    let both = Config::to(&[&a, &b]);
    let other = Config::new()
        .upstream("extra", &[&a], "balance: random")
        .upstream("shop", &[&b], "max_idle: 1")
        .route("extra", "path: /extra", "upstream: extra, cache: {}")
        .route("shop", "path_prefix: /", "upstream: shop");
    let gate = Gate::start(&both).await;

    let load = Arc::new(Load::default());
    let mut tasks = JoinSet::new();
    for per_connection in [usize::MAX, usize::MAX, usize::MAX, usize::MAX, 1, 5] {
        tasks.spawn(Arc::clone(&load).run(gate.address, per_connection));
    }
    for round in 0..RELOADS {
        let before = load.answered.load(SeqCst);
        gate.hang_up(if round % 2 == 0 { &other } else { &both })
            .await;
        eventually("requests are answered", async || {
            (load.answered.load(SeqCst) > before + 20).then_some(())
        })
        .await;
    }
    load.over.store(true, SeqCst);
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }

    let failed = load.failed.lock().clone();
    assert!(
        failed.is_empty(),
        "{} of {:?}: {failed:?}",
        failed.len(),
        load.answered
    );
    assert_eq!(gate.generation().await, 1 + RELOADS as u64);
    assert!(load.answered.load(SeqCst) > RELOADS * 20);
}
