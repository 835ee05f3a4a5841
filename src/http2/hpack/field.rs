//! One field of a header block, made and judged once (RFC 9113 sections 8.2 and 8.3).
//!
//! `decode` makes fields of names and values, also those that its table keeps; `request` puts them together.
//! What ends the connection is no field at all. What is wrong with a field by itself, and is for its stream alone,
//! stays with it as a `Flaw`. Invariant: the value of a field can end no line of HTTP/1.1, and its name
//! is a token in lower case but for the one quote that `Flaw` tells of.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue, TE};
use http::uri::{Authority, PathAndQuery};
use http::{Method, Uri};

use super::super::fields;
use super::decode::Refusal;

/// A field as the road has it; pseudo-header fields by what they are.
#[derive(Debug, Clone)]
pub(in crate::http2) enum Field {
    Method(Method),
    Scheme(HeaderValue),
    Authority(HeaderValue),
    Path(Uri),
    /// RFC 8441 section 4.
    Protocol(HeaderValue),
    /// What only answers have.
    Status,
    Plain(HeaderName, HeaderValue),
}

/// What is wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http2) enum Flaw {
    /// Its stream is reset.
    Malformed(&'static str),
    /// Its request is answered with `400`.
    Refused(&'static str),
}

/// A field's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    Method,
    Scheme,
    Authority,
    Path,
    Protocol,
    Status,
    Plain(HeaderName),
}

impl Name {
    /// # Errors
    /// When nothing can have that name.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        Ok(match bytes {
            b":method" => Self::Method,
            b":scheme" => Self::Scheme,
            b":authority" => Self::Authority,
            b":path" => Self::Path,
            b":protocol" => Self::Protocol,
            b":status" => Self::Status,
            [b':', ..] => return Err(Refusal::Illegal("an unknown pseudo-header field")),
            _ => Self::Plain(
                HeaderName::from_lowercase(bytes)
                    .map_err(|_invalid| Refusal::Illegal("a field name that is none"))?,
            ),
        })
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Method | Self::Scheme | Self::Status => 7,
            Self::Authority => 10,
            Self::Path => 5,
            Self::Protocol => 9,
            Self::Plain(name) => name.as_str().len(),
        }
    }
}

impl Field {
    /// The name, for entries of a table.
    pub(super) fn name(&self) -> Name {
        match self {
            Self::Method(_) => Name::Method,
            Self::Scheme(_) => Name::Scheme,
            Self::Authority(_) => Name::Authority,
            Self::Path(_) => Name::Path,
            Self::Protocol(_) => Name::Protocol,
            Self::Status => Name::Status,
            Self::Plain(name, _) => Name::Plain(name.clone()),
        }
    }

    /// Marks the value as one that no table may hold.
    pub(super) fn never_index(&mut self) {
        if let Self::Plain(_, value) = self {
            value.set_sensitive(true);
        }
    }

    /// Makes a field.
    ///
    /// # Errors
    /// When it ends the connection.
    pub(super) fn make(name: Name, value: Bytes) -> Result<(Self, Option<Flaw>), Refusal> {
        Ok(match name {
            Name::Method => {
                let method = Method::from_bytes(&value)
                    .map_err(|_invalid| Refusal::Illegal(":method is none"))?;
                (Self::Method(method), None)
            }
            Name::Scheme => (Self::Scheme(text(value)?), None),
            Name::Protocol => (Self::Protocol(text(value)?), None),
            Name::Status => {
                let flaw = Flaw::Malformed("a pseudo-header field of answers");
                (Self::Status, Some(flaw))
            }
            Name::Authority => authority(value),
            Name::Path => return path(value),
            Name::Plain(name) => {
                let value = text(value)?;
                let flaw = flaw(&name, &value);
                (Self::Plain(name, value), flaw)
            }
        })
    }
}

fn text(value: Bytes) -> Result<HeaderValue, Refusal> {
    HeaderValue::from_maybe_shared(value)
        .map_err(|_invalid| Refusal::Illegal("a control byte in a field value"))
}

fn flaw(name: &HeaderName, value: &HeaderValue) -> Option<Flaw> {
    if fields::is_of_a_connection(name) {
        return Some(Flaw::Malformed("a field of a connection"));
    }
    if *name == TE && value != "trailers" {
        return Some(Flaw::Malformed("te is not trailers"));
    }
    if fields::is_padded(value) {
        return Some(Flaw::Refused("a field value begins or ends with a blank"));
    }
    let quoted = fields::is_no_token(name);
    quoted.then_some(Flaw::Refused("a field name that is no token"))
}

fn authority(value: Bytes) -> (Field, Option<Flaw>) {
    let is_user = value.contains(&b'@');
    let proven = Authority::from_maybe_shared(value.clone()).is_ok();
    let text = HeaderValue::from_maybe_shared(value).ok();
    match text.filter(|_| proven) {
        Some(text) => {
            let flaw = is_user.then_some(Flaw::Refused(":authority has user information"));
            (Field::Authority(text), flaw)
        }
        None => {
            let nothing = Field::Authority(HeaderValue::from_static(""));
            (nothing, Some(Flaw::Malformed(":authority is no authority")))
        }
    }
}

fn path(value: Bytes) -> Result<(Field, Option<Flaw>), Refusal> {
    // RFC 9110 section 7.1: no part of a request's target.
    if value.contains(&b'#') {
        return Err(Refusal::Illegal("a fragment in :path"));
    }
    let nothing = |flaw| Ok((Field::Path(Uri::default()), Some(flaw)));
    if !matches!(&*value, [b'/', ..] | b"*") {
        return nothing(if value.is_empty() {
            Flaw::Malformed(":path is empty")
        } else {
            Flaw::Refused(":path is not a path")
        });
    }
    match PathAndQuery::from_maybe_shared(value) {
        Ok(path) => Ok((Field::Path(Uri::from(path)), None)),
        Err(_invalid) => nothing(Flaw::Malformed(":path is no target")),
    }
}
