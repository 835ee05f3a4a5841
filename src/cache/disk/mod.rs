//! Answers on disk, behind those in memory: what is stored goes there too, and outlives eviction and restarts.
//!
//! ```text
//! permit, fill -------- keep ----> writer (a thread)      answers/ab/..., one file an answer
//! permit ------------- recall ---> readers (two threads)
//! selector, mod -------- purged -> purges -- writer ----> journal
//! ```
//!
//! `index` knows what lies there, `record` is the form of a file, `purges` the journal. Nothing here runs on
//! a worker but hashing, short locks and queueing without waiting: a look-up that memory answers never
//! comes here, a fetch asks here before the origin. Ages are measured by the wall clock as it was when the
//! process began, plus the time since, so that only between two processes a clock may lie; one that went
//! back makes everything doubtful.
//! Invariants: what cannot be read exactly as it was written is not there; what purges may have missed is
//! doubtful, and asked about before it is used; after the first error of the disk it is left alone.

#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod index;
mod orders;
mod purges;
mod reader;
mod record;
mod writer;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use http::HeaderMap;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::config::model::CacheDisk;

use super::Cache;
use super::budget::Reservation;
use super::entry::Entry;
use super::key::Key;
use super::purge::Strength;
use super::vary::Vary;

use index::{Index, Known, Name};
use orders::Orders;
use purges::Purges;
use reader::{Found, Read};
use writer::{Job, Writer};

pub(super) use purges::Purged;
pub(super) use writer::LOCK;

/// Answers that may be used unasked for less than this are not worth a file.
const WORTH: Duration = Duration::from_secs(10);
/// How long a fetch waits for the disk, each time, before it asks the origin.
const PATIENCE: Duration = Duration::from_secs(1);
/// Answers and purges that wait to be written.
const JOBS: usize = 1024;
/// Answers that wait to be read, by reader.
const READS: usize = 256;
const READERS: u128 = 2;

/// The tier on disk.
#[derive(Debug)]
pub(super) struct Disk {
    shared: Arc<Shared>,
    /// None if it could not be opened.
    threads: Option<Threads>,
    /// For the index and the purges.
    _memory: Option<Reservation>,
}

#[derive(Debug)]
struct Threads {
    jobs: SyncSender<Job>,
    readers: Box<[SyncSender<Read>]>,
    /// Hangs up when the writer has ended.
    ended: Mutex<Receiver<()>>,
}

/// What the threads and the workers share.
#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    /// Most bytes of files.
    limit: u64,
    index: Index,
    /// Most bytes of the index.
    index_memory: usize,
    epoch: u64,
    purges: Mutex<Purges>,
    /// Taken before a lock of the index.
    orders: Mutex<Orders>,
    /// Bytes of memory that wait to be written, and their bound.
    queued: AtomicUsize,
    most_queued: usize,
    clock: Clock,
    base: Base,
    up: AtomicBool,
    closing: AtomicBool,
    /// The writer was told to look around and has not begun to.
    woken: AtomicBool,
    /// Held while the folder is in use.
    lock: Mutex<Option<File>>,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    hits: AtomicU64,
    writes: AtomicU64,
    dropped: AtomicU64,
    evictions: AtomicU64,
    damaged: AtomicU64,
}

/// Figures for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskStats {
    /// Whether it is in use.
    pub up: bool,
    /// Bytes of the files, in blocks of 4 KiB.
    pub bytes: u64,
    /// Bound of `bytes`.
    pub limit: u64,
    /// Files.
    pub objects: u64,
    /// Requests that were answered from a file.
    pub hits: u64,
    /// Files written.
    pub writes: u64,
    /// Answers that were not written because too many waited.
    pub dropped: u64,
    /// Files that had to make room.
    pub evictions: u64,
    /// Files that were not as they were written.
    pub damaged: u64,
}

/// An instant, and what the wall clock showed then in milliseconds since the epoch.
#[derive(Debug, Clone, Copy)]
struct Base {
    instant: Instant,
    wall: u64,
}

impl Base {
    fn wall_of(self, at: Instant) -> u64 {
        let between = |one: Instant, other: Instant| {
            let between = other.saturating_duration_since(one);
            u64::try_from(between.as_millis()).unwrap_or(u64::MAX)
        };
        let later = self.wall.saturating_add(between(self.instant, at));
        later.saturating_sub(between(at, self.instant))
    }

    /// None for what the clock cannot hold.
    fn instant_of(self, wall: u64) -> Option<Instant> {
        match wall.checked_sub(self.wall) {
            Some(later) => self.instant.checked_add(Duration::from_millis(later)),
            None => {
                let earlier = Duration::from_millis(self.wall.saturating_sub(wall));
                self.instant.checked_sub(earlier)
            }
        }
    }
}

