//! Who the client is.
//!
//! `handle` asks before anything else. The peer of the connection is the client, unless it is one of
//! `trusted_proxies`: then what it says counts, and what those say whom it names, up to the first
//! address that is not trusted. Invariant: an address that no trusted proxy vouches for is never
//! taken, nothing is read from a peer that is not trusted, and what a proxy says of scheme and host
//! counts only beside its word about who connected to it.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;
use uuid::Uuid;

use crate::config::model::{Config, Forwarding, Peers};
use crate::wire::{ClientAddress, Peer};

use super::forwarded::{self, Hop, MAX_HOPS};
use super::headers::{X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO, X_REQUEST_ID};
use super::normalize;

/// Who sent a request.
#[derive(Debug, Clone)]
pub(super) struct Client {
    /// Its address; port 0 where that is not known.
    pub(super) address: ClientAddress,
    /// Whether it spoke TLS, to us or to the proxy that it connected to.
    pub(super) secure: bool,
    /// What a trusted peer has told; none for one that is not.
    pub(super) told: Option<Rc<Told>>,
}

/// What trusted proxies have told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The client, then the proxies that its request went through, then our peer; none for one on a
    /// Unix socket.
    pub(super) hops: SmallVec<[Option<IpAddr>; 4]>,
    /// The host that the client asked for; canonical.
    pub(super) host: Option<HeaderValue>,
    /// The id that the request has already.
    pub(super) id: Option<Uuid>,
}

impl Client {
    /// `http` or `https`, as the client sees it.
    pub(super) fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// The host in the key of the cache: that of the request, and the one that a proxy has told if it
    /// is another one, since endpoints see both.
    pub(super) fn key_host<'a>(&self, host: &'a str) -> Cow<'a, str> {
        let told = self.told.as_deref().and_then(|told| told.host.as_ref());
        match told.and_then(|told| told.to_str().ok()) {
            Some(told) if told != host => Cow::Owned(format!("{host} {told}")),
            _ => Cow::Borrowed(host),
        }
    }

    /// Whether the peer of the connection may make claims.
    pub(super) fn is_told(&self) -> bool {
        self.told.is_some()
    }
}

/// Finds out who sent a request.
pub(super) fn client(fields: &HeaderMap, peer: &Peer, config: &Config) -> Client {
    let direct = Client {
        address: peer.address,
        secure: peer.secure,
        told: None,
    };
    let trusted = &config.trusted_proxies;
    if !is_trusted(trusted, peer.address) {
        return direct;
    }
    let walk = match config.forwarded {
        Forwarding::XForwarded => x_forwarded(fields, peer.address, trusted),
        Forwarding::Rfc7239 => rfc7239(fields, peer.address, trusted),
        Forwarding::Both => both(fields, peer.address, trusted),
    };
    let secure = walk.secure.unwrap_or(peer.secure);
    let mut hops = walk.hops;
    hops.reverse();
    let told = Told {
        host: walk.host.and_then(|host| canonical(&host, secure)),
        id: id(fields),
        hops,
    };
    Client {
        address: walk.client,
        secure,
        told: Some(Rc::new(told)),
    }
}

fn is_trusted(trusted: &Peers, address: ClientAddress) -> bool {
    match address {
        ClientAddress::Inet(address) => trusted.include(Some(address.ip())),
        ClientAddress::Unix => trusted.include(None),
        ClientAddress::UnixAtProxy | ClientAddress::Unknown => false,
    }
}

fn canonical(host: &str, secure: bool) -> Option<HeaderValue> {
    let host = normalize::canonical_host(host, secure).ok()?;
    HeaderValue::from_str(&host).ok()
}

fn id(fields: &HeaderMap) -> Option<Uuid> {
    let text = fields.get(X_REQUEST_ID)?.to_str().ok()?;
    let plain = text.len() == uuid::fmt::Hyphenated::LENGTH;
    plain.then(|| Uuid::try_parse(text).ok()).flatten()
}

/// A walk from our peer towards the client.
#[derive(Debug)]
struct Walk {
    client: ClientAddress,
    secure: Option<bool>,
    host: Option<String>,
    /// From our peer to the client.
    hops: SmallVec<[Option<IpAddr>; 4]>,
}

