//! A line of a log is one line, whatever its request holds.
//!
//! Of the access log in both formats, and of the diagnostics. Bytes that HTTP does not allow are sent
//! all the same: what is refused is logged too. (`http2::logged` sends what only HTTP/2 can.)

use std::sync::Arc;

use rustix::process::Signal;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::net::UnixStream;

use crate::harness::{Authority, Client, Config, Gate, Origin, Process, eventually};

/// Would be a second line, a title of the terminal's window, a new field or the end of a text.
const EVIL: &[u8] = b"a\x1b]0;x\x07\x1b[2J\x7f\" \\\" 200 0 \"-\" \",\"status\":200,\"x\":\"\x80\x9b\xff\xc2\x85\xc2\x9b\xe2\x80\xa8\xe2\x80\xae";

/// Every line of the access log; `count` of them, no more.
pub(crate) async fn lines(gate: &Gate, count: usize) -> Vec<Vec<u8>> {
    let path = gate.file("access.log");
    let bytes = eventually("the lines are written", async || {
        let bytes = std::fs::read(&path).unwrap_or_default();
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
        (lines >= count).then_some(bytes)
    })
    .await;
    let text = bytes.strip_suffix(b"\n").expect("whole lines");
    let lines: Vec<Vec<u8>> = text
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    assert_eq!(lines.len(), count, "{}", String::from_utf8_lossy(&bytes));
    lines
}

/// A line of the JSON format holds no byte that a screen could obey.
#[track_caller]
pub(crate) fn json(line: &[u8]) -> serde_json::Value {
    let text = std::str::from_utf8(line).unwrap();
    let odd = |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}');
    assert!(!text.contains(odd), "{text:?}");
    serde_json::from_str(text).unwrap()
}

/// A line of the combined format is printable ASCII with three texts in quotes.
#[track_caller]
fn combined(line: &[u8]) {
    let shown = String::from_utf8_lossy(line);
    assert!(
        line.iter().all(|byte| (b' '..=b'~').contains(byte)),
        "{shown:?}"
    );
    assert_eq!(shown.matches('"').count(), 6, "{shown}");
    let client = shown.split(" - - [").next();
    assert!(matches!(client, Some("127.0.0.1" | "1.1.1.1")), "{shown}");
}

/// Requests that put `evil` wherever a log shows something of them.
fn requests(evil: &[u8]) -> Vec<Vec<u8>> {
    let at = |before: &str, after: &str| [before.as_bytes(), evil, after.as_bytes()].concat();
    vec![
        at("GET /", " HTTP/1.1\r\nhost: shop.test\r\n\r\n"),
        at("GET /?", " HTTP/1.1\r\nhost: shop.test\r\n\r\n"),
        at("GET", " / HTTP/1.1\r\nhost: shop.test\r\n\r\n"),
        at("GET / HTTP/1.1", "\r\nhost: shop.test\r\n\r\n"),
        at("GET / HTTP/1.1\r\nhost: ", "\r\n\r\n"),
        at("GET http://", "/ HTTP/1.1\r\nhost: shop.test\r\n\r\n"),
        at(
            "GET / HTTP/1.1\r\nhost: shop.test\r\nuser-agent: ",
            "\r\n\r\n",
        ),
        at("GET / HTTP/1.1\r\nhost: shop.test\r\nreferer: ", "\r\n\r\n"),
        at("GET / HTTP/1.1\r\nhost: shop.test\r\nx-", ": 1\r\n\r\n"),
        at(
            "GET / HTTP/1.1\r\nhost: shop.test\r\nx-forwarded-for: 1.1.1.1",
            "\r\n\r\n",
        ),
        at(
            "GET / HTTP/1.1\r\nhost: shop.test\r\nx-request-id: ",
            "\r\n\r\n",
        ),
        at(
            "GET / HTTP/1.1\r\nhost: shop.test\r\nconnection: upgrade\r\nupgrade: ",
            "\r\n\r\n",
        ),
        at(
            "GET / HTTP/1.1\r\nhost: shop.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-protocol: ",
            "\r\n\r\n",
        ),
    ]
}

