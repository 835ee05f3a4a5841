//! Tunnels over HTTP/1.1.

use std::time::Duration;

use http::Response;

use super::*;
use crate::metrics::ProxyError as Reason;

const OPEN: &str = "headgate_upstream_tunnels_open{upstream=\"shop\"}";

fn ended(reason: &str) -> String {
    format!("headgate_upstream_tunnels_total{{upstream=\"shop\",reason=\"{reason}\"}}")
}

fn offer(bench: &Bench, hand: &Hand, protocol: &str) -> Request<RequestBody> {
    with("GET", bench.body(Inbound::tunnel(protocol, hand.clone())))
}

/// Opens a tunnel: the endpoint's end, and the answer.
async fn open(bench: &Bench, hand: &Hand) -> (Peer, Response<AnswerBody>) {
    let serving = async {
        let mut peer = bench.accept().await;
        let head = peer.head().await;
        assert!(head.contains("\r\nupgrade: echo\r\n"), "{head}");
        assert!(head.contains("\r\nconnection: upgrade\r\n"), "{head}");
        let answer = "HTTP/1.1 101 Go\r\nupgrade: Echo\r\nconnection: keep-alive, Upgrade\r\n\r\n";
        peer.say(format!("{answer}hello")).await;
        peer
    };
    let (peer, answer) = tokio::join!(serving, bench.send(offer(bench, hand, "echo")));
    let response = answer.unwrap().response;
    assert_eq!(response.status(), 101);
    (peer, response)
}

async fn next(body: &mut AnswerBody) -> Option<Bytes> {
    let frame = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
    Some(frame.unwrap().into_data().unwrap())
}

fn is(bench: &Bench, series: &str, wanted: f64) -> bool {
    bench.count(series).total_cmp(&wanted).is_eq()
}

#[test]
fn bytes_go_both_ways_and_each_side_ends_by_itself() {
    run(|bench| async move {
        let hand = Hand::default();
        let (mut peer, response) = open(&bench, &hand).await;
        let mut body = response.into_body();
        assert_eq!(next(&mut body).await.unwrap(), "hello");
        assert!(is(&bench, OPEN, 1.0));
        hand.give("\0raw\r\n");
        let echo = async {
            assert_eq!(peer.read(6).await, b"\0raw\r\n");
            peer.say("back").await;
        };
        let (back, ()) = tokio::join!(next(&mut body), echo);
        assert_eq!(back.unwrap(), "back");
        // The client has nothing more to say; the endpoint has.
        hand.end();
        let late = async {
            assert_eq!(peer.rest().await, b"");
            peer.say("late").await;
            peer.0.shutdown().await.unwrap();
        };
        let (said, ()) = tokio::join!(next(&mut body), late);
        assert_eq!(said.unwrap(), "late");
        assert!(next(&mut body).await.is_none());
        assert!(is(&bench, OPEN, 0.0) && is(&bench, &ended("upstream"), 1.0));
    });
}

#[test]
fn a_client_goes_on_when_the_endpoint_has_ended_its_side() {
    run(|bench| async move {
        let hand = Hand::default();
        let (mut peer, response) = open(&bench, &hand).await;
        let mut body = response.into_body();
        next(&mut body).await;
        peer.0.shutdown().await.unwrap();
        assert!(next(&mut body).await.is_none());
        assert!(is(&bench, OPEN, 1.0));
        hand.give("more");
        assert_eq!(peer.read(4).await, b"more");
        hand.end();
        assert_eq!(peer.rest().await, b"");
        assert!(is(&bench, OPEN, 0.0));
    });
}

#[test]
fn a_tunnel_in_which_nobody_speaks_is_closed() {
    run(|bench| async move {
        let hand = Hand::default();
        let (mut peer, response) = open(&bench, &hand).await;
        let mut body = response.into_body();
        next(&mut body).await;
        let (end, ()) = tokio::join!(next(&mut body), bench.pass(Duration::from_secs(4)));
        assert!(end.is_none());
        assert!(is(&bench, &ended("idle"), 1.0));
        drop(body);
        assert_eq!(peer.rest().await, b"");
    });
}

#[test]
fn a_client_that_leaves_closes_the_tunnel() {
    run(|bench| async move {
        let hand = Hand::default();
        let (mut peer, response) = open(&bench, &hand).await;
        drop(response);
        assert_eq!(peer.rest().await, b"");
        assert!(is(&bench, OPEN, 0.0) && is(&bench, &ended("client"), 1.0));
    });
}

#[test]
fn only_what_was_offered_is_opened() {
    for head in [
        "upgrade: other\r\nconnection: upgrade",
        "upgrade: echo",
        "connection: upgrade",
        "upgrade: echo, other\r\nconnection: upgrade",
    ] {
        run(|bench| async move {
            let hand = Hand::default();
            let serving = async {
                let mut peer = bench.accept().await;
                peer.head().await;
                peer.say(format!("HTTP/1.1 101 Go\r\n{head}\r\n\r\n")).await;
                peer.rest().await
            };
            let asking = bench.send(offer(&bench, &hand, "echo"));
            let (sent, result) = tokio::join!(serving, asking);
            assert_eq!(
                result.unwrap_err().reason,
                Reason::HttpUpgradeFailed,
                "{head}"
            );
            assert_eq!((sent.len(), hand.polls()), (0, 0));
        });
    }
}

#[test]
fn an_endpoint_that_declines_answers_as_usual_and_its_connection_is_kept() {
    run(|bench| async move {
        let hand = Hand::default();
        let serving = async {
            let mut peer = bench.accept().await;
            peer.head().await;
            peer.say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno")
                .await;
            peer
        };
        let asking = bench.send(offer(&bench, &hand, "echo"));
        let (_open, answer) = tokio::join!(serving, asking);
        let body = answer.unwrap().response.into_body();
        assert_eq!(whole(body).await.unwrap().0, b"no");
        assert_eq!(hand.polls(), 0);
        assert!(bench.pools.take(&bench.target()).is_some());
    });
}

#[test]
fn an_endpoint_must_prove_that_it_speaks_websocket_to_a_client_that_cannot_ask() {
    for proves in [true, false] {
        run(|bench| async move {
            let hand = Hand::default();
            let serving = async {
                let mut peer = bench.accept().await;
                let head = peer.head().await;
                let key = head
                    .lines()
                    .find_map(|line| line.strip_prefix("sec-websocket-key: "))
                    .unwrap();
                let mut proof = HeaderMap::new();
                let key = http::HeaderValue::from_str(key).unwrap();
                super::super::websocket::prove(&mut proof, proves.then_some(&key));
                let accept = proof
                    .get("sec-websocket-accept")
                    .map_or("x", |it| it.to_str().unwrap());
                peer.say(format!(
                    "HTTP/1.1 101 Go\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: {accept}\r\n\r\n"
                ))
                .await;
                peer
            };
            let asking = bench.send(offer(&bench, &hand, "websocket"));
            let (_open, result) = tokio::join!(serving, asking);
            match result {
                Ok(answer) => {
                    assert!(proves);
                    assert!(
                        !answer
                            .response
                            .headers()
                            .contains_key("sec-websocket-accept")
                    );
                }
                Err(error) => {
                    assert!(!proves);
                    assert_eq!(error.reason, Reason::HttpUpgradeFailed);
                }
            }
        });
    }
}
