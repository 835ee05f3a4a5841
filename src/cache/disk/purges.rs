//! Purges as far as files are concerned, and the journal that brings them through a restart.
//!
//! ```text
//! magic and version, epoch, floor, check | records: length, kind, strength, number, name, check | end
//! ```
//!
//! `Cache` tells of each purge when it is in force; `writer` appends it to the journal, and shortens the
//! journal when most of it concerns nothing any more. URLs, tags, groups and hosts are kept as hashes that
//! are the same in every process, prefixes as they are. The journal of a process that ended in order closes
//! with an end record and its epoch goes on; after any other it says nothing, a new epoch begins, and what
//! was written under another one is asked about before it is used.
//! Invariants: a purge that might be missing here makes every file doubtful, now (`lost`) and after a
//! restart (no end record); what was asked for before `floor` is gone.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::HashMap;

use ahash::RandomState;
use aws_lc_rs::digest::{self, SHA256};
use http::HeaderMap;

use crate::cache::purge::{Standing, Strength};
use crate::cache::tags;

const MAGIC: &[u8; 8] = b"HGPURGE\x01";
const HEADER: usize = 32;
const CHECK: usize = 8;
/// What a named purge takes in memory, roughly.
const NAMED: usize = 64;
/// A longer prefix is not kept.
const LONGEST_PREFIX: usize = 16 * 1024;
/// Records that are not worth shortening the journal for.
const FEW: usize = 1024;

