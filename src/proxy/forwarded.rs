//! What proxies say about clients: `Forwarded` (RFC 7239) and `X-Forwarded-For`, read and written.
//!
//! `trust` walks what is read here, nearest hop first, and decides how far it is believed. Invariant:
//! a field that is not of its grammar yields a `None` where it stops making sense, and nothing that
//! was sent beyond that; no more hops than `MAX_HOPS` are kept, however many are sent.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// How many hops are looked at.
pub(super) const MAX_HOPS: usize = 32;

/// What one proxy said about who connected to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Hop<'a> {
    /// The address, its port 0 where it was not told; none for `unknown` and made-up names.
    pub(super) node: Option<SocketAddr>,
    /// `proto`, in lower case.
    pub(super) secure: Option<bool>,
    /// `host`, as sent.
    pub(super) host: Option<Cow<'a, str>>,
}

/// An address as `X-Forwarded-For` has it: alone, with a port, or in brackets.
pub(super) fn address(text: &str) -> Option<SocketAddr> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(ip.to_canonical(), 0));
    }
    node(text)
}

/// `node` of RFC 7239 section 6 that is an address: `192.0.2.1:80`, `[2001:db8::1]`, `[::1]:4711`.
fn node(text: &str) -> Option<SocketAddr> {
    let (ip, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (inside, port) = rest.split_once(']')?;
            (IpAddr::V6(inside.parse::<Ipv6Addr>().ok()?), port)
        }
        None => {
            let (ip, port) = match text.find(':') {
                Some(colon) => text.split_at_checked(colon)?,
                None => (text, ""),
            };
            (IpAddr::V4(ip.parse().ok()?), port)
        }
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => 0,
        None => return None,
        Some(name) if is_obfuscated(name) => 0,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
        Some(_) => return None,
    };
    Some(SocketAddr::new(ip.to_canonical(), port))
}

/// A name that a proxy made up (RFC 7239 section 6.3).
fn is_obfuscated(text: &str) -> bool {
    text.strip_prefix('_').is_some_and(|name| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    })
}

/// The members of comma-separated fields, the last one first; `None` for a field that is no text.
pub(super) fn members_from_the_right<'a>(
    fields: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = Option<&'a str>> {
    fields.get_all(name).iter().rev().flat_map(|value| {
        let text = value.to_str().ok();
        let readable = text.into_iter().flat_map(|text| text.rsplit(','));
        let unreadable = text.is_none().then_some(None);
        readable
            .map(|member| Some(member.trim_matches([' ', '\t'])))
            .chain(unreadable)
    })
}

/// The hops of `Forwarded`, the last one first, and a `None` where they stop making sense.
pub(super) fn hops_from_the_right<'a>(
    fields: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = Option<Hop<'a>>> {
    fields.get_all(name).iter().rev().flat_map(|value| {
        let hops = value.to_str().ok().and_then(elements);
        let broken = hops.is_none().then_some(None);
        let hops = hops.unwrap_or_default().into_iter().rev().map(Some);
        hops.chain(broken)
    })
}

/// `1#forwarded-element`; the last `MAX_HOPS` of them.
fn elements(text: &str) -> Option<std::collections::VecDeque<Hop<'_>>> {
    let mut reader = Reader { rest: text };
    let mut hops = std::collections::VecDeque::new();
    loop {
        reader.blanks();
        hops.push_back(reader.element()?);
        if hops.len() > MAX_HOPS {
            hops.pop_front();
        }
        reader.blanks();
        if reader.rest.is_empty() {
            return Some(hops);
        }
        reader.eat(',')?;
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    fn eat(&mut self, wanted: char) -> Option<()> {
        self.rest = self.rest.strip_prefix(wanted)?;
        Some(())
    }

    /// `[ pair ] *( ";" [ pair ] )`, and blanks around the semicolons, as some send them.
    fn element(&mut self) -> Option<Hop<'a>> {
        let mut hop = Hop::default();
        let (mut seen_for, mut empty) = (false, true);
        loop {
            self.blanks();
            if !self.rest.starts_with([';', ',']) && !self.rest.is_empty() {
                let name = self.token()?;
                self.eat('=')?;
                let value = self.value()?;
                empty = false;
                if name.eq_ignore_ascii_case("for") {
                    if std::mem::replace(&mut seen_for, true) {
                        return None;
                    }
                    hop.node = node(&value);
                    let hidden = value.eq_ignore_ascii_case("unknown") || is_name(&value);
                    if hop.node.is_none() && !hidden {
                        return None;
                    }
                } else if name.eq_ignore_ascii_case("proto") {
                    let https = value.eq_ignore_ascii_case("https");
                    let known = https || value.eq_ignore_ascii_case("http");
                    if hop.secure.is_some() || !known {
                        return None;
                    }
                    hop.secure = Some(https);
                } else if name.eq_ignore_ascii_case("host") && hop.host.replace(value).is_some() {
                    return None;
                }
            }
            self.blanks();
            if self.eat(';').is_none() {
                return (!empty).then_some(hop);
            }
        }
    }

    fn token(&mut self) -> Option<&'a str> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let end = self.rest.find(|c| !fits(c)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        (!token.is_empty()).then_some(token)
    }

    /// A token or a quoted string (RFC 9110 section 5.6.4).
    fn value(&mut self) -> Option<Cow<'a, str>> {
        if self.eat('"').is_none() {
            return self.token().map(Cow::Borrowed);
        }
        let mut unquoted = String::new();
        loop {
            let special = self.rest.find(['"', '\\'])?;
            let (plain, rest) = self.rest.split_at_checked(special)?;
            let mut rest = rest.chars();
            let quote = rest.next()? == '"';
            if quote && unquoted.is_empty() {
                self.rest = rest.as_str();
                return Some(Cow::Borrowed(plain));
            }
            unquoted.push_str(plain);
            if quote {
                self.rest = rest.as_str();
                return Some(Cow::Owned(unquoted));
            }
            unquoted.push(rest.next()?);
            self.rest = rest.as_str();
        }
    }
}

