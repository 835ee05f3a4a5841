//! What good clients of HTTP/2 get.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Config, Gate, Latch, Origin, Reply, eventually, patiently};

use super::wire::*;
use super::{CLOSED, Scene};

/// An origin by hand, for what `Origin` does not do: takes one connection and is handed its head.
async fn by_hand<F: Future<Output = ()> + Send + 'static>(
    serve: impl FnOnce(TcpStream, String) -> F + Send + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        serve(stream, String::from_utf8(head).unwrap()).await;
    });
    address.to_string()
}

async fn gate_to(address: &str, route: &str) -> Gate {
    let config = Config::new().one_worker().upstream_at("shop", address, "");
    Gate::start(&config.route("shop", "path_prefix: /", &format!("upstream: shop{route}"))).await
}

#[tokio::test]
async fn an_answer_has_a_date_and_a_length_and_nothing_of_a_connection() {
    let origin = Origin::start("a").await.on("/hop", |_| {
        Reply::ok("body")
            .header("connection", "x-hop")
            .header("x-hop", "1")
            .header("keep-alive", "5")
    });
    let mut scene = Scene::with(origin, "").await;
    let answer = scene.wire.fetch(1, "/hop").await.expect(200);
    assert_eq!(answer.text(), "body");
    assert_eq!(answer.header("content-length"), Some("4"));
    assert!(answer.header("date").unwrap().ends_with(" GMT"));
    assert_eq!(answer.header("x-hop"), None);
    let missing = Gate::start(&Config::new().upstream("shop", &[&scene.origin], "").route(
        "shop",
        "path: /only",
        "upstream: shop",
    ))
    .await;
    let mut wire = Wire::connect(&missing).await;
    let problem = wire.fetch(1, "/other").await.expect(404);
    let length: usize = problem.header("content-length").unwrap().parse().unwrap();
    assert_eq!(length, problem.body.len());
    wire.fetch(3, "/only").await.expect(200);
}

#[tokio::test]
async fn head_204_and_304_end_with_their_headers() {
    let origin = Origin::start("a")
        .await
        .on("/p", |seen| match seen.method.as_str() {
            "HEAD" => Reply::new(200).header("content-length", "1000"),
            _ => Reply::ok("x"),
        })
        .on("/204", |_| Reply::new(204))
        .on("/304", |_| Reply::new(304).header("etag", "\"a\""));
    let mut scene = Scene::with(origin, "").await;
    scene
        .wire
        .send(headers(1, END_STREAM, &fields("HEAD", "/p", &[])))
        .await;
    let head = scene.wire.answer(1).await.expect(200);
    assert_eq!(
        (head.header("content-length"), head.body.len()),
        (Some("1000"), 0)
    );
    let empty = scene.wire.fetch(3, "/204").await.expect(204);
    assert_eq!(
        (empty.header("content-length"), empty.body.len()),
        (None, 0)
    );
    let unchanged = scene.wire.fetch(5, "/304").await.expect(304);
    assert_eq!(unchanged.body.len(), 0);
    scene.wire.is_alive().await;
}

#[tokio::test]
async fn answers_overtake_each_other() {
    let latch = Latch::new();
    let wait = latch.clone();
    let origin = Origin::start("a")
        .await
        .on("/slow", move |_| Reply::ok("slow").after(&wait));
    let mut scene = Scene::with(origin, "").await;
    scene
        .wire
        .send([get(1, "/slow"), get(3, "/fast"), get(5, "/fast")].concat())
        .await;
    scene.wire.answer(5).await.expect(200);
    scene.wire.answer(3).await.expect(200);
    assert_eq!(scene.wire.so_far(1).status, 0);
    latch.open();
    assert_eq!(scene.wire.answer(1).await.expect(200).text(), "slow");
    let streams = scene
        .gate
        .metrics()
        .await
        .sum("headgate_http2_streams_total", &[]);
    assert!(streams >= 3.0, "{streams}");
}

