//! Resident memory of a proxy: its proportional set size.
//!
//! Pages that several of its processes share (nginx's master and worker) count once in the sum,
//! which a sum of resident sizes would not do. Memory of the kernel's sockets is not in it, for
//! any proxy alike.

use std::fs;

use anyhow::{Context, Result};

use crate::procfs;

/// Bytes of `root` and all that descends from it.
pub(crate) fn proportional(root: u32) -> Result<u64> {
    procfs::family(root)?.into_iter().map(of_process).sum()
}

fn of_process(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
        .with_context(|| format!("smaps_rollup of {pid}"))?;
    // A process that is ending has no memory left to list.
    let Some(line) = text.lines().find_map(|line| line.strip_prefix("Pss:")) else {
        return Ok(0);
    };
    let kibibytes: u64 = line
        .split_whitespace()
        .next()
        .context("empty Pss")?
        .parse()?;
    Ok(kibibytes * 1_024)
}
