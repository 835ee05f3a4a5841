//! What a start would do with the files and names of a config, without starting.
//!
//! `headgate check` asks; `snapshot::compile`, the access log and the cache's disk do the same in
//! earnest. Names of endpoints are looked up (`names`), but a name that leads nowhere is a warning: where
//! a config is checked is often not where it runs. Invariant: nothing is written, made, opened for good or
//! connected to.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::Access;

use crate::cache;
use crate::clock;
use crate::config::Loaded;
use crate::config::errors::{Diagnostic, LoadError, Severity};
use crate::config::model::{AccessLogFormat, AccessLogPath};
use crate::net::tls;
use crate::net::tls_client::ClientTlsStore;
use crate::reload::{self, ReloadError};
use crate::snapshot::CompileError;

use super::names;

/// What a start would say.
#[derive(Debug, Default)]
pub struct Rehearsal {
    /// Why it would fail: each with its place in the config, if it has one.
    pub errors: Vec<String>,
    /// What it would complain about.
    pub warnings: Vec<String>,
}

/// Reads certificates, keys, authorities, OCSP responses and ticket keys as a start would, and asks whether
/// the access log and the cache's disk can be used, and where endpoints are.
#[must_use]
pub fn rehearse(loaded: &Loaded) -> Rehearsal {
    let mut found = Rehearsal::default();
    match tls::Shared::new() {
        Ok(shared) => found.listeners(loaded, &shared),
        Err(error) => found.errors.push(format!("error: {error}")),
    }
    let store = ClientTlsStore::default();
    for upstream in &loaded.config.upstreams {
        let outbound = &upstream.outbound;
        if let Some(typed) = &outbound.tls
            && let Err(source) = store.settings(&upstream.name, typed, outbound.protocol)
        {
            let upstream = Arc::clone(&upstream.name);
            let error = CompileError::UpstreamTls { upstream, source };
            found.errors.push(shown(error, loaded));
        }
    }
    found.access_log(loaded);
    found.disk(loaded);
    found.endpoints(loaded);
    found
}

impl Rehearsal {
    fn listeners(&mut self, loaded: &Loaded, shared: &Arc<tls::Shared>) {
        let now = clock::wall();
        for listener in &loaded.config.listeners {
            let Some(typed) = &listener.tls else { continue };
            let address = &listener.address;
            match tls::Server::read(typed, listener.protocols, shared, now) {
                Ok(server) => {
                    let unused = server.complaints().into_iter();
                    self.warnings.extend(unused.map(|(file, reason)| {
                        format!("warning: listener {address}: {file} would not be used: {reason}")
                    }));
                    let ended = server.certificates().into_iter();
                    self.warnings.extend(
                        ended
                            .filter(|certificate| certificate.not_after <= now)
                            .map(|certificate| {
                                let name = certificate.name;
                                format!("warning: listener {address}: {name} has expired")
                            }),
                    );
                }
                Err(source) => {
                    let address = address.clone();
                    let error = CompileError::Tls { address, source };
                    self.errors.push(shown(error, loaded));
                }
            }
        }
    }

    /// A start fails without its access log.
    fn access_log(&mut self, loaded: &Loaded) {
        let log = &loaded.config.access_log;
        let AccessLogPath::File(path) = &log.path else {
            return;
        };
        if log.format == AccessLogFormat::Off {
            return;
        }
        if let Err(error) = can_append(path) {
            let message = format!("the access log cannot be opened: {error}");
            let hint = "its folder must be there, and writable for the user that Headgate runs as";
            let error = said(loaded, Severity::Error, path, message, hint);
            self.errors.push(error.to_string());
        }
    }

    /// A start goes on without its disk.
    fn disk(&mut self, loaded: &Loaded) {
        let Some(disk) = &loaded.config.cache.disk else {
            return;
        };
        let usable = if cache::is_of_others(&disk.path) {
            Err(io::Error::other("the folder holds files of somebody else"))
        } else {
            can_hold(&disk.path)
        };
        if let Err(error) = usable {
            let message = format!("the cache would do without its disk: {error}");
            let hint = "name a folder for this Headgate alone, which it can write to or make";
            let warning = said(loaded, Severity::Warning, &disk.path, message, hint);
            self.warnings.push(warning.to_string());
        }
    }

    /// A start fails without the address of an endpoint.
    fn endpoints(&mut self, loaded: &Loaded) {
        let endpoints = loaded.config.upstreams.iter().flat_map(|it| &it.endpoints);
        let named = endpoints.filter(|endpoint| endpoint.unix_path().is_none());
        let unknown = names::unknown(named.map(|endpoint| Arc::clone(&endpoint.address)));
        for (address, reason) in unknown {
            let message = format!("the endpoint {address} cannot be resolved here: {reason}");
            let hint = "where it cannot be resolved, a start or reload with this config fails";
            let places = &loaded.places;
            let place = places.endpoint(&address);
            let warning = places.diagnostic(Severity::Warning, place, message, hint);
            self.warnings.push(warning.to_string());
        }
    }
}

fn said(
    loaded: &Loaded,
    severity: Severity,
    file: &Path,
    message: String,
    hint: &str,
) -> Diagnostic {
    let places = &loaded.places;
    places.diagnostic(severity, places.file(file), message, hint)
}

/// Whether lines could be appended to the file. One that is not there is not made either: a Headgate that
/// runs may be about to open it again.
fn can_append(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt as _;
    match fs::metadata(path) {
        // Opening a pipe could wait for its other end.
        Ok(found) if found.file_type().is_fifo() => Ok(rustix::fs::access(path, Access::WRITE_OK)?),
        Ok(_) => File::options().append(true).open(path).map(drop),
        Err(error) if error.kind() == io::ErrorKind::NotFound => can_make_in(folder_of(path)),
        Err(error) => Err(error),
    }
}

/// Whether files could be made in the folder, which would be made itself if it is not there.
fn can_hold(folder: &Path) -> io::Result<()> {
    for nearest in folder.ancestors() {
        match can_make_in(or_here(nearest)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
    }
    Ok(())
}

fn can_make_in(folder: &Path) -> io::Result<()> {
    if !fs::metadata(folder)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    Ok(rustix::fs::access(
        folder,
        Access::WRITE_OK | Access::EXEC_OK,
    )?)
}

fn folder_of(path: &Path) -> &Path {
    or_here(path.parent().unwrap_or(path))
}

/// A name alone lies in the folder that the process runs in.
fn or_here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    }
}

fn shown(error: CompileError, loaded: &Loaded) -> String {
    match reload::placed(error, loaded) {
        ReloadError::Load(LoadError::Invalid(found)) => found.to_string(),
        other => format!("error: {}", reload::explain(&other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_appended_to_is_neither_made_nor_changed() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("access.log");
        can_append(&log).unwrap();
        assert!(!log.exists());
        fs::write(&log, "a line\n").unwrap();
        can_append(&log).unwrap();
        assert_eq!(fs::read(&log).unwrap(), b"a line\n");

        let nowhere = can_append(&folder.path().join("none/access.log"));
        assert_eq!(nowhere.unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(can_append(folder.path()).is_err());
        let below = can_append(&log.join("access.log"));
        assert_eq!(below.unwrap_err().kind(), io::ErrorKind::NotADirectory);
        can_append(Path::new("a name alone")).unwrap();
    }

    #[test]
    fn a_folder_that_could_be_made_is_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b/c");
        can_hold(&deep).unwrap();
        assert!(!folder.path().join("a").exists());
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(can_hold(&file).is_err());
        assert!(can_hold(&file.join("below")).is_err());
    }
}
