//! How a process ends.

use rustix::process::Signal;

use crate::harness::{Client, Config, Gate, Latch, Origin, Reply, Request, eventually};

async fn holding(latch: &Latch) -> Origin {
    let wait = latch.clone();
    Origin::start("a").await.on("/held", move |_| {
        let reply = Reply::new(200).header("content-length", "8").then("half");
        reply.then_wait(&wait).then("half")
    })
}

#[tokio::test]
async fn requests_finish_while_nothing_new_is_taken() {
    let latch = Latch::new();
    let origin = holding(&latch).await;
    let mut gate = Gate::start(&Config::to(&[&origin])).await;
    gate.look("/readyz").await.expect(200);
    let mut held = gate.begin(&Request::get("/held")).await;
    held.head().await.expect(200);

    gate.process.signal(Signal::TERM);
    gate.log("requests may finish").await;
    eventually("connections are refused", async || {
        Client::try_connect(gate.address).await.err()
    })
    .await;
    gate.look("/readyz").await.expect(503);
    gate.look("/livez").await.expect(200);
    assert!(gate.process.try_end().is_none());
    latch.open();

    assert_eq!(held.exactly(8).await, b"halfhalf");
    assert_eq!(held.until_closed().await, b"");
    assert_eq!(gate.process.end().await.code(), Some(0));
    assert_eq!(gate.logged("every request has finished"), 1);
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let origin = Origin::start("a").await;
    let mut gate = Gate::start(&Config::to(&[&origin])).await;
    let mut used = gate.client().await;
    used.get("/").await.expect(200);
    let mut unused = gate.client().await;
    gate.until("headgate_connections_open", &[], 2.0).await;

    let status = gate.stop().await;

    assert_eq!(used.until_closed().await, b"");
    assert_eq!(unused.until_closed().await, b"");
    assert_eq!(status.code(), Some(0));
    assert_eq!(gate.logged("every request has finished"), 1);
    origin.until_open(0).await;
}

#[tokio::test]
async fn a_second_signal_stops_at_once() {
    for signal in [Signal::TERM, Signal::INT] {
        let never = Latch::new();
        let origin = holding(&never).await;
        let mut gate = Gate::start(&Config::to(&[&origin])).await;
        let mut held = gate.begin(&Request::get("/held")).await;
        held.head().await.expect(200);

        gate.process.signal(signal);
        gate.log("requests may finish").await;
        let status = eventually("it ends", async || {
            let ended = gate.process.try_end();
            if ended.is_none() {
                gate.process.signal(signal);
            }
            ended
        })
        .await;
        gate.process.end().await;

        assert_eq!(status.code(), Some(0));
        assert_eq!(gate.logged("stopped at once"), 1);
        assert_eq!(held.until_closed().await, b"half");
    }
}

#[tokio::test]
async fn requests_that_take_too_long_are_cut() {
    let never = Latch::new();
    let origin = holding(&never).await;
    let config = Config::to(&[&origin]).top("timeouts: { shutdown: 100ms }");
    let mut gate = Gate::start(&config).await;
    let mut held = gate.begin(&Request::get("/held")).await;
    held.head().await.expect(200);

    let status = gate.stop().await;

    assert_eq!(status.code(), Some(0));
    assert_eq!(gate.logged("time was up"), 1);
    assert_eq!(held.until_closed().await, b"half");
}

#[tokio::test]
async fn an_upload_under_way_is_finished() {
    let origin = Origin::start("a")
        .await
        .on("/up", |seen| Reply::ok(seen.body.clone()));
    let mut gate = Gate::start(&Config::to(&[&origin])).await;
    let mut client = gate.client().await;
    client
        .write("POST /up HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\nhalf")
        .await;
    origin.until_asked("/up", 1).await;

    gate.process.signal(Signal::TERM);
    gate.log("requests may finish").await;
    client.write("half").await;
    let answer = client.answer().await.expect(200);

    assert_eq!(answer.text(), "halfhalf");
    assert_eq!(client.until_closed().await, b"");
    assert_eq!(gate.process.end().await.code(), Some(0));
}
