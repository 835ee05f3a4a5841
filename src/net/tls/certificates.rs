//! Which certificate a name gets.
//!
//! `Index` finds the pairs of a name: `server` has one of the config's files, `Certificates` one of
//! pairs that come while the process runs. The rule, for both together:
//!
//! ```text
//! exact name of a file -> exact name issued -> wildcard of a file -> wildcard issued -> first file -> first issued
//! ```
//!
//! A wildcard stands for one label. Of several pairs for a name, the first whose key can make a
//! signature that the client knows; ECDSA before RSA. Invariant: `Certificates` is replaced as a
//! whole, so a handshake sees all of a change or none of it.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{ACME_TLS_ALPN, Pair};

/// A server name as it is looked up: lower case, without the dot of the root.
pub(super) fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Pairs by name, those that are preferred first.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// All of them; the others hold positions in here.
    pairs: Vec<Pair>,
    exact: HashMap<Box<str>, Vec<usize>>,
    /// By the part after `*.`.
    wildcard: HashMap<Box<str>, Vec<usize>>,
    /// For names that match none.
    first: Vec<usize>,
}

impl Index {
    pub(super) fn new(pairs: Vec<Pair>) -> Self {
        let mut index = Self::default();
        for (at, pair) in pairs.iter().enumerate() {
            for name in pair.names() {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(suffix) => (&mut index.wildcard, suffix),
                    None => (&mut index.exact, &**name),
                };
                map.entry(Box::from(name)).or_default().push(at);
            }
        }
        let rank = |at: &usize| pairs.get(*at).map_or(u8::MAX, Pair::rank);
        for group in index.exact.values_mut().chain(index.wildcard.values_mut()) {
            // Stable: of two alike, the one that stands first in the config.
            group.sort_by_key(rank);
        }
        index.first = match pairs.first() {
            Some(pair) => {
                let name = pair.names().first();
                let group = name.and_then(|name| match name.strip_prefix("*.") {
                    Some(suffix) => index.wildcard.get(suffix),
                    None => index.exact.get(name),
                });
                group.cloned().unwrap_or_else(|| vec![0])
            }
            None => Vec::new(),
        };
        index.pairs = pairs;
        index
    }

    pub(super) fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    /// Positions of the pairs that have this name, spelled as `canonical` has it.
    pub(super) fn exact(&self, name: &str) -> Option<&[usize]> {
        self.exact.get(name).map(Vec::as_slice)
    }

    /// Positions of the pairs with a wildcard for this name.
    pub(super) fn wildcard(&self, name: &str) -> Option<&[usize]> {
        let (label, suffix) = name.split_once('.')?;
        if label.is_empty() {
            return None;
        }
        self.wildcard.get(suffix).map(Vec::as_slice)
    }

    /// Positions of the pairs for everybody else.
    pub(super) fn first(&self) -> &[usize] {
        &self.first
    }

    /// Names that a wildcard or a pair stands for, with their positions.
    pub(super) fn groups(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.exact
            .iter()
            .chain(&self.wildcard)
            .map(|(name, group)| (&**name, group.as_slice()))
    }

    fn choose(&self, group: &[usize], hello: &ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let keys = || {
            let pairs = group.iter().filter_map(|at| self.pairs.get(*at));
            pairs.map(Pair::key)
        };
        let schemes = hello.signature_schemes();
        keys()
            .find(|key| key.key.choose_scheme(schemes).is_some())
            // The handshake then fails with the right alert.
            .or_else(|| keys().next())
            .cloned()
    }
}

/// Certificates that come while the process runs, and the answers to ACME's tls-alpn-01.
///
/// One for the whole process (`Shared::issued`), consulted by every TLS listener that has `acme: true`, whatever is
/// reloaded; all methods may be called from any thread, and the next handshake sees the change:
///
/// * `insert(Pair::from_pem(name, chain, key)?)` puts a pair into force, in place of the one that was
///   inserted under the same name before; `remove(name)` takes it out.
/// * `challenge(domain, key)` answers handshakes for `domain` that offer exactly `acme-tls/1` with this
///   certificate (RFC 8737); nobody else is ever shown it, and no client certificate is asked for.
///   `forget_challenge(domain)` ends that.
///
/// A name that a file of the config has exactly is the file's.
#[derive(Debug, Default)]
pub struct Certificates {
    content: ArcSwap<Content>,
}

