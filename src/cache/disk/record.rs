//! A stored answer as the bytes of a file.
//!
//! ```text
//! magic and version, length of the meta part | meta | SHA-256 of all before | body
//! ```
//!
//! The meta part holds the key, what purges and `Vary` need, the life of the answer, its head, and length
//! and SHA-256 of the body. `writer` makes such bytes, `reader` takes them apart; the index is rebuilt from
//! the meta parts alone. Times are of the wall clock, in milliseconds since the epoch. Invariant: bytes that
//! are not exactly those that were written are no answer.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{self, SHA256};
use http::StatusCode;
use http::header::{AGE, CACHE_STATUS, HeaderMap, HeaderName, HeaderValue};

use crate::cache::entry::Entry;
use crate::cache::form::Coded;
use crate::cache::freshness::Freshness;
use crate::cache::head::X_REQUEST_ID;
use crate::cache::key::Key;
use crate::cache::vary::Vary;
use crate::config::model::Coding;
use crate::encode::Maker;

const MAGIC: &[u8; 8] = b"HGCACHE\x02";
/// Bytes before the meta part.
pub(super) const PREFIX: usize = MAGIC.len() + 4;
const DIGEST: usize = 32;
/// No head that a peer may send comes near it.
const MAX_META: usize = 4 << 20;

/// What a file says before its body.
#[derive(Debug)]
pub(super) struct Meta {
    /// Of the journal under which it was written.
    pub(super) epoch: u64,
    /// The last purge before it was asked for.
    pub(super) born: u64,
    pub(super) received: u64,
    pub(super) dated: u64,
    pub(super) freshness: Freshness,
    pub(super) status: StatusCode,
    pub(super) key: Vec<u8>,
    pub(super) vary: Vary,
    /// All that the origin said, what was for the cache alone included.
    pub(super) headers: HeaderMap,
    /// How the body is compressed, where clients are told apart by whether they take that.
    pub(super) coded: Option<Coded>,
    pub(super) body_length: u64,
    body_digest: [u8; DIGEST],
}

impl Meta {
    /// Of an entry that was received at `received`; hashes its body.
    pub(super) fn of(key: &[u8], entry: &Entry, epoch: u64, received: u64) -> Self {
        let mut digest = digest::Context::new(&SHA256);
        for piece in entry.body.pieces() {
            digest.update(piece);
        }
        let mut headers = entry.head.said();
        for blank in [AGE, CACHE_STATUS, X_REQUEST_ID] {
            headers.remove(blank);
        }
        if let Some(inner) = entry.head.inner() {
            headers.insert(CACHE_STATUS, inner.clone());
        }
        Self {
            epoch,
            born: entry.generation.born(),
            received,
            dated: milliseconds(entry.dated),
            freshness: entry.age.freshness(),
            status: entry.head.status,
            key: key.to_vec(),
            vary: entry.vary.clone(),
            headers,
            coded: entry.head.coded,
            body_length: entry.body.len(),
            body_digest: sum(digest),
        }
    }

