//! Who the client is, and that nobody can say it is somebody else.

use crate::harness::{Config, Gate, Origin, Reply, Request, eventually};

const TRUSTED: &str = "trusted_proxies: [127.0.0.0/8, 10.0.0.0/8]";
const LOG: &str = "access_log: { format: json, path: access.log }";

/// The clients of the access log, once it has so many lines.
async fn clients(gate: &Gate, count: usize) -> Vec<String> {
    let path = gate.file("access.log");
    eventually("the lines are there", async || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        let client = |line: &serde_json::Value| line["client"].as_str().unwrap().to_owned();
        (lines.len() >= count).then(|| lines.iter().map(client).collect())
    })
    .await
}

#[tokio::test]
async fn no_claim_of_the_untrusted_reaches_an_endpoint() {
    let origin = Origin::start("a").await;
    let gate = Gate::start(&Config::to(&[&origin]).top(LOG)).await;

    let names = [
        "X-Forwarded-For",
        "x_forwarded_for",
        "X.Forwarded.For",
        "X-Forwarded_For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Forwarded-Prefix",
        "X-Forwarded-Port",
        "X-Forwarded-Ssl",
        "X-Forwarded",
        "Forwarded",
        "Forwarded-For",
        "X-Real-IP",
        "X_Real_IP",
        "X-Client-IP",
        "X-Cluster-Client-IP",
        "True-Client-IP",
        "CF-Connecting-IP",
        "Fastly-Client-IP",
        "Client-IP",
        "Client-Cert",
        "Client_Cert",
        "Client-Cert-Chain",
        "X-Client-Cert",
        "X-SSL-Client-Verify",
        "SSL-Client-Cert",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Original-Host",
        "X-Original-Forwarded-For",
        "X-Request-ID",
        "Proxy",
        "Front-End-Https",
        "X-Envoy-External-Address",
        "X-Any_Thing",
    ];
    let mut request = Request::get("/p").header(
        "connection",
        "x-forwarded-for, via, x-request-id, forwarded",
    );
    for name in names {
        request = request.header(name, "6.6.6.6");
    }
    gate.send(&request).await.expect(200);

    let seen = origin.last("/p");
    assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.all("x-forwarded-proto"), ["http"]);
    assert_eq!(seen.all("x-forwarded-host"), ["shop.test"]);
    assert_eq!(seen.all("via"), ["1.1 headgate"]);
    assert_eq!(seen.all("x-request-id").len(), 1);
    for name in names {
        let values = seen.all(&name.to_ascii_lowercase());
        assert!(!values.contains(&"6.6.6.6"), "{name}: {values:?}");
    }
    assert_eq!(clients(&gate, 1).await, ["127.0.0.1"]);
}

#[tokio::test]
async fn a_trusted_proxy_names_the_client_and_what_it_vouches_for_is_passed_on() {
    let origin = Origin::start("a").await;
    let gate = Gate::start(&Config::to(&[&origin]).top(TRUSTED).top(LOG)).await;

    for (chain, client, passed) in [
        ("203.0.113.9", "203.0.113.9", "203.0.113.9, 127.0.0.1"),
        (
            "6.6.6.6, 203.0.113.9",
            "203.0.113.9",
            "203.0.113.9, 127.0.0.1",
        ),
        (
            "203.0.113.9, 10.1.2.3",
            "203.0.113.9",
            "203.0.113.9, 10.1.2.3, 127.0.0.1",
        ),
        (
            "[2001:db8::1]:4711",
            "2001:db8::1",
            "2001:db8::1, 127.0.0.1",
        ),
        ("6.6.6.6, junk, 10.1.2.3", "10.1.2.3", "10.1.2.3, 127.0.0.1"),
        ("junk", "127.0.0.1", "127.0.0.1"),
    ] {
        let request = Request::get("/p")
            .header("x-forwarded-for", chain)
            .header("x-forwarded-proto", "https")
            .header("x-forwarded-host", "Outside.example:443")
            .header("x-forwarded-prefix", "/shop")
            .header("x_forwarded_prefix", "/evil")
            .header("forwarded", "for=6.6.6.6");
        gate.send(&request).await.expect(200);
        let seen = origin.last("/p");
        assert_eq!(seen.all("x-forwarded-for"), [passed], "{chain}");
        assert_eq!(seen.all("x-forwarded-proto"), ["https"]);
        assert_eq!(seen.all("x-forwarded-host"), ["outside.example"]);
        assert_eq!(seen.all("x-forwarded-prefix"), ["/shop"]);
        assert_eq!(seen.all("x_forwarded_prefix"), [] as [&str; 0]);
        assert_eq!(seen.all("forwarded"), [] as [&str; 0]);
        let known = clients(&gate, origin.requests("/p")).await;
        assert_eq!(known.last().unwrap(), client, "{chain}");
    }
}

