//! Where clients come in, which of their peers are believed, and how many may be there.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use super::Network;

/// Where a listener listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// `IP:PORT`; port 0 asks the system for a free one.
    Tcp(SocketAddr),
    /// `unix:PATH`, resolved against the folder of the config file; at most 107 bytes.
    Unix(Arc<Path>),
}

impl ListenAddress {
    /// Whether two listeners may have it: the system then gives each a port of its own.
    #[must_use]
    pub fn is_any_port(&self) -> bool {
        matches!(self, Self::Tcp(address) if address.port() == 0)
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Peers that are believed, by where they connect from. Empty: nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peers {
    /// Those with an address in one of these.
    pub networks: Vec<Network>,
    /// All who come by a Unix socket of ours.
    pub unix: bool,
}

impl Peers {
    /// Whether who connects from `ip` (none: by a Unix socket) is one of them.
    #[must_use]
    pub fn include(&self, ip: Option<IpAddr>) -> bool {
        match ip {
            Some(ip) => self.networks.iter().any(|network| network.contains(ip)),
            None => self.unix,
        }
    }
}

/// How many connections of clients may be open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// In total. Default: what the limit of open descriptors leaves room for.
    pub total: Option<NonZeroUsize>,
    /// From one IPv4 address or one IPv6 /64. Default: no limit.
    pub per_address: Option<NonZeroUsize>,
}
