//! Frames by hand, byte by byte.

use super::*;

const BOUNDS: Bounds = Bounds {
    fields: 10,
    bytes: 1000,
    resets: 5,
};

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

fn settings() -> Vec<u8> {
    frame(kind::SETTINGS, 0, 0, &[])
}

/// `GET https://a/`, ended.
fn get(stream: u32) -> Vec<u8> {
    frame(
        kind::HEADERS,
        END_HEADERS | END_STREAM,
        stream,
        b"\x82\x84\x87\x41\x01a",
    )
}

/// Like `get` with a body to come.
fn post(stream: u32) -> Vec<u8> {
    frame(kind::HEADERS, END_HEADERS, stream, b"\x83\x84\x87\x41\x01a")
}

fn begun() -> Walk {
    let mut walk = Walk::new(BOUNDS);
    walk.take(PREFACE).unwrap();
    walk.take(&settings()).unwrap();
    walk
}

/// What comes of these frames, whether they come at once or byte by byte.
#[track_caller]
fn outcome(frames: &[Vec<u8>]) -> Result<(), (Code, Option<Flood>)> {
    let all = frames.concat();
    let mut walk = begun();
    let at_once = walk.take(&all).map_err(|(_, it)| (it.code, it.flood));
    let mut walk = begun();
    let dripping = all
        .iter()
        .try_for_each(|byte| walk.take(&[*byte]))
        .map_err(|(good, it)| {
            assert_eq!(good, 0, "a faulty frame was let through");
            (it.code, it.flood)
        });
    assert_eq!(at_once, dripping);
    at_once
}

#[test]
fn requests_bodies_and_trailers_pass_in_any_pieces() {
    let trailers = frame(
        kind::HEADERS,
        END_HEADERS | END_STREAM,
        3,
        b"\x00\x01x\x01y",
    );
    let padded = frame(
        kind::HEADERS,
        END_HEADERS | PADDED | PRIORITY,
        5,
        b"\x02\x00\x00\x00\x00\x10\x82\x84\x87\x41\x01a\x00\x00",
    );
    let first = frame(kind::HEADERS, END_STREAM, 7, b"\x82\x84\x87");
    let rest = frame(kind::CONTINUATION, END_HEADERS, 7, b"\x41\x01a");
    let frames = [
        get(1),
        post(3),
        frame(kind::DATA, 0, 3, b"some"),
        trailers,
        padded,
        frame(kind::DATA, END_STREAM, 5, b""),
        first,
        rest,
        frame(kind::PING, 0, 0, &[0; 8]),
        frame(0x20, 0xff, 9, b"unknown"),
        get(101),
    ];
    assert_eq!(outcome(&frames), Ok(()));
}

#[test]
fn each_fault_has_its_code() {
    use Code::{Compression, EnhanceYourCalm, FlowControl, FrameSize, Protocol, StreamClosed};
    let pseudo = frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, b"\x82");
    let pad = |kind| frame(kind, PADDED | END_HEADERS, 1, b"\x05\x82");
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
            vec![frame(kind::SETTINGS, ACK, 0, &[0; 6])],
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
            vec![post(1), frame(kind::DATA, PADDED, 1, b"")],
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
            vec![frame(kind::PUSH_PROMISE, END_HEADERS, 1, &[0; 8])],
            Protocol,
        ),
        (
            "continuation alone",
            vec![frame(kind::CONTINUATION, END_HEADERS, 1, b"")],
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
            vec![frame(kind::HEADERS, END_HEADERS, 1, b"\xff\x7f")],
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
            vec![frame(kind::HEADERS, END_HEADERS, 1, b"\x04\x02/#")],
            Protocol,
        ),
        (
            "many fields",
            vec![frame(kind::HEADERS, END_HEADERS, 1, &[0x82; 21])],
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
            [&PREFACE[..], &frame(kind::SETTINGS, ACK, 0, &[])].concat(),
            false,
        ),
        (b"PRI * HTTP/2.0\r\n\r\nSN\r\n\r\n".to_vec(), false),
        ([&PREFACE[..], &settings()].concat(), true),
    ] {
        let mut walk = Walk::new(BOUNDS);
        assert_eq!(walk.take(&bytes).is_ok(), good);
        assert_eq!(walk.is_settled(), good);
    }
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
        let mut walk = begun();
        for count in 0..limit {
            assert!(walk.take(&frame).is_ok(), "{flood:?} {count}");
        }
        let (_, violation) = walk.take(&frame).unwrap_err();
        assert_eq!(
            (violation.code, violation.flood),
            (Code::EnhanceYourCalm, Some(flood))
        );
        let mut walk = begun();
        for _ in 0..limit * 3 {
            walk.next_window();
            walk.take(&frame).unwrap();
        }
    }
}

