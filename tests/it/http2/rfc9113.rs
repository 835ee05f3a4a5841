//! Each MUST of RFC 9113 that binds a server, named after its section.
//!
//! Where the RFC asks for a stream error, Headgate may end the connection with the same code (section
//! 5.4.1). What it asks of requests is in `requests`, what it asks about floods in `floods`.

use crate::harness::{Origin, Reply};

use super::Scene;
use super::hpack::{literals, raw};
use super::wire::*;

/// Tests that send frames and expect the connection to end with a code.
macro_rules! end_the_connection {
    ($($name:ident: $code:expr, $frames:expr;)*) => {
        $(#[tokio::test]
        async fn $name() {
            Scene::new().await.refuses(&$frames, $code).await;
        })*
    };
}

/// Tests that send frames and expect an error of stream 1, or of the connection for it.
macro_rules! end_the_stream {
    ($($name:ident: $code:expr, $frames:expr;)*) => {
        $(#[tokio::test]
        async fn $name() {
            Scene::new().await.refuses_on(1, &$frames, &[$code]).await;
        })*
    };
}

/// Tests that send frames after which everything goes on as if they had not been.
macro_rules! are_ignored {
    ($($name:ident: $frames:expr;)*) => {
        $(#[tokio::test]
        async fn $name() {
            let mut scene = Scene::new().await;
            scene.wire.send($frames.concat()).await;
            scene.wire.is_alive().await;
            scene.wire.fetch(99, "/ok").await.expect(200);
            scene.nothing_else_arrived().await;
        })*
    };
}

fn bad(stream: u32) -> Vec<u8> {
    get(stream, "/bad")
}

/// The first part of a header block.
fn part(stream: u32) -> Vec<u8> {
    part_of("/bad", stream)
}

fn part_of(path: &str, stream: u32) -> Vec<u8> {
    let block = literals(&fields("GET", path, &[]));
    frame(HEADERS, END_STREAM, stream, &block)
}