#[derive(Debug, Default)]
struct Content {
    index: Index,
    challenges: HashMap<Box<str>, Arc<CertifiedKey>>,
}

impl Certificates {
    /// Puts a pair into force, in place of the one of the same `Pair::name`.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "handed over for good; each attempt at the swap clones it"
    )]
    pub fn insert(&self, pair: Pair) {
        self.change(|pairs| {
            // In its place, since the first one is for everybody else.
            match pairs.iter_mut().find(|known| known.name() == pair.name()) {
                Some(known) => *known = pair.clone(),
                None => pairs.push(pair.clone()),
            }
        });
    }

    /// Takes the pair of this `Pair::name` out.
    pub fn remove(&self, name: &str) {
        self.change(|pairs| pairs.retain(|known| **known.name() != *name));
    }

    fn change(&self, change: impl Fn(&mut Vec<Pair>)) {
        self.content.rcu(|content| {
            let mut pairs = content.index.pairs().to_vec();
            change(&mut pairs);
            Content {
                index: Index::new(pairs),
                challenges: content.challenges.clone(),
            }
        });
    }

    /// From now on the certificate of tls-alpn-01 for this domain.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "handed over for good; each attempt at the swap clones it"
    )]
    pub fn challenge(&self, domain: &str, key: Arc<CertifiedKey>) {
        self.change_challenges(|all| drop(all.insert(canonical(domain).into(), Arc::clone(&key))));
    }

    /// Ends `challenge` for this domain.
    pub fn forget_challenge(&self, domain: &str) {
        self.change_challenges(|all| drop(all.remove(&*canonical(domain))));
    }

    fn change_challenges(&self, change: impl Fn(&mut HashMap<Box<str>, Arc<CertifiedKey>>)) {
        self.content.rcu(|content| {
            let mut challenges = content.challenges.clone();
            change(&mut challenges);
            Content {
                index: Index::new(content.index.pairs().to_vec()),
                challenges,
            }
        });
    }

    /// All pairs in force.
    #[must_use]
    pub fn pairs(&self) -> Vec<Pair> {
        self.content.load().index.pairs().to_vec()
    }

    /// Whether a pair has this name, spelled as `canonical` has it.
    pub(super) fn has(&self, name: &str) -> bool {
        let content = self.content.load();
        content.index.exact(name).is_some() || content.index.wildcard(name).is_some()
    }

    /// Whether this is a handshake of tls-alpn-01 that has an answer here.
    pub(super) fn answers(&self, hello: &ClientHello<'_>) -> bool {
        self.answer(hello).is_some()
    }

    fn answer(&self, hello: &ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut offered = hello.alpn()?;
        if offered.next() != Some(ACME_TLS_ALPN) || offered.next().is_some() {
            return None;
        }
        let name = canonical(hello.server_name()?);
        self.content.load().challenges.get(&*name).cloned()
    }
}

/// Answers tls-alpn-01 and nothing else.
#[derive(Debug)]
pub(super) struct Challenges(pub(super) Arc<Certificates>);

impl ResolvesServerCert for Challenges {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.answer(&hello)
    }
}

/// Chooses among the files of the config and what was issued, see the head of this file.
#[derive(Debug)]
pub(super) struct Resolver {
    pub(super) files: Arc<Index>,
    pub(super) issued: Arc<Certificates>,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let content = self.issued.content.load();
        let (files, issued) = (&*self.files, &content.index);
        let name = hello.server_name().map(canonical);
        let named = name.as_deref().and_then(|name| {
            let files_exact = || files.exact(name).map(|group| (files, group));
            let issued_exact = || issued.exact(name).map(|group| (issued, group));
            let files_wild = || files.wildcard(name).map(|group| (files, group));
            let issued_wild = || issued.wildcard(name).map(|group| (issued, group));
            files_exact()
                .or_else(issued_exact)
                .or_else(files_wild)
                .or_else(issued_wild)
        });
        let (index, group) = named.unwrap_or_else(|| {
            let index = if files.first().is_empty() {
                issued
            } else {
                files
            };
            (index, index.first())
        });
        index.choose(group, &hello)
    }
}
