//! One form of each target, for routing, the cache and endpoints alike; and the methods that are not
//! for endpoints.

use crate::harness::{Answer, Client, Config, Gate, Origin, Reply, Request};
use crate::http2::wire::{END_STREAM, Wire, headers};

/// The answer to these bytes, after which the connection must be closed.
async fn last_answer(gate: &Gate, bytes: impl AsRef<[u8]>) -> Answer {
    let mut client = Client::connect(gate.address).await;
    client.write(bytes).await;
    let answer = client.answer().await;
    assert_eq!(client.until_closed().await, b"", "it goes on talking");
    answer
}

#[tokio::test]
async fn targets_with_two_meanings_are_refused_closed_and_never_passed_on() {
    let origin = Origin::start("a").await;
    let gate = Gate::start(&Config::to(&[&origin])).await;

    for target in [
        "/%00",
        "/a%0d%0aX-Evil:%201",
        "/%7f",
        "/%",
        "/%4",
        "/%zz",
        "/a%2fb",
        "/a%2Fb",
        "/a\\b",
        "/a%5cb",
        "/a;b=c",
        "/..;/admin",
        "/..",
        "/../etc/passwd",
        "/a/../../b",
        "/%2e%2e/x",
        "/.%2e/x",
        "/%c0%ae%c0%ae/x",
        "/a//../b",
        "http://shop.test/../x",
        "*",
        "shop.test:80",
    ] {
        let head = format!("GET {target} HTTP/1.1\r\nhost: shop.test\r\n\r\n");
        let answer = last_answer(&gate, head).await;
        answer.problem(400);
        assert_eq!(answer.header("connection"), Some("close"), "{target}");
    }

    assert_eq!((origin.requests("*"), origin.connections()), (0, 0));
    let malformed = [("reason", "malformed")];
    gate.until("headgate_rejects_total", &malformed, 22.0).await;
}

#[tokio::test]
async fn hosts_that_are_none_are_refused_closed_and_never_passed_on() {
    let origin = Origin::start("a").await;
    let gate = Gate::start(&Config::to(&[&origin])).await;

    for host in [
        "", "a b", "a,b", "user@a", "a/b", "a:b", "a:99999", "[::1", "[x]", "a..b", ".", "a%41",
        "a:80:80",
    ] {
        let head = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n");
        last_answer(&gate, head).await.problem(400);
    }
    let apart = "GET http://a/ HTTP/1.1\r\nhost: b\r\n\r\n";
    last_answer(&gate, apart).await.problem(400);
    let user = "GET http://u:p@a/ HTTP/1.1\r\nhost: a\r\n\r\n";
    last_answer(&gate, user).await.problem(400);

    assert_eq!((origin.requests("*"), origin.connections()), (0, 0));
}

#[tokio::test]
async fn endpoints_see_the_form_by_which_a_request_was_routed() {
    let (public, private) = (
        Origin::start("public").await,
        Origin::start("private").await,
    );
    let config = Config::new()
        .upstream("public", &[&public], "")
        .upstream("private", &[&private], "")
        .route("public", "path_prefix: /public", "upstream: public")
        .route("private", "path_prefix: /private", "upstream: private");
    let gate = Gate::start(&config).await;

    for (sent, by, target) in [
        ("/public/../private/x", "private", "/private/x"),
        ("/public/%2e%2E/private", "private", "/private"),
        ("/%70rivate/y", "private", "/private/y"),
        ("//private///z", "private", "/private/z"),
        (
            "/public/./%7Euser?q=/../%2f",
            "public",
            "/public/~user?q=/../%2f",
        ),
        ("/public/%c3%a9|", "public", "/public/%C3%A9%7C"),
        ("http://Shop.Test:80/public/a/.", "public", "/public/a/"),
        ("/public?", "public", "/public?"),
    ] {
        let answer = gate.get(sent).await.expect(200);
        assert_eq!(answer.by(), by, "{sent}");
        let origin = if by == "public" { &public } else { &private };
        let seen = origin.seen("*").pop().unwrap();
        assert_eq!(seen.target, target, "{sent}");
    }
    // Encoded twice is data, and stays so.
    gate.get("/public/%252e%252e/private").await.expect(200);
    assert_eq!(
        public.seen("*").pop().unwrap().target,
        "/public/%252e%252e/private"
    );
}

