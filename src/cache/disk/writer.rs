//! The thread that changes what lies on disk: it alone writes, deletes and keeps the journal.
//!
//! At its start it looks through the folder and makes the index; meanwhile answers wait in its queue. An
//! answer is written to `new` and renamed, without waiting for the device: a file that a crash has torn is
//! found out by its checksums. Only the journal is waited for, when it is begun and when it is closed: not
//! the whole file system, which others write to as well. Invariant: files and those about to be written are within the bound.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use crate::cache::entry::Entry;

use super::index::{Item, Name};
use super::purges::{End, Purges};
use super::record::{self, Meta};
use super::{Shared, in_blocks, reader};

/// Something to do.
#[derive(Debug)]
pub(super) enum Job {
    Write {
        name: Name,
        /// By which `orders` know it.
        number: u64,
        key: Box<[u8]>,
        entry: Arc<Entry>,
    },
    /// Look for purges, for files to delete, and for the end.
    Wake,
}

/// Which folders are ours, and in use.
pub(in crate::cache) const LOCK: &str = "headgate-cache.lock";

/// A folder that is ours.
pub(super) struct Opened {
    pub(super) purges: Purges,
    /// The number of the last purge.
    pub(super) last: u64,
    pub(super) lock: File,
    pub(super) journal: File,
}

