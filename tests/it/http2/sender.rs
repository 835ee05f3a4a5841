//! What the server sends (RFC 9113 and RFC 7541). `watch` looks at every frame in every test; here are
//! the answers at which a sender is tempted.

use http::{HeaderValue, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc::{Sender, channel};

use crate::harness::{Config, Conn, Gate, Latch, Origin, Reply, Server, patiently};

use super::Scene;
use super::hpack::{Decoder, literals, never_indexed};
use super::wire::*;

/// An origin with much to send: 100,000 bytes at `/big`.
async fn plenty() -> Scene {
    let origin = Origin::start("a")
        .await
        .on("/big", |_| Reply::ok(vec![b'x'; 100_000]));
    Scene::with(origin, "").await
}

#[tokio::test]
async fn s3_4_settings_come_first_and_the_clients_are_acknowledged_after_them() {
    let scene = Scene::new().await;
    let mut wire = Wire::silent(scene.gate.address).await;
    wire.send([PREFACE, &settings(&[(4, 1000)]), &get(1, "/ok")].concat())
        .await;
    wire.answer(1).await.expect(200);
    let said: Vec<_> = wire.frames.iter().map(|it| (it.0, it.1)).collect();
    assert_eq!(said[0], (SETTINGS, 0));
    assert_eq!(said.iter().filter(|it| **it == (SETTINGS, ACK)).count(), 1);
}

#[tokio::test]
async fn s4_2_frames_are_no_larger_than_the_client_takes() {
    let scene = plenty().await;
    // Nothing said, the least, more, and the most.
    for most in [None, Some(16_384), Some(40_000), Some(16_777_215)] {
        let mut ours = vec![(4, 1 << 20)];
        ours.extend(most.map(|most| (5, most)));
        let mut wire = Wire::connect_with(scene.gate.address, &ours).await;
        wire.send([window(0, 1 << 20), get(1, "/big")].concat())
            .await;
        let answer = wire.answer(1).await.expect(200);
        assert_eq!(answer.body.len(), 100_000);
        let largest = wire.frames.iter().map(|it| it.3).max().unwrap();
        let most = most.unwrap_or(16_384) as usize;
        assert!(largest <= most, "{largest} of {most}");
    }
}

/// Sections 4.3, 6.2, 6.10 and 8.1: the watch fails where a frame comes between.
#[tokio::test]
async fn s4_3_a_large_answers_block_is_sent_in_parts_that_nothing_comes_between() {
    let long = "y".repeat(9_000);
    let value = long.clone();
    let origin = Origin::start("a")
        .await
        .on("/big", |_| Reply::ok(vec![b'x'; 100_000]))
        .on("/wide", move |_| {
            let reply = Reply::ok("body").header("x-a", &value);
            reply.header("x-b", &value).header("x-c", &value)
        });
    let mut scene = Scene::with(origin, "").await;
    for round in 0..4 {
        let first = round * 20 + 1;
        let mut frames = Vec::new();
        for stream in (first..first + 12).step_by(4) {
            frames.extend(get(stream, "/big"));
            frames.extend(get(stream + 2, "/wide"));
        }
        scene.wire.send(frames).await;
        for stream in (first..first + 12).step_by(4) {
            assert_eq!(scene.wire.answer(stream).await.body.len(), 100_000);
            let wide = scene.wire.answer(stream + 2).await.expect(200);
            for name in ["x-a", "x-b", "x-c"] {
                assert_eq!(wide.header(name), Some(long.as_str()));
            }
            assert_eq!(wide.text(), "body");
        }
    }
    let parts = scene.wire.frames.iter().filter(|it| it.0 == CONTINUATION);
    assert!(parts.count() > 0);
}

impl Wire {
    /// Changes settings, and waits until they are acknowledged.
    async fn sets(&mut self, pairs: &[(u16, u32)]) {
        let acks = self.acks + 1;
        self.send(settings(pairs)).await;
        self.until("an ACK", |wire| wire.acks == acks).await;
    }
}

/// The decoder of the tests fails where a block does not begin with the update that is due, where the
/// table is larger than allowed, and at an entry that must have been evicted (RFC 7541 sections 4.2,
/// 4.3 and 6.3).
#[tokio::test]
async fn s4_3_1_each_limit_of_the_clients_table_is_kept_from_its_acknowledgement_on() {
    let origin = Origin::start("a").await.on("/ok", |seen| {
        let own = seen.earlier.to_string();
        let reply = Reply::ok("a")
            .header("x-same", "always")
            .header("x-own", &own);
        reply.header("set-cookie", "id=secret")
    });
    let scene = Scene::with(origin, "").await;
    let mut wire = Wire::connect(&scene.gate).await;
    let mut stream = 1;
    let changes: &[&[u32]] = &[
        &[],
        &[0],
        &[4096],
        // Several between two blocks: the smallest of them is told.
        &[0, 4096],
        &[200, 65_536],
        &[60],
        &[100, 50, 70],
        &[u32::MAX],
        &[1],
        &[4096, 0, 0],
    ];
    for change in changes {
        for limit in *change {
            wire.sets(&[(1, *limit)]).await;
        }
        for _ in 0..3 {
            let answer = wire.fetch(stream, "/ok").await.expect(200);
            assert_eq!(answer.header("x-same"), Some("always"));
            stream += 2;
        }
    }
}

#[tokio::test]
async fn s4_3_1_the_table_that_the_client_announces_first_is_kept_too() {
    let scene = Scene::new().await;
    for limit in [0, 1, 64, 4095, 4096, 65_536, u32::MAX] {
        let mut wire = Wire::connect_with(scene.gate.address, &[(1, limit)]).await;
        for stream in [1, 3, 5] {
            let answer = wire.fetch(stream, "/ok").await.expect(200);
            assert_eq!(answer.header("x-served-by"), Some("a"));
        }
    }
}

/// So no client has to shrink its own, and no block of one can lack the update for it.
#[tokio::test]
async fn s4_3_1_the_gate_allows_no_smaller_table_than_what_holds_at_the_start() {
    let scene = Scene::new().await;
    let table = scene.wire.settings.get(&1).copied();
    assert!(table.is_none_or(|size| size == 4096), "{table:?}");
}

/// Nothing on a stream that the client has reset, once the server knows: the watch fails otherwise.
#[tokio::test]
async fn s6_4_nothing_is_sent_on_a_stream_that_the_client_has_reset() {
    let latch = Latch::new();
    let wait = latch.clone();
    let origin = Origin::start("a")
        .await
        .on("/big", |_| Reply::ok(vec![b'x'; 100_000]))
        .on("/slow", move |_| Reply::ok("late").after(&wait));
    let scene = Scene::with(origin, "").await;
    let mut wire = Wire::connect_with(scene.gate.address, &[(4, 100)]).await;
    wire.mute = true;
    // One whose answer has not begun, and one whose answer waits for window.
    wire.send([get(1, "/slow"), get(3, "/big")].concat()).await;
    wire.until("some of it", |wire| wire.so_far(3).body.len() == 100)
        .await;
    scene.origin.until_asked("/slow", 1).await;
    wire.send([reset(1, CANCEL), reset(3, CANCEL)].concat())
        .await;
    wire.is_alive().await;
    latch.open();
    let more = settings(&[(4, 1 << 20)]);
    wire.send([window(3, 1 << 20), window(0, 1 << 20), more].concat())
        .await;
    wire.fetch(5, "/ok").await.expect(200);
    wire.is_alive().await;
    assert_eq!(wire.so_far(3).body.len(), 100);
    assert_eq!((wire.so_far(1).status, wire.so_far(1).reset), (0, None));
}

#[tokio::test]
async fn s6_5_2_every_setting_is_taken_at_its_edges() {
    let scene = Scene::new().await;
    let mut wire = Wire::connect(&scene.gate).await;
    let edges = [
        (1, 0),
        (1, u32::MAX),
        (2, 0),
        (2, 1),
        (3, 0),
        (3, u32::MAX),
        (4, 0),
        (4, 0x7fff_ffff),
        (5, 16_384),
        (5, 16_777_215),
        (6, u32::MAX),
        (8, 0),
        (8, 1),
    ];
    let mut stream = 1;
    for edge in edges {
        wire.sets(&[edge]).await;
        wire.send(get(stream, "/ok")).await;
        wire.head(stream).await.expect(200);
        stream += 2;
    }
    assert_eq!(wire.goaways, []);
    // The answer that had no window has got it since.
    assert_eq!(wire.answer(13).await.text(), "a");
}

/// The limit is advice (section 10.5.1): whatever is made of it, the connection goes on.
#[tokio::test]
async fn s6_5_2_the_clients_limit_of_fields_does_not_end_its_connection() {
    let scene = Scene::new().await;
    let mut wire = Wire::connect_with(scene.gate.address, &[(6, 1)]).await;
    let answer = wire.fetch(1, "/ok").await;
    assert!(answer.status == 200 || answer.reset.is_some(), "{answer:?}");
    wire.sets(&[(6, 100_000)]).await;
    wire.fetch(3, "/ok").await.expect(200);
}

#[tokio::test]
async fn s6_5_3_of_a_setting_that_is_repeated_the_last_holds() {
    let scene = plenty().await;
    let twice = [(4, 100_000), (4, 5), (4, 10)];
    let mut wire = Wire::connect_with(scene.gate.address, &twice).await;
    wire.mute = true;
    wire.send(get(1, "/big")).await;
    wire.until("ten bytes", |wire| wire.so_far(1).body.len() >= 10)
        .await;
    wire.is_alive().await;
    assert_eq!(wire.so_far(1).body.len(), 10);
}

#[tokio::test]
async fn s6_9_2_settings_do_not_change_the_window_of_the_connection() {
    let scene = plenty().await;
    let mut wire = Wire::connect_with(scene.gate.address, &[(4, 0)]).await;
    wire.mute = true;
    wire.send(get(1, "/big")).await;
    wire.head(1).await.expect(200);
    wire.sets(&[(4, 1 << 20)]).await;
    wire.until("the window", |wire| wire.so_far(1).body.len() >= 65_535)
        .await;
    wire.sets(&[(4, 1 << 22)]).await;
    wire.is_alive().await;
    assert_eq!(wire.so_far(1).body.len(), 65_535);
}

#[tokio::test]
async fn s6_9_2_a_setting_that_takes_a_window_beyond_the_largest_is_a_flow_control_error() {
    let latch = Latch::new();
    let wait = latch.clone();
    let origin = Origin::start("a")
        .await
        .on("/slow", move |_| Reply::ok("").after(&wait));
    let scene = Scene::with(origin, "").await;
    let mut wire = Wire::connect(&scene.gate).await;
    wire.send(get(1, "/slow")).await;
    scene.origin.until_asked("/slow", 1).await;
    // As far as it may go.
    wire.send(window(1, 0x7fff_ffff - 65_535)).await;
    wire.is_alive().await;
    wire.send(settings(&[(4, 65_536)])).await;
    wire.ends_with(FLOW_CONTROL_ERROR).await;
    latch.open();
}

#[tokio::test]
async fn s6_9_1_windows_may_be_opened_as_far_as_they_go() {
    let mut scene = plenty().await;
    let frames = [
        window(0, 0x7fff_ffff - 65_535),
        get(1, "/big"),
        window(1, 0x7fff_ffff - 65_535),
    ];
    scene.wire.mute = true;
    scene.wire.send(frames.concat()).await;
    assert_eq!(scene.wire.answer(1).await.expect(200).body.len(), 100_000);
    scene.wire.is_alive().await;
}

/// What is not DATA goes out whatever the windows are (sections 5.2.1 and 6.9.1).
#[tokio::test]
async fn s6_9_1_heads_trailers_and_empty_bodies_need_no_window() {
    let origin = Origin::start("a")
        .await
        .on("/empty", |_| Reply::new(200).header("content-length", "0"))
        .on("/none", |_| Reply::new(204))
        .on("/trailers", |_| {
            let reply = Reply::new(200).header("transfer-encoding", "chunked");
            reply
                .header("trailer", "x-sum")
                .then("0\r\nx-sum: 7\r\n\r\n")
        });
    let scene = Scene::with(origin, "").await;
    let mut wire = Wire::connect_with(scene.gate.address, &[(4, 0)]).await;
    wire.fetch(1, "/empty").await.expect(200);
    wire.fetch(3, "/none").await.expect(204);
    wire.send(get_with(5, "/trailers", &[("te", "trailers")]))
        .await;
    let answer = wire.answer(5).await.expect(200);
    assert_eq!(answer.trailers, [("x-sum".to_owned(), "7".to_owned())]);
}

#[tokio::test]
async fn s6_7_pongs_are_as_many_as_pings_and_hold_what_they_held() {
    let mut scene = Scene::new().await;
    let pings: Vec<_> = (0..20_u8).map(|at| [at, 1, 2, 3, 4, 5, 6, 7]).collect();
    let mut frames = frame(PING, ACK, 0, &[9; 8]);
    for ping in &pings {
        frames.extend(frame(PING, 0, 0, ping));
    }
    scene.wire.send(frames).await;
    scene
        .wire
        .until("pongs", |wire| wire.pongs.len() == 20)
        .await;
    scene.wire.is_alive().await;
    assert_eq!(scene.wire.pongs.len(), 21);
    for ping in pings {
        assert!(scene.wire.pongs.contains(&ping.to_vec()), "{ping:?}");
    }
}

#[tokio::test]
async fn s8_7_goaway_names_every_stream_that_was_passed_on() {
    let latch = Latch::new();
    let wait = latch.clone();
    let origin = Origin::start("a")
        .await
        .on("/slow", move |_| Reply::ok("").after(&wait));
    let mut scene = Scene::with(origin, "").await;
    scene.wire.fetch(1, "/ok").await.expect(200);
    scene
        .wire
        .send([get(3, "/slow"), get(7, "/slow")].concat())
        .await;
    scene.origin.until_asked("/slow", 2).await;
    scene.wire.send(frame(PING, 0, 0, &[0; 7])).await;
    scene.wire.ends_with(FRAME_SIZE_ERROR).await;
    assert!(scene.wire.goaways.last().unwrap().0 >= 7);
    latch.open();
}

#[tokio::test]
async fn s7_an_unknown_code_in_goaway_has_no_effect() {
    let mut scene = Scene::new().await;
    scene.wire.send(post(1, "/ok", &[])).await;
    let goaway = [&[0; 4][..], &0xdead_beef_u32.to_be_bytes(), b"why"].concat();
    scene.wire.send(frame(GOAWAY, 0, 0, &goaway)).await;
    scene.wire.send(data(1, END_STREAM, "body")).await;
    scene.wire.answer(1).await.expect(200);
    assert_eq!(scene.origin.last("/ok").body, b"body");
}

/// Sections 8.2, 8.2.1, 8.2.2 and 8.3.2: what HTTP/1.1 has and HTTP/2 must not.
#[tokio::test]
async fn s8_2_2_what_belongs_to_the_endpoints_connection_stays_behind() {
    let origin = Origin::start("a").await.on("/hop", |_| {
        let reply = Reply::new(200)
            .header("Connection", "X-Hop, keep-alive")
            .header("X-Hop", "1")
            .header("Keep-Alive", "timeout=5")
            .header("Proxy-Connection", "keep-alive")
            .header("Upgrade", "h2c")
            .header("X-UPPER", "  padded\t");
        reply.chunks(&["in ", "chunks"])
    });
    let mut scene = Scene::with(origin, "").await;
    let answer = scene.wire.fetch(1, "/hop").await.expect(200);
    assert_eq!(answer.text(), "in chunks");
    assert_eq!(answer.header("x-upper"), Some("padded"));
    assert_eq!(answer.header("x-hop"), None);
    assert_eq!(answer.header("proxy-connection"), None);
}

#[tokio::test]
async fn s8_1_informational_heads_do_not_end_their_stream_and_101_is_not_sent() {
    let server = Server::start(|mut conn: Conn| async move {
        while conn.client.request().await.is_some() {
            let early = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nConnection: x\r\n\r\n";
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            conn.client.write([early, early, answer].concat()).await;
        }
    })
    .await;
    let config = Config::to_endpoints(&server.address().to_string(), "").one_worker();
    let gate = Gate::start(&config).await;
    let mut wire = Wire::connect(&gate).await;
    let answer = wire.fetch(1, "/").await.expect(200);
    assert_eq!(answer.early.len(), 2);
    // An endpoint that switches where nobody asked for it.
    let server = Server::start(|mut conn: Conn| async move {
        conn.client.request().await;
        let switch =
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
        conn.client.write(switch).await;
        conn.client.until_closed().await;
    })
    .await;
    let config = Config::to_endpoints(&server.address().to_string(), "").one_worker();
    let gate = Gate::start(&config).await;
    let mut wire = Wire::connect(&gate).await;
    wire.fetch(1, "/").await.expect(502);
    wire.is_alive().await;
}

#[tokio::test]
async fn rfc7541_s2_1_fields_of_an_answer_keep_their_order() {
    let origin = Origin::start("a").await.on("/ok", |_| {
        let reply = Reply::ok("a").header("set-cookie", "b=1");
        reply
            .header("set-cookie", "a=2")
            .header("set-cookie", "b=1")
    });
    let mut scene = Scene::with(origin, "").await;
    for stream in [1, 3] {
        let answer = scene.wire.fetch(stream, "/ok").await.expect(200);
        let cookies = answer.headers.iter().filter(|it| it.0 == "set-cookie");
        let cookies: Vec<_> = cookies.map(|it| it.1.as_str()).collect();
        assert_eq!(cookies, ["b=1", "a=2", "b=1"]);
    }
}

/// The names that a raw endpoint of HTTP/2 was sent as never to be indexed, in each of two requests.
async fn told_never_to_index(conn: Conn, heard: Sender<Vec<String>>) {
    let mut stream = conn.client.into_stream();
    let hello = [settings(&[]), frame(SETTINGS, ACK, 0, &[])].concat();
    stream.write_all(&hello).await.unwrap();
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface).await.unwrap();
    let mut decoder = Decoder::new();
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).await.is_err() {
            return;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.unwrap();
        if head[3] != HEADERS {
            continue;
        }
        assert_eq!(
            head[4] & (END_HEADERS | PADDED | WITH_PRIORITY),
            END_HEADERS
        );
        decoder.block(&payload);
        heard
            .send(std::mem::take(&mut decoder.never))
            .await
            .unwrap();
        // `:status: 200`, by the static table.
        let number = u32::from_be_bytes(head[5..].try_into().unwrap());
        let answer = frame(HEADERS, END_HEADERS | END_STREAM, number, &[0x88]);
        stream.write_all(&answer).await.unwrap();
    }
}

