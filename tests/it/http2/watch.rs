//! What every test asks of the server without saying so: the MUSTs of RFC 9113 that bind a sender.
//!
//! `Wire` shows it the bytes that go to the server and each frame that comes back, and it panics at a
//! frame that may not be sent: of the wrong size or with flags of no meaning, between the parts of a
//! block, on a stream that is idle, ended, reset or refused, beyond a window, a SETTINGS or PING that
//! is acknowledged twice. It reads what the client says as far as that is HTTP/2. Invariant: what
//! gives the server more counts from when it is sent, what gives it less from when it is acknowledged,
//! so that a server is never blamed for what it could not know.

use std::collections::{HashMap, VecDeque};

use super::hpack::Fields;
use super::wire::*;

const LARGEST_WINDOW: i64 = 0x7fff_ffff;

/// A number of a frame.
fn word(payload: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(payload[at..at + 4].try_into().unwrap())
}

/// The settings of a frame.
pub(crate) fn pairs(payload: &[u8]) -> Vec<(u16, u32)> {
    let pairs = payload.chunks_exact(6);
    pairs
        .map(|pair| (u16::from_be_bytes([pair[0], pair[1]]), word(pair, 2)))
        .collect()
}

/// A stream that the client has opened.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "both sides end, reset and begin by themselves, in any order"
)]
struct Side {
    /// Bytes that the server may send.
    window: i64,
    /// Bytes that the client may send.
    credit: i64,
    /// A head came, be it an informational one.
    begun: bool,
    /// The final head came.
    answered: bool,
    ended: bool,
    /// The server has reset it.
    reset: bool,
    /// The client has reset it, and the server knows.
    gone: bool,
    /// The client has reset it and said nothing on it since.
    quiet: bool,
    length: Option<u64>,
    body: u64,
}

/// What of the client's settings is in force.
#[derive(Debug, Clone, Copy)]
struct Allowed {
    window: i64,
    frame: usize,
}

#[derive(Debug)]
pub(crate) struct Watch {
    /// What the client sent and was not a whole frame yet.
    said: Vec<u8>,
    opened: bool,
    heard: bool,
    streams: HashMap<u32, Side>,
    /// The highest stream that the client has named.
    named: u32,
    window: i64,
    credit: i64,
    /// The server's SETTINGS_INITIAL_WINDOW_SIZE.
    theirs: i64,
    connects: bool,
    acked: Allowed,
    pending: VecDeque<Vec<(u16, u32)>>,
    pings: VecDeque<(Vec<u8>, Vec<u32>)>,
    /// Streams that the client has reset.
    taken_back: Vec<u32>,
    /// The stream whose block has not ended.
    block: Option<u32>,
    goaway: Option<u32>,
}

impl Watch {
    pub(crate) fn new() -> Self {
        Self {
            said: Vec::new(),
            opened: false,
            heard: false,
            streams: HashMap::new(),
            named: 0,
            window: 65_535,
            credit: 65_535,
            theirs: 65_535,
            connects: false,
            acked: Allowed {
                window: 65_535,
                frame: 16_384,
            },
            pending: VecDeque::new(),
            pings: VecDeque::new(),
            taken_back: Vec::new(),
            block: None,
            goaway: None,
        }
    }

    /// Bytes that the client may send on a stream; on 0, on the connection.
    pub(crate) fn credit(&self, stream: u32) -> i64 {
        match stream {
            0 => self.credit,
            stream => self.streams.get(&stream).map_or(0, |side| side.credit),
        }
    }

    /// The most that the client's settings allow, those included that are not acknowledged yet.
    fn allowed(&self) -> Allowed {
        let mut most = self.acked;
        for (id, value) in self.pending.iter().flatten() {
            match id {
                4 => most.window = most.window.max(i64::from(*value)),
                5 => most.frame = most.frame.max(*value as usize),
                _ => {}
            }
        }
        most
    }

    /// Changes what is pending or acknowledged, and the windows with it.
    fn settle(&mut self, change: impl FnOnce(&mut Self)) {
        let before = self.allowed().window;
        change(self);
        let more = self.allowed().window - before;
        for side in self.streams.values_mut() {
            side.window += more;
        }
    }

