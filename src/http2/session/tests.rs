//! Frames by hand, byte by byte, and what comes back.

use std::task::Poll;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::{HeaderMap, HeaderValue};

use super::super::frame::{HEAD, Head, LARGEST, PREFACE, flag, kind};
use super::*;

const TERMS: Terms = Terms {
    streams: 20,
    resets: 5,
    stream_window: 1000,
    connection_window: 100_000,
    bounds: Bounds {
        fields: 10,
        bytes: 1000,
        target: 100,
    },
    scheme: "https",
};
const EXTRAS: Extras<'_> = Extras {
    date: b"today",
    length: None,
};

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = payload.len();
    let head = Head {
        length,
        kind,
        flags,
        stream,
    };
    [&head.bytes()[..], payload].concat()
}

fn settings() -> Vec<u8> {
    frame(kind::SETTINGS, 0, 0, &[])
}

/// `GET https://a/`, ended.
fn get(stream: u32) -> Vec<u8> {
    let flags = flag::END_HEADERS | flag::END_STREAM;
    frame(kind::HEADERS, flags, stream, b"\x82\x84\x87\x41\x01a")
}

/// Like `get` with a body to come.
fn post(stream: u32) -> Vec<u8> {
    frame(
        kind::HEADERS,
        flag::END_HEADERS,
        stream,
        b"\x83\x84\x87\x41\x01a",
    )
}

fn reset(stream: u32) -> Vec<u8> {
    frame(kind::RST_STREAM, 0, stream, &[0, 0, 0, 8])
}