/// `obfnode [ ":" node-port ]`.
fn is_name(text: &str) -> bool {
    is_obfuscated(text.split(':').next().unwrap_or_default())
}

/// `X-Forwarded-For` with those of these hops that have an address, the client first: `unknown` if it has
/// none, since the proxy that comes next would be taken for it.
pub(super) fn write_list(hops: &[Option<IpAddr>]) -> Option<HeaderValue> {
    let mut text = String::new();
    if let [None, _, ..] = hops {
        text.push_str("unknown");
    }
    for hop in hops.iter().flatten() {
        let comma = if text.is_empty() { "" } else { ", " };
        write!(text, "{comma}{hop}").ok()?;
    }
    (!text.is_empty()).then(|| HeaderValue::try_from(text).ok())?
}

/// `Forwarded` with these hops (none: `unknown`), the client first: the first one with what is known of its own
/// connection, the last one with what is known of ours.
pub(super) fn write_elements(
    hops: impl ExactSizeIterator<Item = Option<IpAddr>>,
    client: About<'_>,
    ours: About<'_>,
) -> Option<HeaderValue> {
    let mut text = String::new();
    let last = hops.len().checked_sub(1)?;
    for (at, hop) in hops.enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        match hop {
            Some(IpAddr::V4(hop)) => write!(text, "{comma}for={hop}").ok()?,
            Some(IpAddr::V6(hop)) => write!(text, "{comma}for=\"[{hop}]\"").ok()?,
            None => write!(text, "{comma}for=unknown").ok()?,
        }
        let about = match at {
            _ if at == last => ours,
            0 => client,
            _ => continue,
        };
        // A host holds neither quotes nor backslashes.
        if about.host.contains([':', '[']) {
            write!(text, ";host=\"{}\"", about.host).ok()?;
        } else if !about.host.is_empty() {
            write!(text, ";host={}", about.host).ok()?;
        }
        let proto = if about.secure { "https" } else { "http" };
        write!(text, ";proto={proto}").ok()?;
    }
    HeaderValue::try_from(text).ok()
}

/// What `Forwarded` says of one connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'a> {
    /// A canonical host, or nothing.
    pub(super) host: &'a str,
    /// Whether it was TLS.
    pub(super) secure: bool,
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test fails by it")]
mod tests {
    use super::*;
    use http::header::FORWARDED;

    fn read(values: &[&str]) -> Vec<String> {
        let mut fields = HeaderMap::new();
        for value in values {
            fields.append(FORWARDED, HeaderValue::from_str(value).unwrap());
        }
        hops_from_the_right(&fields, &FORWARDED)
            .map(|hop| match hop {
                None => "broken".to_owned(),
                Some(Hop { node, secure, host }) => {
                    let node = node.map_or_else(|| "-".to_owned(), |node| node.to_string());
                    let secure = secure.map_or("-", |secure| if secure { "https" } else { "http" });
                    format!("{node} {secure} {}", host.as_deref().unwrap_or("-"))
                }
            })
            .collect()
    }

