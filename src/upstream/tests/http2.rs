//! HTTP/2, against a server of the h2 crate and against frames by hand.

use std::time::Duration;

use h2::server::{Connection, SendResponse};
use http::{HeaderMap, HeaderValue, Method, Response};

use super::*;
use crate::metrics::ProxyError as Reason;

type Served = Connection<TcpStream, Bytes>;
type Asked = (Request<h2::RecvStream>, SendResponse<Bytes>);

async fn handshake(bench: &Bench) -> Served {
    h2::server::handshake(bench.accept().await.0).await.unwrap()
}

async fn next(connection: &mut Served) -> Asked {
    connection.accept().await.unwrap().unwrap()
}

fn ok() -> Response<()> {
    Response::new(())
}

/// Keeps a connection going until the other side closes it.
async fn drain(mut connection: Served) {
    while connection.accept().await.is_some() {}
}

#[test]
fn requests_share_a_connection_and_the_host_becomes_the_authority() {
    run(|bench| async move {
        let bench = bench.over_http2();
        let serving = async {
            let mut connection = handshake(&bench).await;
            let (one, mut answer_one) = next(&mut connection).await;
            let (two, mut answer_two) = next(&mut connection).await;
            for asked in [&one, &two] {
                assert_eq!(asked.uri(), "http://shop.test/p");
                assert!(!asked.headers().contains_key("host"));
            }
            answer_two.send_response(ok(), true).unwrap();
            answer_one.send_response(ok(), true).unwrap();
            let driving = tokio::task::spawn_local(drain(connection));
            (driving, one, two)
        };
        let (one, two) = (bench.send(get()), bench.send(get()));
        let (_kept, one, two) = tokio::join!(serving, one, two);
        assert_eq!(
            (
                one.unwrap().connect.is_some(),
                two.unwrap().connect.is_some()
            ),
            (true, false)
        );
        // And the next one, later.
        let opened =
            "headgate_upstream_connections_total{upstream=\"shop\",endpoint=\"shop.test:80\"}";
        assert_eq!(bench.count(opened).to_bits(), 1.0_f64.to_bits());
    });
}

#[test]
fn bodies_and_trailers_go_both_ways() {
    run(|bench| async move {
        let bench = bench.over_http2();
        let hand = Hand::default();
        hand.give("up");
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("7"));
        hand.put(Ok(Frame::trailers(trailers)));
        let mut request = with("POST", bench.body(Inbound::body(hand.clone())));
        request
            .headers_mut()
            .insert("te", HeaderValue::from_static("trailers"));
        let serving = async {
            let mut connection = handshake(&bench).await;
            let (asked, mut answer) = next(&mut connection).await;
            assert_eq!(asked.headers()["te"], "trailers");
            let driving = tokio::task::spawn_local(drain(connection));
            let mut body = asked.into_body();
            assert_eq!(body.data().await.unwrap().unwrap(), "up");
            assert_eq!(body.trailers().await.unwrap().unwrap()["x-sum"], "7");
            let mut out = answer.send_response(ok(), false).unwrap();
            out.send_data(Bytes::from_static(b"down"), false).unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            out.send_trailers(trailers).unwrap();
            driving
        };
        let asking = async {
            let answer = bench.send(request).await.unwrap();
            let (content, trailers) = whole(answer.response.into_body()).await.unwrap();
            assert_eq!(content, b"down");
            assert_eq!(trailers["grpc-status"], "0");
        };
        tokio::join!(serving, asking);
    });
}

#[test]
fn an_answer_that_is_dropped_resets_its_stream_and_leaves_the_others() {
    run(|bench| async move {
        let bench = bench.over_http2();
        let serving = async {
            let mut connection = handshake(&bench).await;
            let (_one, mut answer) = next(&mut connection).await;
            let mut out = answer.send_response(ok(), false).unwrap();
            let driving = tokio::task::spawn_local(async move {
                let (_two, mut answer) = next(&mut connection).await;
                answer.send_response(ok(), true).unwrap();
                drain(connection).await;
            });
            let reason = std::future::poll_fn(|cx| out.poll_reset(cx)).await.unwrap();
            assert_eq!(reason, h2::Reason::CANCEL);
            driving
        };
        let asking = async {
            drop(bench.send(get()).await.unwrap());
            let answer = bench.send(get()).await.unwrap();
            assert!(answer.connect.is_none(), "the same connection");
        };
        tokio::join!(serving, asking);
    });
}

