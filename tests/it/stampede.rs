//! A thousand who want the same thing at once, of which nothing is stored yet.
//!
//! The gate is a process of its own, so that its resident memory is its own. Readers differ: some take all
//! they can get, some a little at a time, some stand still for a while; and they are spread over both
//! workers. The body is watched byte by byte, since every one of them reads the same growing copy.

use std::sync::Arc;

use tokio::io::AsyncReadExt as _;
use tokio::task::JoinSet;

use crate::harness::{Client, Config, Gate, Latch, Origin, Reply, Request};

const MIB: usize = 1 << 20;
const HERD: usize = 1000;
const LENGTH: usize = 10 * MIB;

/// Each kilobyte begins with its number, so that nothing can be left out or come twice.
fn body(length: usize) -> Vec<u8> {
    let mut body = vec![b'.'; length];
    for (number, block) in body.chunks_mut(1024).enumerate() {
        block[..8].copy_from_slice(format!("{number:07}\n").as_bytes());
    }
    body
}

/// A caching gate with two workers that keeps bodies of up to so many mebibytes.
async fn gate(origin: &Origin, max_object: usize) -> Gate {
    let config = Config::new()
        .upstream("shop", &[origin], "")
        .top(&format!(
            "cache: {{ memory: 256MiB, max_object: {max_object}MiB }}"
        ))
        .top("timeouts: { body_idle: 10m }")
        .route("shop", "path_prefix: /", "upstream: shop, cache: {}");
    Gate::start(&config).await
}

async fn all(mut readers: JoinSet<()>) {
    while let Some(ended) = readers.join_next().await {
        ended.unwrap();
    }
}

/// Reads an answer in the way of the reader with this number. However long it takes: a thousand share what
/// there is of a machine.
async fn read(client: Client, number: usize, whole: &[u8], latch: &Latch) {
    let mut stream = client.into_stream();
    let mut buffer = vec![0; [512 * 1024, 64 * 1024, 16 * 1024, 4000][number % 4]];
    let mut head = Vec::new();
    let mut at = 0;
    while at < whole.len() {
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(count > 0, "reader {number} was cut at {at}");
        let mut bytes = &buffer[..count];
        if at == 0 && !head.ends_with(b"\r\n\r\n") {
            // Nothing of the body is sent before it can be told apart by its own numbers.
            let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
            let end = end.map_or(count, |end| end + 4);
            head.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end..];
        }
        assert!(
            bytes == &whole[at..at + bytes.len()],
            "reader {number} at {at}"
        );
        let before = at;
        at += bytes.len();
        // These few stand still until all others are done.
        if number.is_multiple_of(100) && before < MIB / 2 && at >= MIB / 2 {
            latch.opened().await;
        }
    }
    assert!(head.starts_with(b"HTTP/1.1 200"), "reader {number}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_at_once_reach_the_origin_once_and_share_one_copy() {
    let whole = Arc::new(body(LENGTH));
    let (sent, go) = (Arc::clone(&whole), Latch::new());
    let held = go.clone();
    let origin = Origin::start("a").await.on("/p", move |_| {
        let head = Reply::new(200)
            .header("cache-control", "max-age=600")
            .header("content-length", &LENGTH.to_string());
        head.then(&sent[..MIB]).then_wait(&held).then(&sent[MIB..])
    });
    let gate = gate(&origin, 16).await;
    gate.get("/warm").await.expect(200);
    let mut clients = Vec::with_capacity(HERD);
    for _ in 0..HERD {
        clients.push(gate.client().await);
    }
    let (before, _) = gate.memory();

    for client in &mut clients {
        client.write(Request::get("/p").bytes()).await;
    }
    let aside = Latch::new();
    let (mut moving, mut standing) = (JoinSet::new(), JoinSet::new());
    for (number, client) in clients.into_iter().enumerate() {
        let (whole, aside) = (Arc::clone(&whole), aside.clone());
        let stands = number.is_multiple_of(100);
        let readers = if stands { &mut standing } else { &mut moving };
        readers.spawn(async move { read(client, number, &whole, &aside).await });
    }
    // All of them have boarded before the rest of the body comes.
    let in_flight = "headgate_http_in_flight_requests";
    gate.until(in_flight, &[("route", "shop")], HERD as f64)
        .await;
    go.open();
    all(moving).await;
    aside.open();
    all(standing).await;

    let (_, most) = gate.memory();
    assert_eq!(origin.requests("/p"), 1);
    let allowed = LENGTH + HERD * 64 * 1024 + 32 * MIB;
    let grown = most.saturating_sub(before);
    println!(
        "{HERD} readers of {LENGTH} bytes: resident size grew by {} KiB",
        grown / 1024
    );
    assert!(grown <= allowed, "{grown} of {allowed} bytes");
    assert!(gate.get("/p").await.expect(200).is_hit());
}

