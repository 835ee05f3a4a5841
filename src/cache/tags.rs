//! What else than its URL an answer is purged by: tags and groups.
//!
//! `Surrogate-Key` (names between blanks) and `Cache-Tag` (names between commas) are an operator's, and
//! global; a group of `Cache-Groups` (RFC 9875) is of its origin alone. `permit` reads them from an answer,
//! `purge` looks at their hashes. Names are told apart by case. Invariant: an answer with more of them than
//! are kept is not stored, since no purge would find it.

use ahash::RandomState;
use http::header::{HeaderMap, HeaderName};
use sfv::{BareItem, List, ListEntry, Parser};

/// Tags of an answer, between blanks.
pub(super) const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
/// Tags of an answer, between commas.
pub(super) const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
/// Groups of an answer (RFC 9875 section 2).
pub(super) const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");
/// Groups that a write has changed (RFC 9875 section 3).
pub(super) const CACHE_GROUP_INVALIDATION: HeaderName =
    HeaderName::from_static("cache-group-invalidation");

/// Most tags and groups of one answer; RFC 9875 asks for 32 groups at least.
const MOST: usize = 256;

/// The tags and groups of one answer, as hashes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tags(Box<[u64]>);

impl Tags {
    /// Reads an answer for a URL as keys have it; nothing when there are too many.
    pub(super) fn of(headers: &HeaderMap, url: &[u8], hasher: &RandomState) -> Option<Self> {
        let mut hashes: Vec<u64> = names(headers)
            .into_iter()
            .map(|name| tag(name, hasher))
            .collect();
        let origin = origin(url);
        let groups = groups(headers, &CACHE_GROUPS);
        hashes.extend(groups.iter().map(|name| group(origin, name, hasher)));
        // Last, so that what is purged by its host is found however many tags it has.
        hashes.sort_unstable();
        hashes.dedup();
        if hashes.len() > MOST {
            return None;
        }
        hashes.extend(host_names(url).map(|name| host_name(name, hasher)));
        Some(Self(hashes.into()))
    }

    /// The hashes that `tag`, `group` and `host` give.
    pub(super) fn hashes(&self) -> &[u64] {
        &self.0
    }

    /// Bytes held.
    pub(super) fn charge(&self) -> usize {
        size_of_val(&*self.0)
    }
}

/// Of an operator's tag.
pub(super) fn tag(name: &[u8], hasher: &RandomState) -> u64 {
    hasher.hash_one(("tag", name))
}

/// Of a group of an origin.
pub(super) fn group(origin: &[u8], name: &str, hasher: &RandomState) -> u64 {
    hasher.hash_one(("group", origin, name))
}

/// Of everything of a host, whatever the scheme.
pub(super) fn host(origin: &[u8], hasher: &RandomState) -> u64 {
    host_name(name_of(origin), hasher)
}

fn host_name(name: &[u8], hasher: &RandomState) -> u64 {
    hasher.hash_one(("host", name))
}

/// An operator's tags of an answer.
pub(super) fn names(headers: &HeaderMap) -> Vec<&[u8]> {
    type Parts = fn(u8) -> bool;
    let lists: [(_, Parts); 2] = [
        (SURROGATE_KEY, |byte| byte == b' ' || byte == b'\t'),
        (CACHE_TAG, |byte| byte == b','),
    ];
    let mut found = Vec::new();
    for (name, parts) in lists {
        for line in headers.get_all(name) {
            let names = line.as_bytes().split(|byte| parts(*byte));
            let names = names.map(<[u8]>::trim_ascii);
            found.extend(names.filter(|name| !name.is_empty()));
        }
    }
    found
}

/// The hosts of a URL as keys have it: a proxy in front may have told another one, which stands in the key
/// beside the request's.
pub(super) fn host_names(url: &[u8]) -> impl Iterator<Item = &[u8]> {
    name_of(origin(url)).split(|byte| *byte == b' ')
}

/// A scheme and host without the scheme.
pub(super) fn name_of(origin: &[u8]) -> &[u8] {
    let name = origin.splitn(2, |byte| *byte == 0).nth(1);
    name.unwrap_or_default()
}

/// Scheme and host of a URL as keys have it.
pub(super) fn origin(url: &[u8]) -> &[u8] {
    let end = memchr::memchr_iter(0, url).nth(1).unwrap_or(url.len());
    url.get(..end).unwrap_or_default()
}

/// The members of a list of strings; none when it cannot be read (RFC 9875 section 2).
pub(super) fn groups(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let lines: Vec<&[u8]> = headers
        .get_all(name)
        .iter()
        .map(|line| line.as_bytes())
        .collect();
    if lines.is_empty() {
        return Vec::new();
    }
    let list: List = Parser::new(&lines.join(&b", "[..]))
        .parse()
        .unwrap_or_default();
    let names = list.into_iter().filter_map(|entry| match entry {
        ListEntry::Item(item) => match item.bare_item {
            BareItem::String(name) => Some(name.as_str().to_owned()),
            _ => None,
        },
        ListEntry::InnerList(_) => None,
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &[u8] = b"https\0shop\0/p";

    fn of(lines: &[(&'static str, &str)]) -> Option<Tags> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        Tags::of(&headers, URL, &hasher())
    }

    fn hasher() -> RandomState {
        RandomState::with_seeds(1, 2, 3, 4)
    }

    #[test]
    fn each_field_parts_its_names_in_its_own_way() {
        let tags = of(&[
            ("surrogate-key", "a b,c"),
            ("cache-tag", "d e, f"),
            ("cache-tag", "a"),
            ("cache-groups", "\"a\", \"g h\";x, token, (\"in\")"),
        ])
        .unwrap();
        let mut expected: Vec<u64> = ["a", "b,c", "d e", "f"]
            .iter()
            .map(|name| tag(name.as_bytes(), &hasher()))
            .collect();
        expected.extend(["a", "g h"].map(|name| group(b"https\0shop", name, &hasher())));
        expected.sort_unstable();
        expected.push(host(b"http\0shop", &hasher()));
        assert_eq!(tags.hashes(), expected);
    }

    #[test]
    fn a_list_of_groups_that_cannot_be_read_has_none() {
        assert_eq!(of(&[("cache-groups", "\"a\", \"b")]), of(&[]));
        assert_eq!(of(&[]).unwrap().hashes().len(), 1);
    }

    #[test]
    fn an_answer_is_found_by_the_host_of_its_request_and_by_the_one_that_a_proxy_told() {
        let url = b"https\0inner shop\0/p";
        let tags = Tags::of(&HeaderMap::new(), url, &hasher()).unwrap();
        let hosts = [b"http\0inner".as_slice(), b"http\0shop"];
        assert_eq!(tags.hashes(), hosts.map(|origin| host(origin, &hasher())));
    }

    #[test]
    fn groups_are_of_their_origin() {
        let there = group(b"https\0shop", "a", &hasher());
        assert_ne!(there, group(b"http\0shop", "a", &hasher()));
        assert_ne!(there, tag(b"a", &hasher()));
    }

    #[test]
    fn an_answer_with_too_many_tags_has_none_that_would_find_it() {
        let many = |count: usize| {
            (0..count)
                .map(|n| format!("t{n}"))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert!(of(&[("surrogate-key", &many(MOST))]).is_some());
        assert!(of(&[("surrogate-key", &many(MOST + 1))]).is_none());
    }
}