/// Makes the folder ours and begins a journal, which goes on with the last one if that was closed in order
/// and the wall clock has not gone back. Blocks; what it reads is bounded by `memory`.
pub(super) fn open(folder: &Path, wall: u64, memory: usize) -> io::Result<Opened> {
    let mut private = DirBuilder::new();
    private.recursive(true).mode(0o700);
    let lock = folder.join(LOCK);
    if !lock.exists() && fs::read_dir(folder).is_ok_and(|mut files| files.next().is_some()) {
        // Files would be deleted there.
        return Err(io::Error::other(
            "the folder is not empty, and not of a cache",
        ));
    }
    private.create(folder.join("answers"))?;
    let lock = options().open(lock)?;
    lock.try_lock()?;
    remove(&folder.join("new"))?;
    let journal = match fs::read(folder.join("journal")) {
        Ok(journal) => journal,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let kept = Purges::read(&journal, memory).filter(|(_, end)| end.at <= wall);
    let is_first = journal.is_empty();
    let (mut purges, last) = match kept {
        Some((purges, end)) => (purges, end.last),
        None => {
            if !is_first {
                tracing::warn!(
                    folder = %folder.display(),
                    "the cache's journal of purges was not closed: what lies on disk is asked about before it is used"
                );
            }
            (Purges::new(fastrand::u64(1..), memory), 0)
        }
    };
    let journal = begin(folder, &purges.shorten(0))?;
    Ok(Opened {
        purges,
        last,
        lock,
        journal,
    })
}

/// Puts a journal in the place of the last one, and waits for the device.
fn begin(folder: &Path, bytes: &[u8]) -> io::Result<File> {
    let new = folder.join("journal.new");
    remove(&new)?;
    let mut file = options().create_new(true).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, folder.join("journal"))?;
    File::open(folder)?.sync_all()?;
    Ok(file)
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn is_named_by_us(name: &OsStr) -> bool {
    let mut parts = name.as_encoded_bytes().split(|byte| *byte == b'-');
    let mut is_hash = |length: usize| {
        let part = parts.next().unwrap_or_default();
        part.len() == length && part.iter().all(u8::is_ascii_hexdigit)
    };
    is_hash(32) && is_hash(16) && parts.next().is_none()
}

/// The thread.
pub(super) struct Writer {
    shared: Arc<Shared>,
    journal: File,
    queue: Receiver<Job>,
    /// The index knows every file.
    is_scanned: bool,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, journal: File, queue: Receiver<Job>) -> Self {
        Self {
            shared,
            journal,
            queue,
            is_scanned: false,
        }
    }

    /// Works until everything was closed, or nobody can say that it is to be.
    pub(super) fn run(mut self) {
        self.attempt(Self::scan);
        while let Ok(job) = self.queue.recv() {
            self.work(job);
            if self.shared.closing.load(Ordering::Acquire) {
                break;
            }
        }
        self.drain();
        self.attempt(Self::close);
        self.shared.up.store(false, Ordering::Release);
        drop(self.shared.lock.lock().take());
    }

    /// Does what waits.
    pub(super) fn drain(&mut self) {
        while let Ok(job) = self.queue.try_recv() {
            self.work(job);
        }
    }

    fn work(&mut self, job: Job) {
        self.attempt(Self::turn);
        if let Job::Write {
            name,
            number,
            key,
            entry,
        } = job
        {
            let counts = self.shared.orders.lock().counts(name, number);
            if counts {
                self.attempt(|writer| writer.write((name, number), &key, &entry));
                self.shared.orders.lock().done(name, number);
            }
            let bytes = entry.charge;
            drop(entry);
            self.shared.queued.fetch_sub(bytes, Ordering::AcqRel);
        }
    }

    /// Does nothing more after the first error.
    fn attempt(&mut self, what: impl FnOnce(&mut Self) -> io::Result<()>) {
        if self.shared.is_up()
            && let Err(error) = what(self)
        {
            self.shared.fail(&error);
        }
    }

    /// What others have left to do: purges into the journal, files to delete.
    fn turn(&mut self) -> io::Result<()> {
        self.shared.woken.store(false, Ordering::Release);
        let (pending, is_long) = {
            let mut purges = self.shared.purges.lock();
            (purges.take_pending(), purges.is_long())
        };
        if is_long {
            let oldest = self.shared.index.oldest().filter(|_| self.is_scanned);
            let mut purges = self.shared.purges.lock();
            let journal = purges.shorten(oldest.unwrap_or(0));
            let floor = purges.floor;
            drop(purges);
            self.journal = begin(&self.shared.folder, &journal)?;
            for name in self.shared.index.before(floor) {
                self.delete(name)?;
            }
        } else if !pending.is_empty() {
            self.journal.write_all(&pending)?;
        }
        let doomed = self.shared.orders.lock().take_doomed();
        for name in doomed {
            self.delete(name)?;
        }
        Ok(())
    }

    fn write(&self, (name, number): (Name, u64), key: &[u8], entry: &Entry) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        // Its place, and its bytes.
        self.delete(name)?;
        let received = shared.base.wall_of(entry.age.received());
        let meta = Meta::of(key, entry, shared.epoch, received);
        if meta.born < shared.purges.lock().floor {
            return Ok(());
        }
        let head = meta.encode();
        let length = (head.len() as u64).saturating_add(meta.body_length);
        let mut item = Item {
            vary: meta.vary,
            size: in_blocks(length),
            born: meta.born,
            dated: meta.dated,
            used: shared.base.wall_of(shared.clock.now()),
            is_hidden: false,
        };
        if item.size > shared.limit {
            return Ok(());
        }
        self.make_room(item.size)?;
        let new = shared.folder.join("new");
        let mut file = options().truncate(true).open(&new)?;
        file.write_all(&head)?;
        for piece in entry.body.pieces() {
            file.write_all(piece)?;
        }
        drop(file);
        let path = shared.path(name);
        if let Err(error) = fs::rename(&new, &path) {
            let folder = path
                .parent()
                .filter(|_| error.kind() == ErrorKind::NotFound);
            let folder = folder.ok_or(error)?;
            DirBuilder::new().mode(0o700).create(folder)?;
            fs::rename(&new, &path)?;
        }
        let orders = shared.orders.lock();
        item.is_hidden = !orders.counts(name, number);
        shared.index.insert(name, item);
        drop(orders);
        shared.counters.writes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Deletes the longest unused until there is room for so many bytes and one more item.
    fn make_room(&self, bytes: u64) -> io::Result<()> {
        let shared = &self.shared;
        while shared.index.bytes().saturating_add(bytes) > shared.limit
            || shared.index.memory() >= shared.index_memory
        {
            let Some(name) = shared.index.evict() else {
                return Ok(());
            };
            remove(&shared.path(name))?;
            shared.counters.evictions.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn delete(&self, name: Name) -> io::Result<()> {
        self.shared.index.remove(name);
        remove(&self.shared.path(name))
    }

    /// Makes the index of what lies there already.
    pub(super) fn scan(&mut self) -> io::Result<()> {
        for folder in fs::read_dir(self.shared.folder.join("answers"))? {
            let folder = folder?;
            if !folder.file_type()?.is_dir() {
                continue;
            }
            for file in fs::read_dir(folder.path())? {
                if self.shared.closing.load(Ordering::Acquire) {
                    return Ok(());
                }
                let file = file?;
                if is_named_by_us(&file.file_name()) && file.file_type()?.is_file() {
                    self.take_in(&file.path())?;
                }
            }
            self.turn()?;
        }
        self.is_scanned = true;
        tracing::info!(
            folder = %self.shared.folder.display(),
            objects = self.shared.index.objects(), bytes = self.shared.index.bytes(),
            "the cache's disk was looked through"
        );
        Ok(())
    }

    fn take_in(&self, path: &Path) -> io::Result<()> {
        let shared = &self.shared;
        let mut file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        let found = reader::look(&mut file)?;
        // A file under another name than its own would never be found, nor replaced.
        let found = found.filter(|(meta, _)| shared.path(reader::name_of(meta)) == path);
        let Some((meta, length)) = found else {
            shared.damaged();
            return remove(path);
        };
        let born = match meta.epoch == shared.epoch {
            true => meta.born,
            false => 0,
        };
        if born < shared.purges.lock().floor {
            return remove(path);
        }
        let mut item = Item {
            size: in_blocks(length),
            born,
            dated: meta.dated,
            used: record::milliseconds(file.metadata()?.modified()?),
            is_hidden: false,
            vary: meta.vary.clone(),
        };
        let size = item.size;
        let name = reader::name_of(&meta);
        let orders = shared.orders.lock();
        item.is_hidden = orders.is_to_go(name);
        shared.index.insert(name, item);
        drop(orders);
        // Of what lies there already, the longest unused makes room.
        self.make_room(0)?;
        debug_assert!(shared.index.bytes() <= shared.limit.max(size));
        Ok(())
    }

    /// Closes the journal behind all that it is about.
    fn close(&mut self) -> io::Result<()> {
        self.turn()?;
        let end = {
            let purges = self.shared.purges.lock();
            if purges.lost {
                return Ok(());
            }
            let at = self.shared.base.wall_of(self.shared.clock.now());
            purges.end(End {
                at,
                last: purges.last,
            })
        };
        self.journal.write_all(&end)?;
        self.journal.sync_all()
    }
}