end_the_connection! {
    s4_1_a_frame_of_reserved_length_is_too_large: FRAME_SIZE_ERROR, [frame(DATA, 0, 1, &vec![0; 20_000])];
    s4_2_a_frame_above_the_largest_size_is_an_error: FRAME_SIZE_ERROR, [frame(0x77, 0, 0, &vec![0; 16_385])];
    s4_2_headers_above_the_largest_size_are_an_error: FRAME_SIZE_ERROR, [frame(HEADERS, END_HEADERS, 1, &vec![0; 16_385])];
    s4_2_headers_too_small_for_their_priority_are_an_error: FRAME_SIZE_ERROR, [frame(HEADERS, END_HEADERS | WITH_PRIORITY, 1, &[0; 4])];
    s4_2_headers_too_small_for_their_padding_length_are_an_error: FRAME_SIZE_ERROR, [frame(HEADERS, END_HEADERS | PADDED, 1, &[])];
    s4_2_continuation_above_the_largest_size_is_an_error: FRAME_SIZE_ERROR, [part(1), frame(CONTINUATION, END_HEADERS, 1, &vec![0; 16_385])];
    s4_2_settings_above_the_largest_size_are_an_error: FRAME_SIZE_ERROR, [frame(SETTINGS, 0, 0, &vec![0; 16_386])];
    s4_2_a_goaway_without_room_for_its_code_is_an_error: FRAME_SIZE_ERROR, [frame(GOAWAY, 0, 0, &[0; 7])];
    s4_3_a_block_that_cannot_be_decoded_is_a_compression_error: COMPRESSION_ERROR, [frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff])];
    s4_3_a_block_interrupted_by_another_stream_is_an_error: PROTOCOL_ERROR, [part(1), bad(3)];
    s4_3_a_block_interrupted_by_a_ping_is_an_error: PROTOCOL_ERROR, [part(1), frame(PING, 0, 0, &[0; 8])];
    s5_1_data_on_an_idle_stream_is_an_error: PROTOCOL_ERROR, [data(1, 0, "x")];
    s5_1_a_reset_of_an_idle_stream_is_an_error: PROTOCOL_ERROR, [reset(1, CANCEL)];
    s5_1_a_window_update_of_an_idle_stream_is_an_error: PROTOCOL_ERROR, [window(1, 1)];
    s5_1_1_a_stream_with_an_even_number_is_an_error: PROTOCOL_ERROR, [bad(2)];
    s5_1_1_a_stream_identifier_that_goes_down_is_a_connection_error: PROTOCOL_ERROR, [get(5, "/ok"), bad(3)];
    s5_1_1_a_stream_far_below_the_newest_cannot_be_opened: PROTOCOL_ERROR, [get(1001, "/ok"), bad(3)];
    s5_5_an_unknown_frame_within_a_block_is_an_error: PROTOCOL_ERROR, [part(1), frame(0x99, 0, 0, b"x")];
    s6_1_data_without_a_stream_is_an_error: PROTOCOL_ERROR, [data(0, 0, "x")];
    s6_1_more_padding_than_data_is_an_error: PROTOCOL_ERROR, [post(1, "/cut", &[]), data(1, PADDED, [9, 1])];
    s6_1_padding_as_long_as_the_payload_is_an_error: PROTOCOL_ERROR, [post(1, "/cut", &[]), data(1, PADDED, [1])];
    s6_1_padding_as_long_as_a_payload_with_data_is_an_error: PROTOCOL_ERROR, [post(1, "/cut", &[]), data(1, PADDED, [3, b'x', 0])];
    s6_2_padding_as_long_as_the_payload_is_an_error: PROTOCOL_ERROR, [frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, &[1])];
    s6_2_headers_without_a_stream_are_an_error: PROTOCOL_ERROR, [bad(0)];
    s6_2_more_padding_than_headers_is_an_error: PROTOCOL_ERROR, [frame(HEADERS, END_HEADERS | PADDED, 1, &[9, 0x82])];
    s6_3_priority_without_a_stream_is_an_error: PROTOCOL_ERROR, [frame(PRIORITY, 0, 0, &[0; 5])];
    s6_4_a_reset_without_a_stream_is_an_error: PROTOCOL_ERROR, [reset(0, CANCEL)];
    s6_4_a_reset_of_another_size_is_an_error: FRAME_SIZE_ERROR, [post(1, "/cut", &[]), frame(RST_STREAM, 0, 1, &[0; 3])];
    s6_4_a_reset_of_more_than_its_size_is_an_error: FRAME_SIZE_ERROR, [post(1, "/cut", &[]), frame(RST_STREAM, 0, 1, &[0; 5])];
    s6_5_an_acknowledgement_on_a_stream_is_an_error: PROTOCOL_ERROR, [frame(SETTINGS, ACK, 1, &[])];
    s6_5_settings_on_a_stream_are_an_error: PROTOCOL_ERROR, [frame(SETTINGS, 0, 1, &[])];
    s6_5_settings_of_a_broken_size_are_an_error: FRAME_SIZE_ERROR, [frame(SETTINGS, 0, 0, &[0; 5])];
    s6_5_an_acknowledgement_with_settings_is_an_error: FRAME_SIZE_ERROR, [frame(SETTINGS, ACK, 0, &[0; 6])];
    s6_5_2_enable_push_is_0_or_1: PROTOCOL_ERROR, [settings(&[(2, 2)])];
    s6_5_2_an_initial_window_above_the_largest_is_a_flow_control_error: FLOW_CONTROL_ERROR, [settings(&[(4, 0x8000_0000)])];
    s6_5_2_a_largest_frame_below_16384_is_an_error: PROTOCOL_ERROR, [settings(&[(5, 16_383)])];
    s6_5_2_a_largest_frame_above_16777215_is_an_error: PROTOCOL_ERROR, [settings(&[(5, 16_777_216)])];
    s6_6_a_push_from_a_client_is_an_error: PROTOCOL_ERROR, [frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])];
    s6_5_2_enable_push_is_not_the_largest_number_either: PROTOCOL_ERROR, [settings(&[(2, u32::MAX)])];
    s6_5_2_a_largest_frame_of_nothing_is_an_error: PROTOCOL_ERROR, [settings(&[(5, 0)])];
    s6_5_2_the_largest_initial_window_of_all_is_a_flow_control_error: FLOW_CONTROL_ERROR, [settings(&[(4, u32::MAX)])];
    s6_6_a_push_on_an_open_stream_is_an_error: PROTOCOL_ERROR, [post(1, "/cut", &[]), frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])];
    s6_6_a_push_without_a_stream_is_an_error: PROTOCOL_ERROR, [frame(PUSH_PROMISE, END_HEADERS, 0, &[0, 0, 0, 2])];
    s6_7_an_acknowledgement_of_another_size_is_an_error: FRAME_SIZE_ERROR, [frame(PING, ACK, 0, &[0; 9])];
    s6_7_an_acknowledgement_on_a_stream_is_an_error: PROTOCOL_ERROR, [frame(PING, ACK, 1, &[0; 8])];
    s6_7_a_ping_on_a_stream_is_an_error: PROTOCOL_ERROR, [frame(PING, 0, 1, &[0; 8])];
    s6_7_a_ping_of_another_size_is_an_error: FRAME_SIZE_ERROR, [frame(PING, 0, 0, &[0; 7])];
    s6_8_a_goaway_on_a_stream_is_an_error: PROTOCOL_ERROR, [frame(GOAWAY, 0, 1, &[0; 8])];
    s6_9_a_window_update_of_nothing_is_an_error_of_the_connection: PROTOCOL_ERROR, [window(0, 0)];
    s6_9_a_window_update_of_another_size_is_an_error: FRAME_SIZE_ERROR, [frame(WINDOW_UPDATE, 0, 0, &[0; 3])];
    s6_9_a_window_update_of_more_than_its_size_is_an_error: FRAME_SIZE_ERROR, [frame(WINDOW_UPDATE, 0, 0, &[0; 5])];
    s6_9_a_window_update_of_a_stream_of_another_size_is_an_error: FRAME_SIZE_ERROR, [post(1, "/cut", &[]), frame(WINDOW_UPDATE, 0, 1, &[0; 3])];
    s6_9_1_a_connection_window_above_the_largest_is_a_flow_control_error: FLOW_CONTROL_ERROR, [window(0, 0x7fff_ffff)];
    s6_10_continuation_without_a_stream_is_an_error: PROTOCOL_ERROR, [part(1), frame(CONTINUATION, END_HEADERS, 0, &[])];
    s6_10_continuation_of_nothing_is_an_error: PROTOCOL_ERROR, [frame(CONTINUATION, END_HEADERS, 1, &literals(&fields("GET", "/bad", &[])))];
    s6_10_continuation_of_another_stream_is_an_error: PROTOCOL_ERROR, [part(1), frame(CONTINUATION, END_HEADERS, 3, &[])];
    s6_10_continuation_after_the_end_of_a_block_is_an_error: PROTOCOL_ERROR, [get(1, "/ok"), frame(CONTINUATION, END_HEADERS, 1, &[])];
    s6_10_continuation_after_data_is_an_error: PROTOCOL_ERROR, [post(1, "/cut", &[]), data(1, 0, "x"), frame(CONTINUATION, END_HEADERS, 1, &[])];
}

