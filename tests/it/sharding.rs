//! Which shard owns which key.

use std::collections::HashMap;

use crate::harness::{Config, Gate, Origin, Request};

async fn shards() -> (Origin, Origin, Config) {
    let (zero, one) = (Origin::start("0").await, Origin::start("1").await);
    let config = Config::new()
        .upstream("orders-0", &[&zero], "")
        .upstream("orders-1", &[&one], "");
    (zero, one, config)
}

#[tokio::test]
async fn a_users_requests_always_reach_the_same_shard() {
    let (zero, one, config) = shards().await;
    let config = config
        .shard_map(
            "orders",
            "key: { path: user }, strategy: modulo, shards: [orders-0, orders-1]",
        )
        .route("list", "path: '/users/{user}/orders'", "shard_map: orders")
        .route(
            "one",
            "path: '/users/{user}/orders/{*rest}'",
            "shard_map: orders",
        );
    let gate = Gate::start(&config).await;

    let mut owners: HashMap<u64, String> = HashMap::new();
    for round in 0..3 {
        for user in 0..20 {
            let target = match round {
                0 => format!("/users/{user}/orders"),
                _ => format!("/users/{user}/orders/{round}/items"),
            };
            let by = gate.get(&target).await.expect(200).by().to_owned();
            assert_eq!(by, (user % 2).to_string(), "{target}");
            assert_eq!(*owners.entry(user).or_insert_with(|| by.clone()), by);
        }
    }

    assert_eq!((zero.requests("*"), one.requests("*")), (30, 30));
}

#[tokio::test]
async fn headers_cookies_and_parameters_can_be_keys_too() {
    let (_zero, _one, config) = shards().await;
    let map =
        |place: &str| format!("key: {{ {place} }}, strategy: modulo, shards: [orders-0, orders-1]");
    let config = config
        .shard_map("h", &map("header: X-User"))
        .shard_map("c", &map("cookie: uid"))
        .shard_map("q", &map("query: user"))
        .route("h", "path: /h", "shard_map: h")
        .route("c", "path: /c", "shard_map: c")
        .route("q", "path: /q", "shard_map: q");
    let gate = Gate::start(&config).await;

    for key in ["4", "5", "18446744073709551615"] {
        let shard = if key == "4" { "0" } else { "1" };
        let by_header = Request::get("/h").header("x-user", key);
        let by_cookie = Request::get("/c").header("cookie", &format!("a=1; uid={key}"));
        let by_query = Request::get(&format!("/q?a=1&user={key}"));
        for request in [by_header, by_cookie, by_query] {
            assert_eq!(
                gate.send(&request).await.expect(200).by(),
                shard,
                "{request:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_list_names_the_owner_of_each_value() {
    let (_zero, _one, config) = shards().await;
    let shards = "shards: [{ upstream: orders-0, values: [acme, globex] }, \
                  { upstream: orders-1, values: [initech] }]";
    let config = config
        .shard_map(
            "strict",
            &format!("key: {{ header: X-Tenant }}, strategy: list, {shards}"),
        )
        .shard_map(
            "open",
            &format!("key: {{ header: X-Tenant }}, strategy: list, {shards}, default: orders-1"),
        )
        .route("strict", "path: /strict", "shard_map: strict")
        .route("open", "path: /open", "shard_map: open");
    let gate = Gate::start(&config).await;
    let tenant = |path: &str, name: &str| Request::get(path).header("x-tenant", name);

    for (name, shard) in [("acme", "0"), ("globex", "0"), ("initech", "1")] {
        for path in ["/strict", "/open"] {
            assert_eq!(
                gate.send(&tenant(path, name)).await.expect(200).by(),
                shard,
                "{name}"
            );
        }
    }
    assert_eq!(
        gate.send(&tenant("/open", "hooli")).await.expect(200).by(),
        "1"
    );
    let problem = gate.send(&tenant("/strict", "hooli")).await.problem(400);
    assert!(
        problem["detail"].as_str().unwrap().contains("x-tenant"),
        "{problem}"
    );
}

#[tokio::test]
async fn a_missing_or_malformed_key_is_refused_by_name_and_never_guessed() {
    let (zero, one, config) = shards().await;
    let config = config
        .shard_map(
            "path",
            "key: { path: user }, strategy: modulo, shards: [orders-0, orders-1]",
        )
        .shard_map(
            "header",
            "key: { header: X-User }, strategy: modulo, shards: [orders-0]",
        )
        .route("path", "path: '/users/{user}/orders'", "shard_map: path")
        .route("header", "path: /h", "shard_map: header");
    let gate = Gate::start(&config).await;

    for user in [
        "alice",
        "-1",
        "+1",
        "1.0",
        "18446744073709551616",
        "1%20",
        "%C3",
        "0x10",
    ] {
        let problem = gate
            .get(&format!("/users/{user}/orders"))
            .await
            .problem(400);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("path capture `user`"), "{user}: {detail}");
        assert!(!detail.contains("orders-"), "a shard is named: {detail}");
    }
    let missing = gate.get("/h").await.problem(400);
    assert_eq!(missing["detail"], "header `x-user` is missing");
    let twice = Request::get("/h")
        .header("x-user", "1")
        .header("x-user", "2");
    assert!(
        gate.send(&twice).await.problem(400)["detail"]
            .as_str()
            .unwrap()
            .contains("x-user")
    );

    assert_eq!((zero.requests("*"), one.requests("*")), (0, 0));
    gate.until(
        "headgate_rejects_total",
        &[("reason", "shard_key_missing")],
        1.0,
    )
    .await;
    gate.until(
        "headgate_rejects_total",
        &[("reason", "shard_key_invalid")],
        9.0,
    )
    .await;
}

#[tokio::test]
async fn a_shard_that_is_gone_is_not_replaced_by_another() {
    let (mut zero, one, config) = shards().await;
    let config = config
        .shard_map(
            "orders",
            "key: { path: user }, strategy: modulo, shards: [orders-0, orders-1]",
        )
        .route("orders", "path: '/users/{user}'", "shard_map: orders");
    let gate = Gate::start(&config).await;
    zero.kill().await;

    gate.get("/users/2").await.problem(502);
    gate.get("/users/3").await.expect(200);

    assert_eq!(one.requests("/users/2"), 0);
}