#[tokio::test]
async fn past_the_bound_a_reader_that_stands_still_is_cut_and_the_others_are_not() {
    let whole = Arc::new(body(12 * MIB));
    let (sent, go) = (Arc::clone(&whole), Latch::new());
    let held = go.clone();
    let origin = Origin::start("a").await.on("/p", move |_| {
        // No length is told: that it is too large shows only as it comes.
        let head = Reply::new(200)
            .header("cache-control", "max-age=600")
            .header("transfer-encoding", "chunked");
        let mut chunks = format!("{:x}\r\n", sent.len()).into_bytes();
        chunks.extend_from_slice(&sent);
        chunks.extend_from_slice(b"\r\n0\r\n\r\n");
        head.then_wait(&held).then(chunks)
    });
    let config = Config::new()
        .upstream("shop", &[&origin], "")
        .top("cache: { memory: 64MiB, max_object: 1MiB }")
        .top("timeouts: { body_idle: 1s, min_rate: 1KiB }")
        .route("shop", "path_prefix: /", "upstream: shop, cache: {}");
    let gate = Gate::start(&config).await;
    let mut stalled = gate.begin(&Request::get("/p")).await;
    origin.until_asked("/p", 1).await;
    let mut readers = JoinSet::new();
    for number in 0..8 {
        let mut client = gate.begin(&Request::get("/p")).await;
        let expected = Arc::clone(&whole);
        readers.spawn(async move {
            let answer = client.answer().await.expect(200);
            assert!(answer.body == *expected, "reader {number}");
        });
    }
    go.open();
    all(readers).await;
    // What was cut ends before its end.
    let got = stalled.until_closed().await;
    assert!(got.len() < whole.len(), "{} bytes", got.len());
}

#[tokio::test]
async fn those_without_a_cookie_do_not_go_alone_because_one_with_a_cookie_led() {
    let go = Latch::new();
    let held = go.clone();
    let origin = Origin::start("a").await.on("/p", move |seen| {
        let reply = Reply::ok("p").header("cache-control", "max-age=600");
        match seen.earlier {
            0 => reply.after(&held),
            _ => reply,
        }
    });
    let gate = gate(&origin, 16).await;
    let user = Request::get("/p").header("cookie", "session=1");
    let mut leader = gate.begin(&user).await;
    origin.until_asked("/p", 1).await;
    let mut others = Vec::new();
    for _ in 0..20 {
        others.push(gate.begin(&Request::get("/p")).await);
    }
    gate.until(
        "headgate_http_in_flight_requests",
        &[("route", "shop")],
        21.0,
    )
    .await;
    go.open();
    assert!(
        leader
            .answer()
            .await
            .expect(200)
            .cache()
            .contains("detail=cookie")
    );
    for mut other in others {
        other.answer().await.expect(200);
    }
    assert_eq!(origin.requests("/p"), 2);
    // And users of a page that is theirs do not wait for each other.
    let again = gate.send(&user).await.expect(200);
    assert!(
        again.is_hit(),
        "it is stored for all now: {}",
        again.cache()
    );
}

#[tokio::test]
async fn users_of_a_page_that_is_theirs_do_not_queue() {
    let go = Latch::new();
    let held = go.clone();
    let origin = Origin::start("a").await.on("/p", move |seen| {
        let reply = Reply::ok("p").header("cache-control", "max-age=600");
        match seen.earlier {
            1 => reply.after(&held),
            _ => reply,
        }
    });
    let gate = gate(&origin, 16).await;
    let user = |n: usize| Request::get("/p").header("cookie", &format!("session={n}"));
    gate.send(&user(1)).await.expect(200);
    let mut slow = gate.begin(&user(2)).await;
    origin.until_asked("/p", 2).await;
    // The second is still being answered; a third goes at once.
    let third = gate.send(&user(3)).await.expect(200);
    assert!(
        third.cache().contains("detail=uncacheable"),
        "{}",
        third.cache()
    );
    go.open();
    slow.answer().await.expect(200);
}