    /// The client sends these bytes.
    pub(crate) fn says(&mut self, bytes: &[u8]) {
        self.said.extend_from_slice(bytes);
        if !self.opened && self.said.starts_with(PREFACE) {
            self.said.drain(..PREFACE.len());
            self.opened = true;
        }
        while self.opened && self.said.len() >= 9 {
            let length = u32::from_be_bytes([0, self.said[0], self.said[1], self.said[2]]) as usize;
            if self.said.len() < 9 + length {
                return;
            }
            let frame: Vec<u8> = self.said.drain(..9 + length).collect();
            let stream = word(&frame, 5) & 0x7fff_ffff;
            self.said_frame(frame[3], frame[4], stream, &frame[9..]);
        }
    }

    fn said_frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.named = self.named.max(stream);
        let fresh = Side {
            window: self.allowed().window,
            credit: self.theirs,
            ..Side::default()
        };
        if kind == HEADERS && stream != 0 {
            self.streams.entry(stream).or_insert(fresh);
        }
        let mut side = self.streams.get_mut(&stream);
        if let Some(side) = &mut side
            && !matches!(kind, RST_STREAM | WINDOW_UPDATE | PRIORITY)
        {
            side.quiet = false;
        }
        let length = i64::try_from(payload.len()).unwrap();
        match (kind, payload.len()) {
            (DATA, _) => {
                self.credit -= length;
                if let Some(side) = side {
                    side.credit -= length;
                }
            }
            (WINDOW_UPDATE, 4) => {
                let more = i64::from(word(payload, 0) & 0x7fff_ffff);
                match side {
                    _ if stream == 0 => self.window += more,
                    Some(side) => side.window += more,
                    None => {}
                }
            }
            (SETTINGS, _) if flags & ACK == 0 => {
                self.settle(|it| it.pending.push_back(pairs(payload)));
            }
            (PING, 8) if flags & ACK == 0 => {
                let known = self.taken_back.clone();
                self.pings.push_back((payload.to_vec(), known));
            }
            (RST_STREAM, 4) => {
                self.taken_back.push(stream);
                if let Some(side) = side {
                    side.quiet = true;
                }
            }
            _ => {}
        }
    }

    /// The server has sent this frame. `Some` is a table size that it has just acknowledged.
    pub(crate) fn hears(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u32> {
        assert!(
            std::mem::replace(&mut self.heard, true) || (kind == SETTINGS && flags & ACK == 0),
            "s3.4: the first frame is of type {kind}"
        );
        assert!(stream <= 0x7fff_ffff, "s4.1: the reserved bit is set");
        let most = self.allowed().frame;
        assert!(payload.len() <= most, "s4.2: {} bytes", payload.len());
        let meaning = match kind {
            DATA => END_STREAM | PADDED,
            HEADERS => END_STREAM | END_HEADERS | PADDED | WITH_PRIORITY,
            SETTINGS | PING => ACK,
            CONTINUATION => END_HEADERS,
            _ => 0,
        };
        assert_eq!(flags & !meaning, 0, "s4.1: flags of frame type {kind}");
        let of_connection = matches!(kind, SETTINGS | PING | GOAWAY);
        assert!(
            kind == WINDOW_UPDATE || kind > CONTINUATION || of_connection == (stream == 0),
            "s6: frame type {kind} on stream {stream}"
        );
        assert_eq!(
            self.block.is_some(),
            kind == CONTINUATION,
            "s4.3: frame type {kind} and a block"
        );
        match kind {
            HEADERS | CONTINUATION => self.part_of_a_block(kind, flags, stream),
            DATA => self.data(flags, stream, payload),
            RST_STREAM => self.reset(stream, payload),
            WINDOW_UPDATE => self.window_update(stream, payload),
            SETTINGS => return self.settings(flags, payload),
            PING => self.ping(flags, payload),
            GOAWAY => self.goaway(payload),
            PRIORITY => assert_eq!(payload.len(), 5, "s6.3"),
            PUSH_PROMISE => panic!("s8.4: a push"),
            _ => {}
        }
        Vec::new()
    }

    /// The stream, on which there may be a message.
    fn open(&mut self, stream: u32, what: &str) -> &mut Side {
        let goaway = self.goaway;
        let side = self.streams.get_mut(&stream);
        let side = side.unwrap_or_else(|| panic!("s5.1: {what} on idle stream {stream}"));
        assert!(
            !side.reset,
            "s5.1: {what} on stream {stream}, which it has reset"
        );
        assert!(
            !side.gone,
            "s6.4: {what} on stream {stream}, which was reset"
        );
        assert!(
            goaway.is_none_or(|last| stream <= last),
            "s6.8: {what} on stream {stream} after GOAWAY"
        );
        side
    }

    fn part_of_a_block(&mut self, kind: u8, flags: u8, stream: u32) {
        if kind == CONTINUATION {
            assert_eq!(self.block, Some(stream), "s6.10: another stream");
        } else {
            let side = self.open(stream, "HEADERS");
            assert!(!side.ended, "s5.1: HEADERS after the end of {stream}");
        }
        self.block = (flags & END_HEADERS == 0).then_some(stream);
    }

    /// The block that has ended was this section; `end` is the flag of its first frame.
    pub(crate) fn section(&mut self, stream: u32, fields: &Fields, end: bool) {
        for (name, value) in fields {
            let lower = !name.bytes().any(|byte| byte.is_ascii_uppercase());
            assert!(lower, "s8.2: {name}");
            let hop = [
                "connection",
                "keep-alive",
                "proxy-connection",
                "transfer-encoding",
                "upgrade",
            ];
            assert!(!hop.contains(&name.as_str()), "s8.2.2: {name}");
            let bad =
                value.contains(['\0', '\r', '\n']) || value.trim_matches([' ', '\t']) != value;
            assert!(!bad, "s8.2.1: {name}: {value:?}");
        }
        let side = self.open(stream, "HEADERS");
        let pseudo: Vec<_> = fields
            .iter()
            .filter(|(name, _)| name.starts_with(':'))
            .collect();
        if side.answered {
            assert!(end, "s8.1: trailers that do not end stream {stream}");
            assert!(pseudo.is_empty(), "s8.1: {pseudo:?} in trailers");
        } else {
            let [(name, status)] = pseudo[..] else {
                panic!("s8.3.2: {pseudo:?}");
            };
            assert_eq!(fields[0].0, ":status", "s8.3: {name} is not the first");
            let status: u16 = status.parse().expect("s8.3.2: a status");
            assert_ne!(status, 101, "s8.6");
            side.begun = true;
            side.answered = status >= 200;
            assert!(side.answered || !end, "s8.1: {status} with END_STREAM");
            let length = fields.iter().find(|(name, _)| name == "content-length");
            side.length = length.map(|(_, value)| value.parse().expect("s8.1.1: a length"));
        }
        side.ended = end;
        side.agrees(stream);
    }

    fn data(&mut self, flags: u8, stream: u32, payload: &[u8]) {
        let length = i64::try_from(payload.len()).unwrap();
        let side = self.open(stream, "DATA");
        assert!(side.answered, "s8.1: DATA before the head of {stream}");
        assert!(!side.ended, "s5.1: DATA after the end of {stream}");
        side.window -= length;
        assert!(
            length == 0 || side.window >= 0,
            "s6.9.1: {} beyond the window of {stream}",
            -side.window
        );
        let padding = if flags & PADDED == 0 {
            0
        } else {
            let padding = usize::from(payload[0]);
            assert!(padding < payload.len(), "s6.1: padding");
            let zeros = payload[payload.len() - padding..]
                .iter()
                .all(|byte| *byte == 0);
            assert!(zeros, "s6.1: padding that is not zero");
            padding + 1
        };
        side.body += (payload.len() - padding) as u64;
        side.ended = flags & END_STREAM != 0;
        side.agrees(stream);
        self.window -= length;
        assert!(
            length == 0 || self.window >= 0,
            "s6.9.1: beyond the window of the connection"
        );
    }

    fn reset(&mut self, stream: u32, payload: &[u8]) {
        assert_eq!(payload.len(), 4, "s6.4");
        assert!(
            stream <= self.named,
            "s6.4: a reset of idle stream {stream}"
        );
        if let Some(side) = self.streams.get_mut(&stream) {
            let refused = word(payload, 0) == REFUSED_STREAM;
            assert!(!refused || !side.begun, "s8.7: {stream} was processed");
            assert!(!side.gone || !side.quiet, "s5.4.2: a reset for a reset");
            side.reset = true;
        }
    }

    fn window_update(&mut self, stream: u32, payload: &[u8]) {
        assert_eq!(payload.len(), 4, "s6.9");
        let more = i64::from(word(payload, 0));
        assert!((1..=LARGEST_WINDOW).contains(&more), "s6.9: {more}");
        let credit = match stream {
            0 => &mut self.credit,
            stream => &mut self.open(stream, "WINDOW_UPDATE").credit,
        };
        *credit += more;
        assert!(*credit <= LARGEST_WINDOW, "s6.9.1: {stream}: {credit}");
    }

    fn settings(&mut self, flags: u8, payload: &[u8]) -> Vec<u32> {
        if flags & ACK != 0 {
            assert!(payload.is_empty(), "s6.5: an ACK with settings");
            let mut tables = Vec::new();
            self.settle(|it| {
                let applied = it.pending.pop_front().expect("s6.5.3: an ACK of nothing");
                for (id, value) in applied {
                    match id {
                        1 => tables.push(value),
                        4 => it.acked.window = i64::from(value),
                        5 => it.acked.frame = value as usize,
                        _ => {}
                    }
                }
            });
            // Between two frames only the last value is seen.
            return tables.pop().into_iter().collect();
        }
        assert_eq!(payload.len() % 6, 0, "s6.5");
        for (id, value) in pairs(payload) {
            let legal = match id {
                2 => value == 0,
                4 => i64::from(value) <= LARGEST_WINDOW,
                5 => (16_384..=16_777_215).contains(&value),
                8 => value == 1 || (value == 0 && !self.connects),
                _ => true,
            };
            assert!(legal, "s6.5.2: setting {id} is {value}");
            match id {
                4 => {
                    let more = i64::from(value) - std::mem::replace(&mut self.theirs, value.into());
                    for side in self.streams.values_mut() {
                        side.credit += more;
                    }
                }
                8 => self.connects = value == 1,
                _ => {}
            }
        }
        Vec::new()
    }

    fn ping(&mut self, flags: u8, payload: &[u8]) {
        assert_eq!(payload.len(), 8, "s6.7");
        if flags & ACK == 0 {
            return;
        }
        let found = self.pings.iter().position(|(sent, _)| sent == payload);
        let found = found.unwrap_or_else(|| panic!("s6.7: a pong {payload:?} without a ping"));
        let (_, known) = self.pings.remove(found).unwrap();
        for stream in known {
            if let Some(side) = self.streams.get_mut(&stream) {
                side.gone = true;
            }
        }
    }

    fn goaway(&mut self, payload: &[u8]) {
        assert!(payload.len() >= 8, "s6.8");
        let last = word(payload, 0);
        assert!(last <= 0x7fff_ffff, "s6.8: the reserved bit is set");
        let before = self.goaway.replace(last);
        assert!(
            before.is_none_or(|it| last <= it),
            "s6.8: {before:?} became {last}"
        );
        for (stream, side) in &self.streams {
            assert!(
                !side.begun || *stream <= last,
                "s8.7: {stream} was processed, {last} is named"
            );
        }
    }
}

