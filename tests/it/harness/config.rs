//! The text of a config file, in pieces.
//!
//! What a test is about stands in the test as YAML; what every config needs is filled in here: port
//! 0 everywhere, two workers, a log that can be parsed.

use std::fmt::Write as _;

use super::Origin;

#[derive(Clone)]
pub(crate) struct Config {
    workers: usize,
    listeners: Vec<String>,
    top: Vec<String>,
    upstreams: Vec<String>,
    shard_maps: Vec<String>,
    routes: Vec<String>,
}

impl Config {
    pub(crate) fn new() -> Self {
        Self {
            workers: 2,
            listeners: vec!["address: 127.0.0.1:0".to_owned()],
            top: Vec::new(),
            upstreams: Vec::new(),
            shard_maps: Vec::new(),
            routes: Vec::new(),
        }
    }

    /// One upstream with these endpoints and keys, and everything goes there.
    pub(crate) fn to_endpoints(endpoints: &str, more: &str) -> Self {
        Self::new().upstream_at("shop", endpoints, more).route(
            "shop",
            "path_prefix: /",
            "upstream: shop",
        )
    }

    /// One upstream of these origins, and everything goes there.
    pub(crate) fn to(origins: &[&Origin]) -> Self {
        Self::new()
            .upstream("shop", origins, "")
            .route("shop", "path_prefix: /", "upstream: shop")
    }

    /// The same, and the route caches.
    pub(crate) fn cached(origins: &[&Origin]) -> Self {
        Self::new().upstream("shop", origins, "").route(
            "shop",
            "path_prefix: /",
            "upstream: shop, cache: {}",
        )
    }

    /// What connections share is a worker's, so tests about connections have one.
    pub(crate) fn one_worker(self) -> Self {
        self.workers(1)
    }

    pub(crate) fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Keys of the top level, such as `timeouts: { header: 1s }`.
    pub(crate) fn top(mut self, text: &str) -> Self {
        self.top.push(text.to_owned());
        self
    }

    /// One more listener.
    pub(crate) fn listener(mut self, text: &str) -> Self {
        self.listeners.push(text.to_owned());
        self
    }

    /// This listener alone.
    pub(crate) fn only_listener(mut self, text: &str) -> Self {
        self.listeners = vec![text.to_owned()];
        self
    }

    /// An upstream of these origins; `more` is further keys, such as `sticky: {}, max_idle: 3`.
    pub(crate) fn upstream(self, name: &str, origins: &[&Origin], more: &str) -> Self {
        let endpoints: Vec<String> = origins.iter().map(|o| o.address().to_string()).collect();
        self.upstream_at(name, &endpoints.join(", "), more)
    }

    /// The same with endpoints as they are to stand in the file.
    pub(crate) fn upstream_at(mut self, name: &str, endpoints: &str, more: &str) -> Self {
        let comma = if more.is_empty() { "" } else { ", " };
        self.upstreams.push(format!(
            "{name}: {{ endpoints: [{endpoints}]{comma}{more} }}"
        ));
        self
    }

    pub(crate) fn shard_map(mut self, name: &str, text: &str) -> Self {
        self.shard_maps.push(format!("{name}: {{ {text} }}"));
        self
    }

    /// A route; `matches` are the keys of `match`, `rest` the target and what else there is.
    pub(crate) fn route(mut self, name: &str, matches: &str, rest: &str) -> Self {
        self.routes.push(format!(
            "{{ name: {name}, match: {{ {matches} }}, {rest} }}"
        ));
        self
    }

    pub(crate) fn text(&self) -> String {
        let Self {
            workers,
            listeners,
            top,
            upstreams,
            shard_maps,
            routes,
        } = self;
        let mut text = format!("workers: {workers}\nadmin: {{ address: 127.0.0.1:0 }}\n");
        if !top.iter().any(|text| text.starts_with("log:")) {
            text.push_str("log: { format: json }\n");
        }
        for top in top {
            writeln!(text, "{top}").unwrap();
        }
        text.push_str("listeners:\n");
        for listener in listeners {
            writeln!(text, "  - {{ {listener} }}").unwrap();
        }
        if !upstreams.is_empty() {
            text.push_str("upstreams:\n");
        }
        for upstream in upstreams {
            writeln!(text, "  {upstream}").unwrap();
        }
        if !shard_maps.is_empty() {
            text.push_str("shard_maps:\n");
        }
        for map in shard_maps {
            writeln!(text, "  {map}").unwrap();
        }
        text.push_str("routes:\n");
        for route in routes {
            writeln!(text, "  - {route}").unwrap();
        }
        text
    }
}
