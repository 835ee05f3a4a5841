//! CONNECT (RFC 9113 section 8.5) and its extension (RFC 8441): who gets a tunnel, and how it ends.

use std::io;

use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Config, Gate, Origin, patiently};

use super::Scene;
use super::wire::*;

/// A gate whose endpoint has opened a tunnel: the endpoint's end of it, and the client's on stream 1.
struct Tunnel {
    endpoint: TcpStream,
    gate: Gate,
    wire: Wire,
}

impl Tunnel {
    /// `authority` is whom the client says to ask.
    async fn open(authority: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let config = Config::new().one_worker().upstream_at("shop", &address, "");
        let route = "upstream: shop, upgrades: [echo]";
        let gate = Gate::start(&config.route("shop", "path_prefix: /", route)).await;
        let mut wire = Wire::connect(&gate).await;
        let connect = [
            (":method", "CONNECT"),
            (":protocol", "echo"),
            (":scheme", "http"),
            (":path", "/chat"),
            (":authority", authority),
        ];
        wire.send(headers(1, 0, &connect)).await;
        let (mut endpoint, _) = patiently("a tunnel", listener.accept()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(patiently("a head", endpoint.read_u8()).await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        assert!(head.contains(&format!("host: {authority}\r\n")), "{head}");
        let agreed =
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
        endpoint.write_all(agreed.as_bytes()).await.unwrap();
        wire.head(1).await.expect(200);
        let mut tunnel = Self {
            endpoint,
            gate,
            wire,
        };
        tunnel.carries("up", "down").await;
        tunnel
    }

    async fn carries(&mut self, up: &str, down: &str) {
        self.wire.send(data(1, 0, up)).await;
        let mut came = vec![0; up.len()];
        let read = self.endpoint.read_exact(&mut came);
        patiently("what goes up", read).await.unwrap();
        assert_eq!(came, up.as_bytes());
        self.endpoint.write_all(down.as_bytes()).await.unwrap();
        let text = |wire: &Wire| wire.so_far(1).text().ends_with(down);
        self.wire.until("what comes down", text).await;
    }

    /// How the endpoint's connection ends: by its end, or by a reset.
    async fn end(&mut self) -> io::Result<usize> {
        let mut rest = Vec::new();
        patiently("the end", self.endpoint.read_to_end(&mut rest)).await
    }
}

/// Everything but `:protocol` is as in other requests, so nobody is asked whom a route does not name.
#[tokio::test]
async fn rfc8441_s4_the_authority_is_no_address_to_connect_to() {
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let named = other.local_addr().unwrap().to_string();
    let tunnel = Tunnel::open(&named).await;
    drop(tunnel);
    let accepted = tokio::select! {
        biased;
        accepted = other.accept() => Some(accepted),
        () = tokio::task::yield_now() => None,
    };
    assert!(accepted.is_none());
}

#[tokio::test]
async fn rfc8441_s4_an_extended_connect_has_a_scheme_and_a_path() {
    let all = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", "/bad"),
        (":authority", "shop.test"),
    ];
    for missing in [":scheme", ":path"] {
        let mut scene = Scene::new().await;
        let mut some = all.to_vec();
        some.retain(|(name, _)| *name != missing);
        refused(&mut scene, headers(1, 0, &some)).await;
    }
}

#[tokio::test]
async fn rfc8441_s4_there_is_one_protocol() {
    let mut scene = Scene::new().await;
    let twice = [(":protocol", "websocket"), (":protocol", "echo")];
    let mut all = vec![twice[0]];
    all.extend(fields("CONNECT", "/bad", &[]));
    all.insert(1, twice[1]);
    refused(&mut scene, headers(1, 0, &all)).await;
}

#[tokio::test]
async fn rfc8441_s5_connection_and_upgrade_are_malformed_here_too() {
    for extra in [("connection", "upgrade"), ("upgrade", "websocket")] {
        let mut scene = Scene::new().await;
        let connect = fields("CONNECT", "/bad", &[]);
        let mut all = vec![(":protocol", "websocket")];
        all.extend(connect);
        all.push(extra);
        refused(&mut scene, headers(1, 0, &all)).await;
    }
}

#[tokio::test]
async fn rfc8441_s3_the_setting_of_a_client_changes_nothing() {
    let scene = Scene::new().await;
    for value in [0, 1] {
        let mut wire = Wire::connect_with(scene.gate.address, &[(8, value)]).await;
        assert_eq!(wire.settings[&8], 1);
        wire.fetch(1, "/ok").await.expect(200);
    }
}

/// A malformed request: its stream or connection ends with PROTOCOL_ERROR, or it is answered that it is
/// no request (sections 8.1.1 and 5.4.1).
async fn refused(scene: &mut Scene, frames: Vec<u8>) {
    scene.wire.send(frames).await;
    scene.wire.ends_malformed(1).await;
    scene.nothing_else_arrived().await;
}

#[tokio::test]
async fn s8_5_a_connect_that_names_no_host_alone_is_malformed() {
    let method = (":method", "CONNECT");
    let host = (":authority", "shop.test:80");
    for fields in [
        vec![method, (":scheme", "http"), host],
        vec![method, (":path", "/bad"), host],
        vec![method],
        vec![method, (":scheme", "http"), (":path", "/bad")],
    ] {
        let mut scene = Scene::new().await;
        refused(&mut scene, headers(1, 0, &fields)).await;
    }
}

/// A second HEADERS frame on the stream of a tunnel.
async fn headers_in_a_tunnel(flags: u8) {
    let mut tunnel = Tunnel::open("shop.test").await;
    let second = headers(1, flags, &[("x-late", "1")]);
    tunnel.wire.send(second).await;
    // The endpoint's connection ends, and with it the stream, be it an error or not.
    tunnel.end().await.ok();
    drop(tunnel.endpoint);
    let end = |wire: &Wire| {
        let so_far = wire.so_far(1);
        wire.closed || so_far.ended || so_far.reset.is_some()
    };
    tunnel.wire.until("an end", end).await;
    let answer = tunnel.wire.so_far(1);
    let code = tunnel.wire.goaways.last().map(|(_, code)| *code);
    let code = answer.reset.or(code);
    assert!(code.is_some_and(|it| it != NO_ERROR), "{answer:?}");
}

#[tokio::test]
async fn s8_5_headers_within_a_tunnel_are_a_stream_error() {
    headers_in_a_tunnel(0).await;
}

#[tokio::test]
async fn s8_5_the_end_of_either_side_is_the_end_of_its_direction() {
    let mut tunnel = Tunnel::open("shop.test").await;
    tunnel.wire.send(data(1, END_STREAM, "last")).await;
    let mut rest = Vec::new();
    let read = tunnel.endpoint.read_to_end(&mut rest);
    patiently("the end", read).await.unwrap();
    assert_eq!(rest, b"last");
    // The other direction goes on until the endpoint ends it, without trailers.
    tunnel.endpoint.write_all(b" and more").await.unwrap();
    drop(tunnel.endpoint);
    let answer = tunnel.wire.answer(1).await;
    assert_eq!(answer.text(), "down and more");
    assert!(answer.ended && answer.trailers.is_empty(), "{answer:?}");
    tunnel.wire.is_alive().await;
}

#[tokio::test]
async fn s8_5_a_reset_of_the_endpoint_is_a_reset_of_the_stream() {
    let mut tunnel = Tunnel::open("shop.test").await;
    let linger = Some(std::time::Duration::ZERO);
    SockRef::from(&tunnel.endpoint).set_linger(linger).unwrap();
    drop(tunnel.endpoint);
    let answer = tunnel.wire.answer(1).await;
    assert!(!answer.ended, "{answer:?}");
    // RFC 9113 says CONNECT_ERROR and RFC 8441 CANCEL.
    let codes = [INTERNAL_ERROR, CANCEL, CONNECT_ERROR];
    assert!(
        answer.reset.is_some_and(|it| codes.contains(&it)),
        "{answer:?}"
    );
    tunnel.wire.is_alive().await;
}

#[tokio::test]
async fn s8_5_a_tunnel_whose_stream_is_reset_is_closed_at_the_endpoint() {
    let mut tunnel = Tunnel::open("shop.test").await;
    tunnel.wire.send(reset(1, CANCEL)).await;
    tunnel.end().await.ok();
    tunnel.wire.is_alive().await;
    let gauge = "headgate_http_in_flight_requests";
    tunnel.gate.until(gauge, &[], 0.0).await;
}

#[tokio::test]
async fn rfc8441_s5_a_plain_answer_to_an_extended_connect_is_no_tunnel() {
    // The origin answers `200` to the upgrade.
    let config = Config::new().one_worker();
    let origin = Origin::start("a").await;
    let config = config.upstream("shop", &[&origin], "");
    let route = "upstream: shop, upgrades: [echo]";
    let gate = Gate::start(&config.route("shop", "path_prefix: /", route)).await;
    let mut wire = Wire::connect(&gate).await;
    let connect = fields("CONNECT", "/ok", &[(":protocol", "echo")]);
    let (protocol, rest) = connect.split_last().unwrap();
    let connect = [&[*protocol], rest].concat();
    wire.send(headers(1, 0, &connect)).await;
    let until = |wire: &Wire| wire.so_far(1).status > 0 || wire.so_far(1).reset.is_some();
    wire.until("an answer", until).await;
    let answer = wire.so_far(1);
    assert_eq!((answer.status, answer.reset), (502, None), "{answer:?}");
    wire.is_alive().await;
    assert_eq!(origin.requests("/ok"), 1);
}

#[tokio::test]
async fn s8_5_trailers_within_a_tunnel_are_a_stream_error() {
    headers_in_a_tunnel(END_STREAM).await;
}

#[tokio::test]
async fn s8_5_a_tunnel_whose_stream_is_reset_is_reset_at_the_endpoint() {
    let mut tunnel = Tunnel::open("shop.test").await;
    tunnel.wire.send(reset(1, CANCEL)).await;
    let end = tunnel.end().await.map_err(|error| error.kind());
    assert_eq!(end, Err(io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn s8_5_a_tunnel_whose_connection_ends_in_an_error_is_reset_at_the_endpoint() {
    let mut tunnel = Tunnel::open("shop.test").await;
    tunnel.wire.send(frame(PING, 0, 0, &[0; 7])).await;
    let end = tunnel.end().await.map_err(|error| error.kind());
    assert_eq!(end, Err(io::ErrorKind::ConnectionReset));
}
