//! From a worker's buffer to the file, on a thread of its own.
//!
//! `Buffer` (one a worker) hands its lines over when they reach `HAND_OVER` bytes and on the
//! worker's tick; the thread `headgate-log` owns the sink and gives the emptied vectors back.
//! The invariant is that a worker never waits: a full queue leaves the lines where they are, and once
//! they have reached `HAND_OVER` bytes they are dropped and counted. Dropping every buffer and then
//! `Writer::finish` writes everything that was handed over.

use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::time::Duration;

use super::{Format, Record, Stamp};
use crate::config::model::{AccessLog, AccessLogFormat, AccessLogPath};
use crate::metrics::Metrics;

/// A buffer is handed over when it holds this many bytes.
const HAND_OVER: usize = 64 * 1024;

/// Buffers that may wait for the sink: about 4 MiB of lines.
const QUEUE: usize = 64;

/// The thread that writes the access log. Dropping it leaves the thread to end with the last buffer.
#[derive(Debug)]
pub struct Writer {
    format: Format,
    queue: SyncSender<Message>,
    reopen: Arc<AtomicBool>,
    done: Receiver<()>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
enum Message {
    /// Whole lines, and where the emptied vector goes.
    Lines {
        lines: Vec<u8>,
        home: SyncSender<Vec<u8>>,
    },
    Reopen,
}

impl Writer {
    /// Opens the sink and starts the thread; `None` if the access log is off. Fails when the file
    /// cannot be opened or the thread not be started.
    pub fn start(config: &AccessLog, metrics: Arc<Metrics>) -> io::Result<Option<Self>> {
        let AccessLog { format, path } = config;
        let format = match format {
            AccessLogFormat::Off => return Ok(None),
            AccessLogFormat::Json => Format::Json,
            AccessLogFormat::Combined => Format::Combined,
        };
        let sink = match path {
            AccessLogPath::Stdout => Output::stdout()?,
            AccessLogPath::File(path) => Output::file(path.clone())?,
        };
        Self::start_with(format, Box::new(sink), QUEUE, metrics).map(Some)
    }

    fn start_with(
        format: Format,
        sink: Box<dyn Sink>,
        queue: usize,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let (sender, receiver) = mpsc::sync_channel(queue);
        let (finished, done) = mpsc::sync_channel(1);
        let reopen = Arc::new(AtomicBool::new(false));
        let pen = Pen {
            sink,
            reopen: Arc::clone(&reopen),
            metrics: Arc::clone(&metrics),
            failing: false,
            torn: false,
        };
        std::thread::Builder::new()
            .name("headgate-log".to_owned())
            .spawn(move || {
                // Dropped when `run` returns, or unwinds: that is what `finish` waits for.
                let _finished = finished;
                pen.run(&receiver);
            })?;
        Ok(Self {
            format,
            queue: sender,
            reopen,
            done,
            metrics,
        })
    }

    /// A buffer for one worker.
    pub fn buffer(&self) -> Buffer {
        let (home, spare) = mpsc::sync_channel(2);
        Buffer {
            format: self.format,
            stamp: Stamp::default(),
            lines: Vec::new(),
            queue: self.queue.clone(),
            spare,
            home,
            metrics: Arc::clone(&self.metrics),
        }
    }

    /// Opens the file by its path again, after it was renamed. Lines that were handed over before
    /// go to the old file. Nothing to do for standard output.
    pub fn reopen(&self) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Message::Reopen) {
            // The thread is not idle, so it will look at this before its next buffer.
            self.reopen.store(true, Ordering::Relaxed);
        }
    }

    /// Waits until everything is written, at most for `patience`: a sink may be blocked for good.
    /// Buffers must be dropped before. Returns whether everything was written or counted as dropped.
    pub fn finish(self, patience: Duration) -> bool {
        let Self { queue, done, .. } = self;
        drop(queue);
        done.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected)
    }
}

/// A worker's lines that are not handed over yet.
#[derive(Debug)]
pub struct Buffer {
    format: Format,
    stamp: Stamp,
    lines: Vec<u8>,
    queue: SyncSender<Message>,
    spare: Receiver<Vec<u8>>,
    home: SyncSender<Vec<u8>>,
    metrics: Arc<Metrics>,
}

impl Buffer {
    /// Appends a line. Never waits.
    pub fn write(&mut self, record: &Record<'_>) {
        self.format.write(record, &mut self.stamp, &mut self.lines);
        if self.lines.len() >= HAND_OVER {
            self.flush();
        }
    }

