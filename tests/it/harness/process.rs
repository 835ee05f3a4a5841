//! A child process, its output in lines, its end.
//!
//! Output is read by threads, so that dropping a process can wait for the last line. Invariant: a
//! child is killed and reaped when its `Process` drops, and a child that panicked fails the test.

use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};

use super::eventually;

pub(crate) struct Process {
    child: Child,
    output: Lines,
    errors: Lines,
}

/// What came out of one end so far.
struct Lines {
    read: Arc<Mutex<Vec<String>>>,
    ended: mpsc::Receiver<()>,
}

impl Lines {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let read = Arc::new(Mutex::new(Vec::new()));
        let (end, ended) = mpsc::channel();
        let lines = Arc::clone(&read);
        std::thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                lines
                    .lock()
                    .push(String::from_utf8_lossy(&line).into_owned());
            }
            // Nobody may be left to be told.
            end.send(()).ok();
        });
        Self { read, ended }
    }
}

impl Process {
    /// Starts the real binary.
    pub(crate) fn start<'a>(arguments: impl IntoIterator<Item = &'a str>, folder: &Path) -> Self {
        Self::spawn(
            Command::new(env!("CARGO_BIN_EXE_headgate")).args(arguments),
            folder,
        )
    }

    /// The same with so many descriptors.
    pub(crate) fn start_with<'a>(
        descriptors: usize,
        arguments: impl IntoIterator<Item = &'a str>,
        folder: &Path,
    ) -> Self {
        let limit = format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"");
        let mut shell = Command::new("sh");
        shell.args(["-c", &limit, env!("CARGO_BIN_EXE_headgate")]);
        Self::spawn(shell.args(arguments), folder)
    }

    fn spawn(command: &mut Command, folder: &Path) -> Self {
        let mut child = command
            .env("TMPDIR", folder)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = Lines::of(child.stdout.take().unwrap());
        let errors = Lines::of(child.stderr.take().unwrap());
        Self {
            child,
            output,
            errors,
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.id(), signal);
    }

    /// Standard output so far.
    pub(crate) fn output(&self) -> Vec<String> {
        self.output.read.lock().clone()
    }

    /// Standard error so far.
    pub(crate) fn errors(&self) -> Vec<String> {
        self.errors.read.lock().clone()
    }

    /// Waits for a line of standard output.
    pub(crate) async fn line(&self, words: &str) -> String {
        self.find(words, || self.output()).await
    }

    /// Waits for a line of standard error.
    pub(crate) async fn error_line(&self, words: &str) -> String {
        self.find(words, || self.errors()).await
    }

    async fn find(&self, words: &str, lines: impl Fn() -> Vec<String>) -> String {
        let what = format!("process {} wrote {words:?}", self.id());
        eventually(&what, async || {
            lines().into_iter().find(|line| line.contains(words))
        })
        .await
    }

    pub(crate) fn try_end(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end and its last line.
    pub(crate) async fn end(&mut self) -> ExitStatus {
        let what = format!("process {} ended", self.id());
        let status = eventually(&what, async || self.try_end()).await;
        self.read_rest();
        status
    }

    /// Children of its own may hold the other ends for longer; nobody waits for them for ever.
    fn read_rest(&self) {
        for lines in [&self.output, &self.errors] {
            lines.ended.recv_timeout(Duration::from_secs(10)).ok();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.try_end().is_none() {
            self.child.kill().ok();
            self.child.wait().ok();
            self.read_rest();
        }
        let errors = self.errors.read.lock();
        let panicked = errors.iter().any(|line| line.contains("panicked"));
        if std::thread::panicking() || panicked {
            println!("--- output of process {}", self.child.id());
            self.output
                .read
                .lock()
                .iter()
                .for_each(|line| println!("{line}"));
            println!("--- log of process {}", self.child.id());
            errors.iter().for_each(|line| println!("{line}"));
            println!("---");
        }
        assert!(
            !panicked || std::thread::panicking(),
            "a panic in process {}",
            self.child.id()
        );
    }
}

/// Sends a signal to a process of ours.
pub(crate) fn kill(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}
