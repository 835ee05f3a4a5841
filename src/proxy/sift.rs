//! Station 2: what of a request's fields any later station sees.
//!
//! `handle` calls `request` once for each head, after `trust` and `normalize` have read what they need:
//! fields of the client's hop go, those that `Connection` lists, claims that the client may not make and
//! names with two spellings. Routes, shards, the cache's key and `Vary`, and `headers`, which writes the
//! request to an endpoint, all see what is left. Invariant: nothing is decided by a field that endpoints
//! do not see.

use http::Version;
use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, TE};
use smallvec::SmallVec;

use crate::config::model::Config;
use crate::wire::Peer;
use crate::wire::fields;

use super::claims::{Fate, Rules};
use super::trust::Client;

/// What is known of a request's fields afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Seen {
    /// Some of those that are left claim something.
    pub(super) claims: bool,
    /// `TE` said that the client takes trailers (RFC 9110 section 6.5.1).
    pub(super) trailers: bool,
}

impl Seen {
    /// Whether the client can be sent trailers: over HTTP/2 always.
    pub(super) fn takes_trailers(self, version: Version) -> bool {
        version == Version::HTTP_2 || self.trailers
    }
}

/// Takes away what nothing may decide by: one look at each field, and a removal for each that goes.
pub(super) fn request(
    fields: &mut HeaderMap,
    peer: &Peer,
    client: &Client,
    config: &Config,
) -> Seen {
    let tls = peer.tls.as_deref();
    let rules = Rules {
        trusted: client.is_told(),
        keep_odd: config.keep_underscores,
        keep: &config.claims.keep,
        trusted_only: config.claims.trusted_only.as_deref().unwrap_or_default(),
        certified: tls.is_some_and(|tls| tls.client_cert.is_some()),
    };
    let mut seen = Seen::default();
    let mut gone: SmallVec<[HeaderName; 4]> = SmallVec::new();
    for name in fields.keys() {
        if fields::is_hop_by_hop(name) {
            gone.push(name.clone());
            continue;
        }
        match rules.judge(name.as_str()) {
            Fate::Passes => {}
            Fate::Claims => seen.claims = true,
            Fate::Dropped => gone.push(name.clone()),
        }
    }
    if gone.contains(&TE) {
        seen.trailers = takes_trailers(fields);
    }
    if gone.contains(&CONNECTION) {
        let listed = fields::connection_options(fields);
        let names = listed
            .iter()
            .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok());
        gone.extend(names);
    }
    for name in gone {
        fields.remove(name);
    }
    seen
}

fn takes_trailers(fields: &HeaderMap) -> bool {
    let trailers = |value: &HeaderValue| {
        fields::members(value).any(|member| member.eq_ignore_ascii_case(b"trailers"))
    };
    fields.get_all(TE).iter().any(trailers)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::path::Path;

    const TRUSTED: &str = "trusted_proxies: [192.0.2.7]";

    fn config(top: &str) -> Config {
        let text = format!(
            "listeners: [{{ address: 127.0.0.1:0 }}]\nupstreams: {{ a: {{ endpoints: [h:1] }} }}\n\
             routes: [{{ name: a, match: {{ path_prefix: / }}, upstream: a }}]\n{top}\n"
        );
        crate::config::parse(&text, Path::new("x.yaml"))
            .unwrap()
            .config
    }

    /// What is left of these fields.
    fn left(top: &str, sent: &[(&'static str, &'static str)]) -> (Vec<String>, Seen) {
        let peer = Peer::new(
            std::net::SocketAddr::from(([192, 0, 2, 7], 1234)),
            Some(std::net::SocketAddr::from(([192, 0, 2, 1], 80))),
            true,
            1,
        );
        let config = config(top);
        let mut fields = HeaderMap::new();
        for (name, value) in sent {
            fields.append(*name, HeaderValue::from_static(value));
        }
        let client = super::super::trust::client(&fields, &peer, &config);
        let seen = request(&mut fields, &peer, &client, &config);
        let mut names: Vec<String> = fields.keys().map(ToString::to_string).collect();
        names.sort_unstable();
        (names, seen)
    }

    #[test]
    fn the_hop_and_what_it_lists_go_but_not_what_every_hop_needs() {
        let (names, seen) = left(
            "",
            &[
                ("host", "shop"),
                ("connection", "close, X-Mine, TE, cookie, via"),
                ("connection", "x-forwarded-for"),
                ("x-mine", "1"),
                ("te", "gzip, Trailers"),
                ("keep-alive", "timeout=5"),
                ("upgrade", "h2c"),
                ("transfer-encoding", "chunked"),
                ("proxy-authorization", "x"),
                ("cookie", "a=b"),
                ("x-other", "1"),
            ],
        );
        assert_eq!(names, ["cookie", "host", "x-other"]);
        assert!(seen.trailers && !seen.claims);
        let (_, seen) = left("", &[("te", "gzip"), ("accept", "*/*")]);
        assert_eq!(seen, Seen::default());
    }

    #[test]
    fn claims_go_unless_the_peer_or_the_config_says_that_they_count() {
        let sent = [
            ("x-real-ip", "6.6.6.6"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x_any", "1"),
            ("x-proto", "https"),
            ("accept", "*/*"),
        ];
        let (names, seen) = left("", &sent);
        assert_eq!(names, ["accept"]);
        assert!(!seen.claims);
        let (names, seen) = left("claims: { keep: [X-Proto] }", &sent);
        assert_eq!(names, ["accept", "x-proto"]);
        assert!(seen.claims);
        let (names, seen) = left(TRUSTED, &sent);
        assert_eq!(names, ["accept", "x-proto", "x-real-ip"]);
        assert!(seen.claims);
    }

    #[test]
    fn a_config_refuses_to_judge_by_each_field_that_goes_from_everybody() {
        let hop = [
            "connection",
            "transfer-encoding",
            "upgrade",
            "keep-alive",
            "proxy-connection",
            "te",
            "trailer",
            "proxy-authenticate",
            "proxy-authorization",
            "proxy-authentication-info",
            "http2-settings",
        ];
        for name in hop {
            assert!(fields::is_hop_by_hop(&HeaderName::from_static(name)));
        }
        let ours = &crate::config::model::WRITTEN_ANEW;
        for name in hop.into_iter().chain(ours.iter().map(HeaderName::as_str)) {
            let text = format!(
                "listeners: [{{ address: 127.0.0.1:0 }}]\n\
                 upstreams: {{ a: {{ endpoints: [h:1] }} }}\n\
                 routes: [{{ name: a, match: {{ headers: {{ {name}: x }} }}, upstream: a }}]\n"
            );
            assert!(
                crate::config::parse(&text, Path::new("x.yaml")).is_err(),
                "{name}"
            );
        }
    }
}