impl Disk {
    /// Opens the folder and begins to look through it, on threads of its own. Returns the number of the last
    /// purge as well. Where that fails there is a line in the log, and nothing is kept.
    ///
    /// `memory` is for the index and the purges; entries of `most_queued` bytes may wait to be written.
    pub(super) fn open(
        config: &CacheDisk,
        memory: Option<Reservation>,
        most_queued: usize,
        clock: &Clock,
    ) -> (Self, u64) {
        let bytes = memory.as_ref().map_or(0, Reservation::bytes);
        let (shared, journal, last) = Shared::open(config, bytes, most_queued, clock);
        let threads = journal.and_then(|journal| {
            let started = Threads::start(&shared, journal);
            started.inspect_err(|error| shared.fail(error)).ok()
        });
        let disk = Self {
            shared,
            threads,
            _memory: memory,
        };
        (disk, last)
    }

    /// Writes an answer behind its being stored, if it is worth it and not too much is waiting. What lies
    /// there in its place counts no more either way.
    pub(super) fn keep(&self, key: &Key<'_>, entry: &Arc<Entry>) {
        let Some(threads) = self.threads() else {
            return;
        };
        let name = name_of(key.bytes, &entry.vary);
        let bytes = entry.charge;
        let is_worth = entry.age.freshness().usable_for() >= WORTH
            && u64::try_from(bytes).is_ok_and(|bytes| bytes <= self.shared.limit / 4);
        if !is_worth {
            return self.doom(name);
        }
        let queued = self.shared.queued.fetch_add(bytes, Ordering::AcqRel);
        let number = self.shared.decide(name, |orders| orders.write(name));
        let job = Job::Write {
            name,
            number,
            key: key.bytes.into(),
            entry: Arc::clone(entry),
        };
        // One may always wait, however large.
        let is_much = queued > 0 && queued.saturating_add(bytes) > self.shared.most_queued;
        if is_much || threads.jobs.try_send(job).is_err() {
            self.shared.queued.fetch_sub(bytes, Ordering::AcqRel);
            self.shared.counters.dropped.fetch_add(1, Ordering::Relaxed);
            self.doom(name);
        }
    }

    /// Deletes the answer to requests with these nominated fields.
    pub(super) fn forget(&self, key: &[u8], vary: &Vary) {
        if self.threads().is_some() {
            self.doom(name_of(key, vary));
        }
    }

    fn doom(&self, name: Name) {
        if self.shared.decide(name, |orders| orders.doom(name)) {
            self.wake();
        } else {
            // Some file may outlive its answer: none is to be believed any more.
            self.shared.purges.lock().lost = true;
        }
    }

    /// Notes a purge that is in force already.
    pub(super) fn purged(&self, what: Purged<'_>, number: u64, strength: Strength) {
        if self.threads().is_some() {
            self.shared.purges.lock().add(what, number, strength);
            self.wake();
        }
    }

    /// Has the writer look around; one that is busy will anyway.
    fn wake(&self) {
        if let Some(threads) = &self.threads
            && !self.shared.woken.swap(true, Ordering::AcqRel)
        {
            drop(threads.jobs.try_send(Job::Wake));
        }
    }

    /// Reads the answer to a request with these fields, if there is one; into memory within the bounds of
    /// `cache`, and no older than it is. Waits for the disk, but not for long.
    pub(super) async fn recall(
        &self,
        cache: &Arc<Cache>,
        key: &[u8],
        request: &HeaderMap,
    ) -> Option<Entry> {
        let threads = self.threads()?;
        let hash = purges::hash(b"key", &[key]);
        let now = self.shared.base.wall_of(cache.clock().now());
        let known = self.shared.index.find(hash, request, now)?;
        let reader = usize::try_from(hash % READERS).unwrap_or(0);
        let reader = threads.readers.get(reader)?;
        let mut room = None;
        // Once more with memory that this thread can make room in.
        for _ in 0..2 {
            let (answer, read) = oneshot::channel();
            let job = Read {
                cache: Arc::clone(cache),
                known,
                key: key.into(),
                room: room.take(),
                answer,
            };
            reader.try_send(job).ok()?;
            match tokio::time::timeout(PATIENCE, read).await.ok()?.ok()? {
                Found::Entry(entry) => return Some(*entry),
                Found::NoRoom(bytes) => room = Some(cache.reserve(bytes)?),
                Found::Nothing => return None,
            }
        }
        None
    }

