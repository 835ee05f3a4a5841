//! A record as one line.
//!
//! | format | absent fields | text of clients is escaped as |
//! |---|---|---|
//! | `Json` | left out | JSON; what is not UTF-8 becomes U+FFFD, as in `String::from_utf8_lossy` |
//! | `Combined` | `-` | `\xHH`, as nginx does |
//!
//! The invariant: whatever a client sends, a line holds one line feed, its last byte, and a text
//! stays inside its quotes. Controls, DEL, and the C1 controls, line separators and text direction
//! marks of Unicode are escaped, so that a log is also harmless on a terminal.

use std::io::Write as _;
use std::time::Duration;

use http::Version;

use super::stamp::digits;
use super::{Record, Stamp};

/// Form of an access log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object. Times are in seconds, with microseconds.
    Json,
    /// The "combined" format of Apache httpd and nginx.
    Combined,
}

impl Format {
    /// Appends `record` to `out`, line feed included.
    pub fn write(self, record: &Record<'_>, stamp: &mut Stamp, out: &mut Vec<u8>) {
        match self {
            Self::Json => json(record, stamp, out),
            Self::Combined => combined(record, stamp, out),
        }
        out.push(b'\n');
    }
}

fn json(record: &Record<'_>, stamp: &mut Stamp, out: &mut Vec<u8>) {
    let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
    let id = record.request_id.as_hyphenated().encode_lower(&mut id);
    let timings = &record.timings;

    out.extend_from_slice(b"{\"ts\":\"");
    stamp.rfc3339(record.at, out);
    out.push(b'"');
    let mut object = Members { out };
    object.text("request_id", id.as_bytes());
    object.display("client", record.client.host());
    // A proxy that names its client rarely tells its port.
    if let Some(port) = record.client.port().filter(|port| *port != 0) {
        object.number("client_port", port);
    }
    if let Some(line) = &record.line {
        object.text("method", line.method.as_str().as_bytes());
        object.text("host", record.host);
        object.text("path", line.target);
        object.text("version", version(line.version).as_bytes());
    }
    object.maybe_text("tls", record.tls.map(str::as_bytes));
    object.maybe_text("cipher", record.cipher.map(str::as_bytes));
    object.maybe_text("route", record.route.map(str::as_bytes));
    object.maybe_text("upstream", record.upstream.map(str::as_bytes));
    object.maybe_text("endpoint", record.endpoint.map(str::as_bytes));
    object.number("status", record.status.as_u16());
    object.number("bytes_in", record.bytes_in);
    object.number("bytes_out", record.bytes_out);
    object.seconds("t_queue", timings.queue);
    object.seconds("t_connect", timings.connect);
    object.seconds("t_ttfb", timings.first_byte);
    object.seconds("t_total", Some(timings.total));
    object.number("retries", record.retries);
    object.maybe_text("cache", record.cache.map(str::as_bytes));
    object.text("ended_by", record.ended_by.as_str().as_bytes());
    object.maybe_text("reason", record.reason.map(str::as_bytes));
    object.maybe_text("user_agent", record.user_agent);
    object.maybe_text("referer", record.referer);
    object.number("generation", record.generation);
    out.push(b'}');
}

/// The members of an object after its first.
struct Members<'o> {
    out: &'o mut Vec<u8>,
}

impl Members<'_> {
    fn key(&mut self, key: &'static str) {
        self.out.extend_from_slice(b",\"");
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn text(&mut self, key: &'static str, text: &[u8]) {
        self.key(key);
        self.out.push(b'"');
        escape_json(text, self.out);
        self.out.push(b'"');
    }

    fn maybe_text(&mut self, key: &'static str, text: Option<&[u8]>) {
        if let Some(text) = text {
            self.text(key, text);
        }
    }

    /// For what has only harmless characters.
    fn display(&mut self, key: &'static str, value: impl std::fmt::Display) {
        self.key(key);
        write!(self.out, "\"{value}\"").expect("a vector takes every byte");
    }

    fn number(&mut self, key: &'static str, number: impl itoa::Integer) {
        self.key(key);
        self.out
            .extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }

    fn seconds(&mut self, key: &'static str, duration: Option<Duration>) {
        if let Some(duration) = duration {
            self.number(key, duration.as_secs());
            self.out.push(b'.');
            self.out
                .extend_from_slice(&digits::<6>(duration.subsec_micros()));
        }
    }
}

