//! HTTP/1.1.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::{Body as _, Frame};
use tokio::net::UnixListener;

use super::super::exchange::AnswerError;
use super::*;
use crate::config::model::EndpointAddress;
use crate::metrics::ProxyError as Reason;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[test]
fn a_connection_is_used_again_and_holds_no_request_twice() {
    run(|bench| async move {
        let serving = async {
            let mut peer = bench.accept().await;
            for _ in 0..3 {
                assert!(
                    peer.head()
                        .await
                        .starts_with("GET /p HTTP/1.1\r\nhost: shop.test\r\n")
                );
                peer.say(OK).await;
            }
        };
        let asking = async {
            for round in 0..3 {
                let answer = bench.send(get()).await.unwrap();
                assert_eq!(answer.connect.is_some(), round == 0);
                let body = answer.response.into_body();
                assert_eq!(body.size_hint().exact(), Some(2));
                assert_eq!(whole(body).await.unwrap().0, b"ok");
            }
        };
        tokio::join!(serving, asking);
    });
}

#[test]
fn what_is_no_single_answer_is_refused_and_its_connection_closed() {
    let cases: &[(&str, Reason)] = &[
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
            Reason::HttpProtocolError,
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\nok",
            Reason::HttpProtocolError,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
            Reason::HttpResponseTransferCoding,
        ),
        ("HTTP/1.1 200 OK\nx: y\r\n\r\n", Reason::HttpProtocolError),
        (
            "HTTP/1.1 200 OK\r\nx : y\r\n\r\n",
            Reason::HttpProtocolError,
        ),
        ("220 mail.test\r\n", Reason::HttpProtocolError),
        (
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
            Reason::HttpProtocolError,
        ),
        ("HTTP/1.1 200 OK\r\n", Reason::HttpResponseIncomplete),
        ("", Reason::ConnectionTerminated),
    ];
    for (answer, reason) in cases {
        run(|bench| async move {
            let serving = async {
                let mut peer = bench.accept().await;
                peer.head().await;
                peer.say(answer).await;
                peer.0.shutdown().await.unwrap();
                peer.rest().await
            };
            let (more, result) = tokio::join!(serving, bench.send(get()));
            let error = result.unwrap_err();
            assert_eq!(error.reason, *reason, "{answer:?}");
            assert!(error.unsent.is_none(), "{answer:?}");
            assert!(more.is_empty(), "nothing goes out on it any more");
        });
    }
}

#[test]
fn an_endpoint_cannot_fill_memory_with_a_head_or_inform_for_ever() {
    for (piece, reason) in [
        (
            "HTTP/1.1 103 Early Hints\r\n\r\n",
            Reason::HttpProtocolError,
        ),
        (
            "x: 0123456789012345678901234567890123456789\r\n",
            Reason::HttpResponseHeaderSectionSize,
        ),
    ] {
        run(|bench| async move {
            let serving = async {
                let mut peer = bench.accept().await;
                peer.head().await;
                if piece.starts_with('x') {
                    peer.say("HTTP/1.1 200 OK\r\n").await;
                }
                while peer.0.write_all(piece.as_bytes()).await.is_ok() {
                    tokio::task::yield_now().await;
                }
            };
            let (error, ()) = tokio::join!(async { bench.send(get()).await.unwrap_err() }, serving);
            assert_eq!(error.reason, reason);
        });
    }
}

#[test]
fn who_speaks_before_it_is_asked_is_refused_before_anything_is_sent() {
    run(|bench| async move {
        let serving = async {
            let mut peer = bench.accept().await;
            peer.say(OK).await;
            peer.rest().await
        };
        let asking = async {
            // The banner must be there before the request: connect first, as the exchange does.
            let (stream, _) = bench.pools.connect(&bench.target()).await.unwrap();
            let mut link = bench.pools.link(stream, &bench.target());
            while link.is_quiet() {
                tokio::task::yield_now().await;
            }
            drop(link);
        };
        let (sent, ()) = tokio::join!(serving, asking);
        assert!(sent.is_empty());
    });
}

