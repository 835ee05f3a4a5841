//! Who the client is, and that nobody can say it is somebody else.

use crate::harness::{
    Authority, Config, Gate, Origin, Reply, Request, Speaks, TlsClient, eventually,
};

const TRUSTED: &str = "trusted_proxies: [127.0.0.0/8, 10.0.0.0/8]";
/// A request that a trusted proxy sends on for a client.
fn from_outside(target: &str) -> Request {
    Request::get(target).header("x-forwarded-for", "203.0.113.9")
}

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
        // Nothing is known of a client that nobody names.
        let (proto, host) = match chain {
            "junk" => ("http", "shop.test"),
            _ => ("https", "outside.example"),
        };
        assert_eq!(seen.all("x-forwarded-proto"), [proto], "{chain}");
        assert_eq!(seen.all("x-forwarded-host"), [host], "{chain}");
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
    assert_eq!(
        origin.last("/p").all("x-forwarded-for"),
        ["unknown, 127.0.0.1"]
    );
}

#[tokio::test]
async fn a_proxy_that_writes_one_of_two_fields_is_never_taken_for_its_client() {
    let origin = Origin::start("a").await;
    let config = Config::new()
        .top(TRUSTED)
        .top(LOG)
        .top("forwarded: both")
        .upstream("shop", &[&origin], "")
        .route(
            "shop",
            "path_prefix: /",
            "upstream: shop, request_headers: { set: { X-Who: '{client_ip}' } }",
        );
    let gate = Gate::start(&config.one_worker()).await;
    for (forwarded, who) in [
        ("for=1.2.3.4", "unknown"),
        ("for=127.0.0.1", "unknown"),
        ("nonsense", "unknown"),
        ("for=203.0.113.9", "203.0.113.9"),
    ] {
        let request = from_outside("/p").header("forwarded", forwarded);
        gate.send(&request).await.expect(200);
        let seen = origin.last("/p");
        assert_eq!(seen.all("x-who"), [who], "{forwarded}");
        let elements = seen.header("forwarded").unwrap().to_owned();
        assert!(elements.starts_with(&format!("for={who}")), "{elements}");
    }
    let known = clients(&gate, 4).await;
    assert_eq!(known, ["unknown", "unknown", "unknown", "203.0.113.9"]);
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
async fn claims_of_the_untrusted_decide_neither_routes_nor_shards() {
    let (plain, special) = (Origin::start("plain").await, Origin::start("special").await);
    let fields = [
        "X-SSL-Client-Verify",
        "Client-Cert",
        "X-Forwarded-User",
        "X-Real-IP",
        "Remote-User",
        "Cf-Access-Jwt-Assertion",
        "X-Ms-Client-Principal",
        "X-Original-URL",
    ];
    let mut config = Config::new()
        .upstream("plain", &[&plain], "")
        .upstream("special", &[&special], "")
        .shard_map(
            "users",
            "key: { header: X-Forwarded-User }, strategy: list, \
             shards: [{ upstream: special, values: [admin] }], default: plain",
        )
        .route("plain", "path_prefix: /", "upstream: plain")
        .route("sharded", "path: /sharded", "shard_map: users");
    for (at, name) in fields.iter().enumerate() {
        let matches = format!("path_prefix: /{at}, headers: {{ {name}: {{ present: true }} }}");
        config = config.route(&format!("r{at}"), &matches, "upstream: special");
    }
    let gate = Gate::start(&config).await;
    let answers = async |by: &str| {
        for (at, name) in fields.iter().enumerate() {
            for spelt in [(*name).to_owned(), name.replace('-', "_")] {
                let request = Request::get(&format!("/{at}")).header(&spelt, "admin");
                let expected = if spelt == *name { by } else { "plain" };
                assert_eq!(
                    gate.send(&request).await.expect(200).by(),
                    expected,
                    "{spelt}"
                );
            }
        }
    };
    let sharded = Request::get("/sharded").header("x-forwarded-user", "admin");

    answers("plain").await;
    gate.send(&sharded).await.problem(400);
    assert_eq!(special.requests("*"), 0);

    gate.become_config(&config.clone().top(TRUSTED)).await;
    answers("special").await;
    assert_eq!(gate.send(&sharded).await.expect(200).by(), "special");
}

#[tokio::test]
async fn names_with_two_spellings_decide_only_where_they_are_kept() {
    let (plain, special) = (Origin::start("plain").await, Origin::start("special").await);
    let config = Config::new()
        .top("underscore_headers: keep")
        .upstream("plain", &[&plain], "")
        .upstream("special", &[&special], "")
        .route("plain", "path_prefix: /", "upstream: plain")
        .route(
            "special",
            "path_prefix: /, headers: { X_Secret: '1', X_Real_IP: { present: true } }",
            "upstream: special",
        )
        .route(
            "secret",
            "path_prefix: /s, headers: { X_Secret: '1' }",
            "upstream: special",
        );
    let gate = Gate::start(&config).await;
    let asks = |path: &str| {
        Request::get(path)
            .header("x_secret", "1")
            .header("x_real_ip", "6.6.6.6")
    };
    assert_eq!(gate.send(&asks("/")).await.expect(200).by(), "plain");
    assert_eq!(gate.send(&asks("/s")).await.expect(200).by(), "special");
}

#[tokio::test]
async fn what_gateways_tell_their_endpoints_cannot_be_told_by_clients() {
    let origin = Origin::start("a").await;
    let gate = Gate::start(&Config::to(&[&origin])).await;
    let names = "X-Amzn-Oidc-Data X-Amzn-Mtls-Clientcert-Leaf X-Goog-Authenticated-User-Email \
        X-Goog-Iap-Jwt-Assertion Cf-Access-Authenticated-User-Email X-Ms-Client-Principal-Name \
        Remote-User Remote-Groups Remote-Email Remote-Name X-Remote-User X-Remote-Group \
        X-Remote-Extra-Scopes X-Authentik-Username X-Pomerium-Claim-Email Tailscale-User-Login \
        X-Vouch-User X-Consumer-ID X-Credential-Identifier X-Anonymous-Consumer X-Token-Claim-Sub \
        OIDC-Claim-Sub OIDC_CLAIM_sub X-Auth-User X-Auth-Email X-WebAuth-User \
        X-Original-Remote-User X-Forwarded-User X-Forwarded-Access-Token TLS-Client-Cert \
        X-ClientCert Client-Certificate SSL-Cert SSL-Client-Verify X-SSL X-SSL-Cert X-Client-S-DN \
        X-Client-Subject X-Client-Serial X-Client-Fingerprint X-RealIP X-ClientIP \
        X-True-Client-IP X-Client-Address DO-Connecting-IP CF-Pseudo-IPv4 \
        CloudFront-Viewer-Address CloudFront-Forwarded-Proto Z-Forwarded-For Https X-Https X-Proto \
        X-Rewrite-URI X-Override-URL X-Proxy-URL X-Backend-Host X-Middleware-Subrequest \
        X-Envoy-Internal X-Envoy-Upstream-Rq-Timeout-Ms X-Envoy-Retry-On";
    let names: Vec<&str> = names.split_whitespace().collect();
    for some in names.chunks(30) {
        let request = some.iter().fold(Request::get("/p"), |request, name| {
            request.header(name, "FORGED")
        });
        gate.send(&request.header("x-harmless", "1"))
            .await
            .expect(200);
        let seen = origin.last("/p");
        assert_eq!(seen.all("x-harmless"), ["1"]);
        for name in some {
            assert_eq!(seen.header(&name.to_ascii_lowercase()), None, "{name}");
        }
    }
}

#[tokio::test]
async fn a_claim_that_is_kept_passes_from_everybody_and_the_cache_minds_it() {
    let origin = Origin::start("a").await.on("/p", |seen| {
        let said = seen
            .header("x-proto")
            .or_else(|| seen.header("x-auth-user"));
        Reply::ok(said.unwrap_or("-").to_owned()).header("cache-control", "max-age=60")
    });
    let keep = "claims: { keep: [X-Proto, x-auth-user] }";
    let gate = Gate::start(&Config::cached(&[&origin]).top(keep)).await;
    for (name, value, text, hit) in [
        ("x-other", "1", "-", false),
        ("x-proto", "https", "https", false),
        ("x-proto", "https", "https", true),
        ("x_proto", "https", "-", true),
        ("x-auth-user", "eve", "eve", false),
        ("x-auth-user", "ann", "ann", false),
        ("x-auth-email", "eve", "-", true),
    ] {
        let answer = gate.send(&Request::get("/p").header(name, value)).await;
        let got = (answer.text(), answer.is_hit());
        assert_eq!(got, (text, hit), "{name}: {value}");
    }
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
            .send(&from_outside("/p").header("x-forwarded-host", told))
            .await;
        assert_eq!((answer.text(), answer.is_hit()), (text, hit), "{told}");
    }
    assert!(gate.get("/p").await.is_hit());
}

