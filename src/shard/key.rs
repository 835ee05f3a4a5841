//! Finding the shard key in a request.
//!
//! `map` asks once per request. Path and query are percent-decoded (RFC 3986, section 2.1; `+` is
//! itself), since that is how the shard behind reads them; headers and cookies are taken as they
//! are. Invariant: whatever could be read in two ways (different values, a broken escape) is a
//! `Problem`, so that the shard and Headgate cannot disagree about the key.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::borrow::Cow;
use std::fmt;

use http::HeaderMap;
use http::header::COOKIE;

use super::map::Problem;
use crate::config::model::ShardKey;

/// The pieces of a request that a key may stand in.
#[derive(Clone, Copy)]
pub struct KeySource<'a> {
    /// Captures of the route's path template, by name, as they stand in the path.
    pub capture: &'a dyn Fn(&str) -> Option<&'a str>,
    /// All header fields.
    pub headers: &'a HeaderMap,
    /// Without the `?`.
    pub query: Option<&'a str>,
}

impl fmt::Debug for KeySource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySource")
            .field("query", &self.query)
            .finish_non_exhaustive()
    }
}

/// A key's bytes, borrowed unless they had to be decoded.
type Key<'a> = Cow<'a, [u8]>;

pub(super) fn find<'a>(key: &ShardKey, source: &KeySource<'a>) -> Result<Key<'a>, Problem> {
    match key {
        ShardKey::Path(name) => decode((source.capture)(name).ok_or(Problem::Missing)?),
        ShardKey::Header(name) => {
            let values = source.headers.get_all(name).iter();
            only_one(values.map(|value| Ok(Cow::Borrowed(value.as_bytes()))))
        }
        ShardKey::Cookie(name) => only_one(cookies(source.headers, name.as_bytes())),
        ShardKey::Query(name) => only_one(parameters(source.query.unwrap_or_default(), name)),
    }
}

fn only_one<'a>(
    mut values: impl Iterator<Item = Result<Key<'a>, Problem>>,
) -> Result<Key<'a>, Problem> {
    let first = values.next().ok_or(Problem::Missing)??;
    for value in values {
        if value? != first {
            return Err(Problem::Repeated);
        }
    }
    Ok(first)
}

/// Values of one cookie, over all `Cookie` fields: HTTP/2 may split them (RFC 9113, 8.2.3).
fn cookies<'a>(
    headers: &'a HeaderMap,
    name: &[u8],
) -> impl Iterator<Item = Result<Key<'a>, Problem>> {
    let fields = headers.get_all(COOKIE).iter();
    let pairs = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(move |pair| {
        let value = pair.trim_ascii().strip_prefix(name)?.strip_prefix(b"=")?;
        Some(Ok(Cow::Borrowed(value)))
    })
}

fn parameters<'a>(query: &'a str, name: &str) -> impl Iterator<Item = Result<Key<'a>, Problem>> {
    query.split('&').filter_map(move |parameter| {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        // A name with a broken escape is some other parameter, and not ours to refuse.
        let ours = !parameter.is_empty() && decode(key).is_ok_and(|key| *key == *name.as_bytes());
        ours.then(|| decode(value))
    })
}

fn decode(text: &str) -> Result<Key<'_>, Problem> {
    let mut rest = text.as_bytes();
    if !rest.contains(&b'%') {
        return Ok(Cow::Borrowed(rest));
    }
    let mut decoded = Vec::with_capacity(rest.len());
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let [high, low, after @ ..] = rest else {
            return Err(Problem::Malformed);
        };
        let (Some(high), Some(low)) = (hex(*high), hex(*low)) else {
            return Err(Problem::Malformed);
        };
        decoded.push(high << 4 | low);
        rest = after;
    }
    Ok(Cow::Owned(decoded))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}