#[tokio::test]
async fn the_host_is_passed_on_as_it_was_matched() {
    let origin = Origin::start("a").await;
    let config = Config::new().upstream("shop", &[&origin], "").route(
        "shop",
        "host: shop.example",
        "upstream: shop",
    );
    let gate = Gate::start(&config).await;

    for (sent, seen) in [
        ("shop.example", "shop.example"),
        ("Shop.EXAMPLE.", "shop.example"),
        ("shop.example:80", "shop.example"),
        ("shop.example:8080", "shop.example:8080"),
    ] {
        gate.send(&Request::get("/h").header("host", sent))
            .await
            .expect(200);
        let last = origin.last("/h");
        assert_eq!(last.all("host"), [seen], "{sent}");
        assert_eq!(last.all("x-forwarded-host"), [seen], "{sent}");
    }
}

#[tokio::test]
async fn spellings_of_one_url_share_a_stored_answer_and_its_end() {
    let origin = Origin::start("a").await.on("*", |seen| {
        let reply = Reply::ok(format!("{} {}", seen.target, seen.earlier));
        match seen.method.as_str() {
            "GET" => reply.header("cache-control", "max-age=60"),
            _ => reply,
        }
    });
    let gate = Gate::start(&Config::cached(&[&origin])).await;

    let first = gate.get("/a/../b?x").await.expect(200);
    assert!(!first.is_hit());
    for (target, host) in [
        ("/b?x", "shop.test"),
        ("/./b?x", "SHOP.test:80"),
        ("//b?x", "shop.test."),
        ("/%62?x", "shop.test"),
        ("http://shop.test/b?x", "shop.test"),
    ] {
        let answer = gate
            .send(&Request::get(target).header("host", host))
            .await
            .expect(200);
        assert!(answer.is_hit(), "{target} at {host}: {}", answer.cache());
        assert_eq!(answer.text(), first.text());
    }
    assert_eq!(origin.requests("*"), 1);

    gate.send(&Request::new("DELETE", "/c/../%62?x"))
        .await
        .expect(200);
    assert!(!gate.get("/b?x").await.expect(200).is_hit());
}

#[tokio::test]
async fn what_paths_may_hold_is_the_operators_choice() {
    let origin = Origin::start("a").await;
    let strict = Config::to(&[&origin]).top("paths: { merge_slashes: false }");
    let gate = Gate::start(&strict).await;
    gate.get("/a//b").await.problem(400);
    assert_eq!(origin.requests("*"), 0);

    let rules = "paths: { encoded_slash: keep, semicolon: keep }";
    gate.become_config(&Config::to(&[&origin]).top(rules)).await;
    for (sent, seen) in [
        ("/a%2fb", "/a%2Fb"),
        ("/a;v=1/b", "/a;v=1/b"),
        ("/a//b", "/a/b"),
    ] {
        gate.get(sent).await.expect(200);
        assert_eq!(origin.seen("*").pop().unwrap().target, seen);
    }
    for sent in ["/..;/a", "/a%2f..%2fb", "/%2e%2e;x/a", "/a%5cb"] {
        gate.get(sent).await.problem(400);
    }
    assert_eq!(origin.requests("*"), 3);
}

#[tokio::test]
async fn options_for_the_proxy_itself_are_answered_by_it() {
    let origin = Origin::start("a").await;
    let gate = Gate::start(&Config::to(&[&origin])).await;

    for request in [
        Request::new("OPTIONS", "*"),
        Request::new("OPTIONS", "*").header("max-forwards", "3"),
        Request::new("OPTIONS", "/p").header("max-forwards", "0"),
    ] {
        let answer = gate.send(&request).await.expect(204);
        let allow = answer.header("allow").unwrap();
        assert!(allow.contains("GET") && !allow.contains("TRACE"), "{allow}");
    }
    assert_eq!(origin.requests("*"), 0);

    let further = Request::new("OPTIONS", "/p").header("max-forwards", "3");
    gate.send(&further).await.expect(200);
    assert_eq!(origin.last("/p").all("max-forwards"), ["2"]);
    let get = Request::get("/g").header("max-forwards", "0");
    gate.send(&get).await.expect(200);
    assert_eq!(origin.last("/g").all("max-forwards"), ["0"]);
}

