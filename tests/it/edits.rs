//! What a route answers by itself, and what it changes on the way.

use crate::harness::{Config, Gate, Origin, Reply, Request};

const TRUSTED: &str = "trusted_proxies: [127.0.0.1]";

fn over_tls(request: Request) -> Request {
    request
        .header("x-forwarded-for", "203.0.113.9")
        .header("x-forwarded-proto", "https")
}

#[tokio::test]
async fn redirects_and_fixed_answers_need_no_endpoint() {
    let config = Config::new()
        .upstream_at("nowhere", "127.0.0.1:1", "")
        .route("rest", "path: /rest", "upstream: nowhere")
        .route(
            "moved",
            "path_prefix: /moved",
            "redirect: { to: 'https://new.example{path}{query}', status: 301 }",
        )
        .route(
            "see",
            "path: /see",
            "redirect: { to: '{scheme}://{host}/there' }",
        )
        .route(
            "ok",
            "path: /ok",
            "respond: { body: fine, headers: { X-By: edge } }",
        )
        .route("gone", "path: /gone", "respond: { status: 410 }");
    let gate = Gate::start(&config).await;

    let moved = gate.get("/moved/./x?a=b").await.expect(301);
    assert_eq!(moved.all("location"), ["https://new.example/moved/x?a=b"]);
    assert_eq!(moved.body, b"");
    let see = Request::post("/see", "x").header("host", "Shop:8080");
    assert_eq!(
        gate.send(&see).await.expect(302).all("location"),
        ["http://shop:8080/there"]
    );
    let ok = gate.get("/ok").await.expect(200);
    assert_eq!((ok.text(), ok.header("x-by")), ("fine", Some("edge")));
    assert_eq!(ok.header("content-type"), Some("text/plain; charset=utf-8"));
    let head = gate.send(&Request::new("HEAD", "/ok")).await.expect(200);
    assert_eq!(
        (head.header("content-length"), head.body.len()),
        (Some("4"), 0)
    );
    assert_eq!(gate.get("/gone").await.expect(410).body, b"");

    let route = [("route", "moved"), ("code", "301")];
    gate.until("headgate_http_requests_total", &route, 1.0)
        .await;
}

#[tokio::test]
async fn plain_requests_are_sent_to_https_and_others_go_on() {
    let origin = Origin::start("a").await;
    let config = Config::new()
        .top(TRUSTED)
        .upstream("shop", &[&origin], "")
        .route(
            "shop",
            "path_prefix: /",
            "redirect: { https: true }, upstream: shop",
        )
        .route(
            "odd",
            "path_prefix: /odd",
            "redirect: { https: true, port: 8443, status: 301 }",
        );
    let gate = Gate::start(&config).await;

    let plain = Request::get("/a?b").header("host", "Shop.example:8080");
    let answer = gate.send(&plain).await.expect(308);
    assert_eq!(answer.all("location"), ["https://shop.example/a?b"]);
    let odd = Request::get("/odd").header("host", "[::1]:80");
    let answer = gate.send(&odd).await.expect(301);
    assert_eq!(answer.all("location"), ["https://[::1]:8443/odd"]);
    assert_eq!(origin.requests("*"), 0);

    gate.send(&over_tls(Request::get("/a"))).await.expect(200);
    assert_eq!(origin.requests("/a"), 1);
    gate.send(&over_tls(Request::get("/odd")))
        .await
        .problem(404);
}

#[tokio::test]
async fn endpoints_see_the_rewritten_path_and_the_cache_the_clients() {
    let origin = Origin::start("a").await.on("*", |seen| {
        let reply = Reply::ok(seen.target.clone());
        if seen.method == "GET" {
            reply.header("cache-control", "max-age=60")
        } else {
            reply
        }
    });
    let config = Config::new()
        .upstream("shop", &[&origin], "")
        .route(
            "strip",
            "path_prefix: /api",
            "upstream: shop, cache: {}, rewrite: { strip_prefix: /api }",
        )
        .route(
            "swap",
            "path_prefix: /v1",
            "upstream: shop, cache: {}, rewrite: { strip_prefix: /v1, replace_prefix: /v2/x }",
        )
        .route(
            "map",
            "path: '/old/{id}/{*rest}'",
            "upstream: shop, rewrite: { path: '/new/{rest}/of/{id}' }",
        );
    let gate = Gate::start(&config).await;

    for (sent, seen) in [
        ("/api/a?q", "/a?q"),
        ("/api", "/"),
        ("/api/", "/"),
        ("/v1", "/v2/x"),
        ("/v1/a/b", "/v2/x/a/b"),
        ("/old/7/x/y?z=1", "/new/x/y/of/7?z=1"),
        ("/old/7/", "/new/of/7"),
    ] {
        assert_eq!(gate.get(sent).await.expect(200).text(), seen, "{sent}");
    }
    assert!(gate.get("/api/a?q").await.is_hit());
    assert!(gate.get("/api/b/../a?q").await.is_hit());
    gate.send(&Request::new("DELETE", "/api/a?q"))
        .await
        .expect(200);
    assert!(!gate.get("/api/a?q").await.is_hit());
}

