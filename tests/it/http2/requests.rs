//! What is a request over HTTP/2 and what is none (RFC 9113 section 8): nothing of a bad one reaches the
//! origin, and nothing in a good one can become more than it was over HTTP/1.1.

use crate::harness::{Origin, Reply};

use super::Scene;
use super::hpack::{literals, raw};
use super::wire::*;

/// What comes of a request that is none.
#[derive(Clone, Copy)]
enum End {
    /// Its stream is reset with PROTOCOL_ERROR; the connection goes on.
    Reset,
    /// It is answered; the connection goes on.
    Status(u16),
    /// The connection ends with PROTOCOL_ERROR, or its stream does.
    Connection,
    /// Any of these (section 8.1.1).
    Malformed,
}

async fn refused(frames: Vec<u8>, end: End) {
    let mut scene = Scene::new().await;
    scene.wire.send(frames).await;
    match end {
        End::Connection | End::Reset => {
            let end = |wire: &Wire| wire.closed || wire.so_far(1).reset.is_some();
            scene.wire.until("an error", end).await;
            let answer = scene.wire.so_far(1);
            let code = scene.wire.goaways.last().map(|(_, code)| *code);
            assert_eq!(answer.status, 0, "{answer:?}");
            assert_eq!(answer.reset.or(code), Some(PROTOCOL_ERROR));
        }
        End::Malformed => scene.wire.ends_malformed(1).await,
        End::Status(status) => {
            let answer = scene.wire.answer(1).await.expect(status);
            assert_eq!(
                answer.header("content-type"),
                Some("application/problem+json")
            );
            assert!(answer.header("date").is_some());
        }
    }
    if !scene.wire.closed {
        scene.wire.fetch(3, "/ok").await.expect(200);
        scene.wire.is_alive().await;
    }
    scene.nothing_else_arrived().await;
}

macro_rules! are_refused {
    ($($name:ident: $end:expr, $fields:expr;)*) => {
        $(#[tokio::test]
        async fn $name() {
            refused(headers(1, END_STREAM, &$fields), $end).await;
        })*
    };
}

fn with<'a>(name: &'a str, value: &'a str) -> Vec<(&'a str, &'a str)> {
    fields("GET", "/bad", &[(name, value)])
}

/// A request without one of its pseudo-header fields.
fn without(name: &str) -> Vec<(&'static str, &'static str)> {
    let mut all = fields("GET", "/bad", &[("host", "shop.test")]);
    all.retain(|(known, _)| *known != name);
    all
}

/// A request with another value for one of them.
fn instead(name: &str, value: &'static str) -> Vec<(&'static str, &'static str)> {
    let mut all = fields("GET", "/bad", &[]);
    for field in all.iter_mut().filter(|(known, _)| *known == name) {
        field.1 = value;
    }
    all
}