    /// Whether these are the bytes of the body.
    pub(super) fn is_of<'a>(&self, body: impl Iterator<Item = &'a [u8]>) -> bool {
        let mut digest = digest::Context::new(&SHA256);
        body.for_each(|piece| digest.update(piece));
        sum(digest) == self.body_digest
    }

    pub(super) fn url(&self) -> &[u8] {
        Key::of(&self.key).url()
    }

    /// All bytes before the body.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Out(Vec::with_capacity(1024));
        out.0.extend_from_slice(MAGIC);
        out.u32(0);
        let Self {
            epoch,
            born,
            received,
            dated,
            freshness,
            status,
            key,
            vary,
            headers,
            coded,
            body_length,
            body_digest,
        } = self;
        for number in [epoch, born, received, dated, body_length] {
            out.u64(*number);
        }
        out.0.extend_from_slice(body_digest);
        out.life(freshness);
        out.u32(u32::from(status.as_u16()));
        out.bytes(key);
        out.u32(count(vary.parts().count()));
        for (name, sent, value) in vary.parts() {
            out.bytes(name.as_str().as_bytes());
            out.maybe(sent.map(HeaderValue::as_bytes));
            out.maybe(value);
        }
        out.u32(count(headers.len()));
        for (name, value) in headers {
            out.bytes(name.as_str().as_bytes());
            out.bytes(value.as_bytes());
        }
        out.u32(coded.map_or(0, coded_as));
        let Out(mut bytes) = out;
        let length = count(bytes.len().saturating_sub(PREFIX)).to_le_bytes();
        if let Some(place) = bytes.get_mut(MAGIC.len()..PREFIX) {
            place.copy_from_slice(&length);
        }
        let digest = digest::digest(&SHA256, &bytes);
        bytes.extend_from_slice(digest.as_ref());
        bytes
    }

    /// How many bytes a file has before its body, by its first `PREFIX` bytes.
    pub(super) fn length(prefix: &[u8]) -> Option<usize> {
        let length = prefix.strip_prefix(MAGIC)?.first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        if length > MAX_META {
            return None;
        }
        length.checked_add(PREFIX)?.checked_add(DIGEST)
    }

    /// Reads all bytes before the body.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (signed, digest) = bytes.split_last_chunk::<DIGEST>()?;
        if digest::digest(&SHA256, signed).as_ref() != digest {
            return None;
        }
        let mut from = In(signed.get(PREFIX..)?);
        let [epoch, born, received, dated, body_length] = [
            from.u64()?,
            from.u64()?,
            from.u64()?,
            from.u64()?,
            from.u64()?,
        ];
        let body_digest = *from.take(DIGEST)?.first_chunk()?;
        let freshness = from.life()?;
        let status = StatusCode::from_u16(u16::try_from(from.u32()?).ok()?).ok()?;
        let key = from.bytes()?.to_vec();
        let mut nominated = Vec::new();
        for _ in 0..from.u32()? {
            let name = HeaderName::from_bytes(from.bytes()?).ok()?;
            let sent = match from.maybe()? {
                Some(line) => Some(HeaderValue::from_bytes(line).ok()?),
                None => None,
            };
            nominated.push((name, sent, from.maybe()?.map(Box::from)));
        }
        let mut headers = HeaderMap::new();
        for _ in 0..from.u32()? {
            let name = HeaderName::from_bytes(from.bytes()?).ok()?;
            let value = HeaderValue::from_bytes(from.bytes()?).ok()?;
            // More names than a map can hold were never written.
            headers.try_append(name, value).ok()?;
        }
        let coded = match from.u32()? {
            0 => None,
            written => Some(coded_from(written, &headers)?),
        };
        from.0.is_empty().then_some(Self {
            epoch,
            born,
            received,
            dated,
            freshness,
            status,
            key,
            vary: Vary::from_parts(nominated),
            headers,
            coded,
            body_length,
            body_digest,
        })
    }
}

/// Codings as files have them, by who has compressed.
const CODED: [(u32, Coding, Maker); 6] = [
    (1, Coding::Gzip, Maker::Headgate),
    (2, Coding::Brotli, Maker::Headgate),
    (3, Coding::Zstd, Maker::Headgate),
    (17, Coding::Gzip, Maker::Origin),
    (18, Coding::Brotli, Maker::Origin),
    (19, Coding::Zstd, Maker::Origin),
];

fn coded_as(coded: Coded) -> u32 {
    let mut known = CODED.into_iter();
    let known = known.find(|(_, coding, by)| (*coding, *by) == (coded.coding, coded.by));
    known.map_or(0, |(number, _, _)| number)
}

fn coded_from(written: u32, said: &HeaderMap) -> Option<Coded> {
    let mut known = CODED.into_iter();
    let (_, coding, by) = known.find(|(number, _, _)| *number == written)?;
    Some(Coded::new(coding, by, said))
}

