//! Which of a client's fields say who it is, or what it asked for elsewhere.
//!
//! `sift` asks for each field of a request, `asking` what those that pass mean for the key of a stored
//! answer. Many servers read `_` (CGI and its heirs) and `.` as `-`, so a claim is known in each
//! spelling. Invariant: from a peer that is not trusted no claim passes in any spelling, but those that
//! the config names; from one that is, none that Headgate writes itself.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName};

use crate::config::model::{CERTIFICATE, WRITTEN_ANEW};

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
    /// That the request is one of another method, as some frameworks read it. Everybody may say so; the
    /// request goes past the cache.
    Method,
}

use About::{Address, Identity, Method, Target};

type Claim = (&'static str, About);

/// Claims by their first letters: a name, or the beginning of names where it ends in `-`. The first one
/// that fits counts.
const XA: &[Claim] = &[
    ("x-auth-request-", Identity),
    ("x-auth-user", Identity),
    ("x-auth-email", Identity),
    ("x-authenticated-", Identity),
    ("x-authentik-", Identity),
    ("x-amzn-oidc-", Identity),
    ("x-amzn-mtls-clientcert", Identity),
    ("x-amzn-mtls-clientcert-", Identity),
    ("x-anonymous-consumer", Identity),
    ("x-arr-clientcert", Identity),
    ("x-azure-clientip", Address),
    ("x-azure-socketip", Address),
    ("x-appengine-user-ip", Address),
];
const XC: &[Claim] = &[
    ("x-client-ip", Address),
    ("x-clientip", Address),
    ("x-client-address", Address),
    ("x-cluster-client-ip", Address),
    ("x-client-cert", Identity),
    ("x-client-cert-", Identity),
    ("x-clientcert", Identity),
    ("x-client-dn", Identity),
    ("x-client-s-dn", Identity),
    ("x-client-subject", Identity),
    ("x-client-serial", Identity),
    ("x-client-fingerprint", Identity),
    ("x-client-verify", Identity),
    ("x-consumer-", Identity),
    ("x-credential-identifier", Identity),
];
const XE: &[Claim] = &[
    ("x-envoy-internal", Target),
    ("x-envoy-original-path", Target),
    ("x-envoy-original-host", Target),
    ("x-envoy-peer-", Identity),
    // Among them how long to wait and how often to try again, which Envoy obeys.
    ("x-envoy-", Address),
];
const XF: &[Claim] = &[
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
];
const XG: &[Claim] = &[
    ("x-goog-authenticated-user-", Identity),
    ("x-goog-iap-jwt-assertion", Identity),
];
const XH: &[Claim] = &[
    ("x-http-method-override", Method),
    ("x-http-method", Method),
    ("x-host", Target),
    ("x-http-host-override", Target),
    ("x-https", Target),
];
const XM: &[Claim] = &[
    ("x-method-override", Method),
    // Next.js took it for a sign that its checks were done already (CVE-2025-29927).
    ("x-middleware-subrequest", Target),
    ("x-middleware-subrequest-", Target),
    ("x-ms-client-principal", Identity),
    ("x-ms-client-principal-", Identity),
];
const XO: &[Claim] = &[
    ("x-originating-ip", Address),
    ("x-original-remote-addr", Address),
    ("x-original-forwarded-for", Address),
    ("x-original-remote-user", Identity),
    ("x-original-url", Target),
    ("x-original-uri", Target),
    ("x-original-path", Target),
    ("x-original-host", Target),
    ("x-original-method", Target),
    ("x-override-url", Target),
];
const XP: &[Claim] = &[
    ("x-pomerium-", Identity),
    ("x-proto", Target),
    ("x-proxy-url", Target),
    ("x-proxyuser-ip", Address),
];
const XR: &[Claim] = &[
    ("x-request-id", Address),
    ("x-real-ip", Address),
    ("x-realip", Address),
    ("x-real-proto", Target),
    ("x-remote-ip", Address),
    ("x-remote-addr", Address),
    ("x-remote-", Identity),
    ("x-rewrite-url", Target),
    ("x-rewrite-uri", Target),
];
const XS: &[Claim] = &[
    ("x-ssl-", Identity),
    ("x-ssl", Target),
    ("x-scheme", Target),
];
const XT: &[Claim] = &[
    ("x-true-client-ip", Address),
    ("x-tls-client-", Identity),
    ("x-token-claim-", Identity),
];
const XV: &[Claim] = &[("x-vercel-", Address), ("x-vouch-", Identity)];
/// The rest that begins with `x`.
const X: &[Claim] = &[
    ("x-backend-host", Target),
    ("x-nf-client-connection-ip", Address),
    ("x-url-scheme", Target),
    ("x-webauth-", Identity),
];
const C: &[Claim] = &[
    ("client-ip", Address),
    ("client-cert", Identity),
    ("client-cert-chain", Identity),
    ("client-certificate", Identity),
    ("cf-connecting-ip", Address),
    ("cf-connecting-ipv6", Address),
    ("cf-pseudo-ipv4", Address),
    ("cf-visitor", Target),
    ("cf-access-", Identity),
    ("cloudfront-viewer-address", Address),
    ("cloudfront-forwarded-proto", Target),
];
const F: &[Claim] = &[
    ("forwarded", Address),
    ("forwarded-for", Address),
    ("forwarded-proto", Target),
    ("forwarded-host", Target),
    ("fastly-client-ip", Address),
    ("fastly-ssl", Target),
    ("fly-client-ip", Address),
    ("front-end-https", Target),
];
const P: &[Claim] = &[
    // CGI programs take it for the address of a proxy to use.
    ("proxy", Target),
    ("proxy-client-ip", Address),
];
const R: &[Claim] = &[
    ("remote-addr", Address),
    ("remote-user", Identity),
    ("remote-groups", Identity),
    ("remote-email", Identity),
    ("remote-name", Identity),
];
const S: &[Claim] = &[("ssl-client-", Identity), ("ssl-cert", Identity)];
const T: &[Claim] = &[
    ("true-client-ip", Address),
    ("tls-client-", Identity),
    ("tailscale-user-", Identity),
];
const W: &[Claim] = &[("wl-proxy-client-ip", Address), ("wl-proxy-ssl", Target)];
/// What is alone with its first letter.
const ALONE: &[Claim] = &[
    ("do-connecting-ip", Address),
    ("https", Target),
    ("oidc-claim-", Identity),
    ("z-forwarded-for", Address),
];

/// The claims that a name could be: few, and none for the names that nearly all requests have.
fn candidates(name: &[u8]) -> &'static [Claim] {
    match name {
        [b'x', _, third, ..] => match third {
            b'a' => XA,
            b'c' => XC,
            b'e' => XE,
            b'f' => XF,
            b'g' => XG,
            b'h' => XH,
            b'm' => XM,
            b'o' => XO,
            b'p' => XP,
            b'r' => XR,
            b's' => XS,
            b't' => XT,
            b'v' => XV,
            _ => X,
        },
        [b'c', b'f' | b'l', ..] => C,
        [b'f', ..] => F,
        [b'p', b'r', b'o', ..] => P,
        [b'r', b'e', b'm', ..] => R,
        [b's', b's', ..] => S,
        [b't', b'a' | b'l', ..] | [b't', b'r', b'u', ..] => T,
        [b'w', ..] => W,
        [b'd', b'o', ..] | [b'h', b't', ..] | [b'o', b'i', ..] | [b'z', ..] => ALONE,
        _ => &[],
    }
}

