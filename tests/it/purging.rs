//! Purging by hand: the operators' interface, the command line and the method `PURGE`.

use std::process::ExitStatus;

use serde_json::{Value, json};

use crate::harness::{
    Answer, Client, Config, Gate, Latch, Metrics, Origin, Process, Reply, Request, Timed,
    eventually,
};

/// An origin whose answers are fresh for an hour and tagged by their path: `/t/a+b` has the tags a and b.
async fn origin() -> Origin {
    Origin::start("o").await.on("*", |seen| {
        let tags = seen
            .path()
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_owned();
        Reply::ok(seen.target.clone())
            .header("cache-control", "max-age=3600")
            .header("etag", "\"1\"")
            .header("surrogate-key", &tags.replace('+', " "))
    })
}

async fn ask(gate: &Timed, body: &Value) -> Answer {
    let request = Request::new("POST", "/api/purge").json(body);
    let request = request.or_host(&gate.admin.to_string());
    Client::connect(gate.admin).await.send(&request).await
}

async fn metrics(gate: &Timed) -> Metrics {
    let mut operator = Client::connect(gate.admin).await;
    Metrics::parse(operator.get("/metrics").await.expect(200).text())
}

/// How many answers a purge has reached.
async fn purge(gate: &Timed, body: Value) -> u64 {
    let answer = ask(gate, &body).await.expect(200).json();
    answer["purged"].as_u64().unwrap()
}

#[track_caller]
fn refuses(answer: &Answer, status: u16, words: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains(words), "{detail}");
}

async fn at(gate: &Timed, host: &str, target: &str) -> Answer {
    let request = Request::get(target).header("host", host);
    gate.send(&request).await.expect(200)
}

const ALL: [(&str, &str); 5] = [
    ("shop.test", "/t/a"),
    ("shop.test", "/t/a+b"),
    ("shop.test", "/t/b?x=1"),
    ("shop.test", "/tea"),
    ("other.test", "/t/a"),
];

/// Which of `ALL` are still served after a purge, and how many it says that it has reached.
async fn left(body: Value) -> (Vec<(&'static str, &'static str)>, u64) {
    let origin = origin().await;
    let gate = Timed::caching(&origin, "").await;
    for (host, target) in ALL {
        at(&gate, host, target).await;
    }
    let mut dry = body.clone();
    dry["dry_run"] = true.into();
    let would = ask(&gate, &dry).await.expect(200).json();
    for (host, target) in ALL {
        assert!(
            at(&gate, host, target).await.is_hit(),
            "a dry run of {body}"
        );
    }
    let reached = purge(&gate, body.clone()).await;
    assert_eq!(would["would_purge"], reached, "{body}");
    let mut left = Vec::new();
    for (host, target) in ALL {
        if at(&gate, host, target).await.is_hit() {
            left.push((host, target));
        }
    }
    (left, reached)
}

#[tokio::test]
async fn a_purge_reaches_what_it_names_and_nothing_else() {
    let [a, ab, b, tea, other] = ALL;
    for (body, kept) in [
        (
            json!({ "url": "http://shop.test/t/a" }),
            vec![ab, b, tea, other],
        ),
        // In the form of requests.
        (
            json!({ "url": "HTTP://Shop.Test:80/x/../%74/b?x=1#part" }),
            vec![a, ab, tea, other],
        ),
        (json!({ "url": "https://shop.test/t/a" }), ALL.to_vec()),
        (json!({ "url": "http://shop.test/t/b" }), ALL.to_vec()),
        (json!({ "prefix": "http://shop.test/t/" }), vec![tea, other]),
        (json!({ "prefix": "http://shop.test/t" }), vec![other]),
        (json!({ "tag": "a" }), vec![b, tea]),
        (json!({ "tags": ["b", "tea"] }), vec![a, other]),
        (json!({ "tag": "A" }), ALL.to_vec()),
        (json!({ "host": "other.test" }), vec![a, ab, b, tea]),
        (json!({ "host": "Other.Test:443" }), vec![a, ab, b, tea]),
        (json!({ "all": true }), vec![]),
    ] {
        let reached = (ALL.len() - kept.len()) as u64;
        assert_eq!(left(body.clone()).await, (kept, reached), "{body}");
    }
}

