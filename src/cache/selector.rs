//! What a purge is for, and how it is carried out.
//!
//! `admin` and `proxy` say what; `purge` has the numbers that make it count at once, on every worker.
//! `sweep` walks what is stored and is for the control plane: it says what purges reach, and gives back the
//! memory of what they have left nothing of.
//! Invariant: a purge is in force when `purge` returns, however much is stored.

use std::collections::HashSet;

use http::HeaderMap;

use super::Cache;
use super::disk::Purged;
use super::key::{self, Key};
use super::purge::{Strength, TooManyPrefixes};
use super::tags;

/// What a purge is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selector<'a> {
    /// Everything.
    All,
    /// A host, by `http` and by `https`.
    Host(&'a str),
    /// An operator's tag: of `Surrogate-Key` or `Cache-Tag`.
    Tag(&'a str),
    /// A URL with everything that is stored for it.
    Url {
        /// `http` or `https`.
        scheme: &'a str,
        /// Host and port.
        host: &'a str,
        /// Path and query as they are forwarded.
        target: &'a str,
    },
    /// All URLs of a host that begin so.
    Prefix {
        /// `http` or `https`.
        scheme: &'a str,
        /// Host and port.
        host: &'a str,
        /// How path and query begin.
        target: &'a str,
    },
}

/// Several selectors, ready to be compared with what is stored.
#[derive(Debug, Default)]
pub struct Selection {
    all: bool,
    /// Of tags and hosts.
    hashes: HashSet<u64>,
    urls: HashSet<Vec<u8>>,
    prefixes: Vec<Vec<u8>>,
}

/// What walking all that is stored has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Stored answers that each selection reaches.
    pub answers: Vec<u64>,
    /// Keys whose memory was given back, whichever purge they fell to.
    pub keys: u64,
}

impl Cache {
    /// Makes what is selected unusable, or stale, for every request that comes from now on; what is
    /// being fetched counts as stored already. Returns the purge's number, for `sweep`.
    ///
    /// # Errors
    /// When too many prefixes were purged lately.
    pub fn purge(
        &self,
        selector: &Selector<'_>,
        strength: Strength,
    ) -> Result<u64, TooManyPrefixes> {
        let mut scratch = Vec::new();
        Ok(match *selector {
            Selector::All => {
                let number = self.generations.purge_all(strength);
                self.purged(Purged::All, number, strength)
            }
            Selector::Host(host) => {
                // Of either scheme: the default port of one is a port of the other.
                let [_, number] = origins(host).map(|origin| {
                    let hash = tags::host(&origin, &self.hasher);
                    let number = self.generations.purge_tag(hash, strength);
                    self.purged(Purged::Host(tags::name_of(&origin)), number, strength)
                });
                number
            }
            Selector::Tag(name) => {
                let hash = tags::tag(name.as_bytes(), &self.hasher);
                let number = self.generations.purge_tag(hash, strength);
                self.purged(Purged::Tag(name.as_bytes()), number, strength)
            }
            Selector::Url {
                scheme,
                host,
                target,
            } => {
                key::url(&mut scratch, scheme, host.as_bytes(), target);
                self.purge_url(&scratch, strength)
            }
            Selector::Prefix {
                scheme,
                host,
                target,
            } => {
                key::url(&mut scratch, scheme, host.as_bytes(), target);
                let now = self.clock.now();
                let number = self.generations.purge_prefix(&scratch, strength, now)?;
                self.purged(Purged::Prefix(&scratch), number, strength)
            }
        })
    }

    /// Purges a URL as keys have it; the purge's number.
    pub(super) fn purge_url(&self, url: &[u8], strength: Strength) -> u64 {
        let hash = self.hasher.hash_one(Some(url));
        let number = self.generations.purge_url(hash, strength);
        self.purged(Purged::Url(url), number, strength)
    }

    /// Has a purge, which is in force already, noted for what lies on disk; its number.
    pub(super) fn purged(&self, what: Purged<'_>, number: u64, strength: Strength) -> u64 {
        if let Some(disk) = &self.disk {
            disk.purged(what, number, strength);
        }
        number
    }