/// Milliseconds since the epoch; zero before it.
pub(super) fn milliseconds(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn sum(digest: digest::Context) -> [u8; DIGEST] {
    let digest = digest.finish();
    digest.as_ref().first_chunk().copied().unwrap_or_default()
}

/// More than `u32` holds is cut, and then the digest or the length does not fit: no answer.
fn count(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}

struct Out(Vec<u8>);

impl Out {
    fn u32(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn u64(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.u32(count(bytes.len()));
        self.0.extend_from_slice(bytes);
    }

    fn maybe(&mut self, bytes: Option<&[u8]>) {
        self.0.push(u8::from(bytes.is_some()));
        if let Some(bytes) = bytes {
            self.bytes(bytes);
        }
    }

    fn time(&mut self, time: Duration) {
        self.u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    }

    fn life(&mut self, freshness: &Freshness) {
        let Freshness {
            initial_age,
            lifetime,
            always_validated,
            never_stale,
            stale_while_revalidate,
            stale_if_error,
            immutable,
            is_for_all,
        } = *freshness;
        self.time(initial_age);
        self.time(lifetime);
        self.time(stale_while_revalidate);
        self.time(stale_if_error.unwrap_or_default());
        for flag in [
            stale_if_error.is_some(),
            always_validated,
            never_stale,
            immutable,
            is_for_all,
        ] {
            self.0.push(u8::from(flag));
        }
    }
}

struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn flag(&mut self) -> Option<bool> {
        Some(*self.take(1)?.first()? != 0)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(*self.take(4)?.first_chunk()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(*self.take(8)?.first_chunk()?))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        self.take(length)
    }

    fn maybe(&mut self) -> Option<Option<&'a [u8]>> {
        match self.flag()? {
            true => self.bytes().map(Some),
            false => Some(None),
        }
    }

    fn time(&mut self) -> Option<Duration> {
        self.u64().map(Duration::from_millis)
    }

    fn life(&mut self) -> Option<Freshness> {
        let (initial_age, lifetime) = (self.time()?, self.time()?);
        let (stale_while_revalidate, stale_if_error) = (self.time()?, self.time()?);
        Some(Freshness {
            initial_age,
            lifetime,
            stale_while_revalidate,
            stale_if_error: self.flag()?.then_some(stale_if_error),
            always_validated: self.flag()?,
            never_stale: self.flag()?,
            immutable: self.flag()?,
            is_for_all: self.flag()?,
        })
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test fails by it")]
mod tests {
    use super::*;

    fn meta() -> Meta {
        let mut headers = HeaderMap::new();
        headers.append("etag", HeaderValue::from_static("\"1\""));
        headers.append("x", HeaderValue::from_static("a"));
        headers.append("x", HeaderValue::from_static(""));
        let vary = vec![
            (HeaderName::from_static("a"), None, None),
            (
                HeaderName::from_static("b"),
                Some(HeaderValue::from_static("1 ")),
                Some(Box::from(&b"1"[..])),
            ),
        ];
        Meta {
            epoch: 7,
            born: 3,
            received: 1_000,
            dated: 900,
            freshness: Freshness {
                lifetime: Duration::from_secs(60),
                stale_if_error: Some(Duration::from_secs(5)),
                immutable: true,
                ..Freshness::NONE
            },
            status: StatusCode::NOT_FOUND,
            key: b"http\0shop\0/p\0shop".to_vec(),
            vary: Vary::from_parts(vary),
            coded: Some(Coded::new(Coding::Brotli, Maker::Origin, &headers)),
            headers,
            body_length: 4,
            body_digest: [1; DIGEST],
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let meta = meta();
        let bytes = meta.encode();
        assert_eq!(Meta::length(&bytes), Some(bytes.len()));
        let read = Meta::decode(&bytes).unwrap();
        assert_eq!(format!("{read:?}"), format!("{meta:?}"));
        assert_eq!(read.url(), b"http\0shop\0/p");
    }

    #[test]
    fn no_byte_may_differ_and_none_may_be_missing() {
        let bytes = meta().encode();
        for at in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1;
            assert!(Meta::decode(&wrong).is_none(), "{at}");
            assert!(Meta::decode(&bytes[..at]).is_none(), "{at}");
        }
    }

    #[test]
    fn a_length_beyond_reason_is_none() {
        let mut bytes = meta().encode();
        bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Meta::length(&bytes), None);
        assert_eq!(Meta::length(b"HGCACHE\x01\0\0\0\0"), None);
        assert_eq!(Meta::length(b"HG"), None);
    }
}
