//! Which of a client's fields say who it is, or what it asked for elsewhere.
//!
//! `headers` asks for each field on its way to an endpoint, `cached` what they mean for the key of a
//! stored answer. Many servers read `_` (CGI and its heirs) and `.` as `-`, so a claim is known in each
//! spelling. Invariant: from a peer that is not trusted no claim passes in any spelling; from one that
//! is, none that Headgate writes itself.

use std::fmt::Write as _;

use http::HeaderMap;

/// What a claim is about, which decides what becomes of it on a route that caches: the key knows nothing
/// of what stands in fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    /// The address of the client, or something else that is passed on for the record. As with
    /// `X-Forwarded-For`, which every request has, an answer that depends on it says so in `Vary`.
    Address,
    /// The URL that the client asked for, or how it asked: it becomes a part of the key.
    Target,
    /// Who the client is: the request goes past the cache.
    Identity,
}

use About::{Address, Identity, Target};

/// Claims by their first letter: a name, or the beginning of names where it ends in `-`. The first one
/// that fits counts.
const X: &[(&str, About)] = &[
    ("x-forwarded-for", Address),
    ("x-forwarded-for-original", Address),
    ("x-forwarded-by", Address),
    ("x-forwarded-user", Identity),
    ("x-forwarded-email", Identity),
    ("x-forwarded-groups", Identity),
    ("x-forwarded-preferred-username", Identity),
    ("x-forwarded-access-token", Identity),
    ("x-forwarded-client-cert", Identity),
    ("x-forwarded-tls-client-", Identity),
    ("x-forwarded-", Target),
    ("x-forwarded", Address),
    ("x-forwarder-for", Address),
    ("x-forward-for", Address),
    ("x-request-id", Address),
    ("x-real-ip", Address),
    ("x-real-proto", Target),
    ("x-client-ip", Address),
    ("x-client-cert-", Identity),
    ("x-client-cert", Identity),
    ("x-client-dn", Identity),
    ("x-client-verify", Identity),
    ("x-cluster-client-ip", Address),
    ("x-remote-ip", Address),
    ("x-remote-addr", Address),
    ("x-remote-user", Identity),
    ("x-originating-ip", Address),
    ("x-original-url", Target),
    ("x-original-uri", Target),
    ("x-original-path", Target),
    ("x-original-host", Target),
    ("x-original-method", Target),
    ("x-original-remote-addr", Address),
    ("x-original-forwarded-for", Address),
    ("x-rewrite-url", Target),
    ("x-host", Target),
    ("x-http-host-override", Target),
    ("x-proxyuser-ip", Address),
    ("x-scheme", Target),
    ("x-url-scheme", Target),
    ("x-ssl-", Identity),
    ("x-azure-clientip", Address),
    ("x-azure-socketip", Address),
    ("x-appengine-user-ip", Address),
    ("x-arr-clientcert", Identity),
    ("x-envoy-external-address", Address),
    ("x-envoy-internal", Target),
    ("x-envoy-original-path", Target),
    ("x-envoy-original-host", Target),
    ("x-envoy-peer-", Identity),
    ("x-auth-request-", Identity),
    ("x-authenticated-", Identity),
    ("x-webauth-", Identity),
    ("x-tls-client-", Identity),
    ("x-vercel-", Address),
    ("x-nf-client-connection-ip", Address),
];
const C: &[(&str, About)] = &[
    ("client-ip", Address),
    ("client-cert", Identity),
    ("client-cert-chain", Identity),
    ("cf-connecting-ip", Address),
    ("cf-connecting-ipv6", Address),
    ("cf-visitor", Target),
];
const F: &[(&str, About)] = &[
    ("forwarded", Address),
    ("forwarded-for", Address),
    ("forwarded-proto", Target),
    ("forwarded-host", Target),
    ("fastly-client-ip", Address),
    ("fastly-ssl", Target),
    ("fly-client-ip", Address),
    ("front-end-https", Target),
];
const P: &[(&str, About)] = &[
    // CGI programs take it for the address of a proxy to use.
    ("proxy", Target),
    ("proxy-client-ip", Address),
];
const S: &[(&str, About)] = &[("ssl-client-", Identity)];
const R: &[(&str, About)] = &[("remote-addr", Address), ("remote-user", Identity)];
const T: &[(&str, About)] = &[("true-client-ip", Address)];
const W: &[(&str, About)] = &[("wl-proxy-client-ip", Address), ("wl-proxy-ssl", Target)];

/// Fields by which some frameworks take a request for one of another method. Everybody may send them.
const METHODS: [&str; 3] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
];

/// What Headgate reads or writes itself, whoever the peer is.
const OURS: [&str; 5] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
];

/// Whether a field of a request goes on to an endpoint. `name` is in lower case; `trusted` is whether
/// the peer may make claims, `keep_odd` whether names with `_` or `.` pass at all.
pub(super) fn may_pass(name: &str, trusted: bool, keep_odd: bool) -> bool {
    let odd = name
        .bytes()
        .fold(false, |odd, byte| odd | matches!(byte, b'_' | b'.'));
    if odd && !keep_odd {
        return false;
    }
    if claim(name).is_none() {
        return true;
    }
    trusted && !odd && !OURS.contains(&name)
}

/// What a request's fields ask of an endpoint beyond what the cache's key says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beyond {
    /// Nothing.
    Nothing,
    /// Another target: these fields, each with a zero byte before it, which no field can hold.
    Target(String),
    /// Another method.
    Method,
    /// An answer for the one who is named.
    Identity,
}