fn window(stream: u32, more: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

fn take(session: &mut Session, bytes: &[u8]) -> Check {
    session.take(bytes, &mut BytesMut::new())
}

/// A connection whose opening is over, and nothing to be written.
fn begun() -> Session {
    let mut session = Session::new(TERMS);
    take(&mut session, PREFACE).unwrap();
    take(&mut session, &settings()).unwrap();
    let length = session.out().len();
    session.out().advance(length);
    session
}

/// Writes everything, and says which frames that were.
fn sent(session: &mut Session) -> Vec<(Head, Vec<u8>)> {
    let mut bytes = Vec::new();
    while !session.out().is_empty() {
        let slices = session.out().slices().map(|slice| slice.to_vec());
        let all = slices.concat();
        bytes.extend(&all);
        session.wrote(all.len());
        session.fill();
    }
    let mut frames = Vec::new();
    let mut rest = &bytes[..];
    while let Some((head, tail)) = rest.split_first_chunk::<HEAD>() {
        let head = Head::parse(*head);
        assert!(head.length <= LARGEST);
        frames.push((head, tail[..head.length].to_vec()));
        rest = &tail[head.length..];
    }
    assert!(rest.is_empty());
    frames
}

fn kinds(frames: &[(Head, Vec<u8>)]) -> Vec<(u8, u32)> {
    frames
        .iter()
        .map(|(head, _)| (head.kind, head.stream))
        .collect()
}

/// Bytes of content on a stream.
fn content(frames: &[(Head, Vec<u8>)], stream: u32) -> usize {
    let data = frames.iter().filter(|(head, _)| head.kind == kind::DATA);
    data.filter(|(head, _)| head.stream == stream)
        .map(|(_, payload)| payload.len())
        .sum()
}

/// What comes of these frames, whether they come at once or byte by byte.
#[track_caller]
fn outcome(frames: &[Vec<u8>]) -> Result<(), (Code, Option<Flood>)> {
    let all = frames.concat();
    let told = |violation: Violation| (violation.code, violation.flood);
    let mut session = begun();
    let at_once = take(&mut session, &all).map_err(told);
    let said = kinds(&sent(&mut session));
    let mut session = begun();
    let mut bytes = all.iter();
    let dripping = bytes.try_for_each(|byte| take(&mut session, &[*byte]));
    assert_eq!(at_once, dripping.map_err(told));
    assert_eq!(said, kinds(&sent(&mut session)));
    at_once
}

fn ask(session: &mut Session, bytes: &[u8]) -> Key {
    take(session, bytes).unwrap();
    session.next_request().unwrap().0
}

fn answer(session: &mut Session, key: Key) {
    let headers = HeaderMap::new();
    let state = session.answer(key, (StatusCode::OK, &headers), EXTRAS, |_| false, false);
    assert_eq!(state, State::Hungry);
}

fn read(session: &mut Session, key: Key) -> Poll<Piece> {
    let cx = std::task::Context::from_waker(std::task::Waker::noop());
    session.read(key, &cx)
}

#[test]
fn requests_bodies_and_trailers_pass_in_any_pieces() {
    let trailers = frame(
        kind::HEADERS,
        flag::END_HEADERS | flag::END_STREAM,
        3,
        b"\x00\x01x\x01y",
    );
    let padded = frame(
        kind::HEADERS,
        flag::END_HEADERS | flag::PADDED | flag::PRIORITY,
        5,
        b"\x02\x00\x00\x00\x00\x10\x82\x84\x87\x41\x01a\x00\x00",
    );
    let first = frame(kind::HEADERS, flag::END_STREAM, 7, b"\x82\x84\x87");
    let rest = frame(kind::CONTINUATION, flag::END_HEADERS, 7, b"\x41\x01a");
    let frames = [
        get(1),
        post(3),
        frame(kind::DATA, 0, 3, b"some"),
        frame(kind::DATA, flag::PADDED, 3, b"\x02more\0\0"),
        trailers,
        padded,
        frame(kind::DATA, flag::END_STREAM, 5, b""),
        first,
        rest,
        frame(kind::PING, 0, 0, &[0; 8]),
        frame(0x20, 0xff, 9, b"unknown"),
        get(101),
    ];
    assert_eq!(outcome(&frames), Ok(()));
    let mut session = begun();
    take(&mut session, &frames.concat()).unwrap();
    let mut keys = Vec::new();
    while let Some((key, asked)) = session.next_request() {
        assert_eq!(
            (asked.fault, asked.follows),
            (None, matches!(key.id, 3 | 5))
        );
        keys.push(key);
    }
    assert_eq!(
        keys.iter().map(|key| key.id).collect::<Vec<_>>(),
        [1, 3, 5, 7, 101]
    );
    let Poll::Ready(Piece::Data(data)) = read(&mut session, keys[1]) else {
        panic!("no data");
    };
    assert_eq!(data, "somemore");
    assert!(matches!(
        read(&mut session, keys[1]),
        Poll::Ready(Piece::Trailers(map)) if map["x"] == "y"
    ));
    for key in [keys[0], keys[1], keys[2]] {
        assert!(matches!(read(&mut session, key), Poll::Ready(Piece::End)));
        assert!(session.is_read(key));
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn each_fault_has_its_code() {
    use Code::{Compression, EnhanceYourCalm, FlowControl, FrameSize, Protocol, StreamClosed};
    let pseudo = frame(
        kind::HEADERS,
        flag::END_HEADERS | flag::END_STREAM,
        1,
        b"\x82",
    );
    let pad = |kind| frame(kind, flag::PADDED | flag::END_HEADERS, 1, b"\x05\x82");
    let cases: &[(&str, Vec<Vec<u8>>, Code)] = &[
        (
            "too large",
            vec![frame(kind::DATA, 0, 1, &vec![0; 16_385])],
            FrameSize,
        ),
        (
            "ping of 7",
            vec![frame(kind::PING, 0, 0, &[0; 7])],
            FrameSize,
        ),
        (
            "settings of 5",
            vec![frame(kind::SETTINGS, 0, 0, &[0; 5])],
            FrameSize,
        ),
        (
            "settings ack of 6",
            vec![frame(kind::SETTINGS, flag::ACK, 0, &[0; 6])],
            FrameSize,
        ),
        (
            "reset of 5",
            vec![get(1), frame(kind::RST_STREAM, 0, 1, &[0; 5])],
            FrameSize,
        ),
        (
            "priority of 4",
            vec![frame(kind::PRIORITY, 0, 1, &[0; 4])],
            FrameSize,
        ),
        (
            "padding without a length",
            vec![post(1), frame(kind::DATA, flag::PADDED, 1, b"")],
            FrameSize,
        ),
        (
            "padding beyond the payload",
            vec![pad(kind::HEADERS)],
            Protocol,
        ),
        (
            "ping on a stream",
            vec![frame(kind::PING, 0, 1, &[0; 8])],
            Protocol,
        ),
        (
            "a push",
            vec![frame(kind::PUSH_PROMISE, flag::END_HEADERS, 1, &[0; 8])],
            Protocol,
        ),
        (
            "continuation alone",
            vec![frame(kind::CONTINUATION, flag::END_HEADERS, 1, b"")],
            Protocol,
        ),
        (
            "a block cut",
            vec![frame(kind::HEADERS, 0, 1, b"\x82"), settings()],
            Protocol,
        ),
        ("an even stream", vec![get(2)], Protocol),
        ("a lower stream", vec![get(5), get(3)], Protocol),
        ("data idle", vec![frame(kind::DATA, 0, 1, b"x")], Protocol),
        (
            "data after the end",
            vec![get(1), frame(kind::DATA, 0, 1, b"x")],
            StreamClosed,
        ),
        ("headers after the end", vec![get(1), get(1)], StreamClosed),
        (
            "data after a reset",
            vec![
                post(1),
                frame(kind::RST_STREAM, 0, 1, &[0; 4]),
                frame(kind::DATA, 0, 1, b"x"),
            ],
            StreamClosed,
        ),
        ("pseudo in trailers", vec![post(1), pseudo], Protocol),
        (
            "no such entry",
            vec![frame(kind::HEADERS, flag::END_HEADERS, 1, b"\xff\x7f")],
            Compression,
        ),
        (
            "a window",
            vec![frame(kind::SETTINGS, 0, 0, b"\x00\x04\x80\x00\x00\x00")],
            FlowControl,
        ),
        (
            "push 2",
            vec![frame(kind::SETTINGS, 0, 0, b"\x00\x02\x00\x00\x00\x02")],
            Protocol,
        ),
        (
            "frame size 1",
            vec![frame(kind::SETTINGS, 0, 0, b"\x00\x05\x00\x00\x00\x01")],
            Protocol,
        ),
        (
            "fragment",
            vec![frame(kind::HEADERS, flag::END_HEADERS, 1, b"\x04\x02/#")],
            Protocol,
        ),
        (
            "many fields",
            vec![frame(kind::HEADERS, flag::END_HEADERS, 1, &[0x82; 21])],
            EnhanceYourCalm,
        ),
    ];
    for (what, frames, code) in cases {
        let got = outcome(frames).map_err(|(code, _)| code);
        assert_eq!(got, Err(*code), "{what}");
    }
}

#[test]
fn the_first_frame_is_settings_and_the_preface_is_whole() {
    for (bytes, good) in [
        ([&PREFACE[..], &get(1)].concat(), false),
        (
            [&PREFACE[..], &frame(kind::SETTINGS, flag::ACK, 0, &[])].concat(),
            false,
        ),
        (b"PRI * HTTP/2.0\r\n\r\nSN\r\n\r\n".to_vec(), false),
        ([&PREFACE[..], &settings()].concat(), true),
    ] {
        let mut session = Session::new(TERMS);
        assert_eq!(session.wait(), Wait::Opening);
        assert_eq!(take(&mut session, &bytes).is_ok(), good);
        assert_eq!(session.wait() == Wait::Request, good);
    }
    let mut session = Session::new(TERMS);
    let frames = sent(&mut session);
    assert_eq!(
        kinds(&frames),
        [(kind::SETTINGS, 0), (kind::WINDOW_UPDATE, 0)]
    );
    assert_eq!(frames[1].1, (100_000_u32 - 65_535).to_be_bytes());
}

#[test]
fn floods_are_named_and_a_new_window_forgives() {
    let kinds = [
        (Flood::Ping, frame(kind::PING, 0, 0, &[0; 8]), 500),
        (Flood::Settings, settings(), 49),
        (
            Flood::Priority,
            frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 3, 0]),
            1000,
        ),
        (
            Flood::WindowUpdate,
            frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
            1000,
        ),
        (Flood::Unknown, frame(0x42, 0, 0, b"x"), 200),
    ];
    for (flood, frame, limit) in kinds {
        let mut session = begun();
        for count in 0..limit {
            assert!(take(&mut session, &frame).is_ok(), "{flood:?} {count}");
        }
        let violation = take(&mut session, &frame).unwrap_err();
        assert_eq!(
            (violation.code, violation.flood),
            (Code::EnhanceYourCalm, Some(flood))
        );
        let mut session = begun();
        for _ in 0..limit * 3 {
            session.next_window();
            take(&mut session, &frame).unwrap();
        }
    }
}

#[test]
fn requests_taken_back_are_counted_against_those_that_are_not() {
    let mut session = begun();
    let mut stream = 1;
    for _ in 0..5 {
        take(&mut session, &[get(stream), reset(stream)].concat()).unwrap();
        stream += 2;
    }
    assert!(take(&mut session, &[get(stream), reset(stream)].concat()).is_err());

    let mut session = begun();
    let mut stream = 1;
    for round in 0..1000 {
        let key = ask(&mut session, &get(stream));
        if round % 12 == 11 {
            take(&mut session, &reset(stream)).unwrap();
            assert_eq!(session.next_gone(), Some(key));
            assert_eq!(session.state(key), State::Gone);
        } else {
            session.over(key);
        }
        stream += 2;
    }
    assert_eq!(session.endings().resets_received, 83);
    assert_eq!(session.open_streams(), 0);
}

/// CVE-2025-8671: whatever makes Headgate reset a stream is counted; that there are too many is not.
#[test]
fn streams_that_have_to_be_reset_are_counted_against_the_client() {
    let bad = |stream| [get(stream), window(stream, 0x7fff_ffff)].concat();
    let mut session = begun();
    for stream in [1, 3, 5, 7, 9] {
        take(&mut session, &bad(stream)).unwrap();
    }
    let violation = take(&mut session, &bad(11)).unwrap_err();
    assert_eq!(violation.flood, Some(Flood::ProvokedReset));
    let mut session = begun();
    for stream in 0..40 {
        take(&mut session, &get(stream * 2 + 1)).unwrap();
    }
    assert_eq!(session.open_streams(), 20);
    let refused = sent(&mut session);
    assert_eq!(refused.len(), 20);
    assert!(refused.iter().all(|(head, payload)| {
        head.kind == kind::RST_STREAM && payload[3] == Code::RefusedStream as u8
    }));
}

#[test]
fn empty_data_and_continuation_have_their_bounds() {
    let mut frames = vec![post(1)];
    frames.extend(vec![frame(kind::DATA, 0, 1, b""); 101]);
    let calm = |flood| Err((Code::EnhanceYourCalm, Some(flood)));
    assert_eq!(outcome(&frames), calm(Flood::EmptyData));
    let mut frames = vec![frame(kind::HEADERS, 0, 1, b"\x82")];
    frames.extend(vec![frame(kind::CONTINUATION, 0, 1, b""); 6]);
    assert_eq!(outcome(&frames), calm(Flood::Continuation));
    let frames = [
        frame(kind::HEADERS, 0, 1, b"\x82"),
        frame(kind::CONTINUATION, 0, 1, &[0; 2000]),
    ];
    assert_eq!(outcome(&frames), calm(Flood::Continuation));
}

#[test]
fn an_open_block_is_known_until_it_is_whole() {
    let mut session = begun();
    assert_eq!(session.wait(), Wait::Request);
    take(&mut session, &frame(kind::HEADERS, 0, 1, b"\x82")).unwrap();
    let first = session.wait();
    assert!(matches!(first, Wait::Block(_)));
    let rest = frame(kind::CONTINUATION, flag::END_HEADERS, 1, b"\x84");
    take(&mut session, &rest[..5]).unwrap();
    assert_eq!(session.wait(), first);
    take(&mut session, &rest[5..]).unwrap();
    assert_eq!(session.wait(), Wait::Request);
    take(&mut session, &frame(kind::HEADERS, 0, 3, b"\x82")[..10 - 1]).unwrap();
    assert!(matches!(session.wait(), Wait::Block(_)));
    assert_ne!(session.wait(), first);
}

#[test]
fn streams_take_turns_and_a_closed_window_holds_back_its_own_stream_alone() {
    let mut session = begun();
    take(&mut session, &window(0, 1 << 20)).unwrap();
    let keys = [1, 3, 5].map(|stream| ask(&mut session, &get(stream)));
    for key in keys {
        answer(&mut session, key);
    }
    sent(&mut session);
    take(
        &mut session,
        &[window(1, 1 << 20), window(3, 1 << 20)].concat(),
    )
    .unwrap();
    let large = Bytes::from(vec![b'x'; 100_000]);
    for key in keys {
        session.offer(key, large.clone(), true);
    }
    assert_eq!(session.state(keys[0]), State::Busy);
    let frames = sent(&mut session);
    // The third has what the protocol gives it, and waits.
    assert_eq!(content(&frames, 1), 100_000);
    assert_eq!(content(&frames, 3), 100_000);
    assert_eq!(content(&frames, 5), 65_535);
    assert_eq!(session.state(keys[2]), State::Stalled);
    assert_eq!(session.sent(keys[2]), 65_535);
    let mut last = 0;
    for (head, _) in frames.iter().skip(1).take(9) {
        assert_ne!(head.stream, last, "nobody sends twice in a row");
        last = head.stream;
    }
    take(&mut session, &window(5, 100_000)).unwrap();
    session.fill();
    let frames = sent(&mut session);
    assert_eq!(content(&frames, 5), 100_000 - 65_535);
    assert!(frames.last().unwrap().0.has(flag::END_STREAM));
    let mut hungry = Vec::new();
    while let Some(key) = session.next_hungry() {
        // The fifth was told of twice: when its window closed, and now.
        let known = hungry.contains(&key.id);
        let state = if known { State::Gone } else { State::Done };
        assert_eq!(session.state(key), state);
        session.over(key);
        hungry.push(key.id);
    }
    assert!(hungry.contains(&5));
    assert_eq!(session.endings().resets_sent, 0);
}

#[test]
fn when_the_window_of_the_connection_closes_all_that_wait_are_told() {
    let mut session = begun();
    let keys = [1, 3].map(|stream| ask(&mut session, &get(stream)));
    for key in keys {
        answer(&mut session, key);
        session.offer(key, Bytes::from(vec![b'x'; 60_000]), false);
    }
    let frames = sent(&mut session);
    assert_eq!(content(&frames, 1) + content(&frames, 3), 65_535);
    let mut told = Vec::new();
    while let Some(key) = session.next_hungry() {
        told.push((key.id, session.state(key)));
    }
    assert!(told.contains(&(3, State::Stalled)), "{told:?}");
    take(&mut session, &window(0, 200_000)).unwrap();
    assert!(session.can_fill());
    session.fill();
    let frames = sent(&mut session);
    assert_eq!(content(&frames, 1) + content(&frames, 3), 120_000 - 65_535);
    for key in keys {
        assert_eq!(session.state(key), State::Hungry);
        session.finish(key, None);
    }
}

#[test]
fn window_is_given_back_for_what_was_read_and_for_what_nobody_reads() {
    let mut session = begun();
    let key = ask(&mut session, &post(1));
    take(&mut session, &frame(kind::DATA, 0, 1, &[7; 400])).unwrap();
    assert!(sent(&mut session).is_empty(), "nobody has read it");
    assert!(matches!(read(&mut session, key), Poll::Ready(Piece::Data(it)) if it.len() == 400));
    assert!(sent(&mut session).is_empty(), "it is not worth a frame");
    take(
        &mut session,
        &frame(kind::DATA, flag::PADDED, 1, &[99; 200]),
    )
    .unwrap();
    // Padding is nobody's to read.
    let update = sent(&mut session);
    assert_eq!(kinds(&update), [(kind::WINDOW_UPDATE, 1)]);
    assert_eq!(update[0].1, 500_u32.to_be_bytes());
    // 500 of the 600 were given back.
    take(&mut session, &frame(kind::DATA, 0, 1, &[7; 900])).unwrap();
    assert_eq!(session.endings().resets_sent, 0);
    take(&mut session, &frame(kind::DATA, 0, 1, &[7])).unwrap();
    let cut = sent(&mut session);
    assert_eq!(kinds(&cut), [(kind::RST_STREAM, 1)]);
    assert_eq!(cut[0].1[3], Code::FlowControl as u8);
    assert!(matches!(read(&mut session, key), Poll::Ready(Piece::Gone)));

    let mut session = Session::new(Terms {
        connection_window: 1000,
        stream_window: 1000,
        ..TERMS
    });
    take(&mut session, &[&PREFACE[..], &settings()].concat()).unwrap();
    sent(&mut session);
    let mut came = 0;
    for stream in 0..200 {
        let key = ask(&mut session, &post(stream * 2 + 1));
        session.forget(key);
        for _ in 0..9 {
            take(&mut session, &frame(kind::DATA, 0, key.id, &[7; 100])).unwrap();
            came += 100;
        }
        session.over(key);
        // What comes late is for nobody, and given back all the same.
        take(&mut session, &frame(kind::DATA, 0, key.id, &[7; 100])).unwrap();
        came += 100;
    }
    assert!(came > 65_535 * 2, "more than a client has without updates");
}

#[test]
fn content_that_disagrees_with_its_length_is_reset() {
    let told = frame(
        kind::HEADERS,
        flag::END_HEADERS,
        1,
        b"\x83\x84\x87\x41\x01a\x0f\x0d\x015",
    );
    let data = |flags, length: usize| frame(kind::DATA, flags, 1, &vec![b'x'; length]);
    for frames in [
        vec![told.clone(), data(0, 6)],
        vec![told.clone(), data(0, 2), data(0, 4)],
        vec![told.clone(), data(flag::END_STREAM, 4)],
        vec![told.clone(), data(flag::END_STREAM, 0)],
    ] {
        let mut session = begun();
        take(&mut session, &frames.concat()).unwrap();
        let frames = sent(&mut session);
        assert_eq!(kinds(&frames), [(kind::RST_STREAM, 1)]);
        assert_eq!(frames[0].1[3], Code::Protocol as u8);
    }
    let mut session = begun();
    take(
        &mut session,
        &[told, data(0, 3), data(flag::END_STREAM, 2)].concat(),
    )
    .unwrap();
    assert!(sent(&mut session).is_empty());
}

#[test]
fn nothing_is_said_on_a_stream_that_is_gone_or_answered() {
    let mut session = begun();
    let hints = StatusCode::from_u16(103).unwrap();
    let none = HeaderMap::new();
    let key = ask(&mut session, &get(1));
    assert!(session.inform(key, hints, &none));
    take(&mut session, &reset(1)).unwrap();
    assert!(!session.inform(key, hints, &none));
    assert_eq!(
        session.answer(key, (StatusCode::OK, &none), EXTRAS, |_| false, true),
        State::Gone
    );
    assert_eq!(
        session.offer(key, Bytes::from_static(b"x"), true),
        State::Gone
    );
    assert_eq!(kinds(&sent(&mut session)), [(kind::HEADERS, 1)]);
    let key = ask(&mut session, &get(3));
    answer(&mut session, key);
    assert!(!session.inform(key, hints, &none));
    session.end(Code::No);
    assert!(!session.inform(key, hints, &none));
    assert_eq!(
        kinds(&sent(&mut session)),
        [(kind::HEADERS, 3), (kind::GOAWAY, 0)]
    );
}

#[test]
fn a_head_that_is_larger_than_a_frame_goes_on_in_continuation() {
    let mut session = begun();
    let key = ask(&mut session, &get(1));
    let mut headers = HeaderMap::new();
    for length in [10_000, 20_000] {
        let value = HeaderValue::from_str(&"v".repeat(length)).unwrap();
        headers.append("x-long", value);
    }
    headers.insert("connection", HeaderValue::from_static("close"));
    session.answer(key, (StatusCode::OK, &headers), EXTRAS, |_| false, true);
    let frames = sent(&mut session);
    assert_eq!(
        kinds(&frames),
        [(kind::HEADERS, 1), (kind::CONTINUATION, 1)]
    );
    assert!(frames[0].0.has(flag::END_STREAM) && !frames[0].0.has(flag::END_HEADERS));
    assert!(frames[1].0.has(flag::END_HEADERS));
    let length = frames[0].1.len() + frames[1].1.len();
    assert!((30_000..30_100).contains(&length), "{length}");
}

#[test]
fn a_drain_lets_open_streams_end_and_looks_at_none_that_come_later() {
    let mut session = begun();
    let key = ask(&mut session, &get(1));
    session.warn();
    let frames = sent(&mut session);
    assert_eq!(kinds(&frames), [(kind::GOAWAY, 0), (kind::PING, 0)]);
    let late = ask(&mut session, &get(3));
    assert!(!session.is_heard());
    take(&mut session, &frame(kind::PING, flag::ACK, 0, &frames[1].1)).unwrap();
    assert!(session.is_heard());
    session.close();
    let frames = sent(&mut session);
    assert_eq!(frames[0].1, [0, 0, 0, 3, 0, 0, 0, 0]);
    take(&mut session, &get(5)).unwrap();
    assert!(session.next_request().is_none());
    for key in [key, late] {
        answer(&mut session, key);
        assert_eq!(session.finish(key, None), State::Done);
        session.over(key);
    }
    assert_eq!(session.open_streams(), 0);
}

/// Valid frames, faulty ones and noise, cut anywhere, with an owner that answers, reads and forgets at
/// random. Nothing panics, and nothing outgrows its bound.
#[test]
fn any_client_is_borne_within_the_bounds() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..600 {
        let bytes: Vec<u8> = (0..random.usize(1..60))
            .flat_map(|_| any(&mut random))
            .collect();
        let choices: Vec<u8> = (0..400).map(|_| random.u8(..)).collect();
        trial::run(TERMS, &bytes, &choices);
    }
}

