//! Streams in all their states (RFC 9113 sections 4.3, 5.1, 6.8 and 6.9): what comes at the wrong time,
//! and what is discarded and yet counts, for its block changes the table and its bytes use up windows.

use tempfile::TempDir;

use crate::harness::{Authority, Config, Gate, Latch, Origin, Reply, Seen, Server};

use super::Scene;
use super::hpack::{entered, literals};
use super::wire::*;

fn bad(stream: u32) -> Vec<u8> {
    get(stream, "/bad")
}

/// An origin that answers its first requests when the latch opens.
async fn slow(latch: &Latch, first: usize) -> Origin {
    let wait = latch.clone();
    let script = move |seen: &Seen| match seen.earlier < first {
        true => Reply::ok("done").after(&wait),
        false => Reply::ok("at once"),
    };
    Origin::start("a").await.on("/ok", script)
}

/// A request is under way, whole, and then these frames come: an error of its stream or connection.
async fn while_it_waits(frames: &[Vec<u8>], codes: &[u32]) {
    let latch = Latch::new();
    let mut scene = Scene::with(slow(&latch, 1).await, "").await;
    scene.wire.send(get(1, "/ok")).await;
    scene.origin.until_asked("/ok", 1).await;
    scene.refuses_on(1, frames, codes).await;
}

#[tokio::test]
async fn s5_1_data_on_a_half_closed_stream_is_stream_closed() {
    while_it_waits(&[data(1, 0, "x")], &[STREAM_CLOSED]).await;
}

#[tokio::test]
async fn s5_1_headers_on_a_half_closed_stream_are_stream_closed() {
    while_it_waits(&[bad(1)], &[STREAM_CLOSED]).await;
}

#[tokio::test]
async fn s6_10_continuation_on_a_half_closed_stream_is_an_error() {
    let frames = [frame(CONTINUATION, END_HEADERS, 1, &[])];
    while_it_waits(&frames, &[PROTOCOL_ERROR]).await;
}

#[tokio::test]
async fn s5_1_a_half_closed_stream_may_get_window_and_priority() {
    let latch = Latch::new();
    let mut scene = Scene::with(slow(&latch, 1).await, "").await;
    scene.wire.send(get(1, "/ok")).await;
    scene.origin.until_asked("/ok", 1).await;
    let priority = frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 9]);
    scene.wire.send([window(1, 1), priority].concat()).await;
    scene.wire.is_alive().await;
    latch.open();
    assert_eq!(scene.wire.answer(1).await.expect(200).text(), "done");
    assert_eq!(scene.wire.so_far(1).reset, None);
}

/// What a client may have sent before it saw the end of the answer (sections 5.1, 6.3 and 6.9).
#[tokio::test]
async fn s5_1_frames_that_come_late_are_no_error_on_a_closed_stream() {
    let mut scene = Scene::new().await;
    scene.wire.fetch(1, "/ok").await.expect(200);
    let priority = frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 9]);
    let late = [window(1, 1), window(1, 1000), priority, reset(1, CANCEL)];
    scene.wire.send(late.concat()).await;
    scene.wire.is_alive().await;
    scene.wire.fetch(3, "/ok").await.expect(200);
    assert_eq!(scene.wire.so_far(1).reset, None);
}

#[tokio::test]
async fn s5_1_data_on_a_closed_stream_is_stream_closed() {
    let mut scene = Scene::new().await;
    scene.wire.fetch(1, "/ok").await.expect(200);
    scene
        .refuses_on(1, &[data(1, 0, "x")], &[STREAM_CLOSED])
        .await;
}

#[tokio::test]
async fn s5_1_frames_of_unknown_types_are_ignored_in_every_state() {
    let latch = Latch::new();
    let mut scene = Scene::with(slow(&latch, 1).await, "").await;
    let unknown = |stream| frame(0xbe, 0xff, stream, b"grease");
    let before = [unknown(0), unknown(1), post(1, "/ok", &[]), unknown(1)];
    scene.wire.send(before.concat()).await;
    let open = [data(1, 0, "bo"), unknown(1), data(1, END_STREAM, "dy")];
    scene.wire.send(open.concat()).await;
    scene.origin.until_asked("/ok", 1).await;
    scene.wire.send(unknown(1)).await;
    scene.wire.is_alive().await;
    latch.open();
    scene.wire.answer(1).await.expect(200);
    scene.wire.send([unknown(1), unknown(2)].concat()).await;
    scene.wire.is_alive().await;
    assert_eq!(scene.origin.last("/ok").body, b"body");
}