#[test]
fn a_connection_on_which_something_came_while_idle_is_not_used() {
    run(|bench| async move {
        let (said, go) = (tokio::sync::Notify::new(), tokio::sync::Notify::new());
        let serving = async {
            let mut first = bench.accept().await;
            first.head().await;
            first.say(OK).await;
            go.notified().await;
            first
                .say("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
                .await;
            said.notify_one();
            let mut second = bench.accept().await;
            second.head().await;
            second.say(OK).await;
            first.rest().await
        };
        let asking = async {
            let answer = bench.send(get()).await.unwrap();
            whole(answer.response.into_body()).await.unwrap();
            go.notify_one();
            said.notified().await;
            let answer = bench.send(get()).await.unwrap();
            assert!(answer.connect.is_some());
            assert_eq!(whole(answer.response.into_body()).await.unwrap().0, b"ok");
        };
        let (more, ()) = tokio::join!(serving, asking);
        assert!(more.is_empty());
    });
}

#[test]
fn a_surplus_byte_after_an_answer_closes_its_connection() {
    run(|bench| async move {
        let serving = async {
            let mut peer = bench.accept().await;
            peer.head().await;
            peer.say(format!("{OK}!")).await;
            peer.rest().await
        };
        let asking = async {
            let answer = bench.send(get()).await.unwrap();
            assert_eq!(whole(answer.response.into_body()).await.unwrap().0, b"ok");
        };
        let (more, ()) = tokio::join!(serving, asking);
        assert!(more.is_empty());
    });
}

#[test]
fn bodies_and_trailers_go_both_ways_in_chunks() {
    run(|bench| async move {
        let hand = Hand::default();
        let request = with("POST", bench.body(Inbound::body(hand.clone())));
        hand.give("one ");
        let serving = async {
            let mut peer = bench.accept().await;
            let head = peer.head().await;
            assert!(
                head.contains("\r\ntransfer-encoding: chunked\r\n"),
                "{head}"
            );
            assert_eq!(peer.read(9).await, b"4\r\none \r\n");
            hand.give("two");
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", HeaderValue::from_static("7"));
            hand.put(Ok(Frame::trailers(trailers)));
            assert_eq!(peer.read(8).await, b"3\r\ntwo\r\n");
            assert_eq!(peer.read(15).await, b"0\r\nx-sum: 7\r\n\r\n");
            peer.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n")
                .await;
            tokio::task::yield_now().await;
            peer.say("0\r\ngrpc-status: 0\r\n\r\n").await;
        };
        let asking = async {
            let answer = bench.send(request).await.unwrap();
            let (content, trailers) = whole(answer.response.into_body()).await.unwrap();
            assert_eq!(
                (&*content, &trailers["grpc-status"]),
                (&b"ok"[..], &HeaderValue::from_static("0"))
            );
        };
        tokio::join!(serving, asking);
        assert!(bench.pools.take(&bench.target()).is_some(), "it is clean");
    });
}

#[test]
fn large_bodies_arrive_whole_both_ways() {
    const SIZE: usize = 3 << 20;
    run(|bench| async move {
        let hand = Hand::default();
        for _ in 0..3 {
            hand.put(Ok(Frame::data(Bytes::from(vec![b'u'; SIZE / 3]))));
        }
        hand.end();
        let request = with("POST", bench.body(Inbound::body(hand.clone())));
        let serving = async {
            let mut peer = bench.accept().await;
            peer.head().await;
            for _ in 0..3 {
                assert_eq!(peer.read(8).await, b"100000\r\n");
                assert!(peer.read(SIZE / 3).await.iter().all(|byte| *byte == b'u'));
                assert_eq!(peer.read(2).await, b"\r\n");
            }
            assert_eq!(peer.read(5).await, b"0\r\n\r\n");
            peer.say(format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n"))
                .await;
            peer.say(vec![b'd'; SIZE]).await;
            peer
        };
        let asking = async {
            let answer = bench.send(request).await.unwrap();
            let (content, _) = whole(answer.response.into_body()).await.unwrap();
            assert!(content.len() == SIZE && content.iter().all(|byte| *byte == b'd'));
        };
        let (_open, ()) = tokio::join!(serving, asking);
        assert!(bench.pools.take(&bench.target()).is_some(), "it is clean");
    });
}

#[test]
fn an_answer_that_breaks_off_is_an_error_and_so_is_silence() {
    for silent in [false, true] {
        run(|bench| async move {
            let serving = async {
                let mut peer = bench.accept().await;
                peer.head().await;
                peer.say("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok")
                    .await;
                silent.then_some(peer)
            };
            let (open, answer) = tokio::join!(serving, bench.send(get()));
            let body = answer.unwrap().response.into_body();
            let (result, ()) = tokio::join!(whole(body), bench.pass(Duration::from_secs(2)));
            match result.unwrap_err() {
                AnswerError::Timeout => assert!(open.is_some()),
                AnswerError::Broken(_) => assert!(open.is_none()),
            }
        });
    }
}

#[test]
fn a_body_that_breaks_off_is_not_ended_and_is_the_clients_fault() {
    run(|bench| async move {
        let hand = Hand::default();
        hand.give("half");
        hand.put(Err(BodyFault::Incomplete));
        let request = with("POST", bench.body(Inbound::body(hand.clone())));
        let serving = async {
            let mut peer = bench.accept().await;
            peer.rest().await
        };
        let (came, result) = tokio::join!(serving, bench.send(request));
        assert!(!came.ends_with(b"0\r\n\r\n"));
        assert_eq!(
            result.unwrap_err().fault,
            super::super::Fault::Client(super::super::ClientFailure::Broken)
        );
    });
}

#[test]
fn an_answer_that_comes_before_the_upload_is_over_goes_out_and_its_connection_is_not_kept() {
    run(|bench| async move {
        let hand = Hand::default();
        hand.give("half");
        let request = with("POST", bench.body(Inbound::body(hand.clone())));
        let serving = async {
            let mut peer = bench.accept().await;
            peer.head().await;
            peer.say("HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
                .await;
            peer.rest().await
        };
        let (came, answer) = tokio::join!(serving, bench.send(request));
        assert_eq!(answer.unwrap().response.status(), 413);
        assert!(!came.ends_with(b"0\r\n\r\n"), "it was never whole");
        assert!(bench.pools.take(&bench.target()).is_none());
    });
}

fn expecting(bench: &Bench, hand: &Hand) -> Request<RequestBody> {
    let mut request = with("POST", bench.body(Inbound::body(hand.clone())));
    request
        .headers_mut()
        .insert("expect", HeaderValue::from_static("100-continue"));
    request
}

#[test]
fn a_body_that_waits_to_be_wanted_is_not_asked_for_before_100() {
    run(|bench| async move {
        let hand = Hand::default();
        hand.give("body");
        hand.end();
        let serving = async {
            let mut peer = bench.accept().await;
            assert!(peer.head().await.contains("\r\nexpect: 100-continue\r\n"));
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            assert_eq!(hand.polls(), 0, "nobody wants it yet");
            peer.say("HTTP/1.1 100 Continue\r\n\r\n").await;
            assert_eq!(peer.read(14).await, b"4\r\nbody\r\n0\r\n\r\n");
            peer.say(OK).await;
        };
        let (answer, ()) = tokio::join!(bench.send(expecting(&bench, &hand)), serving);
        assert_eq!(answer.unwrap().response.status(), 200);
    });
}

#[test]
fn a_body_that_is_not_wanted_is_never_asked_for() {
    run(|bench| async move {
        let hand = Hand::default();
        let serving = async {
            let mut peer = bench.accept().await;
            peer.head().await;
            peer.say("HTTP/1.1 417 No\r\ncontent-length: 0\r\n\r\n")
                .await;
            peer.rest().await
        };
        let (answer, more) = tokio::join!(bench.send(expecting(&bench, &hand)), serving);
        assert_eq!(answer.unwrap().response.status(), 417);
        assert_eq!((hand.polls(), more.len()), (0, 0));
        assert!(
            bench.pools.take(&bench.target()).is_none(),
            "half a request is no end"
        );
    });
}

#[test]
fn an_endpoint_that_does_not_know_the_expectation_gets_the_body_after_a_second() {
    run(|bench| async move {
        let hand = Hand::default();
        hand.give("body");
        hand.end();
        let serving = async {
            let mut peer = bench.accept().await;
            peer.head().await;
            bench.pass(Duration::from_secs(1)).await;
            assert_eq!(peer.read(14).await, b"4\r\nbody\r\n0\r\n\r\n");
            peer.say(OK).await;
        };
        let (answer, ()) = tokio::join!(bench.send(expecting(&bench, &hand)), serving);
        assert_eq!(answer.unwrap().response.status(), 200);
    });
}

#[test]
fn early_hints_are_told_and_other_information_is_dropped_and_counted() {
    run(|bench| async move {
        let serving = async {
            let mut peer = bench.accept().await;
            peer.head().await;
            peer.say(
                "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n",
            )
            .await;
            peer.say(OK).await;
        };
        let heard = Heard::default();
        let tell = |status, headers| heard.hear(status, headers);
        let asking = bench.send_hearing(get(), Some(&tell));
        let (answer, ()) = tokio::join!(asking, serving);
        assert_eq!(answer.unwrap().response.status(), 200);
        let heard = heard.0.into_inner();
        assert_eq!(heard.len(), 1);
        assert_eq!(heard[0].0, StatusCode::EARLY_HINTS);
        assert_eq!(heard[0].1["link"], "</a>");
        let dropped = "headgate_upstream_informational_dropped_total{upstream=\"shop\"}";
        assert_eq!(bench.count(dropped).to_bits(), 1.0_f64.to_bits());
    });
}

#[test]
fn an_endpoint_that_does_not_answer_in_time_is_given_up() {
    run(|bench| async move {
        let serving = async {
            let mut peer = bench.accept().await;
            peer.head().await;
            bench.pass(Duration::from_secs(2)).await;
            peer.rest().await;
        };
        let (result, ()) = tokio::join!(bench.send(get()), serving);
        assert_eq!(result.unwrap_err().reason, Reason::HttpResponseTimeout);
    });
}

#[test]
fn requests_that_could_have_a_body_say_that_they_have_none() {
    run(|bench| async move {
        let serving = async {
            let mut peer = bench.accept().await;
            let post = peer.head().await;
            peer.say(OK).await;
            let get = peer.head().await;
            peer.say(OK).await;
            assert!(post.contains("\r\ncontent-length: 0\r\n"), "{post}");
            assert!(!get.contains("content-length"), "{get}");
        };
        let asking = async {
            for method in ["POST", "GET"] {
                let answer = bench.send(with(method, RequestBody::Empty)).await.unwrap();
                whole(answer.response.into_body()).await.unwrap();
            }
        };
        tokio::join!(serving, asking);
    });
}

/// Lets the tasks that are ready run, the batch among them.
async fn turns() {
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn the_end_of_a_request_that_the_kernel_had_no_room_for_follows_when_there_is_some() {
    const PIECE: &str = match std::str::from_utf8(&[b'x'; 4000]) {
        Ok(piece) => piece,
        Err(_) => "",
    };
    run(|mut bench| async move {
        let folder = tempfile::tempdir().unwrap();
        let path: Arc<std::path::Path> = folder.path().join("endpoint").into();
        let listener = UnixListener::bind(&path).unwrap();
        let address = EndpointAddress::Unix(path);
        bench.endpoint = Registry::default().endpoint(&"shop".into(), &"unix".into(), &address);
        // A Unix socket has room for some dozens of these: one of the rounds ends where it is full.
        for count in 1..120 {
            let (hand, mut came) = (Hand::default(), 0);
            let body = bench.body(Inbound::body(hand.clone()));
            let serving = async {
                let (mut peer, _) = listener.accept().await.unwrap();
                for _ in 0..count {
                    hand.give(PIECE);
                    turns().await;
                }
                hand.end();
                turns().await;
                // Only now does the endpoint read.
                let mut text = Vec::new();
                while !text.ends_with(b"\r\n0\r\n\r\n") {
                    assert_ne!(peer.read_buf(&mut text).await.unwrap(), 0);
                }
                came = text.iter().filter(|byte| **byte == b'x').count();
                peer.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
                    .await
                    .unwrap();
            };
            let asking = bench.send(with("POST", body));
            let (answer, ()) = tokio::join!(asking, serving);
            assert_eq!(answer.unwrap().response.status(), 200);
            assert!(came >= count * PIECE.len(), "{came} of {count} pieces");
        }
    });
}