#[test]
fn more_requests_than_a_connection_takes_wait_and_then_are_refused() {
    run(|bench| async move {
        let mut bench = bench.over_http2();
        bench.max_idle = 1;
        let bench = bench;
        let serving = async {
            let mut builder = h2::server::Builder::new();
            builder.max_concurrent_streams(1);
            let mut connection: Served = builder.handshake(bench.accept().await.0).await.unwrap();
            let (_one, mut answer) = next(&mut connection).await;
            bench.pass(Duration::from_secs(1)).await;
            answer.send_response(ok(), true).unwrap();
            let (_three, mut answer) = next(&mut connection).await;
            answer.send_response(ok(), true).unwrap();
            tokio::task::spawn_local(drain(connection))
        };
        let asking = async {
            let (one, two) = tokio::join!(bench.send(get()), bench.send(get()));
            let refused = two.unwrap_err();
            assert_eq!(refused.stage, super::super::Stage::Queue);
            assert_eq!(refused.reason, Reason::ConnectionLimitReached);
            assert!(refused.unsent.is_some());
            drop(one.unwrap());
            bench.send(get()).await.unwrap();
        };
        tokio::join!(serving, asking);
        let refused = "headgate_upstream_stream_waits_total{upstream=\"shop\",outcome=\"refused\"}";
        assert_eq!(bench.count(refused).to_bits(), 1.0_f64.to_bits());
    });
}

#[test]
fn a_second_connection_is_opened_when_the_first_is_full() {
    run(|bench| async move {
        let bench = bench.over_http2();
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(1);
        let serving = async {
            let mut held = Vec::new();
            for _ in 0..2 {
                let mut connection: Served =
                    builder.handshake(bench.accept().await.0).await.unwrap();
                let (_asked, answer) = next(&mut connection).await;
                held.push((connection, answer));
            }
            for (connection, mut answer) in held {
                answer.send_response(ok(), true).unwrap();
                tokio::task::spawn_local(drain(connection));
            }
        };
        let (one, two) = (bench.send(get()), bench.send(get()));
        let ((), one, two) = tokio::join!(serving, one, two);
        assert!(one.unwrap().connect.is_some() && two.unwrap().connect.is_some());
    });
}

#[test]
fn what_is_no_answer_is_refused() {
    for (status, length, reason) in [
        (101, None, Reason::HttpProtocolError),
        (200, Some("x"), Reason::HttpProtocolError),
        (200, Some("7"), Reason::HttpProtocolError),
    ] {
        run(|bench| async move {
            let bench = bench.over_http2();
            let serving = async {
                let mut connection = handshake(&bench).await;
                let (_asked, mut answer) = next(&mut connection).await;
                let mut head = Response::builder().status(status);
                if let Some(length) = length {
                    head = head.header("content-length", length);
                }
                answer.send_response(head.body(()).unwrap(), true).unwrap();
                tokio::task::spawn_local(drain(connection))
            };
            let (_open, result) = tokio::join!(serving, bench.send(get()));
            assert_eq!(result.unwrap_err().reason, reason, "{status} {length:?}");
        });
    }
}

