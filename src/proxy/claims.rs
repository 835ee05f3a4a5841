//! Which of a client's fields say who it is, or what it asked for elsewhere.
//!
//! `headers` asks for each field on its way to an endpoint. Many servers read `_` (CGI and its heirs)
//! and `.` as `-`, so a claim is known in each spelling. Invariant: from a peer that is not trusted no
//! claim passes in any spelling; from one that is, none that Headgate writes itself.

/// Claims by their first letter: a name, or the beginning of names where it ends in `-`.
const X: &[&str] = &[
    "x-forwarded-",
    "x-forwarded",
    "x-forwarder-for",
    "x-forward-for",
    "x-request-id",
    "x-real-ip",
    "x-real-proto",
    "x-client-ip",
    "x-client-cert-",
    "x-client-cert",
    "x-client-dn",
    "x-client-verify",
    "x-cluster-client-ip",
    "x-remote-ip",
    "x-remote-addr",
    "x-remote-user",
    "x-originating-ip",
    "x-original-url",
    "x-original-uri",
    "x-original-path",
    "x-original-host",
    "x-original-method",
    "x-original-remote-addr",
    "x-original-forwarded-for",
    "x-rewrite-url",
    "x-host",
    "x-http-host-override",
    "x-proxyuser-ip",
    "x-scheme",
    "x-url-scheme",
    "x-ssl-",
    "x-azure-clientip",
    "x-azure-socketip",
    "x-appengine-user-ip",
    "x-arr-clientcert",
    "x-envoy-external-address",
    "x-envoy-internal",
    "x-envoy-original-path",
    "x-envoy-original-host",
    "x-envoy-peer-",
    "x-auth-request-",
    "x-authenticated-",
    "x-webauth-",
    "x-tls-client-",
    "x-vercel-",
    "x-nf-client-connection-ip",
];
const C: &[&str] = &[
    "client-ip",
    "client-cert",
    "client-cert-chain",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-visitor",
];
const F: &[&str] = &[
    "forwarded",
    "forwarded-for",
    "forwarded-proto",
    "forwarded-host",
    "fastly-client-ip",
    "fastly-ssl",
    "fly-client-ip",
    "front-end-https",
];
const P: &[&str] = &[
    // CGI programs take it for the address of a proxy to use.
    "proxy",
    "proxy-client-ip",
];
const S: &[&str] = &["ssl-client-"];
const R: &[&str] = &["remote-addr", "remote-user"];
const T: &[&str] = &["true-client-ip"];
const W: &[&str] = &["wl-proxy-client-ip", "wl-proxy-ssl"];

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
    if !is_claim(name) {
        return true;
    }
    trusted && !odd && !OURS.contains(&name)
}

fn is_claim(name: &str) -> bool {
    let known = match name.as_bytes().first() {
        Some(b'x') => X,
        Some(b'c') => C,
        Some(b'f') => F,
        Some(b'p') => P,
        Some(b'r') => R,
        Some(b's') => S,
        Some(b't') => T,
        Some(b'w') => W,
        _ => return false,
    };
    known.iter().any(|claim| {
        let long_enough = if claim.ends_with('-') {
            name.len() >= claim.len()
        } else {
            name.len() == claim.len()
        };
        long_enough && begins(name, claim)
    })
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
        for claim in [X, C, F, P, R, S, T, W].concat() {
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