/// What a purge was for, in words of keys and fields.
#[derive(Debug, Clone, Copy)]
pub(in crate::cache) enum Purged<'a> {
    All,
    /// As keys have it.
    Url(&'a [u8]),
    /// How URLs of keys begin.
    Prefix(&'a [u8]),
    /// Without a scheme.
    Host(&'a [u8]),
    Tag(&'a [u8]),
    /// Of an origin: scheme and host as keys have them.
    Group(&'a [u8], &'a str),
}

/// The numbers of the last purges of one thing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Last {
    hard: u64,
    soft: u64,
}

impl Last {
    fn since(self, born: u64) -> Standing {
        match born {
            _ if self.hard > born => Standing::Gone,
            _ if self.soft > born => Standing::Stale,
            _ => Standing::Current,
        }
    }

    fn set(&mut self, number: u64, strength: Strength) {
        let place = match strength {
            Strength::Hard => &mut self.hard,
            Strength::Soft => &mut self.soft,
        };
        *place = number.max(*place);
    }

    fn newest(self) -> u64 {
        self.hard.max(self.soft)
    }

    fn each(self) -> impl Iterator<Item = (u64, Strength)> {
        let both = [(self.hard, Strength::Hard), (self.soft, Strength::Soft)];
        both.into_iter().filter(|(number, _)| *number > 0)
    }
}

/// The purges that concern files.
#[derive(Debug)]
pub(super) struct Purges {
    pub(super) epoch: u64,
    /// What was asked for before this purge is gone.
    pub(super) floor: u64,
    /// Something may be missing here.
    pub(super) lost: bool,
    /// The number of the last purge of all, when everything is closed.
    pub(super) last: u64,
    all: Last,
    named: HashMap<u128, Last, RandomState>,
    prefixes: HashMap<Box<[u8]>, Last, RandomState>,
    prefix_bytes: usize,
    /// Records that are not in the journal yet.
    pending: Vec<u8>,
    /// Records in the journal.
    written: usize,
    /// Bound of the tables, in bytes.
    memory: usize,
}

/// How a journal was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    /// When, in milliseconds since the epoch.
    pub(super) at: u64,
    /// The last purge.
    pub(super) last: u64,
}

const ALL: u8 = 0;
const NAME: u8 = 1;
const PREFIX: u8 = 2;
const END: u8 = 3;

impl Purges {
    /// Nothing was purged yet.
    pub(super) fn new(epoch: u64, memory: usize) -> Self {
        Self {
            epoch,
            floor: 0,
            lost: false,
            last: 0,
            all: Last::default(),
            named: HashMap::default(),
            prefixes: HashMap::default(),
            prefix_bytes: 0,
            pending: Vec::new(),
            written: 0,
            memory,
        }
    }

    /// Reads a journal that was closed; nothing when a byte of it is wrong.
    pub(super) fn read(journal: &[u8], memory: usize) -> Option<(Self, End)> {
        let (header, mut rest) = journal.split_at_checked(HEADER)?;
        let (head, sum) = header.split_last_chunk::<CHECK>()?;
        let mut numbers = head.strip_prefix(MAGIC)?.chunks_exact(8);
        let mut number = || Some(u64::from_le_bytes(*numbers.next()?.first_chunk()?));
        let (epoch, floor) = (number()?, number()?);
        if check(epoch, head) != *sum {
            return None;
        }
        let mut purges = Self::new(epoch, memory);
        purges.floor = floor;
        loop {
            let (length, after) = rest.split_first_chunk::<2>()?;
            let (record, after) =
                after.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
            let (sum, after) = after.split_first_chunk::<CHECK>()?;
            if check(epoch, record) != *sum {
                return None;
            }
            rest = after;
            let (kind, record) = record.split_first()?;
            let (strength, record) = record.split_first()?;
            let (number, name) = record.split_first_chunk::<8>()?;
            let number = u64::from_le_bytes(*number);
            let strength = match strength {
                0 => Strength::Hard,
                _ => Strength::Soft,
            };
            match *kind {
                ALL => purges.all.set(number, strength),
                NAME => {
                    let name = u128::from_le_bytes(*name.first_chunk()?);
                    purges.named.entry(name).or_default().set(number, strength);
                }
                PREFIX => purges.add_prefix(name, number, strength),
                END => {
                    let at = u64::from_le_bytes(*name.first_chunk()?);
                    let end = End { at, last: number };
                    return rest.is_empty().then_some((purges, end));
                }
                _ => return None,
            }
        }
    }

    /// Notes a purge.
    pub(super) fn add(&mut self, what: Purged<'_>, number: u64, strength: Strength) {
        if self.lost {
            return;
        }
        let mut named = |hash: u128| {
            self.named.entry(hash).or_default().set(number, strength);
            record(self.epoch, NAME, strength, number, &hash.to_le_bytes())
        };
        let record = match what {
            Purged::All => {
                self.all.set(number, strength);
                record(self.epoch, ALL, strength, number, &[])
            }
            Purged::Url(url) => named(hash(b"url", &[url])),
            Purged::Host(host) => named(hash(b"host", &[host])),
            Purged::Tag(tag) => named(hash(b"tag", &[tag])),
            Purged::Group(origin, name) => named(hash(b"group", &[origin, name.as_bytes()])),
            Purged::Prefix(prefix) if prefix.len() > LONGEST_PREFIX => {
                self.lost = true;
                return;
            }
            Purged::Prefix(prefix) => {
                self.add_prefix(prefix, number, strength);
                record(self.epoch, PREFIX, strength, number, prefix)
            }
        };
        // Written in batches; a disk that takes none is no journal, nor one that shortens it too late.
        if self.pending.len() > self.memory || self.size() > self.memory.saturating_mul(2) {
            self.lost = true;
            self.pending = Vec::new();
            return;
        }
        self.pending.extend_from_slice(&record);
        self.written = self.written.saturating_add(1);
    }

    fn add_prefix(&mut self, prefix: &[u8], number: u64, strength: Strength) {
        if !self.prefixes.contains_key(prefix) {
            self.prefix_bytes = self.prefix_bytes.saturating_add(prefix.len());
        }
        let last = self.prefixes.entry(prefix.into()).or_default();
        last.set(number, strength);
    }

    /// What purges have left of a file whose answer, to a URL as keys have it, was asked for after the
    /// purge `born` and has these fields.
    pub(super) fn standing(&self, born: u64, url: &[u8], headers: &HeaderMap) -> Standing {
        if born < self.floor {
            return Standing::Gone;
        }
        let origin = tags::origin(url);
        let groups = tags::groups(headers, &tags::CACHE_GROUPS);
        let names = [hash(b"url", &[url])]
            .into_iter()
            .chain(tags::host_names(url).map(|name| hash(b"host", &[name])))
            .chain(
                tags::names(headers)
                    .into_iter()
                    .map(|tag| hash(b"tag", &[tag])),
            )
            .chain(
                groups
                    .iter()
                    .map(|name| hash(b"group", &[origin, name.as_bytes()])),
            );
        let named = names.filter_map(|name| self.named.get(&name));
        let prefixes = self.prefixes.iter();
        let prefixes = prefixes.filter_map(|(of, last)| url.starts_with(of).then_some(last));
        let all = named.chain(prefixes).chain([&self.all]);
        let standings = all.map(|last| last.since(born));
        standings.max().unwrap_or(Standing::Current)
    }

    /// Bytes of the tables, roughly.
    fn size(&self) -> usize {
        let count = self.named.len().saturating_add(self.prefixes.len());
        count
            .saturating_mul(NAMED)
            .saturating_add(self.prefix_bytes)
    }

    /// What is still to be appended to the journal.
    pub(super) fn take_pending(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.pending)
    }

    /// Whether the tables are over their bound, or the journal much longer than they are.
    pub(super) fn is_long(&self) -> bool {
        let count = self.named.len().saturating_add(self.prefixes.len());
        self.size() > self.memory || self.written > count.saturating_mul(2).saturating_add(FEW)
    }

    /// Forgets purges that concern nothing that was asked for after `oldest`, which becomes the floor; if that
    /// is not enough, raises it to half of them. Returns the whole journal anew, with nothing pending.
    pub(super) fn shorten(&mut self, oldest: u64) -> Vec<u8> {
        // What is still to be written and is older than that will not be.
        self.floor = self.floor.max(oldest);
        self.forget(oldest);
        if self.size() > self.memory {
            let named = self.named.values().chain(self.prefixes.values());
            let mut numbers: Vec<u64> = named.map(|last| last.newest()).collect();
            let middle = numbers.len() / 2;
            let (_, median, _) = numbers.select_nth_unstable(middle);
            let floor = *median;
            self.floor = self.floor.max(floor);
            self.forget(floor);
        }
        self.pending = Vec::new();
        self.written = 0;
        let mut out = Vec::with_capacity(HEADER.saturating_add(self.size()));
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.floor.to_le_bytes());
        let sum = check(self.epoch, &out);
        out.extend_from_slice(&sum);
        let mut put = |kind, last: Last, name: &[u8]| {
            for (number, strength) in last.each() {
                out.extend_from_slice(&record(self.epoch, kind, strength, number, name));
                self.written = self.written.saturating_add(1);
            }
        };
        put(ALL, self.all, &[]);
        for (name, last) in &self.named {
            put(NAME, *last, &name.to_le_bytes());
        }
        for (name, last) in &self.prefixes {
            put(PREFIX, *last, name);
        }
        out
    }

    fn forget(&mut self, oldest: u64) {
        self.named.retain(|_, last| last.newest() > oldest);
        self.prefixes.retain(|_, last| last.newest() > oldest);
        self.prefix_bytes = self.prefixes.keys().map(|prefix| prefix.len()).sum();
    }

    /// The record that closes the journal.
    pub(super) fn end(&self, end: End) -> Vec<u8> {
        let at = end.at.to_le_bytes();
        record(self.epoch, END, Strength::Hard, end.last, &at)
    }
}