#[tokio::test]
async fn a_host_and_a_scheme_count_only_beside_a_word_about_the_client() {
    let origin = Origin::start("a").await;
    let config = Config::new()
        .top(TRUSTED)
        .upstream("shop", &[&origin], "")
        .route(
            "moved",
            "path: /moved",
            "redirect: { to: 'https://{host}/' }",
        )
        .route(
            "shop",
            "path_prefix: /",
            "upstream: shop, redirect: { https: true }",
        );
    let gate = Gate::start(&config).await;

    // The proxy says nothing of whom it asks for: these may be the client's own words.
    for request in [
        Request::get("/moved").header("x-forwarded-host", "evil.example"),
        Request::get("/moved")
            .header("x-forwarded-host", "evil.example")
            .header("x-forwarded-for", "unknown"),
    ] {
        let answer = gate.send(&request).await.expect(302);
        assert_eq!(answer.all("location"), ["https://shop.test/"]);
    }
    let plain = Request::get("/p").header("x-forwarded-proto", "https");
    gate.send(&plain).await.expect(308);
    assert_eq!(origin.requests("*"), 0);

    let told = from_outside("/moved").header("x-forwarded-host", "outside.example");
    let answer = gate.send(&told).await.expect(302);
    assert_eq!(answer.all("location"), ["https://outside.example/"]);
    // Of a list, the member that the proxy next to us wrote.
    let list = from_outside("/moved").header("x-forwarded-host", "evil.example, outside.example");
    let answer = gate.send(&list).await.expect(302);
    assert_eq!(answer.all("location"), ["https://outside.example/"]);
    let secure = from_outside("/p").header("x-forwarded-proto", "https");
    gate.send(&secure).await.expect(200);
    assert_eq!(origin.last("/p").all("x-forwarded-proto"), ["https"]);

    let rfc7239 = Config::new()
        .top(TRUSTED)
        .top("forwarded: rfc7239")
        .upstream("shop", &[&origin], "")
        .route(
            "moved",
            "path_prefix: /",
            "redirect: { to: '{scheme}://{host}/' }",
        )
        .route("shop", "path: /unused", "upstream: shop");
    gate.become_config(&rfc7239).await;
    for (value, location) in [
        ("host=evil.example;proto=https", "http://shop.test/"),
        (
            "for=unknown;host=evil.example;proto=https",
            "http://shop.test/",
        ),
        (
            "for=203.0.113.9, for=10.0.0.2;host=inner;proto=https",
            "http://shop.test/",
        ),
        (
            "for=203.0.113.9;host=out.example;proto=https, for=10.0.0.2;host=inner",
            "https://out.example/",
        ),
    ] {
        let request = Request::get("/moved").header("forwarded", value);
        let answer = gate.send(&request).await.expect(302);
        assert_eq!(answer.all("location"), [location], "{value}");
    }
}

