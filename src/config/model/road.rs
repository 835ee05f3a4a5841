//! What the edge of the road does besides passing requests on: whom it believes, which targets it
//! takes, what a route changes in heads, and what it answers by itself.
//!
//! `convert::edge` and `convert::edits` read these; `proxy` acts on them as they are, so everything
//! that can be made ready (field names, field values, pieces of templates) is. Invariant: no field
//! value here can break a head, and no edit names a field that frames a message.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode};

use crate::config::units::ByteSize;

/// A block of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Of IPv4, in host order.
    V4 {
        /// Its first address.
        base: u32,
        /// Ones where an address must agree with `base`.
        mask: u32,
    },
    /// Of IPv6, in host order.
    V6 {
        /// Its first address.
        base: u128,
        /// Ones where an address must agree with `base`.
        mask: u128,
    },
}

impl Network {
    /// The block of `address` and all that share its first `prefix` bits; none when the prefix is longer
    /// than the address.
    #[must_use]
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        match address {
            IpAddr::V4(address) => {
                let host = 32_u32.checked_sub(prefix.into())?;
                let mask = u32::MAX.checked_shl(host).unwrap_or(0);
                let base = u32::from(address) & mask;
                Some(Self::V4 { base, mask })
            }
            IpAddr::V6(address) => {
                let host = 128_u32.checked_sub(prefix.into())?;
                let mask = u128::MAX.checked_shl(host).unwrap_or(0);
                let base = u128::from(address) & mask;
                Some(Self::V6 { base, mask })
            }
        }
    }

    /// Whether `address` is in it. An IPv4 address that is written as IPv6 counts as what it is.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        match (self, address.to_canonical()) {
            (Self::V4 { base, mask }, IpAddr::V4(address)) => u32::from(address) & mask == base,
            (Self::V6 { base, mask }, IpAddr::V6(address)) => u128::from(address) & mask == base,
            (Self::V4 { .. }, IpAddr::V6(_)) | (Self::V6 { .. }, IpAddr::V4(_)) => false,
        }
    }

    /// Its first address.
    #[must_use]
    pub fn first(self) -> IpAddr {
        match self {
            Self::V4 { base, .. } => Ipv4Addr::from(base).into(),
            Self::V6 { base, .. } => Ipv6Addr::from(base).into(),
        }
    }
}

/// In which fields proxies tell each other who the client is: what is read from trusted ones, and
/// what is sent to endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Forwarding {
    /// `X-Forwarded-For`, `-Proto` and `-Host`.
    #[default]
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Rfc7239,
    /// Both; a client that they disagree about is not believed.
    Both,
}

/// What is done about paths that servers read in different ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathRules {
    /// Whether `%2F` is passed on; refused otherwise. Default refused.
    pub keep_encoded_slash: bool,
    /// Whether `;` is passed on; refused otherwise. Default refused.
    pub keep_semicolon: bool,
    /// Whether `//` becomes `/`; refused otherwise. Default merged.
    pub merge_slashes: bool,
}

impl Default for PathRules {
    fn default() -> Self {
        Self {
            keep_encoded_slash: false,
            keep_semicolon: false,
            merge_slashes: true,
        }
    }
}

/// Largest request body; 0 means any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimit(pub ByteSize);

impl BodyLimit {
    /// In bytes; the largest number where there is none.
    #[must_use]
    pub fn bytes(self) -> u64 {
        match self.0.0 {
            0 => u64::MAX,
            bytes => bytes,
        }
    }
}

/// What a route does to requests and answers on its edge.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RouteEdge {
    /// Where plain requests are sent instead.
    pub to_https: Option<ToHttps>,
    /// The path that endpoints see.
    pub rewrite: Option<Rewrite>,
    /// Changes to the heads of requests to endpoints.
    pub request_headers: Option<FieldEdits>,
    /// Changes to the heads of answers to clients.
    pub response_headers: Option<FieldEdits>,
    /// `Strict-Transport-Security`, for clients on TLS.
    pub hsts: Option<HeaderValue>,
    /// Which pages of other origins may read the answers.
    pub cors: Option<Cors>,
}

/// `redirect: { https: true }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToHttps {
    /// Default 443, which the target leaves out.
    pub port: NonZeroU16,
    /// Default 308.
    pub status: StatusCode,
}

/// The path that endpoints see, made of the client's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewrite {
    /// `strip_prefix` and `replace_prefix`: whole segments; other paths stay.
    Prefix {
        /// Taken away; without a trailing `/`.
        strip: Arc<str>,
        /// Put in its place; without a trailing `/`, may be empty.
        with: Arc<str>,
    },
    /// `path`: a template over the captures of the route's own path.
    Template(Vec<PathPiece>),
}

/// A piece of a path template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathPiece {
    /// As it stands.
    Text(Arc<str>),
    /// What the route's path has captured under this name.
    Capture(Arc<str>),
}

/// Changes to header fields: first `remove`, then `set`, then `add`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldEdits {
    /// All fields of these names.
    pub remove: Vec<HeaderName>,
    /// In place of all fields of their names.
    pub set: Vec<(HeaderName, Template)>,
    /// Beside the fields of their names.
    pub add: Vec<(HeaderName, Template)>,
}

/// A text with variables of the request in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Template {
    /// Without any.
    Fixed(HeaderValue),
    /// To be put together for each request.
    Made(Vec<Piece>),
}

/// A piece of a text with variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// As it stands.
    Text(Arc<str>),
    /// Of the request.
    Variable(Variable),
}

/// What a template may say of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variable {
    /// `{client_ip}`: the client's address.
    ClientIp,
    /// `{host}`: the host asked for, with its port unless that is the scheme's own.
    Host,
    /// `{path}`: the canonical path.
    Path,
    /// `{query}`: the query with its `?`, or nothing.
    Query,
    /// `{request_id}`: the id in the log.
    RequestId,
    /// `{scheme}`: `http` or `https`.
    Scheme,
}

/// `redirect: { to: ... }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// The value of `Location`.
    pub to: Template,
    /// Default 302.
    pub status: StatusCode,
}

/// `respond`: an answer from the config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Respond {
    /// Default 200.
    pub status: StatusCode,
    /// Default empty.
    pub body: Bytes,
    /// The other fields of its head, `Content-Type` included.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// Which pages of other origins may read the answers of a route (the CORS protocol of the Fetch
/// standard).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// Whose pages.
    pub origins: Origins,
    /// Methods beyond the safelisted ones.
    pub methods: Vec<Method>,
    /// `Access-Control-Allow-Methods`.
    pub allow_methods: HeaderValue,
    /// `Access-Control-Allow-Headers`.
    pub allow_headers: Option<HeaderValue>,
    /// `Access-Control-Expose-Headers`.
    pub expose: Option<HeaderValue>,
    /// Whether cookies may be sent.
    pub credentials: bool,
    /// `Access-Control-Max-Age`.
    pub max_age: Option<HeaderValue>,
}

/// Whose pages may read answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// Everybody's.
    Any,
    /// Those of these.
    Of(Vec<OriginPattern>),
}

/// An origin, or all below a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginPattern {
    /// Exactly this one, as browsers spell it.
    Exact(Arc<str>),
    /// `https://*.example:8443`: one or more labels between the two.
    Below {
        /// `https://`.
        scheme: Arc<str>,
        /// `.example:8443`.
        suffix: Arc<str>,
    },
}

/// How long a browser may keep the answer to a preflight, at most: what they all cut to less anyway.
pub const MAX_CORS_AGE: Duration = Duration::from_secs(86_400);