#[tokio::test]
async fn bodies_of_every_size_arrive_whole_in_both_directions() {
    let origin = Origin::start("a")
        .await
        .on("*", |seen| Reply::ok(seen.body.clone()));
    let mut scene = Scene::with(origin, "").await;
    let mut stream = 1;
    for size in [0, 1, 255, 256, 16_384, 16_385, 65_535, 65_536, 300_000] {
        let body: Vec<u8> = (0..size)
            .map(|at: u32| u8::try_from(at % 251).unwrap())
            .collect();
        let length = body.len().to_string();
        scene
            .wire
            .send(post(stream, "/echo", &[("content-length", &length)]))
            .await;
        // At most a window at a time; what was taken in is given back.
        let mut pieces = body.chunks(16_000).peekable();
        let mut sent = 0;
        while let Some(piece) = pieces.next() {
            let end = if pieces.peek().is_none() {
                END_STREAM
            } else {
                0
            };
            scene.wire.send(data(stream, end, piece)).await;
            sent += piece.len();
            // Four of them are a window: what the origin has is given back.
            if end == 0 {
                let arrived = || {
                    scene
                        .origin
                        .seen("/echo")
                        .last()
                        .map_or(0, |it| it.body.len())
                };
                eventually("it arrived", async || (arrived() >= sent).then_some(())).await;
            }
        }
        if body.is_empty() {
            scene.wire.send(data(stream, END_STREAM, "")).await;
        }
        let answer = scene.wire.answer(stream).await.expect(200);
        assert!(answer.body == body, "{} of {size}", answer.body.len());
        stream += 2;
    }
}

#[tokio::test]
async fn trailers_go_both_ways_without_those_that_may_not() {
    let address = by_hand(|mut stream, head| async move {
        assert!(
            head.to_lowercase().contains("transfer-encoding: chunked"),
            "{head}"
        );
        let mut rest = Vec::new();
        while !rest.ends_with(b"x-sum: 1\r\n\r\n") {
            rest.push(stream.read_u8().await.unwrap());
        }
        let text = String::from_utf8(rest).unwrap();
        assert!(!text.contains("host"), "{text}");
        let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: grpc-status\r\n\r\n\
                      4\r\nbody\r\n0\r\ngrpc-status: 0\r\ncontent-length: 3\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.read_u8().await.ok();
    })
    .await;
    let gate = gate_to(&address, "").await;
    let mut wire = Wire::connect(&gate).await;
    let trailers = headers(1, END_STREAM, &[("x-sum", "1"), ("host", "evil")]);
    let open = post(1, "/t", &[("te", "trailers"), ("trailer", "x-sum")]);
    wire.send([open, data(1, 0, "up"), trailers].concat()).await;
    let answer = wire.answer(1).await.expect(200);
    assert_eq!(answer.text(), "body");
    assert_eq!(
        answer.trailers,
        [("grpc-status".to_owned(), "0".to_owned())]
    );
}

#[tokio::test]
async fn a_client_that_waits_for_100_gets_it_and_then_its_answer() {
    let mut scene = Scene::new().await;
    scene
        .wire
        .send(post(
            1,
            "/ok",
            &[("expect", "100-continue"), ("content-length", "4")],
        ))
        .await;
    scene
        .wire
        .until("100", |wire| !wire.so_far(1).early.is_empty())
        .await;
    assert_eq!(scene.wire.so_far(1).early[0].0, 100);
    scene.wire.send(data(1, END_STREAM, "body")).await;
    scene.wire.answer(1).await.expect(200);
    assert_eq!(scene.origin.last("/ok").body, b"body");
}

#[tokio::test]
async fn early_hints_come_before_the_answer() {
    let address = by_hand(|mut stream, _| async move {
        let early = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n";
        stream.write_all(early.as_bytes()).await.unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .await
            .unwrap();
        stream.read_u8().await.ok();
    })
    .await;
    let gate = gate_to(&address, "").await;
    let mut wire = Wire::connect(&gate).await;
    let answer = wire.fetch(1, "/").await.expect(200);
    assert_eq!(answer.early.len(), 1, "{answer:?}");
    let (status, fields) = &answer.early[0];
    assert_eq!(*status, 103);
    assert!(
        fields
            .iter()
            .any(|(name, value)| name == "link" && value.contains("a.css"))
    );
}