#[tokio::test]
async fn s5_1_nothing_but_headers_and_priority_comes_on_a_stream_of_the_server() {
    let scene = Scene::new().await;
    for frame in [data(2, 0, "x"), reset(2, CANCEL), window(2, 1), bad(2)] {
        let mut wire = Wire::connect(&scene.gate).await;
        wire.send(frame).await;
        wire.ends_with(PROTOCOL_ERROR).await;
    }
    scene.nothing_else_arrived().await;
}

#[tokio::test]
async fn s5_1_1_a_stream_identifier_is_not_used_twice() {
    let mut scene = Scene::new().await;
    scene.wire.fetch(1, "/ok").await.expect(200);
    scene.wire.send(bad(1)).await;
    scene.wire.until("the close", |wire| wire.closed).await;
    let code = scene.wire.goaways.last().unwrap().1;
    assert!([PROTOCOL_ERROR, STREAM_CLOSED].contains(&code), "{code}");
    scene.nothing_else_arrived().await;
}

#[tokio::test]
async fn s5_1_1_a_stream_that_was_skipped_is_closed() {
    for frame in [data(3, 0, "x"), bad(3)] {
        let mut scene = Scene::new().await;
        scene.wire.fetch(5, "/ok").await.expect(200);
        let codes = [PROTOCOL_ERROR, STREAM_CLOSED];
        scene.refuses_on(3, &[frame], &codes).await;
    }
}

#[tokio::test]
async fn s5_1_1_the_last_stream_identifier_is_served() {
    let mut scene = Scene::new().await;
    scene.wire.fetch(0x7fff_ffff, "/ok").await.expect(200);
    scene.wire.is_alive().await;
}

#[tokio::test]
async fn s5_1_2_streams_that_wait_for_their_answers_count() {
    let latch = Latch::new();
    let top = "limits: { http2: { streams: 2 } }";
    let mut scene = Scene::with(slow(&latch, 2).await, top).await;
    scene
        .wire
        .send([get(1, "/ok"), get(3, "/ok")].concat())
        .await;
    scene.origin.until_asked("/ok", 2).await;
    scene.wire.send(bad(5)).await;
    assert_eq!(scene.wire.answer(5).await.reset, Some(REFUSED_STREAM));
    latch.open();
    scene.wire.answer(1).await.expect(200);
    scene.wire.answer(3).await.expect(200);
    scene.wire.fetch(7, "/ok").await.expect(200);
    scene.nothing_else_arrived().await;
}

#[tokio::test]
async fn s5_1_2_the_clients_number_of_streams_is_about_pushes_alone() {
    let scene = Scene::new().await;
    let mut wire = Wire::connect_with(scene.gate.address, &[(3, 0)]).await;
    wire.fetch(1, "/ok").await.expect(200);
    wire.is_alive().await;
}

/// The field that the discarded block entered into the table.
const TAUGHT: (&str, &str) = ("x-it", "one");

/// HEADERS that enter a field into the table.
fn teaching(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    let block = [literals(fields), entered(TAUGHT.0, TAUGHT.1)].concat();
    frame(HEADERS, END_HEADERS | flags, stream, &block)
}

/// A request that takes the newest entry of the table.
fn using(stream: u32) -> Vec<u8> {
    let block = [literals(&fields("GET", "/ok", &[])), vec![0x80 | 62]].concat();
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)
}

impl Scene {
    /// The server's table has what was taught.
    async fn has_learnt(&mut self, stream: u32) {
        self.wire.send(using(stream)).await;
        self.wire.answer(stream).await.expect(200);
        assert_eq!(self.origin.last("/ok").header(TAUGHT.0), Some(TAUGHT.1));
        self.nothing_else_arrived().await;
    }
}

#[tokio::test]
async fn s4_3_the_block_of_a_malformed_request_is_decoded() {
    let mut scene = Scene::new().await;
    let malformed = fields("GET", "/bad", &[("connection", "close")]);
    scene.wire.send(teaching(1, END_STREAM, &malformed)).await;
    scene.wire.answer(1).await;
    scene.has_learnt(3).await;
}