    /// A request was answered by what `recall` gave.
    pub(super) fn answered(&self) {
        self.shared.counters.hits.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn stats(&self) -> DiskStats {
        let Counters {
            hits,
            writes,
            dropped,
            evictions,
            damaged,
        } = &self.shared.counters;
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DiskStats {
            up: self.shared.is_up(),
            bytes: self.shared.index.bytes(),
            limit: self.shared.limit,
            objects: self.shared.index.objects(),
            hits: value(hits),
            writes: value(writes),
            dropped: value(dropped),
            evictions: value(evictions),
            damaged: value(damaged),
        }
    }

    /// Writes out what waits and closes the journal; whether it was done in time. Nothing may be purged
    /// after this.
    pub(super) fn close(&self, last: u64, patience: Duration) -> bool {
        let Some(threads) = &self.threads else {
            return true;
        };
        self.shared.purges.lock().last = last;
        self.shared.closing.store(true, Ordering::Release);
        self.wake();
        let waited = threads.ended.lock().recv_timeout(patience);
        // It sends nothing: it hangs up.
        waited == Err(std::sync::mpsc::RecvTimeoutError::Disconnected)
    }

    fn threads(&self) -> Option<&Threads> {
        self.threads.as_ref().filter(|_| self.shared.is_up())
    }
}

impl Threads {
    fn start(shared: &Arc<Shared>, journal: File) -> io::Result<Self> {
        let mut readers = Vec::new();
        for _ in 0..READERS {
            let (reads, queue) = sync_channel(READS);
            let shared = Arc::clone(shared);
            std::thread::Builder::new()
                .name("headgate-diskrd".to_owned())
                .spawn(move || reader::run(&shared, &queue))?;
            readers.push(reads);
        }
        let (jobs, queue) = sync_channel(JOBS);
        let (end, ended) = sync_channel(1);
        let writer = Writer::new(Arc::clone(shared), journal, queue);
        std::thread::Builder::new()
            .name("headgate-disk".to_owned())
            .spawn(move || {
                writer.run();
                drop(end);
            })?;
        Ok(Self {
            jobs,
            readers: readers.into(),
            ended: Mutex::new(ended),
        })
    }
}

impl Shared {
    /// Opens the folder; there is no journal if that fails. And the number of the last purge.
    fn open(
        config: &CacheDisk,
        bytes: usize,
        most_queued: usize,
        clock: &Clock,
    ) -> (Arc<Self>, Option<File>, u64) {
        let base = Base {
            instant: clock.now(),
            wall: record::milliseconds(clock.wall()),
        };
        let opened = writer::open(&config.path, base.wall, bytes / 4);
        let (opened, error) = match opened {
            Ok(opened) => (Some(opened), None),
            Err(error) => (None, Some(error)),
        };
        let (purges, last, lock, journal) = match opened {
            Some(opened) => (
                opened.purges,
                opened.last,
                Some(opened.lock),
                Some(opened.journal),
            ),
            None => (Purges::new(0, 0), 0, None, None),
        };
        let shared = Arc::new(Self {
            folder: config.path.clone(),
            limit: config.size.0,
            index: Index::new(),
            index_memory: bytes - bytes / 4,
            epoch: purges.epoch,
            purges: Mutex::new(purges),
            orders: Mutex::default(),
            queued: AtomicUsize::new(0),
            most_queued,
            clock: clock.clone(),
            base,
            up: AtomicBool::new(journal.is_some()),
            closing: AtomicBool::new(false),
            woken: AtomicBool::new(false),
            lock: Mutex::new(lock),
            counters: Counters::default(),
        });
        if let Some(error) = error {
            shared.report(&error);
        }
        (shared, journal, last)
    }

    fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// The first error of the disk is the last: it is left alone until the next start, which will trust
    /// nothing of what lies there.
    fn fail(&self, error: &io::Error) {
        if self.up.swap(false, Ordering::AcqRel) {
            self.report(error);
        }
        self.purges.lock().lost = true;
    }

    fn report(&self, error: &io::Error) {
        tracing::error!(
            folder = %self.folder.display(), %error,
            "the cache does without its disk until the next start"
        );
    }

    /// Decides what is to become of a name, of which nobody finds what lies there any more.
    fn decide<T>(&self, name: Name, what: impl FnOnce(&mut Orders) -> T) -> T {
        let mut orders = self.orders.lock();
        let decided = what(&mut orders);
        self.index.hide(name);
        decided
    }

    /// Has a file deleted that was found to be of no use, unless it is another by now.
    fn discard(&self, known: Known) {
        let mut orders = self.orders.lock();
        if self.index.hide_known(known) {
            orders.discard(known.name);
        }
    }

    fn damaged(&self) {
        self.counters.damaged.fetch_add(1, Ordering::Relaxed);
    }

    /// Where a file lies.
    fn path(&self, name: Name) -> PathBuf {
        let folder = format!("{:02x}", name.key >> 120);
        let file = format!("{:032x}-{:016x}", name.key, name.vary);
        [
            self.folder.as_path(),
            "answers".as_ref(),
            folder.as_ref(),
            file.as_ref(),
        ]
        .iter()
        .collect()
    }
}

/// Under which name an answer lies.
fn name_of(key: &[u8], vary: &Vary) -> Name {
    let mut nominated = Vec::new();
    for (name, _, value) in vary.parts() {
        nominated.extend_from_slice(name.as_str().as_bytes());
        // No value holds a zero byte or a line feed.
        nominated.push(if value.is_some() { b'\n' } else { 0 });
        nominated.extend_from_slice(value.unwrap_or_default());
        nominated.push(0);
    }
    #[expect(clippy::cast_possible_truncation, reason = "a part of a hash is one")]
    let vary = purges::hash(b"vary", &[&nominated]) as u64;
    Name {
        key: purges::hash(b"key", &[key]),
        vary,
    }
}

/// Bytes on disk of a file of this length.
fn in_blocks(length: u64) -> u64 {
    length.next_multiple_of(4096)
}
