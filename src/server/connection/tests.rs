//! A connection over a real socket, its clock ticked by hand.

use std::time::Duration;

use http::{Request, Response};
use http_body_util::Full;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, LocalSet};

use super::*;
use crate::metrics::Metrics;
use crate::net::deadline::TICK;
use crate::wire::{Early, Fault};

/// Answers every request with its path.
struct Echo;

impl Handler for Echo {
    type Body = Full<Bytes>;

    fn handle(
        self: &Rc<Self>,
        _peer: &Rc<Peer>,
        request: Request<Inbound>,
        _early: Option<Rc<dyn Early>>,
    ) -> impl Future<Output = Response<Full<Bytes>>> + 'static {
        let path = request.uri().path().to_owned();
        async move { Response::new(Full::from(path)) }
    }

    fn refuse(self: &Rc<Self>, _peer: &Rc<Peer>, fault: Fault) -> Response<Full<Bytes>> {
        Response::new(Full::from(fault.to_string()))
    }
}

struct Bench {
    shared: Rc<Shared<Echo>>,
    client: TcpStream,
    served: JoinHandle<()>,
    metrics: Arc<Metrics>,
}

const LIMITS: Limits = Limits {
    header: Duration::from_secs(2),
    idle: Duration::from_secs(5),
    write_window: Duration::from_secs(5),
    least_written: 100,
};

impl Bench {
    async fn new() -> Self {
        let (deadlines, batch) = (Deadlines::new(), Batch::new());
        tokio::task::spawn_local(Rc::clone(&batch).run());
        let shared = Shared::new(Rc::new(Echo), &deadlines, &batch, &Rc::default(), LIMITS);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let local = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(local), listener.accept());
        let (stream, address) = accepted.unwrap();
        let metrics = Metrics::new(1);
        let peer = Peer::new(address, Some(local), false, 0);
        let (serving, counters) = (Rc::clone(&shared), Arc::clone(&metrics));
        let served = tokio::task::spawn_local(async move {
            let socket = Socket::new(stream, &serving.batch);
            serving
                .serve(socket, None, Protocols::default(), peer, counters.worker(0))
                .await;
        });
        Self {
            shared,
            client: client.unwrap(),
            served,
            metrics,
        }
    }

    async fn send(&mut self, text: &str) {
        self.client.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads until `end` has come.
    async fn read_until(&mut self, end: &str) -> String {
        let mut text = Vec::new();
        while !text.ends_with(end.as_bytes()) {
            let mut piece = [0; 1024];
            let count = self.client.read(&mut piece).await.unwrap();
            assert_ne!(
                count,
                0,
                "closed after {:?}",
                String::from_utf8_lossy(&text)
            );
            text.extend_from_slice(&piece[..count]);
        }
        String::from_utf8(text).unwrap()
    }

    /// Lets `time` pass for the worker, and its tasks run at every tick of it.
    async fn pass(&self, time: Duration) {
        for _ in 0..time.as_millis() / TICK.as_millis() {
            self.shared.deadlines.tick();
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
        }
    }

    fn ended(&self, reason: CloseReason) -> bool {
        let line = format!("headgate_connections_closed_total{{reason=\"{reason}\"}} 1");
        self.metrics.render().contains(&line)
    }
}

fn run<F: Future>(test: impl FnOnce() -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async { test().await });
}

#[test]
fn a_connection_at_rest_answers_its_next_request_and_ends_when_its_idle_time_is_over() {
    run(|| async {
        let mut bench = Bench::new().await;
        bench.send("GET /one HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(bench.read_until("/one").await.starts_with("HTTP/1.1 200"));
        bench.pass(Duration::from_secs(3)).await;
        bench.send("GET /two HTTP/1.1\r\nhost: a\r\n\r\n").await;
        bench.read_until("/two").await;
        bench.pass(Duration::from_secs(4)).await;
        assert!(!bench.served.is_finished(), "the idle time began anew");
        bench.pass(Duration::from_secs(2)).await;
        bench.served.await.unwrap();
        assert_eq!(bench.client.read(&mut [0; 8]).await.unwrap(), 0);
    });
}

#[test]
fn an_idle_connection_gives_hypers_half_back_and_keeps_what_was_read_already() {
    run(|| async {
        let mut bench = Bench::new().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let local = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(local), listener.accept());
        let (stream, address) = accepted.unwrap();
        bench.client = client.unwrap();

        let shared = Rc::clone(&bench.shared);
        let stretch = tokio::task::spawn_local(async move {
            let watch = Watch::new(LIMITS, &shared.deadlines);
            let peer = Rc::new(Peer::new(address, Some(local), false, 1));
            let stream = Stream::Plain(Socket::new(stream, &shared.batch));
            shared.converse(stream, Bytes::new(), &peer, &watch).await
        });
        bench
            .send("GET /one HTTP/1.1\r\nhost: a\r\n\r\nGET /two HT")
            .await;
        bench.read_until("/one").await;
        bench.pass(Duration::from_millis(50)).await;
        assert!(!stretch.is_finished(), "not yet");
        bench.pass(Duration::from_millis(500)).await;
        assert!(stretch.is_finished(), "it keeps hyper's buffers");
        match stretch.await.unwrap() {
            Turn::Idle(_, unread) => assert_eq!(unread, "GET /two HT"),
            Turn::Ended(reason) => panic!("{reason}"),
        }
    });
}

#[test]
fn a_head_that_came_in_two_halves_around_a_rest_is_answered() {
    run(|| async {
        let mut bench = Bench::new().await;
        bench
            .send("GET /one HTTP/1.1\r\nhost: a\r\n\r\nGET /two HT")
            .await;
        bench.read_until("/one").await;
        // Its own deadline runs meanwhile.
        bench.pass(Duration::from_millis(1500)).await;
        bench.send("TP/1.1\r\nhost: a\r\n\r\n").await;
        bench.read_until("/two").await;
    });
}

#[test]
fn half_a_head_after_an_answer_is_given_the_time_of_a_head() {
    run(|| async {
        let mut bench = Bench::new().await;
        bench
            .send("GET /one HTTP/1.1\r\nhost: a\r\n\r\nGET /two HT")
            .await;
        bench.read_until("/one").await;
        bench.pass(Duration::from_secs(4)).await;
        (&mut bench.served).await.unwrap();
        assert!(
            bench.ended(CloseReason::HeaderTimeout),
            "{}",
            bench.metrics.render()
        );
    });
}

#[test]
fn a_client_that_sends_nothing_is_closed_at_the_deadline_of_a_head() {
    run(|| async {
        let mut bench = Bench::new().await;
        bench.pass(Duration::from_millis(1900)).await;
        assert!(!bench.served.is_finished());
        bench.pass(Duration::from_millis(200)).await;
        (&mut bench.served).await.unwrap();
        assert!(bench.ended(CloseReason::HeaderTimeout));
    });
}

#[test]
fn a_drain_ends_a_connection_at_rest() {
    run(|| async {
        let mut bench = Bench::new().await;
        bench.send("GET /one HTTP/1.1\r\nhost: a\r\n\r\n").await;
        bench.read_until("/one").await;
        bench.pass(Duration::from_secs(2)).await;
        bench.shared.drain.begin();
        bench.shared.deadlines.wake_all();
        (&mut bench.served).await.unwrap();
        assert!(bench.ended(CloseReason::Drain));
    });
}
