//! What is counted into: plain memory, made for one writer and any number of readers.
//!
//! A worker owns one copy of each cell (`PerWorker`) on cache lines that no other worker writes, so
//! a count is a load, an add and a store: no `lock` prefix, no line that travels between cores. The
//! invariant is that a cell of `Counter`, `Gauge` or `Histogram` has exactly one writing thread; a
//! second one loses counts, but nothing worse. `Shared` is for what any thread may count, rarely.
//! A scrape reads cells while they are written; it may see one request's cells half counted.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A count with one writing thread.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub(super) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    pub(super) fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A level with one writing thread.
#[derive(Debug, Default)]
pub(super) struct Gauge(AtomicU64);

impl Gauge {
    #[inline]
    pub(super) fn raise(&self) {
        self.0.store(self.0.load(Relaxed).wrapping_add(1), Relaxed);
    }

    #[inline]
    pub(super) fn lower(&self) {
        let level = self.0.load(Relaxed);
        debug_assert!(level > 0, "what is lowered was raised on the same worker");
        self.0.store(level.saturating_sub(1), Relaxed);
    }

    pub(super) fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A count or level that any thread may change; not for the request path.
#[derive(Debug, Default)]
pub(super) struct Shared(AtomicU64);

impl Shared {
    pub(super) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub(super) fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// One counter for each value of a label.
#[derive(Debug)]
pub(super) struct Tally<const N: usize>([Counter; N]);

impl<const N: usize> Default for Tally<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl<const N: usize> Tally<N> {
    #[inline]
    pub(super) fn count(&self, index: usize) {
        self.0[index].add(1);
    }

    pub(super) fn add(&self, index: usize, n: u64) {
        self.0[index].add(n);
    }

    pub(super) fn value(&self, index: usize) -> u64 {
        self.0[index].value()
    }
}

/// Upper bounds of the buckets in nanoseconds, inclusive: OpenTelemetry's for HTTP, and three below
/// so that a cache hit and a proxy's overhead can be seen.
pub(super) const BOUNDS: [u64; 17] = {
    const US: u64 = 1_000;
    const MS: u64 = 1_000 * US;
    [
        500 * US,
        MS,
        2_500 * US,
        5 * MS,
        10 * MS,
        25 * MS,
        50 * MS,
        75 * MS,
        100 * MS,
        250 * MS,
        500 * MS,
        750 * MS,
        1_000 * MS,
        2_500 * MS,
        5_000 * MS,
        7_500 * MS,
        10_000 * MS,
    ]
};

/// The bounds and the bucket above them all.
pub(super) const BUCKETS: usize = BOUNDS.len() + 1;

/// Durations, counted by bucket.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    buckets: Tally<BUCKETS>,
    nanos: Counter,
}

impl Histogram {
    #[inline]
    pub(super) fn observe(&self, duration: Duration) {
        let nanos = duration
            .as_secs()
            .saturating_mul(1_000_000_000)
            .saturating_add(u64::from(duration.subsec_nanos()));
        self.buckets.count(bucket(nanos));
        self.nanos.add(nanos);
    }

    /// Adds what was counted here to `totals`.
    pub(super) fn sum_into(&self, totals: &mut Totals) {
        for (index, total) in totals.buckets.iter_mut().enumerate() {
            *total += self.buckets.value(index);
        }
        totals.nanos = totals.nanos.wrapping_add(self.nanos.value());
    }
}

/// A histogram summed over the workers; its count is the sum of its buckets, so that the two agree
/// in every scrape.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) buckets: [u64; BUCKETS],
    pub(super) nanos: u64,
}

/// For each bit length of a number: the bounds that are below every number of that length.
const BELOW: [u8; 65] = {
    let mut table = [0; 65];
    let mut bits = 1;
    while bits < table.len() {
        let least = 1 << (bits - 1);
        while (table[bits] as usize) < BOUNDS.len() && BOUNDS[table[bits] as usize] < least {
            table[bits] += 1;
        }
        // `bucket` compares with two bounds, so no more may share a bit length.
        assert!(table[bits] - table[bits - 1] <= 2);
        bits += 1;
    }
    table
};

/// `BOUNDS`, and two that are never exceeded.
const PADDED: [u64; BOUNDS.len() + 2] = {
    let mut table = [u64::MAX; BOUNDS.len() + 2];
    let mut index = 0;
    while index < BOUNDS.len() {
        table[index] = BOUNDS[index];
        index += 1;
    }
    table
};

/// The bucket of a duration: its bit length leaves two bounds to compare with, without a branch.
#[inline]
fn bucket(nanos: u64) -> usize {
    let first = usize::from(BELOW[(u64::BITS - nanos.leading_zeros()) as usize]);
    first + usize::from(nanos > PADDED[first]) + usize::from(nanos > PADDED[first + 1])
}

/// One `T` for each worker, on cache lines of its own.
#[derive(Debug)]
pub(super) struct PerWorker<T>(Box<[OwnLines<T>]>);

/// 128, since processors fetch lines of 64 bytes in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct OwnLines<T>(pub(super) T);

impl<T: Default> PerWorker<T> {
    pub(super) fn new(workers: usize) -> Self {
        Self(
            std::iter::repeat_with(OwnLines::default)
                .take(workers)
                .collect(),
        )
    }

    /// Panics when `worker` is not below the number of workers.
    #[inline]
    pub(super) fn of(&self, worker: usize) -> &T {
        &self.0[worker].0
    }

    pub(super) fn sum(&self, value: impl Fn(&T) -> u64) -> u64 {
        self.0
            .iter()
            .fold(0, |sum, cells| sum.wrapping_add(value(&cells.0)))
    }

    pub(super) fn totals(&self, histogram: impl Fn(&T) -> &Histogram) -> Totals {
        let mut totals = Totals::default();
        for cells in &self.0 {
            histogram(&cells.0).sum_into(&mut totals);
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(nanos: u64) -> usize {
        BOUNDS.iter().filter(|bound| nanos > **bound).count()
    }

    #[test]
    fn a_duration_equal_to_a_bound_is_inside_it() {
        for (index, bound) in BOUNDS.into_iter().enumerate() {
            assert_eq!(bucket(bound - 1), index);
            assert_eq!(bucket(bound), index);
            assert_eq!(bucket(bound + 1), index + 1);
        }
    }

    #[test]
    fn the_bucket_is_the_one_a_plain_search_finds() {
        for shift in 0..64 {
            for nanos in [(1 << shift) - 1, 1 << shift, (1 << shift) + 1] {
                assert_eq!(bucket(nanos), naive(nanos), "{nanos}");
            }
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..100_000 {
            let nanos = random.u64(..) >> random.u32(0..64);
            assert_eq!(bucket(nanos), naive(nanos), "{nanos}");
        }
    }

    #[test]
    fn an_absurd_duration_is_counted_in_the_last_bucket() {
        let histogram = Histogram::default();
        histogram.observe(Duration::MAX);
        let mut totals = Totals::default();
        histogram.sum_into(&mut totals);
        assert_eq!(totals.buckets[BUCKETS - 1], 1);
    }

    #[test]
    fn cells_of_two_workers_share_no_cache_line() {
        let cells = PerWorker::<Counter>::new(2);
        let distance =
            std::ptr::from_ref(cells.of(1)).addr() - std::ptr::from_ref(cells.of(0)).addr();
        assert!(distance >= 128, "{distance}");
    }
}