end_the_stream! {
    s4_2_data_too_small_for_its_padding_length_is_an_error: FRAME_SIZE_ERROR, [post(1, "/ok", &[]), data(1, PADDED, "")];
    s4_2_data_above_the_largest_size_is_an_error: FRAME_SIZE_ERROR, [post(1, "/ok", &[]), data(1, 0, vec![0; 16_385])];
    s5_1_data_after_the_end_of_a_stream_is_stream_closed: STREAM_CLOSED, [get(1, "/ok"), data(1, 0, "x")];
    s5_1_headers_after_the_end_of_a_stream_are_stream_closed: STREAM_CLOSED, [get(1, "/ok"), bad(1)];
    s5_1_headers_after_trailers_are_stream_closed: STREAM_CLOSED, [post(1, "/ok", &[]), headers(1, END_STREAM, &[]), headers(1, END_STREAM, &[])];
    s5_1_data_after_a_reset_is_stream_closed: STREAM_CLOSED, [post(1, "/ok", &[]), reset(1, CANCEL), data(1, 0, "x")];
    s5_1_headers_after_a_reset_are_stream_closed: STREAM_CLOSED, [post(1, "/ok", &[]), reset(1, CANCEL), bad(1)];
    s6_3_priority_of_another_size_is_an_error: FRAME_SIZE_ERROR, [post(1, "/ok", &[]), frame(PRIORITY, 0, 1, &[0; 4])];
    s6_3_priority_of_more_than_its_size_is_an_error: FRAME_SIZE_ERROR, [post(1, "/ok", &[]), frame(PRIORITY, 0, 1, &[0; 6])];
    s6_9_a_window_update_of_nothing_on_a_stream_is_an_error: PROTOCOL_ERROR, [post(1, "/ok", &[]), window(1, 0)];
    s6_9_a_window_update_of_the_reserved_bit_alone_is_one_of_nothing: PROTOCOL_ERROR, [post(1, "/ok", &[]), window(1, 0x8000_0000)];
}

