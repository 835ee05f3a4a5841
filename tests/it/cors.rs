//! Which pages of other origins may read what.

use crate::harness::{Answer, Config, Gate, Origin, Reply, Request};

const RULE: &str = "upstream: shop, cache: {}, cors: { origins: ['https://a.example', 'https://*.b.example'], \
                    methods: [GET, PUT], headers: [X-Key], expose: [X-Total], credentials: true, max_age: 10m }";

async fn gate(rule: &str) -> (Origin, Gate) {
    let origin = Origin::start("a").await.on("*", |_| {
        Reply::ok("x")
            .header("access-control-allow-origin", "*")
            .header("cache-control", "max-age=60")
    });
    let config = Config::new().upstream("shop", &[&origin], "").route(
        "shop",
        "path_prefix: /, methods: [GET, PUT]",
        rule,
    );
    let gate = Gate::start(&config).await;
    (origin, gate)
}

fn allowed(answer: &Answer) -> Vec<&str> {
    answer.all("access-control-allow-origin")
}

#[tokio::test]
async fn a_preflight_is_answered_at_the_edge() {
    let (origin, gate) = gate(RULE).await;
    let preflight = |from: &str| {
        Request::new("OPTIONS", "/p")
            .header("origin", from)
            .header("access-control-request-method", "PUT")
            .header("access-control-request-headers", "x-key")
    };

    let answer = gate
        .send(&preflight("https://x.b.example"))
        .await
        .expect(204);
    assert_eq!(allowed(&answer), ["https://x.b.example"]);
    for (name, value) in [
        ("access-control-allow-methods", "GET, PUT"),
        ("access-control-allow-headers", "x-key"),
        ("access-control-allow-credentials", "true"),
        ("access-control-max-age", "600"),
    ] {
        assert_eq!(answer.all(name), [value]);
    }
    assert!(answer.all("vary").contains(&"origin"));
    let refused = gate
        .send(&preflight("https://evil.example"))
        .await
        .expect(204);
    assert_eq!(allowed(&refused), [] as [&str; 0]);
    assert_eq!(refused.header("access-control-allow-methods"), None);
    assert!(refused.all("vary").contains(&"origin"));

    assert_eq!(origin.requests("*"), 0);
    // Not a preflight: the route takes no `OPTIONS`.
    gate.send(&Request::new("OPTIONS", "/p")).await.problem(404);
}

#[tokio::test]
async fn one_stored_answer_is_told_to_each_origin_in_its_own_way() {
    let (origin, gate) = gate(RULE).await;
    for (from, expected) in [
        (Some("https://a.example"), vec!["https://a.example"]),
        (Some("https://x.b.example"), vec!["https://x.b.example"]),
        (Some("https://b.example"), vec![]),
        (Some("https://a.example.evil"), vec![]),
        (Some("null"), vec![]),
        (None, vec![]),
    ] {
        let mut request = Request::get("/p");
        if let Some(from) = from {
            request = request.header("origin", from);
        }
        let answer = gate.send(&request).await.expect(200);
        assert_eq!(allowed(&answer), expected, "{from:?}");
        assert_eq!(answer.all("vary"), ["origin"], "{from:?}");
    }
    assert_eq!(origin.requests("/p"), 1);
}

#[tokio::test]
async fn everybody_may_read_what_is_for_everybody() {
    let (_origin, gate) = gate("upstream: shop, cors: { origins: ['*'] }").await;
    let answer = gate
        .send(&Request::get("/p").header("origin", "https://any"))
        .await
        .expect(200);
    assert_eq!(allowed(&answer), ["*"]);
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    assert_eq!(answer.header("vary"), None);
}

#[tokio::test]
async fn a_script_may_read_why_its_request_was_refused() {
    let config = Config::new().upstream_at("gone", "127.0.0.1:1", "").route(
        "gone",
        "path_prefix: /",
        "upstream: gone, cors: { origins: ['https://a.example'] }",
    );
    let gate = Gate::start(&config).await;
    let answer = gate
        .send(&Request::get("/p").header("origin", "https://a.example"))
        .await;
    answer.problem(502);
    assert_eq!(allowed(&answer), ["https://a.example"]);
}