impl Walk {
    fn from(peer: ClientAddress) -> Self {
        let client = match peer {
            ClientAddress::Inet(address) => {
                SocketAddr::new(address.ip().to_canonical(), address.port()).into()
            }
            other => other,
        };
        Self {
            client,
            secure: None,
            host: None,
            hops: SmallVec::from_iter([client.ip()]),
        }
    }

    /// From our peer to somebody who is not known.
    fn lost(peer: ClientAddress) -> Self {
        let mut walk = Self::from(peer);
        walk.client = ClientAddress::Unknown;
        walk.hops.push(None);
        walk
    }

    /// One hop further; whether that one is believed in its turn.
    fn step(&mut self, next: SocketAddr, trusted: &Peers) -> bool {
        self.client = next.into();
        self.hops.push(Some(next.ip()));
        trusted.include(Some(next.ip())) && self.hops.len() <= MAX_HOPS
    }

    /// Whether our peer has said for whom it asks.
    fn has_begun(&self) -> bool {
        self.hops.len() > 1
    }
}

fn x_forwarded(fields: &HeaderMap, peer: ClientAddress, trusted: &Peers) -> Walk {
    let mut walk = Walk::from(peer);
    for member in forwarded::members_from_the_right(fields, &X_FORWARDED_FOR) {
        let Some(next) = member.and_then(forwarded::address) else {
            break;
        };
        if !walk.step(next, trusted) {
            break;
        }
    }
    if !walk.has_begun() {
        // Our peer adds nothing about its clients, so what there is may be theirs.
        return walk;
    }
    // The last member is what our peer wrote or kept; nothing says who wrote the others.
    let member = |name: &HeaderName| {
        let nearest = forwarded::members_from_the_right(fields, name).next();
        nearest.flatten()
    };
    walk.secure = member(&X_FORWARDED_PROTO).and_then(|proto| {
        let is = |name: &str| proto.eq_ignore_ascii_case(name);
        match () {
            () if is("https") || is("wss") => Some(true),
            () if is("http") || is("ws") => Some(false),
            () => None,
        }
    });
    walk.host = member(&X_FORWARDED_HOST).map(str::to_owned);
    walk
}

/// Scheme and host are those of the element that names the client.
fn rfc7239(fields: &HeaderMap, peer: ClientAddress, trusted: &Peers) -> Walk {
    let mut walk = Walk::from(peer);
    for hop in forwarded::hops_from_the_right(fields, &FORWARDED) {
        let Some(Hop { node, secure, host }) = hop else {
            break;
        };
        let Some(next) = node else { break };
        walk.secure = secure;
        walk.host = host.map(String::from);
        if !walk.step(next, trusted) {
            break;
        }
    }
    walk
}

