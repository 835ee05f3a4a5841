//! A session under a client that may be anybody and an owner that does anything it may do.
//!
//! The random test of `session` and the fuzz target `http2` run it. Exists for them alone. Properties: nothing panics;
//! the windows that were announced bound what waits to be read, the client's windows what is sent; what was
//! framed is whole frames, none of them for a stream that was not asked for.

#![expect(clippy::indexing_slicing, reason = "a test fails by it")]

use std::collections::HashMap;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::{HeaderMap, HeaderValue};

use super::super::frame::{HEAD, Head, LARGEST, PREFACE, kind};
use super::{Code, Extras, Key, Piece, Session, State, Terms};

/// Shows `bytes` to a session behind a valid opening; `choices` say how they are cut and what its owner does.
pub fn run(terms: Terms, bytes: &[u8], choices: &[u8]) {
    let mut trial = Trial {
        session: Session::new(terms),
        open: Vec::new(),
        written: Vec::new(),
        content: HashMap::new(),
        terms,
    };
    let opening = [&PREFACE[..], &[0, 0, 0, kind::SETTINGS, 0, 0, 0, 0, 0]].concat();
    let mut arena = BytesMut::new();
    assert!(trial.session.take(&opening, &mut arena).is_ok(), "opening");
    let mut rest = bytes;
    for choice in choices {
        let (now, later) = rest.split_at(rest.len().min(usize::from(*choice)));
        rest = later;
        if let Err(violation) = trial.session.take(now, &mut arena) {
            trial.session.end(violation.code);
            trial.write(usize::MAX);
            assert_eq!(trial.session.open_streams(), 0);
            break;
        }
        trial.act(*choice);
        trial.judge();
    }
    trial.write(usize::MAX);
    trial.read_back();
}

struct Trial {
    session: Session,
    open: Vec<Key>,
    written: Vec<u8>,
    /// Content that was offered, by stream.
    content: HashMap<u32, usize>,
    terms: Terms,
}

impl Trial {
    fn act(&mut self, choice: u8) {
        while let Some((key, asked)) = self.session.next_request() {
            let limits = self.terms.bounds;
            assert!(asked.head.headers.len() <= limits.fields + 2, "{asked:?}");
            for value in asked.head.headers.values() {
                let ends_line = |byte: &u8| matches!(byte, 0 | b'\r' | b'\n');
                assert!(!value.as_bytes().iter().any(ends_line), "{value:?}");
            }
            if self.session.is_open(key) {
                self.open.push(key);
            }
        }
        while let Some(key) = self.session.next_gone() {
            assert_eq!(self.session.state(key), State::Gone);
        }
        let session = &mut self.session;
        self.open.retain(|key| session.is_open(*key));
        if let Some(key) = self.open.get(usize::from(choice) % 7).copied() {
            self.touch(key, choice);
        }
        self.session.fill();
        while self.session.next_hungry().is_some() {}
        if choice.is_multiple_of(5) {
            self.write(usize::from(choice) * 50);
        }
        if choice == 7 {
            self.session.rest();
        }
    }

    fn touch(&mut self, key: Key, choice: u8) {
        let headers = HeaderMap::from_iter([(http::header::VIA, HeaderValue::from_static("x"))]);
        let extras = Extras {
            date: b"today",
            length: None,
        };
        let session = &mut self.session;
        let answered = self.content.contains_key(&key.id);
        match choice % 9 {
            0 | 1 => {
                let cx = Context::from_waker(Waker::noop());
                if let Poll::Ready(Piece::Data(data)) = session.read(key, &cx) {
                    assert!(!data.is_empty(), "a piece of nothing");
                }
            }
            2 => {
                session.inform(key, StatusCode::CONTINUE, &headers);
            }
            3 | 4 if !answered => {
                session.answer(key, (StatusCode::OK, &headers), extras, |_| false, false);
                self.content.insert(key.id, 0);
            }
            5..=7 if answered && session.state(key) == State::Hungry => {
                let piece = Bytes::from(vec![b'x'; usize::from(choice) * 200]);
                *self.content.entry(key.id).or_default() += piece.len();
                session.offer(key, piece, choice.is_multiple_of(2));
            }
            8 if choice > 200 => session.reset(key, Code::Internal),
            8 if choice > 100 => session.forget(key),
            _ if session.state(key) == State::Done => session.over(key),
            _ => {}
        }
    }

    fn judge(&mut self) {
        let waiting: usize = self.session.waiting();
        let most = self.terms.connection_window.max(65_535) as usize;
        assert!(waiting <= most, "{waiting} bytes wait to be read");
        assert!(self.session.open_streams() <= self.terms.streams as usize);
    }

    fn write(&mut self, most: usize) {
        let mut left = most;
        while left > 0 && !self.session.out().is_empty() {
            let slices = self.session.out().slices().map(|slice| slice.to_vec());
            let all = slices.concat();
            let count = all.len().min(left);
            self.written.extend_from_slice(&all[..count]);
            self.session.wrote(count);
            left -= count;
        }
    }

    /// Reads what was written as a client does.
    fn read_back(&self) {
        let mut rest = &self.written[..];
        let mut came: HashMap<u32, usize> = HashMap::new();
        while let Some((head, tail)) = rest.split_first_chunk::<HEAD>() {
            let head = Head::parse(*head);
            assert!(head.length <= LARGEST && head.length <= tail.len());
            if head.kind == kind::DATA {
                *came.entry(head.stream).or_default() += head.length;
            }
            rest = &tail[head.length..];
        }
        assert!(rest.is_empty(), "half a frame");
        for (stream, count) in came {
            let offered = self.content.get(&stream).copied();
            assert!(offered.is_some_and(|offered| count <= offered));
        }
    }
}