#[tokio::test]
async fn a_proxy_on_a_unix_socket_is_trusted_where_the_config_says_so() {
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin])
        .only_listener("address: 'unix:gate.sock'")
        .top(LOG);
    let gate = Gate::start(&config.clone().top("trusted_proxies: [unix]")).await;
    let request = from_outside("/p")
        .header("x-forwarded-for", "10.0.0.9")
        .header("x-forwarded-proto", "https")
        .header("x-forwarded-host", "outside.example");
    let send = async || {
        let mut client = gate.unix_client("gate.sock").await;
        client.send(&request).await.expect(200);
        origin.last("/p")
    };

    let seen = send().await;
    // Its socket is no address, and nobody behind could walk past it.
    assert_eq!(seen.all("x-forwarded-for"), ["10.0.0.9"]);
    assert_eq!(seen.all("x-forwarded-proto"), ["https"]);
    assert_eq!(seen.all("x-forwarded-host"), ["outside.example"]);

    let rfc7239 = "trusted_proxies: [unix, 10.0.0.0/8]\nforwarded: both";
    gate.become_config(&config.clone().top(rfc7239)).await;
    let seen = send().await;
    assert_eq!(seen.all("x-forwarded-for"), ["203.0.113.9, 10.0.0.9"]);
    assert_eq!(
        seen.all("forwarded"),
        [
            "for=203.0.113.9;host=outside.example;proto=https, for=10.0.0.9, \
             for=unknown;host=shop.test;proto=http"
        ]
    );

    gate.become_config(&config.top("trusted_proxies: [10.0.0.0/8]"))
        .await;
    let seen = send().await;
    assert_eq!(seen.all("x-forwarded-for"), ["unknown"]);
    assert_eq!(seen.all("x-forwarded-host"), ["shop.test"]);
    assert_eq!(
        clients(&gate, 3).await,
        ["10.0.0.9", "203.0.113.9", "unix:"]
    );
}