#[tokio::test]
async fn all_variants_of_a_url_go_and_are_counted() {
    let origin = Origin::start("o").await.on("/p", |seen| {
        Reply::ok(seen.header("accept-language").unwrap_or("none").to_owned())
            .header("cache-control", "max-age=3600")
            .header("vary", "accept-language")
    });
    let gate = Timed::caching(&origin, "").await;
    let languages = ["de", "en", "fr"];
    for language in languages {
        gate.get_with("/p", &[("accept-language", language)]).await;
    }
    assert_eq!(
        purge(&gate, json!({ "url": "http://shop.test/p" })).await,
        3
    );
    for language in languages {
        let answer = gate.get_with("/p", &[("accept-language", language)]).await;
        assert!(!answer.is_hit(), "{language}");
    }
    assert_eq!(origin.requests("/p"), 6);
}

#[tokio::test]
async fn what_is_stored_without_some_parameters_is_purged_by_any_of_its_urls() {
    let origin = origin().await;
    let rule = "purge: [127.0.0.1], key: { query: { drop: [\"utm_*\"] } }";
    let gate = Timed::caching(&origin, rule).await;
    gate.get("/p?utm_a=1").await.expect(200);
    assert!(gate.get("/p?utm_b=1").await.is_hit());
    let url = json!({ "url": "http://shop.test/p?utm_c=1" });
    assert_eq!(purge(&gate, url).await, 1);
    assert!(!gate.get("/p").await.is_hit());
    let method = Request::new("PURGE", "/p?utm_d=1");
    gate.send(&method).await.expect(200);
    assert!(!gate.get("/p").await.is_hit());
}

#[tokio::test]
async fn a_soft_purge_leaves_an_answer_that_is_asked_about_and_served_while_the_origin_fails() {
    let mut origin = Origin::start("o")
        .await
        .on("/p", |seen| match seen.header("if-none-match") {
            Some(_) => Reply::new(304).header("cache-control", "max-age=3600"),
            None => Reply::ok("p")
                .header("cache-control", "max-age=3600")
                .header("etag", "\"1\"")
                .header("surrogate-key", "t"),
        });
    for body in [
        json!({ "url": "http://shop.test/p", "soft": true }),
        json!({ "tag": "t", "soft": true }),
        json!({ "prefix": "http://shop.test/", "soft": true }),
        json!({ "host": "shop.test", "soft": true }),
        json!({ "all": true, "soft": true }),
    ] {
        let gate = Timed::caching(&origin, "").await;
        gate.get("/p").await.expect(200);
        assert_eq!(purge(&gate, body.clone()).await, 1, "{body}");
        let confirmed = gate.get("/p").await.expect(200);
        let status = "headgate; fwd=stale; fwd-status=304";
        assert_eq!(confirmed.cache(), status, "{body}");
        // Its tags are known still, though the 304 has not repeated them.
        assert!(gate.get("/p").await.is_hit());
        assert_eq!(purge(&gate, body.clone()).await, 1, "{body}");

        origin.kill().await;
        let stale = gate.get("/p").await.expect(200);
        assert_eq!(
            stale.cache(),
            "headgate; fwd=stale; detail=stale-if-error",
            "{body}"
        );
        origin.restart().await;
        let mut hard = body.clone();
        hard["soft"] = false.into();
        assert_eq!(purge(&gate, hard).await, 1);
        assert!(gate.get("/p").await.cache().contains("uri-miss"), "{body}");
    }
}

#[tokio::test]
async fn a_purge_by_tag_beats_a_fetch_in_flight() {
    let latch = Latch::new();
    let wait = latch.clone();
    let origin = Origin::start("o").await.on("/p", move |seen| {
        let reply = match seen.earlier {
            0 => Reply::ok("old").after(&wait),
            _ => Reply::ok("new"),
        };
        reply
            .header("cache-control", "max-age=3600")
            .header("cache-tag", "t, u")
    });
    let gate = Timed::caching(&origin, "").await;
    let mut early = gate.client().await;
    early.write(Request::get("/p").bytes()).await;
    origin.until_asked("/p", 1).await;
    assert_eq!(purge(&gate, json!({ "tag": "u" })).await, 0);
    let mut late = gate.client().await;
    late.write(Request::get("/p").bytes()).await;
    eventually(
        "it waits for a fetch that may be the right one",
        async || {
            let waiting = metrics(&gate)
                .await
                .sum("headgate_http_in_flight_requests", &[]);
            (waiting.total_cmp(&2.0).is_eq()).then_some(())
        },
    )
    .await;
    latch.open();

    assert_eq!(early.answer().await.expect(200).text(), "old");
    assert_eq!(late.answer().await.expect(200).text(), "new");
    let after = gate.get("/p").await;
    assert_eq!((after.text(), after.is_hit()), ("new", true));
}

