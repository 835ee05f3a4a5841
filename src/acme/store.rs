//! The state folder.
//!
//! ```text
//! STATE/HOST-HASH/account.json          one folder for each directory URL, so that staging and
//! STATE/HOST-HASH/NAME-HASH.pem         production never mix; key and chain in one file
//! ```
//!
//! Invariant: a file is there whole or not at all (written aside, synced, renamed), and only its
//! owner may read it. What cannot be read as what it should be is moved aside to `*.bad`.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;

use super::AcmeError;

/// Far more than any chain has.
const MOST: u64 = 1 << 20;
/// Of a domain in a file name, which systems bound at 255 bytes.
const MOST_NAME: usize = 100;

/// Where what one CA gave is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(state: &Path, directory: &str) -> Self {
        let uri = directory.parse::<http::Uri>().ok();
        let host = uri.as_ref().and_then(http::Uri::host).unwrap_or("ca");
        Self(state.join(file_name(host, directory.as_bytes())))
    }

    pub(super) fn account(&self) -> PathBuf {
        self.0.join("account.json")
    }

    pub(super) fn certificate(&self, names: &[Arc<str>]) -> PathBuf {
        let first = names.first().map_or("", |name| name);
        let all = names.join("\n");
        self.0
            .join(format!("{}.pem", file_name(first, all.as_bytes())))
    }

    /// Makes sure that something can be kept here, before the CA is troubled.
    pub(super) fn prepare(&self) -> Result<(), AcmeError> {
        let failed = |source| AcmeError::State {
            path: self.0.clone(),
            source,
        };
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0);
        made.map_err(failed)?;
        let probe = self.0.join(".probe");
        write_new(&probe, b"").map_err(failed)?;
        std::fs::remove_file(probe).map_err(failed)
    }
}

fn file_name(shown: &str, hashed: &[u8]) -> String {
    let fits = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    let shown: String = shown.chars().filter(fits).take(MOST_NAME).collect();
    let digest = digest::digest(&digest::SHA256, hashed);
    let hash = digest.as_ref().iter().take(8);
    let hash: String = hash.map(|byte| format!("{byte:02x}")).collect();
    format!("{shown}-{hash}")
}

/// What a file holds, if there is one.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, AcmeError> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(MOST).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if io::Error::kind(&error) == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(AcmeError::State {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Replaces a file.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), AcmeError> {
    let replace = || {
        let aside = path.with_extension("new");
        write_new(&aside, bytes)?;
        std::fs::rename(&aside, path)?;
        // The rename itself must outlive a crash.
        path.parent()
            .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    replace().map_err(|source| AcmeError::State {
        path: path.to_owned(),
        source,
    })
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // What a crash left behind may have other rights.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Moves a file out of the way that is not what it should be.
pub(super) fn set_aside(path: &Path) {
    let bad = path.with_extension("bad");
    if let Err(error) = std::fs::rename(path, &bad) {
        tracing::warn!(path = %path.display(), %error, "a broken file cannot be moved aside");
    }
}

/// A private key in PEM (RFC 7468 section 10).
pub(super) fn key_pem(pkcs8: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(pkcs8);
    let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
    for (at, character) in text.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            pem.push('\n');
        }
        pem.push(character);
    }
    pem.push_str("\n-----END PRIVATE KEY-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn directories_and_sets_of_names_have_places_of_their_own() {
        let state = Path::new("/s");
        let production = Folder::new(state, "https://ca.example/directory");
        let staging = Folder::new(state, "https://ca.example/staging");
        assert_ne!(production, staging);
        assert!(production.account().starts_with("/s"));
        let one = production.certificate(&["a.example".into()]);
        let two = production.certificate(&["a.example".into(), "b.example".into()]);
        assert_ne!(one, two);
        let name = one.file_name().unwrap().to_str().unwrap();
        assert!(
            name.starts_with("a.example-") && name.ends_with(".pem"),
            "{name}"
        );
        let long = production.certificate(&["x".repeat(250).into()]);
        assert!(long.file_name().unwrap().len() < 200);
        let evil = Folder::new(state, "https://ca.example/../../etc");
        assert_eq!(evil.0.parent(), Some(state));
    }

    #[test]
    fn what_is_written_is_private_whole_and_replaces_what_was_there() {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::new(&home.path().join("new/state"), "https://ca.example/d");
        folder.prepare().unwrap();
        let path = folder.account();
        assert_eq!(read(&path).unwrap(), None);
        std::fs::write(path.with_extension("new"), "left by a crash").unwrap();
        for text in ["one", "two"] {
            write(&path, text.as_bytes()).unwrap();
            assert_eq!(read(&path).unwrap().unwrap(), text.as_bytes());
        }
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(&folder.0), 0o700);
        assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1);
        set_aside(&path);
        assert_eq!(read(&path).unwrap(), None);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_found_out_before() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(
            Folder::new(&file, "https://ca.example/d")
                .prepare()
                .is_err()
        );
    }
}
