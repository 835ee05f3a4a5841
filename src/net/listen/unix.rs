//! Unix sockets: one listening socket that all workers share, and its file.
//!
//! Such sockets cannot share a path as TCP sockets share a port, so each worker gets a duplicate of one
//! descriptor; a connection wakes several and one of them takes it. Invariant: a file is replaced only
//! when nobody listens behind it, and removed only while it is still the one that was made here.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::model::ListenAddress;

use super::{BACKLOG, ListenError};

/// The file of a listening Unix socket. Removes it when dropped.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and number, by which it is known again.
    identity: Option<(u64, u64)>,
}

impl SocketFile {
    /// Gives the file other permissions, if it is still ours.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        if self.is_ours() {
            fs::set_permissions(&self.path, fs::Permissions::from_mode(mode))?;
        }
        Ok(())
    }

    fn is_ours(&self) -> bool {
        self.identity.is_some() && identity(&self.path) == self.identity
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_ours()
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket's file");
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// Listens on `path`, whose file gets the permission bits `mode`; `count` descriptors of the one
/// socket.
///
/// # Errors
/// When somebody listens there, when there is a file that is no socket, or when the folder is missing
/// or closed to us.
pub fn unix_group(
    path: &Path,
    mode: u32,
    count: usize,
) -> Result<(Vec<UnixListener>, SocketFile), ListenError> {
    open(path, mode, count).map_err(|source| ListenError {
        address: ListenAddress::Unix(Arc::from(path)),
        source,
    })
}

fn open(path: &Path, mode: u32, count: usize) -> io::Result<(Vec<UnixListener>, SocketFile)> {
    let address = SockAddr::unix(path)?;
    make_room(path, &address)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&address)?;
    let file = SocketFile {
        path: path.to_owned(),
        identity: identity(path),
    };
    // Until it listens nobody can connect, so nobody slips in under other permissions.
    file.set_mode(mode)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let first = UnixListener::from(socket);
    let mut listeners = (1..count)
        .map(|_| first.try_clone())
        .collect::<io::Result<Vec<_>>>()?;
    listeners.push(first);
    Ok((listeners, file))
}

/// Removes a socket's file that a process left behind.
fn make_room(path: &Path, address: &SockAddr) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        let message = "there is a file that is not a socket";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A full queue must not hold us up; it says that somebody listens.
    probe.set_nonblocking(true)?;
    match probe.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        Ok(()) | Err(_) => Err(io::ErrorKind::AddrInUse.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn every_descriptor_takes_from_one_queue_and_the_file_has_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gate.sock");
        let (listeners, file) = unix_group(&path, 0o640, 3).unwrap();
        assert_eq!(listeners.len(), 3);
        let bits = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(bits(&path), 0o640);
        file.set_mode(0o600).unwrap();
        assert_eq!(bits(&path), 0o600);
        for listener in &listeners {
            let mut client = UnixStream::connect(&path).unwrap();
            let (mut accepted, _) = listener.accept().unwrap();
            client.write_all(b"x").unwrap();
            accepted.read_exact(&mut [0]).unwrap();
            let none = listener.accept().unwrap_err();
            assert_eq!(none.kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn a_live_socket_is_refused_and_a_dead_one_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gate.sock");
        let live = UnixListener::bind(&path).unwrap();
        let error = unix_group(&path, 0o660, 1).unwrap_err();
        let said = error.to_string();
        assert!(
            said.ends_with("another process listens there already"),
            "{said}"
        );
        assert!(said.contains("unix:/"), "{said}");
        UnixStream::connect(&path).unwrap();
        drop(live);
        assert!(path.exists(), "its file is left behind");
        let (listeners, _file) = unix_group(&path, 0o660, 1).unwrap();
        UnixStream::connect(&path).unwrap();
        listeners[0].accept().unwrap();
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gate.sock");
        fs::write(&path, "precious").unwrap();
        let error = unix_group(&path, 0o660, 1).unwrap_err();
        assert!(error.to_string().ends_with("not a socket"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn the_file_goes_with_its_owner_unless_someone_replaced_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gate.sock");
        let (listeners, file) = unix_group(&path, 0o660, 1).unwrap();
        drop(file);
        assert!(!path.exists());
        drop(listeners);

        let (_listeners, file) = unix_group(&path, 0o660, 1).unwrap();
        let other = folder.path().join("other.sock");
        let _theirs = UnixListener::bind(&other).unwrap();
        fs::rename(&other, &path).unwrap();
        file.set_mode(0o600).unwrap();
        drop(file);
        UnixStream::connect(&path).unwrap();
    }
}