#[tokio::test]
async fn the_memory_of_what_was_purged_is_given_back() {
    let origin = Origin::start("o").await.on("*", |_| {
        Reply::ok("x".repeat(100_000)).header("cache-control", "max-age=3600")
    });
    let gate = Timed::caching(&origin, "").await;
    for number in 0..50 {
        gate.get(&format!("/{number}")).await.expect(200);
    }
    let bytes = async || metrics(&gate).await.sum("headgate_cache_bytes", &[]);
    assert!(bytes().await > 5e6);
    assert_eq!(purge(&gate, json!({ "host": "shop.test" })).await, 50);
    assert!(bytes().await < 1e5, "{}", bytes().await);
    // A second one finds nothing.
    assert_eq!(purge(&gate, json!({ "all": true })).await, 0);
}

#[tokio::test]
async fn what_cannot_be_read_purges_nothing_and_is_told() {
    let origin = origin().await;
    let gate = Timed::caching(&origin, "").await;
    gate.get("/t/a").await.expect(200);
    for (body, words) in [
        (json!({}), "name one of"),
        (json!({ "soft": true }), "name one of"),
        (json!({ "all": false }), "name one of"),
        (json!({ "tag": "a", "host": "shop.test" }), "name one of"),
        (json!({ "all": true, "tag": "a" }), "name one of"),
        (json!({ "tags": [] }), "a tag has a name"),
        (json!({ "tag": " " }), "a tag has a name"),
        (json!({ "url": "/t/a" }), "`/t/a` is no URL"),
        (json!({ "url": "ftp://shop.test/" }), "is no URL"),
        (json!({ "url": "http://shop.test/%zz" }), "two hex digits"),
        (json!({ "prefix": "shop.test" }), "is no URL"),
        (json!({ "host": "http://shop.test" }), "is no host"),
        (json!({ "host": "" }), "is no host"),
        (
            json!({ "urls": ["http://shop.test/"] }),
            "unknown field `urls`",
        ),
        (json!({ "all": "yes" }), "expected a boolean"),
        (json!([1]), "no JSON object"),
    ] {
        let refused = ask(&gate, &body).await;
        refuses(&refused, 400, words);
    }
    let large = json!({ "tags": vec!["t".repeat(1000); 300] });
    ask(&gate, &large).await.expect(413);
    let from_elsewhere = Request::new("POST", "/api/purge")
        .header("host", &gate.admin.to_string())
        .header("origin", "http://evil.test")
        .json(&json!({ "all": true }));
    let mut client = Client::connect(gate.admin).await;
    client.send(&from_elsewhere).await.expect(403);
    let mut client = Client::connect(gate.admin).await;
    let look = Request::get("/api/purge").or_host(&gate.admin.to_string());
    let refused = client.send(&look).await.expect(405);
    assert_eq!(refused.header("allow"), Some("POST"));
    assert!(gate.get("/t/a").await.is_hit());
}

#[tokio::test]
async fn too_many_prefixes_are_refused_until_they_mean_nothing_any_more() {
    let origin = origin().await;
    let gate = Timed::caching(&origin, "").await;
    for number in 0..256 {
        let prefix = format!("http://shop.test/{number}/");
        assert_eq!(purge(&gate, json!({ "prefix": prefix })).await, 0);
    }
    let more = json!({ "prefix": "http://shop.test/more" });
    let refused = ask(&gate, &more).await;
    refuses(&refused, 429, "too many prefixes");
    gate.advance(3601);
    // The refused one has had the others looked through; so does every other purge.
    purge(&gate, json!({ "tag": "t" })).await;
    assert_eq!(purge(&gate, more).await, 0);
}

#[tokio::test]
async fn what_is_said_to_this_cache_is_not_passed_on() {
    const FOR_US: [(&str, &str); 4] = [
        ("surrogate-key", "a b"),
        ("cache-tag", "c"),
        ("surrogate-control", "max-age=60"),
        ("headgate-cache-control", "max-age=60"),
    ];
    let with = |reply: Reply| {
        let reply = FOR_US
            .iter()
            .fold(reply, |reply, (name, value)| reply.header(name, value));
        reply.header("cdn-cache-control", "max-age=60")
    };
    let origin = Origin::start("o")
        .await
        .on("/p", move |_| with(Reply::ok("p")).header("etag", "\"1\""))
        .on("/no", move |_| with(Reply::ok("p")).header("vary", "*"));
    let gate = Timed::caching(&origin, "").await;
    let held = [("if-none-match", "\"1\"")];
    for (what, answer) in [
        ("the first", gate.get("/p").await.expect(200)),
        ("a hit", gate.get("/p").await.expect(200)),
        ("a 304", gate.get_with("/p", &held).await.expect(304)),
        ("what is not stored", gate.get("/no").await.expect(200)),
        ("what is known not to be", gate.get("/no").await.expect(200)),
        ("a write", gate.send(&Request::post("/p", "x")).await),
    ] {
        for (name, _) in FOR_US {
            assert_eq!(answer.header(name), None, "{name} of {what}");
        }
        if answer.status == 200 {
            assert_eq!(
                answer.header("cdn-cache-control"),
                Some("max-age=60"),
                "{what}"
            );
        }
    }
}

