//! What lies in the folder, by the hashes of key and nominated fields.
//!
//! `Disk` asks on a worker before a fetch, under one short lock of many; `writer` adds and evicts. The
//! longest unused goes first, when the bytes of the files or the memory of the index itself are at their
//! bounds. Invariant: bytes and memory are those of the items that are in it.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use ahash::RandomState;
use http::HeaderMap;
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::cache::vary::Vary;

const SHARDS: usize = 16;

/// What one item takes in the two tables, roughly.
const ITEM: usize = 296;

/// A file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Name {
    /// Of the key.
    pub(super) key: u128,
    /// Of the nominated fields with their values.
    pub(super) vary: u64,
}

/// A file that was found, and not another of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) name: Name,
    serial: u64,
}

/// What is known of a file.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) vary: Vary,
    /// Bytes on disk.
    pub(super) size: u64,
    /// The last purge before the answer was asked for; zero if that is not known.
    pub(super) born: u64,
    pub(super) dated: u64,
    /// When it was last used, in milliseconds since the epoch.
    pub(super) used: u64,
    /// It is about to be deleted or replaced.
    pub(super) is_hidden: bool,
}

/// All items.
#[derive(Debug)]
pub(super) struct Index {
    shards: Box<[Mutex<Shard>]>,
    bytes: AtomicU64,
    memory: AtomicUsize,
    objects: AtomicUsize,
    /// How many were added ever.
    added: AtomicU64,
}

#[derive(Debug)]
struct Filed {
    /// Of its name.
    vary: u64,
    /// Of all that were added.
    serial: u64,
    item: Item,
}

#[derive(Debug, Default)]
struct Shard {
    keys: HashMap<u128, SmallVec<[Filed; 1]>, RandomState>,
    /// By last use.
    order: BTreeSet<(u64, Name)>,
}

impl Shard {
    fn remove(&mut self, name: Name) -> Option<Item> {
        let variants = self.keys.get_mut(&name.key)?;
        let at = variants.iter().position(|one| one.vary == name.vary)?;
        let Filed { item, .. } = variants.swap_remove(at);
        if variants.is_empty() {
            self.keys.remove(&name.key);
        }
        self.order.remove(&(item.used, name));
        Some(item)
    }

    fn find(&mut self, name: Name) -> Option<&mut Filed> {
        let mut variants = self.keys.get_mut(&name.key)?.iter_mut();
        variants.find(|one| one.vary == name.vary)
    }
}

impl Index {
    pub(super) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            bytes: AtomicU64::new(0),
            memory: AtomicUsize::new(0),
            objects: AtomicUsize::new(0),
            added: AtomicU64::new(0),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn memory(&self) -> usize {
        self.memory.load(Ordering::Relaxed)
    }

    pub(super) fn objects(&self) -> u64 {
        self.objects.load(Ordering::Relaxed) as u64
    }

    /// The file with the latest answer to a request with these fields; it counts as used.
    pub(super) fn find(&self, key: u128, request: &HeaderMap, now: u64) -> Option<Known> {
        let mut shard = self.shard(key).lock();
        let Shard { keys, order } = &mut *shard;
        let Filed { vary, serial, item } = keys
            .get_mut(&key)?
            .iter_mut()
            .filter(|one| !one.item.is_hidden && one.item.vary.matches(request))
            .max_by_key(|one| one.item.dated)?;
        let (name, serial) = (Name { key, vary: *vary }, *serial);
        order.remove(&(item.used, name));
        item.used = now.max(item.used);
        order.insert((item.used, name));
        Some(Known { name, serial })
    }

    /// Adds a file, in the place of one of the same name.
    pub(super) fn insert(&self, name: Name, item: Item) {
        let (size, memory) = (item.size, ITEM + item.vary.charge());
        let filed = Filed {
            vary: name.vary,
            serial: self.added.fetch_add(1, Ordering::Relaxed),
            item,
        };
        let mut shard = self.shard(name.key).lock();
        let old = shard.remove(name);
        shard.order.insert((filed.item.used, name));
        shard.keys.entry(name.key).or_default().push(filed);
        self.bytes.fetch_add(size, Ordering::Relaxed);
        self.memory.fetch_add(memory, Ordering::Relaxed);
        self.objects.fetch_add(1, Ordering::Relaxed);
        drop(shard);
        self.count_out(old.as_ref());
    }

    /// Lets nobody find a file any more, which still takes its room.
    pub(super) fn hide(&self, name: Name) {
        if let Some(filed) = self.shard(name.key).lock().find(name) {
            filed.item.is_hidden = true;
        }
    }

    /// The same, if the file is still the one that was found; whether it is.
    pub(super) fn hide_known(&self, known: Known) -> bool {
        let mut shard = self.shard(known.name.key).lock();
        let filed = shard.find(known.name);
        filed
            .filter(|filed| filed.serial == known.serial)
            .map(|filed| filed.item.is_hidden = true)
            .is_some()
    }

