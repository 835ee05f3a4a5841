//! Exchanges against endpoints that are scripted byte by byte, with time in the test's hand.

mod http1;
mod http2;
mod tunnels;

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use super::exchange::{Answer, Reuse};
use super::request_body::Pace;
use super::{AnswerBody, Early, ExchangeError, Fields, Outgoing, Pools, RequestBody, Target};
use crate::balancer::{Endpoint, Registry};
use crate::body::{BodyFault, Inbound};
use crate::config::model::{UpstreamProtocol, UpstreamTimeouts};
use crate::metrics::{self, Metrics};
use crate::net::deadline::Deadlines;
use crate::net::hop::Hop;
use crate::net::proxy_protocol::Header;
use crate::net::socket::Batch;

/// A worker's pools, and an endpoint that the test plays.
struct Bench {
    pools: Rc<Pools>,
    deadlines: Rc<Deadlines>,
    listener: TcpListener,
    endpoint: Arc<Endpoint>,
    timeouts: UpstreamTimeouts,
    max_idle: usize,
    hop: Arc<Hop>,
    metrics: Arc<Metrics>,
    of_endpoint: Arc<metrics::Endpoint>,
    of_upstream: Arc<metrics::Upstream>,
}

/// Runs a test on a worker of its own.
fn run<F: Future<Output = ()>>(test: impl FnOnce(Bench) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .unwrap();
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let limit = Duration::from_secs(60);
        let bench = Bench::new().await;
        tokio::time::timeout(limit, test(bench))
            .await
            .expect("a test that hangs");
    });
}

impl Bench {
    async fn new() -> Self {
        let (deadlines, batch) = (Deadlines::new(), Batch::new());
        tokio::task::spawn_local(Rc::clone(&batch).run());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = listener.local_addr().unwrap().into();
        let metrics = Metrics::new(1);
        let second = Duration::from_secs(1);
        Self {
            pools: Pools::new(0, &deadlines, &batch),
            deadlines,
            endpoint: Registry::default().endpoint(&"shop".into(), &"shop.test:80".into(), &socket),
            listener,
            timeouts: UpstreamTimeouts {
                connect: second,
                first_byte: second * 2,
                body_idle: second,
                idle: second * 60,
                tunnel_idle: second * 3,
            },
            max_idle: 4,
            hop: Arc::default(),
            of_endpoint: metrics.endpoint("shop", "shop.test:80"),
            of_upstream: metrics.upstream("shop"),
            metrics,
        }
    }

    fn over_http2(mut self) -> Self {
        self.hop = Arc::new(Hop {
            protocol: UpstreamProtocol::H2,
            ..Hop::default()
        });
        self
    }

    fn target(&self) -> Target<'_> {
        Target {
            endpoint: &self.endpoint,
            timeouts: &self.timeouts,
            max_idle: self.max_idle,
            hop: &self.hop,
            client: Header::Unknown,
            metrics: &self.of_endpoint,
            upstream_metrics: &self.of_upstream,
        }
    }

    async fn send(&self, request: Request<RequestBody>) -> Result<Answer, ExchangeError> {
        self.send_hearing(request, None).await
    }

    async fn send_hearing(
        &self,
        request: Request<RequestBody>,
        early: Early<'_>,
    ) -> Result<Answer, ExchangeError> {
        let (head, body) = request.into_parts();
        let request = Outgoing {
            method: &head.method,
            target: head.uri.path_and_query().unwrap(),
            fields: Fields::Map(Box::new(head.headers)),
            body,
        };
        self.pools
            .exchange(&self.target(), request, Reuse::Idle, early)
            .await
    }

    async fn accept(&self) -> Peer {
        let (stream, _) = self.listener.accept().await.unwrap();
        Peer(stream)
    }

    /// Lets so much time pass on the worker's clock.
    async fn pass(&self, time: Duration) {
        let ticks = time.as_millis() / crate::net::deadline::TICK.as_millis() + 2;
        for _ in 0..ticks {
            self.deadlines.tick();
            tokio::task::yield_now().await;
        }
    }

    fn body(&self, inbound: Inbound) -> RequestBody {
        let pace = Pace::new(1, Duration::from_secs(3600));
        RequestBody::new(inbound, &self.deadlines, pace)
    }

    /// The value of a series of this upstream.
    fn count(&self, series: &str) -> f64 {
        let text = self.metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.map_or(0.0, |value| value.trim().parse().unwrap())
    }
}

/// The endpoint's end of a connection.
struct Peer(TcpStream);

impl Peer {
    /// A request's head, as it came.
    async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    async fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    /// All bytes until the end of the connection, clean or not.
    async fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // A reset is an end too.
        drop(self.0.read_to_end(&mut bytes).await);
        bytes
    }

    async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }
}

fn get() -> Request<RequestBody> {
    with("GET", RequestBody::Empty)
}

fn with(method: &str, body: RequestBody) -> Request<RequestBody> {
    Request::builder()
        .method(method)
        .uri("/p")
        .header("host", "shop.test")
        .body(body)
        .unwrap()
}

/// All that a body yields: its content and its trailers.
async fn whole(body: AnswerBody) -> Result<(Vec<u8>, HeaderMap), super::exchange::AnswerError> {
    let (mut content, mut trailers) = (Vec::new(), HeaderMap::new());
    let mut body = body;
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        match frame?.into_data() {
            Ok(data) => content.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().unwrap(),
        }
    }
    Ok((content, trailers))
}

/// A client's body, in the test's hand.
#[derive(Clone, Default)]
struct Hand(Rc<InHand>);

#[derive(Default)]
struct InHand {
    frames: RefCell<std::collections::VecDeque<Result<Frame<Bytes>, BodyFault>>>,
    ended: Cell<bool>,
    polls: Cell<usize>,
    waker: RefCell<Option<Waker>>,
}

impl Hand {
    fn give(&self, data: &'static str) {
        self.put(Ok(Frame::data(Bytes::from_static(data.as_bytes()))));
    }

    fn put(&self, frame: Result<Frame<Bytes>, BodyFault>) {
        self.0.frames.borrow_mut().push_back(frame);
        self.wake();
    }

    fn end(&self) {
        self.0.ended.set(true);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.0.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    fn polls(&self) -> usize {
        self.0.polls.get()
    }
}

impl Body for Hand {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let hand = &self.0;
        hand.polls.set(hand.polls.get() + 1);
        match hand.frames.borrow_mut().pop_front() {
            Some(frame) => Poll::Ready(Some(frame)),
            None if hand.ended.get() => Poll::Ready(None),
            None => {
                *hand.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// What was said to the client before the answer.
#[derive(Default)]
struct Heard(RefCell<Vec<(StatusCode, HeaderMap)>>);

impl Heard {
    fn hear(&self, status: StatusCode, headers: HeaderMap) -> bool {
        self.0.borrow_mut().push((status, headers));
        true
    }
}
