//! `103` on its way to clients: whom it reaches, and what it leaves behind.

use crate::harness::{Client, Config, Gate, Latch, Origin, Reply, Request};
use crate::http2::wire::{CANCEL, Wire, get, reset};

const HINT: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n";
const ANSWER: &str = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 2\r\n\r\nok";

/// Hints at once, and answers when the latch opens.
async fn hinting(latch: &Latch) -> Origin {
    let wait = latch.clone();
    Origin::start("a").await.on("/p", move |_| {
        Reply::raw(HINT).then_wait(&wait).then(ANSWER)
    })
}

/// Hints and answers when the latch opens.
async fn hinting_late(latch: &Latch) -> Origin {
    let wait = latch.clone();
    Origin::start("a").await.on("/p", move |_| {
        Reply::raw(format!("{HINT}{ANSWER}")).after(&wait)
    })
}

#[tokio::test]
async fn a_hint_of_a_fetch_goes_to_the_client_that_began_it_and_is_not_stored() {
    let latch = Latch::new();
    let origin = hinting(&latch).await;
    let gate = Gate::start(&Config::cached(&[&origin])).await;

    let mut first = gate.begin(&Request::get("/p")).await;
    let hint = first.head().await.expect(103);
    assert_eq!(hint.all("link"), ["</a.css>; rel=preload"]);
    let mut second = gate.begin(&Request::get("/p")).await;
    let mut third = Wire::connect(&gate).await;
    third.send(get(1, "/p")).await;
    gate.until("headgate_http_in_flight_requests", &[], 3.0)
        .await;
    latch.open();

    let answer = first.answer().await.expect(200);
    assert_eq!((answer.text(), answer.header("link")), ("ok", None));
    for answer in [second.answer().await, gate.get("/p").await] {
        assert_eq!((answer.status, answer.text()), (200, "ok"));
        assert_eq!(answer.header("link"), None);
    }
    let answer = third.answer(1).await.expect(200);
    assert!(answer.early.is_empty(), "{answer:?}");
    assert_eq!(origin.requests("/p"), 1);
}

#[tokio::test]
async fn a_hint_for_a_client_that_has_left_harms_nobody() {
    for cached in [false, true] {
        let latch = Latch::new();
        let origin = hinting_late(&latch).await;
        let config = if cached {
            Config::cached(&[&origin])
        } else {
            Config::to(&[&origin])
        };
        let gate = Gate::start(&config.one_worker()).await;

        let mut left = Client::connect_briefly(gate.address).await.unwrap();
        left.write(Request::get("/p").bytes()).await;
        let mut wire = Wire::connect(&gate).await;
        if !cached {
            wire.send(get(1, "/p")).await;
        }
        origin.until_asked("/p", if cached { 1 } else { 2 }).await;
        drop(left);
        if !cached {
            wire.send(reset(1, CANCEL)).await;
        }
        gate.until("headgate_http_in_flight_requests", &[], 0.0)
            .await;
        latch.open();

        let mut client = gate.client().await;
        client.write(Request::get("/p").bytes()).await;
        let mut answer = client.answer().await;
        // Its own, if it had to ask.
        while answer.status == 103 {
            answer = client.answer().await;
        }
        assert_eq!(answer.expect(200).text(), "ok");
        assert_eq!(wire.fetch(3, "/p").await.expect(200).text(), "ok");
        wire.is_alive().await;
        assert!(!cached || origin.requests("/p") == 1, "the fetch went on");
    }
}
