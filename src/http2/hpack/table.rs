//! The tables that a block's indices mean (RFC 7541 section 2.3).
//!
//! `decode` looks names and fields up here; `encode` asks which entry has a name. Invariant: the dynamic
//! part never exceeds what it may hold, as RFC 7541 counts it.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::VecDeque;
use std::sync::LazyLock;

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Uri};

use super::decode::Refusal;
use super::field::{Field, Flaw, Name};

/// Size of the dynamic table, which is the protocol's default: Headgate announces no other.
pub(super) const MOST: usize = 4096;
/// What a field costs beyond its bytes (RFC 7541 section 4.1).
pub(super) const OVERHEAD: usize = 32;
/// Number of the first static entry with a name that is no pseudo-header.
const PLAIN: usize = 15;
/// Number of the first dynamic entry.
const DYNAMIC: usize = 62;

/// A field with what it counts.
#[derive(Debug, Clone)]
pub(in crate::http2) struct Entry {
    pub(in crate::http2) field: Field,
    pub(in crate::http2) flaw: Option<Flaw>,
    /// Name, value and 32 bytes.
    pub(in crate::http2) size: usize,
}

/// What a connection's decoder knows.
#[derive(Debug)]
pub(super) struct Table {
    entries: VecDeque<Entry>,
    size: usize,
    max: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            max: MOST,
        }
    }
}

impl Table {
    /// The field with an index.
    pub(super) fn entry(&self, index: usize) -> Result<&Entry, Refusal> {
        let entry = match index.checked_sub(DYNAMIC) {
            Some(number) => self.entries.get(number),
            None => FIXED.get(index).and_then(Option::as_ref),
        };
        entry.ok_or(Refusal::Undecodable)
    }

    /// The name of the field with an index.
    pub(super) fn name(&self, index: usize) -> Result<Name, Refusal> {
        let name = match index.checked_sub(DYNAMIC) {
            Some(number) => self.entries.get(number).map(|entry| entry.field.name()),
            None => fixed_name(index),
        };
        name.ok_or(Refusal::Undecodable)
    }

    pub(super) fn insert(&mut self, entry: Entry) {
        let size = entry.size;
        self.shrink_to(self.max.saturating_sub(size));
        if size <= self.max {
            self.entries.push_front(entry);
            self.size = self.size.saturating_add(size);
        }
    }

    pub(super) fn resize(&mut self, max: usize) -> Result<(), Refusal> {
        if max > MOST {
            return Err(Refusal::Undecodable);
        }
        self.max = max;
        self.shrink_to(max);
        Ok(())
    }

    fn shrink_to(&mut self, size: usize) {
        while self.size > size {
            let Some(entry) = self.entries.pop_back() else {
                return;
            };
            self.size = self.size.saturating_sub(entry.size);
        }
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        let sum: usize = self.entries.iter().map(|entry| entry.size).sum();
        assert!(sum == self.size && self.size <= self.max && self.max <= MOST);
        self.size
    }
}

/// The static entries by their numbers; nothing has number 0.
static FIXED: LazyLock<[Option<Entry>; DYNAMIC]> = LazyLock::new(|| std::array::from_fn(fixed));

fn fixed(index: usize) -> Option<Entry> {
    let (field, value) = match index {
        2 => (Field::Method(Method::GET), 3),
        3 => (Field::Method(Method::POST), 4),
        4 => (Field::Path(Uri::from_static("/")), 1),
        5 => (Field::Path(Uri::from_static("/index.html")), 11),
        6 => (Field::Scheme(HeaderValue::from_static("http")), 4),
        7 => (Field::Scheme(HeaderValue::from_static("https")), 5),
        16 => {
            let value = HeaderValue::from_static("gzip, deflate");
            (Field::Plain(header::ACCEPT_ENCODING, value), 13)
        }
        // Without a value, and what is wrong with that is found like everywhere else.
        _ => {
            let name = fixed_name(index)?;
            let size = name.len().saturating_add(OVERHEAD);
            let (field, flaw) = Field::make(name, bytes::Bytes::new()).ok()?;
            return Some(Entry { field, flaw, size });
        }
    };
    let size = field.name().len().saturating_add(value);
    Some(Entry {
        field,
        flaw: None,
        size: size.saturating_add(OVERHEAD),
    })
}

fn fixed_name(index: usize) -> Option<Name> {
    Some(match index {
        1 => Name::Authority,
        2 | 3 => Name::Method,
        4 | 5 => Name::Path,
        6 | 7 => Name::Scheme,
        8..=14 => Name::Status,
        _ => Name::Plain(NAMES.get(index.checked_sub(PLAIN)?)?.clone()),
    })
}

/// The static entries from number 15 on (RFC 7541 appendix A).
static NAMES: [HeaderName; 47] = [
    header::ACCEPT_CHARSET,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
    header::ACCEPT_RANGES,
    header::ACCEPT,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::AGE,
    header::ALLOW,
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LENGTH,
    header::CONTENT_LOCATION,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::DATE,
    header::ETAG,
    header::EXPECT,
    header::EXPIRES,
    header::FROM,
    header::HOST,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::LAST_MODIFIED,
    header::LINK,
    header::LOCATION,
    header::MAX_FORWARDS,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::RANGE,
    header::REFERER,
    header::REFRESH,
    header::RETRY_AFTER,
    header::SERVER,
    header::SET_COOKIE,
    header::STRICT_TRANSPORT_SECURITY,
    header::TRANSFER_ENCODING,
    header::USER_AGENT,
    header::VARY,
    header::VIA,
    header::WWW_AUTHENTICATE,
];

/// The number of the static entry that has this name; none for those that answers do not have.
pub(super) fn number(name: &str) -> Option<u8> {
    Some(match name {
        "accept-ranges" => 18,
        "access-control-allow-origin" => 20,
        "age" => 21,
        "allow" => 22,
        "cache-control" => 24,
        "content-disposition" => 25,
        "content-encoding" => 26,
        "content-language" => 27,
        "content-length" => 28,
        "content-location" => 29,
        "content-range" => 30,
        "content-type" => 31,
        "date" => 33,
        "etag" => 34,
        "expires" => 36,
        "last-modified" => 44,
        "link" => 45,
        "location" => 46,
        "proxy-authenticate" => 48,
        "refresh" => 52,
        "retry-after" => 53,
        "server" => 54,
        "set-cookie" => 55,
        "strict-transport-security" => 56,
        "vary" => 59,
        "via" => 60,
        "www-authenticate" => 61,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_readings_of_the_static_table_agree() {
        for (at, name) in NAMES.iter().enumerate() {
            if let Some(number) = number(name.as_str()) {
                assert_eq!(usize::from(number), at + PLAIN, "{name}");
            }
            let entry = fixed(at + PLAIN).unwrap();
            assert_eq!(entry.field.name(), Name::Plain(name.clone()));
        }
        assert_eq!(NAMES.len() + PLAIN, DYNAMIC);
        assert!(fixed(0).is_none() && fixed(62).is_none());
        assert_eq!(fixed(5).unwrap().size, 5 + 11 + 32);
        assert_eq!(fixed(16).unwrap().size, 15 + 13 + 32);
        assert_eq!(fixed(59).unwrap().size, 4 + 32);
    }
}