#[tokio::test]
async fn no_byte_of_a_request_forges_a_line_of_the_access_log() {
    let origin = Origin::start("a").await;
    // All at once, those alone that HTTP takes in a field, and one by one.
    let taken: Vec<u8> = EVIL
        .iter()
        .copied()
        .filter(|it| *it >= b' ' && *it != 0x7f)
        .collect();
    let mut pieces = vec![EVIL.to_vec(), taken];
    pieces.extend([b"\n", b"\r", b"\0", b"\x1b", b"\x7f", b"\x9b", b"\t"].map(|it| it.to_vec()));
    for format in ["json", "combined"] {
        let config = Config::to(&[&origin])
            .top(&format!(
                "access_log: {{ format: {format}, path: access.log }}"
            ))
            .top("trusted_proxies: [127.0.0.1]")
            .one_worker();
        let gate = Gate::start(&config).await;
        let mut count = 0;
        for request in pieces.iter().flat_map(|piece| requests(piece)) {
            let mut client = gate.client().await;
            client.write(&request).await;
            let answer = client.head().await;
            assert!(
                matches!(answer.status, 200 | 400 | 501 | 502 | 505),
                "{}",
                answer.status
            );
            count += 1;
        }
        for line in lines(&gate, count).await {
            match format {
                "json" => assert!(json(&line)["client"].is_string()),
                _ => combined(&line),
            }
        }
        // What a field may hold is there, in a form that shows it.
        let all = String::from_utf8(lines(&gate, count).await.concat()).unwrap();
        let shown = match format {
            "json" => "\\u009b",
            _ => "\\xC2\\x9B",
        };
        assert!(all.contains(shown), "{all}");
    }
}

/// The bytes of a TLS handshake's begin that asks for this name.
fn hello(name: &[u8; 24]) -> Vec<u8> {
    const ASKED: &str = "name-of-24-bytes.example";
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let asked = ServerName::try_from(ASKED).unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), asked).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    let at = bytes
        .windows(ASKED.len())
        .position(|window| window == ASKED.as_bytes())
        .unwrap();
    bytes[at..at + ASKED.len()].copy_from_slice(name);
    bytes
}

#[tokio::test]
async fn no_byte_of_a_handshake_forges_a_line_of_the_diagnostics() {
    for format in ["json", "text"] {
        let folder = tempfile::tempdir().unwrap();
        Authority::new("ca")
            .issue(&["shop.test"], 2040)
            .write(folder.path(), "shop");
        // By Unix sockets, since only lines in JSON tell the harness which ports there are.
        let config = Config::to_endpoints("127.0.0.1:1", "")
            .only_listener(
                "address: 'unix:tls.sock', tls: { certificates: [{ cert: shop.pem, key: shop.key }] }",
            )
            .listener("address: 'unix:proxied.sock', proxy_protocol: { from: [unix] }")
            .top(&format!("log: {{ format: {format}, level: debug }}"))
            .top("timeouts: { header: 1s }");
        std::fs::write(folder.path().join("gate.yaml"), config.text()).unwrap();
        let mut process = Process::start(["run", "-c", "gate.yaml"], folder.path());
        process.error_line("headgate is ready").await;
        let connect = async |name| {
            let stream = UnixStream::connect(folder.path().join(name)).await.unwrap();
            Client::over(stream)
        };
        let names: [&[u8; 24]; 4] = [
            b"a\nERROR forged: x\x1b[2J\x07..",
            b"\",\"level\":\"ERROR\",\"x\":\"\"",
            b"\x7f\x80\x9b\xc2\x85\xe2\x80\xa8 forged lines...",
            b"............forged......",
        ];
        for name in names {
            for (socket, bytes) in [
                ("tls.sock", hello(name)),
                ("tls.sock", name.to_vec()),
                (
                    "proxied.sock",
                    [b"PROXY TCP4 ", &name[..], b"\r\n"].concat(),
                ),
            ] {
                let mut client = connect(socket).await;
                // It may be refused before it has come whole.
                client.try_write(&bytes).await.ok();
                client.until_closed().await;
            }
        }
        process.signal(Signal::TERM);
        assert!(process.end().await.success());
        let lines = process.errors();
        assert!(lines.len() > 2 * names.len(), "{lines:#?}");
        for line in lines {
            match format {
                "json" => drop(json(line.as_bytes())),
                _ => {
                    assert!(!line.contains(char::is_control), "{line:?}");
                    // The time, which nobody else writes.
                    assert!(line.starts_with("20"), "{line}");
                }
            }
            assert!(!line.contains("forged"), "{line}");
        }
    }
}
