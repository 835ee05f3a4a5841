//! A proxy as a child process: pinned, its output kept in a file, stopped with everything it began.
//!
//! Invariant: SIGTERM first, also on the way out of an error, so that a master process ends its
//! workers; a SIGKILL to nginx's master would leave them running.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command as StdCommand, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::{Child, Command};

const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// A running proxy.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` on `core`; its output goes to `output.log` in `folder`.
    pub(crate) fn start(core: u32, command: &[OsString], folder: &Path) -> Result<Self> {
        let log = folder.join("output.log");
        let output = File::create(&log)?;
        // taskset becomes the program it starts, so the id is the proxy's own.
        let child = Command::new("taskset")
            .args(["-c", &core.to_string()])
            .args(command)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("taskset did not start (util-linux)")?;
        let pid = child.id().context("no process id")?;
        Ok(Self { pid, child, log })
    }

    /// Fails, with what the process wrote, once it has ended.
    pub(crate) fn expect_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("it ended ({status}):\n{}", self.output()),
        }
    }

    /// What the process wrote so far.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) async fn stop(mut self) {
        signal("TERM", self.pid);
        if tokio::time::timeout(STOP_DEADLINE, self.child.wait())
            .await
            .is_err()
        {
            eprintln!("process {} outlived SIGTERM by {STOP_DEADLINE:?}", self.pid);
            for pid in crate::procfs::family(self.pid).unwrap_or_default() {
                signal("KILL", pid);
            }
            self.child.wait().await.ok();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            signal("TERM", self.pid);
        }
    }
}

/// Sends a signal through `kill`, since `unsafe` is forbidden here.
pub(crate) fn signal(name: &str, pid: u32) {
    let sent = StdCommand::new("kill")
        .args(["-s", name, &pid.to_string()])
        .status();
    if let Err(error) = sent {
        eprintln!("kill did not start: {error}");
    }
}

/// Keeps this process, and what it starts without saying otherwise, to `cores`.
pub(crate) fn pin_self(cores: &str) {
    let own = std::process::id().to_string();
    let pinned = StdCommand::new("taskset")
        .args(["-a", "-c", "-p", cores, &own])
        .stdout(Stdio::null())
        .status();
    if !pinned.is_ok_and(|status| status.success()) {
        eprintln!("WARNING: taskset could not pin the bench to core {cores}");
    }
}

/// Raises this process's limit of open files to the hard one, and so its children's.
pub(crate) fn raise_descriptor_limit() {
    let own = std::process::id().to_string();
    let hard = StdCommand::new("prlimit")
        .args([
            "--pid",
            &own,
            "--nofile",
            "--output",
            "HARD",
            "--noheadings",
        ])
        .output();
    let raised = hard.and_then(|output| {
        let hard = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        StdCommand::new("prlimit")
            .args(["--pid", &own, &format!("--nofile={hard}:{hard}")])
            .status()
    });
    if !raised.is_ok_and(|status| status.success()) {
        eprintln!("WARNING: prlimit could not raise the limit of open files");
    }
}
