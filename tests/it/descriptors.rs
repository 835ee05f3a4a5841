//! No descriptors are left for connections to endpoints.

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::harness::{Config, Gate, Origin};

/// How many descriptors the process may have; how many it might before.
fn limit(gate: &Gate, current: Option<u64>) -> Option<u64> {
    let pid = Pid::from_raw(i32::try_from(gate.process.id()).unwrap());
    let next = Rlimit {
        current,
        ..getrlimit(Resource::Nofile)
    };
    prlimit(pid, Resource::Nofile, next).unwrap().current
}

/// The next descriptor that the process would get.
fn free(gate: &Gate) -> u64 {
    let id = gate.process.id();
    let open = |number: &u64| std::fs::read_link(format!("/proc/{id}/fd/{number}")).is_ok();
    (0..).find(|number| !open(number)).unwrap()
}

#[tokio::test]
async fn a_request_that_no_descriptor_is_left_for_is_a_503_and_no_fault_of_the_endpoint() {
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    let config = Config::new().one_worker();
    let config = config
        .upstream("shop", &[&a, &b], "balance: round_robin")
        .route("shop", "path: /p", "upstream: shop");
    let gate = Gate::start(&config).await;
    let mut client = gate.client().await;
    // Nothing else is connected, so nothing gives a descriptor back.
    client.get("/nowhere").await.problem(404);
    let before = limit(&gate, Some(free(&gate)));

    let answer = client.get("/p").await;

    answer.problem(503);
    assert!(answer.header("retry-after").is_some());
    assert_eq!((a.connections(), b.connections()), (0, 0));
    limit(&gate, before);
    let line = gate.log("out of descriptors").await;
    assert_eq!(line["level"], "WARN");
    let metrics = gate.metrics().await;
    let failed = [("reason", "connection_limit_reached")];
    assert!(metrics.sum("headgate_upstream_errors_total", &failed) >= 1.0);
    let rejected = [("reason", "overloaded")];
    assert!(metrics.sum("headgate_rejects_total", &rejected) >= 1.0);
    // Neither endpoint is paused for it: each takes its next request at once.
    let mut by = Vec::new();
    for _ in 0..2 {
        by.push(client.get("/p").await.expect(200).by().to_owned());
    }
    by.sort();
    assert_eq!(by, ["a", "b"]);
}

#[tokio::test]
async fn a_crowd_takes_no_descriptor_of_those_who_are_there() {
    let origin = Origin::start("a").await;
    let config = Config::new()
        .upstream("shop", &[&origin], "max_idle: 0")
        .route("shop", "path_prefix: /", "upstream: shop");
    let gate = Gate::start_with(256, &config).await;
    let mut here = Vec::new();
    for _ in 0..20 {
        let mut client = gate.client().await;
        client.get("/p").await.expect(200);
        here.push(client);
    }

    // Those who get a place, and more than are talked to at a time beside them.
    let mut crowd = Vec::new();
    for _ in 0..300 {
        crowd.push(gate.client().await);
    }
    let all = here.iter_mut().map(|client| client.get("/p"));
    for answer in futures_util::future::join_all(all).await {
        answer.expect(200);
    }
    // Nor do they keep operators out.
    gate.look("/livez").await.expect(200);
    assert_eq!(gate.logged("cannot accept connections"), 0);
    let failed = [("reason", "connection_limit_reached")];
    let metrics = gate.metrics().await;
    assert!(metrics.sum("headgate_upstream_errors_total", &failed) < 1.0);
    drop(crowd);
}