are_ignored! {
    s4_1_the_reserved_bit_is_ignored: [frame(PING, 0, 0x8000_0000, &[0; 8]), frame(PRIORITY, 0, 0x8000_0001, &[0, 0, 0, 3, 0])];
    s4_1_flags_without_a_meaning_are_ignored: [frame(PING, 0xfe, 0, &[0; 8]), frame(WINDOW_UPDATE, 0xff, 0, &[0, 0, 0, 1])];
    s4_1_the_reserved_bit_of_streams_is_ignored: [frame(HEADERS, END_HEADERS, 0x8000_0001, &literals(&fields("POST", "/ok", &[]))), frame(WINDOW_UPDATE, 0, 0x8000_0001, &[0, 0, 0, 1]), frame(DATA, END_STREAM, 0x8000_0001, b"x")];
    s4_1_flags_without_a_meaning_are_ignored_on_streams: [frame(HEADERS, END_HEADERS | 0xd2, 1, &literals(&fields("POST", "/ok", &[]))), frame(WINDOW_UPDATE, 0xff, 1, &[0, 0, 0, 1]), frame(PRIORITY, 0xff, 1, &[0; 5]), frame(DATA, 0xf6, 1, b"x"), frame(RST_STREAM, 0xff, 1, &[0, 0, 0, 8])];
    s4_1_flags_without_a_meaning_are_ignored_of_settings_and_blocks: [frame(SETTINGS, 0xfe, 0, &[0, 4, 0, 1, 0, 0]), part_of("/ok", 1), frame(CONTINUATION, 0xfb, 1, &[]), frame(CONTINUATION, 0xff, 1, &[])];
    s6_9_the_reserved_bit_of_an_increment_is_ignored: [window(0, 0x8000_0001), post(1, "/ok", &[]), window(1, 0x8000_0001), data(1, END_STREAM, "")];
    s6_1_padding_may_be_all_that_there_is: [post(1, "/ok", &[]), data(1, PADDED, [3, 0, 0, 0]), data(1, PADDED, [0]), data(1, PADDED | END_STREAM, [0])];
    s6_3_priority_neither_opens_nor_closes: [frame(PRIORITY, 0, 9, &[0; 5]), frame(PRIORITY, 0, 1, &[0, 0, 0, 9, 0]), get(1, "/ok"), frame(PRIORITY, 0, 9, &[0, 0, 0, 1, 0]), get(9, "/ok")];
    s6_6_whatever_a_client_says_of_pushes_is_its_own_affair: [settings(&[(2, 0)]), settings(&[(2, 1)])];
    s5_1_priority_of_an_idle_stream_is_ignored: [frame(PRIORITY, 0, 77, &[0, 0, 0, 3, 200])];
    s5_1_window_updates_and_resets_of_an_ended_stream_are_ignored: [get(1, "/ok"), window(1, 1), reset(1, CANCEL), reset(1, CANCEL), window(1, 1)];
    s5_3_priority_has_no_effect: [frame(PRIORITY, 0, 5, &[0x80, 0, 0, 1, 255]), frame(PRIORITY, 0, 1, &[0, 0, 0, 5, 0])];
    s5_5_frames_of_unknown_types_are_ignored: [frame(0xbe, 0xff, 0, b"grease"), frame(0x10, 0, 0, b"u=1")];
    s6_5_2_unknown_settings_are_ignored: [settings(&[(0xbeef, 1), (0x0a0a, u32::MAX)])];
    s6_7_an_acknowledgement_of_no_ping_is_not_answered: [frame(PING, ACK, 0, &[1; 8])];
    s7_unknown_error_codes_have_no_effect: [post(1, "/ok", &[]), reset(1, 0xdead_beef)];
}

