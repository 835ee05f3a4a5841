//! Clients of HTTP/2 that take their time: closed at their deadlines, nobody held up.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::harness::{Origin, Reply};

use super::hpack::literals;
use super::wire::*;
use super::{CLOSED, Scene};

async fn scene(timeouts: &str) -> Scene {
    let taken = Arc::new(AtomicUsize::new(0));
    let origin = Origin::start("a")
        .await
        .on("/big", move |_| Reply::new(200).flood(64 << 20, &taken));
    Scene::with(origin, &format!("timeouts: {{ {timeouts} }}")).await
}

#[tokio::test]
async fn a_preface_that_does_not_come_to_its_end_is_cut() {
    for begun in [
        &PREFACE[..10],
        PREFACE,
        &[PREFACE, &settings(&[])[..5]].concat(),
    ] {
        let scene = scene("header: 200ms").await;
        let mut wire = Wire::silent(scene.gate.address).await;
        // It would acknowledge the server's SETTINGS, which may not come first.
        wire.mute = true;
        wire.send(begun).await;
        wire.until("the close", |wire| wire.closed).await;
        scene
            .gate
            .until(CLOSED, &[("reason", "header_timeout")], 1.0)
            .await;
    }
}

#[tokio::test]
async fn a_header_block_that_does_not_come_to_its_end_is_cut() {
    let mut scene = scene("header: 200ms").await;
    let block = literals(&fields("GET", "/bad", &[]));
    scene.wire.send(frame(HEADERS, END_STREAM, 1, &block)).await;
    scene.wire.ends_with(ENHANCE_YOUR_CALM).await;
    scene
        .gate
        .until(CLOSED, &[("reason", "header_timeout")], 1.0)
        .await;
    scene.nothing_else_arrived().await;
}

#[tokio::test]
async fn half_a_headers_frame_is_cut_too_while_others_are_answered_on_the_connection() {
    let mut scene = scene("header: 300ms").await;
    scene.wire.send(post(1, "/ok", &[])).await;
    let request = get(3, "/bad");
    scene.wire.send(&request[..request.len() - 1]).await;
    scene.wire.ends_with(ENHANCE_YOUR_CALM).await;
    scene
        .gate
        .until(CLOSED, &[("reason", "header_timeout")], 1.0)
        .await;
    assert!(!scene.origin.seen("/ok").iter().any(|seen| seen.whole));
}

#[tokio::test]
async fn a_connection_without_requests_is_told_to_go_and_closed() {
    let mut scene = scene("idle: 200ms").await;
    scene.wire.fetch(1, "/ok").await.expect(200);
    scene.wire.ends_with(NO_ERROR).await;
    assert_eq!(scene.wire.goaways.last(), Some(&(1, NO_ERROR)));
    scene
        .gate
        .until(CLOSED, &[("reason", "idle_timeout")], 1.0)
        .await;
}

#[tokio::test]
async fn pings_do_not_keep_an_idle_connection() {
    let mut scene = scene("idle: 300ms").await;
    scene.wire.fetch(1, "/ok").await.expect(200);
    while !scene.wire.closed {
        let before = scene.wire.pongs.len();
        scene.wire.send(frame(PING, 0, 0, &[0; 8])).await;
        scene
            .wire
            .until("a pong", |wire| wire.closed || wire.pongs.len() > before)
            .await;
        tokio::time::timeout(
            std::time::Duration::from_millis(20),
            std::future::pending::<()>(),
        )
        .await
        .ok();
    }
    scene
        .gate
        .until(CLOSED, &[("reason", "idle_timeout")], 1.0)
        .await;
}

