//! Networks in CIDR form.
//!
//! Lists of them say whom to believe. Invariant: a network has no bits beyond its prefix, so that each
//! has one form only.

use std::fmt;
use std::net::IpAddr;

/// A range of addresses that share a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    prefix: IpAddr,
    length: u8,
}

impl Network {
    /// The network of the first `length` bits of `ip`; the others are cleared. None if `ip` has not so
    /// many.
    #[must_use]
    pub fn new(ip: IpAddr, length: u8) -> Option<Self> {
        let prefix = match ip {
            IpAddr::V4(ip) => {
                let beyond = 32_u32.checked_sub(u32::from(length))?;
                let mask = u32::MAX.checked_shl(beyond).unwrap_or(0);
                IpAddr::V4((u32::from(ip) & mask).into())
            }
            IpAddr::V6(ip) => {
                let beyond = 128_u32.checked_sub(u32::from(length))?;
                let mask = u128::MAX.checked_shl(beyond).unwrap_or(0);
                IpAddr::V6((u128::from(ip) & mask).into())
            }
        };
        Some(Self { prefix, length })
    }

    /// Its first address.
    #[must_use]
    pub fn first(self) -> IpAddr {
        self.prefix
    }

    /// Whether `ip` is in it. An IPv4 address that is mapped into IPv6 counts as IPv4.
    #[must_use]
    pub fn contains(self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.prefix.is_ipv4() && Self::new(ip, self.length) == Some(self)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.prefix, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_in_the_network_whose_prefix_it_has() {
        let network = |text: &str, length| Network::new(ip(text), length).unwrap();
        for (network, inside, outside) in [
            (network("10.0.0.0", 8), "10.255.255.255", "11.0.0.0"),
            (network("192.0.2.128", 25), "192.0.2.128", "192.0.2.127"),
            (network("192.0.2.7", 32), "::ffff:192.0.2.7", "192.0.2.8"),
            (network("0.0.0.0", 0), "255.255.255.255", "::1"),
            (network("2001:db8::", 32), "2001:db8:ffff::1", "2001:db9::"),
            (network("::", 0), "ffff::", "192.0.2.1"),
            (network("::1", 128), "::1", "::2"),
        ] {
            assert!(network.contains(ip(inside)), "{network} has {inside}");
            assert!(
                !network.contains(ip(outside)),
                "{network} has not {outside}"
            );
        }
    }

    #[test]
    fn bits_beyond_the_prefix_are_cleared_and_the_prefix_has_its_bounds() {
        assert_eq!(
            Network::new(ip("10.1.2.3"), 8).unwrap().to_string(),
            "10.0.0.0/8"
        );
        assert_eq!(
            Network::new(ip("2001:db8::1"), 32).unwrap().to_string(),
            "2001:db8::/32"
        );
        assert_eq!(Network::new(ip("10.1.2.3"), 33), None);
        assert_eq!(Network::new(ip("::"), 129), None);
    }
}
