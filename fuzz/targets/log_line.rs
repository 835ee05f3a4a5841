//! A line of the access log: whatever a client sent, it is one line, JSON holds it exactly, and the
//! combined form cannot be broken out of.
#![no_main]

use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use headgate::proxy::access_log::{EndedBy, Format, Record, RequestLine, Stamp, Timings};
use http::{Method, StatusCode, Version};
use libfuzzer_sys::fuzz_target;
use uuid::Uuid;

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(4, |byte| *byte == b'\n');
    let mut part = || parts.next().unwrap_or_default();
    let (method, host, target, text) = (part(), part(), part(), part());
    let method = Method::from_bytes(method).unwrap_or_default();
    let record = Record {
        at: UNIX_EPOCH + Duration::from_millis(1_795_250_940_123),
        request_id: Uuid::nil(),
        client: SocketAddr::from(([192, 0, 2, 7], 40001)).into(),
        line: Some(RequestLine {
            method: &method,
            target,
            version: Version::HTTP_11,
        }),
        host,
        tls: None,
        cipher: None,
        route: Some("products"),
        upstream: None,
        endpoint: None,
        status: StatusCode::OK,
        bytes_in: 0,
        bytes_out: 1024,
        timings: Timings::default(),
        retries: 0,
        cache: None,
        ended_by: EndedBy::Headgate,
        reason: None,
        user_agent: Some(text),
        referer: Some(target),
        generation: 3,
    };
    let mut line = Vec::new();
    Format::Json.write(&record, &mut Stamp::default(), &mut line);
    assert_eq!(
        line.iter().position(|byte| *byte == b'\n'),
        Some(line.len() - 1)
    );
    let value: serde_json::Value = serde_json::from_slice(&line).expect("JSON");
    assert_eq!(value["status"], 200);
    assert_eq!(value["method"], method.as_str());
    if let Ok(text) = std::str::from_utf8(text) {
        assert_eq!(value["user_agent"], text);
    }

    let mut line = Vec::new();
    Format::Combined.write(&record, &mut Stamp::default(), &mut line);
    assert_eq!(
        line.iter().position(|byte| *byte == b'\n'),
        Some(line.len() - 1)
    );
    assert!(line.is_ascii() && !line[..line.len() - 1].iter().any(u8::is_ascii_control));
    // Three quoted texts, and no quote within them that is not escaped.
    let text = String::from_utf8(line).expect("ASCII");
    let bare = text.replace("\\\\", "").replace("\\\"", "");
    assert_eq!(bare.matches('"').count(), 6, "{text}");
});
