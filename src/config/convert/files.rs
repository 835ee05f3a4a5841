//! Files that a config names: certificates, keys, logs.
//!
//! Relative paths start at the folder of the config file, so that a config works from wherever it is
//! run. Files that must be there are opened here, which gives a missing one its line in the config;
//! `net::tls` reads the certificates again and judges what is in them.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::Cx;
use crate::config::errors::quotable;
use crate::config::marks::At;

/// Far more than any key has.
const MAX_KEY_BYTES: u64 = 4096;

impl Cx<'_> {
    pub(super) fn path(self, typed: &str) -> PathBuf {
        self.folder.join(typed)
    }

    /// The path of a file that can be read.
    pub(super) fn readable(self, at: At<'_>, typed: &str) -> PathBuf {
        let path = self.path(typed);
        if let Err(error) = open(&path) {
            self.unreadable(at, typed, &error);
        }
        self.report.names_file(at.span(), path.clone());
        path
    }

    /// The bytes of a key file, without the newline that an editor leaves at its end.
    pub(super) fn key_file(self, at: At<'_>, typed: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = open(&self.path(typed))
            .and_then(|file| file.take(MAX_KEY_BYTES).read_to_end(&mut bytes));
        if let Err(error) = read {
            self.unreadable(at, typed, &error);
            return None;
        }
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        Some(bytes)
    }

    fn unreadable(self, at: At<'_>, typed: &str, error: &io::Error) {
        let folder = if self.folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            self.folder
        };
        self.error(
            at.span(),
            format!("cannot read the file `{}`: {error}", quotable(typed)),
            format!(
                "relative paths start at the folder of the config file, `{}`",
                folder.display()
            ),
        );
    }
}

/// Opens a regular file; a pipe would block, and a folder fails only when it is read.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    if std::fs::metadata(path)?.is_file() {
        File::open(path)
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        ))
    }
}