/// A hash that is the same in every process.
pub(super) fn hash(kind: &[u8], parts: &[&[u8]]) -> u128 {
    let mut digest = digest::Context::new(&SHA256);
    for part in [kind].iter().chain(parts) {
        digest.update(&part.len().to_le_bytes());
        digest.update(part);
    }
    let digest = digest.finish();
    let first = digest.as_ref().first_chunk();
    first.copied().map_or(0, u128::from_le_bytes)
}

fn record(epoch: u64, kind: u8, strength: Strength, number: u64, name: &[u8]) -> Vec<u8> {
    let mut body = vec![kind, u8::from(strength == Strength::Soft)];
    body.extend_from_slice(&number.to_le_bytes());
    body.extend_from_slice(name);
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
    let mut record = length.to_le_bytes().to_vec();
    record.extend_from_slice(&body);
    record.extend_from_slice(&check(epoch, &body));
    record
}

fn check(epoch: u64, bytes: &[u8]) -> [u8; CHECK] {
    let mut digest = digest::Context::new(&SHA256);
    digest.update(&epoch.to_le_bytes());
    digest.update(bytes);
    let digest = digest.finish();
    digest.as_ref().first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test fails by it")]
mod tests {
    use Standing::{Current, Gone, Stale};
    use Strength::{Hard, Soft};

    use super::*;

    const URL: &[u8] = b"http\0shop\0/a/b";
    const LAST: End = End { at: 5, last: 9 };

    fn purges() -> Purges {
        Purges::new(77, 1 << 20)
    }

    fn journal(purges: &mut Purges) -> Vec<u8> {
        let mut bytes = purges.shorten(0);
        bytes.extend(purges.end(LAST));
        bytes
    }

    fn tagged() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("surrogate-key", "x y".parse().unwrap());
        headers.insert("cache-tag", "z".parse().unwrap());
        headers.insert("cache-groups", "\"g\"".parse().unwrap());
        headers
    }

    #[test]
    fn each_kind_of_purge_comes_through_a_restart() {
        let kinds = [
            Purged::All,
            Purged::Url(URL),
            Purged::Prefix(b"http\0shop\0/a"),
            Purged::Host(b"shop"),
            Purged::Tag(b"y"),
            Purged::Tag(b"z"),
            Purged::Group(b"http\0shop", "g"),
        ];
        for (what, strength) in kinds.iter().flat_map(|kind| [(kind, Hard), (kind, Soft)]) {
            let mut before = purges();
            before.add(*what, 3, strength);
            let (after, end) = Purges::read(&journal(&mut before), 1 << 20).unwrap();
            let left = if strength == Hard { Gone } else { Stale };
            assert_eq!(end, LAST);
            assert_eq!(after.standing(2, URL, &tagged()), left, "{what:?}");
            assert_eq!(after.standing(3, URL, &tagged()), Current, "{what:?}");
            let other = after.standing(2, b"http\0other\0/", &HeaderMap::new());
            assert_eq!(other == Current, !matches!(what, Purged::All));
        }
    }

    #[test]
    fn what_is_appended_is_read_and_a_byte_that_is_wrong_or_missing_voids_all() {
        let mut before = purges();
        let mut bytes = before.shorten(0);
        before.add(Purged::Url(URL), 1, Hard);
        before.add(Purged::Prefix(b"http\0shop\0"), 2, Soft);
        bytes.extend(before.take_pending());
        assert!(Purges::read(&bytes, 1 << 20).is_none(), "not closed");
        bytes.extend(before.end(LAST));
        let (after, _) = Purges::read(&bytes, 1 << 20).unwrap();
        assert_eq!(after.standing(0, URL, &HeaderMap::new()), Gone);
        assert_eq!(after.standing(1, URL, &HeaderMap::new()), Stale);
        for at in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1;
            assert!(Purges::read(&wrong, 1 << 20).is_none(), "{at}");
            assert!(Purges::read(&bytes[..at], 1 << 20).is_none(), "{at}");
        }
    }

    #[test]
    fn what_concerns_nothing_is_forgotten() {
        let mut purges = purges();
        for number in 1..=2000 {
            purges.add(Purged::Url(&number.to_string().into_bytes()), number, Hard);
        }
        assert!(!purges.is_long());
        for number in 2001..=9000 {
            purges.add(Purged::Url(b"one"), number, Hard);
        }
        assert!(purges.is_long());
        purges.shorten(1999);
        assert!(!purges.is_long());
        assert_eq!((purges.named.len(), purges.floor), (2, 1999));
        assert_eq!(purges.standing(1999, b"2000", &HeaderMap::new()), Gone);
    }

    #[test]
    fn beyond_its_bound_the_oldest_files_go_instead() {
        let mut purges = Purges::new(1, 100 * NAMED);
        for number in 1..=150 {
            purges.add(Purged::Url(&number.to_string().into_bytes()), number, Hard);
        }
        assert!(purges.is_long() && !purges.lost);
        purges.shorten(0);
        assert!(!purges.is_long());
        assert_eq!(purges.standing(75, b"any", &HeaderMap::new()), Gone);
        assert_eq!(purges.standing(76, b"any", &HeaderMap::new()), Current);
        assert_eq!(purges.standing(76, b"100", &HeaderMap::new()), Gone);
        for number in 1..=500 {
            purges.add(Purged::Url(&number.to_string().into_bytes()), number, Hard);
        }
        assert!(purges.lost, "nobody shortens it");
    }
}
