//! Too much of what is allowed: bounded, counted, and ended with ENHANCE_YOUR_CALM (RFC 9113 section 10.5).

use crate::harness::{Latch, Origin, Reply};

use super::hpack::{integer, literals};
use super::wire::*;
use super::{CLOSED, Scene};

const FLOODS: &str = "headgate_http2_floods_total";

impl Scene {
    async fn flooded(&mut self, frames: Vec<u8>, kind: &str) {
        self.wire.send(frames).await;
        self.wire.ends_with(ENHANCE_YOUR_CALM).await;
        self.gate.until(FLOODS, &[("kind", kind)], 1.0).await;
        self.gate.until(CLOSED, &[("reason", "flood")], 1.0).await;
        let code = [("code", "enhance_your_calm")];
        self.gate
            .until("headgate_http2_goaways_total", &code, 1.0)
            .await;
        self.gate.get("/ok").await.expect(200);
    }
}

macro_rules! floods {
    ($($name:ident: $kind:literal, $count:literal of $frame:expr;)*) => {
        $(#[tokio::test]
        async fn $name() {
            let mut scene = Scene::new().await;
            scene.flooded($frame.repeat($count), $kind).await;
            scene.nothing_else_arrived().await;
        })*
    };
}

floods! {
    s10_5_pings_without_end_are_a_flood: "ping", 2000 of frame(PING, 0, 0, &[0; 8]);
    s10_5_acknowledgements_of_no_ping_are_a_flood: "ping", 2000 of frame(PING, ACK, 0, &[0; 8]);
    s10_5_settings_without_end_are_a_flood: "settings", 200 of settings(&[]);
    s10_5_priority_without_end_is_a_flood: "priority", 2000 of frame(PRIORITY, 0, 9, &[0, 0, 0, 3, 1]);
    s10_5_window_updates_without_end_are_a_flood: "window_update", 3000 of window(0, 1);
    s10_5_unknown_frames_without_end_are_a_flood: "unknown", 500 of frame(0xfe, 0, 0, &[]);
}

#[tokio::test]
async fn s10_5_empty_data_without_end_is_a_flood() {
    let mut scene = Scene::new().await;
    scene.wire.send(post(1, "/ok", &[])).await;
    scene
        .flooded(data(1, 0, "").repeat(300), "small_data")
        .await;
}

#[tokio::test]
async fn s10_5_continuation_without_end_is_a_flood() {
    let mut scene = Scene::new().await;
    let mut frames = frame(
        HEADERS,
        END_STREAM,
        1,
        &literals(&fields("GET", "/bad", &[])),
    );
    frames.extend(frame(CONTINUATION, 0, 1, &[]).repeat(1000));
    scene.flooded(frames, "continuation").await;
    scene.nothing_else_arrived().await;
}

#[tokio::test]
async fn s10_5_1_a_header_list_far_above_the_limit_ends_the_connection() {
    let mut scene = Scene::new().await;
    let mut frames = frame(
        HEADERS,
        END_STREAM,
        1,
        &literals(&fields("GET", "/bad", &[])),
    );
    for _ in 0..5 {
        let piece = literals(&[("x", &"y".repeat(15_900))]);
        frames.extend(frame(CONTINUATION, 0, 1, &piece));
    }
    scene.flooded(frames, "continuation").await;
    scene.nothing_else_arrived().await;
}

/// One large entry, and then one byte for each time that it is meant: a few kilobytes become many
/// megabytes of fields.
#[tokio::test]
async fn an_hpack_bomb_does_not_go_off() {
    let mut scene = Scene::new().await;
    let mut block = literals(&fields("GET", "/bad", &[]));
    block.extend(b"\x40\x01x");
    integer(4000, 7, 0, &mut block);
    block.extend(vec![b'y'; 4000]);
    block.extend(vec![0x80 | 62; 10_000]);
    let (before, _) = scene.gate.memory();
    scene
        .flooded(
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &block),
            "fields",
        )
        .await;
    let (_, most) = scene.gate.memory();
    assert!(most - before < 16 << 20, "{before} became {most}");
    scene.nothing_else_arrived().await;
}

