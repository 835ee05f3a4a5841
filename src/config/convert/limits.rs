//! How much a client may send, and how often.

use std::num::NonZeroU64;

use super::Cx;
use crate::config::defaults;
use crate::config::marks::At;
use crate::config::model::{BodyLimit, Limits};
use crate::config::raw;
use crate::config::units::ByteSize;

impl Cx<'_> {
    pub(super) fn limits(self, raw: &raw::Limits, at: At<'_>) -> Limits {
        let raw::Limits {
            connections,
            connections_per_address,
            body,
            header_bytes,
            headers,
            uri_bytes,
            requests_per_connection,
        } = raw;
        let head = ByteSize(1 << 10)..=ByteSize(1 << 20);
        // A URI's own type holds less than 64 KiB.
        let target = ByteSize(64)..=ByteSize(60 << 10);
        let requests = self
            .whole(
                at,
                "requests_per_connection",
                requests_per_connection,
                0..=1_000_000_000,
            )
            .unwrap_or(defaults::REQUESTS_PER_CONNECTION);
        Limits {
            connections: self.connection_limits(connections, connections_per_address, at),
            body: self
                .body_limit(at, "body", body)
                .unwrap_or(BodyLimit(defaults::BODY_LIMIT)),
            header_bytes: self
                .size(at, "header_bytes", header_bytes, &head)
                .unwrap_or(defaults::HEADER_BYTES),
            headers: self
                .whole(at, "headers", headers, 1..=10_000)
                .unwrap_or(defaults::HEADERS),
            uri_bytes: self
                .size(at, "uri_bytes", uri_bytes, &target)
                .unwrap_or(defaults::URI_BYTES),
            requests_per_connection: NonZeroU64::new(requests),
        }
    }
}