#[test]
fn requests_taken_back_are_counted_against_those_that_are_not() {
    let mut walk = begun();
    let reset = |stream| frame(kind::RST_STREAM, 0, stream, &[0, 0, 0, 8]);
    let mut stream = 1;
    for _ in 0..5 {
        walk.take(&[get(stream), reset(stream)].concat()).unwrap();
        stream += 2;
    }
    assert!(walk.take(&[get(stream), reset(stream)].concat()).is_err());

    let mut walk = begun();
    let mut stream = 1;
    for round in 0..1000 {
        let mut bytes = get(stream);
        if round % 12 == 11 {
            bytes.extend(reset(stream));
        }
        walk.take(&bytes).unwrap();
        stream += 2;
    }
    assert_eq!(walk.resets(), 83);
}

#[test]
fn empty_data_and_continuation_have_their_bounds() {
    let mut frames = vec![post(1)];
    frames.extend(vec![frame(kind::DATA, 0, 1, b""); 101]);
    let calm = |flood| Err((Code::EnhanceYourCalm, Some(flood)));
    assert_eq!(outcome(&frames), calm(Flood::EmptyData));
    let mut frames = vec![frame(kind::HEADERS, 0, 1, b"\x82")];
    frames.extend(vec![frame(kind::CONTINUATION, 0, 1, b""); 9]);
    assert_eq!(outcome(&frames), calm(Flood::Continuation));
    let frames = [
        frame(kind::HEADERS, 0, 1, b"\x82"),
        frame(kind::CONTINUATION, 0, 1, &[0; 2000]),
    ];
    assert_eq!(outcome(&frames), calm(Flood::Continuation));
}

#[test]
fn an_open_block_is_known_until_it_is_whole() {
    let mut walk = begun();
    assert_eq!(walk.open_block(), None);
    walk.take(&frame(kind::HEADERS, 0, 1, b"\x82")).unwrap();
    let first = walk.open_block();
    assert!(first.is_some());
    let rest = frame(kind::CONTINUATION, END_HEADERS, 1, b"\x84");
    walk.take(&rest[..5]).unwrap();
    assert_eq!(walk.open_block(), first);
    walk.take(&rest[5..]).unwrap();
    assert_eq!(walk.open_block(), None);
    walk.take(&frame(kind::HEADERS, 0, 3, b"")).unwrap();
    assert_ne!(walk.open_block(), first);
}

#[test]
fn what_ends_a_stream_or_a_connection_is_seen_among_what_goes_out() {
    let frames = [
        settings(),
        frame(kind::DATA, 0, 1, &[7; 300]),
        frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, 8]),
        frame(kind::PING, ACK, 0, &[3; 8]),
        frame(
            kind::GOAWAY,
            0,
            0,
            &[0, 0, 0, 1, 0, 0, 0, 11, b'w', b'h', b'y'],
        ),
        frame(kind::RST_STREAM, 0, 3, &[0, 0, 0, 1]),
    ]
    .concat();
    let expected = [Ending::Stream(8), Ending::Connection(11), Ending::Stream(1)];
    for size in [1, 2, 7, 13, 300, frames.len()] {
        let (mut tally, mut seen) = (Tally::default(), Vec::new());
        for piece in frames.chunks(size) {
            tally.take(piece, |ending| seen.push(ending));
        }
        assert_eq!(seen, expected, "in pieces of {size}");
    }
}

#[test]
fn any_bytes_are_walked_without_a_panic() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..2000 {
        let mut walk = begun();
        for _ in 0..20 {
            let kind = random.u8(..11);
            let length = random.usize(..40);
            let payload: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
            let bytes = frame(kind, random.u8(..), random.u32(..8), &payload);
            let cut = random.usize(..=bytes.len());
            if walk.take(&bytes[..cut]).is_err() || walk.take(&bytes[cut..]).is_err() {
                break;
            }
        }
    }
}