#[tokio::test]
async fn a_client_on_a_unix_socket_of_the_proxys_machine_is_not_trusted_for_that() {
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin])
        .only_listener("address: 127.0.0.1:0, proxy_protocol: { from: [127.0.0.1] }")
        .top("trusted_proxies: [unix]");
    let gate = Gate::start(&config).await;
    let mut client = gate.client().await;
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\xd8".to_vec();
    bytes.extend_from_slice(&[0; 216]);
    bytes.extend(from_outside("/p").bytes());
    client.write(bytes).await;
    client.answer().await.expect(200);
    assert_eq!(origin.last("/p").all("x-forwarded-for"), ["unknown"]);
}

/// Claims of another target, which a trusted proxy may pass on from a client.
const ELSEWHERE: [&str; 8] = [
    "x-original-url",
    "x-rewrite-url",
    "x-original-host",
    "x-http-host-override",
    "x-host",
    "x-forwarded-prefix",
    "x-forwarded-port",
    "x-forwarded-scheme",
];

#[tokio::test]
async fn no_claim_of_another_target_poisons_what_is_stored_for_a_url() {
    let origin = Origin::start("a").await.on("/p", |seen| {
        let claims: Vec<&str> = ELSEWHERE.iter().filter_map(|it| seen.header(it)).collect();
        Reply::ok(claims.join(" ")).header("cache-control", "max-age=60")
    });
    let gate = Gate::start(&Config::cached(&[&origin]).top(TRUSTED)).await;
    for name in ELSEWHERE {
        for round in 0..2 {
            let request = from_outside("/p").header(name, "/evil");
            let answer = gate.send(&request).await.expect(200);
            assert_eq!(answer.text(), "/evil", "{name}");
            // It is stored for those who ask for the same.
            assert_eq!(answer.is_hit(), round == 1, "{name}");
        }
        let others = from_outside("/p").header(name, "/other");
        assert_eq!(gate.send(&others).await.expect(200).text(), "/other");
        let none = gate.send(&from_outside("/p")).await.expect(200);
        assert_eq!(none.text(), "", "{name}");
    }
    // A write ends all that is stored for its URL, whatever it was stored for.
    let claimed = from_outside("/p").header("x-forwarded-prefix", "/evil");
    assert!(gate.send(&claimed).await.is_hit());
    gate.send(&Request::new("DELETE", "/p")).await.expect(200);
    assert!(!gate.send(&claimed).await.is_hit());
    assert!(!gate.send(&from_outside("/p")).await.is_hit());

    // From others these fields do not reach the origin, and mean nothing to the cache.
    gate.become_config(&Config::cached(&[&origin])).await;
    let stored = gate.get("/p").await.expect(200);
    for name in ELSEWHERE {
        let request = Request::get("/p").header(name, "/evil");
        let answer = gate.send(&request).await.expect(200);
        assert_eq!((answer.text(), answer.is_hit()), (stored.text(), true));
    }
}

#[tokio::test]
async fn another_method_in_a_field_goes_past_the_cache_whoever_asks() {
    let origin = Origin::start("a").await.on("/p", |seen| {
        let method = seen.header("x-http-method-override").unwrap_or("GET");
        Reply::ok(method.to_owned()).header("cache-control", "max-age=60")
    });
    for trusted in [TRUSTED, "trusted_proxies: []"] {
        let gate = Gate::start(&Config::cached(&[&origin]).top(trusted)).await;
        let evil = from_outside("/p").header("X-HTTP-Method-Override", "DELETE");
        for _ in 0..2 {
            let answer = gate.send(&evil).await.expect(200);
            assert_eq!(answer.text(), "DELETE");
            assert_eq!(answer.cache(), "headgate; fwd=method");
        }
        for hit in [false, true] {
            let answer = gate.send(&from_outside("/p")).await.expect(200);
            assert_eq!((answer.text(), answer.is_hit()), ("GET", hit));
        }
    }
}

