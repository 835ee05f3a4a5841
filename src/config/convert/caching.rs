//! What a route says about caching: `cache`.

use std::sync::Arc;
use std::time::Duration;

use super::Cx;
use super::edge::network;
use super::fields::Fault;
use crate::config::errors::quotable;
use crate::config::marks::At;
use crate::config::model::{
    CacheRule, KeyRule, Peers, Purgers, QueryRule, Ranges, SetCookies, StatusPattern,
};
use crate::config::raw::{self, Lenient, Named};
use crate::config::units::parse_duration;

/// RFC 9111 section 1.2.2 caps what a cache must count at 2^31 seconds.
const MAX_TTL: Duration = Duration::from_secs(1 << 31);

impl Cx<'_> {
    pub(super) fn cache_rule(self, raw: raw::CacheRule, at: At<'_>) -> CacheRule {
        let raw::CacheRule {
            default_ttl,
            heuristic,
            status_ttl,
            stale_while_revalidate,
            stale_if_error,
            request_directives,
            set_cookie,
            ignore_cookies,
            purge,
            debug,
            ranges,
            key,
        } = raw;
        let bounds = Duration::ZERO..=MAX_TTL;
        let defaults = CacheRule::default();
        let heuristic = match self.duration(at, "heuristic", &heuristic, &bounds) {
            Some(most) => Some(most).filter(|most| !most.is_zero()),
            None => defaults.heuristic,
        };
        let obeys = [("obey", true), ("ignore", false)];
        let cookies = [("refuse", SetCookies::Refuse), ("strip", SetCookies::Strip)];
        let fetched = [("fetch", Ranges::Fetch), ("pass", Ranges::Pass)];
        CacheRule {
            default_ttl: self.duration(at, "default_ttl", &default_ttl, &bounds),
            heuristic,
            status_ttl: self.status_ttls(status_ttl, at.field("status_ttl")),
            stale_while_revalidate: self
                .duration(
                    at,
                    "stale_while_revalidate",
                    &stale_while_revalidate,
                    &bounds,
                )
                .unwrap_or(defaults.stale_while_revalidate),
            stale_if_error: self.duration(at, "stale_if_error", &stale_if_error, &bounds),
            obeys_requests: self
                .choice(at, "request_directives", &request_directives, &obeys)
                .unwrap_or(defaults.obeys_requests),
            set_cookies: self
                .choice(at, "set_cookie", &set_cookie, &cookies)
                .unwrap_or(defaults.set_cookies),
            ignored_cookies: self.cookie_names(ignore_cookies, at.field("ignore_cookies"), true),
            purgers: self
                .clients(purge, at.field("purge"), "purge")
                .map(|Peers { networks, unix }| Purgers { networks, unix }),
            debuggers: self.clients(debug, at.field("debug"), "debug"),
            key: self.key_rule(key.0.unwrap_or_default(), at.field("key")),
            ranges: self
                .choice(at, "ranges", &ranges, &fetched)
                .unwrap_or(defaults.ranges),
            // Told by `compress`.
            coding: None,
        }
    }

    /// Those who may do what the key says.
    fn clients(self, raw: raw::List<String>, at: At<'_>, key: &str) -> Option<Peers> {
        let items = raw.0?;
        if items.is_empty() {
            let hint = "name networks, such as `10.0.0.0/8`, or leave it out: then nobody may";
            self.error(at.span(), format!("`{key}` is empty"), hint);
        }
        let mut clients = Peers::default();
        for (index, item) in items.into_iter().enumerate() {
            match item.0.as_deref() {
                None => {}
                Some("unix") => clients.unix = true,
                Some(typed) => {
                    let network = self.settle(at.item(index), network(typed));
                    clients.networks.extend(network);
                }
            }
        }
        Some(clients)
    }

    fn key_rule(self, raw: raw::KeyRule, at: At<'_>) -> KeyRule {
        let raw::KeyRule {
            query,
            headers,
            cookies,
            device,
        } = raw;
        let query_at = at.field("query");
        let raw::QueryRule { keep, drop, sort } = query.0.unwrap_or_default();
        let keep_only = query_at.has("keep");
        let keep = self.parameters(keep, query_at.field("keep"));
        let headers_at = at.field("headers");
        let mut names = Vec::new();
        for (index, item) in headers.0.unwrap_or_default().into_iter().enumerate() {
            let Some(typed) = item.0 else { continue };
            let span = headers_at.item(index).span();
            if let Some(name) = self.header_name(span, &typed) {
                if name == http::header::COOKIE {
                    let hint = "name the cookies in `cookies`";
                    self.error(span, "every client has another `Cookie`", hint);
                }
                self.is_seen(span, &name);
                names.push(name);
            }
        }
        KeyRule {
            query: QueryRule {
                keep: keep_only.then_some(keep),
                drop: self.parameters(drop, query_at.field("drop")),
                sort: sort.0.unwrap_or(false),
            },
            headers: names,
            cookies: self.cookie_names(cookies, at.field("cookies"), false),
            device: device.0.unwrap_or(false),
        }
    }

    fn parameters(self, raw: raw::List<String>, at: At<'_>) -> Vec<Arc<str>> {
        let mut names = Vec::new();
        for (index, item) in raw.0.unwrap_or_default().into_iter().enumerate() {
            let Some(typed) = item.0 else { continue };
            let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"&=#?".contains(&byte);
            let name = typed.strip_suffix('*').unwrap_or(&typed);
            if typed.is_empty() || name.contains('*') || !name.bytes().all(is_plain) {
                let message = format!("`{}` is not the name of a parameter", quotable(&typed));
                let hint = "write it as it stands in the query, `begins_*` for all that begin so, \
                            or `*` for all";
                self.error(at.item(index).span(), message, hint);
                continue;
            }
            names.push(Arc::from(typed));
        }
        names
    }

    fn cookie_names(self, raw: raw::List<String>, at: At<'_>, patterns: bool) -> Vec<Arc<str>> {
        let mut names = Vec::new();
        for (index, item) in raw.0.unwrap_or_default().into_iter().enumerate() {
            let Some(typed) = item.0 else { continue };
            let name = typed.strip_suffix('*').filter(|_| patterns);
            let name = name.unwrap_or(&typed);
            let is_token =
                |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'+-.^_`|~".contains(&byte);
            if typed.is_empty() || !name.bytes().all(is_token) {
                let message = format!("`{}` is not the name of a cookie", quotable(&typed));
                let hint = match patterns {
                    true => "write its name, `begins_*` for all that begin so, or `*` for all",
                    false => "write its name",
                };
                self.error(at.item(index).span(), message, hint);
                continue;
            }
            names.push(Arc::from(typed));
        }
        names
    }

    /// Single statuses go before classes, however they are written.
    fn status_ttls(
        self,
        raw: Lenient<Named<String>>,
        at: At<'_>,
    ) -> Vec<(StatusPattern, Duration)> {
        let mut ttls = Vec::new();
        for (typed, value) in raw.0.map(|Named(entries)| entries).unwrap_or_default() {
            let pattern = match status_pattern(&typed) {
                Ok(pattern) => pattern,
                Err(fault) => {
                    let _never = self.settle::<()>(at.field(&typed), Err(fault));
                    continue;
                }
            };
            let Some(value) = value.0 else { continue };
            let value_at = at.field(&typed);
            let ttl = self.settle(value_at, parse_duration(&value).map_err(Fault::from));
            if let Some(ttl) = ttl {
                ttls.push((pattern, ttl.min(MAX_TTL)));
            }
        }
        ttls.sort_by_key(|(pattern, _)| matches!(pattern, StatusPattern::Class(_)));
        ttls
    }
}

fn status_pattern(typed: &str) -> Result<StatusPattern, Fault> {
    let class = typed
        .strip_suffix("xx")
        .and_then(|digit| digit.parse::<u8>().ok());
    if let Some(class) = class.filter(|class| (2..=5).contains(class)) {
        return Ok(StatusPattern::Class(class));
    }
    let code = typed.parse::<u16>().ok();
    match code.filter(|code| (200..600).contains(code) && !matches!(code, 206 | 304)) {
        Some(code) => Ok(StatusPattern::One(code)),
        None => Err(Fault::new(
            format!("`{}` is not a status that can be stored", quotable(typed)),
            "write one like `404`, or a class like `5xx`",
        )),
    }
}
