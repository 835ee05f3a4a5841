//! Who a client is, as far as it can be known.
//!
//! `server` says so in each `Peer`: the other end of the socket, or whom a trusted proxy named in a
//! PROXY protocol header. Invariant: an address that nobody vouches for is never made up.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Address of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAddress {
    /// An IP address and a port.
    Inet(SocketAddr),
    /// A Unix socket of this machine.
    Unix,
    /// A Unix socket of the proxy that names it, whose file modes are not ours.
    UnixAtProxy,
    /// The proxy in between does not know it.
    Unknown,
}

impl ClientAddress {
    /// The IP address, in IPv4 form if it is one that was mapped into IPv6.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Inet(address) => Some(address.ip().to_canonical()),
            Self::Unix | Self::UnixAtProxy | Self::Unknown => None,
        }
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Inet(address) => Some(address.port()),
            Self::Unix | Self::UnixAtProxy | Self::Unknown => None,
        }
    }

    /// The address without its port: an IP address, `unix:` or `unknown`.
    #[must_use]
    pub fn host(&self) -> impl fmt::Display {
        struct Host(ClientAddress);
        impl fmt::Display for Host {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.0.ip() {
                    Some(ip) => ip.fmt(f),
                    None => self.0.fmt(f),
                }
            }
        }
        Host(*self)
    }
}

impl From<SocketAddr> for ClientAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(address)
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix | Self::UnixAtProxy => f.write_str("unix:"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_shown_with_and_without_its_port() {
        let mapped = ClientAddress::Inet("[::ffff:192.0.2.7]:80".parse().unwrap());
        assert_eq!(mapped.host().to_string(), "192.0.2.7");
        assert_eq!(mapped.port(), Some(80));
        let v6 = ClientAddress::Inet("[2001:db8::1]:80".parse().unwrap());
        assert_eq!(v6.host().to_string(), "2001:db8::1");
        assert_eq!(v6.to_string(), "[2001:db8::1]:80");
        for (address, text) in [
            (ClientAddress::Unix, "unix:"),
            (ClientAddress::UnixAtProxy, "unix:"),
            (ClientAddress::Unknown, "unknown"),
        ] {
            assert_eq!(address.host().to_string(), text);
            assert_eq!(address.to_string(), text);
            assert_eq!((address.ip(), address.port()), (None, None));
        }
    }
}