#[tokio::test]
async fn rfc7541_s6_2_3_what_a_client_never_indexes_is_never_indexed_on_the_way_on() {
    let (heard, mut names) = channel(2);
    let server = Server::start(move |conn| told_never_to_index(conn, heard.clone())).await;
    let config = Config::to_endpoints(&server.address().to_string(), "protocol: h2");
    let gate = Gate::start(&config.one_worker()).await;
    let mut wire = Wire::connect(&gate).await;
    for stream in [1, 3] {
        let mut block = literals(&fields("GET", "/", &[("x-open", "1")]));
        block.extend(never_indexed("x-secret", "1234"));
        wire.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, &block))
            .await;
        wire.answer(stream).await.expect(200);
        let names = patiently("a head", names.recv()).await.unwrap();
        assert!(names.iter().any(|name| name == "x-secret"), "{names:?}");
    }
}

/// An endpoint of HTTP/2 with a field that is never to be indexed.
async fn keeps_a_secret(conn: Conn) {
    let stream = conn.client.into_stream();
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        let mut answer = Response::new(());
        let mut secret = HeaderValue::from_static("1234");
        secret.set_sensitive(true);
        answer.headers_mut().insert("x-secret", secret);
        respond.send_response(answer, true).unwrap();
    }
}

#[tokio::test]
async fn rfc7541_s6_2_3_what_an_endpoint_never_indexes_is_never_indexed_on_the_way_back() {
    let server = Server::start(keeps_a_secret).await;
    let config = Config::to_endpoints(&server.address().to_string(), "protocol: h2");
    let gate = Gate::start(&config.one_worker()).await;
    let mut wire = Wire::connect(&gate).await;
    for stream in [1, 3] {
        let answer = wire.fetch(stream, "/").await.expect(200);
        assert_eq!(answer.header("x-secret"), Some("1234"));
    }
    let came = wire.never_indexed.iter().filter(|it| *it == "x-secret");
    assert_eq!(came.count(), 2);
}