#[tokio::test]
async fn s3_4_a_broken_preface_ends_the_connection() {
    let mut scene = Scene::new().await;
    let mut wire = Wire::silent(scene.gate.address).await;
    wire.send([&PREFACE[..20], b"XX\r\n", &settings(&[]), &bad(1)].concat())
        .await;
    wire.until("the close", |wire| wire.closed).await;
    scene.wire.is_alive().await;
    scene.nothing_else_arrived().await;
}

#[tokio::test]
async fn s3_4_the_first_frame_of_a_client_is_settings() {
    for first in [
        bad(1),
        frame(PING, 0, 0, &[0; 8]),
        frame(SETTINGS, ACK, 0, &[]),
    ] {
        let scene = Scene::new().await;
        let mut wire = Wire::silent(scene.gate.address).await;
        wire.send([PREFACE, &first].concat()).await;
        wire.ends_with(PROTOCOL_ERROR).await;
        scene.nothing_else_arrived().await;
    }
}

#[tokio::test]
async fn s3_4_the_server_begins_with_settings_and_a_client_need_not_wait_for_them() {
    let scene = Scene::new().await;
    let mut wire = Wire::silent(scene.gate.address).await;
    wire.send([PREFACE, &settings(&[]), &get(1, "/ok")].concat())
        .await;
    wire.answer(1).await.expect(200);
    // Concurrent streams, window, field list, extended CONNECT.
    assert_eq!(wire.settings[&3], 100);
    assert_eq!(wire.settings[&4], 65_536);
    assert_eq!(wire.settings[&8], 1);
    assert!(wire.settings.contains_key(&6));
}

#[tokio::test]
async fn s5_1_2_a_stream_beyond_the_announced_number_is_refused() {
    let mut scene = Scene::with(
        Origin::start("a").await,
        "limits: { http2: { streams: 2 } }",
    )
    .await;
    assert_eq!(scene.wire.settings[&3], 2);
    let frames = [post(1, "/ok", &[]), post(3, "/ok", &[]), bad(5)];
    scene.wire.send(frames.concat()).await;
    assert_eq!(scene.wire.answer(5).await.reset, Some(REFUSED_STREAM));
    scene
        .wire
        .send([reset(1, CANCEL), reset(3, CANCEL)].concat())
        .await;
    scene.wire.fetch(7, "/ok").await.expect(200);
    scene.nothing_else_arrived().await;
}

#[tokio::test]
async fn s5_2_nothing_is_sent_beyond_the_window_of_a_stream() {
    let origin = Origin::start("a")
        .await
        .on("/big", |_| Reply::ok(vec![b'x'; 100_000]));
    let scene = Scene::with(origin, "").await;
    let mut wire = Wire::connect_with(scene.gate.address, &[(4, 10)]).await;
    wire.mute = true;
    wire.send(get(1, "/big")).await;
    wire.until("ten bytes", |wire| wire.so_far(1).body.len() >= 10)
        .await;
    wire.is_alive().await;
    assert_eq!(wire.so_far(1).body.len(), 10);
    wire.send(window(1, 5)).await;
    wire.until("five more", |wire| wire.so_far(1).body.len() >= 15)
        .await;
    wire.is_alive().await;
    assert_eq!(wire.so_far(1).body.len(), 15);
}

#[tokio::test]
async fn s5_2_nothing_is_sent_beyond_the_window_of_the_connection() {
    let origin = Origin::start("a")
        .await
        .on("/big", |_| Reply::ok(vec![b'x'; 100_000]));
    let scene = Scene::with(origin, "").await;
    let mut wire = Wire::connect_with(scene.gate.address, &[(4, 1 << 20)]).await;
    wire.mute = true;
    wire.send([get(1, "/big"), get(3, "/big")].concat()).await;
    let both = |wire: &Wire| wire.so_far(1).body.len() + wire.so_far(3).body.len();
    wire.until("the whole window", |wire| both(wire) >= 65_535)
        .await;
    wire.is_alive().await;
    assert_eq!(both(&wire), 65_535);
}

