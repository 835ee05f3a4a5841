//! What /proc says about processes: who descends from whom, and who else is at work.
//!
//! `cpu` and `memory` sum over a proxy's family: nginx works in a child of the process that was
//! started, Varnish too.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// `root` and everything that descends from it.
pub(crate) fn family(root: u32) -> Result<Vec<u32>> {
    let parents: Vec<(u32, u32)> = processes()?
        .into_iter()
        .filter_map(|pid| Some((pid, stat(pid).ok()?.parent)))
        .collect();
    let mut family = vec![root];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        family.extend(
            parents
                .iter()
                .filter(|(_, of)| *of == parent)
                .map(|(pid, _)| *pid),
        );
        next += 1;
    }
    Ok(family)
}

/// The fields of /proc/PID/stat that are used here; times in ticks of 10 ms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stat {
    parent: u32,
    pub(crate) user: u64,
    pub(crate) system: u64,
}

pub(crate) fn stat(pid: u32) -> Result<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the command in parentheses, and may hold anything.
    let (_, fields) = text.rsplit_once(')').context("stat without a command")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let number =
        |index: usize| -> Result<u64> { Ok(fields.get(index).context("short stat")?.parse()?) };
    Ok(Stat {
        parent: u32::try_from(number(1)?)?,
        user: number(11)?,
        system: number(12)?,
    })
}

/// Waits until no compiler runs on this machine, unless told to go on; says so either way.
pub(crate) async fn wait_quiet(even_if_busy: bool) -> Result<()> {
    let mut waiting = false;
    while let Some(compiler) = compiler()? {
        if even_if_busy {
            eprintln!("WARNING: {compiler} runs beside this; the figures are not worth keeping");
            return Ok(());
        }
        if !waiting {
            eprintln!("waiting for {compiler} to end (--even-if-busy goes on regardless)");
        }
        waiting = true;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// Name and id of a compiler that runs.
fn compiler() -> Result<Option<String>> {
    const COMPILERS: [&str; 7] = ["rustc", "cc1", "cc1plus", "clang", "ld", "lld", "rust-lld"];
    Ok(processes()?.into_iter().find_map(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        COMPILERS
            .contains(&name.trim())
            .then(|| format!("{} ({pid})", name.trim()))
    }))
}

fn processes() -> Result<Vec<u32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        if let Some(pid) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        {
            pids.push(pid);
        }
    }
    Ok(pids)
}
