//! Settings and windows, as the client changes them (RFC 9113 sections 6.5 and 6.9).
//!
//! `intake` hands over whole frames. Invariant: no window exceeds 2^31-1, and a stream that may send again
//! takes its turn.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::super::frame::{Code, Head, LARGEST, LARGEST_WINDOW, flag, kind, setting};
use super::streams::Key;
use super::{Check, Session, refuse};

impl Session {
    pub(super) fn settings(&mut self, head: Head, payload: &[u8]) -> Check {
        self.intake.settled = true;
        if head.has(flag::ACK) {
            return Ok(());
        }
        let (pairs, _) = payload.as_chunks::<6>();
        for [a, b, c, d, e, f] in pairs {
            let value = u32::from_be_bytes([*c, *d, *e, *f]);
            match u16::from_be_bytes([*a, *b]) {
                setting::ENABLE_PUSH | setting::ENABLE_CONNECT_PROTOCOL if value > 1 => {
                    return refuse(Code::Protocol, "a setting is not 0 or 1");
                }
                setting::INITIAL_WINDOW_SIZE => self.resize_windows(i64::from(value))?,
                setting::MAX_FRAME_SIZE => {
                    let value = value as usize;
                    if !(LARGEST..1 << 24).contains(&value) {
                        return refuse(Code::Protocol, "the largest frame size is out of range");
                    }
                    self.largest = value;
                }
                _ => {}
            }
        }
        self.acknowledge(kind::SETTINGS, &[]);
        Ok(())
    }

    /// RFC 9113 section 6.9.2: windows that are open change with it.
    fn resize_windows(&mut self, size: i64) -> Check {
        if size > LARGEST_WINDOW {
            return refuse(Code::FlowControl, "the initial window is too large");
        }
        let more = size.saturating_sub(self.initial_window);
        self.initial_window = size;
        let mut opened = Vec::new();
        for (key, stream) in self.streams.iter_mut() {
            stream.window = stream.window.saturating_add(more);
            if stream.window > LARGEST_WINDOW {
                return refuse(Code::FlowControl, "a window became too large");
            }
            opened.push(key);
        }
        for key in opened {
            self.enqueue(key);
        }
        Ok(())
    }

    pub(super) fn opens_window(&mut self, head: Head, payload: &[u8]) -> Check {
        let [a, b, c, d] = payload.first_chunk().copied().unwrap_or_default();
        let more = i64::from(u32::from_be_bytes([a & 0x7f, b, c, d]));
        if more == 0 {
            return refuse(Code::Protocol, "a window is opened by nothing");
        }
        if head.stream == 0 {
            self.window = self.window.saturating_add(more);
            if self.window > LARGEST_WINDOW {
                return refuse(Code::FlowControl, "the connection's window is too large");
            }
            return Ok(());
        }
        let Some(key) = self.streams.find(head.stream) else {
            return Ok(());
        };
        if let Some(stream) = self.streams.get_mut(key) {
            stream.window = stream.window.saturating_add(more);
            if stream.window > LARGEST_WINDOW {
                return self.fail(head.stream, Code::FlowControl);
            }
        }
        self.enqueue(key);
        Ok(())
    }

    /// Looks whether a stream that waited for its window may send now.
    pub(super) fn enqueue(&mut self, key: Key) {
        if let Some(stream) = self.streams.get_mut(key)
            && !stream.queued
            && !stream.rest.is_empty()
            && stream.window > 0
        {
            stream.queued = true;
            self.turn.push_back(key);
        }
    }
}