#[tokio::test]
async fn a_request_that_is_taken_back_is_cancelled_at_the_origin() {
    let latch = Latch::new();
    let wait = latch.clone();
    let origin = Origin::start("a")
        .await
        .on("/slow", move |_| Reply::ok("").after(&wait));
    let mut scene = Scene::with(origin, "").await;
    scene
        .wire
        .send([get(1, "/slow"), get(3, "/slow")].concat())
        .await;
    scene.origin.until_asked("/slow", 2).await;
    scene
        .wire
        .send([reset(1, CANCEL), reset(3, CANCEL)].concat())
        .await;
    scene
        .gate
        .until("headgate_http_in_flight_requests", &[], 0.0)
        .await;
    let code = [("code", "499")];
    scene
        .gate
        .until("headgate_http_requests_total", &code, 2.0)
        .await;
    scene
        .gate
        .until("headgate_http2_resets_total", &[("by", "client")], 2.0)
        .await;
    latch.open();
    scene.origin.until_open(0).await;
    scene.wire.fetch(5, "/ok").await.expect(200);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_reset_and_not_ended() {
    let origin = Origin::start("a").await.on("/broken", |_| {
        Reply::new(200)
            .header("content-length", "100")
            .then("only")
            .close()
    });
    let mut scene = Scene::with(origin, "").await;
    // Where it breaks off at once, not even its head need be on its way.
    let answer = scene.wire.fetch(1, "/broken").await;
    assert!(!answer.ended && answer.reset.is_some(), "{answer:?}");
    scene.wire.fetch(3, "/ok").await.expect(200);
}

#[tokio::test]
async fn an_early_answer_to_an_upload_ends_the_upload_alone() {
    let mut scene = Scene::new().await;
    // Nobody reads the body of what no route takes.
    scene
        .wire
        .send(post(
            1,
            "/ok",
            &[("host", "evil"), ("content-length", "100000")],
        ))
        .await;
    let answer = scene.wire.answer(1).await.expect(400);
    assert!(answer.ended);
    scene
        .wire
        .until("a reset", |wire| wire.so_far(1).reset.is_some())
        .await;
    assert_eq!(scene.wire.so_far(1).reset, Some(NO_ERROR));
    scene.wire.fetch(3, "/ok").await.expect(200);
}

#[tokio::test]
async fn a_tunnel_is_opened_by_extended_connect_and_carries_bytes_both_ways() {
    let address = by_hand(|mut stream, head| async move {
        assert!(head.starts_with("GET /chat HTTP/1.1\r\n"), "{head}");
        assert!(head.to_lowercase().contains("upgrade: echo\r\n"), "{head}");
        let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nhello ";
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut bytes = vec![0; 1024];
        loop {
            match stream.read(&mut bytes).await {
                Ok(0) | Err(_) => return,
                Ok(count) => stream.write_all(&bytes[..count]).await.unwrap(),
            }
        }
    })
    .await;
    let gate = gate_to(&address, ", upgrades: [echo]").await;
    let mut wire = Wire::connect(&gate).await;
    assert_eq!(wire.settings[&8], 1);
    wire.send(headers(
        1,
        0,
        &fields("CONNECT", "/chat", &[(":protocol", "echo")]),
    ))
    .await;
    wire.until("the tunnel", |wire| !wire.so_far(1).body.is_empty())
        .await;
    let open = wire.so_far(1).expect(200);
    assert_eq!(
        (open.header("upgrade"), open.header("content-length")),
        (None, None)
    );
    for word in ["one", "two"] {
        wire.send(data(1, 0, word)).await;
        wire.until(word, |wire| wire.so_far(1).text().ends_with(word))
            .await;
    }
    gate.until("headgate_http_in_flight_requests", &[], 1.0)
        .await;
    wire.send(data(1, END_STREAM, "")).await;
    let ended = wire.answer(1).await;
    assert_eq!(ended.text(), "hello onetwo");
    wire.is_alive().await;
}

#[tokio::test]
async fn a_tunnel_that_no_route_takes_is_refused_and_plain_answers_open_none() {
    let mut scene = Scene::new().await;
    scene
        .wire
        .send(headers(
            1,
            0,
            &fields("CONNECT", "/ok", &[(":protocol", "echo")]),
        ))
        .await;
    let refused = scene.wire.answer(1).await;
    assert!(refused.status >= 400, "{refused:?}");
    assert_eq!(scene.origin.requests("*"), 0);
    // The origin answers 200, and that must not look like a tunnel.
    scene
        .wire
        .send(headers(
            3,
            0,
            &fields("CONNECT", "/ok", &[(":protocol", "websocket")]),
        ))
        .await;
    let plain = scene.wire.answer(3).await;
    assert!(plain.status >= 400 || plain.reset.is_some(), "{plain:?}");
    scene.wire.is_alive().await;
}

#[tokio::test]
async fn a_drain_says_goaway_and_lets_open_streams_finish() {
    let latch = Latch::new();
    let wait = latch.clone();
    let origin = Origin::start("a")
        .await
        .on("/slow", move |_| Reply::ok("done").after(&wait));
    let mut scene = Scene::with(origin, "").await;
    scene.wire.send(get(1, "/slow")).await;
    scene.origin.until_asked("/slow", 1).await;
    scene.gate.process.signal(rustix::process::Signal::TERM);
    scene
        .wire
        .until("GOAWAY", |wire| !wire.goaways.is_empty())
        .await;
    assert_eq!(scene.wire.goaways[0], (0x7fff_ffff, NO_ERROR));
    scene
        .wire
        .until("the last one", |wire| wire.goaways.len() > 1)
        .await;
    assert_eq!(scene.wire.goaways[1], (1, NO_ERROR));
    latch.open();
    assert_eq!(scene.wire.answer(1).await.expect(200).text(), "done");
    scene.wire.until("the close", |wire| wire.closed).await;
    assert!(scene.gate.process.end().await.success());
}

#[tokio::test]
async fn a_drain_closes_idle_connections_and_those_of_clients_that_do_not_acknowledge() {
    let mut scene = Scene::new().await;
    let mut mute = Wire::connect(&scene.gate).await;
    mute.mute = true;
    assert!(scene.gate.stop().await.success());
    for wire in [&mut scene.wire, &mut mute] {
        wire.ends_with(NO_ERROR).await;
    }
}

#[tokio::test]
async fn connections_live_across_a_reload() {
    let latch = Latch::new();
    let wait = latch.clone();
    let origin = Origin::start("a")
        .await
        .on("/slow", move |_| Reply::ok("done").after(&wait));
    let mut scene = Scene::with(origin, "").await;
    scene.wire.send(get(1, "/slow")).await;
    scene.origin.until_asked("/slow", 1).await;
    let config = Config::to(&[&scene.origin]).one_worker();
    scene.gate.become_config(&config).await;
    scene.wire.fetch(3, "/ok").await.expect(200);
    latch.open();
    scene.wire.answer(1).await.expect(200);
    assert_eq!(scene.wire.goaways, []);
}

#[tokio::test]
async fn a_connection_is_told_to_go_after_its_number_of_requests() {
    let origin = Origin::start("a").await;
    let mut scene = Scene::with(origin, "limits: { requests_per_connection: 2 }").await;
    scene.wire.fetch(1, "/ok").await.expect(200);
    scene.wire.fetch(3, "/ok").await.expect(200);
    scene.wire.ends_with(NO_ERROR).await;
    scene
        .gate
        .until(CLOSED, &[("reason", "complete")], 1.0)
        .await;
}

#[tokio::test]
async fn a_listener_speaks_what_its_config_says() {
    let origin = Origin::start("a").await;
    let config = Config::to(&[&origin])
        .only_listener("address: 127.0.0.1:0, protocols: [http1]")
        .listener("address: 127.0.0.2:0, protocols: [h2]");
    let gate = Gate::start(&config).await;
    let mut old = Wire::silent(gate.listeners[0]).await;
    old.send([PREFACE, &settings(&[]), &get(1, "/bad")].concat())
        .await;
    old.until("the close", |wire| wire.closed).await;
    let mut new = Wire::connect_with(gate.listeners[1], &[]).await;
    new.fetch(1, "/ok").await.expect(200);
    let mut old = crate::harness::Client::connect(gate.listeners[1]).await;
    old.write(crate::harness::Request::get("/bad").bytes())
        .await;
    assert_eq!(old.until_closed().await, b"");
    gate.get("/ok").await.expect(200);
    assert_eq!(origin.requests("/bad"), 0);
}

#[tokio::test]
async fn a_preface_in_pieces_is_understood() {
    let scene = Scene::new().await;
    for cut in [1, 10, 15, 16, 18, 23] {
        let mut wire = Wire::silent(scene.gate.address).await;
        wire.send(&PREFACE[..cut]).await;
        // Whatever else the gate does comes after it has read that.
        scene.gate.get("/ok").await.expect(200);
        wire.open_after(cut).await;
        wire.fetch(1, "/ok").await.expect(200);
    }
    patiently("the origin", scene.origin.until_asked("/ok", 12)).await;
}