#[tokio::test]
async fn fields_are_removed_set_and_added_on_both_ways() {
    let origin = Origin::start("a").await.on("/p", |_| {
        Reply::ok("x")
            .header("server", "secret/1")
            .header("x-mode", "theirs")
            .header("cache-control", "max-age=60")
    });
    let config = Config::new().top(TRUSTED).upstream("shop", &[&origin], "").route(
        "shop",
        "path_prefix: /",
        "upstream: shop, cache: {}, \
         request_headers: { set: { X-Tenant: shop, X-Who: '{host} {path} {scheme}' }, add: { X-Tag: edge }, remove: [X-Debug] }, \
         response_headers: { set: { X-Mode: ours }, add: { X-Req: '{request_id}' }, remove: [Server] }",
    );
    let config = config.route(
        "who",
        "path: /who",
        "upstream: shop, request_headers: { set: { X-Who: '{client_ip} {request_id}' } }",
    );
    let gate = Gate::start(&config).await;

    let answer = gate.send(&over_tls(Request::get("/who"))).await.expect(200);
    let who = format!("203.0.113.9 {}", answer.header("x-request-id").unwrap());
    assert_eq!(origin.last("/who").all("x-who"), [&*who]);
    let request = over_tls(Request::get("/p"))
        .header("x-tenant", "evil")
        .header("x-debug", "1")
        .header("x-tag", "mine")
        .header("connection", "x-tenant, x-who");
    for round in 0..2 {
        let answer = gate.send(&request).await.expect(200);
        assert_eq!(answer.is_hit(), round == 1);
        assert_eq!(answer.all("x-mode"), ["ours"]);
        assert_eq!(answer.all("server"), [] as [&str; 0]);
        assert_eq!(answer.all("x-req"), answer.all("x-request-id"));
    }
    let seen = origin.last("/p");
    assert_eq!(seen.all("x-tenant"), ["shop"]);
    assert_eq!(seen.all("x-who"), ["shop.test /p https"]);
    assert_eq!(seen.all("x-tag"), ["mine", "edge"]);
    assert_eq!(seen.all("x-debug"), [] as [&str; 0]);
    // Answers of Headgate's own are answers of the route too.
    let missing = gate
        .send(&Request::get("/none").header("cache-control", "only-if-cached"))
        .await;
    missing.problem(504);
    assert_eq!(missing.all("x-mode"), ["ours"]);
}

#[tokio::test]
async fn hsts_is_said_over_tls_only() {
    let origin = Origin::start("a").await.on("/p", |_| {
        Reply::ok("x").header("strict-transport-security", "max-age=1")
    });
    let config = Config::new()
        .top(TRUSTED)
        .upstream("shop", &[&origin], "")
        .route(
            "shop",
            "path_prefix: /",
            "upstream: shop, hsts: { max_age: 365d, include_subdomains: true }",
        );
    let gate = Gate::start(&config).await;

    let secure = gate.send(&over_tls(Request::get("/p"))).await.expect(200);
    assert_eq!(
        secure.all("strict-transport-security"),
        ["max-age=31536000; includeSubDomains"]
    );
    let plain = gate.get("/q").await.expect(200);
    assert_eq!(plain.header("strict-transport-security"), None);
}

#[tokio::test]
async fn early_hints_reach_the_client_without_what_is_not_for_it() {
    let origin = Origin::start("a").await.on("/p", |_| {
        Reply::raw(
            "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nset-cookie: a=b\r\n\r\n\
             HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        )
    });
    for config in [Config::to(&[&origin]), Config::cached(&[&origin])] {
        let gate = Gate::start(&config).await;
        let mut client = gate.begin(&Request::get("/p")).await;
        let hint = client.head().await.expect(103);
        assert_eq!(hint.all("link"), ["</a.css>; rel=preload"]);
        assert_eq!(hint.header("set-cookie"), None);
        assert_eq!(client.answer().await.expect(200).text(), "ok");
    }
}

#[tokio::test]
async fn a_route_takes_the_upgrades_that_it_names() {
    let origin = Origin::start("a")
        .await
        .on("*", |seen| match seen.header("upgrade") {
            Some(protocol) => Reply::new(101)
                .header("connection", "upgrade")
                .header("upgrade", protocol)
                .then("hello")
                .close(),
            None => Reply::ok("plain"),
        });
    let config = Config::new()
        .upstream("shop", &[&origin], "")
        .route("default", "path: /default", "upstream: shop")
        .route("none", "path: /none", "upstream: shop, upgrades: []")
        .route(
            "named",
            "path: /named",
            "upstream: shop, cache: {}, upgrades: [chat]",
        );
    let gate = Gate::start(&config).await;

    for (path, protocol, taken) in [
        ("/default", "chat", false),
        ("/none", "chat", false),
        ("/named", "chat", true),
        ("/named", "websocket", false),
    ] {
        let request = Request::get(path)
            .header("connection", "upgrade")
            .header("upgrade", protocol);
        let mut client = gate.begin(&request).await;
        if taken {
            client.head().await.expect(101);
            assert_eq!(client.until_closed().await, b"hello");
        } else {
            assert_eq!(client.answer().await.expect(200).text(), "plain", "{path}");
        }
    }
}

#[tokio::test]
async fn routes_that_ask_for_different_things_at_one_url_share_no_stored_answer() {
    let origin = Origin::start("a").await.on("*", |seen| {
        Reply::ok(seen.target.clone()).header("cache-control", "max-age=60")
    });
    let config = Config::new()
        .upstream("shop", &[&origin], "")
        .route(
            "beta",
            "path_prefix: /, headers: { x-beta: \"1\" }",
            "upstream: shop, cache: {}, rewrite: { strip_prefix: /, replace_prefix: /beta }",
        )
        .route("shop", "path_prefix: /", "upstream: shop, cache: {}");
    let gate = Gate::start(&config).await;

    let beta = Request::get("/app.js").header("x-beta", "1");
    let first = gate.send(&beta).await.expect(200);
    let everybody = gate.get("/app.js").await.expect(200);

    assert_eq!(
        (first.text(), everybody.text()),
        ("/beta/app.js", "/app.js")
    );
    let again = gate.send(&beta).await.expect(200);
    assert_eq!(again.text(), "/beta/app.js");
    assert_eq!(origin.requests("*"), 2, "each is stored, for its own route");
}