/// `client - - [time] "request line" status bytes "referer" "user agent"`.
fn combined(record: &Record<'_>, stamp: &mut Stamp, out: &mut Vec<u8>) {
    write!(out, "{} - - [", record.client.host()).expect("a vector takes every byte");
    stamp.combined(record.at, out);
    out.extend_from_slice(b"] \"");
    match &record.line {
        Some(line) => {
            escape_combined(line.method.as_str().as_bytes(), out);
            out.push(b' ');
            escape_combined(line.target, out);
            out.push(b' ');
            out.extend_from_slice(version(line.version).as_bytes());
        }
        None => out.push(b'-'),
    }
    out.extend_from_slice(b"\" ");
    out.extend_from_slice(record.status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(itoa::Buffer::new().format(record.bytes_out).as_bytes());
    for text in [record.referer, record.user_agent] {
        out.extend_from_slice(b" \"");
        match text {
            Some(text) if !text.is_empty() => escape_combined(text, out),
            _ => out.push(b'-'),
        }
        out.push(b'"');
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/?",
    }
}

/// Bytes that stand for themselves in both formats: printable ASCII but the quote and the backslash.
const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0x20;
    while byte < 0x7f {
        table[byte] = byte != b'"' as usize && byte != b'\\' as usize;
        byte += 1;
    }
    table
};

fn is_plain(byte: u8) -> bool {
    PLAIN[usize::from(byte)]
}

