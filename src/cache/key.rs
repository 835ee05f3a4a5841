//! The bytes under which an answer is found: the URL, who answers, and what else the route tells apart
//! (RFC 9111 section 2).
//!
//! `store` and `flight` use the same bytes. They are built into a buffer that the caller keeps, so
//! a look-up allocates nothing. A zero byte parts the pieces: none of them can hold one, so two
//! different URLs never share a key. The URL comes first and is what purges look at: a write invalidates
//! it whoever answered. Nominated `Vary` values follow in a flight's key only.

use http::HeaderMap;
use memchr::memchr_iter;

use crate::config::model::CacheRule;

use super::{cookies, device, vary};

/// A key, and how much of it is the URL.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) url_len: usize,
}

impl<'a> Key<'a> {
    /// A key that `build` made some time ago.
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        let end = memchr_iter(0, bytes).nth(2);
        Self {
            bytes,
            url_len: end.unwrap_or(bytes.len()),
        }
    }

    /// The URL: scheme, host and target, each but the last with a zero byte behind it.
    pub(super) fn url(&self) -> &'a [u8] {
        self.bytes.get(..self.url_len).unwrap_or_default()
    }
}

/// Writes a key into `scratch`, replacing what it held, and returns how much of it is the URL.
///
/// `source` names who answers: two upstreams, or two shards, may have different answers for one URL.
/// `host` is as sent: its case and the scheme's own port do not matter (RFC 9110 section 4.2.3).
/// `path_and_query` is as it is forwarded.
pub(super) fn build(
    scratch: &mut Vec<u8>,
    source: &str,
    scheme: &str,
    host: &[u8],
    path_and_query: &str,
) -> usize {
    scratch.clear();
    url(scratch, scheme, host, path_and_query);
    let url_len = scratch.len();
    scratch.push(0);
    scratch.extend_from_slice(source.as_bytes());
    url_len
}

/// Appends what the route tells requests apart by.
pub(super) fn extend(scratch: &mut Vec<u8>, rule: &CacheRule, request: &HeaderMap) {
    if rule.coding.is_some() {
        // Its answers do not tell requests apart as others do. A field's name has no blank.
        scratch.extend_from_slice(b"\0 coded");
    }
    let rule = &rule.key;
    for name in &rule.headers {
        vary::extend_key(name, request, scratch);
    }
    for name in &rule.cookies {
        // A field's name has no blank.
        scratch.extend_from_slice(b"\0cookie ");
        scratch.extend_from_slice(name.as_bytes());
        for cookie in cookies::named(request, name) {
            scratch.push(b'\n');
            scratch.extend_from_slice(cookie);
        }
    }
    if rule.device {
        scratch.extend_from_slice(b"\0device ");
        scratch.extend_from_slice(device::class(request).as_bytes());
    }
}

/// A key as people read it: pieces with blanks between, names and values with `=`; cut where it is long.
pub(super) fn told(key: &[u8]) -> String {
    const LONGEST: usize = 1024;
    let mut text = String::with_capacity(key.len().min(LONGEST));
    for &byte in key {
        if text.len() >= LONGEST {
            text.push_str("...");
            break;
        }
        match byte {
            0 => text.push(' '),
            b'\n' => text.push('='),
            b' '..=b'~' => text.push(char::from(byte)),
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

/// Appends a URL as keys have it, or its beginning.
pub(super) fn url(scratch: &mut Vec<u8>, scheme: &str, host: &[u8], path_and_query: &str) {
    authority(scratch, scheme, host);
    scratch.push(0);
    scratch.extend_from_slice(path_and_query.as_bytes());
}

/// Appends scheme and host as keys have them.
pub(super) fn authority(scratch: &mut Vec<u8>, scheme: &str, host: &[u8]) {
    scratch.extend_from_slice(scheme.as_bytes());
    scratch.push(0);
    let port: &[u8] = if scheme == "https" { b":443" } else { b":80" };
    let name = host.strip_suffix(port).unwrap_or(host);
    let host = scratch.len();
    scratch.extend_from_slice(name);
    scratch.get_mut(host..).map(<[u8]>::make_ascii_lowercase);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(scheme: &str, host: &str, path: &str) -> Vec<u8> {
        let mut scratch = b"left over".to_vec();
        build(&mut scratch, "shop", scheme, host.as_bytes(), path);
        scratch
    }

    #[test]
    fn spellings_of_one_host_share_a_key() {
        assert_eq!(
            key("http", "Shop.Example:80", "/"),
            key("http", "shop.example", "/")
        );
        assert_eq!(key("https", "shop:443", "/"), key("https", "SHOP", "/"));
        assert_ne!(key("https", "shop:80", "/"), key("https", "shop", "/"));
        assert_ne!(key("http", "shop", "/A"), key("http", "shop", "/a"));
    }

    #[test]
    fn sources_are_kept_apart_and_share_their_url() {
        let (mut one, mut other) = (Vec::new(), Vec::new());
        let url_of_one = build(&mut one, "a", "http", b"shop", "/");
        let url_of_other = build(&mut other, "b-2", "http", b"shop", "/");
        assert_ne!(one, other);
        assert_eq!(one[..url_of_one], other[..url_of_other]);
        assert_eq!(Key::of(&one).url(), &one[..url_of_one]);
    }

    #[test]
    fn each_part_of_a_url_tells_keys_apart() {
        let keys = [
            key("http", "a", "/"),
            key("https", "a", "/"),
            key("http", "a:81", "/"),
            key("http", "a", "/?"),
            key("http", "a", "/?x=1"),
            key("http", "a", "/b"),
            key("http", "a/b", "/"),
        ];
        for (i, one) in keys.iter().enumerate() {
            assert_eq!(keys.iter().position(|other| other == one), Some(i));
        }
    }
}
