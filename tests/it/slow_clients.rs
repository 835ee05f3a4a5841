//! Clients that take their time: they are closed at their deadlines and hold nobody up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::interval;

use crate::harness::{
    Authority, Client, Config, Gate, Origin, Reply, Request, TlsClient, patiently,
};
use crate::http2::wire::{PREFACE, frame, get, settings};

const CLOSED: &str = "headgate_connections_closed_total";

async fn gate(origin: &Origin, timeouts: &str) -> Gate {
    let config = Config::to(&[origin])
        .one_worker()
        .top(&format!("timeouts: {{ {timeouts} }}"));
    Gate::start(&config).await
}

/// Whether others are served while these wait.
async fn is_served(gate: &Gate) {
    for _ in 0..10 {
        gate.get("/other").await.expect(200);
    }
}

#[tokio::test]
async fn a_client_that_sends_nothing_is_closed_while_others_are_served() {
    let origin = Origin::start("a").await;
    let gate = gate(&origin, "header: 200ms").await;

    let mut silent = gate.client().await;
    is_served(&gate).await;

    silent.until_closed().await;
    gate.until(CLOSED, &[("reason", "header_timeout")], 1.0)
        .await;
    assert_eq!(origin.requests("*"), 10);
}

#[tokio::test]
async fn a_client_that_sends_half_a_head_is_closed_while_others_are_served() {
    let origin = Origin::start("a").await;
    let gate = gate(&origin, "header: 200ms").await;

    let mut half = gate.client().await;
    half.write("GET /half HTTP/1.1\r\nhost: sh").await;
    is_served(&gate).await;

    half.until_closed().await;
    gate.until(CLOSED, &[("reason", "header_timeout")], 1.0)
        .await;
    assert_eq!(origin.requests("/half"), 0);
}

/// Sends byte after byte until the peer has enough of it.
async fn drip(client: &mut Client, bytes: &[u8]) {
    let mut pace = interval(Duration::from_millis(20));
    for byte in bytes.iter().cycle() {
        pace.tick().await;
        if client.try_write(&[*byte]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_head_byte_by_byte_does_not_put_its_deadline_off() {
    let origin = Origin::start("a").await;
    let gate = gate(&origin, "header: 300ms").await;

    let mut dripping = gate.client().await;
    dripping.write("GET /drip HTTP/1.1\r\nx-slow: ").await;
    tokio::join!(drip(&mut dripping, b"a"), is_served(&gate));

    gate.until(CLOSED, &[("reason", "header_timeout")], 1.0)
        .await;
    assert_eq!(origin.requests("/drip"), 0);
}

#[tokio::test]
async fn the_deadline_of_a_head_holds_for_later_requests_too() {
    let origin = Origin::start("a").await;
    let gate = gate(&origin, "header: 200ms").await;

    let mut client = gate.client().await;
    client.get("/first").await.expect(200);
    client.write("GET /second HTTP/1.1\r\n").await;

    client.until_closed().await;
    gate.until(CLOSED, &[("reason", "header_timeout")], 1.0)
        .await;
}

#[tokio::test]
async fn a_connection_without_requests_is_closed_after_its_idle_time() {
    let origin = Origin::start("a").await;
    let gate = gate(&origin, "idle: 200ms").await;

    let mut client = gate.client().await;
    client.get("/").await.expect(200);

    assert_eq!(client.until_closed().await, b"");
    gate.until(CLOSED, &[("reason", "idle_timeout")], 1.0).await;
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answer_is_cut() {
    const TOTAL: usize = 64 * 1024 * 1024;
    let taken = Arc::new(AtomicUsize::new(0));
    let origin = Origin::start("a")
        .await
        .on("/big", move |_| Reply::new(200).flood(TOTAL, &taken));
    let gate = gate(&origin, "body_idle: 200ms, min_rate: 64KiB").await;

    let mut slow = gate.begin(&Request::get("/big")).await;
    is_served(&gate).await;

    gate.until(CLOSED, &[("reason", "slow_reader")], 1.0).await;
    gate.until("headgate_http_in_flight_requests", &[], 0.0)
        .await;
    let read = slow.until_closed().await.len();
    assert!(read < TOTAL, "{read}");
    // What was left of the answer is not for the next request.
    origin.until_open(1).await;
    gate.get("/other").await.expect(200);
}

/// Far more than kernels take from one who writes.
const LARGE: usize = 12 * 1024 * 1024;

/// Asks and reads what comes slowly, until all of it is there or the connection ends: how much there was.
async fn read_slowly(mut stream: impl AsyncRead + AsyncWrite + Unpin, asks: &[u8]) -> usize {
    stream.write_all(asks).await.unwrap();
    let (mut piece, mut read) = (vec![0; 32 * 1024], 0);
    let mut pace = interval(Duration::from_millis(8));
    let reading = async {
        while read < LARGE {
            pace.tick().await;
            match stream.read(&mut piece).await {
                Ok(0) | Err(_) => break,
                Ok(count) => read += count,
            }
        }
    };
    patiently("the answer, slowly", reading).await;
    read
}

async fn with_little_room(gate: &Gate) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8 * 1024).unwrap();
    socket.connect(gate.address).await.unwrap()
}

#[tokio::test]
async fn a_client_that_reads_slowly_but_fast_enough_gets_its_answer_whole() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("servers");
    authority
        .issue(&["shop.test"], 2040)
        .write(folder.path(), "shop");
    let origin = Origin::start("a")
        .await
        .on("/big", |_| Reply::new(200).flood(LARGE, &Arc::default()));
    // In a window of these, the kernel tells nothing of what such a client takes: it would have to take
    // a third of a megabyte-sized buffer first.
    let config = Config::to(&[&origin])
        .one_worker()
        .listener(
            "address: 127.0.0.2:0, tls: { certificates: [{ cert: shop.pem, key: shop.key }] }",
        )
        .top("timeouts: { body_idle: 100ms, min_rate: 16KiB }");
    let gate = Gate::start_in(folder, &config).await;
    let http1 = Request::get("/big").bytes();
    let window = |stream: u32| frame(8, 0, stream, &(1_u32 << 30).to_be_bytes());
    let opening = [PREFACE, &settings(&[(4, 1 << 30)]), &window(0)].concat();
    let http2 = [opening, get(1, "/big")].concat();
    let plain = TcpStream::connect(gate.address).await.unwrap();
    let multiplexed = TcpStream::connect(gate.address).await.unwrap();
    let tls = TlsClient::trusting(&authority);
    let tls = tls.shake(gate.listeners[1], "shop.test").await.unwrap();

    let read = tokio::join!(
        read_slowly(with_little_room(&gate).await, &http1),
        read_slowly(plain, &http1),
        read_slowly(tls, &http1),
        read_slowly(multiplexed, &http2),
    );
    for read in [read.0, read.1, read.2, read.3] {
        assert!(read >= LARGE, "{read} of {LARGE} bytes");
    }
    let metrics = gate.metrics().await;
    assert!(metrics.sum(CLOSED, &[("reason", "slow_reader")]) < 1.0);
}

#[tokio::test]
async fn what_slow_readers_have_not_taken_does_not_lie_in_memory() {
    const READERS: usize = 200;
    let taken = Arc::default();
    let flood = Arc::clone(&taken);
    let origin = Origin::start("a")
        .await
        .on("/big", move |_| Reply::new(200).flood(LARGE, &flood));
    let gate = gate(&origin, "body_idle: 10m").await;
    is_served(&gate).await;
    let before = gate.memory().0;

    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut reader = with_little_room(&gate).await;
        reader
            .write_all(&Request::get("/big").bytes())
            .await
            .unwrap();
        reader.read_exact(&mut [0; 1024]).await.unwrap();
        readers.push(reader);
    }
    // Until nothing moves any more while others are served.
    loop {
        let moved = taken.load(Ordering::Relaxed);
        for _ in 0..READERS {
            gate.get("/other").await.expect(200);
        }
        if taken.load(Ordering::Relaxed) == moved {
            break;
        }
    }
    let each = (gate.memory().0 - before) / READERS;
    println!("{each} bytes each");
    assert!(each < 32 * 1024, "{each} bytes for each reader");
}