impl Side {
    /// The content is as long as was announced. An answer to HEAD has none.
    fn agrees(&self, stream: u32) {
        let announced = self.length.unwrap_or(self.body);
        assert!(
            !self.ended || self.body == 0 || self.body == announced,
            "s8.1.1: {} bytes on stream {stream}, {announced} were announced",
            self.body
        );
        assert!(
            self.body <= announced,
            "s8.1.1: too much on stream {stream}"
        );
    }
}

/// What the client says, what the server answers, and why it may not.
macro_rules! bites {
    ($($name:ident: $why:literal, $said:expr, $heard:expr;)*) => {
        mod bites {
            use super::*;
            use crate::http2::hpack::literals;

            /// A server that has said its SETTINGS to a client that has asked for `/ok` on stream 1.
            fn after(said: &[Vec<u8>], heard: &[Vec<u8>]) {
                let mut watch = Watch::new();
                watch.says(PREFACE);
                watch.says(&[settings(&[]), get(1, "/ok")].concat());
                watch.says(&said.concat());
                for bytes in heard {
                    let stream = word(bytes, 5);
                    watch.hears(bytes[3], bytes[4], stream, &bytes[9..]);
                    if bytes[3] == HEADERS && bytes[4] & END_HEADERS != 0 {
                        let mut decoder = crate::http2::hpack::Decoder::new();
                        let fields = decoder.block(&bytes[9..]);
                        watch.section(stream, &fields, bytes[4] & END_STREAM != 0);
                    }
                }
            }

            fn answer(stream: u32, flags: u8, more: &[(&str, &str)]) -> Vec<u8> {
                let block = literals(&[&[(":status", "200")], more].concat());
                frame(HEADERS, END_HEADERS | flags, stream, &block)
            }

            #[test]
            fn not_at_what_is_right() {
                let length = [("content-length", "3")];
                after(
                    &[frame(PING, 0, 0, &[1; 8]), get(3, "/ok")],
                    &[
                        settings(&[(4, 100)]),
                        frame(SETTINGS, ACK, 0, &[]),
                        frame(PING, ACK, 0, &[1; 8]),
                        answer(1, 0, &length),
                        data(1, 0, "abc"),
                        headers(1, END_STREAM, &[("x-sum", "1")]),
                        reset(3, CANCEL),
                        frame(GOAWAY, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 0]),
                    ],
                );
            }

            $(#[test]
            #[should_panic(expected = $why)]
            fn $name() {
                after(&$said, &[&[settings(&[])][..], &$heard].concat());
            })*
        }
    };
}