    /// Hands over what is there; for the worker's tick. Never waits: while the queue is full, less
    /// than `HAND_OVER` bytes are kept for the next time, and more are dropped.
    pub fn flush(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        let lines = std::mem::take(&mut self.lines);
        match self.queue.try_send(Message::Lines {
            lines,
            home: self.home.clone(),
        }) {
            Ok(()) => self.lines = self.spare.try_recv().unwrap_or_default(),
            Err(TrySendError::Full(Message::Lines { lines, .. })) if lines.len() < HAND_OVER => {
                self.lines = lines;
            }
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => {
                if let Message::Lines { lines, .. } = message {
                    self.lines = lines;
                    self.give_up();
                }
            }
        }
    }

    fn give_up(&mut self) {
        self.metrics
            .control()
            .access_log_dropped(count_lines(&self.lines));
        self.lines.clear();
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.flush();
        if !self.lines.is_empty() {
            self.give_up();
        }
    }
}

/// What the lines are written to.
trait Sink: Send {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
    fn reopen(&mut self) -> io::Result<()>;
}

struct Output {
    file: File,
    /// None for standard output.
    path: Option<PathBuf>,
}

impl Output {
    /// A descriptor of its own: Rust's handle has a buffer and a lock that others may hold.
    fn stdout() -> io::Result<Self> {
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self { file, path: None })
    }

    fn file(path: PathBuf) -> io::Result<Self> {
        Ok(Self {
            file: open(&path)?,
            path: Some(path),
        })
    }
}

/// Not for everyone's eyes: lines hold addresses and queries. An error names the file.
fn open(path: &Path) -> io::Result<File> {
    // To open a named pipe for writing alone would wait for its reader, which may never come.
    let is_pipe = std::fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo());
    File::options()
        .read(is_pipe)
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

impl Sink for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn reopen(&mut self) -> io::Result<()> {
        if let Some(path) = &self.path {
            self.file = open(path)?;
        }
        Ok(())
    }
}

/// The state of the thread.
struct Pen {
    sink: Box<dyn Sink>,
    reopen: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
    /// The last write failed, and that was said.
    failing: bool,
    /// The sink ends within a line.
    torn: bool,
}

impl Pen {
    fn run(mut self, queue: &Receiver<Message>) {
        for message in queue {
            let asked = self.reopen.swap(false, Ordering::Relaxed);
            match message {
                Message::Reopen => self.reopen(),
                Message::Lines { mut lines, home } => {
                    if asked {
                        self.reopen();
                    }
                    self.write(&lines);
                    lines.clear();
                    // A vector that finds no room at home, or no home, is freed.
                    drop(home.try_send(lines));
                }
            }
        }
    }

    fn reopen(&mut self) {
        match self.sink.reopen() {
            Ok(()) => {
                self.torn = false;
                tracing::info!("access log reopened");
            }
            Err(error) => {
                tracing::error!(%error, "access log cannot be reopened; the old file is kept");
            }
        }
    }

    fn write(&mut self, lines: &[u8]) {
        let mut written = 0;
        match self.mend().and_then(|()| self.put(lines, &mut written)) {
            Ok(()) if self.failing => {
                self.failing = false;
                tracing::info!("access log is written again");
            }
            Ok(()) => {}
            Err(error) => {
                let (there, lost) = lines.split_at(written);
                self.torn |= there.last().is_some_and(|byte| *byte != b'\n');
                self.metrics.control().access_log_dropped(count_lines(lost));
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(%error, "access log cannot be written; lines are dropped");
                }
            }
        }
    }

    /// Ends a line that a failure has cut, so that the next one is whole.
    fn mend(&mut self) -> io::Result<()> {
        if self.torn {
            self.put(b"\n", &mut 0)?;
            self.torn = false;
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8], written: &mut usize) -> io::Result<()> {
        while let Some(rest) = bytes.get(*written..).filter(|rest| !rest.is_empty()) {
            match self.sink.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => *written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Another process may have made a shared pipe or terminal non-blocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::park_timeout(Duration::from_millis(5));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Pen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pen")
            .field("failing", &self.failing)
            .finish_non_exhaustive()
    }
}

/// Each line ends with its only line feed.
fn count_lines(lines: &[u8]) -> u64 {
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests;
