//! What only HTTP/2 can put into a field, and the access log: one line each, and nothing in it that a
//! screen could obey.

use crate::harness::{Config, Gate, Origin};
use crate::log_lines::{json, lines};

use super::wire::{END_STREAM, Wire, fields, headers};

const EVIL: &str = "/\nGET\r\n\u{1b}[2J\u{7f}\u{85}\u{9b}\u{2028}\\\",\"status\":200,\"x\":\"";

#[tokio::test]
async fn no_byte_of_a_field_forges_a_line_of_the_access_log() {
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin])
        .top("access_log: { format: json, path: access.log }")
        .one_worker();
    let gate = Gate::start(&config).await;
    let printable: String = EVIL.chars().filter(|c| !c.is_ascii_control()).collect();
    let mut logged = 0;
    for evil in [EVIL, "\n", "\r", "\u{1b}", "\u{7f}", &printable] {
        for at in [":path", ":authority", ":method", ":scheme", ":protocol"] {
            let mut all = fields("GET", "/p", &[]);
            match all.iter_mut().find(|(name, _)| *name == at) {
                Some(field) => field.1 = evil,
                None => all.insert(0, (at, evil)),
            }
            logged += usize::from(is_answered(&gate, &all).await);
        }
        for name in ["user-agent", "referer", "host", "sec-websocket-protocol"] {
            let all = fields("GET", "/p", &[(name, evil)]);
            logged += usize::from(is_answered(&gate, &all).await);
        }
    }
    let mut wire = Wire::connect(&gate).await;
    wire.fetch(1, "/last").await.expect(200);
    for line in lines(&gate, logged + 1).await {
        let status = json(&line)["status"].as_u64().unwrap();
        assert!(matches!(status, 200 | 400..=599), "{status}");
    }
}

#[tokio::test]
async fn what_is_refused_is_logged_with_the_version_of_its_connection() {
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin])
        .top("access_log: { format: json, path: access.log }")
        .one_worker();
    let gate = Gate::start(&config).await;
    let mut wire = Wire::connect(&gate).await;
    // One that is refused for what it asks, and one that is no request at all.
    for (stream, method, host) in [(1, "TRACE", "shop.test"), (3, "GET", "other.test")] {
        let all = fields(method, "/p", &[("host", host)]);
        wire.send(headers(stream, END_STREAM, &all)).await;
        let answer = wire.answer(stream).await;
        assert!((400..500).contains(&answer.status), "{answer:?}");
    }
    let logged = lines(&gate, 2).await;
    assert_eq!(json(&logged[0])["version"], "HTTP/2.0");
    // What is no request has no line of one.
    assert!(
        json(&logged[1])["version"].is_null(),
        "{}",
        json(&logged[1])
    );
    assert_eq!(origin.requests("*"), 0);
}

/// Whether a request with these fields has an answer: others are reset, and were none.
async fn is_answered(gate: &Gate, all: &[(&str, &str)]) -> bool {
    let mut wire = Wire::connect(gate).await;
    wire.send(headers(1, END_STREAM, all)).await;
    wire.until("an end", |wire| {
        let answer = wire.so_far(1);
        wire.closed || answer.ended || answer.reset.is_some()
    })
    .await;
    wire.so_far(1).status != 0
}