bites! {
    at_an_answer_that_nobody_asked_for: "s5.1", [], [answer(3, END_STREAM, &[])];
    at_data_before_a_head: "s8.1", [], [data(1, 0, "x")];
    at_data_after_the_end: "s5.1", [], [answer(1, END_STREAM, &[]), data(1, 0, "x")];
    at_data_after_a_reset: "s5.1", [], [answer(1, 0, &[]), reset(1, CANCEL), data(1, 0, "x")];
    at_data_for_who_does_not_want_it: "s6.4", [reset(1, CANCEL), frame(PING, 0, 0, &[0; 8])], [frame(PING, ACK, 0, &[0; 8]), answer(1, 0, &[])];
    at_a_reset_for_a_reset: "s5.4.2", [reset(1, CANCEL), frame(PING, 0, 0, &[0; 8])], [frame(PING, ACK, 0, &[0; 8]), reset(1, STREAM_CLOSED)];
    at_a_reset_of_an_idle_stream: "s6.4", [], [reset(5, CANCEL)];
    at_a_refusal_of_what_was_answered: "s8.7", [], [answer(1, 0, &[]), reset(1, REFUSED_STREAM)];
    at_a_frame_within_a_block: "s4.3", [], [frame(HEADERS, 0, 1, &[]), frame(PING, 0, 0, &[0; 8])];
    at_a_frame_that_is_too_large: "s4.2", [], [answer(1, 0, &[]), data(1, 0, vec![0; 16_385])];
    at_flags_without_a_meaning: "s4.1", [], [answer(1, 2, &[])];
    at_bytes_beyond_a_window: "s6.9.1", [settings(&[(4, 10)])], [frame(SETTINGS, ACK, 0, &[]), frame(SETTINGS, ACK, 0, &[]), answer(1, 0, &[]), data(1, 0, "12345678901")];
    at_bytes_beyond_the_window_of_the_connection: "the connection", [window(1, 1 << 20)], [&[answer(1, 0, &[])][..], &vec![data(1, 0, vec![0; 16_384]); 4]].concat();
    at_an_acknowledgement_of_nothing: "s6.5.3", [], vec![frame(SETTINGS, ACK, 0, &[]); 2];
    at_a_pong_without_a_ping: "s6.7", [], [frame(PING, ACK, 0, &[0; 8])];
    at_a_push: "s8.4", [], [frame(PUSH_PROMISE, 0, 1, &[0; 4])];
    at_a_setting_that_allows_pushes: "s6.5.2", [], [settings(&[(2, 1)])];
    at_extended_connect_that_is_taken_back: "s6.5.2", [], [settings(&[(8, 1)]), settings(&[(8, 0)])];
    at_a_window_update_of_nothing: "s6.9", [], [window(0, 0)];
    at_a_goaway_that_names_more_than_before: "s6.8", [], [frame(GOAWAY, 0, 0, &[0; 8]), frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0])];
    at_a_goaway_that_denies_an_answer: "s8.7", [], [answer(1, 0, &[]), frame(GOAWAY, 0, 0, &[0; 8])];
    at_fields_of_a_connection: "s8.2.2", [], [answer(1, 0, &[("connection", "close")])];
    at_names_in_upper_case: "s8.2", [], [answer(1, 0, &[("X-Upper", "1")])];
    at_trailers_that_do_not_end: "s8.1", [], [answer(1, 0, &[]), headers(1, 0, &[("x", "y")])];
    at_another_length_than_announced: "s8.1.1", [], [answer(1, 0, &[("content-length", "3")]), data(1, END_STREAM, "ab")];
    at_a_switch_of_protocols: "s8.6", [], [headers(1, 0, &[(":status", "101")])];
    at_an_informational_head_that_ends: "s8.1", [], [headers(1, END_STREAM, &[(":status", "103")])];
}

#[test]
#[should_panic(expected = "the first frame")]
fn bites_at_a_server_that_does_not_begin_with_settings() {
    Watch::new().hears(PING, 0, 0, &[0; 8]);
}
