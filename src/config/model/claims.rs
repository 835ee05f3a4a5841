//! Which fields Headgate writes itself, and which claims of clients pass.
//!
//! `proxy::claims` keeps these; `convert` refuses a config that would have it otherwise.

use std::sync::Arc;

use http::header::{FORWARDED, HeaderName};

/// What tells who the client is: written anew for each request, whatever came. What a client sends under
/// these names goes no further.
pub static WRITTEN_ANEW: [HeaderName; 5] = [
    FORWARDED,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-request-id"),
];

/// What tells of the certificate that a client has shown (RFC 9440).
pub static CERTIFICATE: [HeaderName; 2] = [
    HeaderName::from_static("client-cert"),
    HeaderName::from_static("client-cert-chain"),
];

/// What is done about fields that claim something about the client.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claims {
    /// Those that everybody may send, none of them Headgate's own. Default none.
    pub keep: Vec<HeaderName>,
    /// Fields that only trusted proxies may send, besides those that Headgate knows; all that begin so where
    /// one ends in `-`. Default none.
    pub trusted_only: Option<Arc<[HeaderName]>>,
}
