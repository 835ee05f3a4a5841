//! How much a client may send, and how often.

use std::num::NonZeroU64;

use super::Cx;
use crate::config::defaults;
use crate::config::marks::At;
use crate::config::model::HeadLimits;
use crate::config::raw;
use crate::config::units::ByteSize;

impl Cx<'_> {
    pub(super) fn head_limits(self, raw: &raw::Limits, at: At<'_>) -> HeadLimits {
        let head = ByteSize(1 << 10)..=ByteSize(1 << 20);
        // A URI's own type holds less than 64 KiB.
        let target = ByteSize(64)..=ByteSize(60 << 10);
        let requests = self
            .whole(
                at,
                "requests_per_connection",
                &raw.requests_per_connection,
                0..=1_000_000_000,
            )
            .unwrap_or(defaults::REQUESTS_PER_CONNECTION);
        HeadLimits {
            header_bytes: self
                .size(at, "header_bytes", &raw.header_bytes, &head)
                .unwrap_or(defaults::HEADER_BYTES),
            headers: self
                .whole(at, "headers", &raw.headers, 1..=10_000)
                .unwrap_or(defaults::HEADERS),
            uri_bytes: self
                .size(at, "uri_bytes", &raw.uri_bytes, &target)
                .unwrap_or(defaults::URI_BYTES),
            requests_per_connection: NonZeroU64::new(requests),
        }
    }
}