// ---- the method PURGE --------------------------------------------------------------------------

#[tokio::test]
async fn the_method_purges_a_url_where_its_route_says_who_may() {
    let origin = origin().await;
    let rule = "purge: [192.0.2.0/24, 127.0.0.0/8]";
    let gate = Timed::caching(&origin, rule).await;
    for target in ["/t/a", "/t/a?x"] {
        gate.get(target).await.expect(200);
    }
    let mut soft = Request::new("PURGE", "/t/a").header("soft-purge", "1");
    let answer = gate.send(&soft).await.expect(200);
    assert_eq!(answer.json(), json!({ "purged": true, "soft": true }));
    assert!(gate.get("/t/a").await.cache().contains("fwd=stale"));
    soft = Request::new("PURGE", "/t/a").header("soft-purge", "yes");
    gate.send(&soft).await.expect(400);
    assert!(gate.get("/t/a").await.is_hit());

    let answer = gate
        .send(&Request::new("PURGE", "/x/../t/%61"))
        .await
        .expect(200);
    assert_eq!(answer.json(), json!({ "purged": true, "soft": false }));

    assert!(gate.get("/t/a").await.cache().contains("fwd=uri-miss"));
    assert!(gate.get("/t/a?x").await.is_hit());
    assert!(origin.seen("*").iter().all(|seen| seen.method == "GET"));
}

#[tokio::test]
async fn the_method_is_for_nobody_else_and_never_sent_on_by_a_caching_route() {
    let origin = origin().await;
    let config = Config::new()
        .upstream("shop", &[&origin], "")
        .route(
            "open",
            "path_prefix: /open, methods: [GET]",
            "upstream: shop, cache: { purge: [10.0.0.0/8, unix] }",
        )
        .route("shut", "path_prefix: /shut", "upstream: shop, cache: {}")
        .route("plain", "path_prefix: /plain", "upstream: shop");
    let gate = Timed::start(config).await;
    let purge = |path: &str| Request::new("PURGE", path);
    gate.get("/open/a").await.expect(200);
    // Nobody's word about the client counts here.
    let claims = purge("/open/a").header("x-forwarded-for", "10.0.0.1");
    gate.send(&claims).await.problem(403);
    assert!(gate.get("/open/a").await.is_hit());
    gate.get("/shut/a").await.expect(200);
    let refused = gate.send(&purge("/shut/a")).await;
    refused.problem(405);
    assert!(refused.header("allow").is_some());
    assert!(gate.get("/shut/a").await.is_hit());
    assert!(origin.seen("*").iter().all(|seen| seen.method == "GET"));
    // A route that does not cache has nothing to do with it.
    gate.send(&purge("/plain/a")).await.expect(200);
    assert_eq!(origin.last("/plain/a").method, "PURGE");
}

#[tokio::test]
async fn a_trusted_proxy_says_who_purges_and_unix_sockets_are_named() {
    let origin = origin().await;
    let config = Config::new()
        .top("trusted_proxies: [127.0.0.1]")
        .listener("address: unix:web.sock")
        .upstream("shop", &[&origin], "")
        .route(
            "shop",
            "path_prefix: /",
            "upstream: shop, cache: { purge: [10.0.0.0/8] }",
        );
    let gate = Gate::start(&config).await;
    let purge = Request::new("PURGE", "/p");
    gate.send(&purge).await.problem(403);
    let told = |address: &str| purge.clone().header("x-forwarded-for", address);
    gate.send(&told("10.1.2.3")).await.expect(200);
    gate.send(&told("11.1.2.3")).await.problem(403);
    gate.unix_client("web.sock")
        .await
        .send(&purge)
        .await
        .problem(403);
    let text = config.text().replace("10.0.0.0/8", "unix");
    gate.write(&text);
    gate.reload().await.expect(200);
    gate.unix_client("web.sock")
        .await
        .send(&purge)
        .await
        .expect(200);
    gate.send(&told("10.1.2.3")).await.problem(403);
    gate.until(
        "headgate_cache_purges_total",
        &[("selector", "url"), ("strength", "hard")],
        2.0,
    )
    .await;
}

// ---- the command line --------------------------------------------------------------------------

struct Ended {
    status: ExitStatus,
    output: String,
    errors: String,
}