/// Where the two disagree, one of them was passed on from a client: neither is believed. Nor is the
/// client our peer then, which has said that it asks for another: nobody knows who it is.
fn both(fields: &HeaderMap, peer: ClientAddress, trusted: &Peers) -> Walk {
    match (
        fields.contains_key(X_FORWARDED_FOR),
        fields.contains_key(FORWARDED),
    ) {
        (_, false) => x_forwarded(fields, peer, trusted),
        (false, true) => rfc7239(fields, peer, trusted),
        (true, true) => {
            let (one, other) = (
                x_forwarded(fields, peer, trusted),
                rfc7239(fields, peer, trusted),
            );
            if one.hops == other.hops {
                Walk {
                    secure: other.secure.or(one.secure),
                    host: other.host.or(one.host),
                    ..one
                }
            } else {
                Walk::lost(peer)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn config(forwarded: &str) -> Config {
        let text = format!(
            "listeners: [{{ address: 127.0.0.1:0 }}]\nupstreams: {{ a: {{ endpoints: [h:1] }} }}\n\
             routes: [{{ name: a, match: {{ path_prefix: / }}, upstream: a }}]\n\
             trusted_proxies: [10.0.0.0/8, \"fd00::/8\", unix]\nforwarded: {forwarded}\n"
        );
        config::parse(&text, std::path::Path::new("x.yaml"))
            .unwrap()
            .config
    }

    fn seen(forwarded: &str, peer: &str, fields: &[(&'static str, &str)]) -> String {
        let peer = peer.parse::<SocketAddr>().unwrap();
        seen_from(peer.into(), forwarded, fields)
    }

    fn seen_from(peer: ClientAddress, forwarded: &str, fields: &[(&'static str, &str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let local = Some(SocketAddr::from(([192, 0, 2, 1], 80)));
        let peer = Peer::new(peer, local, false, 1);
        let client = client(&map, &peer, &config(forwarded));
        let told = client.told.as_deref();
        let hops = told.map(|told| {
            told.hops
                .iter()
                .map(|hop| hop.map_or_else(|| "unix".to_owned(), |hop| hop.to_string()))
                .collect::<Vec<_>>()
        });
        let host = told
            .and_then(|told| told.host.as_ref())
            .map_or("-", |host| host.to_str().unwrap());
        format!(
            "{} {} {host} {}",
            client.address,
            client.scheme(),
            hops.unwrap_or_default().join(" ")
        )
    }

    const PEER: &str = "10.0.0.1:5000";

    #[test]
    fn nobody_who_is_not_trusted_is_asked() {
        let claims = [
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=1.2.3.4"),
        ];
        for mode in ["x-forwarded", "rfc7239", "both"] {
            assert_eq!(seen(mode, "192.0.2.9:77", &claims), "192.0.2.9:77 http - ");
        }
    }

    #[test]
    fn the_client_is_the_rightmost_address_that_is_not_trusted() {
        for (chain, expected) in [
            ("203.0.113.9", "203.0.113.9:0 http - 203.0.113.9 10.0.0.1"),
            (
                "6.6.6.6, 203.0.113.9",
                "203.0.113.9:0 http - 203.0.113.9 10.0.0.1",
            ),
            (
                "6.6.6.6, 203.0.113.9:4711, 10.0.0.2",
                "203.0.113.9:4711 http - 203.0.113.9 10.0.0.2 10.0.0.1",
            ),
            (
                "10.0.0.3, 10.0.0.2",
                "10.0.0.3:0 http - 10.0.0.3 10.0.0.2 10.0.0.1",
            ),
            (
                "203.0.113.9, [fd00::2]:9",
                "203.0.113.9:0 http - 203.0.113.9 fd00::2 10.0.0.1",
            ),
            ("203.0.113.9, nonsense", "10.0.0.1:5000 http - 10.0.0.1"),
            (
                "203.0.113.9, nonsense, 10.0.0.2",
                "10.0.0.2:0 http - 10.0.0.2 10.0.0.1",
            ),
            ("", "10.0.0.1:5000 http - 10.0.0.1"),
            ("unknown", "10.0.0.1:5000 http - 10.0.0.1"),
        ] {
            assert_eq!(
                seen("x-forwarded", PEER, &[("x-forwarded-for", chain)]),
                expected,
                "{chain}"
            );
        }
        let lines = [
            ("x-forwarded-for", "203.0.113.9"),
            ("x-forwarded-for", "10.0.0.2"),
        ];
        assert!(seen("x-forwarded", PEER, &lines).starts_with("203.0.113.9:0"));
        assert!(seen("x-forwarded", "[::ffff:10.0.0.1]:1", &lines).starts_with("203.0.113.9:0"));
    }

    #[test]
    fn proto_and_host_are_what_our_peer_wrote_or_kept() {
        let with = |proto: &str, host: &str| {
            let chain = "203.0.113.9, 10.0.0.2";
            let fields = [
                ("x-forwarded-for", chain),
                ("x-forwarded-proto", proto),
                ("x-forwarded-host", host),
            ];
            seen("x-forwarded", PEER, &fields)
        };
        let hops = "203.0.113.9 10.0.0.2 10.0.0.1";
        assert_eq!(
            with("https", "Shop:443"),
            format!("203.0.113.9:0 https shop {hops}")
        );
        assert_eq!(
            with("http, http, https", "evil, inner, shop"),
            format!("203.0.113.9:0 https shop {hops}")
        );
        assert_eq!(
            with("gopher", "a b"),
            format!("203.0.113.9:0 http - {hops}")
        );
    }

    #[test]
    fn proto_and_host_are_not_believed_without_a_word_about_who_connected() {
        let fields = [("x-forwarded-proto", "https"), ("x-forwarded-host", "evil")];
        assert_eq!(
            seen("x-forwarded", PEER, &fields),
            "10.0.0.1:5000 http - 10.0.0.1"
        );
        for chain in ["", "unknown", "nonsense"] {
            let fields = [&fields[..], &[("x-forwarded-for", chain)]].concat();
            for mode in ["x-forwarded", "both"] {
                let expected = "10.0.0.1:5000 http - 10.0.0.1";
                assert_eq!(seen(mode, PEER, &fields), expected, "{chain}");
            }
        }
        for value in ["proto=https;host=evil", "for=unknown;proto=https;host=evil"] {
            for mode in ["rfc7239", "both"] {
                let expected = "10.0.0.1:5000 http - 10.0.0.1";
                assert_eq!(seen(mode, PEER, &[("forwarded", value)]), expected);
            }
        }
    }

    #[test]
    fn a_peer_of_a_unix_socket_is_believed_and_one_at_another_proxy_is_not() {
        let fields = [
            ("x-forwarded-for", "203.0.113.9, 10.0.0.2"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "shop"),
        ];
        assert_eq!(
            seen_from(ClientAddress::Unix, "x-forwarded", &fields),
            "203.0.113.9:0 https shop 203.0.113.9 10.0.0.2 unix"
        );
        assert_eq!(
            seen_from(ClientAddress::Unix, "x-forwarded", &[]),
            "unix: http - unix"
        );
        for peer in [ClientAddress::UnixAtProxy, ClientAddress::Unknown] {
            let seen = seen_from(peer, "x-forwarded", &fields);
            assert!(seen.ends_with(" http - "), "{seen}");
        }
    }

    #[test]
    fn rfc_7239_is_walked_the_same_way() {
        for (value, expected) in [
            (
                "for=203.0.113.9;proto=https;host=shop",
                "203.0.113.9:0 https shop 203.0.113.9 10.0.0.1",
            ),
            (
                "for=6.6.6.6;proto=https, for=203.0.113.9",
                "203.0.113.9:0 http - 203.0.113.9 10.0.0.1",
            ),
            (
                "for=203.0.113.9;proto=https, for=10.0.0.2;proto=http",
                "203.0.113.9:0 https - 203.0.113.9 10.0.0.2 10.0.0.1",
            ),
            (
                "for=1.2.3.4, for=_hidden;proto=https, for=10.0.0.2",
                "10.0.0.2:0 http - 10.0.0.2 10.0.0.1",
            ),
            (
                "for=203.0.113.9, for=10.0.0.2;proto=https;host=inner",
                "203.0.113.9:0 http - 203.0.113.9 10.0.0.2 10.0.0.1",
            ),
            ("for=\"", "10.0.0.1:5000 http - 10.0.0.1"),
        ] {
            assert_eq!(
                seen("rfc7239", PEER, &[("forwarded", value)]),
                expected,
                "{value}"
            );
        }
    }

    #[test]
    fn only_the_chosen_fields_are_read_and_two_that_disagree_are_not_believed() {
        let apart = [("x-forwarded-for", "1.1.1.1"), ("forwarded", "for=2.2.2.2")];
        assert!(seen("x-forwarded", PEER, &apart).starts_with("1.1.1.1:0"));
        assert!(seen("rfc7239", PEER, &apart).starts_with("2.2.2.2:0"));
        assert_eq!(seen("both", PEER, &apart), "unknown http - unix 10.0.0.1");
        for forwarded in ["for=\"", "for=unknown", "junk"] {
            let one = [("x-forwarded-for", "1.1.1.1"), ("forwarded", forwarded)];
            assert!(
                seen("both", PEER, &one).starts_with("unknown "),
                "{forwarded}"
            );
        }
        let alike = [
            ("x-forwarded-for", "1.1.1.1"),
            ("forwarded", "for=1.1.1.1;proto=https"),
        ];
        assert!(seen("both", PEER, &alike).starts_with("1.1.1.1:0 https"));
    }

    #[test]
    fn a_chain_without_an_end_is_cut() {
        let chain = "10.0.0.7, ".repeat(5_000) + "10.0.0.8";
        let seen = seen("x-forwarded", PEER, &[("x-forwarded-for", &chain)]);
        assert_eq!(seen.split(' ').count(), 3 + MAX_HOPS + 1);
    }
}