    /// Forgets a file; whether it was known.
    pub(super) fn remove(&self, name: Name) -> bool {
        let old = self.shard(name.key).lock().remove(name);
        self.count_out(old.as_ref());
        old.is_some()
    }

    /// The same, if the file is still the one that was found.
    pub(super) fn remove_known(&self, known: Known) -> bool {
        let mut shard = self.shard(known.name.key).lock();
        let filed = shard.find(known.name);
        let is_it = filed.is_some_and(|filed| filed.serial == known.serial);
        let old = is_it.then(|| shard.remove(known.name)).flatten();
        drop(shard);
        self.count_out(old.as_ref());
        old.is_some()
    }

    /// Forgets the file that was used longest ago.
    pub(super) fn evict(&self) -> Option<Name> {
        let first = |shard: &Mutex<Shard>| shard.lock().order.first().copied();
        let (_, name) = self.shards.iter().filter_map(first).min()?;
        // If it was used or went meanwhile, so be it.
        self.remove(name);
        Some(name)
    }

    /// The smallest `born` of all.
    pub(super) fn oldest(&self) -> Option<u64> {
        let of = |shard: &Mutex<Shard>| {
            let shard = shard.lock();
            let items = shard.keys.values().flatten();
            items.map(|one| one.item.born).min()
        };
        self.shards.iter().filter_map(of).min()
    }

    /// The files that were asked for before a purge.
    pub(super) fn before(&self, number: u64) -> Vec<Name> {
        let of = |shard: &Mutex<Shard>| {
            let shard = shard.lock();
            let names = shard.keys.iter().flat_map(|(key, variants)| {
                let old = variants.iter().filter(|one| one.item.born < number);
                old.map(|one| Name {
                    key: *key,
                    vary: one.vary,
                })
            });
            names.collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(of).collect()
    }

    fn count_out(&self, old: Option<&Item>) {
        if let Some(old) = old {
            self.bytes.fetch_sub(old.size, Ordering::Relaxed);
            let memory = ITEM + old.vary.charge();
            self.memory.fetch_sub(memory, Ordering::Relaxed);
            self.objects.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn shard(&self, key: u128) -> &Mutex<Shard> {
        let index = (key % SHARDS as u128) as usize;
        &self.shards[index]
    }
}

#[cfg(test)]
mod tests {
    use http::header::{HeaderName, HeaderValue};

    use super::*;

    fn item(used: u64, size: u64) -> Item {
        Item {
            vary: Vary::default(),
            size,
            born: used,
            dated: used,
            used,
            is_hidden: false,
        }
    }

    fn name(key: u128) -> Name {
        Name { key, vary: 0 }
    }

    #[test]
    fn the_longest_unused_goes_first() {
        let index = Index::new();
        for key in 0..40 {
            index.insert(name(key), item(u64::try_from(key).unwrap() + 1, 10));
        }
        let found = index.find(0, &HeaderMap::new(), 99);
        assert_eq!(found.map(|known| known.name), Some(name(0)));
        assert_eq!((index.bytes(), index.objects()), (400, 40));
        assert_eq!(index.oldest(), Some(1));
        assert_eq!(index.before(3).len(), 2);

        let gone: Vec<u128> = std::iter::from_fn(|| index.evict())
            .map(|name| name.key)
            .collect();

        let expected: Vec<u128> = (1..40).chain([0]).collect();
        assert_eq!(gone, expected);
        assert_eq!((index.bytes(), index.memory(), index.objects()), (0, 0, 0));
    }

    #[test]
    fn a_file_takes_the_place_of_one_of_its_name() {
        let index = Index::new();
        index.insert(name(1), item(1, 10));
        index.insert(name(1), item(2, 7));
        assert_eq!((index.bytes(), index.objects()), (7, 1));
        assert!(index.find(1, &HeaderMap::new(), 3).is_some());
        index.hide(name(1));
        assert_eq!(index.find(1, &HeaderMap::new(), 3), None);
        assert_eq!((index.bytes(), index.objects()), (7, 1));
        assert!(index.remove(name(1)));
        assert!(!index.remove(name(1)));
        assert_eq!((index.bytes(), index.memory()), (0, 0));
    }

    #[test]
    fn variants_are_for_their_requests() {
        let index = Index::new();
        let of = |value: &'static str| {
            let vary = (
                HeaderName::from_static("accept"),
                Some(HeaderValue::from_static(value)),
                Some(Box::from(value.as_bytes())),
            );
            Item {
                vary: Vary::from_parts(vec![vary]),
                ..item(1, 1)
            }
        };
        index.insert(Name { key: 1, vary: 1 }, of("a"));
        index.insert(Name { key: 1, vary: 2 }, of("b"));
        let asks = |value: &'static str| {
            let request = [("accept", value)].map(|(name, value)| {
                let name = HeaderName::from_static(name);
                (name, HeaderValue::from_static(value))
            });
            index.find(1, &request.into_iter().collect(), 5)
        };
        assert_eq!(asks("a").map(|known| known.name.vary), Some(1));
        assert_eq!(asks("b").map(|known| known.name.vary), Some(2));
        assert_eq!(asks("c"), None);
    }
}