#[tokio::test]
async fn a_client_that_keeps_its_window_closed_is_given_up() {
    let scene = scene("body_idle: 200ms, min_rate: 1KiB").await;
    let mut wire = Wire::connect_with(scene.gate.address, &[(4, 0)]).await;
    wire.send(get(1, "/big")).await;
    wire.head(1).await.expect(200);
    wire.ends_with(ENHANCE_YOUR_CALM).await;
    assert_eq!(wire.so_far(1).reset, Some(CANCEL));
    let kind = [("kind", "closed_window")];
    scene
        .gate
        .until("headgate_http2_floods_total", &kind, 1.0)
        .await;
    scene
        .gate
        .until(CLOSED, &[("reason", "slow_reader")], 1.0)
        .await;
    scene
        .gate
        .until("headgate_http_in_flight_requests", &[], 0.0)
        .await;
    scene.origin.until_open(0).await;
}

#[tokio::test]
async fn a_stream_whose_window_stays_closed_does_not_take_its_connection_along() {
    let mut scene = scene("body_idle: 300ms, min_rate: 1KiB").await;
    scene.wire.mute = true;
    // The window of the stream is used up, that of the connection is opened again and again.
    scene
        .wire
        .send([window(0, 1 << 24), get(1, "/big"), post(3, "/ok", &[])].concat())
        .await;
    let mut sent = 0;
    while scene.wire.so_far(1).reset.is_none() {
        // The other one goes on.
        scene.wire.send(data(3, 0, vec![b'x'; 100])).await;
        sent += 100;
        let before = scene.wire.pongs.len();
        scene.wire.send(frame(PING, 0, 0, &[0; 8])).await;
        scene
            .wire
            .until("a pong", |wire| wire.pongs.len() > before)
            .await;
        tokio::time::timeout(
            std::time::Duration::from_millis(20),
            std::future::pending::<()>(),
        )
        .await
        .ok();
    }
    assert_eq!(scene.wire.so_far(1).reset, Some(CANCEL));
    scene.wire.send(data(3, END_STREAM, "end")).await;
    scene.wire.answer(3).await.expect(200);
    assert_eq!(scene.origin.last("/ok").body.len(), sent + 3);
    assert_eq!(scene.wire.goaways, []);
}

#[tokio::test]
async fn a_client_that_opens_its_window_and_does_not_read_is_cut() {
    let scene = scene("body_idle: 200ms, min_rate: 64KiB").await;
    let mut wire = Wire::connect_with(scene.gate.address, &[(4, 0x7fff_ffff)]).await;
    wire.send([window(0, 0x7000_0000), get(1, "/big")].concat())
        .await;
    scene
        .gate
        .until(CLOSED, &[("reason", "slow_reader")], 1.0)
        .await;
    scene
        .gate
        .until("headgate_http_in_flight_requests", &[], 0.0)
        .await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_answered_and_its_connection_goes_on() {
    let mut scene = scene("body_idle: 200ms").await;
    scene
        .wire
        .send(post(1, "/slow", &[("content-length", "10")]))
        .await;
    let answer = scene.wire.answer(1).await;
    assert_eq!(answer.status, 408);
    scene.wire.fetch(3, "/ok").await.expect(200);
    assert!(!scene.origin.seen("/slow").iter().any(|seen| seen.whole));
}

#[tokio::test]
async fn a_slow_connection_holds_little_memory() {
    const CONNECTIONS: usize = 200;
    let scene = scene("header: 60s").await;
    // A first one, for what all share.
    let mut wires = vec![Wire::connect(&scene.gate).await];
    wires[0].fetch(1, "/ok").await.expect(200);
    let (before, _) = scene.gate.memory();
    let block = literals(&fields("GET", "/bad", &[]));
    for _ in 0..CONNECTIONS {
        let mut wire = Wire::connect(&scene.gate).await;
        wire.fetch(1, "/ok").await.expect(200);
        wire.send(frame(HEADERS, END_STREAM, 3, &block)).await;
        wires.push(wire);
    }
    scene.gate.get("/ok").await.expect(200);
    let (now, _) = scene.gate.memory();
    let each = now.saturating_sub(before) / CONNECTIONS;
    println!("{each} bytes for each connection");
    assert!(each < 64 << 10, "{each} bytes for each connection");
}
