//! Values that other rooms own, put into each scrape.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::metrics::Name;
use crate::server::admission::Admission;
use crate::snapshot::{Live, Snapshot};

/// Has the cache's, the endpoints' and the checks' figures pulled at every scrape, and how many
/// connections there may be.
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
    });
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
