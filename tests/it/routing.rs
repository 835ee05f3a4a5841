//! Which request goes where, over the wire.

use crate::harness::{Config, Gate, Origin, Request};

struct Shop {
    gate: Gate,
    _origins: Vec<Origin>,
}

/// One origin for each route, which answers with the route's name.
async fn shop(routes: &[(&str, &str)]) -> Shop {
    let mut config = Config::new();
    let mut origins = Vec::new();
    for (name, matches) in routes {
        let origin = Origin::start(name).await;
        config = config.upstream(name, &[&origin], "").route(
            name,
            matches,
            &format!("upstream: {name}"),
        );
        origins.push(origin);
    }
    Shop {
        gate: Gate::start(&config).await,
        _origins: origins,
    }
}

impl Shop {
    async fn of(&self, request: &Request) -> String {
        self.gate.send(request).await.by().to_owned()
    }

    async fn at(&self, host: &str, target: &str) -> String {
        self.of(&Request::get(target).header("host", host)).await
    }
}

#[tokio::test]
async fn hosts_match_exactly_then_by_their_longest_suffix_then_not_at_all() {
    let shop = shop(&[
        ("any", "path_prefix: /"),
        ("wide", "host: '*.example', path_prefix: /"),
        ("near", "host: '*.shop.example', path_prefix: /"),
        ("exact", "host: eu.shop.example, path_prefix: /"),
    ])
    .await;

    for (host, route) in [
        ("eu.shop.example", "exact"),
        ("EU.Shop.Example:8443", "exact"),
        ("us.shop.example", "near"),
        ("a.b.shop.example", "near"),
        ("shop.example", "wide"),
        ("other.example", "wide"),
        ("example", "any"),
        ("shop.test", "any"),
        ("127.0.0.1:80", "any"),
        ("[::1]:80", "any"),
    ] {
        assert_eq!(shop.at(host, "/").await, route, "{host}");
    }
}

#[tokio::test]
async fn paths_match_by_whole_segments_and_the_most_specific_wins() {
    let shop = shop(&[
        ("products", "path_prefix: /products"),
        ("sale", "path_prefix: /products/sale"),
        ("one", "path: '/products/{id}'"),
        ("seven", "path: /products/7"),
        ("orders", "path: '/users/{user}/orders/{*rest}'"),
    ])
    .await;

    for (path, route) in [
        ("/products", "products"),
        ("/products/", "products"),
        ("/products/7", "seven"),
        ("/products/8", "one"),
        ("/products/8?page=2", "one"),
        ("/products/8/stock", "products"),
        ("/products/sale/today", "sale"),
        ("/users/5/orders/", "orders"),
        ("/users/5/orders/a/b", "orders"),
        ("/productsale", "nobody"),
        ("/Products", "nobody"),
        ("/users/5", "nobody"),
        ("/", "nobody"),
    ] {
        assert_eq!(shop.at("shop.test", path).await, route, "{path}");
    }
}

#[tokio::test]
async fn methods_fields_and_parameters_are_conditions() {
    let shop = shop(&[
        ("plain", "path_prefix: /p"),
        ("writes", "path_prefix: /p, methods: [POST, PUT]"),
        ("version", "path_prefix: /p, headers: { X-Version: '2' }"),
        (
            "beta",
            "path_prefix: /p, headers: { X-Version: '2', X-Beta: { present: true } }",
        ),
        ("euro", "path_prefix: /p, query: { currency: EUR }"),
    ])
    .await;

    let get = |target: &str| Request::get(target);
    for (request, route) in [
        (get("/p"), "plain"),
        (Request::post("/p", ""), "writes"),
        (Request::new("DELETE", "/p"), "plain"),
        (get("/p").header("x-version", "2"), "version"),
        (get("/p").header("x-version", "3"), "plain"),
        (
            get("/p").header("x-version", "2").header("x-beta", ""),
            "beta",
        ),
        (get("/p?a=1&currency=EUR"), "euro"),
        (get("/p?currency=%45UR"), "euro"),
        (get("/p?currency=USD"), "plain"),
        (get("/p?Currency=EUR"), "plain"),
    ] {
        assert_eq!(shop.of(&request).await, route, "{request:?}");
    }
}

#[tokio::test]
async fn a_request_that_no_route_takes_is_told_so() {
    let shop = shop(&[("products", "path_prefix: /products")]).await;

    let problem = shop.gate.get("/elsewhere").await.problem(404);

    assert_eq!(problem["title"], "Not Found");
    shop.gate
        .until("headgate_rejects_total", &[("reason", "no_route")], 1.0)
        .await;
}

#[tokio::test]
async fn the_order_of_the_file_does_not_matter() {
    let specific = ("specific", "path_prefix: /a/b");
    let general = ("general", "path_prefix: /a");
    for routes in [[specific, general], [general, specific]] {
        let shop = shop(&routes).await;
        assert_eq!(shop.at("shop.test", "/a/b/c").await, "specific");
        assert_eq!(shop.at("shop.test", "/a/c").await, "general");
    }
}
