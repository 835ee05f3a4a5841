//! Listening sockets: one per worker and address, sharing the port.
//!
//! `app` opens a `Group` for each listener of the config and gives every worker one socket of it.
//! The kernel spreads new connections over the sockets (`SO_REUSEPORT`). Invariant: a port that
//! another process (a second Headgate included) already listens on is refused, although
//! `SO_REUSEPORT` alone would let both have it.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait to be accepted, per socket.
const BACKLOG: i32 = 1024;

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {}", explain(source))]
pub struct ListenError {
    /// The address that was asked for.
    pub address: SocketAddr,
    /// What the operating system said.
    #[source]
    pub source: io::Error,
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another process listens there already".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "permission denied (ports below 1024 need CAP_NET_BIND_SERVICE)".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        _ => error.to_string(),
    }
}

/// Opens `count` sockets on one address. Port 0 picks a free port that all of them share. `held`
/// are addresses on which this process listens itself: one of them on the same port says nothing
/// about others, and does not stand in the way.
///
/// # Errors
/// When the address is taken, not this machine's, or not permitted.
pub fn group(
    address: SocketAddr,
    count: usize,
    held: &[SocketAddr],
) -> Result<Vec<TcpListener>, ListenError> {
    open_group(address, count, held).map_err(|source| ListenError { address, source })
}

fn open_group(
    address: SocketAddr,
    count: usize,
    held: &[SocketAddr],
) -> io::Result<Vec<TcpListener>> {
    let is_ours = address.port() != 0 && held.iter().any(|held| held.port() == address.port());
    let address = if is_ours {
        address
    } else {
        // Exclusive first, only to learn whether the port is somebody else's.
        let exclusive = bind(address, false)?;
        exclusive.local_addr()?.as_socket().unwrap_or(address)
    };
    (0..count)
        .map(|_| {
            let socket = bind(address, true)?;
            socket.listen(BACKLOG)?;
            socket.set_nonblocking(true)?;
            Ok(socket.into())
        })
        .collect()
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(shared)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[test]
    fn a_group_shares_one_port() {
        let group = group(loopback(), 3, &[]).unwrap();
        let ports: Vec<u16> = group
            .iter()
            .map(|l| l.local_addr().unwrap().port())
            .collect();
        assert_eq!(ports.len(), 3);
        assert!(ports.iter().all(|port| *port == ports[0] && *port != 0));
    }

    #[test]
    fn a_port_that_another_group_holds_is_refused() {
        let first = group(loopback(), 2, &[]).unwrap();
        let address = first[0].local_addr().unwrap();
        let error = group(address, 1, &[]).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
        assert!(
            error
                .to_string()
                .contains("another process listens there already")
        );
    }

    #[test]
    fn our_own_listener_on_every_address_of_the_port_is_not_in_the_way() {
        let first = group(loopback(), 1, &[]).unwrap();
        let held = first[0].local_addr().unwrap();
        let everywhere = SocketAddr::from(([0, 0, 0, 0], held.port()));
        let second = group(everywhere, 1, &[held]).unwrap();
        assert_eq!(second[0].local_addr().unwrap(), everywhere);
        assert!(group(everywhere, 1, &[]).is_err());
    }
}