#[tokio::test]
async fn lists_over_several_lines_are_one_chain() {
    let origin = Origin::start("a").await;
    let gate = Gate::start(&Config::to(&[&origin]).top(TRUSTED)).await;
    let request = Request::get("/p")
        .header("x-forwarded-for", "6.6.6.6, 203.0.113.9")
        .header("x-forwarded-for", "10.1.2.3");
    gate.send(&request).await.expect(200);
    assert_eq!(
        origin.last("/p").all("x-forwarded-for"),
        ["203.0.113.9, 10.1.2.3, 127.0.0.1"]
    );
}

#[tokio::test]
async fn forwarded_of_rfc_7239_is_read_and_written_where_it_is_chosen() {
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin]).top(LOG).one_worker();
    let gate = Gate::start(&config.clone().top("forwarded: rfc7239")).await;

    gate.send(&Request::get("/p").header("forwarded", "for=6.6.6.6"))
        .await
        .expect(200);
    let seen = origin.last("/p");
    assert_eq!(
        seen.all("forwarded"),
        ["for=127.0.0.1;host=shop.test;proto=http"]
    );
    assert_eq!(seen.all("x-forwarded-for"), [] as [&str; 0]);

    gate.become_config(&config.clone().top("forwarded: rfc7239").top(TRUSTED))
        .await;
    let element = "for=6.6.6.6, for=\"[2001:db8::1]:4711\";proto=https;host=\"out:81\"";
    let request = Request::get("/p")
        .header("forwarded", element)
        .header("x-forwarded-for", "7.7.7.7");
    gate.send(&request).await.expect(200);
    assert_eq!(
        origin.last("/p").all("forwarded"),
        [
            "for=\"[2001:db8::1]\";host=\"out:81\";proto=https, for=127.0.0.1;host=shop.test;proto=http"
        ]
    );
    for broken in [
        "for=\"",
        "for=203.0.113.9;for=1.1.1.1",
        "for=_hidden",
        "for=unknown",
    ] {
        gate.send(&Request::get("/p").header("forwarded", broken))
            .await
            .expect(200);
    }
    let known = clients(&gate, 6).await;
    assert_eq!(known[1], "2001:db8::1");
    assert!(
        known[2..].iter().all(|client| client == "127.0.0.1"),
        "{known:?}"
    );

    gate.become_config(&config.top("forwarded: both").top(TRUSTED))
        .await;
    let apart = Request::get("/p")
        .header("forwarded", "for=1.1.1.1")
        .header("x-forwarded-for", "2.2.2.2");
    gate.send(&apart).await.expect(200);
    assert_eq!(origin.last("/p").all("x-forwarded-for"), ["127.0.0.1"]);
}