are_refused! {
    s8_2_an_upper_case_name_is_malformed: End::Connection, with("X-Upper", "1");
    s8_2_1_a_colon_in_a_name_is_malformed: End::Connection, with("x-a: b\r\ny", "1");
    s8_2_1_a_blank_in_a_name_is_malformed: End::Connection, with("x a", "1");
    s8_2_1_a_quote_in_a_name_is_malformed: End::Status(400), with("x\"a", "1");
    s8_2_1_a_name_of_nothing_is_malformed: End::Connection, with("", "1");
    s8_2_1_a_line_break_in_a_value_is_malformed: End::Connection, with("x-a", "1\r\nx-b: 2");
    s8_2_1_a_line_feed_in_a_value_is_malformed: End::Connection, with("x-a", "1\nx-b: 2");
    s8_2_1_a_carriage_return_in_a_value_is_malformed: End::Connection, with("x-a", "1\rx-b: 2");
    s8_2_1_nul_in_a_value_is_malformed: End::Connection, with("x-a", "1\0");
    s8_2_1_a_blank_before_a_value_is_malformed: End::Status(400), with("x-a", " 1");
    s8_2_1_a_tab_after_a_value_is_malformed: End::Status(400), with("x-a", "1\t");
    s8_2_2_connection_is_malformed: End::Reset, with("connection", "close");
    s8_2_2_keep_alive_is_malformed: End::Reset, with("keep-alive", "1");
    s8_2_2_proxy_connection_is_malformed: End::Reset, with("proxy-connection", "close");
    s8_2_2_transfer_encoding_is_malformed: End::Reset, with("transfer-encoding", "chunked");
    s8_2_2_upgrade_is_malformed: End::Reset, with("upgrade", "h2c");
    s8_2_2_te_other_than_trailers_is_malformed: End::Reset, with("te", "gzip");
    s8_2_2_te_with_more_than_trailers_is_malformed: End::Reset, with("te", "trailers, chunked");
    s8_3_an_unknown_pseudo_header_is_malformed: End::Connection, with(":shop", "1");
    s8_3_a_pseudo_header_of_answers_is_malformed: End::Reset, with(":status", "200");
    s8_3_a_pseudo_header_after_a_field_is_malformed: End::Reset, {
        let mut all = vec![("x-first", "1")];
        all.extend(fields("GET", "/bad", &[]));
        all
    };
    s8_3_1_a_second_method_is_malformed: End::Reset, {
        let mut all = vec![(":method", "GET")];
        all.extend(fields("GET", "/bad", &[]));
        all
    };
    s8_3_1_a_second_path_is_malformed: End::Reset, {
        let mut all = vec![(":path", "/ok")];
        all.extend(fields("GET", "/bad", &[]));
        all
    };
    s8_3_1_a_second_authority_is_malformed: End::Reset, {
        let mut all = vec![(":authority", "evil.test")];
        all.extend(fields("GET", "/bad", &[]));
        all
    };
    s8_3_1_a_second_scheme_is_malformed: End::Reset, {
        let mut all = vec![(":scheme", "http")];
        all.extend(fields("GET", "/bad", &[]));
        all
    };
    s8_3_1_an_empty_method_is_malformed: End::Malformed, instead(":method", "");
    s8_3_1_a_method_that_is_no_token_is_malformed: End::Malformed, instead(":method", "G(T");
    s8_3_1_a_blank_in_the_method_is_malformed: End::Malformed, instead(":method", "GET /ok");
    s8_3_1_a_nul_in_the_path_is_malformed: End::Malformed, instead(":path", "/bad\0");
    s8_3_1_a_control_byte_in_the_authority_is_malformed: End::Malformed, instead(":authority", "shop\u{1}.test");
    s8_3_1_a_path_in_the_authority_is_malformed: End::Malformed, instead(":authority", "shop.test/ok");
    s8_3_1_a_blank_around_the_path_is_malformed: End::Malformed, instead(":path", "/bad ");
    s8_3_1_a_path_that_is_an_address_is_malformed: End::Malformed, instead(":path", "http://shop.test/bad");
    s8_3_an_upper_case_pseudo_header_is_malformed: End::Malformed, with(":Path", "/bad");
    s8_3_a_pseudo_header_of_nothing_is_malformed: End::Malformed, with(":", "/bad");
    s8_3_1_a_request_without_a_method_is_malformed: End::Reset, without(":method");
    s8_3_1_a_request_without_a_scheme_is_malformed: End::Reset, without(":scheme");
    s8_3_1_a_request_without_a_path_is_malformed: End::Reset, without(":path");
    s8_3_1_an_empty_path_is_malformed: End::Reset, instead(":path", "");
    s8_3_1_an_empty_authority_is_malformed: End::Reset, instead(":authority", "");
    s8_3_1_an_empty_scheme_is_malformed: End::Status(400), instead(":scheme", "");
    s8_3_1_a_path_that_is_none_is_malformed: End::Status(400), instead(":path", "*");
    s8_3_1_a_fragment_in_the_path_is_malformed: End::Connection, instead(":path", "/bad#part");
    s8_3_1_user_information_in_the_authority_is_malformed: End::Status(400), instead(":authority", "me@shop.test");
    s8_3_1_a_host_that_differs_from_the_authority_is_malformed: End::Status(400), with("host", "evil.test");
    s8_3_1_the_scheme_is_that_of_the_connection: End::Status(400), instead(":scheme", "https");
    s8_3_1_another_scheme_is_refused: End::Status(400), instead(":scheme", "gopher");
    s8_3_1_a_line_break_in_the_method_is_malformed: End::Connection, instead(":method", "GET / HTTP/1.1\r\nx: y");
    s8_3_1_a_blank_in_the_path_is_malformed: End::Reset, instead(":path", "/bad HTTP/1.1\r\nx: y");
    s8_3_1_a_byte_above_ascii_in_the_query_is_malformed: End::Status(400), instead(":path", "/bad?\u{e9}");
    s8_3_1_a_line_break_in_the_authority_is_malformed: End::Reset, instead(":authority", "shop.test\r\nx: y");
    s8_1_1_a_signed_content_length_is_malformed: End::Reset, with("content-length", "+0");
    s8_1_1_a_list_of_content_lengths_is_malformed: End::Reset, with("content-length", "0, 0");
    s8_1_1_an_empty_content_length_is_malformed: End::Status(400), with("content-length", "");
    s8_1_1_content_lengths_that_differ_are_malformed: End::Reset, {
        fields("GET", "/bad", &[("content-length", "0"), ("content-length", "1")])
    };
    s8_1_1_a_repeated_content_length_is_malformed: End::Status(400), {
        fields("GET", "/bad", &[("content-length", "0"), ("content-length", "0")])
    };
    s8_1_1_a_content_length_without_content_is_malformed: End::Reset, with("content-length", "5");
    s8_5_connect_is_not_served: End::Status(501), [(":method", "CONNECT"), (":authority", "shop.test:80")];
    s8_5_connect_with_a_path_is_malformed: End::Reset, instead(":method", "CONNECT");
    two_hosts_are_refused: End::Status(400), {
        [(":method", "GET"), (":scheme", "http"), (":path", "/bad"), ("host", "a"), ("host", "b")]
    };
    no_host_at_all_is_refused: End::Status(400), [(":method", "GET"), (":scheme", "http"), (":path", "/bad")];
    rfc8441_a_protocol_without_connect_is_malformed: End::Reset, with(":protocol", "websocket");
}

