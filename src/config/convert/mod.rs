//! From what was typed to what it means: defaults, bounds, references, files.
//!
//! Takes `raw` apart field by field beside the marked tree, and hands `config` a model. A value that
//! is wrong is reported and a stand-in takes its place, so that conversion always reaches the end of
//! the file; the caller drops the model when the report holds an error. Invariant: what is not in the
//! report is inside the bounds that `model` states.

mod acme;
mod caching;
mod claims;
mod content;
mod cors;
mod doors;
mod edge;
mod edits;
mod fields;
mod files;
mod http2;
mod limits;
mod listeners;
mod odd;
mod outbound;
mod patterns;
mod routes;
mod server;
mod shards;
mod templates;
mod tls;
mod upstreams;

use std::path::Path;

use super::marks::At;
use super::report::Report;
use super::{model, raw};
use fields::Names;
use routes::Targets;

pub(crate) use files::open;

/// What every conversion is handed.
#[derive(Clone, Copy)]
struct Cx<'a> {
    report: &'a Report,
    /// Where relative paths start.
    folder: &'a Path,
    /// Whether header names with `_` or `.` pass.
    keep_odd: bool,
}

/// Converts a whole config. Only meaningful when the report holds no error afterwards.
pub(crate) fn convert(
    raw: raw::Config,
    at: At<'_>,
    report: &Report,
    folder: &Path,
) -> model::Config {
    let raw::Config {
        workers,
        listeners,
        admin,
        acme,
        timeouts,
        log,
        access_log,
        cache,
        limits,
        trusted_proxies,
        forwarded,
        paths,
        claims,
        underscore_headers,
        trace,
        upstreams,
        shard_maps,
        routes,
    } = raw;
    let cx = Cx {
        report,
        folder,
        keep_odd: false,
    };
    let cx = Cx {
        keep_odd: cx.keep_underscores(&underscore_headers, at),
        ..cx
    };
    let upstream_names = Names::new("upstream", "upstreams", &upstreams, at, report);
    let map_names = Names::new("shard map", "shard_maps", &shard_maps, at, report);
    let admin = cx.admin(admin.0.unwrap_or_default(), at.field("admin"));
    let upstreams = cx.upstreams(upstreams, at.field("upstreams"));
    let shard_maps = cx.shard_maps(shard_maps, at.field("shard_maps"), &upstream_names);
    let targets = Targets {
        upstreams: &upstream_names,
        map_names: &map_names,
        shard_maps: &shard_maps,
    };
    let listeners = cx.listeners(listeners, at, &admin);
    let acme = acme.0.map(|acme| cx.acme(acme, at.field("acme")));
    cx.acme_and_listeners(acme.as_ref(), &listeners, at);
    let config = model::Config {
        workers: cx.workers(&workers, at),
        listeners,
        acme,
        timeouts: cx.client_timeouts(timeouts.0.unwrap_or_default(), at.field("timeouts")),
        log: cx.log(log.0.unwrap_or_default(), at.field("log")),
        access_log: cx.access_log(access_log.0.unwrap_or_default(), at.field("access_log")),
        cache: cx.cache_store(cache.0.unwrap_or_default(), at.field("cache")),
        limits: cx.limits(limits.0.unwrap_or_default(), at.field("limits")),
        trusted_proxies: cx.trusted_proxies(trusted_proxies, at.field("trusted_proxies")),
        forwarded: cx.forwarding(&forwarded, at),
        paths: cx.path_rules(paths.0.unwrap_or_default(), at.field("paths")),
        claims: cx.claims(claims.0.unwrap_or_default(), at.field("claims")),
        keep_underscores: cx.keep_odd,
        trace: trace.0.unwrap_or_default(),
        routes: cx.routes(routes, at, &targets),
        admin,
        upstreams,
        shard_maps,
    };
    cx.warn_of_odd(&config, at);
    upstream_names.warn_unused(cx, at.field("upstreams"));
    map_names.warn_unused(cx, at.field("shard_maps"));
    if !report.has_errors() {
        cx.warn_of_open_doors(&config, at.field("listeners"));
    }
    config
}
