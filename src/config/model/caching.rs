//! What a caching route adds to the RFCs: `cache` of a route.
//!
//! Filled by `convert::caching`, obeyed by `cache`. Invariant: a rule never makes the cache keep what
//! an answer forbids; it fills in what answers leave open, or allows less.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::{Coding, Network, Peers};

/// What a caching route adds to the RFCs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheRule {
    /// Freshness of a cacheable answer that states none itself. Default: a tenth of the time for
    /// which it has not changed, see `heuristic`.
    pub default_ttl: Option<Duration>,
    /// Longest freshness that is presumed from `Last-Modified`; `None` presumes nothing. Default: a
    /// day.
    pub heuristic: Option<Duration>,
    /// Freshness by status, of answers that state none: it goes before `default_ttl`, and makes
    /// statuses cacheable that are not by themselves. The first that fits counts.
    pub status_ttl: Vec<(StatusPattern, Duration)>,
    /// For how long a stale answer is served while it is fetched anew, where it does not say. Default:
    /// zero.
    pub stale_while_revalidate: Duration,
    /// For how long a stale answer is served because the endpoints fail, where it does not say.
    /// Default: only when none can be reached, and then for a day.
    pub stale_if_error: Option<Duration>,
    /// Whether `Cache-Control` of requests means something. Default: it does.
    pub obeys_requests: bool,
    /// What becomes of answers with `Set-Cookie`. Default: they are not stored.
    pub set_cookies: SetCookies,
    /// Cookies that name no user; a `*` at the end stands for any rest. An answer to a request with
    /// another one is kept only when it says that it is for all. Default: none.
    pub ignored_cookies: Vec<Arc<str>>,
    /// Who may purge by the method `PURGE`. Default: nobody.
    pub purgers: Option<Purgers>,
    /// Who is told the key of the cache, on asking. Default: nobody.
    pub debuggers: Option<Peers>,
    /// What is fetched for a request with `Range` that nothing stored answers. Default: the whole.
    pub ranges: Ranges,
    /// On a route that compresses, the coding in which answers are fetched and stored. Every client that
    /// takes any coding takes gzip.
    pub coding: Option<Coding>,
    /// What tells stored answers apart besides scheme, host, path and query.
    pub key: KeyRule,
}

/// What requests are told apart by, besides what answers nominate in `Vary`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyRule {
    /// Parameters of the query; what is not in the key is not passed on either. Default: all of them.
    pub query: QueryRule,
    /// Header fields by name.
    pub headers: Vec<http::HeaderName>,
    /// Cookies by name; they name no user then.
    pub cookies: Vec<Arc<str>>,
    /// The class of the client's device: desktop, mobile or tablet. Endpoints are told it in
    /// `X-Device-Class`.
    pub device: bool,
}

/// Which parameters of a query count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueryRule {
    /// These alone; a `*` at the end stands for any rest. `None`: all.
    pub keep: Option<Vec<Arc<str>>>,
    /// All but these.
    pub drop: Vec<Arc<str>>,
    /// Whether their order means nothing.
    pub sort: bool,
}

impl QueryRule {
    /// The query as this rule leaves it, if that is another.
    #[must_use]
    pub fn apply(&self, query: &str) -> Option<String> {
        if *self == Self::default() {
            return None;
        }
        let counts = |pair: &&str| {
            let name = pair.split('=').next().unwrap_or_default();
            let kept = self.keep.as_ref().is_none_or(|names| is_among(name, names));
            kept && !is_among(name, &self.drop)
        };
        let mut pairs: Vec<&str> = query.split('&').filter(counts).collect();
        if self.sort {
            // Of one parameter that stands twice, the order may mean something.
            pairs.sort_by_key(|pair| pair.split('=').next().unwrap_or_default());
        }
        Some(pairs.join("&")).filter(|left| left != query)
    }
}

fn is_among(name: &str, names: &[Arc<str>]) -> bool {
    names.iter().any(|one| match one.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => *name == **one,
    })
}