/// Requests with a field that may be none, each on a connection of its own.
async fn are_malformed(lines: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) {
    let mut scene = Scene::new().await;
    for (name, value) in lines {
        println!("{name:?}: {value:?}");
        let head = literals(&fields("GET", "/bad", &[]));
        let block = [head, raw(&name, &value)].concat();
        scene.wire = Wire::connect(&scene.gate).await;
        let request = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block);
        scene.wire.send(request).await;
        scene.wire.ends_malformed(1).await;
    }
    scene.nothing_else_arrived().await;
}

#[tokio::test]
async fn s8_2_1_each_byte_that_may_not_be_in_a_name_is_malformed() {
    let bytes = (0..=0x20).chain(0x41..=0x5a).chain([0x3a]);
    let bytes = bytes.chain(0x7f..=0xff_u8);
    are_malformed(bytes.map(|byte| (vec![b'x', byte, b'y'], b"1".to_vec()))).await;
}

#[tokio::test]
async fn s8_2_1_names_are_judged_at_both_ends_too() {
    let names: [&[u8]; 6] = [b"X", b"x:", b" x", b"x ", b"x\0", b"\x80"];
    are_malformed(names.map(|name| (name.to_vec(), b"1".to_vec()))).await;
}

#[tokio::test]
async fn s8_2_1_nul_and_line_breaks_are_malformed_wherever_they_are_in_a_value() {
    let bytes = [0, b'\n', b'\r'];
    let values = bytes.into_iter().flat_map(|byte| {
        let places = [vec![byte], vec![byte, b'1'], vec![b'1', byte]];
        places.into_iter().chain([vec![b'1', byte, b'2']])
    });
    are_malformed(values.map(|value| (b"x-it".to_vec(), value))).await;
}

#[tokio::test]
async fn s8_2_1_blanks_around_a_value_are_malformed() {
    let values: [&[u8]; 6] = [b" 1", b"1 ", b"\t1", b"1\t", b" ", b"\t"];
    are_malformed(values.map(|value| (b"x-it".to_vec(), value.to_vec()))).await;
}

/// Trailers with a field that may be none: the request does not come to its end at the origin.
async fn are_malformed_as_trailers(lines: &[(&str, &str)]) {
    let mut scene = Scene::new().await;
    for (name, value) in lines {
        println!("{name:?}: {value:?}");
        scene.wire = Wire::connect(&scene.gate).await;
        let asked = scene.origin.requests("/ok") + 1;
        scene.wire.send(post(1, "/ok", &[])).await;
        scene.origin.until_asked("/ok", asked).await;
        let block = raw(name.as_bytes(), value.as_bytes());
        let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block);
        scene.wire.send([data(1, 0, "x"), trailers].concat()).await;
        scene.wire.ends_malformed(1).await;
        let gauge = "headgate_http_in_flight_requests";
        scene.gate.until(gauge, &[], 0.0).await;
        assert!(!scene.origin.last("/ok").whole);
    }
}

#[tokio::test]
async fn s8_2_1_what_may_not_be_in_a_field_may_not_be_in_trailers() {
    are_malformed_as_trailers(&[
        ("X-Upper", "1"),
        ("x:y", "1"),
        ("x y", "1"),
        ("", "1"),
        ("x-it", "1\0"),
        ("x-it", "1\r\nx-b: 2"),
        ("x-it", "\n1"),
    ])
    .await;
}

#[tokio::test]
async fn s8_2_1_blanks_around_a_value_are_malformed_in_trailers() {
    are_malformed_as_trailers(&[("x-it", " 1"), ("x-it", "1\t")]).await;
}

