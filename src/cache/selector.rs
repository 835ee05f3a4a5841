//! What a purge is for, and how it is carried out.
//!
//! `admin` and `proxy` say what; `purge` has the numbers that make it count at once, on every worker.
//! `count` and `sweep` walk what is stored and are for the control plane: one says what a purge would
//! reach, the other gives back the memory of what purges have left nothing of.
//! Invariant: a purge is in force when `purge` returns, however much is stored.

use std::time::Duration;

use http::HeaderMap;

use super::Cache;
use super::key::{self, Key};
use super::purge::{Standing, Strength, TooManyPrefixes};
use super::tags;

/// Nothing that was asked for so long ago can still arrive: a purged prefix may be forgotten.
const LONGEST_FETCH: Duration = Duration::from_secs(60 * 60);

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

impl Cache {
    /// Makes what is selected unusable, or stale, for every request that comes from now on; what is
    /// being fetched counts as stored already.
    ///
    /// # Errors
    /// When too many prefixes were purged lately.
    pub fn purge(
        &self,
        selector: &Selector<'_>,
        strength: Strength,
    ) -> Result<(), TooManyPrefixes> {
        let mut scratch = Vec::new();
        match *selector {
            Selector::All => self.generations.purge_all(strength),
            Selector::Host(host) => {
                // Of either scheme: the default port of one is a port of the other.
                for scheme in ["http", "https"] {
                    scratch.clear();
                    key::authority(&mut scratch, scheme, host.as_bytes());
                    let hash = tags::host(&scratch, &self.hasher);
                    self.generations.purge_tag(hash, strength);
                }
            }
            Selector::Tag(name) => {
                let hash = tags::tag(name.as_bytes(), &self.hasher);
                self.generations.purge_tag(hash, strength);
            }
            Selector::Url {
                scheme,
                host,
                target,
            } => {
                key::url(&mut scratch, scheme, host.as_bytes(), target);
                let hash = self.hasher.hash_one(Some(&*scratch));
                self.generations.purge_url(hash, strength);
            }
            Selector::Prefix {
                scheme,
                host,
                target,
            } => {
                key::url(&mut scratch, scheme, host.as_bytes(), target);
                self.generations.purge_prefix(&scratch, strength)?;
            }
        }
        Ok(())
    }

    /// How many stored answers a purge would reach. Walks all that is stored: not for a worker.
    pub fn count(&self, selector: &Selector<'_>) -> u64 {
        let wanted = Wanted::new(selector, self);
        let mut count = 0;
        self.store.walk(|key, slot| {
            let url = Key::of(key).url();
            let left = slot
                .variants()
                .iter()
                .filter(|entry| entry.is_left(&self.generations, url));
            let reached = left.filter(|entry| wanted.includes(url, entry.tags.hashes()));
            count += reached.count() as u64;
        });
        count
    }

    /// Gives back the memory of what purges have left nothing of; how many keys went. Walks all that is
    /// stored: not for a worker.
    pub fn sweep(&self) -> u64 {
        let before = self.generations.last();
        let mut gone = Vec::new();
        self.store.walk(|key, slot| {
            let url = Key::of(key).url();
            let is_left = |entry: &_| self.is_left(entry, url);
            if !slot.variants().is_empty() && !slot.variants().iter().any(|entry| is_left(entry)) {
                gone.push(Box::<[u8]>::from(key));
            }
        });
        for key in &gone {
            self.store.remove(key);
        }
        self.store.settle();
        self.prefixes_swept(before);
        gone.len() as u64
    }

    fn is_left(&self, entry: &super::Entry, url: &[u8]) -> bool {
        entry.standing(&self.generations, url) != Standing::Gone
    }

    /// Nothing stored is older than these purges any more; a fetch may be, for a while.
    fn prefixes_swept(&self, up_to: u32) {
        let now = self.clock.now();
        let mut swept = self.swept.lock();
        if let Some((number, at)) = *swept
            && now.saturating_duration_since(at) >= LONGEST_FETCH
        {
            self.generations.forget_prefixes(number);
            *swept = Some((up_to, now));
        } else if swept.is_none() {
            *swept = Some((up_to, now));
        }
    }

    /// What the answer to a write says that it has changed besides its own URL (RFC 9111 section 4.4, RFC
    /// 9875 section 3): to be called before the answer's head is released. `url` is the target's, as
    /// `http` or `https`, host, and path with query.
    pub fn invalidate_named(&self, url: (&str, &[u8], &str), answer: &HeaderMap) {
        let (scheme, host, _) = url;
        let mut origin = Vec::new();
        key::authority(&mut origin, scheme, host);
        for name in tags::groups(answer, &tags::CACHE_GROUP_INVALIDATION) {
            let hash = tags::group(&origin, &name, &self.hasher);
            self.generations.purge_tag(hash, Strength::Hard);
        }
    }
}

/// A selector as what is stored can be compared with it.
enum Wanted {
    All,
    Tag([u64; 2]),
    Url(Vec<u8>),
    Prefix(Vec<u8>),
}

impl Wanted {
    fn new(selector: &Selector<'_>, cache: &Cache) -> Self {
        let mut url = Vec::new();
        match *selector {
            Selector::All => Self::All,
            Selector::Host(host) => Self::Tag(["http", "https"].map(|scheme| {
                url.clear();
                key::authority(&mut url, scheme, host.as_bytes());
                tags::host(&url, &cache.hasher)
            })),
            Selector::Tag(name) => Self::Tag([tags::tag(name.as_bytes(), &cache.hasher); 2]),
            Selector::Url {
                scheme,
                host,
                target,
            } => {
                key::url(&mut url, scheme, host.as_bytes(), target);
                Self::Url(url)
            }
            Selector::Prefix {
                scheme,
                host,
                target,
            } => {
                key::url(&mut url, scheme, host.as_bytes(), target);
                Self::Prefix(url)
            }
        }
    }

    fn includes(&self, url: &[u8], tags: &[u64]) -> bool {
        match self {
            Self::All => true,
            Self::Tag(wanted) => wanted.iter().any(|tag| tags.contains(tag)),
            Self::Url(wanted) => url == wanted,
            Self::Prefix(wanted) => url.starts_with(wanted),
        }
    }
}
