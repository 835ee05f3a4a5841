//! Listening sockets: one per worker and address, sharing the port.
//!
//! `app` opens a group for each listener of the config and gives every worker one socket of it.
//! The kernel spreads new connections over the sockets (`SO_REUSEPORT`); Unix sockets (`unix`) are
//! shared otherwise. What accepted connections are to have (keep-alive probes, an end to retrying
//! and a bound of what waits to be sent) is set on the listening socket, from which they inherit it. Invariant: a port that another process (a
//! second Headgate included) already listens on is refused, although `SO_REUSEPORT` alone would let
//! both have it.

mod unix;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::config::model::ListenAddress;

pub use unix::{SocketFile, unix_group};

/// Connections that may wait to be accepted, per socket.
const BACKLOG: i32 = 1024;

/// A client that says nothing is asked whether it is still there: after this long, then at this pace,
/// so many times.
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBE_EVERY: Duration = Duration::from_secs(20);
const PROBES: u32 = 6;
/// How long the kernel keeps sending what a client does not acknowledge, or does not make room for.
const GIVE_UP: Duration = Duration::from_secs(180);
/// Bytes that the kernel takes without being able to send them. Its own bound is megabytes of which a
/// third must be free before anybody is told, so that a slow reader would look like none at all.
const UNSENT: u32 = 64 * 1024;
/// Most bytes that a client may have taken before it shows: half of `UNSENT`, when the kernel tells; a
/// segment as large as there is, by which it may hold more than that; and two of them, by which the
/// client's kernel makes room over loopback.
pub const HIDDEN: u64 = UNSENT as u64 / 2 + 3 * 64 * 1024;

/// A listening socket.
#[derive(Debug)]
pub enum Listener {
    /// On an IP address.
    Tcp(TcpListener),
    /// On a Unix socket.
    Unix(UnixListener),
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {}", explain(source))]
pub struct ListenError {
    /// The address that was asked for.
    pub address: ListenAddress,
    /// What the operating system said.
    #[source]
    pub source: io::Error,
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another process listens there already".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "permission denied (ports below 1024 need CAP_NET_BIND_SERVICE, a socket's file needs its \
             folder)"
                .to_owned()
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
    open_group(address, count, held).map_err(|source| ListenError {
        address: address.into(),
        source,
    })
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
            outlast(&socket)?;
            socket.listen(BACKLOG)?;
            socket.set_nonblocking(true)?;
            Ok(socket.into())
        })
        .collect()
}

/// Has the kernel find out about clients that are gone without a word, and tell of those that read.
fn outlast(socket: &Socket) -> io::Result<()> {
    let probes = TcpKeepalive::new()
        .with_time(PROBE_AFTER)
        .with_interval(PROBE_EVERY)
        .with_retries(PROBES);
    socket.set_tcp_keepalive(&probes)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(GIVE_UP))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_notsent_lowat(UNSENT)?;
    Ok(())
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
    #[cfg(target_os = "linux")]
    fn an_accepted_connection_is_probed_and_given_up_in_the_end() {
        let group = group(loopback(), 1, &[]).unwrap();
        let address = group[0].local_addr().unwrap();
        let _client = std::net::TcpStream::connect(address).unwrap();
        let accepted = Socket::from(group[0].accept().unwrap().0);
        assert!(accepted.keepalive().unwrap());
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), PROBE_AFTER);
        assert_eq!(accepted.tcp_keepalive_interval().unwrap(), PROBE_EVERY);
        assert_eq!(accepted.tcp_keepalive_retries().unwrap(), PROBES);
        assert_eq!(accepted.tcp_user_timeout().unwrap(), Some(GIVE_UP));
        assert_eq!(accepted.tcp_notsent_lowat().unwrap(), UNSENT);
        assert_eq!(accepted.linger().unwrap(), None);
    }

    #[test]
    fn ipv4_and_ipv6_share_a_port_on_sockets_of_their_own() {
        let v6 = group("[::]:0".parse().unwrap(), 2, &[]).unwrap();
        let held = v6[0].local_addr().unwrap();
        assert!(held.is_ipv6() && held.port() != 0);
        let everywhere = SocketAddr::from(([0, 0, 0, 0], held.port()));
        let v4 = group(everywhere, 2, &[held]).unwrap();
        assert_eq!(v4[0].local_addr().unwrap(), everywhere);
        std::net::TcpStream::connect(("::1", held.port())).unwrap();
        std::net::TcpStream::connect(("127.0.0.1", held.port())).unwrap();
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