#[tokio::test]
async fn s5_4_1_after_goaway_the_connection_is_closed_and_open_streams_with_it() {
    let mut scene = Scene::new().await;
    let frames = [
        post(1, "/ok", &[("content-length", "5")]),
        data(1, 0, "abc"),
    ];
    scene.wire.send(frames.concat()).await;
    scene.origin.until_asked("/ok", 1).await;
    scene
        .refuses(&[frame(PING, 0, 0, &[0; 9])], FRAME_SIZE_ERROR)
        .await;
    assert!(!scene.origin.seen("/ok")[0].whole);
    scene
        .gate
        .until("headgate_http_in_flight_requests", &[], 0.0)
        .await;
}

#[tokio::test]
async fn s5_4_2_a_reset_is_not_answered_with_a_reset() {
    let mut scene = Scene::new().await;
    scene
        .wire
        .send([post(1, "/ok", &[]), reset(1, CANCEL)].concat())
        .await;
    scene.wire.is_alive().await;
    assert_eq!(scene.wire.so_far(1).reset, None);
}

#[tokio::test]
async fn s6_5_3_settings_are_acknowledged_each_time_and_in_order() {
    let mut scene = Scene::new().await;
    for expected in 2..6 {
        scene.wire.send(settings(&[(4, 1000), (4, 2000)])).await;
        scene
            .wire
            .until("an ACK", |wire| wire.acks == expected)
            .await;
    }
    scene.wire.fetch(1, "/ok").await.expect(200);
}

#[tokio::test]
async fn s6_7_a_ping_comes_back_with_what_it_held() {
    let mut scene = Scene::new().await;
    scene.wire.send(frame(PING, 0, 0, b"12345678")).await;
    scene
        .wire
        .until("a pong", |wire| !wire.pongs.is_empty())
        .await;
    assert_eq!(scene.wire.pongs[0], b"12345678");
}

#[tokio::test]
async fn s6_8_after_the_clients_goaway_its_open_streams_are_finished() {
    let origin = Origin::start("a").await;
    let mut scene = Scene::with(origin, "").await;
    scene.wire.send(post(1, "/ok", &[])).await;
    scene.wire.send(frame(GOAWAY, 0, 0, &[0; 8])).await;
    scene.wire.send(data(1, END_STREAM, "body")).await;
    scene.wire.answer(1).await.expect(200);
    scene.wire.until("the close", |wire| wire.closed).await;
    assert_eq!(scene.origin.last("/ok").body, b"body");
}

#[tokio::test]
async fn s6_9_1_a_stream_window_above_the_largest_is_a_flow_control_error() {
    let mut scene = Scene::new().await;
    scene
        .wire
        .send([post(1, "/ok", &[]), window(1, 0x7fff_ffff)].concat())
        .await;
    assert_eq!(scene.wire.answer(1).await.reset, Some(FLOW_CONTROL_ERROR));
    scene.wire.is_alive().await;
}

#[tokio::test]
async fn s6_9_2_a_new_initial_window_holds_for_streams_that_are_open() {
    let origin = Origin::start("a")
        .await
        .on("/big", |_| Reply::ok(vec![b'x'; 1000]));
    let scene = Scene::with(origin, "").await;
    let mut wire = Wire::connect_with(scene.gate.address, &[(4, 0)]).await;
    wire.send(get(1, "/big")).await;
    wire.head(1).await.expect(200);
    wire.is_alive().await;
    assert_eq!(wire.so_far(1).body, b"");
    wire.send(settings(&[(4, 2000)])).await;
    assert_eq!(wire.answer(1).await.body.len(), 1000);
}

#[tokio::test]
async fn s6_9_2_a_window_may_become_negative_and_then_nothing_is_sent() {
    let origin = Origin::start("a")
        .await
        .on("/big", |_| Reply::ok(vec![b'x'; 1000]));
    let scene = Scene::with(origin, "").await;
    let mut wire = Wire::connect_with(scene.gate.address, &[(4, 400)]).await;
    wire.mute = true;
    wire.send(get(1, "/big")).await;
    wire.until("the window", |wire| wire.so_far(1).body.len() == 400)
        .await;
    wire.send([settings(&[(4, 100)]), window(1, 300)].concat())
        .await;
    wire.is_alive().await;
    assert_eq!(wire.so_far(1).body.len(), 400, "100 - 400 + 300 is nothing");
    wire.send(window(1, 600)).await;
    assert_eq!(wire.answer(1).await.body.len(), 1000);
}

