//! Too much of what is allowed, in windows of time (RFC 9113 section 10.5).
//!
//! `intake` spends from it; whoever owns the session says when a window is over. The numbers are those of
//! `docs/http2.md`. Invariant: what a client can make Headgate do without sending a request is bounded.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::super::frame::{Code, Head, kind};
use super::{Check, Flood, calm};

/// What came in the current window of time.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) opened: u32,
    resets: u32,
    provoked: u32,
    pings: u32,
    settings: u32,
    priorities: u32,
    window_updates: u32,
    empty_data: u32,
    unknown: u32,
    /// Kilobytes that were sent meanwhile: they are what window updates are for.
    sent: u32,
}

/// Counts one more of something; false beyond the limit.
fn spend(count: &mut u32, limit: u32) -> bool {
    *count = count.saturating_add(1);
    *count <= limit
}

impl Counts {
    pub(super) fn sent(&mut self, bytes: usize) {
        let kilobytes = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        self.sent = self.sent.saturating_add(kilobytes);
    }

    /// A frame that is neither DATA nor part of a header block.
    pub(super) fn control(&mut self, head: Head, resets: u32) -> Check {
        let streams = self.opened.saturating_mul(4);
        let (flood, count, limit) = match head.kind {
            kind::PRIORITY => {
                let limit = 1000_u32.saturating_add(streams);
                (Flood::Priority, &mut self.priorities, limit)
            }
            kind::SETTINGS => (Flood::Settings, &mut self.settings, 50),
            kind::PING => {
                let limit = 500_u32.saturating_add(self.sent);
                (Flood::Ping, &mut self.pings, limit)
            }
            kind::RST_STREAM => {
                let limit = resets.saturating_add(self.opened / 10);
                (Flood::Reset, &mut self.resets, limit)
            }
            kind::WINDOW_UPDATE => {
                let limit = self.sent.saturating_mul(4).saturating_add(1000);
                let limit = limit.saturating_add(streams);
                (Flood::WindowUpdate, &mut self.window_updates, limit)
            }
            kind::GOAWAY => return Ok(()),
            _ => {
                let limit = 200_u32.saturating_add(streams);
                (Flood::Unknown, &mut self.unknown, limit)
            }
        };
        if spend(count, limit) {
            return Ok(());
        }
        calm(flood, "too many frames that carry nothing")
    }

    /// DATA without data that does not end its stream.
    pub(super) fn empty_data(&mut self) -> Check {
        if spend(&mut self.empty_data, 100) {
            return Ok(());
        }
        calm(Flood::EmptyData, "too many empty DATA frames")
    }

    /// A stream that is reset here (CVE-2025-8671); the other codes are for what a client cannot help.
    pub(super) fn provoked(&mut self, code: Code, limit: u32) -> Check {
        let blamed = matches!(
            code,
            Code::Protocol | Code::FlowControl | Code::StreamClosed
        );
        if !blamed || spend(&mut self.provoked, limit) {
            return Ok(());
        }
        calm(Flood::ProvokedReset, "too many faulty streams")
    }
}