fn escape_json(text: &[u8], out: &mut Vec<u8>) {
    if text.iter().all(|byte| is_plain(*byte)) {
        out.extend_from_slice(text);
        return;
    }
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' | '\\' => out.extend_from_slice(&[b'\\', character as u8]),
                _ if needs_escape(character) => escape_unicode(character, out),
                _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

/// Controls, and what moves or hides text on a screen.
fn needs_escape(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(character, '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// `needs_escape` names nothing beyond the basic plane, so four digits do.
fn escape_unicode(character: char, out: &mut Vec<u8>) {
    let code = character as u32;
    out.extend_from_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        out.push(HEX_LOWER[(code >> shift & 0xf) as usize]);
    }
}

fn escape_combined(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        if is_plain(byte) {
            out.push(byte);
        } else {
            out.extend_from_slice(b"\\x");
            out.push(HEX_UPPER[usize::from(byte >> 4)]);
            out.push(HEX_UPPER[usize::from(byte & 0xf)]);
        }
    }
}

const HEX_LOWER: &[u8; 16] = b"0123456789abcdef";
const HEX_UPPER: &[u8; 16] = b"0123456789ABCDEF";

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use http::{Method, StatusCode};
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::super::{EndedBy, RequestLine, Timings};
    use super::*;
    use crate::wire::ClientAddress;

    fn record<'a>(target: &'a [u8], text: &'a [u8]) -> Record<'a> {
        Record {
            at: UNIX_EPOCH + Duration::from_millis(1_795_250_940_123),
            request_id: Uuid::from_u128(0x0193_4e6f_8a00_7000_8000_0000_0000_00ff),
            client: ClientAddress::Inet("192.0.2.7:40001".parse().unwrap()),
            line: Some(RequestLine {
                method: &Method::GET,
                target,
                version: Version::HTTP_11,
            }),
            host: b"shop.example",
            tls: None,
            cipher: None,
            route: Some("products"),
            upstream: None,
            endpoint: None,
            status: StatusCode::OK,
            bytes_in: 0,
            bytes_out: 1024,
            timings: Timings {
                total: Duration::from_nanos(1_234_999),
                ..Timings::default()
            },
            retries: 0,
            cache: Some("hit"),
            ended_by: EndedBy::Headgate,
            reason: None,
            user_agent: Some(text),
            referer: None,
            generation: 3,
        }
    }

    fn line(format: Format, record: &Record<'_>) -> String {
        let mut out = Vec::new();
        format.write(record, &mut Stamp::default(), &mut out);
        let line = String::from_utf8(out).unwrap();
        assert_eq!(line.find('\n'), Some(line.len() - 1), "{line:?}");
        line
    }

    #[test]
    fn a_json_line_has_every_field_that_is_there() {
        let mut full = record(b"/products?page=2", b"curl/8");
        assert_eq!(
            serde_json::from_str::<Value>(&line(Format::Json, &full)).unwrap(),
            json!({
                "ts": "2026-11-21T08:49:00.123Z",
                "request_id": "01934e6f-8a00-7000-8000-0000000000ff",
                "client": "192.0.2.7", "client_port": 40001,
                "method": "GET", "host": "shop.example", "path": "/products?page=2",
                "version": "HTTP/1.1", "route": "products", "status": 200,
                "bytes_in": 0, "bytes_out": 1024, "t_total": 0.001234, "retries": 0,
                "cache": "hit", "ended_by": "headgate", "user_agent": "curl/8", "generation": 3,
            })
        );

        full.client = ClientAddress::Inet("[2001:db8::1]:443".parse().unwrap());
        full.tls = Some("TLSv1.3");
        full.upstream = Some("products");
        full.endpoint = Some("127.0.0.1:9101");
        full.timings = Timings {
            queue: Some(Duration::ZERO),
            connect: Some(Duration::from_micros(70)),
            first_byte: Some(Duration::from_millis(1_500)),
            total: Duration::from_secs(2),
        };
        full.cache = None;
        full.reason = Some("http_response_incomplete");
        full.referer = Some(b"");
        let value = serde_json::from_str::<Value>(&line(Format::Json, &full)).unwrap();
        for (key, expected) in [
            ("client", json!("2001:db8::1")),
            ("tls", json!("TLSv1.3")),
            ("upstream", json!("products")),
            ("endpoint", json!("127.0.0.1:9101")),
            ("t_queue", json!(0.0)),
            ("t_connect", json!(0.00007)),
            ("t_ttfb", json!(1.5)),
            ("t_total", json!(2.0)),
            ("reason", json!("http_response_incomplete")),
            ("referer", json!("")),
            ("cache", Value::Null),
        ] {
            assert_eq!(value[key], expected, "{key}");
        }
    }

    #[test]
    fn the_manual_lists_every_field_of_a_json_line_in_its_order() {
        let mut full = record(b"/", b"curl/8");
        full.tls = Some("TLSv1.3");
        full.cipher = Some("TLS_AES_128_GCM_SHA256");
        full.upstream = Some("products");
        full.endpoint = Some("127.0.0.1:9101");
        full.timings.queue = Some(Duration::ZERO);
        full.timings.connect = Some(Duration::ZERO);
        full.timings.first_byte = Some(Duration::ZERO);
        full.reason = Some("removed");
        full.referer = Some(b"");
        let text = line(Format::Json, &full);
        let manual = include_str!("../../../docs/access-log.md");
        let rows = manual.lines().filter_map(|row| row.strip_prefix("| `"));
        let listed: Vec<&str> = rows
            .filter_map(|row| row.split_once("` |"))
            .flat_map(|(names, _)| names.split("`, `"))
            .collect();
        let value: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(listed.len(), value.len(), "{listed:?}");
        let places: Vec<Option<usize>> = listed
            .iter()
            .map(|name| text.find(&format!("\"{name}\":")))
            .collect();
        assert!(places.iter().all(Option::is_some), "{listed:?} {text}");
        assert!(places.is_sorted(), "{listed:?}");
    }

    #[test]
    fn a_combined_line_has_the_known_order() {
        let mut record = record(b"/products?page=2", b"curl/8");
        record.referer = Some(b"https://shop.example/");
        assert_eq!(
            line(Format::Combined, &record),
            "192.0.2.7 - - [21/Nov/2026:08:49:00 +0000] \"GET /products?page=2 HTTP/1.1\" \
             200 1024 \"https://shop.example/\" \"curl/8\"\n"
        );
        record.referer = None;
        record.user_agent = Some(b"");
        assert!(line(Format::Combined, &record).ends_with(" 200 1024 \"-\" \"-\"\n"));
    }

    #[test]
    fn what_was_refused_unread_has_no_request_line() {
        let mut refused = record(b"/", b"-");
        refused.line = None;
        let json: Value = serde_json::from_str(&line(Format::Json, &refused)).unwrap();
        for key in ["method", "host", "path", "version"] {
            assert_eq!(json.get(key), None, "{key}");
        }
        let combined = line(Format::Combined, &refused);
        assert!(combined.contains("] \"-\" 200 "), "{combined}");
    }

    #[test]
    fn a_client_without_an_address_has_no_port() {
        for (client, shown) in [
            (ClientAddress::Unix, "unix:"),
            (ClientAddress::Unknown, "unknown"),
        ] {
            let mut record = record(b"/", b"curl/8");
            record.client = client;
            let value: Value = serde_json::from_str(&line(Format::Json, &record)).unwrap();
            assert_eq!(value["client"], shown);
            assert_eq!(value.get("client_port"), None);
            let start = format!("{shown} - - [");
            assert!(line(Format::Combined, &record).starts_with(&start));
        }
    }

    #[test]
    fn a_client_cannot_forge_a_line_or_a_field() {
        let forged = b"x\",\"status\":500}\r\n{\"ts\":\"\\\" \" 500 0 \"\x1b[2J\x00\x7f";
        let record = record(forged, forged);

        let text = line(Format::Json, &record);
        let value = serde_json::from_str::<Value>(&text).unwrap();
        assert_eq!(value["status"], 200);
        assert_eq!(value["path"].as_str().unwrap().as_bytes(), forged);
        assert!(
            text.trim_end()
                .bytes()
                .all(|byte| (0x20..0x7f).contains(&byte)),
            "{text:?}"
        );

        let text = line(Format::Combined, &record);
        assert_eq!(text.matches('"').count(), 6, "{text}");
        assert!(
            text.contains(r"x\x22,\x22status\x22:500}\x0D\x0A{"),
            "{text}"
        );
        assert!(text.contains(r"\x1B[2J\x00\x7F"), "{text}");
        assert!(
            text.trim_end()
                .bytes()
                .all(|byte| (0x20..0x7f).contains(&byte)),
            "{text:?}"
        );
    }

    #[test]
    fn text_that_would_move_a_terminal_is_escaped() {
        let text = line(
            Format::Json,
            &record("/\u{9b}2J\u{2028}\u{202e}é".as_bytes(), b"\xff\xfe"),
        );
        assert!(
            text.contains("\"path\":\"/\\u009b2J\\u2028\\u202eé\""),
            "{text}"
        );
        assert!(text.contains("\"user_agent\":\"\\ufffd\\ufffd\""), "{text}");
    }

    #[test]
    fn random_bytes_come_back_from_a_json_line() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..5_000 {
            let bytes: Vec<u8> = if random.bool() {
                (0..random.usize(0..40)).map(|_| random.u8(..)).collect()
            } else {
                (0..random.usize(0..40))
                    .map(|_| random.char(..))
                    .collect::<String>()
                    .into()
            };
            let mut record = record(&bytes, &bytes);
            record.host = &bytes;
            record.referer = Some(&bytes);
            record.bytes_out = random.u64(..);
            let value = serde_json::from_str::<Value>(&line(Format::Json, &record)).unwrap();
            let expected = String::from_utf8_lossy(&bytes);
            for key in ["path", "host", "user_agent", "referer"] {
                assert_eq!(value[key], json!(expected), "{key} of {bytes:?}");
            }
            assert_eq!(value["bytes_out"], json!(record.bytes_out));
            assert_eq!(line(Format::Combined, &record).matches('"').count(), 6);
        }
    }
}