/// Who sent a request, as far as it matters here, and what the config says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a> {
    /// Whether the peer may make claims.
    pub(super) trusted: bool,
    /// Whether names with `_` or `.` pass at all.
    pub(super) keep_odd: bool,
    /// Claims that everybody may make.
    pub(super) keep: &'a [HeaderName],
    /// Claims that the config adds to those above.
    pub(super) trusted_only: &'a [HeaderName],
    /// Whether the peer has shown a certificate, of which Headgate tells.
    pub(super) certified: bool,
}

/// What becomes of a field of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes on, and claims nothing.
    Passes,
    /// It goes on with what it claims.
    Claims,
    /// Nobody behind this sees it.
    Dropped,
}

impl Rules<'_> {
    /// What becomes of the field of this name, which is in lower case.
    pub(super) fn judge(&self, name: &str) -> Fate {
        let odd = name
            .bytes()
            .fold(false, |odd, byte| odd | matches!(byte, b'_' | b'.'));
        if odd && !self.keep_odd {
            return Fate::Dropped;
        }
        match claim(name).or_else(|| added(name, self.trusted_only)) {
            None => Fate::Passes,
            Some(Method) => Fate::Claims,
            Some(_) if odd || WRITTEN_ANEW.iter().any(|ours| *ours == *name) => Fate::Dropped,
            Some(_) if self.certified && CERTIFICATE.iter().any(|ours| *ours == *name) => {
                Fate::Dropped
            }
            Some(_) if self.trusted || self.keep.iter().any(|kept| *kept == *name) => Fate::Claims,
            Some(_) => Fate::Dropped,
        }
    }
}

