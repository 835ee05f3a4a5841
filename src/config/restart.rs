//! What a reload cannot change.
//!
//! `reload` asks, so that such a key is reported as "needs a restart" and never ignored in silence.

use super::model::{AccessLog, Admin, CacheStore, Config, Log};

/// Keys that differ and that only a restart can change, as they are spelled in the file.
#[must_use]
pub fn restart_only_changes(old: &Config, new: &Config) -> Vec<&'static str> {
    // Named in full, so that whoever adds a key decides on which side it is.
    let Config {
        workers,
        admin: Admin { address, hosts: _ },
        log: Log { level, format },
        access_log: AccessLog {
            format: access_format,
            path,
        },
        cache:
            CacheStore {
                memory,
                max_object,
                disk,
                startup_grace,
            },
        listeners: _,
        acme: _,
        timeouts: _,
        limits: _,
        trusted_proxies: _,
        forwarded: _,
        paths: _,
        claims: _,
        keep_underscores: _,
        trace: _,
        upstreams: _,
        shard_maps: _,
        routes: _,
    } = old;
    let log = &new.log;
    let access_log = &new.access_log;
    [
        ("workers", *workers != new.workers),
        ("admin.address", *address != new.admin.address),
        ("log", (level, format) != (&log.level, &log.format)),
        (
            "access_log",
            (access_format, path) != (&access_log.format, &access_log.path),
        ),
        ("cache.memory", *memory != new.cache.memory),
        ("cache.max_object", *max_object != new.cache.max_object),
        ("cache.disk", *disk != new.cache.disk),
        (
            "cache.startup_grace",
            *startup_grace != new.cache.startup_grace,
        ),
    ]
    .into_iter()
    .filter_map(|(key, differs)| differs.then_some(key))
    .collect()
}
