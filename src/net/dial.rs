//! The one place that opens an outbound connection.
//!
//! `upstream::pool` dials endpoints with it and `health::probe` checks them with it, so both see the
//! same network. The caller brings the deadline (a worker's `deadline::Timer`, or the prober's
//! timeout), because only it knows which clock it lives on.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpStream, UnixStream};

use crate::config::model::EndpointAddress;

use super::transport::Transport;

/// Connects to `address`; over TCP with `TCP_NODELAY` set: with Nagle's algorithm left on, a request
/// in two writes would wait for the peer's delayed acknowledgement.
///
/// # Errors
/// What the operating system says (refused, unreachable, ...). A Unix socket that is not there counts
/// as refused: its server is gone.
pub async fn connect(address: &EndpointAddress) -> io::Result<Transport> {
    match address {
        EndpointAddress::Ip(address) => {
            let stream = TcpStream::connect(address).await?;
            refuse_ourselves(&stream, *address)?;
            stream.set_nodelay(true)?;
            Ok(Transport::Tcp(stream))
        }
        EndpointAddress::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(gone)?;
            Ok(Transport::Unix(stream))
        }
    }
}

fn gone(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::NotFound => io::Error::new(io::ErrorKind::ConnectionRefused, error),
        _ => error,
    }
}

/// Whether a failure to connect says something about us and nothing about the other end: out of
/// descriptors, ports or memory.
#[must_use]
pub fn is_ours(error: &io::Error) -> bool {
    // ENFILE, EMFILE and ENOBUFS have no `ErrorKind`.
    const OUT_OF: [i32; 3] = [23, 24, 105];
    matches!(
        error.kind(),
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::OutOfMemory
    ) || error
        .raw_os_error()
        .is_some_and(|code| OUT_OF.contains(&code))
}

/// A free port of this host can be chosen as our own end and so connect to itself, which would pass
/// for a server that listens there.
fn refuse_ourselves(stream: &TcpStream, address: SocketAddr) -> io::Result<()> {
    if stream.local_addr()? == address {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    #[tokio::test]
    async fn a_port_that_connected_to_itself_counts_as_refused() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = socket.local_addr().unwrap();
        let stream = socket.connect(address).await.unwrap();
        assert_eq!(
            stream.peer_addr().unwrap(),
            address,
            "nobody else listens there"
        );
        let error = refuse_ourselves(&stream, address).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn a_server_is_reached_without_delay() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = EndpointAddress::Ip(server.local_addr().unwrap());
        let Transport::Tcp(stream) = connect(&address).await.unwrap() else {
            panic!("an IP address is reached over TCP");
        };
        assert!(stream.nodelay().unwrap());
    }

    #[tokio::test]
    async fn a_unix_socket_is_reached_and_one_that_is_gone_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("origin.sock");
        let address = EndpointAddress::Unix(path.as_path().into());
        let error = connect(&address).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let _server = tokio::net::UnixListener::bind(&path).unwrap();
        assert!(matches!(
            connect(&address).await.unwrap(),
            Transport::Unix(_)
        ));
    }
}
