//! Entity tags and the preconditions that name them (RFC 9110 sections 8.8.3 and 13.1).
//!
//! Every versioned row has a strong [`Tag`] made of its kind, id and version. Handlers take
//! [`IfMatch`] into the write's transaction, where the version is read, so that check and change are
//! one step; [`IfNoneMatch`] turns a read into a 304.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::{convert::Infallible, fmt};

use axum::{
    Json,
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::problem::Problem;

/// The strong entity tag of one version of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tag(String);

/// `If-Match`: the write happens only on a version that the client knows.
#[derive(Debug)]
pub(crate) struct IfMatch(Listed);

/// `If-None-Match`: the read is answered only when the client knows no current version.
#[derive(Debug)]
pub(crate) struct IfNoneMatch(Listed);

#[derive(Debug, PartialEq, Eq)]
enum Listed {
    Absent,
    Any,
    Tags(Vec<Mentioned>),
}

/// A tag as a client wrote it, without its quotes.
#[derive(Debug, PartialEq, Eq)]
struct Mentioned {
    weak: bool,
    opaque: Vec<u8>,
}

impl Tag {
    /// For example `"p-17-v3"`; `kind` and `id` must not need quoting, which ids never do.
    pub(crate) fn new(kind: &str, id: impl fmt::Display, version: i64) -> Self {
        Self(format!("{kind}-{id}-v{version}"))
    }

    /// The field value, quotes included.
    pub(crate) fn to_header(&self) -> HeaderValue {
        HeaderValue::from_str(&format!("\"{}\"", self.0))
            .unwrap_or_else(|_not_ascii| HeaderValue::from_static("\"\""))
    }

    /// 200 with `body`, or 304 where the client already has this version.
    pub(crate) fn answer(
        &self,
        known: &IfNoneMatch,
        cache_control: HeaderValue,
        body: impl Serialize,
    ) -> Response {
        let headers = [
            (header::CACHE_CONTROL, cache_control),
            (header::ETAG, self.to_header()),
        ];
        if known.names(self) {
            (StatusCode::NOT_MODIFIED, headers).into_response()
        } else {
            (headers, Json(body)).into_response()
        }
    }
}

impl IfMatch {
    /// Refuses with 412 unless the field is absent or names `current` by strong comparison.
    pub(crate) fn check(&self, current: &Tag) -> Result<(), Problem> {
        let holds = match &self.0 {
            Listed::Absent | Listed::Any => true,
            Listed::Tags(tags) => tags
                .iter()
                .any(|tag| !tag.weak && tag.opaque == current.0.as_bytes()),
        };
        if holds {
            Ok(())
        } else {
            Err(Problem::precondition_failed())
        }
    }
}

impl IfNoneMatch {
    /// Weak comparison.
    fn names(&self, current: &Tag) -> bool {
        match &self.0 {
            Listed::Absent => false,
            Listed::Any => true,
            Listed::Tags(tags) => tags.iter().any(|tag| tag.opaque == current.0.as_bytes()),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    /// A field that cannot be read is refused: to ignore it would be to write without its protection.
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        read(&parts.headers, &header::IF_MATCH)
            .map(Self)
            .ok_or_else(|| Problem::bad_request("If-Match holds no list of entity tags"))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfNoneMatch {
    type Rejection = Infallible;

    /// A field that cannot be read costs a full answer, nothing more.
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self(
            read(&parts.headers, &header::IF_NONE_MATCH).unwrap_or(Listed::Absent),
        ))
    }
}

fn read(headers: &HeaderMap, name: &HeaderName) -> Option<Listed> {
    let mut tags = Vec::new();
    let mut present = false;
    for value in headers.get_all(name) {
        present = true;
        if value.as_bytes().trim_ascii() == b"*" {
            return Some(Listed::Any);
        }
        read_list(value.as_bytes(), &mut tags)?;
    }
    Some(if present {
        Listed::Tags(tags)
    } else {
        Listed::Absent
    })
}

fn read_list(mut rest: &[u8], tags: &mut Vec<Mentioned>) -> Option<()> {
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return Some(());
        }
        if let Some(after) = rest.strip_prefix(b",") {
            rest = after;
            continue;
        }
        let (weak, quoted) = match rest.strip_prefix(b"W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let inside = quoted.strip_prefix(b"\"")?;
        let (opaque, after) = inside.split_at(inside.iter().position(|byte| *byte == b'"')?);
        tags.push(Mentioned {
            weak,
            opaque: opaque.to_vec(),
        });
        rest = after.strip_prefix(b"\"")?.trim_ascii_start();
        if !rest.is_empty() && !rest.starts_with(b",") {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(values: &[&'static str]) -> Option<Listed> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::IF_MATCH, HeaderValue::from_static(value));
        }
        read(&headers, &header::IF_MATCH)
    }

    fn allows(values: &[&'static str]) -> bool {
        IfMatch(listed(values).expect("reads"))
            .check(&Tag::new("p", 17, 3))
            .is_ok()
    }

    fn names(values: &[&'static str]) -> bool {
        IfNoneMatch(listed(values).expect("reads")).names(&Tag::new("p", 17, 3))
    }

    #[test]
    fn a_strong_match_refuses_weak_tags_and_a_weak_match_takes_them() {
        assert!(allows(&[]) && allows(&["*"]) && allows(&["\"p-17-v3\""]));
        assert!(!allows(&["\"p-17-v2\""]) && !allows(&["W/\"p-17-v3\""]));
        assert!(names(&["*"]) && names(&["\"p-17-v3\""]) && names(&["W/\"p-17-v3\""]));
        assert!(!names(&[]) && !names(&["\"p-17-v33\""]));
    }

    #[test]
    fn lists_span_lines_and_commas_may_stand_inside_quotes() {
        assert!(allows(&["\"a,\" , W/\"b\"", ",\"p-17-v3\","]));
        assert!(!allows(&["\"a,p-17-v3\""]));
    }

    #[test]
    fn what_is_no_list_of_tags_is_not_guessed() {
        for broken in ["p-17-v3", "\"p-17-v3", "\"a\" \"b\"", "w/\"a\"", "*, \"a\""] {
            assert_eq!(listed(&[broken]), None, "{broken}");
        }
    }
}
