//! Answers over HTTP/2 that are malformed (RFC 9113 section 8): `502`, and nothing of them at the client.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::harness::{Config, Conn, Gate, Request, Server};
use crate::http2::wire::{
    ACK, END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, data, frame, headers, settings,
};

type Field = (&'static str, &'static str);

/// An endpoint that answers its next request with these fields, and all later ones well.
async fn endpoint(odd: &Arc<Mutex<VecDeque<Vec<Field>>>>) -> Server {
    let odd = Arc::clone(odd);
    Server::start(move |mut conn: Conn| {
        let odd = Arc::clone(&odd);
        async move {
            let mut come = Vec::new();
            let mut is_open = false;
            conn.client.write(settings(&[])).await;
            loop {
                let some = conn.client.some().await;
                if some.is_empty() {
                    return;
                }
                come.extend(some);
                if !is_open && come.len() >= PREFACE.len() {
                    come.drain(..PREFACE.len());
                    is_open = true;
                }
                while let Some((kind, flags, stream)) = take(&mut come).filter(|_| is_open) {
                    let out = match kind {
                        SETTINGS if flags & ACK == 0 => frame(SETTINGS, ACK, 0, &[]),
                        HEADERS => {
                            assert_ne!(flags & END_HEADERS, 0);
                            let odd = odd.lock().pop_front();
                            let is_odd = odd.is_some();
                            let fields = odd.unwrap_or_else(|| vec![(":status", "200")]);
                            let text = if is_odd { "evil" } else { "good" };
                            let head = headers(stream, 0, &fields);
                            [head, data(stream, END_STREAM, text)].concat()
                        }
                        _ => continue,
                    };
                    // It may have closed at what it was told.
                    conn.client.try_write(&out).await.ok();
                }
            }
        }
    })
    .await
}

/// Takes a whole frame: its kind, flags and stream.
fn take(come: &mut Vec<u8>) -> Option<(u8, u8, u32)> {
    let head: [u8; 9] = come.get(..9)?.try_into().unwrap();
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    if come.len() < 9 + length {
        return None;
    }
    come.drain(..9 + length);
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    Some((head[3], head[4], stream))
}

const OK: Field = (":status", "200");

#[tokio::test]
async fn malformed_answers_are_bad_gateways_and_the_next_request_is_answered() {
    let odd = Arc::default();
    let server = endpoint(&odd).await;
    let endpoint = server.address().to_string();
    let gate = Gate::start(&Config::to_endpoints(&endpoint, "protocol: h2").one_worker()).await;

    for fields in [
        // Names.
        vec![OK, ("X-Odd", "1")],
        vec![OK, ("x odd", "1")],
        vec![OK, ("x:odd", "1")],
        vec![OK, ("x\"odd", "1")],
        vec![OK, ("", "1")],
        // Values.
        vec![OK, ("x-odd", " 1")],
        vec![OK, ("x-odd", "1\t")],
        vec![OK, ("x-odd", "1\r\nx-more: 2")],
        vec![OK, ("x-odd", "1\0")],
        // Fields of a connection.
        vec![OK, ("connection", "close")],
        vec![OK, ("keep-alive", "timeout=5")],
        vec![OK, ("proxy-connection", "close")],
        vec![OK, ("transfer-encoding", "chunked")],
        vec![OK, ("upgrade", "websocket")],
        // Lengths.
        vec![OK, ("content-length", "4"), ("content-length", "4")],
        vec![OK, ("content-length", "4"), ("content-length", "5")],
        vec![OK, ("content-length", "4, 4")],
        vec![OK, ("content-length", "+4")],
        vec![OK, ("content-length", "")],
        // Pseudo-header fields.
        vec![OK, OK],
        vec![("x-odd", "1")],
        vec![("x-odd", "1"), OK],
        vec![OK, (":odd", "1")],
        vec![(":status", "20")],
        vec![(":status", "2000")],
        vec![(":status", "101")],
        vec![(":status", "600")],
        vec![(":status", "999")],
    ] {
        odd.lock().push_back(fields.clone());
        let mut client = gate.begin(&Request::post("/p", "x")).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 502, "{fields:?} became {answer:?}");
        answer.problem(502);
        assert_eq!(client.get("/next").await.expect(200).text(), "good");
    }
    let failed = [("upstream", "shop"), ("reason", "http_protocol_error")];
    let metrics = gate.metrics().await;
    let count = metrics.sum("headgate_upstream_errors_total", &failed);
    assert!(count >= 28.0, "{count}");
}

#[tokio::test]
async fn an_answer_of_another_length_than_it_said_is_cut() {
    let odd = Arc::default();
    let server = endpoint(&odd).await;
    let endpoint = server.address().to_string();
    let gate = Gate::start(&Config::to_endpoints(&endpoint, "protocol: h2").one_worker()).await;

    for (length, said) in [("3", 3), ("5", 5)] {
        odd.lock().push_back(vec![OK, ("content-length", length)]);
        let mut client = gate.begin(&Request::get("/p")).await;
        client.head().await.expect(200);
        let came = client.until_closed().await;
        assert!(came.len() < said, "{came:?}");
        assert_eq!(gate.get("/next").await.expect(200).text(), "good");
    }
}
