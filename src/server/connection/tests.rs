//! A connection over a real socket, its clock ticked by hand.

use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::Either;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::Instant;

use super::conn::Conn;
use super::http1::Turn;
use super::*;
use crate::body::{BodyFault, BoxError, Inbound};
use crate::http1 as codec;
use crate::metrics::Metrics;
use crate::net::deadline::TICK;
use crate::server::guard::Guard;
use crate::wire::{Answering, Early, Fault, Head};

/// Answers by path, and most requests with it.
#[derive(Default)]
struct Echo {
    /// What requests left behind.
    kept: RefCell<Vec<Kept>>,
    /// Who reads a tunnel in another task, and what it was told in the end.
    reading: RefCell<Option<JoinHandle<Option<BodyFault>>>>,
}

type Kept = (Inbound, Option<Rc<dyn Early>>);

/// What `Echo` answers with.
enum Reply {
    Text(Full<Bytes>),
    /// What the client sent.
    Back(Inbound),
    Trailers(Option<Bytes>, Option<HeaderMap>),
}

impl Body for Reply {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Text(text) => Pin::new(text).poll_frame(cx).map_err(BoxError::from),
            Self::Back(body) => Pin::new(body).poll_frame(cx).map_err(BoxError::from),
            Self::Trailers(data, trailers) => Poll::Ready(match data.take() {
                Some(data) => Some(Ok(Frame::data(data))),
                None => trailers.take().map(|map| Ok(Frame::trailers(map))),
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_end_stream(),
            Self::Back(body) => body.is_end_stream(),
            Self::Trailers(_, trailers) => trailers.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => text.size_hint(),
            Self::Back(_) | Self::Trailers(..) => SizeHint::default(),
        }
    }
}

fn hint() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("link", HeaderValue::from_static("</a>"));
    headers
}

impl Handler for Echo {
    type Body = Reply;

    fn handle(
        self: &Rc<Self>,
        _peer: &Rc<Peer>,
        head: Head,
        _at: Instant,
        body: Inbound,
        early: Option<Rc<dyn Early>>,
    ) -> Answering<Reply, impl Future<Output = Response<Reply>> + 'static> {
        let this = Rc::clone(self);
        let path = head.uri.path().to_owned();
        Either::Right(async move {
            let mut status = 200;
            let announces = path == "/trailers";
            let reply = match path.as_str() {
                "/back" => Reply::Back(body),
                "/tunnel" => {
                    status = 101;
                    Reply::Back(body)
                }
                "/hint" => {
                    let sent = early.is_some_and(|early| {
                        assert!(!early.send(StatusCode::CONTINUE, HeaderMap::new()));
                        early.send(StatusCode::EARLY_HINTS, hint())
                    });
                    tokio::task::yield_now().await;
                    Reply::Text(Full::from(format!("hinted: {sent}")))
                }
                "/keep" => {
                    this.kept.borrow_mut().push((body, early));
                    Reply::Text(Full::from(path))
                }
                "/trailers" | "/unannounced" => {
                    Reply::Trailers(Some(Bytes::from_static(b"data")), Some(hint()))
                }
                "/read" => {
                    let mut body = body;
                    let mut all = Vec::new();
                    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                        all.extend(frame.unwrap().into_data().unwrap());
                    }
                    Reply::Text(Full::from(all))
                }
                "/never" => std::future::pending().await,
                "/panic" => panic!("as it was told to"),
                "/parted" => {
                    status = 101;
                    // Nothing goes to the client, and what it sends goes to somebody else.
                    let mut body = body;
                    let reading = tokio::task::spawn_local(async move {
                        let next = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
                        next.and_then(Result::err)
                    });
                    this.reading.replace(Some(reading));
                    Reply::Trailers(None, None)
                }
                _ => Reply::Text(Full::from(path)),
            };
            let mut response = Response::new(reply);
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            if announces {
                let announced = HeaderValue::from_static("x-else, Link");
                response.headers_mut().insert("trailer", announced);
            }
            response
        })
    }

    fn refuse(
        self: &Rc<Self>,
        _peer: &Rc<Peer>,
        _version: Version,
        fault: Fault,
    ) -> Response<Reply> {
        Response::new(Reply::Text(Full::from(fault.to_string())))
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
    heads: codec::Limits {
        head_bytes: 1024,
        fields: 10,
        target_bytes: 100,
    },
    requests: None,
};

impl Bench {
    async fn new() -> Self {
        Self::with(LIMITS).await
    }