#[tokio::test]
async fn a_trusted_proxys_request_id_is_kept_and_nobody_elses() {
    let origin = Origin::start("a").await;
    let gate = Gate::start(&Config::to(&[&origin])).await;
    let id = "0193ee6f-8a00-7000-8000-0000000000ff";
    let request = Request::get("/p").header("x-request-id", id);

    let answer = gate.send(&request).await.expect(200);
    assert_ne!(answer.header("x-request-id"), Some(id));

    gate.become_config(&Config::to(&[&origin]).top(TRUSTED))
        .await;
    let answer = gate.send(&request).await.expect(200);
    assert_eq!(answer.header("x-request-id"), Some(id));
    assert_eq!(origin.last("/p").all("x-request-id"), [id]);
    let odd = Request::get("/p").header("x-request-id", "a\"b");
    let answer = gate.send(&odd).await.expect(200);
    assert_eq!(answer.header("x-request-id").unwrap().len(), 36);
}

#[tokio::test]
async fn names_with_underscores_pass_where_they_are_kept_but_no_claims_among_them() {
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin]);
    let gate = Gate::start(&config).await;
    let request = Request::get("/p")
        .header("api_key", "1")
        .header("x_real_ip", "6.6.6.6");

    gate.send(&request).await.expect(200);
    assert_eq!(origin.last("/p").header("api_key"), None);

    gate.become_config(&config.top("underscore_headers: keep"))
        .await;
    gate.send(&request).await.expect(200);
    assert_eq!(origin.last("/p").header("api_key"), Some("1"));
    assert_eq!(origin.last("/p").header("x_real_ip"), None);
}

#[tokio::test]
async fn what_connection_lists_decides_nothing() {
    let (plain, special) = (Origin::start("plain").await, Origin::start("special").await);
    let config = Config::new()
        .upstream("plain", &[&plain], "")
        .upstream("special", &[&special], "")
        .route("plain", "path_prefix: /", "upstream: plain")
        .route(
            "special",
            "path_prefix: /, headers: { x-key: { present: true } }",
            "upstream: special",
        );
    let gate = Gate::start(&config).await;

    let listed = Request::get("/")
        .header("connection", "X-Key")
        .header("x-key", "1");
    assert_eq!(gate.send(&listed).await.expect(200).by(), "plain");
    let plainly = Request::get("/").header("x-key", "1");
    assert_eq!(gate.send(&plainly).await.expect(200).by(), "special");
}

#[tokio::test]
async fn no_client_can_forge_a_line_of_the_log() {
    let origin = Origin::start("a").await;
    let format = "access_log: { format: combined, path: access.log }";
    let gate = Gate::start(&Config::to(&[&origin]).top(format).top(TRUSTED)).await;

    let request = Request::get("/p?x='\\%0a")
        .header("user-agent", "a\"\\ - [2J\t6.6.6.6")
        .header("referer", "\" 200 0 \"")
        .header("x-forwarded-for", "1.1.1.1\" - -");
    gate.send(&request).await;
    gate.get("/next").await.expect(200);
    let path = gate.file("access.log");
    let text = eventually("two lines", async || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        (text.matches('\n').count() >= 2).then_some(text)
    })
    .await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    for line in lines {
        assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
        assert_eq!(line.matches('"').count(), 6, "{line}");
        assert!(
            line.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
            "{line:?}"
        );
    }
}

#[tokio::test]
async fn a_host_that_a_proxy_has_told_is_a_part_of_the_caches_key() {
    let origin = Origin::start("a").await.on("/p", |seen| {
        Reply::ok(seen.header("x-forwarded-host").unwrap_or("-").to_owned())
            .header("cache-control", "max-age=60")
    });
    let gate = Gate::start(&Config::cached(&[&origin]).top(TRUSTED)).await;
    for (told, text, hit) in [
        ("evil.example", "evil.example", false),
        ("shop.test", "shop.test", false),
        ("SHOP.test:80", "shop.test", true),
        ("evil.example", "evil.example", true),
    ] {
        let answer = gate
            .send(&Request::get("/p").header("x-forwarded-host", told))
            .await;
        assert_eq!((answer.text(), answer.is_hit()), (text, hit), "{told}");
    }
    assert!(gate.get("/p").await.is_hit());
}