#[tokio::test]
async fn an_answer_for_somebody_whom_a_proxy_names_is_nobody_elses() {
    let origin = Origin::start("a").await.on("/p", |seen| {
        let user = seen.header("x-auth-request-user").unwrap_or("nobody");
        Reply::ok(user.to_owned()).header("cache-control", "max-age=60")
    });
    let gate = Gate::start(&Config::cached(&[&origin]).top(TRUSTED)).await;
    for user in ["ann", "bob", "ann"] {
        let request = from_outside("/p").header("x-auth-request-user", user);
        let answer = gate.send(&request).await.expect(200);
        assert_eq!(answer.text(), user);
        assert_eq!(answer.cache(), "headgate; fwd=bypass; detail=authorization");
    }
    assert_eq!(gate.send(&from_outside("/p")).await.text(), "nobody");
}

/// What endpoints are told of a request to the test below.
const ADDED: [(&str, &str); 8] = [
    ("host", "shop.test"),
    ("x-forwarded-for", "127.0.0.1"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "shop.test"),
    ("forwarded", "for=127.0.0.1;host=shop.test;proto=https"),
    ("via", "1.1 headgate"),
    ("x-tenant", "shop"),
    ("x-tag", "edge"),
];
/// What its endpoint would have taken away.
const SWORN: [&str; 8] = [
    "x-request-id",
    "cache-status",
    "age",
    "vary",
    "via",
    "strict-transport-security",
    "access-control-allow-origin",
    "x-edge",
];

#[tokio::test]
async fn no_option_of_connection_takes_away_what_headgate_says() {
    let folder = tempfile::tempdir().unwrap();
    let (servers, staff) = (Authority::new("servers"), Authority::new("staff"));
    servers
        .issue(&["shop.test"], 2040)
        .write(folder.path(), "shop");
    std::fs::write(folder.path().join("staff.pem"), staff.pem()).unwrap();
    let member = staff.issue(&["ann"], 2040);
    let speaks = Speaks {
        shows: Some(&member),
        ..Speaks::default()
    };
    let client = TlsClient::new(&servers, speaks);
    let origin = Origin::start("a").await.on("*", |_| {
        Reply::ok("x")
            .header("connection", &SWORN.join(", "))
            .header("cache-control", "max-age=60")
    });
    let edge = "hsts: { max_age: 1d }, cors: { origins: ['https://a.test'] }, \
                request_headers: { set: { X-Tenant: shop }, add: { X-Tag: edge } }, \
                response_headers: { set: { X-Edge: ours } }";
    let config = Config::new()
        .top("forwarded: both")
        .only_listener(
            "address: 127.0.0.1:0, tls: { certificates: [{ cert: shop.pem, key: shop.key }], \
             client_auth: { mode: optional, ca: staff.pem } }",
        )
        .upstream("shop", &[&origin], "sticky: { cookie: WHERE }")
        .route(
            "straight",
            "path: /straight",
            &format!("upstream: shop, {edge}"),
        )
        .route(
            "cached",
            "path: /cached",
            &format!("upstream: shop, cache: {{}}, {edge}"),
        );
    let gate = Gate::start_in(folder, &config).await;
    let mut names: Vec<&str> = ADDED.iter().map(|(name, _)| *name).collect();
    names.extend(["X-Request-Id", "CLIENT-CERT", "client-cert-chain", "close"]);

    for (path, anonymous) in [("/straight", false), ("/cached", false), ("/cached", true)] {
        let others = TlsClient::trusting(&servers);
        let client = if anonymous { &others } else { &client };
        let request = Request::get(path)
            .header("connection", &names.join(", "))
            .header("origin", "https://a.test");
        let mut stream = client.connect(gate.address, "shop.test").await.unwrap();
        let answer = stream.send(&request).await.expect(200);
        let seen = origin.last(path);
        for (name, value) in ADDED {
            assert_eq!(seen.all(name), [value], "{path} {name}");
        }
        assert_eq!(
            seen.all("x-request-id"),
            [answer.header("x-request-id").unwrap()]
        );
        assert_eq!(seen.all("client-cert").len(), usize::from(!anonymous));
        // Nor can an endpoint take away what its clients are told.
        for (name, value) in [
            ("strict-transport-security", "max-age=86400"),
            ("access-control-allow-origin", "https://a.test"),
            ("vary", "origin"),
            ("x-edge", "ours"),
            ("via", "1.1 headgate"),
        ] {
            assert_eq!(answer.all(name), [value], "{path} {name}");
        }
        assert!(answer.cookie("WHERE").is_some(), "{path}");
        let cached = path == "/cached";
        assert_eq!(answer.header("cache-status").is_some(), cached, "{path}");
    }
}