    async fn with(limits: Limits) -> Self {
        let (deadlines, batch) = (Deadlines::new(), Batch::new());
        tokio::task::spawn_local(Rc::clone(&batch).run());
        let shared = Shared::new(
            Rc::new(Echo::default()),
            &deadlines,
            &batch,
            &Rc::default(),
            limits,
        );
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

    /// One more connection that is served.
    async fn another(&self) -> TcpStream {
        let (stream, peer, client) = self.accepted().await;
        let (serving, counters) = (Rc::clone(&self.shared), Arc::clone(&self.metrics));
        tokio::task::spawn_local(async move {
            let cells = counters.worker(0);
            serving
                .serve(stream, None, Protocols::default(), peer, cells)
                .await;
        });
        client
    }

    async fn accepted(&self) -> (Socket, Peer, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // Little room in the kernel for what a client does not read.
        let socket = socket2::SockRef::from(&listener);
        socket.set_send_buffer_size(4096).unwrap();
        let local = listener.local_addr().unwrap();
        let client = TcpSocket::new_v4().unwrap();
        client.set_recv_buffer_size(4096).unwrap();
        let (client, accepted) = tokio::join!(client.connect(local), listener.accept());
        let (stream, address) = accepted.unwrap();
        let peer = Peer::new(address, Some(local), false, 1);
        (
            Socket::new(stream, &self.shared.batch),
            peer,
            client.unwrap(),
        )
    }

    /// One more connection, served by nobody yet.
    async fn connection(&self) -> (Rc<Conn>, Rc<Peer>, TcpStream) {
        let (stream, peer, client) = self.accepted().await;
        let watch = Watch::new(LIMITS, &self.shared.deadlines);
        let guard = Guard::new(Stream::Plain(stream), &watch);
        (Conn::new(guard, &watch), Rc::new(peer), client)
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
    let limit = Duration::from_secs(60);
    LocalSet::new()
        .block_on(&runtime, async {
            tokio::time::timeout(limit, test()).await
        })
        .expect("it comes to an end");
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
fn an_idle_connection_gives_its_buffers_back() {
    run(|| async {
        let mut bench = Bench::new().await;
        let (conn, peer, client) = bench.connection().await;
        bench.client = client;

        let (shared, talking) = (Rc::clone(&bench.shared), Rc::clone(&conn));
        let stretch =
            tokio::task::spawn_local(async move { shared.converse(&talking, &peer).await });
        bench.send("GET /one HTTP/1.1\r\nhost: a\r\n\r\n").await;
        bench.read_until("/one").await;
        bench.pass(Duration::from_millis(50)).await;
        assert!(!stretch.is_finished(), "not yet");
        bench.pass(Duration::from_millis(500)).await;
        assert!(stretch.is_finished(), "it keeps the state of its requests");
        match stretch.await.unwrap() {
            Turn::Idle => conn.io.borrow_mut().rest(),
            Turn::Ended(reason) => panic!("{reason}"),
        }
        assert_eq!(conn.io.borrow().read.capacity(), 0);
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
        bench.pass(Duration::from_secs(3)).await;
        bench.read_until("did not arrive in time").await;
        bench.pass(Duration::from_secs(3)).await;
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

/// Sends `text`, shuts down the client's side and gives back all that came.
async fn whole(bench: &mut Bench, text: &str) -> String {
    bench.send(text).await;
    bench.client.shutdown().await.unwrap();
    let mut all = String::new();
    bench.client.read_to_string(&mut all).await.unwrap();
    all
}

#[test]
fn early_hints_go_ahead_of_the_answer_and_not_to_http_1_0() {
    run(|| async {
        let mut bench = Bench::new().await;
        bench.send("GET /hint HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let text = bench.read_until("hinted: true").await;
        let early = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n";
        assert!(text.starts_with(early), "{text}");

        let mut bench = Bench::new().await;
        bench.send("GET /hint HTTP/1.0\r\nhost: a\r\n\r\n").await;
        let text = bench.read_until("hinted: false").await;
        assert!(text.starts_with("HTTP/1.0 200 OK\r\n"), "{text}");
    });
}

#[test]
fn what_a_request_leaves_behind_cannot_touch_the_next_one() {
    run(|| async {
        let mut bench = Bench::new().await;
        let body = "content-length: 4\r\n\r\nbody";
        bench.send(&format!("POST /keep HTTP/1.1\r\n{body}")).await;
        let text = bench.read_until("/keep").await;
        assert!(!text.contains("connection: close"), "{text}");
        bench
            .send("POST /back HTTP/1.1\r\ncontent-length: 4\r\n\r\nne")
            .await;
        bench.read_until("2\r\nne\r\n").await;
        let (mut body, early) = bench.shared.handler.kept.borrow_mut().pop().unwrap();
        assert!(!early.unwrap().send(StatusCode::EARLY_HINTS, hint()));
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        assert_eq!(frame.unwrap().unwrap_err(), BodyFault::Incomplete);
        drop(body);
        bench.send("xt").await;
        bench.read_until("2\r\nxt\r\n0\r\n\r\n").await;
    });
}

#[test]
fn a_body_is_asked_for_when_it_is_read_and_not_before() {
    run(|| async {
        let mut bench = Bench::new().await;
        let expecting = "HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";
        bench.send(&format!("POST /read {expecting}")).await;
        let text = bench.read_until("\r\n\r\n").await;
        assert_eq!(text, "HTTP/1.1 100 Continue\r\n\r\n");
        bench.send("body").await;
        let text = bench.read_until("body").await;
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    });
    run(|| async {
        let mut bench = Bench::new().await;
        let expecting = "HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";
        let text = whole(&mut bench, &format!("POST /unread {expecting}")).await;
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        assert!(text.contains("connection: close\r\n"), "{text}");
    });
    run(|| async {
        let mut bench = Bench::new().await;
        let text = whole(
            &mut bench,
            "POST /read HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\nbody",
        )
        .await;
        assert!(text.starts_with("HTTP/1.0 200 OK\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\nbody"), "{text}");
    });
}

#[test]
fn trailers_that_were_announced_go_to_those_who_take_them() {
    run(|| async {
        let mut bench = Bench::new().await;
        bench
            .send("GET /trailers HTTP/1.1\r\nte: trailers\r\n\r\n")
            .await;
        bench
            .read_until("4\r\ndata\r\n0\r\nlink: </a>\r\n\r\n")
            .await;
        bench
            .send("GET /unannounced HTTP/1.1\r\nte: trailers\r\n\r\n")
            .await;
        bench.read_until("4\r\ndata\r\n0\r\n\r\n").await;
        bench.send("GET /trailers HTTP/1.1\r\n\r\n").await;
        bench.read_until("4\r\ndata\r\n0\r\n\r\n").await;
        bench
            .send("GET /trailers HTTP/1.0\r\nte: trailers\r\n\r\n")
            .await;
        let text = bench.read_until("data").await;
        assert!(!text.contains("chunked"), "{text}");
    });
}

#[test]
fn a_tunnel_is_raw_both_ways_until_both_ends_are_closed() {
    run(|| async {
        let mut bench = Bench::new().await;
        let head = "GET /tunnel HTTP/1.1\r\nconnection: upgrade\r\nupgrade: Chat\r\n\r\n";
        bench.send(&format!("{head}first ")).await;
        let text = bench.read_until("first ").await;
        assert!(
            text.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
            "{text}"
        );
        assert!(
            text.contains("upgrade: chat\r\nconnection: upgrade\r\n"),
            "{text}"
        );
        assert!(
            !text.contains("chunked") && !text.contains("content-length"),
            "{text}"
        );
        bench.send("GET / HTTP/1.1\r\n\r\n").await;
        bench.read_until("GET / HTTP/1.1\r\n\r\n").await;
        assert_eq!(whole(&mut bench, "last").await, "last");
        (&mut bench.served).await.unwrap();
    });
}

#[test]
fn a_silent_client_of_a_tunnel_whose_other_end_is_over_is_closed_whoever_reads_it() {
    run(|| async {
        let mut bench = Bench::new().await;
        let head = "GET /parted HTTP/1.1\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\n";
        bench.send(head).await;
        bench.read_until("\r\n\r\n").await;
        assert_eq!(bench.client.read(&mut [0; 8]).await.unwrap(), 0);
        bench.pass(Duration::from_secs(4)).await;
        assert!(!bench.served.is_finished(), "it may still speak");
        bench.pass(Duration::from_secs(2)).await;
        (&mut bench.served).await.unwrap();
        let reading = bench.shared.handler.reading.take().unwrap();
        assert_eq!(reading.await.unwrap(), Some(BodyFault::Incomplete));
        // Nobody holds the socket any more, so the kernel tells who writes to it.
        while bench.client.write_all(b"x").await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_panic_costs_its_connection_which_is_counted_and_no_other() {
    run(|| async {
        let mut bench = Bench::new().await;
        bench.send("GET /panic HTTP/1.1\r\n\r\n").await;
        assert_eq!(bench.client.read(&mut [0; 8]).await.unwrap_or(0), 0);
        assert!((&mut bench.served).await.unwrap_err().is_panic());
        assert!(bench.ended(CloseReason::Internal));
        // Nothing is left of it, and the worker serves on.
        bench.shared.drain.empty().await;
        let mut other = bench.another().await;
        other
            .write_all(b"GET /next HTTP/1.1\r\n\r\n")
            .await
            .unwrap();
        let mut piece = [0; 1024];
        let count = other.read(&mut piece).await.unwrap();
        assert!(piece[..count].starts_with(b"HTTP/1.1 200"));
    });
}

#[test]
fn nobody_switches_protocols_who_was_not_asked_to() {
    run(|| async {
        let mut bench = Bench::new().await;
        assert_eq!(whole(&mut bench, "GET /tunnel HTTP/1.1\r\n\r\n").await, "");
        (&mut bench.served).await.unwrap();
        assert!(bench.ended(CloseReason::Internal));
    });
}

#[test]
fn a_client_that_has_shut_down_its_side_gets_its_answers_but_is_not_waited_for() {
    run(|| async {
        let mut bench = Bench::new().await;
        let two = "GET /one HTTP/1.1\r\n\r\nGET /two HTTP/1.1\r\n\r\n";
        let text = whole(&mut bench, two).await;
        assert!(text.contains("/one") && text.ends_with("/two"), "{text}");

        let mut bench = Bench::new().await;
        bench.send("GET /never HTTP/1.1\r\n\r\n").await;
        bench.client.shutdown().await.unwrap();
        bench.pass(Duration::from_secs(2)).await;
        assert!(!bench.served.is_finished(), "it may still read");
        bench.pass(Duration::from_secs(2)).await;
        (&mut bench.served).await.unwrap();
        assert!(bench.ended(CloseReason::Client));
    });
}

#[test]
fn the_last_request_that_a_connection_may_send_is_told_so() {
    run(|| async {
        let limits = Limits {
            requests: std::num::NonZeroU64::new(2),
            ..LIMITS
        };
        let mut bench = Bench::with(limits).await;
        let two = "GET /one HTTP/1.1\r\n\r\nGET /two HTTP/1.1\r\n\r\n";
        let text = whole(&mut bench, &format!("{two}GET /three HTTP/1.1\r\n\r\n")).await;
        let (one, two) = text.split_once("/one").unwrap();
        assert!(!one.contains("connection: close"), "{text}");
        assert!(two.contains("connection: close"), "{text}");
        assert!(two.ends_with("/two"), "{text}");
        (&mut bench.served).await.unwrap();
        assert!(bench.ended(CloseReason::Complete));
    });
}

#[test]
fn a_short_body_that_nobody_read_is_drained_and_a_long_one_costs_the_connection() {
    run(|| async {
        let mut bench = Bench::new().await;
        bench
            .send("POST /unread HTTP/1.1\r\ncontent-length: 10\r\n\r\n01234")
            .await;
        bench.read_until("/unread").await;
        bench.send("56789GET /next HTTP/1.1\r\n\r\n").await;
        let text = bench.read_until("/next").await;
        assert!(!text.contains("connection: close"), "{text}");
        bench
            .send("POST /unread HTTP/1.1\r\ncontent-length: 1000000\r\n\r\n")
            .await;
        let text = bench.read_until("/unread").await;
        assert!(text.contains("connection: close"), "{text}");
        // It is read on for a while, so that the answer is not lost to a reset.
        bench.send(&"x".repeat(100_000)).await;
        assert!(!bench.served.is_finished());
        bench.pass(Duration::from_secs(3)).await;
        (&mut bench.served).await.unwrap();
    });
}

#[test]
fn the_end_of_an_answer_that_the_kernel_had_no_room_for_follows_when_there_is_some() {
    run(|| async {
        let mut bench = Bench::new().await;
        let (conn, peer, client) = bench.connection().await;
        bench.client = client;
        let (shared, talking) = (Rc::clone(&bench.shared), Rc::clone(&conn));
        tokio::task::spawn_local(async move { shared.converse(&talking, &peer).await });
        let mut asked = 0;
        // The client does not read; at some answer the kernel takes no more, and nothing comes after it
        // that would push.
        while conn.io.borrow_mut().guard.stream().unsent() == 0 {
            bench.send("GET /one HTTP/1.1\r\nhost: a\r\n\r\n").await;
            asked += 1;
            while conn.serial.get() < asked {
                tokio::task::yield_now().await;
            }
            bench.pass(TICK).await;
        }
        let mut answers = 0;
        let mut text = String::new();
        while answers < asked {
            text = bench.read_until("/one").await;
            answers += text.matches("HTTP/1.1 200").count() as u64;
        }
        assert!(text.ends_with("/one"), "{text}");
        assert_eq!(conn.io.borrow_mut().guard.stream().unsent(), 0);
    });
}
