//! Diagnostics on standard error, as the config asks.
//!
//! A line is handed to a thread of its own over a bounded queue: whoever logs, a worker above all,
//! never waits for the reader of standard error, and nothing happens when that reader is gone.
//! Invariant: writing a line cannot block, fail or panic where it is logged; lines that find no
//! room are counted, and their number is written when there is room again.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::model::{Log, LogFormat, LogLevel};

/// Lines that may wait to be written.
const QUEUE: usize = 1024;
/// How long the last lines may take at the end.
const PATIENCE: Duration = Duration::from_secs(1);

/// Writes out what is left when dropped.
#[derive(Debug)]
pub(super) struct Guard {
    queue: SyncSender<Message>,
    thread: Option<JoinHandle<()>>,
}

enum Message {
    Line(Vec<u8>),
    End(SyncSender<()>),
}

/// Begins to write log lines, until the guard is dropped.
///
/// # Errors
/// When the thread cannot be started.
pub(super) fn start(log: &Log) -> io::Result<Guard> {
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // The libraries' own lines only where something is wrong.
    let own = format!("headgate={level}").parse();
    let filter = EnvFilter::default()
        .add_directive(LevelFilter::WARN.into())
        .add_directive(own.unwrap_or_else(|_invalid| level.into()));
    let (lines, guard) = Lines::start(io::stderr())?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(lines)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()));
    let started = match log.format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if let Err(error) = started {
        tracing::debug!(%error, "the log was started already");
    }
    Ok(guard)
}

/// Takes lines for the thread.
#[derive(Debug, Clone)]
struct Lines {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

impl Lines {
    fn start(sink: impl Write + Send + 'static) -> io::Result<(Self, Guard)> {
        let (queue, messages) = sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&dropped);
        let thread = std::thread::Builder::new()
            .name("headgate-stderr".to_owned())
            .spawn(move || write(sink, &messages, &counted))?;
        let lines = Self {
            queue: queue.clone(),
            dropped,
        };
        Ok((
            lines,
            Guard {
                queue,
                thread: Some(thread),
            },
        ))
    }
}

fn write(mut sink: impl Write, messages: &Receiver<Message>, dropped: &AtomicU64) {
    for message in messages {
        // A failed write is the reader's loss: there is nowhere to say so.
        match message {
            Message::Line(line) => {
                let missing = dropped.swap(0, Relaxed);
                if missing > 0 {
                    writeln!(sink, "{missing} log lines were dropped").ok();
                }
                sink.write_all(&line).ok();
            }
            Message::End(done) => {
                sink.flush().ok();
                done.send(()).ok();
                return;
            }
        }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line {
            lines: self,
            text: Vec::new(),
        }
    }
}

/// One line while it is made; handed over when dropped.
struct Line<'a> {
    lines: &'a Lines,
    text: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let text = std::mem::take(&mut self.text);
        if !text.is_empty() && self.lines.queue.try_send(Message::Line(text)).is_err() {
            self.lines.dropped.fetch_add(1, Relaxed);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let (done, ended) = sync_channel(1);
        // A queue that is full belongs to a reader that is stuck: nobody waits for it.
        if self.queue.try_send(Message::End(done)).is_ok()
            && ended.recv_timeout(PATIENCE).is_ok()
            && let Some(thread) = self.thread.take()
        {
            thread.join().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks until it is let go, then fails every write.
    struct Stuck(Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().ok();
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_is_stuck_or_gone_costs_lines_and_nothing_else() {
        let (go, wait) = sync_channel(0);
        let (lines, guard) = Lines::start(Stuck(wait)).unwrap();
        for _ in 0..QUEUE * 2 {
            lines.make_writer().write_all(b"line\n").unwrap();
        }
        assert!(lines.dropped.load(Relaxed) >= (QUEUE - 2) as u64);
        drop(go);
        drop(guard);
    }

    #[test]
    fn what_was_logged_is_written_by_the_time_the_guard_is_gone() {
        let (sender, written) = sync_channel(QUEUE);
        struct Sink(SyncSender<Vec<u8>>);
        impl Write for Sink {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.send(bytes.to_vec()).ok();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (lines, guard) = Lines::start(Sink(sender)).unwrap();
        for text in ["one\n", "two\n"] {
            lines.make_writer().write_all(text.as_bytes()).unwrap();
        }
        drop(guard);
        assert_eq!(
            written.try_iter().collect::<Vec<_>>().concat(),
            b"one\ntwo\n"
        );
    }
}
