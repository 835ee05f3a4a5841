//! A connection over a real socket, with a handler that does what a test wants.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::Either;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::Full;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use tokio::time::Instant;

use super::*;
use crate::body::Inbound;
use crate::metrics::Metrics;
use crate::net::socket::{Batch, Socket};
use crate::wire::{Answering, Early, Fault, Head};

/// Answers by path; counts how often its futures are polled.
#[derive(Default)]
struct Odd {
    polls: Cell<usize>,
    kept: RefCell<Vec<Rc<dyn Early>>>,
}

impl Handler for Odd {
    type Body = Full<Bytes>;

    fn handle(
        self: &Rc<Self>,
        _peer: &Rc<Peer>,
        head: Head,
        _at: Instant,
        body: Inbound,
        early: Option<Rc<dyn Early>>,
    ) -> Answering<Full<Bytes>, impl Future<Output = Response<Full<Bytes>>> + 'static> {
        let this = Rc::clone(self);
        let request = head.with(body);
        assert_ne!(request.uri().path(), "/panic/at/once");
        if request.uri().path() == "/at/once" {
            let answer = Response::new(Full::from("at once"));
            return Either::Left(std::future::ready(answer));
        }
        Either::Right(std::future::poll_fn(move |cx| {
            this.polls.set(this.polls.get() + 1);
            match request.uri().path() {
                "/panic" => panic!("on purpose"),
                "/later" if this.polls.get() == 1 => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                "/spin" => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                "/never" => {
                    this.kept.borrow_mut().extend(early.clone());
                    Poll::Pending
                }
                path => Poll::Ready(Response::new(Full::from(path.to_owned()))),
            }
        }))
    }

    fn refuse(
        self: &Rc<Self>,
        _peer: &Rc<Peer>,
        _version: http::Version,
        _fault: Fault,
    ) -> Response<Full<Bytes>> {
        Response::default()
    }
}

/// Serves one connection; `test` is its client.
fn serve<F: Future<Output = ()>>(test: impl FnOnce(Rc<Odd>, Client) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        let (deadlines, batch, drain) = (Deadlines::new(), Batch::new(), Rc::default());
        tokio::task::spawn_local(Rc::clone(&batch).run());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let handler = Rc::new(Odd::default());
        let limits = Limits {
            header: Duration::from_secs(1),
            idle: Duration::from_secs(1),
            write_window: Duration::from_secs(1),
            least_written: 1,
            heads: crate::http1::Limits::default(),
            requests: None,
        };
        let (dates, space) = (Dates::default(), Space::default());
        let metrics = Metrics::new(1);
        let service = Service {
            handler: &handler,
            peer: Rc::new(Peer::new(peer, None, false, 1)),
            limits,
            deadlines: &deadlines,
            drain: &drain,
            settings: Settings::default(),
            dates: &dates,
            space: &space,
            cells: metrics.worker(0),
        };
        let socket = Stream::Plain(Socket::new(stream, &batch));
        let serving = service.serve(socket, Bytes::new());
        let testing = test(Rc::clone(&handler), Client(client));
        tokio::pin!(serving, testing);
        tokio::select! {
            _ended = &mut serving => testing.await,
            () = &mut testing => {}
        }
    });
}

struct Client(TcpStream);

impl Client {
    async fn open(&mut self) {
        self.0.write_all(PREFACE).await.unwrap();
        self.frame(4, 0, 0, b"").await;
    }

    async fn frame(&mut self, kind: u8, flags: u8, stream: u8, payload: &[u8]) {
        let length = u8::try_from(payload.len()).unwrap();
        let head = [0, 0, length, kind, flags, 0, 0, 0, stream];
        let bytes = [&head[..], payload].concat();
        self.0.write_all(&bytes).await.unwrap();
    }

