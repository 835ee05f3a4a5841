//! What endpoints send and Headgate does not take: `502`, the connection closed, never used again.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::harness::{Config, Conn, Gate, Latch, Origin, Reply, Request, Server};

const GOOD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood";

/// A server whose first connection sends `first` to its request, and whose others answer well. What the
/// first was sent after that is kept.
async fn bad_once(first: &'static str, later: &Arc<Mutex<Option<Vec<u8>>>>) -> Server {
    let later = Arc::clone(later);
    Server::start(move |mut conn: Conn| {
        let later = Arc::clone(&later);
        async move {
            let mut answer = if conn.number == 1 { first } else { GOOD };
            while conn.client.request().await.is_some() {
                conn.client.write(answer).await;
                if conn.number == 1 {
                    let more = conn.client.until_closed().await;
                    *later.lock() = Some(more);
                }
                answer = GOOD;
            }
        }
    })
    .await
}

#[tokio::test]
async fn an_ambiguous_or_malformed_answer_is_refused_and_its_connection_closed() {
    for bad in [
        "HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nevil",
        "HTTP/1.1 200 OK\r\ncontent-length: 4, 4\r\n\r\nevil",
        "HTTP/1.1 200 OK\r\ncontent-length: +4\r\n\r\nevil",
        "HTTP/1.1 200 OK\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\nevil",
        "HTTP/1.1 200 OK\ncontent-length: 4\n\nevil",
        "HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 4\r\n\r\nevil",
        "HTTP/1.1 200 OK\r\nx : a\r\ncontent-length: 4\r\n\r\nevil",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nevil",
        "HTTP/1.1 99 Odd\r\n\r\n",
        "HTTP/1.1 600 Odd\r\ncontent-length: 4\r\n\r\nevil",
        "HTTP/1.1 999 Odd\r\ncontent-length: 4\r\n\r\nevil",
        "220 mail.test ESMTP\r\n\r\n",
    ] {
        let later = Arc::default();
        let server = bad_once(bad, &later).await;
        let endpoint = server.address().to_string();
        let gate = Gate::start(&Config::to_endpoints(&endpoint, "").one_worker()).await;

        let refused = gate.send(&Request::post("/p", "x")).await;
        refused.problem(502);
        assert_eq!(
            gate.get("/next").await.expect(200).text(),
            "good",
            "{bad:?}"
        );

        assert_eq!(server.accepted(), 2, "{bad:?}");
        let after = later.lock().take().expect("it was closed");
        assert_eq!(after, b"x", "the body, and then nothing: {bad:?}");
    }
}

#[tokio::test]
async fn an_answer_that_comes_early_reaches_the_client_and_the_upload_is_cut() {
    let later = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&later);
    let server = Server::start(move |mut conn: Conn| {
        let kept = Arc::clone(&kept);
        async move {
            let head = conn.client.request().await;
            if head.is_some() {
                conn.client
                    .write("HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\n\r\nbig")
                    .await;
                let more = conn.client.until_closed().await;
                *kept.lock() = Some(more);
            }
        }
    })
    .await;
    let endpoint = server.address().to_string();
    let gate = Gate::start(&Config::to_endpoints(&endpoint, "").one_worker()).await;

    let mut client = gate.client().await;
    client
        .write("POST /p HTTP/1.1\r\nhost: shop.test\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        .await;
    assert_eq!(client.answer().await.expect(413).text(), "big");

    let after = crate::harness::eventually("it was closed", async || later.lock().take()).await;
    assert!(!after.ends_with(b"0\r\n\r\n"), "it never looked whole");
}

#[tokio::test]
async fn an_answer_without_an_end_in_sight_is_not_kept_and_one_that_breaks_off_is_cut() {
    let latch = Latch::new();
    let wait = latch.clone();
    let origin = Origin::start("a")
        .await
        .on("/endless", |_| {
            Reply::new(200).then("until the end").close()
        })
        .on("/broken", move |_| {
            let head = Reply::new(200).header("content-length", "100");
            head.then("half").then_wait(&wait).close()
        });
    let gate = Gate::start(&Config::to(&[&origin]).one_worker()).await;

    assert_eq!(
        gate.get("/endless").await.expect(200).text(),
        "until the end"
    );
    let mut client = gate.begin(&Request::get("/broken")).await;
    client.head().await.expect(200);
    latch.open();
    assert_eq!(client.until_closed().await, b"half");

    gate.get("/next").await.expect(200);
    assert_eq!(origin.last("/next").connection, 3);
}