#[tokio::test]
async fn s4_3_the_block_of_a_refused_stream_is_decoded() {
    let origin = Origin::start("a").await;
    let mut scene = Scene::with(origin, "limits: { http2: { streams: 1 } }").await;
    let refused = teaching(3, END_STREAM, &fields("GET", "/bad", &[]));
    scene
        .wire
        .send([post(1, "/ok", &[]), refused].concat())
        .await;
    assert_eq!(scene.wire.answer(3).await.reset, Some(REFUSED_STREAM));
    scene.wire.send(data(1, END_STREAM, "")).await;
    scene.wire.answer(1).await.expect(200);
    scene.has_learnt(5).await;
}

#[tokio::test]
async fn s4_3_trailers_and_heads_share_a_table() {
    let mut scene = Scene::new().await;
    let trailers = teaching(1, END_STREAM, &[]);
    scene
        .wire
        .send([post(1, "/ok", &[]), trailers].concat())
        .await;
    scene.wire.answer(1).await.expect(200);
    scene.has_learnt(3).await;
}

#[tokio::test]
async fn s5_1_the_block_of_trailers_that_come_too_late_is_decoded() {
    let mut scene = Scene::new().await;
    // Answered and reset before its body has come.
    let early = post(1, "/bad", &[("host", "evil.test")]);
    let late = [early, data(1, 0, "x"), teaching(1, END_STREAM, &[])];
    scene.wire.send(late.concat()).await;
    scene.wire.answer(1).await;
    scene.has_learnt(3).await;
}

#[tokio::test]
async fn s5_1_the_block_of_trailers_that_cross_a_reset_is_decoded() {
    let mut scene = Scene::new().await;
    let frames = [
        post(1, "/bad", &[("connection", "close")]),
        data(1, 0, "x"),
        teaching(1, END_STREAM, &[]),
    ];
    scene.wire.send(frames.concat()).await;
    assert_eq!(scene.wire.answer(1).await.reset, Some(PROTOCOL_ERROR));
    scene.has_learnt(3).await;
}

#[tokio::test]
async fn s10_5_1_a_block_that_is_too_large_is_decoded_all_the_same() {
    let mut scene = Scene::new().await;
    let long = "y".repeat(13_000);
    let large = [("a", long.as_str()), ("b", &long), ("c", &long)];
    let mut block = literals(&fields("GET", "/bad", &large));
    block.extend(entered(TAUGHT.0, TAUGHT.1));
    let mut pieces = block.chunks(16_000);
    let first = pieces.next().unwrap();
    let mut frames = frame(HEADERS, END_STREAM, 1, first);
    for piece in pieces {
        frames.extend(frame(CONTINUATION, 0, 1, piece));
    }
    frames.extend(frame(CONTINUATION, END_HEADERS, 1, &[]));
    scene.wire.send(frames).await;
    scene.wire.answer(1).await.expect(431);
    scene.has_learnt(3).await;
}

/// A drain has begun, and stream 1 is the last that is served.
async fn draining() -> Scene {
    let mut scene = Scene::new().await;
    scene.wire.send(post(1, "/ok", &[])).await;
    scene.origin.until_asked("/ok", 1).await;
    scene.gate.process.signal(rustix::process::Signal::TERM);
    let twice = |wire: &Wire| wire.goaways.len() > 1;
    scene.wire.until("the last GOAWAY", twice).await;
    assert_eq!(scene.wire.goaways[1], (1, NO_ERROR));
    scene
}

impl Scene {
    /// The stream that was open is finished, and nothing else was passed on.
    async fn finishes(mut self) {
        self.wire.answer(1).await.expect(200);
        self.wire.until("the close", |wire| wire.closed).await;
        assert_eq!(self.origin.requests("*"), 1);
        assert!(self.gate.process.end().await.success());
    }
}

#[tokio::test]
async fn s6_8_blocks_that_come_after_goaway_are_decoded() {
    let mut scene = draining().await;
    let ignored = teaching(3, END_STREAM, &fields("GET", "/bad", &[]));
    let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x80 | 62]);
    scene.wire.send([ignored, trailers].concat()).await;
    scene.wire.answer(1).await.expect(200);
    assert_eq!(scene.origin.last("/ok").trailers, ["x-it: one"]);
    scene.finishes().await;
}