/// Whether a field may come after a request's body, whoever sends it: what may not stand in a head may
/// not come later either, since some servers join the two.
pub(super) fn may_follow(name: &str, trusted_only: &[HeaderName]) -> bool {
    let nobody = Rules {
        trusted: false,
        keep_odd: false,
        keep: &[],
        trusted_only,
        certified: false,
    };
    nobody.judge(name) != Fate::Dropped
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

/// What of that the fields of a request say, of which those are gone that do not pass. What a route has in
/// its key by name is in it: `keyed`.
pub(super) fn beyond_key(
    fields: &HeaderMap,
    keyed: &[HeaderName],
    trusted_only: &[HeaderName],
) -> Beyond {
    let mut target = String::new();
    let mut beyond = Beyond::Nothing;
    for (name, value) in fields {
        let is_keyed = keyed.contains(name);
        let name = name.as_str();
        match claim(name).or_else(|| added(name, trusted_only)) {
            None | Some(Address) => {}
            Some(Identity | Target) if is_keyed => {}
            Some(Method) => return Beyond::Method,
            Some(Identity) => beyond = Beyond::Identity,
            Some(Target) => {
                let value = value.as_bytes().escape_ascii();
                // A string takes whatever is written to it.
                let _written = write!(target, "\0{name}:{value}");
            }
        }
    }
    if beyond == Beyond::Nothing && !target.is_empty() {
        beyond = Beyond::Target(target);
    }
    beyond
}

/// What a field claims, if it does.
fn claim(name: &str) -> Option<About> {
    let found = candidates(name.as_bytes())
        .iter()
        .find(|(claim, _)| is(name, claim));
    found.map(|(_, about)| *about)
}

/// A claim that the config knows. Nothing is known of what it means, so that it is a part of the key.
fn added(name: &str, trusted_only: &[HeaderName]) -> Option<About> {
    let mut added = trusted_only.iter();
    added
        .any(|claim| is(name, claim.as_str()))
        .then_some(Target)
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

    const ALL: [&[Claim]; 22] = [
        XA, XC, XE, XF, XG, XH, XM, XO, XP, XR, XS, XT, XV, X, C, F, P, R, S, T, W, ALONE,
    ];

    fn fate(name: &str, trusted: bool, keep_odd: bool) -> Fate {
        let rules = Rules {
            trusted,
            keep_odd,
            keep: &[],
            trusted_only: &[],
            certified: false,
        };
        rules.judge(name)
    }

    fn passes(name: &str, trusted: bool, keep_odd: bool) -> bool {
        fate(name, trusted, keep_odd) != Fate::Dropped
    }

    /// A name of each claim.
    fn names() -> impl Iterator<Item = (String, About)> {
        ALL.into_iter().flatten().map(|(claim, about)| {
            let any = if claim.ends_with('-') { "any" } else { "" };
            (format!("{claim}{any}"), *about)
        })
    }

    #[test]
    fn each_claim_is_found_from_its_first_letters() {
        for (name, about) in names() {
            assert_eq!(claim(&name), Some(about), "{name}");
        }
    }

    #[test]
    fn no_claim_of_the_untrusted_passes_in_any_spelling() {
        for (name, _) in names().filter(|(_, about)| *about != Method) {
            for odd in ['-', '_', '.'] {
                let spelt = name.replace('-', &odd.to_string());
                assert!(!passes(&spelt, false, true), "{spelt}");
                assert!(!passes(&spelt, false, false), "{spelt}");
            }
            // One hyphen in another spelling.
            let mixed = name.replacen('-', "_", 1);
            assert!(!passes(&mixed, false, true), "{mixed}");
            assert!(mixed == name || !passes(&mixed, true, true), "{mixed}");
        }
    }

    #[test]
    fn the_trusted_may_claim_what_headgate_does_not_say_itself() {
        assert_eq!(fate("x-real-ip", true, false), Fate::Claims);
        assert_eq!(fate("x-forwarded-prefix", true, false), Fate::Claims);
        for ours in &WRITTEN_ANEW {
            assert!(!passes(ours.as_str(), true, true), "{ours}");
        }
        for ours in &CERTIFICATE {
            assert!(passes(ours.as_str(), true, true), "{ours}");
            let certified = Rules {
                trusted: true,
                keep_odd: true,
                keep: &[],
                trusted_only: &[],
                certified: true,
            };
            assert_eq!(certified.judge(ours.as_str()), Fate::Dropped, "{ours}");
        }
    }

    #[test]
    fn a_claim_that_is_kept_passes_as_it_is_spelt_and_no_other_does() {
        let keep = ["x-proto", "x-forwarded-for"].map(HeaderName::from_static);
        let rules = Rules {
            trusted: false,
            keep_odd: true,
            keep: &keep,
            trusted_only: &[],
            certified: false,
        };
        assert_eq!(rules.judge("x-proto"), Fate::Claims);
        for name in ["x_proto", "x-https", "x-forwarded-for"] {
            assert_eq!(rules.judge(name), Fate::Dropped, "{name}");
        }
    }

    #[test]
    fn claims_of_the_config_are_for_the_trusted_in_one_spelling() {
        let added = ["x-claim-", "x-price-group"].map(HeaderName::from_static);
        let judge = |name: &str, trusted| {
            let rules = Rules {
                trusted,
                keep_odd: true,
                keep: &[],
                trusted_only: &added,
                certified: false,
            };
            rules.judge(name)
        };
        for name in ["x-claim-currency", "x-price-group"] {
            assert_eq!(judge(name, true), Fate::Claims, "{name}");
            assert_eq!(judge(name, false), Fate::Dropped, "{name}");
            assert!(!may_follow(name, &added), "{name}");
            for trusted in [true, false] {
                let spelt = name.replacen('-', "_", 1);
                assert_eq!(judge(&spelt, trusted), Fate::Dropped, "{spelt}");
            }
        }
        assert_eq!(judge("x-price-groups", false), Fate::Passes);
    }

    #[test]
    fn what_the_routes_key_has_by_name_is_not_told_apart_again() {
        let mut fields = HeaderMap::new();
        for name in ["x-claim-currency", "x-token-claim-group"] {
            fields.insert(name, http::HeaderValue::from_static("a"));
        }
        let names = ["x-claim-currency", "x-token-claim-group"].map(HeaderName::from_static);
        let [currency, group] = names.each_ref().map(std::slice::from_ref);
        assert_eq!(beyond_key(&fields, &names, currency), Beyond::Nothing);
        assert_eq!(beyond_key(&fields, currency, currency), Beyond::Identity);
        let told = Beyond::Target("\0x-claim-currency:a".to_owned());
        assert_eq!(beyond_key(&fields, group, currency), told);
    }

    fn beyond(fields: &[(&'static str, &'static str)]) -> Beyond {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, http::HeaderValue::from_static(value));
        }
        beyond_key(&map, &[], &[])
    }

    #[test]
    fn what_passes_and_means_another_target_or_client_is_told_apart() {
        let told = |name, value| beyond(&[("accept", "*/*"), (name, value)]);
        for name in [
            "x-original-url",
            "x-rewrite-url",
            "x-forwarded-prefix",
            "x-forwarded-port",
            "x-http-host-override",
        ] {
            let expected = Beyond::Target(format!("\0{name}:/a"));
            assert_eq!(told(name, "/a"), expected);
        }
        for name in ["x-real-ip", "x-envoy-attempt-count", "cookie"] {
            assert_eq!(told(name, "a"), Beyond::Nothing, "{name}");
        }
        for name in ["x-auth-request-user", "x-forwarded-user", "client-cert"] {
            assert_eq!(told(name, "a"), Beyond::Identity, "{name}");
        }
        let both = [("x-remote-user", "a"), ("x-proto", "https")];
        assert_eq!(beyond(&both), Beyond::Identity);
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
                assert_eq!(fate(name, trusted, true), Fate::Claims, "{name}");
            }
            assert_eq!(beyond(&[(name, "DELETE")]), Beyond::Method);
        }
    }

    #[test]
    fn other_fields_pass_but_those_with_two_spellings() {
        for name in [
            "accept",
            "cookie",
            "host",
            "x-api-key",
            "x-forwardedx",
            "x-request-idx",
            "x-requested-with",
            "content-type",
            "via",
            "cf-ray",
            "forwarded-by",
            "x-sslx",
            "proxyx",
            "sec-ch-ua",
            "traceparent",
            "x",
            "x-",
        ] {
            assert_eq!(fate(name, false, false), Fate::Passes, "{name}");
        }
        assert!(!passes("x_api_key", false, false));
        assert!(!passes("x.api.key", true, false));
        assert!(passes("x_api_key", false, true));
        let may_follow = |name| may_follow(name, &[]);
        assert!(may_follow("x-checksum") && !may_follow("x-real-ip") && !may_follow("x_a"));
    }
}
