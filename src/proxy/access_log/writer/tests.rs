//! The writer before files and sinks that are slow, broken or gone.

use std::collections::VecDeque;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::UNIX_EPOCH;

use http::{Method, StatusCode, Version};
use parking_lot::Mutex;
use uuid::Uuid;

use super::super::{EndedBy, RequestLine, Timings};
use super::*;

/// No test waits that long unless it fails.
const PATIENCE: Duration = Duration::from_secs(60);

fn write(buffer: &mut Buffer, target: &str) {
    buffer.write(&Record {
        at: UNIX_EPOCH,
        request_id: Uuid::nil(),
        client: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)).into(),
        line: Some(RequestLine {
            method: &Method::GET,
            target: target.as_bytes(),
            version: Version::HTTP_11,
        }),
        host: b"h",
        tls: None,
        cipher: None,
        route: None,
        upstream: None,
        endpoint: None,
        status: StatusCode::OK,
        bytes_in: 0,
        bytes_out: 0,
        timings: Timings::default(),
        retries: 0,
        cache: None,
        ended_by: EndedBy::Upstream,
        reason: None,
        user_agent: None,
        referer: None,
        generation: 1,
    });
}

/// The targets of the lines in a log.
fn targets(log: &[u8]) -> Vec<String> {
    let log = std::str::from_utf8(log).unwrap();
    assert!(log.is_empty() || log.ends_with('\n'), "{log}");
    log.lines()
        .map(|line| line.split(' ').nth(6).unwrap().to_owned())
        .collect()
}

fn file_log(path: PathBuf, metrics: &Arc<Metrics>) -> Writer {
    let config = AccessLog {
        format: AccessLogFormat::Combined,
        path: AccessLogPath::File(path),
    };
    Writer::start(&config, Arc::clone(metrics))
        .unwrap()
        .unwrap()
}

/// Writes into memory, after what a test tells it to do first.
#[derive(Clone, Default)]
struct Memory {
    written: Arc<Mutex<Vec<u8>>>,
    /// What the next writes do; after them, all is taken.
    next: Arc<Mutex<VecDeque<io::Result<usize>>>>,
}

impl Sink for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.next.lock().pop_front().unwrap_or(Ok(bytes.len()))?;
        self.written.lock().extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Says when a write begins, and writes once it is let.
struct Gate {
    entered: SyncSender<()>,
    let_go: Receiver<()>,
    memory: Memory,
}

impl Sink for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.entered.send(()).ok();
        self.let_go.recv().ok();
        self.memory.write(bytes)
    }

    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gated(metrics: &Arc<Metrics>) -> (Writer, Memory, Receiver<()>, SyncSender<()>) {
    let (entered, entering) = mpsc::sync_channel(64);
    let (release, let_go) = mpsc::sync_channel(64);
    let memory = Memory::default();
    let sink = Box::new(Gate {
        entered,
        let_go,
        memory: memory.clone(),
    });
    let writer = Writer::start_with(Format::Combined, sink, 1, Arc::clone(metrics)).unwrap();
    (writer, memory, entering, release)
}

#[test]
fn a_named_pipe_is_opened_before_anybody_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    let (started, starting) = mpsc::channel();
    let log = path.clone();
    std::thread::spawn(move || started.send(file_log(log, &Metrics::new(1))));

    let writer = starting.recv_timeout(PATIENCE).unwrap();
    let mut reader = File::open(&path).unwrap();
    write(&mut writer.buffer(), "/a");
    assert!(writer.finish(PATIENCE));
    let mut log = Vec::new();
    reader.read_to_end(&mut log).unwrap();

    assert_eq!(targets(&log), ["/a"]);
}

#[test]
fn a_file_that_cannot_be_opened_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nowhere/access.log");
    let config = AccessLog {
        format: AccessLogFormat::Combined,
        path: AccessLogPath::File(path.clone()),
    };

    let error = Writer::start(&config, Metrics::new(1)).unwrap_err();

    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    let path = path.display().to_string();
    assert!(error.to_string().starts_with(&path), "{error}");
}

#[test]
fn an_access_log_that_is_off_starts_nothing() {
    let config = AccessLog {
        format: AccessLogFormat::Off,
        path: AccessLogPath::Stdout,
    };
    assert!(Writer::start(&config, Metrics::new(1)).unwrap().is_none());
}

#[test]
fn every_line_of_every_worker_is_there_after_shutdown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let metrics = Metrics::new(4);
    let writer = file_log(path.clone(), &metrics);
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let mut buffer = writer.buffer();
            // More than one buffer's worth, less than the queue holds.
            scope.spawn(move || {
                for line in 0..2_000 {
                    write(&mut buffer, &format!("/{worker}/{line}"));
                }
            });
        }
    });
    assert!(writer.finish(PATIENCE));

    let lines = targets(&std::fs::read(path).unwrap());
    for worker in 0..4 {
        let own: Vec<_> = lines
            .iter()
            .filter(|line| line.starts_with(&format!("/{worker}/")))
            .collect();
        assert_eq!(own.len(), 2_000);
        assert!(
            own.iter()
                .enumerate()
                .all(|(n, line)| **line == format!("/{worker}/{n}"))
        );
    }
    assert_eq!(metrics.control().access_log_dropped_total(), 0);
}