#[tokio::test]
async fn s6_10_a_block_in_many_parts_is_one_request() {
    let mut scene = Scene::new().await;
    let block = literals(&fields("GET", "/ok", &[("x-long", &"y".repeat(300))]));
    let mut frames = frame(HEADERS, END_STREAM, 1, &block[..1]);
    for piece in block[1..block.len() - 1].chunks(120) {
        frames.extend(frame(CONTINUATION, 0, 1, piece));
    }
    frames.extend(frame(
        CONTINUATION,
        END_HEADERS,
        1,
        &block[block.len() - 1..],
    ));
    scene.wire.send(frames).await;
    scene.wire.answer(1).await.expect(200);
    assert_eq!(
        scene.origin.last("/ok").header("x-long"),
        Some("y".repeat(300).as_str())
    );
}

#[tokio::test]
async fn s6_2_padding_and_priority_are_taken_off() {
    let mut scene = Scene::new().await;
    let block = literals(&fields("POST", "/ok", &[]));
    let payload = [&[3, 0, 0, 0, 0, 9][..], &block, &[0; 3]].concat();
    let open = frame(HEADERS, END_HEADERS | PADDED | WITH_PRIORITY, 1, &payload);
    let body = data(1, PADDED | END_STREAM, b"\x04body\0\0\0\0");
    scene.wire.send([open, body].concat()).await;
    scene.wire.answer(1).await.expect(200);
    assert_eq!(scene.origin.last("/ok").body, b"body");
}

#[tokio::test]
async fn s4_2_frames_of_the_largest_size_are_taken() {
    let mut scene = Scene::new().await;
    let mut block = literals(&fields("POST", "/ok", &[]));
    // A literal of 1 + 1 + 6 bytes before a value whose length takes three.
    let rest = 16_384 - block.len() - 1 - 1 - 6 - 3;
    block.extend(raw(b"x-long", &vec![b'y'; rest]));
    assert_eq!(block.len(), 16_384);
    let frames = [
        frame(HEADERS, END_HEADERS, 1, &block),
        data(1, END_STREAM, vec![b'x'; 16_384]),
    ];
    scene.wire.send(frames.concat()).await;
    scene.wire.answer(1).await.expect(200);
    let seen = scene.origin.last("/ok");
    assert_eq!(seen.body.len(), 16_384);
    assert_eq!(seen.header("x-long").map(str::len), Some(rest));
}

/// Sections 4.3, 6.2 and 6.10.
#[tokio::test]
async fn s6_10_nothing_but_continuation_may_follow_a_part_of_a_block() {
    let scene = Scene::new().await;
    let others = [
        data(1, 0, "x"),
        bad(1),
        part(1),
        headers(1, END_STREAM, &[("x", "y")]),
        frame(PRIORITY, 0, 1, &[0; 5]),
        reset(1, CANCEL),
        settings(&[]),
        frame(SETTINGS, ACK, 0, &[]),
        frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]),
        frame(PING, ACK, 0, &[0; 8]),
        frame(GOAWAY, 0, 0, &[0; 8]),
        window(1, 1),
        window(0, 1),
        frame(0xbe, 0, 1, &[]),
    ];
    for other in others {
        for begun in [part(1), [part(1), frame(CONTINUATION, 0, 1, &[])].concat()] {
            let mut wire = Wire::connect(&scene.gate).await;
            wire.send([begun, other.clone()].concat()).await;
            wire.ends_with(PROTOCOL_ERROR).await;
        }
    }
    scene.nothing_else_arrived().await;
}

/// What is left for padding is what the priority does not take.
#[tokio::test]
async fn s6_2_padding_that_reaches_into_the_priority_is_an_error() {
    let scene = Scene::new().await;
    let flags = END_HEADERS | END_STREAM | PADDED | WITH_PRIORITY;
    for payload in [
        &[1, 0, 0, 0, 0, 9][..],
        &[3, 0, 0, 0, 0, 9, 0x82],
        &[0; 5],
        &[],
    ] {
        let mut wire = Wire::connect(&scene.gate).await;
        wire.send(frame(HEADERS, flags, 1, payload)).await;
        wire.until("the close", |wire| wire.closed).await;
        let code = wire.goaways.last().unwrap().1;
        assert!([PROTOCOL_ERROR, FRAME_SIZE_ERROR].contains(&code), "{code}");
    }
    scene.nothing_else_arrived().await;
}