#[tokio::test]
async fn trace_is_off_unless_it_is_asked_for_and_shows_no_secret() {
    let origin = Origin::start("a").await;
    let gate = Gate::start(&Config::to(&[&origin])).await;
    let trace = Request::new("TRACE", "/p");
    let refused = gate.send(&trace).await;
    refused.problem(405);
    assert!(refused.header("allow").is_some());
    assert_eq!(origin.requests("*"), 0);

    gate.become_config(&Config::to(&[&origin]).top("trace: true"))
        .await;
    let mut here = trace.clone().header("max-forwards", "0");
    for secret in [
        "Cookie",
        "Authorization",
        "Proxy-Authorization",
        "Proxy-Authentication-Info",
        "Client-Cert",
        "Client-Cert-Chain",
        "X-Forwarded-For",
        "X-Auth-Request-User",
        "X-Api-Key",
        "X-Amz-Security-Token",
        "X-Csrf-Token",
        "Api-Key",
        "Referer",
        "Origin",
        "Sec-WebSocket-Key",
        "DPoP",
        "X-Anything",
    ] {
        here = here.header(secret, "SECRET");
    }
    let here = here
        .header("Via", "1.0 edge")
        .header("User-Agent", "test/1")
        .header("Accept", "*/*");
    let answer = gate.send(&here).await.expect(200);
    assert_eq!(answer.header("content-type"), Some("message/http"));
    let mut lines: Vec<&str> = answer.text().split("\r\n").collect();
    // The order of different fields means nothing (RFC 9110 section 5.3).
    lines[1..].sort_unstable();
    assert_eq!(
        lines,
        [
            "TRACE /p HTTP/1.1",
            "",
            "",
            "accept: */*",
            "host: shop.test",
            "max-forwards: 0",
            "user-agent: test/1",
            "via: 1.0 edge"
        ]
    );
    assert_eq!(origin.requests("*"), 0);

    gate.send(&trace.clone().header("max-forwards", "1"))
        .await
        .expect(200);
    assert_eq!(origin.last("/p").all("max-forwards"), ["0"]);
    gate.send(&trace.body("x")).await.problem(400);
}

#[tokio::test]
async fn an_expectation_that_nobody_knows_is_refused_and_the_known_one_passed_on() {
    let origin = Origin::start("a").await;
    let gate = Gate::start(&Config::to(&[&origin])).await;

    let unknown = Request::post("/p", "abc").header("expect", "miracles");
    gate.send(&unknown).await.problem(417);
    assert_eq!(origin.requests("*"), 0);
    // Without a body there is nothing to wait with.
    gate.send(&Request::get("/g").header("expect", "100-continue"))
        .await
        .expect(200);
    assert_eq!(origin.last("/g").header("expect"), None);

    let mut client = gate
        .begin(&Request::post("/p", "abc").header("expect", "100-continue"))
        .await;
    let mut answer = client.answer().await;
    if answer.status == 100 {
        answer = client.answer().await;
    }
    answer.expect(200);
    assert_eq!(origin.last("/p").all("expect"), ["100-continue"]);
}

#[tokio::test]
async fn an_absolute_target_has_the_scheme_of_the_connection_or_that_which_a_proxy_vouches_for() {
    let origin = Origin::start("a").await;
    let plain = Gate::start(&Config::to(&[&origin])).await;
    let trusting = Config::to(&[&origin]).top("trusted_proxies: [127.0.0.0/8]");
    let trusting = Gate::start(&trusting).await;
    let over_http1 = async |gate: &Gate, scheme: &str, proto: &str| {
        let request = Request::get(&format!("{scheme}://shop.test/p"));
        let request = request.header("x-forwarded-for", "203.0.113.9");
        let request = request.header("x-forwarded-proto", proto);
        gate.send(&request).await.status
    };
    let over_http2 = async |gate: &Gate, scheme: &str, proto: &str| {
        let mut wire = Wire::connect(gate).await;
        let fields = [
            (":method", "GET"),
            (":scheme", scheme),
            (":authority", "shop.test"),
            (":path", "/p"),
            ("x-forwarded-for", "203.0.113.9"),
            ("x-forwarded-proto", proto),
        ];
        wire.send(headers(1, END_STREAM, &fields)).await;
        wire.answer(1).await.status
    };
    for (gate, scheme, proto, status) in [
        (&plain, "http", "https", 200),
        (&plain, "https", "https", 400),
        (&trusting, "https", "https", 200),
        (&trusting, "http", "https", 200),
        (&trusting, "https", "http", 400),
    ] {
        let what = format!("{scheme} where {proto} is told");
        assert_eq!(
            over_http1(gate, scheme, proto).await,
            status,
            "{what} over HTTP/1.1"
        );
        assert_eq!(
            over_http2(gate, scheme, proto).await,
            status,
            "{what} over HTTP/2"
        );
    }
    assert_eq!(origin.requests("/p"), 6);
    assert!(origin.seen("*").iter().all(|seen| seen.target == "/p"));
}
