//! What follows a request's head: DATA on its way in (RFC 9113 sections 6.1 and 6.9).
//!
//! `intake` passes it on in the pieces in which it comes; whoever reads the body takes it out, and only
//! that gives the client its window back. Invariant: what waits here never exceeds the windows that were
//! announced, and DATA that disagrees with `Content-Length` never looks whole.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::HeaderMap;

use super::super::frame::{Code, Head, flag};
use super::history::Standing;
use super::streams::Key;
use super::{Check, Session, refuse};

/// The payload of DATA.
#[derive(Debug, Clone, Copy)]
pub(super) struct Data {
    id: u32,
    /// Bytes that are still to come, padding included.
    left: usize,
    padding: usize,
    /// The first byte says how much padding there is.
    padded: bool,
    ends: bool,
}

/// What a reader finds.
#[derive(Debug)]
pub enum Piece {
    /// Content.
    Data(Bytes),
    /// Trailers, and the end.
    Trailers(HeaderMap),
    /// The end.
    End,
    /// The stream is gone before its end.
    Gone,
}

impl Session {
    /// DATA has begun: its window is taken before its content comes.
    pub(super) fn begin_data(&mut self, head: Head) -> Check {
        let (id, ends) = (head.stream, head.has(flag::END_STREAM));
        let length = i64::try_from(head.length).unwrap_or(i64::MAX);
        match self.history.standing(id) {
            Standing::Idle => return refuse(Code::Protocol, "DATA for an idle stream"),
            Standing::Ended => {
                return refuse(Code::StreamClosed, "DATA after the end of its stream");
            }
            Standing::Open | Standing::Unknown => {}
        }
        if ends {
            self.history.end(id);
        } else if head.length == 0 {
            self.counts.empty_data()?;
        }
        self.available = self.available.saturating_sub(length);
        if self.available < 0 {
            return refuse(
                Code::FlowControl,
                "more DATA than the connection's window holds",
            );
        }
        let key = self.streams.find(id);
        match key.and_then(|key| self.streams.get_mut(key)) {
            Some(stream) => {
                let incoming = &mut stream.incoming;
                incoming.window = incoming.window.saturating_sub(length);
                if incoming.window < 0 {
                    self.fail(id, Code::FlowControl)?;
                }
            }
            // It was reset here, or so long ago that nobody knows.
            None if self.history.standing(id) == Standing::Unknown => {
                self.fail(id, Code::StreamClosed)?;
            }
            None => {}
        }
        let data = Data {
            id,
            left: head.length,
            padding: 0,
            padded: head.has(flag::PADDED),
            ends,
        };
        if head.length == 0 {
            return self.end_data(data);
        }
        self.intake.data = Some(data);
        Ok(())
    }

