//! From names to an open file, beneath the root and nowhere else.
//!
//! Runs on the threads of `disk`. The kernel keeps the way beneath the root (`openat2` with
//! `RESOLVE_BENEATH`), links included, so that nothing can be exchanged between a check and its use.
//! Where there is no `openat2` (before Linux 5.6, or a sandbox that forbids it), each name is opened
//! by itself and no link is followed at all. Invariant: what is returned is a regular file or a
//! folder; a pipe or a device is not waited for.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat, openat2};
use rustix::io::Errno;

use super::Refusal;

/// Whether the kernel is known to lack `openat2`.
static NO_OPENAT2: AtomicBool = AtomicBool::new(false);

/// How often a look-up is tried that a rename elsewhere made uncertain.
const ATTEMPTS: usize = 8;

/// An open root.
#[derive(Debug)]
pub(super) struct Root(OwnedFd);

/// Something beneath the root.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) file: File,
    pub(super) facts: Metadata,
}

impl Root {
    /// Opens the folder itself, whatever links lead to it.
    ///
    /// # Errors
    /// `Failed` when it is not there, `Busy` when no descriptor is free.
    pub(super) fn open(path: &Path) -> Result<Self, Refusal> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match open(path, flags, Mode::empty()) {
            Ok(root) => Ok(Self(root)),
            Err(errno) => Err(match refusal(errno) {
                // The config says that it is there.
                Refusal::NotFound => Refusal::Failed(errno.into()),
                other => other,
            }),
        }
    }

    /// Opens what is at `below`, which is empty for the root itself.
    ///
    /// # Errors
    /// `NotFound` also for what leads out of the root, is neither a file nor a folder, or may not be
    /// read.
    pub(super) fn find(&self, below: &[u8]) -> Result<Found, Refusal> {
        let file = self.descend(below).map_err(refusal)?;
        let file = File::from(file);
        let facts = file.metadata().map_err(Refusal::Failed)?;
        if facts.is_file() || facts.is_dir() {
            Ok(Found { file, facts })
        } else {
            Err(Refusal::NotFound)
        }
    }

    fn descend(&self, below: &[u8]) -> Result<OwnedFd, Errno> {
        let below = if below.is_empty() { b"." } else { below };
        if NO_OPENAT2.load(Relaxed) {
            return step_by_step(self.0.as_fd(), below);
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..ATTEMPTS {
            match openat2(&self.0, below, LEAF, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => {}
                // A sandbox may say "not permitted" of a call that it does not know; of a file the
                // kernel says so as well, and then the other way finds the same.
                Err(errno @ (Errno::NOSYS | Errno::PERM)) => {
                    if errno == Errno::NOSYS {
                        NO_OPENAT2.store(true, Relaxed);
                    }
                    return step_by_step(self.0.as_fd(), below);
                }
                result => return result,
            }
        }
        Err(Errno::AGAIN)
    }
}

/// A pipe without a writer would else be waited for, and a terminal become ours.
const LEAF: OFlags = OFlags::RDONLY
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

fn step_by_step(root: BorrowedFd<'_>, below: &[u8]) -> Result<OwnedFd, Errno> {
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut names = below.split(|byte| *byte == b'/').peekable();
    let mut at: Option<OwnedFd> = None;
    while let Some(name) = names.next() {
        if name == b".." {
            return Err(Errno::XDEV);
        }
        let from = at.as_ref().map_or(root, AsFd::as_fd);
        let flags = if names.peek().is_some() {
            folder
        } else {
            LEAF | OFlags::NOFOLLOW
        };
        at = Some(openat(from, name, flags, Mode::empty())?);
    }
    at.ok_or(Errno::NOENT)
}

fn refusal(errno: Errno) -> Refusal {
    match errno {
        Errno::NOENT
        | Errno::NOTDIR
        | Errno::LOOP
        | Errno::XDEV
        | Errno::NAMETOOLONG
        | Errno::INVAL
        // A socket, or a device without a driver.
        | Errno::NXIO
        | Errno::NODEV => Refusal::NotFound,
        Errno::ACCESS | Errno::PERM => {
            tracing::debug!(error = %errno, "a file may not be read");
            Refusal::NotFound
        }
        Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN => Refusal::Busy,
        errno => Refusal::Failed(errno.into()),
    }
}

/// `file` at `offset`, `length` bytes.
///
/// # Errors
/// `UnexpectedEof` when the file has become shorter.
pub(super) fn read(file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    use std::os::unix::fs::FileExt as _;
    let mut chunk = vec![0; length];
    file.read_exact_at(&mut chunk, offset)?;
    Ok(chunk)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    type Way = fn(BorrowedFd<'_>, &[u8]) -> Result<OwnedFd, Errno>;

    fn by_kernel(root: BorrowedFd<'_>, below: &[u8]) -> Result<OwnedFd, Errno> {
        Root(root.try_clone_to_owned().unwrap()).descend(below)
    }

    fn tree() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::write(folder.path().join("secret"), "secret").unwrap();
        std::fs::write(root.join("a/b/c"), "c").unwrap();
        symlink("../secret", root.join("out")).unwrap();
        symlink(folder.path().join("secret"), root.join("absolute")).unwrap();
        symlink("..", root.join("up")).unwrap();
        symlink("/proc/self/root", root.join("magic")).unwrap();
        symlink("a/b/c", root.join("in")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        folder
    }

    #[test]
    fn neither_way_leads_out() {
        let folder = tree();
        let root = Root::open(&folder.path().join("root")).unwrap();
        for way in [by_kernel as Way, step_by_step] {
            for below in [
                "../secret",
                "a/../../secret",
                "out",
                "absolute",
                "up/secret",
                "up",
                "magic/etc/passwd",
                "loop",
                "a/b/c/d",
                "none",
                "a/none",
            ] {
                let error = way(root.0.as_fd(), below.as_bytes()).unwrap_err();
                assert!(
                    matches!(refusal(error), Refusal::NotFound),
                    "{below}: {error}"
                );
            }
            assert!(way(root.0.as_fd(), b"a/b/c").is_ok());
            assert!(way(root.0.as_fd(), b"a/b").is_ok());
            assert!(way(root.0.as_fd(), b".").is_ok());
        }
    }

    #[test]
    fn a_link_that_stays_inside_is_followed_by_the_kernel_alone() {
        let folder = tree();
        let root = Root::open(&folder.path().join("root")).unwrap();
        assert!(step_by_step(root.0.as_fd(), b"in").is_err());
        if !NO_OPENAT2.load(Relaxed) {
            assert!(by_kernel(root.0.as_fd(), b"in").is_ok());
        }
    }

    #[test]
    fn what_is_no_file_is_not_there_and_not_waited_for() {
        let folder = tree();
        let path = folder.path().join("root");
        let made = std::process::Command::new("mkfifo")
            .arg(path.join("pipe"))
            .status();
        assert!(made.unwrap().success());
        let socket = std::os::unix::net::UnixListener::bind(path.join("socket")).unwrap();
        let root = Root::open(&path).unwrap();
        for name in ["pipe", "socket"] {
            assert!(
                matches!(root.find(name.as_bytes()), Err(Refusal::NotFound)),
                "{name}"
            );
        }
        drop(socket);
        assert!(root.find(b"a/b/c").unwrap().facts.is_file());
        assert!(root.find(b"").unwrap().facts.is_dir());
    }

    #[test]
    fn a_root_that_is_gone_is_a_failure_and_not_a_missing_file() {
        let gone = Root::open(Path::new("/nowhere/at/all"));
        assert!(matches!(gone, Err(Refusal::Failed(_))));
    }
}
