//! Whom the edge believes and what it takes: trusted proxies, forwarding fields, paths, limits.

use std::net::IpAddr;

use super::Cx;
use super::fields::{Fault, Unique};
use crate::config::defaults;
use crate::config::errors::quotable;
use crate::config::marks::At;
use crate::config::model::{BodyLimit, Forwarding, Limits, Network, PathRules, Peers};
use crate::config::raw;
use crate::config::units::ByteSize;

impl Cx<'_> {
    pub(super) fn limits(self, raw: raw::Limits, at: At<'_>) -> Limits {
        let heads = self.head_limits(&raw, at);
        let raw::Limits {
            connections,
            connections_per_address,
            body,
            http2,
            header_bytes: _,
            headers: _,
            uri_bytes: _,
            requests_per_connection: _,
        } = raw;
        Limits {
            heads,
            connections: self.connection_limits(&connections, &connections_per_address, at),
            body: self
                .body_limit(at, "body", &body)
                .unwrap_or(BodyLimit(defaults::BODY_LIMIT)),
            http2: self.http2_limits(&http2.0.unwrap_or_default(), at.field("http2")),
        }
    }

    pub(super) fn body_limit(self, at: At<'_>, key: &str, typed: &raw::Text) -> Option<BodyLimit> {
        let bounds = ByteSize(0)..=ByteSize(1 << 50);
        self.size(at, key, typed, &bounds).map(BodyLimit)
    }

    pub(super) fn trusted_proxies(self, raw: raw::List<String>, at: At<'_>) -> Peers {
        let mut unique = Unique::new();
        let mut peers = Peers::default();
        for (index, item) in raw.0.unwrap_or_default().into_iter().enumerate() {
            let Some(typed) = item.0 else { continue };
            let at = at.item(index);
            if typed == "unix" {
                peers.unix = true;
            } else if let Some(network) = self.settle(at, network(&typed)) {
                peers.networks.push(network);
            } else {
                continue;
            }
            unique.check(self, at.span(), "the network", typed);
        }
        peers
    }

    pub(super) fn forwarding(self, typed: &raw::Text, at: At<'_>) -> Forwarding {
        let words = [
            ("x-forwarded", Forwarding::XForwarded),
            ("rfc7239", Forwarding::Rfc7239),
            ("both", Forwarding::Both),
        ];
        self.choice(at, "forwarded", typed, &words)
            .unwrap_or_default()
    }

    pub(super) fn path_rules(self, raw: raw::Paths, at: At<'_>) -> PathRules {
        let raw::Paths {
            encoded_slash,
            semicolon,
            merge_slashes,
        } = raw;
        let words = [("reject", false), ("keep", true)];
        let default = PathRules::default();
        PathRules {
            keep_encoded_slash: self
                .choice(at, "encoded_slash", &encoded_slash, &words)
                .unwrap_or(default.keep_encoded_slash),
            keep_semicolon: self
                .choice(at, "semicolon", &semicolon, &words)
                .unwrap_or(default.keep_semicolon),
            merge_slashes: merge_slashes.0.unwrap_or(default.merge_slashes),
        }
    }

    pub(super) fn keep_underscores(self, typed: &raw::Text, at: At<'_>) -> bool {
        let words = [("drop", false), ("keep", true)];
        self.choice(at, "underscore_headers", typed, &words)
            .unwrap_or_default()
    }
}

/// `10.0.0.0/8`, `2001:db8::/32` or an address alone; `unix` is the callers' affair.
pub(super) fn network(typed: &str) -> Result<Network, Fault> {
    const HINT: &str = "write an address, or a network such as `10.0.0.0/8` or `2001:db8::/32`";
    let shown = quotable(typed);
    let wrong = |hint: String| Fault::new(format!("`{shown}` is not a network"), hint);
    let (address, prefix) = match typed.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (typed, None),
    };
    let address: IpAddr = address.parse().map_err(|_no| wrong(HINT.to_owned()))?;
    if let (IpAddr::V6(_), IpAddr::V4(inner)) = (address, address.to_canonical()) {
        return Err(wrong(format!("write it as IPv4: `{inner}`")));
    }
    let longest: u8 = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        None => longest,
        Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text
            .parse()
            .ok()
            .filter(|prefix| *prefix <= longest)
            .ok_or_else(|| wrong(format!("the number after `/` is 0 to {longest}")))?,
        Some(_) => return Err(wrong(HINT.to_owned())),
    };
    let network = Network::new(address, prefix).ok_or_else(|| wrong(HINT.to_owned()))?;
    if network.first() != address {
        let hint = format!("its first address is `{}/{prefix}`", network.first());
        let message = format!("`{shown}` has bits beyond its prefix");
        return Err(Fault::new(message, hint));
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_the_addresses_that_share_their_prefix() {
        for (typed, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("192.0.2.6/31", "::ffff:192.0.2.7", "192.0.2.8"),
            ("0.0.0.0/0", "255.1.2.3", "::1"),
            ("::/0", "2001:db8::1", "10.0.0.1"),
            ("::1", "::1", "::2"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("fd00::/8", "fdff::1", "fe00::1"),
        ] {
            let network = network(typed).unwrap_or_else(|fault| panic!("{typed}: {fault:?}"));
            assert!(
                network.contains(inside.parse().unwrap()),
                "{inside} {typed}"
            );
            assert!(
                !network.contains(outside.parse().unwrap()),
                "{outside} {typed}"
            );
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for typed in [
            "",
            "10",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.1/8",
            "::1/129",
            "host",
            "10.0.0.0/8/8",
            "::ffff:10.0.0.0/104",
            "10.0.0.0/ 8",
            "10.0.0.0/256",
        ] {
            assert!(network(typed).is_err(), "{typed}");
        }
    }

    #[test]
    fn a_seeded_walk_agrees_with_comparing_bit_by_bit() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..5_000 {
            let (base, other) = (random.u32(..), random.u32(..));
            let prefix = random.u8(0..=32);
            let other = if random.bool() {
                other
            } else {
                base ^ other.checked_shr(u32::from(random.u8(0..32))).unwrap_or(0)
            };
            let network = Network::new(IpAddr::from(base.to_be_bytes()), prefix).unwrap();
            let bit = |number: u32, at: u8| number >> (31 - at) & 1;
            let same = (0..prefix).all(|at| bit(base, at) == bit(other, at));
            assert_eq!(network.contains(IpAddr::from(other.to_be_bytes())), same);
        }
    }
}