    #[test]
    fn the_grammar_of_rfc_7239_is_read_whole() {
        for (value, hops) in [
            ("for=192.0.2.60", vec!["192.0.2.60:0 - -"]),
            (
                "for=192.0.2.60;proto=http;by=203.0.113.43",
                vec!["192.0.2.60:0 http -"],
            ),
            (
                "For=\"[2001:db8:cafe::17]:4711\"",
                vec!["[2001:db8:cafe::17]:4711 - -"],
            ),
            (
                "for=192.0.2.43, for=198.51.100.17",
                vec!["198.51.100.17:0 - -", "192.0.2.43:0 - -"],
            ),
            ("for=\"_gazonk\"", vec!["- - -"]),
            ("for=_hidden;proto=https", vec!["- https -"]),
            ("for=unknown", vec!["- - -"]),
            ("for=\"unknown\"", vec!["- - -"]),
            ("for=\"192.0.2.1:_p0\"", vec!["192.0.2.1:0 - -"]),
            (
                "for=\"192.0.2.1:80\"; host=\"a:81\" ;PROTO=HTTPS",
                vec!["192.0.2.1:80 https a:81"],
            ),
            ("for=\"\\1\\9\\2.0.2.1\"", vec!["192.0.2.1:0 - -"]),
            ("host=a,;proto=http;", vec!["- http -", "- - a"]),
            ("for=192.0.2.1;ext=\"a,b;c\\\"\"", vec!["192.0.2.1:0 - -"]),
            ("for=\"[::ffff:192.0.2.1]\"", vec!["192.0.2.1:0 - -"]),
        ] {
            assert_eq!(read(&[value]), hops, "{value}");
        }
    }

    #[test]
    fn what_is_not_of_the_grammar_breaks_there() {
        for value in [
            "",
            ",",
            "for",
            "for=",
            "for=2001:db8::1",
            "for=[::1]",
            "for=\"::1\"",
            "for=\"1.2.3.4",
            "for=\"a\\",
            "for=1.2.3.4 for=5.6.7.8",
            "for=1.2.3.4;for=5.6.7.8",
            "for =1.2.3.4",
            "for=1.2.3",
            "proto=ftp;for=1.2.3.4",
            "for=\"1.2.3.4:99999\"",
            "for=name",
            "for=1.2.3.4,",
            "for=\"1.2.3.4\"x",
            "for=1.2.3.4;proto=http;proto=https",
            "for=\"[::1\"",
            "=a",
            "for=_",
        ] {
            assert_eq!(read(&[value]), ["broken"], "{value}");
        }
        let lines = ["for=1.2.3.4", "for=\"", "for=5.6.7.8"];
        assert_eq!(read(&lines), ["5.6.7.8:0 - -", "broken", "1.2.3.4:0 - -"]);
    }

    #[test]
    fn addresses_of_lists_are_read_in_each_of_their_spellings() {
        for (text, read) in [
            ("192.0.2.1", Some("192.0.2.1:0")),
            ("192.0.2.1:80", Some("192.0.2.1:80")),
            ("2001:db8::1", Some("[2001:db8::1]:0")),
            ("[2001:db8::1]", Some("[2001:db8::1]:0")),
            ("[2001:db8::1]:4711", Some("[2001:db8::1]:4711")),
            ("::ffff:192.0.2.1", Some("192.0.2.1:0")),
            ("192.0.2.1:", None),
            ("192.0.2.1:x", None),
            ("192.0.2.01", None),
            ("[::1]80", None),
            ("host", None),
            ("", None),
        ] {
            let expected = read.map(|text| text.parse().unwrap());
            assert_eq!(address(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let hops: Vec<Option<IpAddr>> = ["2001:db8::1", "10.0.0.2", "10.0.0.1"]
            .map(|hop| Some(hop.parse().unwrap()))
            .into();
        let client = About {
            host: "[::1]:81",
            secure: true,
        };
        let ours = About {
            host: "shop",
            secure: false,
        };
        let value = write_elements(hops.iter().copied(), client, ours).unwrap();
        let value = value.to_str().unwrap();
        assert_eq!(
            value,
            "for=\"[2001:db8::1]\";host=\"[::1]:81\";proto=https, for=10.0.0.2, for=10.0.0.1;host=shop;proto=http"
        );
        assert_eq!(
            read(&[value]),
            [
                "10.0.0.1:0 http shop",
                "10.0.0.2:0 - -",
                "[2001:db8::1]:0 https [::1]:81"
            ]
        );
        assert_eq!(
            write_list(&hops).unwrap(),
            "2001:db8::1, 10.0.0.2, 10.0.0.1"
        );
        let nobody = write_elements([None].into_iter(), ours, ours).unwrap();
        assert_eq!(nobody, "for=unknown;host=shop;proto=http");
        assert_eq!(write_list(&[hops[1], None]).unwrap(), "10.0.0.2");
        assert_eq!(write_list(&[None]), None);
    }

    #[test]
    fn random_fields_are_read_without_an_end_and_without_a_panic() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let pieces = [
            "for=",
            "1.2.3.4",
            "\"",
            "\\",
            ",",
            ";",
            "proto=https",
            "[::1]",
            ":",
            "host=a",
            " ",
            "_x",
            "unknown",
        ];
        for _ in 0..50_000 {
            let value: String = (0..random.usize(0..12))
                .map(|_| pieces[random.usize(..pieces.len())])
                .collect();
            assert!(read(&[&value]).len() <= MAX_HOPS);
        }
        let many = "for=1.2.3.4,".repeat(10_000) + "for=5.6.7.8";
        assert_eq!(read(&[&many]).len(), MAX_HOPS);
    }
}
