//! Which versions of HTTP a listener speaks, and the limits of HTTP/2.

use super::Cx;
use super::fields::Unique;
use crate::config::defaults;
use crate::config::marks::At;
use crate::config::model::{Http2Limits, Protocols};
use crate::config::raw;
use crate::config::units::ByteSize;

/// The protocol begins with this window, which nobody can make smaller (RFC 9113 section 6.9.2).
const LEAST_CONNECTION_WINDOW: ByteSize = ByteSize(65_535);
const LARGEST_WINDOW: ByteSize = ByteSize(16 << 20);

impl Cx<'_> {
    pub(super) fn protocols(self, raw: raw::List<String>, at: At<'_>) -> Protocols {
        const HINT: &str = "the choices are `http1` and `h2`; leave it out for both";
        let Some(items) = raw.0 else {
            return Protocols::default();
        };
        if items.is_empty() {
            self.error(at.span(), "`protocols` is empty", HINT);
        }
        let mut spoken = Protocols {
            http1: false,
            h2: false,
        };
        let mut unique = Unique::new();
        for (index, item) in items.into_iter().enumerate() {
            let Some(typed) = item.0 else { continue };
            let span = at.item(index).span();
            match typed.as_str() {
                "http1" => spoken.http1 = true,
                "h2" => spoken.h2 = true,
                _ => self.error(span, "a protocol is `http1` or `h2`", HINT),
            }
            unique.check(self, span, "the protocol", typed);
        }
        spoken
    }

    pub(super) fn http2_limits(self, raw: &raw::Http2Limits, at: At<'_>) -> Http2Limits {
        let raw::Http2Limits {
            streams,
            resets,
            stream_window,
            connection_window,
        } = raw;
        let stream_bounds = ByteSize(1024)..=LARGEST_WINDOW;
        let connection_bounds = LEAST_CONNECTION_WINDOW..=LARGEST_WINDOW;
        Http2Limits {
            streams: self
                .whole(at, "streams", streams, 1..=1000)
                .unwrap_or(defaults::HTTP2_STREAMS),
            resets: self
                .whole(at, "resets", resets, 1..=1_000_000)
                .unwrap_or(defaults::HTTP2_RESETS),
            stream_window: self
                .size(at, "stream_window", stream_window, &stream_bounds)
                .unwrap_or(defaults::HTTP2_STREAM_WINDOW),
            connection_window: self
                .size(
                    at,
                    "connection_window",
                    connection_window,
                    &connection_bounds,
                )
                .unwrap_or(defaults::HTTP2_CONNECTION_WINDOW),
        }
    }
}
