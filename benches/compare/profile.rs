//! Where a proxy's time goes, for when a figure is worse than hoped: `--strace` and `--perf`.
//!
//! Both attach to the running proxy for one slice. strace slows it many times over, so its counts
//! per request are kept and its times are not. perf samples on the CPU clock, which virtual
//! machines without hardware counters have too.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::process::{Child, Command};

use crate::args::{Args, Case, Work};
use crate::load::Generator;
use crate::peers::Subject;
use crate::process;
use crate::procfs;
use crate::rounds::requests;
use crate::table::Table;

/// System calls rarer than this per request are left out.
const RARE: f64 = 0.001;
/// For the tool to have attached to every thread.
const ATTACH: Duration = Duration::from_secs(1);

/// Profiles each proxy under the load of `case`; the idle case has none and is left out.
pub(crate) async fn run(
    args: &Args,
    generator: &Generator,
    case: Case,
    subjects: &[Subject],
    folder: &Path,
) -> Result<()> {
    let Some(work) = case.work() else {
        return Ok(());
    };
    for subject in subjects {
        let pid = subject.pid().context("not a proxy")?;
        generator
            .run(args, subject.address(work.over), &work, args.warm_up)
            .await?;
        println!("\n{}, {}", subject.title(), case.name());
        let profiled = if args.strace {
            count_calls(args, generator, &work, subject, pid, folder).await
        } else {
            sample(args, generator, &work, subject, pid, folder).await
        };
        profiled.with_context(|| format!("{} of {}", case.name(), subject.name))?;
    }
    Ok(())
}

async fn count_calls(
    args: &Args,
    generator: &Generator,
    work: &Work,
    subject: &Subject,
    pid: u32,
    folder: &Path,
) -> Result<()> {
    let output = folder.join("strace.txt");
    let mut strace = Command::new("strace");
    strace
        .args(["-c", "-f", "-U", "calls,errors,name", "-o"])
        .arg(&output);
    for pid in procfs::family(pid)? {
        strace.args(["-p", &pid.to_string()]);
    }
    let strace = strace
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let mut strace = strace.spawn().context("strace did not start")?;
    tokio::time::sleep(ATTACH).await;
    let outcome = generator
        .run(args, subject.address(work.over), work, args.seconds)
        .await?;
    interrupt(&mut strace).await?;

    let mut calls = parse_calls(&fs::read_to_string(&output)?);
    ensure!(!calls.is_empty(), "strace counted nothing (may it attach?)");
    calls.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let mut table = Table::new(&["system call", "per request"]);
    for (name, count) in calls {
        let each = count / requests(outcome);
        if each >= RARE {
            table.row(vec![name, format!("{each:.3}")]);
        }
    }
    print!("{}", table.render(args.markdown));
    Ok(())
}

/// Lines of `calls [errors] name`; the rest is header, rule or sum.
fn parse_calls(summary: &str) -> Vec<(String, f64)> {
    let lines = summary.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (calls, name) = (words.first()?.parse().ok()?, *words.last()?);
        Some((name.to_owned(), calls))
    });
    lines.collect()
}

async fn sample(
    args: &Args,
    generator: &Generator,
    work: &Work,
    subject: &Subject,
    pid: u32,
    folder: &Path,
) -> Result<()> {
    let data = folder.join("perf.data");
    let family: Vec<String> = procfs::family(pid)?
        .iter()
        .map(ToString::to_string)
        .collect();
    let mut perf = Command::new("perf")
        .args([
            "record",
            "-q",
            "-e",
            "cpu-clock",
            "-F",
            "997",
            "-g",
            "-p",
            &family.join(","),
        ])
        .arg("-o")
        .arg(&data)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("perf did not start")?;
    tokio::time::sleep(ATTACH).await;
    generator
        .run(args, subject.address(work.over), work, args.seconds)
        .await?;
    interrupt(&mut perf).await?;

    let report = Command::new("perf")
        .args([
            "report",
            "--stdio",
            "--no-children",
            "-g",
            "none",
            "--percent-limit",
            "0.5",
            "-i",
        ])
        .arg(&data)
        .output()
        .await?;
    if !report.status.success() {
        bail!("perf report: {}", String::from_utf8_lossy(&report.stderr));
    }
    let report = String::from_utf8_lossy(&report.stdout);
    for line in report
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
    {
        println!("{}", line.trim_end());
    }
    Ok(())
}

/// Both tools write what they have when they are interrupted.
async fn interrupt(tool: &mut Child) -> Result<()> {
    if let Some(pid) = tool.id() {
        process::signal("INT", pid);
    }
    tool.wait().await?;
    Ok(())
}
