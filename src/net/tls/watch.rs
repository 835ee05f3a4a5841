//! What the files of a listener hold, and whether that may have changed.
//!
//! `server` reads all of them at once and asks `Stamps` before it does so again. Looking follows
//! symbolic links, so a link that is turned to another folder (as Kubernetes does) shows like a file
//! that is replaced. Invariant: a change is missed only if a file keeps its inode, length and times
//! while it is more than `SETTLED` old.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;

/// No certificate, list or key comes near.
const MAX_BYTES: u64 = 8 * 1024 * 1024;
/// A file that was written this long ago is not being written: times have the grain of a tick.
const SETTLED: Duration = Duration::from_secs(2);

/// The content of files, read at one time.
#[derive(Debug, Default)]
pub(super) struct Files(BTreeMap<PathBuf, Result<Vec<u8>, String>>);

impl Files {
    pub(super) fn read<'a>(paths: impl Iterator<Item = &'a Path>) -> Self {
        let paths: BTreeSet<&Path> = paths.collect();
        let read = |path: &Path| {
            let content = read(path).map_err(|error| error.to_string());
            (path.to_owned(), content)
        };
        Self(paths.into_iter().map(read).collect())
    }

    /// What a file holds.
    ///
    /// # Errors
    /// With the reason why that is not known.
    pub(super) fn get(&self, path: &Path) -> Result<&[u8], String> {
        match self.0.get(path) {
            Some(Ok(bytes)) => Ok(bytes),
            Some(Err(reason)) => Err(reason.clone()),
            None => Err("it was not read".to_owned()),
        }
    }

    /// Tells two readings apart.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut hash = digest::Context::new(&digest::SHA256);
        for content in self.0.values() {
            let (tag, bytes) = match content {
                Ok(bytes) => (0, bytes.as_slice()),
                Err(reason) => (1, reason.as_bytes()),
            };
            hash.update(&[tag]);
            hash.update(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(bytes);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(hash.finish().as_ref());
        digest
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    // A pipe would block.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    let count = File::open(path)?
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if count as u64 > MAX_BYTES {
        return Err(io::Error::other("it is too large"));
    }
    Ok(bytes)
}

/// How files look from the outside.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Stamps(BTreeMap<PathBuf, Option<Stamp>>);

/// Device, inode, length, and the times of the content and of the inode.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

impl Stamps {
    pub(super) fn take<'a>(paths: impl Iterator<Item = &'a Path>) -> Self {
        let look = |path: &Path| {
            let stamp = |it: Metadata| {
                let times = (it.mtime(), it.mtime_nsec());
                let of_inode = (it.ctime(), it.ctime_nsec());
                (it.dev(), it.ino(), it.len(), times, of_inode)
            };
            (path.to_owned(), std::fs::metadata(path).ok().map(stamp))
        };
        Self(paths.map(look).collect())
    }

    /// Whether every file was there and had been left alone for a while at `now`: only then is an
    /// equal stamp a proof of equal content.
    pub(super) fn are_settled(&self, now: SystemTime) -> bool {
        let Some(limit) = now.checked_sub(SETTLED) else {
            return false;
        };
        let limit = super::unix(limit).as_secs();
        self.0.values().all(|stamp| {
            stamp
                .is_some_and(|(.., (changed, _))| u64::try_from(changed).is_ok_and(|at| at < limit))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamps(path: &Path) -> Stamps {
        Stamps::take([path].into_iter())
    }

    fn digest(path: &Path) -> [u8; 32] {
        Files::read([path].into_iter()).digest()
    }

    #[test]
    fn a_rename_and_a_turned_link_show_in_the_stamp() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["one", "two"] {
            std::fs::create_dir(at(name)).unwrap();
            std::fs::write(at(name).join("tls.crt"), "same length").unwrap();
        }
        std::os::unix::fs::symlink("one", at("..data")).unwrap();
        std::os::unix::fs::symlink("..data/tls.crt", at("tls.crt")).unwrap();
        let path = at("tls.crt");

        let before = stamps(&path);
        assert_eq!(before, stamps(&path));
        std::os::unix::fs::symlink("two", at("..data_tmp")).unwrap();
        std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
        let turned = stamps(&path);
        assert_ne!(before, turned);
        std::fs::write(at("new"), "same length").unwrap();
        std::fs::rename(at("new"), at("two/tls.crt")).unwrap();
        assert_ne!(turned, stamps(&path));
    }

    #[test]
    fn a_file_is_settled_when_it_is_old_enough_and_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "a").unwrap();
        let written = std::fs::metadata(&path).unwrap().modified().unwrap();
        assert!(!stamps(&path).are_settled(written));
        assert!(stamps(&path).are_settled(written + SETTLED * 2));
        std::fs::remove_file(&path).unwrap();
        assert!(!stamps(&path).are_settled(written + SETTLED * 2));
    }

    #[test]
    fn the_digest_tells_contents_and_failures_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let missing = digest(&path);
        std::fs::write(&path, "").unwrap();
        let empty = digest(&path);
        std::fs::write(&path, "x").unwrap();
        let full = digest(&path);
        assert!(missing != empty && empty != full && missing != full);
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        let error = Files::read([&*path].into_iter());
        assert!(error.get(&path).unwrap_err().contains("regular file"));
    }
}