    pub(super) fn data_bytes<'a>(
        &mut self,
        mut data: Data,
        mut bytes: &'a [u8],
    ) -> Check<&'a [u8]> {
        let key = self.streams.find(data.id);
        if data.padded
            && let Some((length, rest)) = bytes.split_first()
        {
            data.padded = false;
            data.left = data.left.saturating_sub(1);
            data.padding = usize::from(*length);
            bytes = rest;
            if data.padding > data.left {
                return refuse(Code::Protocol, "more padding than payload");
            }
            if let Some(key) = key {
                self.taken(key, data.padding.saturating_add(1));
            } else {
                self.give_back(data.padding.saturating_add(1));
            }
        }
        let content = data.left.saturating_sub(data.padding).min(bytes.len());
        let (content, rest) = bytes.split_at(content);
        if !content.is_empty() && !self.content(key, content) {
            self.fail(data.id, Code::Protocol)?;
            self.give_back(content.len());
        }
        data.left = data.left.saturating_sub(content.len());
        let padding = if data.left <= data.padding {
            data.left.min(rest.len())
        } else {
            0
        };
        let (_, rest) = rest.split_at(padding);
        data.left = data.left.saturating_sub(padding);
        if data.left > 0 {
            self.intake.data = Some(data);
        } else {
            self.intake.data = None;
            self.end_data(data)?;
        }
        Ok(rest)
    }

    fn end_data(&mut self, data: Data) -> Check {
        if data.ends
            && let Some(key) = self.streams.find(data.id)
            && !self.end_incoming(key)
        {
            return self.fail(data.id, Code::Protocol);
        }
        Ok(())
    }

    /// Content of a stream; false if there is more of it than was said.
    fn content(&mut self, key: Option<Key>, bytes: &[u8]) -> bool {
        let Some(stream) = key.and_then(|key| self.streams.get_mut(key)) else {
            self.give_back(bytes.len());
            return true;
        };
        let incoming = &mut stream.incoming;
        if let Some(left) = &mut incoming.left {
            match left.checked_sub(bytes.len() as u64) {
                Some(rest) => *left = rest,
                None => return false,
            }
        }
        if incoming.unread {
            self.give_back(bytes.len());
        } else {
            incoming.data.extend_from_slice(bytes);
            incoming.wake();
        }
        true
    }

    /// The client has ended a stream; false if it should have sent more.
    pub(super) fn end_incoming(&mut self, key: Key) -> bool {
        let Some(stream) = self.streams.get_mut(key) else {
            return true;
        };
        if stream.incoming.left.is_some_and(|left| left > 0) {
            return false;
        }
        stream.incoming.ended = true;
        stream.incoming.wake();
        if stream.done {
            self.hungry.push(key);
        }
        true
    }

    /// `count` bytes of a stream's window are not content, or nobody's.
    fn taken(&mut self, key: Key, count: usize) {
        self.give_back(count);
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        let incoming = &mut stream.incoming;
        let count = i64::try_from(count).unwrap_or(0);
        incoming.credit = incoming.credit.saturating_add(count);
        let worth = i64::from(self.terms.stream_window / 2).max(1);
        if incoming.credit >= worth && !incoming.ended {
            let more = std::mem::take(&mut incoming.credit);
            incoming.window = incoming.window.saturating_add(more);
            self.window_update(key.id, more);
        }
    }

    /// The next piece of what a client sends; the reader is woken when there is more.
    pub fn read(&mut self, key: Key, cx: &Context<'_>) -> Poll<Piece> {
        let Some(stream) = self.streams.get_mut(key) else {
            return Poll::Ready(Piece::Gone);
        };
        let incoming = &mut stream.incoming;
        if !incoming.data.is_empty() {
            let data = incoming.data.split().freeze();
            self.taken(key, data.len());
            return Poll::Ready(Piece::Data(data));
        }
        if incoming.ended {
            let trailers = incoming.trailers.take();
            return Poll::Ready(trailers.map_or(Piece::End, Piece::Trailers));
        }
        match &incoming.reader {
            Some(reader) if reader.will_wake(cx.waker()) => {}
            _ => incoming.reader = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Whether a stream has not ended or been reset.
    #[must_use]
    pub fn is_open(&self, key: Key) -> bool {
        self.streams.get(key).is_some()
    }

    /// Whether nothing is left to read, or will be.
    #[must_use]
    pub fn is_read(&self, key: Key) -> bool {
        self.streams.get(key).is_none_or(|stream| {
            let incoming = &stream.incoming;
            incoming.ended && incoming.data.is_empty() && incoming.trailers.is_none()
        })
    }

    /// Whether what comes is of no use to anybody: nobody reads it, or it has been read whole.
    #[must_use]
    pub fn is_unwanted(&self, key: Key) -> bool {
        let unread = |key| self.streams.get(key).is_none_or(|it| it.incoming.unread);
        unread(key) || self.is_read(key)
    }

    /// Bytes that are still to be read, by `Content-Length`.
    #[must_use]
    pub fn left(&self, key: Key) -> Option<u64> {
        let incoming = &self.streams.get(key)?.incoming;
        let left = incoming.left?;
        Some(left.saturating_add(incoming.data.len() as u64))
    }

    /// Bytes that wait to be read.
    #[cfg(any(test, fuzzing))]
    pub(super) fn waiting(&mut self) -> usize {
        let streams = self.streams.iter_mut();
        streams.map(|(_, stream)| stream.incoming.data.len()).sum()
    }

    /// Nobody reads what is still to come.
    pub fn forget(&mut self, key: Key) {
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        stream.incoming.unread = true;
        stream.incoming.reader = None;
        let data = std::mem::take(&mut stream.incoming.data);
        if stream.done {
            self.hungry.push(key);
        }
        self.give_back(data.len());
    }
}
