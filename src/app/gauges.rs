//! Values that other rooms own, put into each scrape.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;

use crate::cache::DiskStats;
use crate::clock;
use crate::metrics::{Name, Sink};
use crate::net::tls;
use crate::server::admission::Admission;
use crate::snapshot::{Live, Snapshot};

/// Has the cache's, the endpoints', the checks' and the certificates' figures pulled at every scrape,
/// and how many connections there may be.
pub(super) fn register(
    live: &Arc<Live>,
    current: &Arc<ArcSwap<Snapshot>>,
    admission: &Arc<Admission>,
) {
    let admission = Arc::clone(admission);
    live.metrics.pull(move |sink| {
        sink.put_count(Name::ConnectionsLimit, &[], admission.most() as u64);
    });
    let cache = Arc::clone(&live.cache);
    live.metrics.pull(move |sink| {
        let stats = cache.stats();
        sink.put_count(Name::CacheBytes, &[], stats.bytes);
        sink.put_count(Name::CacheLimitBytes, &[], stats.limit);
        sink.put_count(Name::CacheEntries, &[], stats.entries);
        sink.put_count(Name::CacheEvictions, &[], stats.evictions);
        if let Some(disk) = cache.disk_stats() {
            put_disk(disk, sink);
        }
    });
    let (tls, snapshot) = (Arc::clone(&live.tls), Arc::clone(current));
    live.metrics
        .pull(move |sink| put_tls(&tls, &snapshot.load(), sink));
    let current = Arc::clone(current);
    live.metrics.pull(move |sink| {
        for upstream in &current.load().upstreams {
            for member in upstream.pool.members() {
                let labels = [&*upstream.name, &*member.endpoint.address];
                let up = f64::from(u8::from(member.is_up()));
                sink.put(Name::UpstreamEndpointUp, &labels, up);
                let in_flight = u64::from(member.endpoint.in_flight());
                sink.put_count(Name::UpstreamInFlight, &labels, in_flight);
                let counts = member.status.counts();
                let [name, address] = labels;
                let passed = counts.checks.saturating_sub(counts.failures);
                sink.put_count(Name::HealthChecks, &[name, address, "passed"], passed);
                sink.put_count(
                    Name::HealthChecks,
                    &[name, address, "failed"],
                    counts.failures,
                );
                // An endpoint begins as up, so every other change leads down, the first one too.
                let (downs, ups) = (counts.transitions.div_ceil(2), counts.transitions / 2);
                sink.put_count(Name::HealthTransitions, &[name, address, "down"], downs);
                sink.put_count(Name::HealthTransitions, &[name, address, "up"], ups);
            }
        }
    });
}

fn put_disk(stats: DiskStats, sink: &mut Sink) {
    let DiskStats {
        up,
        bytes,
        limit,
        objects,
        hits,
        writes,
        dropped,
        evictions,
        damaged,
    } = stats;
    for (name, value) in [
        (Name::CacheDiskUp, u64::from(up)),
        (Name::CacheDiskBytes, bytes),
        (Name::CacheDiskLimitBytes, limit),
        (Name::CacheDiskObjects, objects),
        (Name::CacheDiskHits, hits),
        (Name::CacheDiskWrites, writes),
        (Name::CacheDiskDropped, dropped),
        (Name::CacheDiskEvictions, evictions),
        (Name::CacheDiskDamaged, damaged),
    ] {
        sink.put_count(name, &[], value);
    }
}

/// Certificates and files of every listener, and certificates that all of them have.
fn put_tls(shared: &tls::Shared, snapshot: &Snapshot, sink: &mut Sink) {
    // Two listeners on port 0 have one name.
    let mut seen = HashSet::new();
    for (listener, server) in snapshot.config.listeners.iter().zip(&snapshot.tls) {
        let Some(server) = server else {
            continue;
        };
        let listener = listener.address.to_string();
        for tls::FileState { name, failed } in server.files() {
            if seen.insert((listener.clone(), name.clone())) {
                let failed = u64::from(failed);
                sink.put_count(Name::TlsFileReloadFailed, &[&listener, &name], failed);
            }
        }
        for tls::CertificateState { name, not_after } in server.certificates() {
            if seen.insert((format!("{listener} ends"), name.clone())) {
                put_end(sink, &listener, &name, not_after);
            }
        }
    }
    for pair in shared.issued.pairs() {
        put_end(sink, "all", pair.name(), pair.not_after());
    }
}

fn put_end(sink: &mut Sink, listener: &str, certificate: &str, not_after: SystemTime) {
    let seconds = clock::since_epoch(not_after).as_secs();
    let labels = [listener, certificate];
    sink.put_count(Name::TlsCertificateNotAfter, &labels, seconds);
}