#[tokio::test]
async fn s8_2_2_fields_of_a_connection_are_malformed_in_trailers() {
    are_malformed_as_trailers(&[
        ("connection", "close"),
        ("keep-alive", "1"),
        ("proxy-connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
    ])
    .await;
}

#[tokio::test]
async fn s8_3_every_pseudo_header_is_malformed_in_trailers() {
    are_malformed_as_trailers(&[
        (":path", "/bad"),
        (":method", "GET"),
        (":status", "200"),
        (":shop", "1"),
        (":protocol", "websocket"),
    ])
    .await;
}

#[tokio::test]
async fn s8_1_1_padding_is_no_content() {
    let mut scene = Scene::new().await;
    let frames = [
        post(1, "/ok", &[("content-length", "4")]),
        data(1, PADDED, b"\x03bo\0\0\0"),
        data(1, PADDED | END_STREAM, b"\x01dy\0"),
    ];
    scene.wire.send(frames.concat()).await;
    scene.wire.answer(1).await.expect(200);
    assert_eq!(scene.origin.last("/ok").body, b"body");
}

/// The request may be answered before its content shows what it is, and is whole at the origin then.
#[tokio::test]
async fn s8_1_1_content_where_none_was_announced_is_malformed() {
    let mut scene = Scene::new().await;
    let none = [("content-length", "0")];
    let frames = [post(1, "/ok", &none), data(1, END_STREAM, "GET /bad")];
    scene.wire.send(frames.concat()).await;
    let end = |wire: &Wire| wire.closed || wire.so_far(1).ended || wire.so_far(1).reset.is_some();
    scene.wire.until("an end", end).await;
    let answer = scene.wire.so_far(1);
    if answer.status != 200 {
        scene.wire.ends_malformed(1).await;
    }
    scene.nothing_else_arrived().await;
    let seen = scene.origin.seen("/ok");
    assert!(seen.iter().all(|seen| seen.body.is_empty()), "{seen:?}");
}

#[tokio::test]
async fn s8_1_1_contents_as_long_as_announced_are_passed_on_with_trailers_and_without() {
    let mut scene = Scene::new().await;
    let five = [("content-length", "5")];
    let trailers = headers(1, END_STREAM, &[("x-sum", "1")]);
    let frames = [post(1, "/ok", &five), data(1, 0, "12345"), trailers];
    scene.wire.send(frames.concat()).await;
    scene.wire.answer(1).await.expect(200);
    assert_eq!(scene.origin.last("/ok").body, b"12345");
    let frames = [post(3, "/ok", &five), data(3, 0, "12"), data(3, 0, "345")];
    scene.wire.send(frames.concat()).await;
    scene.wire.send(data(3, END_STREAM, "")).await;
    scene.wire.answer(3).await.expect(200);
    assert_eq!(scene.origin.last("/ok").body, b"12345");
    let none = get_with(5, "/ok", &[("content-length", "0")]);
    scene.wire.send(none).await;
    scene.wire.answer(5).await.expect(200);
}

#[tokio::test]
async fn too_many_fields_are_refused_cookies_included() {
    let many: Vec<_> = (0..101).map(|_| ("cookie", "a=b")).collect();
    refused(get_with(1, "/bad", &many), End::Status(431)).await;
}

#[tokio::test]
async fn too_many_bytes_of_fields_are_refused() {
    let long = "x".repeat(12_000);
    let block = literals(&fields(
        "GET",
        "/bad",
        &[("a", &long), ("b", &long), ("c", &long)],
    ));
    let (first, rest) = block.split_at(16_000);
    let mut frames = frame(HEADERS, END_STREAM, 1, first);
    let (second, third) = rest.split_at(16_000);
    frames.extend(frame(CONTINUATION, 0, 1, second));
    frames.extend(frame(CONTINUATION, END_HEADERS, 1, third));
    refused(frames, End::Status(431)).await;
}

#[tokio::test]
async fn too_long_a_target_is_refused() {
    let path = format!("/bad/{}", "x".repeat(9000));
    refused(get(1, &path), End::Status(414)).await;
}

/// The body's frames disagree with its head: what was passed on is cut.
async fn cut(length: &str, frames: &[Vec<u8>]) {
    let mut scene = Scene::new().await;
    scene
        .wire
        .send(post(1, "/cut", &[("content-length", length)]))
        .await;
    scene.origin.until_asked("/cut", 1).await;
    scene.wire.send(frames.concat()).await;
    assert_eq!(scene.wire.answer(1).await.reset, Some(PROTOCOL_ERROR));
    scene
        .gate
        .until("headgate_http_in_flight_requests", &[], 0.0)
        .await;
    scene.wire.fetch(3, "/ok").await.expect(200);
    scene.origin.until_open(1).await;
    let seen = scene.origin.seen("/cut");
    assert!(seen.len() == 1 && !seen[0].whole, "{seen:?}");
    assert_ne!(seen[0].connection, scene.origin.last("/ok").connection);
}

#[tokio::test]
async fn s8_1_1_more_data_than_content_length_is_malformed() {
    cut("5", &[data(1, 0, "123"), data(1, END_STREAM, "456")]).await;
}

#[tokio::test]
async fn s8_1_1_less_data_than_content_length_is_malformed() {
    cut("5", &[data(1, 0, "12"), data(1, END_STREAM, "34")]).await;
}

#[tokio::test]
async fn s8_1_1_trailers_before_all_of_content_length_are_malformed() {
    cut(
        "5",
        &[data(1, 0, "12"), headers(1, END_STREAM, &[("x", "y")])],
    )
    .await;
}

#[tokio::test]
async fn s8_1_headers_in_a_body_that_do_not_end_it_are_malformed() {
    cut("5", &[data(1, 0, "12345"), headers(1, 0, &[("x", "y")])]).await;
}

#[tokio::test]
async fn s8_1_pseudo_header_fields_in_trailers_are_malformed() {
    let mut scene = Scene::new().await;
    scene.wire.send(post(1, "/ok", &[])).await;
    scene.origin.until_asked("/ok", 1).await;
    let trailers = headers(1, END_STREAM, &[(":path", "/bad")]);
    scene
        .refuses(&[data(1, 0, "x"), trailers], PROTOCOL_ERROR)
        .await;
    assert!(!scene.origin.seen("/ok")[0].whole);
}

#[tokio::test]
async fn s8_2_3_the_crumbs_of_a_cookie_are_joined() {
    let mut scene = Scene::new().await;
    let crumbs = [("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3; d=4")];
    scene.wire.send(get_with(1, "/ok", &crumbs)).await;
    scene.wire.answer(1).await.expect(200);
    assert_eq!(
        scene.origin.last("/ok").all("cookie"),
        ["a=1; b=2; c=3; d=4"]
    );
}

#[tokio::test]
async fn s8_3_1_the_authority_becomes_host_and_host_does_for_it() {
    let mut scene = Scene::new().await;
    scene
        .wire
        .send(get_with(1, "/ok", &[("host", "SHOP.test")]))
        .await;
    scene.wire.answer(1).await.expect(200);
    assert_eq!(scene.origin.last("/ok").all("host"), ["shop.test"]);
    let host = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/ok"),
        ("host", "other.test"),
    ];
    scene.wire.send(headers(3, END_STREAM, &host)).await;
    scene.wire.answer(3).await.expect(200);
    assert_eq!(scene.origin.last("/ok").all("host"), ["other.test"]);
}