async fn command(gate: &Gate, arguments: &[&str]) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    let admin = gate.admin.to_string();
    let fixed = ["purge", "--admin", &admin];
    let all = fixed.iter().chain(arguments).copied();
    let mut process = Process::start(all, folder.path());
    let status = process.end().await;
    Ended {
        status,
        output: process.output().join("\n"),
        errors: process.errors().join("\n"),
    }
}

#[tokio::test]
async fn the_command_purges_and_says_what_it_has_reached() {
    let origin = origin().await;
    let gate = Gate::start(&Config::cached(&[&origin])).await;
    for (arguments, words) in [
        (
            &["--tag", "a", "--dry-run"][..],
            "would purge 2 stored answers",
        ),
        (
            &["--tag", "a", "--soft", "--dry-run"],
            "would make 2 stored answers stale",
        ),
        (&["--url", "http://shop.test/t/a"], "purged 1 stored answer"),
        (&["--tag", "a", "--tag", "b"], "purged 3 stored answers"),
        (
            &["--prefix", "http://shop.test/t/a"],
            "purged 2 stored answers",
        ),
        (
            &["--host", "shop.test", "--soft"],
            "made 3 stored answers stale",
        ),
        (&["--all"], "purged 3 stored answers"),
    ] {
        for path in ["/t/a", "/t/a+b", "/t/b"] {
            gate.get(path).await.expect(200);
        }
        let ended = command(&gate, arguments).await;
        assert_eq!(ended.output, words, "{arguments:?}: {}", ended.errors);
        assert!(ended.status.success());
    }
    let metrics = gate.metrics().await;
    for (series, value) in [
        ("{selector=url,strength=hard}", 1),
        ("{selector=tag,strength=hard}", 1),
        ("{selector=tag,strength=soft}", 0),
        ("{selector=prefix,strength=hard}", 1),
        ("{selector=host,strength=soft}", 1),
        ("{selector=all,strength=hard}", 1),
    ] {
        let series = format!("headgate_cache_purges_total{series}");
        assert_eq!(
            metrics.total(&series).to_string(),
            value.to_string(),
            "{series}"
        );
    }
}

#[tokio::test]
async fn the_command_fails_with_the_words_of_the_refusal() {
    let origin = origin().await;
    let gate = Gate::start(&Config::cached(&[&origin])).await;
    let refused = command(&gate, &["--url", "shop.test"]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        refused.errors.contains("`shop.test` is no URL"),
        "{}",
        refused.errors
    );
    for wrong in [&["--soft"][..], &["--all", "--tag", "a"]] {
        let ended = command(&gate, wrong).await;
        assert_eq!(ended.status.code(), Some(2), "{}", ended.errors);
    }
    // By the config of one that uses a fixed address; nobody listens there.
    let folder = tempfile::tempdir().unwrap();
    let text = config_with_admin(&origin, "127.0.0.1:1");
    std::fs::write(folder.path().join("gate.yaml"), text).unwrap();
    let mut process = Process::start(["purge", "-c", "gate.yaml", "--all"], folder.path());
    assert_eq!(process.end().await.code(), Some(1));
    let errors = process.errors().join("\n");
    assert!(
        errors.contains("the operators' listener at 127.0.0.1:1"),
        "{errors}"
    );
}

fn config_with_admin(origin: &Origin, address: &str) -> String {
    let text = Config::cached(&[origin]).text();
    text.replace(
        "admin: { address: 127.0.0.1:0 }",
        &format!("admin: {{ address: {address} }}"),
    )
}

#[tokio::test]
async fn what_was_fetched_before_a_soft_purge_does_not_replace_what_came_after_it() {
    let latch = Latch::new();
    let held = latch.clone();
    let origin = Origin::start("a").await.on("/p", move |seen| {
        let reply = match seen.earlier {
            0 => Reply::ok("old").after(&held),
            _ => Reply::ok("new"),
        };
        reply.header("cache-control", "max-age=600")
    });
    let gate = Timed::caching(&origin, "").await;
    let early = async {
        let answer = gate.get("/p").await.expect(200);
        assert_eq!(answer.text(), "old");
    };
    let late = async {
        origin.until_asked("/p", 1).await;
        ask(&gate, &json!({ "all": true, "soft": true }))
            .await
            .expect(200);
        assert_eq!(gate.get("/p").await.expect(200).text(), "new");
        latch.open();
    };
    tokio::join!(early, late);

    let answer = gate.get("/p").await.expect(200);

    assert_eq!(answer.text(), "new");
    assert!(answer.is_hit(), "{}", answer.cache());
    assert_eq!(origin.requests("/p"), 2);
}
