//! Doors into this room for `fuzz/`, compiled for it and, so that they stay whole, with the tests.
//!
//! What is read from files has checksums, which no fuzzer would guess: they are added here.

use aws_lc_rs::digest::{self, SHA256};
use http::HeaderMap;

use crate::cache::purge::Standing;

use super::purges::{End, Purges};
use super::record::{Meta, PREFIX};

/// Reads what a file has between its beginning and the checksum, and writes it anew, twice; nothing when it
/// cannot be read.
#[must_use]
pub fn reread(meta: &[u8]) -> Option<[Vec<u8>; 2]> {
    let mut bytes = b"HGCACHE\x01".to_vec();
    bytes.extend_from_slice(&u32::try_from(meta.len()).ok()?.to_le_bytes());
    assert_eq!(bytes.len(), PREFIX);
    bytes.extend_from_slice(meta);
    let digest = digest::digest(&SHA256, &bytes);
    bytes.extend_from_slice(digest.as_ref());
    let first = Meta::decode(&bytes)?.encode();
    assert_eq!(Meta::length(&first[..PREFIX]), Some(first.len()));
    let second = Meta::decode(&first).expect("what was written").encode();
    Some([first, second])
}

/// Whether bytes are taken for the beginning of a file, although nobody has made their checksum.
#[must_use]
pub fn torn(bytes: &[u8]) -> bool {
    Meta::decode(bytes).is_some()
}

/// A journal that was read.
#[derive(Debug)]
pub struct Journal(Purges, End);

impl Journal {
    /// Reads bytes as they are.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        Purges::read(bytes, 1 << 20).map(|(purges, end)| Self(purges, end))
    }

    /// The bytes of a journal with these records, which are given their lengths and checksums.
    #[must_use]
    pub fn of(epoch: u64, floor: u64, records: &[&[u8]]) -> Vec<u8> {
        let check = |bytes: &[u8]| {
            let signed = [&epoch.to_le_bytes(), bytes].concat();
            digest::digest(&SHA256, &signed).as_ref()[..8].to_vec()
        };
        let mut bytes = b"HGPURGE\x01".to_vec();
        bytes.extend_from_slice(&epoch.to_le_bytes());
        bytes.extend_from_slice(&floor.to_le_bytes());
        bytes.extend(check(&bytes));
        for record in records {
            let length = u16::try_from(record.len()).unwrap_or(u16::MAX);
            let record = &record[..usize::from(length)];
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(record);
            bytes.extend(check(record));
        }
        bytes
    }

    /// Writes it anew.
    #[must_use]
    pub fn rewritten(&mut self) -> Vec<u8> {
        let mut bytes = self.0.shorten(0);
        bytes.extend(self.0.end(self.1));
        bytes
    }

    /// What its purges have left of an answer to a URL that was asked for after the purge `born`: 0 all, 1 a
    /// stale answer, 2 nothing.
    #[must_use]
    pub fn standing(&self, born: u64, url: &[u8]) -> u8 {
        match self.0.standing(born, url, &HeaderMap::new()) {
            Standing::Current => 0,
            Standing::Stale => 1,
            Standing::Gone => 2,
        }
    }

    /// The last purge.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.1.last
    }
}