#[tokio::test]
async fn s6_8_data_that_comes_after_goaway_counts_and_is_given_back() {
    let mut scene = draining().await;
    for stream in (3..80).step_by(2) {
        let room = |wire: &Wire| wire.watch.credit(0) >= 16_000;
        scene.wire.until("credit", room).await;
        let body = data(stream, 0, vec![b'x'; 16_000]);
        scene
            .wire
            .send([post(stream, "/bad", &[]), body].concat())
            .await;
    }
    scene.wire.send(data(1, END_STREAM, "")).await;
    scene.finishes().await;
}

/// Uploads that are not read, one after the other, until they have come to far more than the window of
/// the connection: what is discarded counts, and is given back.
async fn uploads_in_vain(scene: &mut Scene, first: u32, fields: &[(&str, &str)], after: &[u8]) {
    for stream in (first..first + 60).step_by(2) {
        let room = |wire: &Wire| wire.watch.credit(0) >= 64_000;
        scene.wire.until("credit", room).await;
        let mut frames = post(stream, "/bad", fields);
        frames.extend(data(stream, 0, vec![b'x'; 16_000]).repeat(4));
        if !after.is_empty() {
            frames.extend(frame(RST_STREAM, 0, stream, after));
        }
        scene.wire.send(frames).await;
        if after.is_empty() {
            scene.wire.answer(stream).await;
        }
    }
    scene.wire.is_alive().await;
}

#[tokio::test]
async fn s6_9_data_behind_an_early_answer_is_given_back() {
    let mut scene = Scene::new().await;
    uploads_in_vain(&mut scene, 1, &[("host", "evil.test")], &[]).await;
    scene.nothing_else_arrived().await;
}

#[tokio::test]
async fn s5_4_2_data_behind_a_malformed_head_is_discarded_and_given_back() {
    let mut scene = Scene::new().await;
    uploads_in_vain(&mut scene, 1, &[("connection", "close")], &[]).await;
    scene.nothing_else_arrived().await;
}

#[tokio::test]
async fn s5_1_2_data_behind_a_refused_head_is_discarded_and_given_back() {
    let origin = Origin::start("a").await;
    let mut scene = Scene::with(origin, "limits: { http2: { streams: 1 } }").await;
    scene.wire.send(post(1, "/ok", &[])).await;
    uploads_in_vain(&mut scene, 3, &[], &[]).await;
    assert_eq!(scene.wire.so_far(3).reset, Some(REFUSED_STREAM));
    scene.wire.send(data(1, END_STREAM, "")).await;
    scene.wire.answer(1).await.expect(200);
    scene.nothing_else_arrived().await;
}

/// An endpoint that accepts connections and says nothing, so that its TLS is never agreed on and no
/// body that is for it is ever read.
struct Stuck {
    gate: Gate,
    _server: Server,
}

impl Stuck {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        Authority::new("ca").write(&folder.path().join("ca.pem"));
        let server = Server::start(|mut conn| async move {
            conn.client.until_closed().await;
        })
        .await;
        let keys = "tls: { ca: ca.pem }, timeouts: { connect: 60s }";
        let config = Config::to_endpoints(&server.address().to_string(), keys).one_worker();
        Self {
            gate: Gate::start_in(folder, &config).await,
            _server: server,
        }
    }

    /// A connection on which what the server gives at its start has come.
    async fn wire(&self) -> Wire {
        let mut wire = Wire::connect(&self.gate).await;
        wire.is_alive().await;
        wire
    }
}

/// Sends all that the windows of this stream and of the connection allow.
async fn fill(wire: &mut Wire, stream: u32) {
    wire.send(post(stream, "/", &[])).await;
    loop {
        let left = wire.watch.credit(stream).min(wire.watch.credit(0));
        let piece = usize::try_from(left.min(16_384)).unwrap();
        if piece == 0 {
            break;
        }
        wire.send(data(stream, 0, vec![b'x'; piece])).await;
    }
}