#[test]
fn an_existing_file_is_appended_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    for target in ["/first", "/second"] {
        let writer = file_log(path.clone(), &Metrics::new(1));
        let mut buffer = writer.buffer();
        write(&mut buffer, target);
        drop(buffer);
        assert!(writer.finish(PATIENCE));
    }
    assert_eq!(
        targets(&std::fs::read(path).unwrap()),
        ["/first", "/second"]
    );
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = AccessLogPath::File(folder.path().join("missing/access.log"));
    let config = AccessLog {
        format: AccessLogFormat::Json,
        path,
    };
    let error = Writer::start(&config, Metrics::new(1)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[test]
fn after_a_rename_the_file_is_opened_by_its_name_again() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (
        folder.path().join("access.log"),
        folder.path().join("access.log.1"),
    );
    let writer = file_log(path.clone(), &Metrics::new(1));
    let mut buffer = writer.buffer();

    std::fs::rename(&path, &moved).unwrap();
    write(&mut buffer, "/before");
    buffer.flush();
    writer.reopen();
    write(&mut buffer, "/after");
    drop(buffer);
    assert!(writer.finish(PATIENCE));

    assert_eq!(targets(&std::fs::read(moved).unwrap()), ["/before"]);
    assert_eq!(targets(&std::fs::read(path).unwrap()), ["/after"]);
}

#[test]
fn a_blocked_sink_costs_lines_but_never_a_workers_time() {
    let metrics = Metrics::new(1);
    let dropped = || metrics.control().access_log_dropped_total();
    let (writer, memory, entering, release) = gated(&metrics);
    let mut buffer = writer.buffer();

    // One buffer is stuck in the sink, one fills the queue, a small one is kept for later.
    write(&mut buffer, "/stuck");
    buffer.flush();
    entering.recv_timeout(PATIENCE).unwrap();
    write(&mut buffer, "/queued");
    buffer.flush();
    write(&mut buffer, "/kept");
    buffer.flush();
    assert_eq!((dropped(), count_lines(&buffer.lines)), (0, 1));

    // All of these calls return though nothing can be handed over.
    let mut lines = 1;
    while dropped() == 0 {
        write(&mut buffer, "/dropped");
        lines += 1;
        assert!(buffer.lines.len() < HAND_OVER, "the buffer is bounded");
    }
    assert_eq!((dropped(), buffer.lines.len()), (lines, 0));

    // When the sink takes bytes again, so does the log.
    release.send(()).unwrap();
    entering.recv_timeout(PATIENCE).unwrap();
    write(&mut buffer, "/later");
    drop(buffer);
    drop(release);
    assert!(writer.finish(PATIENCE));
    assert_eq!(
        targets(&memory.written.lock()),
        ["/stuck", "/queued", "/later"]
    );
    assert_eq!(dropped(), lines);
}

#[test]
fn shutdown_does_not_wait_for_a_sink_that_is_blocked_for_good() {
    let metrics = Metrics::new(1);
    let (writer, _, entering, _release) = gated(&metrics);
    let mut buffer = writer.buffer();
    write(&mut buffer, "/stuck");
    buffer.flush();
    entering.recv_timeout(PATIENCE).unwrap();
    drop(buffer);
    assert!(!writer.finish(Duration::ZERO));
}

#[test]
fn lines_that_cannot_be_written_are_counted_and_the_next_one_is_whole() {
    let metrics = Metrics::new(1);
    let memory = Memory::default();
    let full = || Err(io::ErrorKind::StorageFull.into());
    // The first buffer is cut within its first line; the second cannot even end that line.
    memory.next.lock().extend([Ok(9), full(), full()]);
    let sink = Box::new(memory.clone());
    let writer = Writer::start_with(Format::Combined, sink, QUEUE, Arc::clone(&metrics)).unwrap();
    let mut buffer = writer.buffer();
    for buffers in [&["/cut", "/lost"][..], &["/lost"], &["/whole"]] {
        buffers.iter().for_each(|target| write(&mut buffer, target));
        buffer.flush();
    }
    drop(buffer);
    assert!(writer.finish(PATIENCE));

    let written = memory.written.lock();
    let (torn, whole) = written.split_at(10);
    assert_eq!(torn, b"127.0.0.1\n");
    assert_eq!(targets(whole), ["/whole"]);
    assert_eq!(metrics.control().access_log_dropped_total(), 3);
}

#[test]
fn interrupted_and_partial_writes_go_on() {
    let metrics = Metrics::new(1);
    let memory = Memory::default();
    let interrupted = Err(io::ErrorKind::Interrupted.into());
    let not_now = Err(io::ErrorKind::WouldBlock.into());
    memory
        .next
        .lock()
        .extend([Ok(3), interrupted, not_now, Ok(1)]);
    let sink = Box::new(memory.clone());
    let writer = Writer::start_with(Format::Combined, sink, QUEUE, Arc::clone(&metrics)).unwrap();
    let mut buffer = writer.buffer();
    write(&mut buffer, "/one");
    drop(buffer);
    assert!(writer.finish(PATIENCE));
    assert_eq!(targets(&memory.written.lock()), ["/one"]);
    assert_eq!(metrics.control().access_log_dropped_total(), 0);
}

#[test]
fn emptied_buffers_come_back() {
    let metrics = Metrics::new(1);
    let (writer, _, entering, release) = gated(&metrics);
    let mut buffer = writer.buffer();
    write(&mut buffer, "/one");
    buffer.flush();
    entering.recv_timeout(PATIENCE).unwrap();
    release.send(()).unwrap();
    let back = buffer.spare.recv_timeout(PATIENCE).unwrap();
    assert!(back.is_empty() && back.capacity() > 0);
    drop((buffer, release));
    assert!(writer.finish(PATIENCE));
}