#[test]
fn an_endpoint_that_speaks_http_1_is_no_peer_and_the_request_is_whole() {
    run(|bench| async move {
        let bench = bench.over_http2();
        let serving = async {
            let mut peer = bench.accept().await;
            peer.say("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
                .await;
            peer.rest().await
        };
        let (_sent, result) = tokio::join!(serving, bench.send(get()));
        let error = result.unwrap_err();
        assert_eq!(error.stage, super::super::Stage::Dial);
        assert!(error.unsent.is_some());
    });
}

/// Frames by hand, for what no server does by itself.
struct Frames(Peer);

impl Frames {
    async fn accept(bench: &Bench) -> Self {
        let mut peer = bench.accept().await;
        assert!(peer.read(24).await.starts_with(b"PRI * HTTP/2.0"));
        let mut frames = Self(peer);
        frames.send(4, 0, 0, &[]).await;
        frames
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend_from_slice(&[kind, flags]);
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        self.0.say(frame).await;
    }

    /// The stream of the next HEADERS.
    async fn headers(&mut self) -> u32 {
        loop {
            let head = self.0.read(9).await;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            self.0.read(length as usize).await;
            if head[3] == 1 {
                return u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            }
        }
    }

    /// `:status: 200`, and that is all.
    async fn answer(&mut self, stream: u32) {
        self.send(1, 0x5, stream, &[0x88]).await;
    }
}

#[test]
fn what_an_endpoint_has_certainly_not_processed_is_given_back_whole() {
    for refuses in [true, false] {
        run(|bench| async move {
            let bench = bench.over_http2();
            let hand = Hand::default();
            let serving = async {
                let mut frames = Frames::accept(&bench).await;
                let first = frames.headers().await;
                frames.answer(first).await;
                let second = frames.headers().await;
                if refuses {
                    frames.send(3, 0, second, &7_u32.to_be_bytes()).await;
                } else {
                    let mut away = first.to_be_bytes().to_vec();
                    away.extend_from_slice(&[0, 0, 0, 0]);
                    frames.send(7, 0, 0, &away).await;
                }
                frames
            };
            let asking = async {
                bench.send(get()).await.unwrap();
                let post = with("POST", bench.body(Inbound::body(hand.clone())));
                bench.send(post).await.unwrap_err()
            };
            let (_open, error) = tokio::join!(serving, asking);
            assert_eq!(error.retry, super::super::Retry::SameOnFreshConnection);
            assert!(error.unsent.is_some(), "of the body nothing was taken");
        });
    }
}

#[test]
fn streams_that_an_endpoint_still_serves_survive_its_goodbye() {
    run(|bench| async move {
        let bench = bench.over_http2();
        let serving = async {
            let mut frames = Frames::accept(&bench).await;
            let first = frames.headers().await;
            let mut away = first.to_be_bytes().to_vec();
            away.extend_from_slice(&[0, 0, 0, 0]);
            frames.send(7, 0, 0, &away).await;
            frames.answer(first).await;
            // The next request comes on another connection.
            let mut other = Frames::accept(&bench).await;
            let stream = other.headers().await;
            other.answer(stream).await;
            (frames, other)
        };
        let asking = async {
            let answer = bench.send(get()).await.unwrap();
            assert_eq!(answer.response.status(), 200);
            assert!(bench.send(get()).await.unwrap().connect.is_some());
        };
        tokio::join!(serving, asking);
    });
}

#[test]
fn an_endpoint_that_dies_with_a_request_is_not_said_to_have_left_it_alone() {
    run(|bench| async move {
        let bench = bench.over_http2();
        let serving = async {
            let mut frames = Frames::accept(&bench).await;
            frames.headers().await;
        };
        let ((), result) = tokio::join!(serving, bench.send(with("POST", RequestBody::Empty)));
        let error = result.unwrap_err();
        assert!(error.unsent.is_none());
        assert_eq!(error.reason, Reason::ConnectionTerminated);
    });
}

#[test]
fn a_connection_with_a_stream_is_asked_for_a_sign_of_life_and_given_up_without_one() {
    run(|mut bench| async move {
        bench.timeouts.first_byte = Duration::from_secs(100);
        let bench = bench.over_http2();
        let serving = async {
            let mut frames = Frames::accept(&bench).await;
            frames.headers().await;
            bench.pass(Duration::from_secs(27)).await;
            frames
        };
        let (_open, result) = tokio::join!(serving, bench.send(get()));
        assert_eq!(result.unwrap_err().reason, Reason::ConnectionTerminated);
    });
}

#[test]
fn a_tunnel_opens_where_extended_connect_is_spoken_and_nowhere_else() {
    for speaks in [true, false] {
        run(|bench| async move {
            let bench = bench.over_http2();
            let hand = Hand::default();
            let mut request = with(
                "GET",
                bench.body(Inbound::tunnel("websocket", hand.clone())),
            );
            let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
            request.headers_mut().insert("sec-websocket-key", key);
            let serving = async {
                let mut builder = h2::server::Builder::new();
                if speaks {
                    builder.enable_connect_protocol();
                }
                let mut connection: Served =
                    builder.handshake(bench.accept().await.0).await.unwrap();
                if !speaks {
                    drain(connection).await;
                    return;
                }
                let (asked, mut answer) = next(&mut connection).await;
                assert_eq!(*asked.method(), Method::CONNECT);
                let protocol = asked.extensions().get::<h2::ext::Protocol>().unwrap();
                assert_eq!(protocol.as_str(), "websocket");
                assert!(!asked.headers().contains_key("sec-websocket-key"));
                tokio::task::spawn_local(drain(connection));
                let mut out = answer.send_response(ok(), false).unwrap();
                let mut body = asked.into_body();
                let data = body.data().await.unwrap().unwrap();
                out.send_data(data, false).unwrap();
                while let Some(rest) = body.data().await {
                    assert_eq!(rest.unwrap(), "", "the client has ended its side");
                }
                out.send_data(Bytes::new(), true).unwrap();
            };
            let asking = async {
                let result = bench.send(request).await;
                if !speaks {
                    assert_eq!(result.unwrap_err().reason, Reason::HttpUpgradeFailed);
                    bench.pools.sweep(|_| false);
                    return;
                }
                let response = result.unwrap().response;
                assert_eq!(response.status(), 101);
                assert_eq!(
                    response.headers()["sec-websocket-accept"],
                    "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
                );
                hand.give("echo");
                hand.end();
                assert_eq!(whole(response.into_body()).await.unwrap().0, b"echo");
            };
            tokio::join!(serving, asking);
        });
    }
}

#[test]
fn a_body_that_waits_to_be_wanted_waits_over_http_2_too() {
    run(|bench| async move {
        let bench = bench.over_http2();
        let hand = Hand::default();
        hand.give("body");
        hand.end();
        let mut request = with("POST", bench.body(Inbound::body(hand.clone())));
        let expect = HeaderValue::from_static("100-continue");
        request.headers_mut().insert("expect", expect);
        let serving = async {
            let mut frames = Frames::accept(&bench).await;
            let stream = frames.headers().await;
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            assert_eq!(hand.polls(), 0);
            // `:status: 100`, a literal for an indexed name.
            frames
                .send(1, 0x4, stream, &[0x08, 3, b'1', b'0', b'0'])
                .await;
            frames
        };
        let asking = bench.send(request);
        let both = async {
            let (mut frames, ()) = tokio::join!(serving, async {});
            loop {
                let head = frames.0.read(9).await;
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                let payload = frames.0.read(length as usize).await;
                if head[3] == 0 {
                    assert_eq!(payload, b"body");
                    break;
                }
            }
            frames.answer(1).await;
            frames
        };
        let (_open, answer) = tokio::join!(both, asking);
        assert_eq!(answer.unwrap().response.status(), 200);
    });
}
