//! Processor time of a proxy, and of the whole machine, from the kernel's accounting.
//!
//! The figure is the first field of /proc/PID/task/*/schedstat, nanoseconds on a core, summed over
//! all threads of all processes of the proxy. The split into user and system time comes from
//! /proc/PID/stat, whose ticks of 10 ms are too coarse for the sum itself; both must agree, or a
//! thread came and went unseen and the slice is refused.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::procfs;

/// A reading of a proxy's account; two of them make a `Spent`.
#[derive(Debug)]
pub(crate) struct Account {
    /// Nanoseconds on a core, by thread.
    threads: BTreeMap<u32, u64>,
    user: Duration,
    system: Duration,
}

/// What a proxy spent between two readings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spent {
    pub(crate) total: Duration,
    /// Part of `total` in user space, 0 to 1.
    pub(crate) user_share: f64,
}

impl Account {
    /// Reads the account of `root` and all that descends from it.
    pub(crate) fn read(root: u32) -> Result<Self> {
        let mut account = Self {
            threads: BTreeMap::new(),
            user: Duration::ZERO,
            system: Duration::ZERO,
        };
        for pid in procfs::family(root)? {
            let stat = procfs::stat(pid)?;
            account.user += ticks(stat.user);
            account.system += ticks(stat.system);
            for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
                let thread = thread?;
                // A thread that ended since the folder was listed did so after its time was spent;
                // the comparison with `stat` below catches it if that time matters.
                let Ok(text) = fs::read_to_string(thread.path().join("schedstat")) else {
                    continue;
                };
                let id = thread.file_name().to_string_lossy().parse()?;
                let on_core = text
                    .split_whitespace()
                    .next()
                    .context("empty schedstat")?
                    .parse()?;
                account.threads.insert(id, on_core);
            }
        }
        Ok(account)
    }

    /// Time spent since `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Result<Spent> {
        let total: u64 = self
            .threads
            .iter()
            .map(|(id, now)| now.saturating_sub(earlier.threads.get(id).copied().unwrap_or(0)))
            .sum();
        let total = Duration::from_nanos(total);
        let user = self.user.saturating_sub(earlier.user);
        let ticked = user + self.system.saturating_sub(earlier.system);
        let tolerance = total.mul_f64(0.05) + Duration::from_millis(50);
        if total.abs_diff(ticked) > tolerance {
            bail!("schedstat says {total:?} and stat says {ticked:?}: threads came and went");
        }
        let user_share = if ticked.is_zero() {
            0.0
        } else {
            user.as_secs_f64() / ticked.as_secs_f64()
        };
        Ok(Spent { total, user_share })
    }
}

/// Busy time of all cores since the machine started.
pub(crate) fn machine_busy() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    let fields: Vec<u64> = text
        .lines()
        .next()
        .context("empty /proc/stat")?
        .split_whitespace()
        .skip(1)
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    // user, nice, system, (idle, iowait), irq, softirq
    let busy = [0, 1, 2, 5, 6]
        .iter()
        .filter_map(|&index| fields.get(index))
        .sum();
    Ok(ticks(busy))
}

/// `USER_HZ` is 100 on every Linux that /proc describes.
fn ticks(count: u64) -> Duration {
    Duration::from_millis(count * 10)
}
