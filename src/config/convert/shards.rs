//! Shard maps: where the key is, and which upstream owns which keys.

use std::sync::Arc;

use super::Cx;
use super::fields::{Names, Unique};
use super::patterns;
use crate::config::errors::quotable;
use crate::config::marks::At;
use crate::config::model::{ShardKey, ShardMap, ShardStrategy, UpstreamId};
use crate::config::raw::{self, Lenient, Named};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Strategy {
    Modulo,
    List,
}

const STRATEGIES: [(&str, Strategy); 2] = [("modulo", Strategy::Modulo), ("list", Strategy::List)];

impl Cx<'_> {
    /// One map for each name, in order, so that indices of names are ids.
    pub(super) fn shard_maps(
        self,
        raw: Lenient<Named<raw::ShardMap>>,
        at: At<'_>,
        upstreams: &Names,
    ) -> Vec<ShardMap> {
        let Some(Named(entries)) = raw.0 else {
            return Vec::new();
        };
        let convert = |(name, map): (String, Lenient<raw::ShardMap>)| {
            self.name(at.key_span(&name), "a shard map", &name);
            let converted = map
                .0
                .and_then(|map| self.shard_map(&name, map, at.field(&name), upstreams));
            // Nothing is said about a stand-in: its key is not a capture that a route could lack.
            let (key, strategy) = converted.unwrap_or_else(|| {
                (
                    ShardKey::Query(Arc::from("")),
                    ShardStrategy::Modulo { shards: Vec::new() },
                )
            });
            ShardMap {
                name: Arc::from(name),
                key,
                strategy,
            }
        };
        entries.into_iter().map(convert).collect()
    }

    fn shard_map(
        self,
        name: &str,
        raw: raw::ShardMap,
        at: At<'_>,
        upstreams: &Names,
    ) -> Option<(ShardKey, ShardStrategy)> {
        let raw::ShardMap {
            key,
            strategy,
            shards,
            default,
        } = raw;
        let lacks = |key: &str| format!("the shard map `{}` has no `{key}`", quotable(name));
        let key = match key.0 {
            Some(key) => self.shard_key(key, at.field("key")),
            None => {
                let hint = "add `key: { path: CAPTURE }`, or `header`, `cookie` or `query`";
                self.missing(at, "key", lacks("key"), hint);
                None
            }
        };
        if strategy.0.is_none() {
            self.missing(
                at,
                "strategy",
                lacks("strategy"),
                "add `strategy: modulo` or `strategy: list`",
            );
        }
        let strategy = self.choice(at, "strategy", &strategy, &STRATEGIES);
        let at_shards = at.field("shards");
        let shards = shards.0.unwrap_or_else(|| {
            self.missing(
                at,
                "shards",
                lacks("shards"),
                "add `shards: [UPSTREAM, ...]`",
            );
            Vec::new()
        });
        if shards.is_empty() && at.has("shards") && !at_shards.holds_error(self.report) {
            self.error(
                at_shards.span(),
                "`shards` is empty",
                "add at least one upstream",
            );
        }
        let strategy = match strategy {
            Some(Strategy::Modulo) => self.modulo(shards, at, upstreams),
            Some(Strategy::List) => self.list(shards, &default, at, upstreams),
            // The names are still worth checking.
            None => {
                self.owners(shards, at_shards, upstreams, |_, _, _| {});
                return None;
            }
        };
        Some((key?, strategy))
    }

    fn shard_key(self, raw: raw::ShardKey, at: At<'_>) -> Option<ShardKey> {
        let raw::ShardKey {
            path,
            header,
            cookie,
            query,
        } = raw;
        const SOURCES: [&str; 4] = ["path", "header", "cookie", "query"];
        const HINT: &str = "name exactly one of `path`, `header`, `cookie` and `query`";
        let typed: Vec<&str> = SOURCES.into_iter().filter(|key| at.has(key)).collect();
        match typed.as_slice() {
            [] if at.node.entries().is_empty() => {
                self.error(at.span(), "a shard key without a place to find it", HINT);
            }
            [_, second, ..] => {
                self.error(
                    at.key_span(second),
                    "a shard key has one place, not several",
                    HINT,
                );
                return None;
            }
            _ => {}
        }
        if let Some(capture) = path.0 {
            let at = at.field("path");
            self.settle(at, patterns::capture_name(&capture))?;
            return Some(ShardKey::Path(Arc::from(capture)));
        }
        if let Some(name) = header.0 {
            let span = at.field("header").span();
            let name = self.header_name(span, &name)?;
            self.is_seen(span, &name);
            return Some(ShardKey::Header(name));
        }
        if let Some(name) = cookie.0 {
            self.cookie_name(at.field("cookie"), &name);
            return Some(ShardKey::Cookie(Arc::from(name)));
        }
        let name = query.0?;
        if name.is_empty() {
            let hint = "write the name of the parameter as it stands in a URL";
            self.error(
                at.field("query").span(),
                "the query parameter has no name",
                hint,
            );
        }
        Some(ShardKey::Query(Arc::from(name)))
    }

    fn modulo(
        self,
        shards: Vec<Lenient<raw::Shard>>,
        at: At<'_>,
        upstreams: &Names,
    ) -> ShardStrategy {
        if at.has("default") {
            self.error(
                at.key_span("default"),
                "`default` has no meaning for `strategy: modulo`",
                "remove it: every number has a shard",
            );
        }
        let mut owners = Vec::new();
        self.owners(
            shards,
            at.field("shards"),
            upstreams,
            |owner, _, at_shard| {
                if at_shard.has("values") {
                    self.error(
                        at_shard.key_span("values"),
                        "`values` has no meaning for `strategy: modulo`",
                        "remove it, or use `strategy: list`",
                    );
                }
                owners.extend(owner);
            },
        );
        ShardStrategy::Modulo { shards: owners }
    }

    fn list(
        self,
        shards: Vec<Lenient<raw::Shard>>,
        default: &raw::Text,
        at: At<'_>,
        upstreams: &Names,
    ) -> ShardStrategy {
        let mut unique = Unique::new();
        let mut values = Vec::new();
        self.owners(
            shards,
            at.field("shards"),
            upstreams,
            |owner, typed, at_shard| {
                let hint = "add `values: [a, b]`, the keys that this shard owns";
                if typed.0.is_none() {
                    self.missing(
                        at_shard,
                        "values",
                        "a shard of a list without `values`",
                        hint,
                    );
                }
                let at_values = at_shard.field("values");
                let typed = typed.0.unwrap_or_default();
                if typed.is_empty() && at_shard.has("values") && !at_values.holds_error(self.report)
                {
                    self.error(at_values.span(), "`values` is empty", hint);
                }
                for (index, value) in typed.into_iter().enumerate() {
                    let Some(value) = value.0 else { continue };
                    let at_value = at_values.item(index);
                    if value.is_empty() {
                        let hint = "a request without a key is refused, whatever the map says";
                        self.error(at_value.span(), "an empty value owns nothing", hint);
                        continue;
                    }
                    unique.check(self, at_value.span(), "the value", value.clone());
                    values.extend(owner.map(|owner| (Arc::from(value), owner)));
                }
            },
        );
        let default = default
            .0
            .as_deref()
            .and_then(|name| upstreams.find(self, at.field("default"), name))
            .map(UpstreamId);
        ShardStrategy::List { values, default }
    }

    /// Hands on each shard's upstream, when there is one, and its values.
    fn owners(
        self,
        shards: Vec<Lenient<raw::Shard>>,
        at: At<'_>,
        upstreams: &Names,
        mut each: impl FnMut(Option<UpstreamId>, raw::List<String>, At<'_>),
    ) {
        for (index, shard) in shards.into_iter().enumerate() {
            let Some(raw::Shard { upstream, values }) = shard.0 else {
                continue;
            };
            let at = at.item(index);
            if upstream.0.is_none() {
                self.missing(
                    at,
                    "upstream",
                    "a shard without an `upstream`",
                    "add `upstream: NAME`",
                );
            }
            let owner = upstream
                .0
                .and_then(|name| upstreams.find(self, at.field("upstream"), &name))
                .map(UpstreamId);
            each(owner, values, at);
        }
    }
}