/// What of that the fields of a request say that pass; `trusted` is whether the peer may make claims.
pub(super) fn beyond_key(fields: &HeaderMap, trusted: bool) -> Beyond {
    let mut target = String::new();
    for (name, value) in fields {
        let name = name.as_str();
        let first = name.as_bytes().first();
        if first == Some(&b'x') && METHODS.iter().any(|it| is(name, it)) {
            return Beyond::Method;
        }
        if !trusted {
            continue;
        }
        match claim(name).filter(|_| may_pass(name, true, true)) {
            None | Some(Address) => {}
            Some(Identity) => return Beyond::Identity,
            Some(Target) => {
                let value = value.as_bytes().escape_ascii();
                // A string takes whatever is written to it.
                let _written = write!(target, "\0{name}:{value}");
            }
        }
    }
    if target.is_empty() {
        Beyond::Nothing
    } else {
        Beyond::Target(target)
    }
}

/// What a field claims, if it does.
fn claim(name: &str) -> Option<About> {
    let known = match name.as_bytes().first()? {
        b'x' => X,
        b'c' => C,
        b'f' => F,
        b'p' => P,
        b'r' => R,
        b's' => S,
        b't' => T,
        b'w' => W,
        _ => return None,
    };
    let found = known.iter().find(|(claim, _)| is(name, claim));
    found.map(|(_, about)| *about)
}

/// Whether `name` is `claim`, or begins with it where that ends in `-`.
fn is(name: &str, claim: &str) -> bool {
    let fits = if claim.ends_with('-') {
        name.len() >= claim.len()
    } else {
        name.len() == claim.len()
    };
    fits && begins(name, claim)
}

/// Whether `name` begins with `claim`, `_` and `.` being as good as `-`.
fn begins(name: &str, claim: &str) -> bool {
    name.bytes()
        .zip(claim.bytes())
        .all(|(byte, wanted)| byte == wanted || (wanted == b'-' && matches!(byte, b'_' | b'.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_claim_of_the_untrusted_passes_in_any_spelling() {
        for (claim, _) in [X, C, F, P, R, S, T, W].concat() {
            let name = if claim.ends_with('-') {
                format!("{claim}any")
            } else {
                claim.to_owned()
            };
            for odd in ['-', '_', '.'] {
                let spelt = name.replace('-', &odd.to_string());
                assert!(!may_pass(&spelt, false, true), "{spelt}");
                assert!(!may_pass(&spelt, false, false), "{spelt}");
            }
            // One hyphen in another spelling.
            let mixed = name.replacen('-', "_", 1);
            assert!(!may_pass(&mixed, false, true), "{mixed}");
            assert!(mixed == name || !may_pass(&mixed, true, true), "{mixed}");
        }
    }

    #[test]
    fn the_trusted_may_claim_what_headgate_does_not_say_itself() {
        assert!(may_pass("x-real-ip", true, false));
        assert!(may_pass("x-forwarded-prefix", true, false));
        for ours in OURS {
            assert!(!may_pass(ours, true, true), "{ours}");
        }
    }

    fn beyond(trusted: bool, fields: &[(&'static str, &'static str)]) -> Beyond {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, http::HeaderValue::from_static(value));
        }
        beyond_key(&map, trusted)
    }

    #[test]
    fn what_the_trusted_say_of_the_target_is_told_apart_and_what_they_do_not_pass_on_is_not() {
        let told = |trusted, name, value| beyond(trusted, &[("accept", "*/*"), (name, value)]);
        for name in [
            "x-original-url",
            "x-rewrite-url",
            "x-forwarded-prefix",
            "x-forwarded-port",
            "x-http-host-override",
        ] {
            let expected = Beyond::Target(format!("\0{name}:/a"));
            assert_eq!(told(true, name, "/a"), expected);
            assert_eq!(told(false, name, "/a"), Beyond::Nothing, "{name}");
        }
        for name in ["x-forwarded-for", "x-forwarded-host", "x-real-ip", "cookie"] {
            assert_eq!(told(true, name, "a"), Beyond::Nothing, "{name}");
        }
        for name in ["x-auth-request-user", "x-forwarded-user", "client-cert"] {
            assert_eq!(told(true, name, "a"), Beyond::Identity, "{name}");
            assert_eq!(told(false, name, "a"), Beyond::Nothing, "{name}");
        }
        // A spelling that never passes says nothing.
        assert_eq!(told(true, "x_original_url", "/a"), Beyond::Nothing);
    }

    #[test]
    fn another_method_is_seen_whoever_asks_for_it_and_however_it_is_spelt() {
        for name in [
            "x-http-method-override",
            "x_http_method_override",
            "x-http-method",
            "x.method-override",
        ] {
            for trusted in [false, true] {
                assert_eq!(beyond(trusted, &[(name, "DELETE")]), Beyond::Method);
            }
        }
    }

    #[test]
    fn other_fields_pass_but_those_with_two_spellings() {
        for name in [
            "accept",
            "cookie",
            "x-api-key",
            "x-forwardedx",
            "x-request-idx",
            "content-type",
            "via",
            "x-http-method-override",
            "cf-ray",
            "forwarded-by",
            "x-sslx",
            "proxyx",
            "sec-ch-ua",
            "traceparent",
        ] {
            assert!(may_pass(name, false, false), "{name}");
        }
        assert!(!may_pass("x_api_key", false, false));
        assert!(!may_pass("x.api.key", true, false));
        assert!(may_pass("x_api_key", false, true));
    }
}