    async fn get(&mut self, stream: u8, path: &str) {
        let length = u8::try_from(path.len()).unwrap();
        let block = [b"\x82\x86\x41\x01a\x04", &[length][..], path.as_bytes()].concat();
        self.frame(1, 5, stream, &block).await;
    }

    /// The next frame of this kind on this stream.
    async fn until(&mut self, kind: u8, stream: u8) -> Vec<u8> {
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.unwrap();
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            self.0.read_exact(&mut payload).await.unwrap();
            if (head[3], head[8]) == (kind, stream) {
                return payload;
            }
        }
    }
}

#[test]
fn the_preface_is_told_from_every_other_beginning() {
    assert_eq!(opening(b""), Opening::Short);
    for length in 1..PREFACE.len() {
        assert_eq!(opening(&PREFACE[..length]), Opening::Short, "{length}");
    }
    assert_eq!(opening(PREFACE), Opening::Http2);
    assert_eq!(
        opening(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore"),
        Opening::Http2
    );
    for other in [&b"GET / HTTP/1.1"[..], b"PRI * HTTP/1.1", b"P0ST"] {
        assert_eq!(opening(other), Opening::Other);
    }
}

#[test]
fn a_panic_resets_its_stream_and_the_others_go_on() {
    serve(async |_, mut client| {
        client.open().await;
        for (stream, path) in [(1, "/panic"), (3, "/panic/at/once")] {
            client.get(stream, path).await;
            assert_eq!(client.until(3, stream).await, [0, 0, 0, 2]);
        }
        client.get(5, "/ok").await;
        assert_eq!(client.until(0, 5).await, b"/ok");
    });
}

#[test]
fn an_answer_that_is_there_at_once_needs_no_future() {
    serve(async |handler, mut client| {
        client.open().await;
        for stream in [1, 3] {
            client.get(stream, "/at/once").await;
            assert_eq!(client.until(0, stream).await, b"at once");
        }
        assert_eq!(handler.polls.get(), 0);
    });
}

#[test]
fn a_request_that_is_not_ready_is_polled_when_it_is_woken_and_not_before() {
    serve(async |handler, mut client| {
        client.open().await;
        client.get(1, "/later").await;
        assert_eq!(client.until(0, 1).await, b"/later");
        assert_eq!(handler.polls.get(), 2, "once, and once when woken");
        client.get(3, "/never").await;
        for stream in [5, 7, 9] {
            client.get(stream, "/ok").await;
            client.until(0, stream).await;
        }
        assert_eq!(handler.polls.get(), 6, "nobody woke the one that waits");
    });
}

/// As everything of the runtime does whose turn is over.
#[test]
fn a_request_that_wakes_itself_without_end_holds_nobody_up() {
    serve(async |_, mut client| {
        client.open().await;
        client.get(1, "/spin").await;
        for stream in [3, 5] {
            client.get(stream, "/ok").await;
            assert_eq!(client.until(0, stream).await, b"/ok");
        }
    });
}

#[test]
fn what_was_answered_reaches_a_client_that_sends_no_more() {
    serve(async |_, mut client| {
        client.open().await;
        client.get(1, "/ok").await;
        client.0.shutdown().await.unwrap();
        assert_eq!(client.until(0, 1).await, b"/ok");
    });
}

#[test]
fn hints_for_a_request_that_was_taken_back_go_nowhere() {
    serve(async |handler, mut client| {
        client.open().await;
        client.get(1, "/never").await;
        client.get(3, "/ok").await;
        client.until(0, 3).await;
        let early = handler.kept.borrow()[0].clone();
        assert!(early.send(StatusCode::EARLY_HINTS, HeaderMap::new()));
        assert!(!client.until(1, 1).await.is_empty(), "the hint");
        client.frame(3, 0, 1, &[0, 0, 0, 8]).await;
        client.get(5, "/ok").await;
        client.until(0, 5).await;
        assert!(!early.send(StatusCode::EARLY_HINTS, HeaderMap::new()));
    });
}
