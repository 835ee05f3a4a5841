//! What a caching route adds to the RFCs: `cache` of a route.
//!
//! Filled by `convert::caching`, obeyed by `cache`. Invariant: a rule never makes the cache keep what
//! an answer forbids; it fills in what answers leave open, or allows less.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

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
    /// What is fetched for a request with `Range` that nothing stored answers. Default: the whole.
    pub ranges: Ranges,
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
            ranges: Ranges::Fetch,
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
        self.ignored_cookies
            .iter()
            .any(|ignored| match ignored.strip_suffix('*') {
                Some(beginning) => name.starts_with(beginning.as_bytes()),
                None => name == ignored.as_bytes(),
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