/// A frame or a mutation of one.
fn any(random: &mut fastrand::Rng) -> Vec<u8> {
    let stream = random.u32(..12) * 2 + 1;
    let flags = [0, 1, 4, 5, 8, 9, 0x0c, 0x2c, 0xff][random.usize(..9)];
    let length = random.usize(..60);
    let noise: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
    let mut bytes = match random.u8(..14) {
        0..=3 => get(stream),
        4..=5 => post(stream),
        6 => frame(kind::DATA, flags & 9, stream, &noise),
        7 => frame(kind::DATA, 0, stream, &vec![b'x'; random.usize(..1200)]),
        8 => window(random.u32(..2) * stream, random.u32(..1 << 20)),
        9 => reset(stream),
        10 => {
            let value = random.u32(..1 << 18).to_be_bytes();
            let pair = [&[0, random.u8(1..9)][..], &value].concat();
            frame(kind::SETTINGS, 0, 0, &pair)
        }
        11 => frame(kind::HEADERS, flags, stream, &noise),
        12 => frame(random.u8(..12), flags, random.u32(..8), &noise),
        _ => noise,
    };
    if random.u8(..8) == 0 && !bytes.is_empty() {
        let at = random.usize(..bytes.len());
        bytes[at] ^= 1 << random.u8(..8);
    }
    bytes
}