async fn is_flow_control_error(wire: &mut Wire, stream: u32) {
    let end = |wire: &Wire| wire.closed || wire.so_far(stream).reset.is_some();
    wire.until("an error", end).await;
    let code = wire.goaways.last().map(|(_, code)| *code);
    let code = wire.so_far(stream).reset.or(code);
    assert_eq!(code, Some(FLOW_CONTROL_ERROR));
}

#[tokio::test]
async fn s6_9_1_the_window_of_a_stream_may_be_used_to_its_last_byte_and_no_further() {
    let stuck = Stuck::new().await;
    let mut wire = stuck.wire().await;
    fill(&mut wire, 1).await;
    wire.is_alive().await;
    assert_eq!((wire.watch.credit(1), wire.so_far(1).reset), (0, None));
    wire.send(data(1, 0, "x")).await;
    is_flow_control_error(&mut wire, 1).await;
}

#[tokio::test]
async fn s6_1_padding_counts_toward_the_window() {
    let stuck = Stuck::new().await;
    for filler in [b"\x01x\0".as_slice(), b"\x02\0\0", b"\0xx"] {
        let mut wire = stuck.wire().await;
        wire.send(post(1, "/", &[])).await;
        while wire.watch.credit(1) > 2 {
            let piece = usize::try_from((wire.watch.credit(1) - 2).min(16_384)).unwrap();
            wire.send(data(1, 0, vec![b'x'; piece])).await;
        }
        wire.is_alive().await;
        assert_eq!(wire.watch.credit(1), 2);
        wire.send(data(1, PADDED, filler)).await;
        is_flow_control_error(&mut wire, 1).await;
    }
}

#[tokio::test]
async fn s6_9_1_the_window_of_the_connection_may_be_used_to_its_last_byte_and_no_further() {
    let stuck = Stuck::new().await;
    let mut wire = stuck.wire().await;
    let mut stream = 1;
    while wire.watch.credit(0) > 0 {
        fill(&mut wire, stream).await;
        stream += 2;
    }
    wire.is_alive().await;
    assert_eq!(wire.watch.credit(0), 0);
    wire.send([post(stream, "/", &[]), data(stream, 0, "x")].concat())
        .await;
    wire.ends_with(FLOW_CONTROL_ERROR).await;
}

#[tokio::test]
async fn s6_9_1_an_empty_end_needs_no_window() {
    let stuck = Stuck::new().await;
    let mut wire = stuck.wire().await;
    fill(&mut wire, 1).await;
    wire.send(data(1, END_STREAM, "")).await;
    wire.is_alive().await;
    assert_eq!(wire.so_far(1).reset, None);
}

#[tokio::test]
async fn s5_2_2_frames_are_read_while_bodies_wait() {
    let stuck = Stuck::new().await;
    let mut wire = stuck.wire().await;
    let mut stream = 1;
    while wire.watch.credit(0) > 0 {
        fill(&mut wire, stream).await;
        stream += 2;
    }
    // Frames that are not under flow control pass when nothing else may (section 6.9).
    wire.send(settings(&[(4, 1000)])).await;
    wire.until("an ACK", |wire| wire.acks == 2).await;
    wire.send([get(stream, "/"), reset(stream, CANCEL)].concat())
        .await;
    wire.is_alive().await;
}

#[tokio::test]
async fn s6_9_data_of_streams_that_the_client_took_back_is_given_back() {
    let stuck = Stuck::new().await;
    let mut scene = Scene::new().await;
    scene.wire = stuck.wire().await;
    uploads_in_vain(&mut scene, 1, &[], &CANCEL.to_be_bytes()).await;
}

#[tokio::test]
async fn s6_1_padding_is_given_back() {
    let mut scene = Scene::new().await;
    scene.wire.send(post(1, "/ok", &[])).await;
    let mut payload = vec![0; 257];
    (payload[0], payload[1]) = (255, b'x');
    // Far more than either window, and hardly any of it content.
    for _ in 0..2000 {
        let room = |wire: &Wire| wire.watch.credit(1).min(wire.watch.credit(0)) >= 257;
        scene.wire.until("credit", room).await;
        scene.wire.send(data(1, PADDED, &payload)).await;
    }
    scene.wire.send(data(1, END_STREAM, "")).await;
    scene.wire.answer(1).await.expect(200);
    assert_eq!(scene.origin.last("/ok").body, vec![b'x'; 2000]);
}