/// The same with many small fields, which is what their number is bounded for.
#[tokio::test]
async fn a_bomb_of_small_fields_does_not_go_off() {
    let mut scene = Scene::new().await;
    let mut block = literals(&fields("GET", "/bad", &[]));
    block.extend(b"\x40\x01x\x01y");
    block.extend(vec![0x80 | 62; 900]);
    scene
        .flooded(
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &block),
            "fields",
        )
        .await;
    scene.nothing_else_arrived().await;
}

#[tokio::test]
async fn rapid_reset_ends_the_connection_and_little_of_it_reaches_the_origin() {
    let latch = Latch::new();
    let wait = latch.clone();
    let origin = Origin::start("a")
        .await
        .on("/slow", move |_| Reply::ok("").after(&wait));
    let mut scene = Scene::with(origin, "").await;
    let mut frames = Vec::new();
    for stream in (1..2001).step_by(2) {
        frames.extend(get(stream, "/slow"));
        frames.extend(reset(stream, CANCEL));
    }
    scene.flooded(frames, "reset").await;
    let asked = scene.origin.requests("/slow");
    assert!(asked <= 20, "{asked} of 1000 requests were passed on");
    let taken_back = scene
        .gate
        .metrics()
        .await
        .sum("headgate_http2_resets_total", &[("by", "client")]);
    assert!((100.0..=120.0).contains(&taken_back), "{taken_back}");
    scene
        .gate
        .until(
            "headgate_http_in_flight_requests",
            &[("route", "shop")],
            0.0,
        )
        .await;
    latch.open();
}

#[tokio::test]
async fn resets_are_limited_as_the_config_says() {
    let origin = Origin::start("a").await;
    let mut scene = Scene::with(origin, "limits: { http2: { resets: 3 } }").await;
    let mut frames = Vec::new();
    for stream in [1, 3, 5, 7] {
        frames.extend(post(stream, "/ok", &[]));
        frames.extend(reset(stream, CANCEL));
    }
    scene.flooded(frames, "reset").await;
}

/// CVE-2025-8671: the client makes the server reset its streams, and the requests go on behind.
#[tokio::test]
async fn made_you_reset_ends_the_connection_and_cancels_what_was_begun() {
    let latch = Latch::new();
    let wait = latch.clone();
    let origin = Origin::start("a")
        .await
        .on("/slow", move |_| Reply::ok("").after(&wait));
    let mut scene = Scene::with(origin, "limits: { http2: { resets: 10 } }").await;
    for stream in (1..400).step_by(2) {
        if scene.wire.closed {
            break;
        }
        // A window above the largest is a stream error.
        let frames = [get(stream, "/slow"), window(stream, 0x7fff_ffff)].concat();
        scene.wire.send(frames).await;
        scene
            .wire
            .until("a reset", |wire| {
                wire.closed || wire.so_far(stream).reset.is_some()
            })
            .await;
    }
    scene.wire.ends_with(ENHANCE_YOUR_CALM).await;
    scene
        .gate
        .until(FLOODS, &[("kind", "provoked_reset")], 1.0)
        .await;
    scene
        .gate
        .until(
            "headgate_http_in_flight_requests",
            &[("route", "shop")],
            0.0,
        )
        .await;
    assert!(scene.origin.requests("/slow") <= 11);
    latch.open();
}

#[tokio::test]
async fn malformed_requests_without_end_are_resets_that_were_provoked() {
    let origin = Origin::start("a").await;
    let mut scene = Scene::with(origin, "limits: { http2: { resets: 10 } }").await;
    let mut frames = Vec::new();
    for stream in (1..100).step_by(2) {
        frames.extend(get_with(stream, "/bad", &[("connection", "close")]));
    }
    scene.flooded(frames, "provoked_reset").await;
    scene.nothing_else_arrived().await;
}

#[tokio::test]
async fn a_busy_client_that_takes_some_requests_back_is_no_flood() {
    let mut scene = Scene::new().await;
    let mut stream = 1;
    for round in 0..600 {
        scene.wire.send(get(stream, "/ok")).await;
        scene.wire.answer(stream).await.expect(200);
        stream += 2;
        if round % 6 == 0 {
            scene
                .wire
                .send([post(stream, "/ok", &[]), reset(stream, CANCEL)].concat())
                .await;
            stream += 2;
        }
    }
    scene.wire.is_alive().await;
}