/// Clients that may purge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Purgers {
    /// Those with an address in one of these.
    pub networks: Vec<Network>,
    /// Every client on a Unix socket.
    pub unix: bool,
}

impl Purgers {
    /// Whether a client at `ip` (none: on a Unix socket) may.
    #[must_use]
    pub fn include(&self, ip: Option<IpAddr>) -> bool {
        match ip {
            Some(ip) => self.networks.iter().any(|network| network.contains(ip)),
            None => self.unix,
        }
    }
}

impl Default for CacheRule {
    fn default() -> Self {
        Self {
            default_ttl: None,
            heuristic: Some(Duration::from_secs(24 * 60 * 60)),
            status_ttl: Vec::new(),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: None,
            obeys_requests: true,
            set_cookies: SetCookies::Refuse,
            ignored_cookies: Vec::new(),
            purgers: None,
            debuggers: None,
            ranges: Ranges::Fetch,
            coding: None,
            key: KeyRule::default(),
        }
    }
}

impl CacheRule {
    /// Freshness of an answer of this status that states none.
    #[must_use]
    pub fn status_ttl(&self, status: StatusCode) -> Option<Duration> {
        let fits = |pattern: &StatusPattern| match *pattern {
            StatusPattern::One(code) => code == status.as_u16(),
            StatusPattern::Class(hundreds) => u16::from(hundreds) == status.as_u16() / 100,
        };
        let found = self.status_ttl.iter().find(|(pattern, _)| fits(pattern));
        found.map(|(_, ttl)| *ttl)
    }

    /// Whether a cookie of this name is known to name no user.
    #[must_use]
    pub fn ignores_cookie(&self, name: &[u8]) -> bool {
        std::str::from_utf8(name).is_ok_and(|name| {
            is_among(name, &self.ignored_cookies)
                || self.key.cookies.iter().any(|one| **one == *name)
        })
    }
}

/// Which statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusPattern {
    /// This one.
    One(u16),
    /// All that begin with this digit: `5xx`.
    Class(u8),
}

/// What becomes of an answer with `Set-Cookie`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetCookies {
    /// It is not stored.
    Refuse,
    /// It is stored without; only the client that fetched it gets the cookie.
    Strip,
}

/// What is fetched for a request with `Range`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ranges {
    /// The whole, once for all who ask for any of it.
    Fetch,
    /// What was asked for, as far as it is not stored; parts are kept and put together.
    Pass,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<Arc<str>> {
        list.iter().map(|name| Arc::from(*name)).collect()
    }

    #[test]
    fn a_query_is_left_as_it_is_without_a_rule() {
        assert_eq!(QueryRule::default().apply("b=1&a=2&utm_x=3"), None);
    }

    #[test]
    fn parameters_are_dropped_kept_and_sorted_by_name() {
        let apply = |keep: Option<&[&str]>, drop: &[&str], sort, query: &str| {
            let rule = QueryRule {
                keep: keep.map(names),
                drop: names(drop),
                sort,
            };
            rule.apply(query)
                .unwrap_or_else(|| format!("{query} (same)"))
        };
        assert_eq!(
            apply(None, &["utm_*", "gclid"], false, "b=1&utm_a=2&a=3&gclid"),
            "b=1&a=3"
        );
        assert_eq!(
            apply(Some(&["a", "b"]), &[], false, "b=1&c=2&a=3&ab=4"),
            "b=1&a=3"
        );
        assert_eq!(
            apply(Some(&["a*"]), &["ab"], false, "a=1&ab=2&ac=3"),
            "a=1&ac=3"
        );
        assert_eq!(apply(None, &[], true, "b=1&a=2&a=1"), "a=2&a=1&b=1");
        assert_eq!(apply(None, &["x"], true, "a=2&b"), "a=2&b (same)");
        assert_eq!(apply(None, &["x"], false, "x=1"), "");
    }
}
