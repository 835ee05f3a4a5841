//! One line a request.

use std::path::Path;

use serde_json::Value;

use crate::harness::{Config, Gate, Latch, Origin, Reply, Request, eventually};

/// Waits until the log has so many lines.
async fn lines(path: &Path, count: usize) -> Vec<String> {
    let what = format!("{} has {count} lines", path.display());
    eventually(&what, async || {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let lines: Vec<String> = whole.lines().map(str::to_owned).collect();
        (lines.len() >= count).then_some(lines)
    })
    .await
}

async fn json_lines(gate: &Gate, count: usize) -> Vec<Value> {
    let lines = lines(&gate.file("access.log"), count).await;
    assert_eq!(lines.len(), count, "{lines:#?}");
    lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn what_is_refused_unread_is_logged_without_a_request_line() {
    let origin = Origin::start("a").await;
    let gate = Gate::start(&Config::to(&[&origin]).top(JSON)).await;
    let mut client = gate.client().await;
    client.write("BREW coffee\r\n\r\n").await;
    client.answer().await.problem(400);

    let line = &json_lines(&gate, 1).await[0];
    assert_eq!(
        (&line["status"], &line["reason"]),
        (&400.into(), &"malformed".into())
    );
    for key in ["method", "path", "host", "version"] {
        assert_eq!(line.get(key), None, "{line}");
    }
}

const JSON: &str = "access_log: { format: json, path: access.log }";

#[tokio::test]
async fn a_line_says_who_asked_for_what_and_who_answered() {
    let origin = Origin::start("a")
        .await
        .on("/p", |_| Reply::new(201).body("12345"));
    let gate = Gate::start(&Config::to(&[&origin]).top(JSON)).await;

    let request = Request::post("/p?q='x'&\\", "abc")
        .header("host", "shop.example")
        .header("user-agent", "test/1 \"quoted\"")
        .header("referer", "http://elsewhere.test/");
    let answer = gate.send(&request).await.expect(201);
    let line = &json_lines(&gate, 1).await[0];

    assert_eq!(line["request_id"], answer.header("x-request-id").unwrap());
    let address = origin.address().to_string();
    for (key, value) in [
        ("client", "127.0.0.1"),
        ("method", "POST"),
        ("host", "shop.example"),
        ("path", "/p?q='x'&\\"),
        ("version", "HTTP/1.1"),
        ("route", "shop"),
        ("upstream", "shop"),
        ("endpoint", &address),
        ("ended_by", "upstream"),
        ("user_agent", "test/1 \"quoted\""),
        ("referer", "http://elsewhere.test/"),
    ] {
        assert_eq!(line[key], value, "{key}");
    }
    for (key, value) in [
        ("status", 201),
        ("bytes_in", 3),
        ("bytes_out", 5),
        ("retries", 0),
        ("generation", 1),
    ] {
        assert_eq!(line[key], value, "{key}");
    }
    for key in ["t_connect", "t_ttfb", "t_total"] {
        assert!(
            line[key].as_f64().is_some_and(|seconds| seconds >= 0.0),
            "{key}: {line}"
        );
    }
    assert!(line["client_port"].as_u64().unwrap() > 0);
    for absent in ["cache", "reason", "tls", "t_queue"] {
        assert_eq!(line.get(absent), None, "{absent}");
    }
}

#[tokio::test]
async fn each_request_of_a_connection_has_its_line() {
    let origin = Origin::start("a").await;
    let gate = Gate::start(&Config::to(&[&origin]).top(JSON)).await;
    let mut client = gate.client().await;

    let mut ids = Vec::new();
    for number in 0..50 {
        let answer = client.get(&format!("/{number}")).await.expect(200);
        ids.push(answer.header("x-request-id").unwrap().to_owned());
    }
    let logged: Vec<String> = json_lines(&gate, 50)
        .await
        .iter()
        .map(|line| line["request_id"].as_str().unwrap().to_owned())
        .collect();

    assert_eq!(logged, ids);
}

#[tokio::test]
async fn what_the_cache_made_of_a_request_is_logged() {
    let origin = Origin::start("a").await;
    let config = Config::new().upstream("shop", &[&origin], "").route(
        "shop",
        "path_prefix: /",
        "upstream: shop, cache: { default_ttl: 1h }",
    );
    let gate = Gate::start(&config.top(JSON).one_worker()).await;

    gate.get("/p").await.expect(200);
    gate.get("/p").await.expect(200);
    gate.send(&Request::post("/p", "x")).await.expect(200);
    let lines = json_lines(&gate, 3).await;

    let cache: Vec<&str> = lines
        .iter()
        .map(|line| line["cache"].as_str().unwrap())
        .collect();
    assert_eq!(cache, ["miss", "hit", "bypass"]);
    assert_eq!(lines[1].get("endpoint"), None, "a hit asked nobody");
    assert_eq!(lines[0]["upstream"], "shop");
}

#[tokio::test]
async fn a_client_that_left_is_logged_as_such() {
    let never = Latch::new();
    let (one, other) = (never.clone(), never.clone());
    let origin = Origin::start("a")
        .await
        .on("/before", move |_| Reply::ok("").after(&one))
        .on("/within", move |_| {
            Reply::new(200)
                .header("content-length", "9")
                .then("part")
                .then_wait(&other)
        });
    let gate = Gate::start(&Config::to(&[&origin]).top(JSON)).await;

    let before = gate.begin(&Request::get("/before")).await;
    origin.until_asked("/before", 1).await;
    drop(before);
    lines(&gate.file("access.log"), 1).await;
    let mut within = gate.begin(&Request::get("/within")).await;
    within.head().await.expect(200);
    drop(within);
    let lines = json_lines(&gate, 2).await;

    assert_eq!(
        (&lines[0]["status"], &lines[0]["ended_by"]),
        (&499.into(), &"client".into())
    );
    assert_eq!(
        (&lines[1]["status"], &lines[1]["ended_by"]),
        (&200.into(), &"client".into())
    );
    assert_eq!(lines[1]["bytes_out"], 4);
}

#[tokio::test]
async fn a_request_that_failed_is_logged_with_the_reason() {
    let mut origin = Origin::start("a").await.on("/part", |_| {
        Reply::new(200)
            .header("content-length", "9")
            .then("part")
            .close()
    });
    let config = Config::new()
        .upstream("shop", &[&origin], "")
        .route("shop", "path_prefix: /", "upstream: shop")
        .route("none", "host: none.test, path: /here", "upstream: shop");
    let gate = Gate::start(&config.top(JSON)).await;

    let mut client = gate.begin(&Request::get("/part")).await;
    client.until_closed().await;
    lines(&gate.file("access.log"), 1).await;
    origin.kill().await;
    let refused = gate.get("/refused").await;
    let id = refused.problem(502)["request_id"].clone();
    let lines = json_lines(&gate, 2).await;

    assert_eq!(
        (&lines[0]["status"], &lines[0]["ended_by"]),
        (&200.into(), &"upstream".into())
    );
    assert_eq!(lines[0]["reason"], "http_response_incomplete");
    assert_eq!(
        (&lines[1]["status"], &lines[1]["ended_by"]),
        (&502.into(), &"upstream".into())
    );
    assert_eq!(
        (&lines[1]["reason"], &lines[1]["request_id"]),
        (&"connection_refused".into(), &id)
    );
}

#[tokio::test]
async fn a_request_that_no_route_took_is_logged() {
    let origin = Origin::start("a").await;
    let config = Config::new().upstream("shop", &[&origin], "").route(
        "shop",
        "path_prefix: /shop",
        "upstream: shop",
    );
    let gate = Gate::start(&config.top(JSON)).await;

    gate.get("/elsewhere").await.problem(404);
    let line = &json_lines(&gate, 1).await[0];

    assert_eq!(
        (&line["status"], &line["reason"]),
        (&404.into(), &"no_route".into())
    );
    assert_eq!(line.get("route"), None);
}

#[tokio::test]
async fn a_line_cannot_be_forged() {
    let origin = Origin::start("a").await;
    let gate = Gate::start(&Config::to(&[&origin]).top(JSON)).await;

    let evil = "x\u{85}\u{2028}\t\"},{\"status\":999";
    gate.send(&Request::get("/p").header("user-agent", evil))
        .await
        .expect(200);
    let line = &json_lines(&gate, 1).await[0];

    assert_eq!(
        (line["status"].as_u64(), line["user_agent"].as_str()),
        (Some(200), Some(evil))
    );
}

#[tokio::test]
async fn the_combined_format_is_as_other_tools_read_it() {
    let origin = Origin::start("a").await.on("/p", |_| Reply::ok("12345"));
    let top = "access_log: { format: combined, path: access.log }";
    let gate = Gate::start(&Config::to(&[&origin]).top(top)).await;

    gate.send(&Request::get("/p?q=1").header("user-agent", "test/1"))
        .await
        .expect(200);
    let line = lines(&gate.file("access.log"), 1).await.remove(0);

    let (start, rest) = line.split_once(" [").unwrap();
    let (time, end) = rest.split_once("] ").unwrap();
    assert_eq!(start, "127.0.0.1 - -");
    assert_eq!(end, "\"GET /p?q=1 HTTP/1.1\" 200 5 \"-\" \"test/1\"");
    // 21/Nov/2026:09:43:05 +0000
    assert_eq!(
        (time.len(), &time[2..3], &time[21..]),
        (26, "/", "+0000"),
        "{time}"
    );
}

#[tokio::test]
async fn lines_go_to_standard_output_unless_a_file_is_named() {
    let origin = Origin::start("a").await;
    let gate = Gate::start(&Config::to(&[&origin]).top("access_log: { format: json }")).await;

    let answer = gate.get("/p").await.expect(200);

    let line = gate.process.line("\"path\":\"/p\"").await;
    assert!(
        line.contains(answer.header("x-request-id").unwrap()),
        "{line}"
    );
}

#[tokio::test]
async fn what_was_not_written_yet_is_written_at_the_end() {
    let origin = Origin::start("a").await;
    let mut gate = Gate::start(&Config::to(&[&origin]).top(JSON)).await;

    for _ in 0..20 {
        gate.get("/p").await.expect(200);
    }
    gate.stop().await;

    let text = std::fs::read_to_string(gate.file("access.log")).unwrap();
    assert_eq!(text.lines().count(), 20);
}