#[tokio::test]
async fn what_reaches_the_origin_is_one_request_of_http_1_1() {
    let mut scene = Scene::new().await;
    let odd = [
        ("x-odd", "a: b; c=\"d\" \u{e4}"),
        ("te", "trailers"),
        ("x-empty", ""),
    ];
    scene.wire.send(get_with(1, "/ok?a=b%20c", &odd)).await;
    scene.wire.answer(1).await.expect(200);
    let seen = scene.origin.last("/ok");
    assert_eq!(
        (seen.target.as_str(), seen.version.as_str()),
        ("/ok?a=b%20c", "HTTP/1.1")
    );
    assert_eq!(seen.header("x-odd"), Some("a: b; c=\"d\" \u{e4}"));
    assert_eq!(seen.header("x-empty"), Some(""));
    assert_eq!(scene.origin.requests("*"), 1);
}

#[tokio::test]
async fn the_cache_answers_both_versions_with_one_stored_answer() {
    let origin = Origin::start("a").await.on("/p", |_| {
        Reply::ok("stored").header("cache-control", "max-age=60")
    });
    let gate = crate::harness::Gate::start(&crate::harness::Config::cached(&[&origin])).await;
    let mut wire = Wire::connect(&gate).await;
    assert_eq!(wire.fetch(1, "/p").await.expect(200).text(), "stored");
    assert!(gate.get("/p").await.expect(200).is_hit());
    let hit = wire.fetch(3, "/p").await.expect(200);
    assert!(
        hit.header("cache-status")
            .unwrap()
            .starts_with("headgate; hit")
    );
    assert_eq!(hit.header("content-length"), Some("6"));
    assert_eq!(origin.requests("/p"), 1);
}