    /// What `sweep` compares.
    pub fn select(&self, selectors: &[Selector<'_>]) -> Selection {
        let mut selection = Selection::default();
        for selector in selectors {
            let mut url = Vec::new();
            match *selector {
                Selector::All => selection.all = true,
                Selector::Host(host) => selection.hashes.extend(hosts(host, self)),
                Selector::Tag(name) => {
                    let hash = tags::tag(name.as_bytes(), &self.hasher);
                    selection.hashes.insert(hash);
                }
                Selector::Url {
                    scheme,
                    host,
                    target,
                } => {
                    key::url(&mut url, scheme, host.as_bytes(), target);
                    selection.urls.insert(url);
                }
                Selector::Prefix {
                    scheme,
                    host,
                    target,
                } => {
                    key::url(&mut url, scheme, host.as_bytes(), target);
                    selection.prefixes.push(url);
                }
            }
        }
        selection
    }

    /// Counts what each selection reaches: by the purge of that number, or by one that is still to come.
    /// Gives back the memory of what purges have left nothing of. Walks all that is stored: not for a
    /// worker.
    pub fn sweep(&self, asked: &[(Selection, Option<u64>)]) -> Swept {
        let mut prefixes = self.generations.prefixes();
        let mut gone = Vec::new();
        let mut answers = vec![0; asked.len()];
        self.store.walk(|key, slot| {
            let url = Key::of(key).url();
            let is_gone = slot.is_gone(&self.generations, url);
            for entry in slot.variants() {
                for ((selection, number), count) in asked.iter().zip(&mut answers) {
                    let is_reached = match *number {
                        Some(number) => entry.generation.is_before(number),
                        None => entry.is_left(&self.generations, url),
                    };
                    if is_reached && selection.includes(url, entry.tags.hashes()) {
                        *count += 1;
                    }
                }
                if !is_gone {
                    prefixes.see(entry.generation, url);
                }
            }
            if is_gone {
                gone.push(Box::<[u8]>::from(key));
            }
        });
        // Something new may stand there by now.
        gone.retain(|key| self.store.remove_gone(key, &self.generations));
        self.store.settle();
        self.generations
            .forget_prefixes(&prefixes, self.clock.now());
        Swept {
            answers,
            keys: gone.len() as u64,
        }
    }

    /// Purges the groups that the answer to a write says it has changed (RFC 9875 section 3), whatever its
    /// status: to be called before the answer's head is released. Groups of purged answers that are not
    /// named stay.
    pub fn invalidate_groups(&self, scheme: &str, host: &[u8], answer: &HeaderMap) {
        if !answer.contains_key(tags::CACHE_GROUP_INVALIDATION) {
            return;
        }
        let mut origin = Vec::new();
        key::authority(&mut origin, scheme, host);
        for name in tags::groups(answer, &tags::CACHE_GROUP_INVALIDATION) {
            let hash = tags::group(&origin, &name, &self.hasher);
            let number = self.generations.purge_tag(hash, Strength::Hard);
            self.purged(Purged::Group(&origin, &name), number, Strength::Hard);
        }
    }
}

/// A host by `http` and by `https`, as keys have it.
fn origins(host: &str) -> [Vec<u8>; 2] {
    ["http", "https"].map(|scheme| {
        let mut origin = Vec::new();
        key::authority(&mut origin, scheme, host.as_bytes());
        origin
    })
}

/// The hashes of a host, by `http` and by `https`.
fn hosts(host: &str, cache: &Cache) -> [u64; 2] {
    origins(host).map(|origin| tags::host(&origin, &cache.hasher))
}

impl Selection {
    fn includes(&self, url: &[u8], tags: &[u64]) -> bool {
        self.all
            || tags.iter().any(|tag| self.hashes.contains(tag))
            || self.urls.contains(url)
            || self.prefixes.iter().any(|prefix| url.starts_with(prefix))
    }
}