#[tokio::test]
async fn a_body_that_stops_coming_is_a_request_timeout_and_its_upstream_connection_is_not_kept() {
    let origin = Origin::start("a").await;
    let gate = gate(&origin, "body_idle: 200ms").await;

    let mut slow = gate.client().await;
    slow.write("POST /up HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n0123456789")
        .await;
    origin.until_asked("/up", 1).await;
    is_served(&gate).await;

    slow.answer().await.problem(408);
    slow.until_closed().await;
    gate.get("/next").await.expect(200);
    let (up, next) = (origin.last("/up"), origin.last("/next"));
    assert!(!up.whole && up.body.len() < 100, "{up:?}");
    assert_ne!(up.connection, next.connection);
}

#[tokio::test]
async fn a_body_whose_chunks_are_broken_is_a_bad_request_and_reaches_nobody_whole() {
    let origin = Origin::start("a").await;
    let gate = gate(&origin, "body_idle: 60s").await;

    let mut client = gate.client().await;
    let head = "POST /up HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    client.write(&format!("{head}5\r\nhello\r\n")).await;
    origin.until_asked("/up", 1).await;
    client.write("zz\r\n").await;

    client.answer().await.problem(400);
    client.until_closed().await;
    assert!(!origin.last("/up").whole);
}

#[tokio::test]
async fn a_body_below_the_least_rate_is_a_request_timeout_too() {
    let origin = Origin::start("a").await;
    let gate = gate(&origin, "body_idle: 200ms, min_rate: 10KiB").await;

    let mut slow = gate.client().await;
    slow.write("POST /up HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n")
        .await;
    let mut pace = interval(Duration::from_millis(20));
    let answer = loop {
        tokio::select! {
            answer = slow.answer() => break answer,
            _ = pace.tick() => {}
        }
        if slow.try_write(b"drip").await.is_err() {
            break slow.answer().await;
        }
    };

    answer.problem(408);
    assert!(!origin.last("/up").whole);
}

#[tokio::test]
async fn a_hundred_silent_clients_cost_little_memory_and_no_service() {
    let origin = Origin::start("a").await;
    let gate = gate(&origin, "header: 60s").await;
    is_served(&gate).await;
    let (before, _) = gate.memory();

    let mut silent = Vec::new();
    for _ in 0..100 {
        let mut client = gate.client().await;
        client.write("GET / HTTP/1.1\r\nhost: ").await;
        silent.push(client);
    }
    gate.until("headgate_connections_open", &[], 100.0).await;
    is_served(&gate).await;

    let (now, _) = gate.memory();
    assert!(
        now < before + 100 * 64 * 1024,
        "grew from {before} to {now} bytes"
    );
}
