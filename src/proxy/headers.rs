//! Which header fields pass through, and which are ours.
//!
//! `forward` builds each attempt's request from the client's head with `for_upstream`; `respond`
//! prepares an answer's head with `for_client`. Invariant: hop-by-hop fields are removed before ours
//! are added, so no `Connection` option can delete what Headgate says, and no spelling of a
//! forwarding field gets past it.

use bytes::Bytes;
use http::Version;
use http::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, VIA};
use http::request::Parts;
use smallvec::SmallVec;
use uuid::Uuid;

use crate::balancer::Endpoint;
use crate::wire::Peer;

pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// RFC 9440: only ever ours, made from a certificate that was verified.
const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");
const VIA_US: HeaderValue = HeaderValue::from_static("1.1 headgate");

/// How many fields `for_upstream` may add.
const ADDED: usize = 5;

/// The head of a request to an endpoint: the client's fields without those of its own hop and
/// without any claim about who it is, and then ours.
pub(super) fn for_upstream(request: &Parts, peer: &Peer, id: Uuid) -> HeaderMap {
    let sent = &request.headers;
    let listed = connection_options(sent);
    let mut headers = HeaderMap::with_capacity(sent.len() + ADDED);
    for (name, value) in sent {
        let text = name.as_str();
        if is_hop_by_hop(text) || is_claim(text) || is_listed(&listed, text) {
            continue;
        }
        headers.append(name, value.clone());
    }
    headers.append(X_FORWARDED_FOR, peer.forwarded_for.clone());
    headers.append(X_FORWARDED_PROTO, HeaderValue::from_static(peer.scheme()));
    if let Some(host) = sent.get(HOST) {
        headers.append(X_FORWARDED_HOST, host.clone());
    }
    if let Some(cert) = peer.tls.as_ref().and_then(|tls| tls.client_cert.as_ref()) {
        headers.append(CLIENT_CERT, cert.leaf.clone());
        if let Some(chain) = &cert.chain {
            headers.append(CLIENT_CERT_CHAIN, chain.clone());
        }
    }
    headers.append(VIA, VIA_US);
    headers.append(X_REQUEST_ID, id_value(id));
    headers
}

/// HTTP/1.0 may come without a `Host`, HTTP/1.1 may not go without one (RFC 9112 section 3.2): then
/// the endpoint is named by its own address.
pub(super) fn ensure_host(headers: &mut HeaderMap, version: Version, endpoint: &Endpoint) {
    if version != Version::HTTP_10 || headers.contains_key(HOST) {
        return;
    }
    if let Ok(address) = HeaderValue::from_str(&endpoint.address) {
        headers.insert(HOST, address);
    }
}

/// Removes from an answer what belongs to the endpoint's hop.
pub(super) fn for_client(headers: &mut HeaderMap) {
    if !headers.keys().any(|name| is_hop_by_hop(name.as_str())) {
        return;
    }
    let listed: SmallVec<[HeaderName; 4]> = connection_options(headers)
        .iter()
        .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
        .collect();
    for name in listed {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(*name);
    }
}

const HOP_BY_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
];

fn is_hop_by_hop(name: &str) -> bool {
    HOP_BY_HOP.contains(&name)
}

/// Whether a field makes a claim about the client that only a trusted proxy may make, in any
/// spelling: many servers read `_` and `.` as `-`.
fn is_claim(name: &str) -> bool {
    let is =
        |byte: u8, wanted: u8| byte == wanted || (wanted == b'-' && matches!(byte, b'_' | b'.'));
    let starts = |wanted: &[u8]| {
        name.len() >= wanted.len()
            && name
                .bytes()
                .zip(wanted)
                .all(|(byte, wanted)| is(byte, *wanted))
    };
    match name.as_bytes().first() {
        Some(b'x') => {
            starts(b"x-forwarded")
                || (starts(b"x-real-ip") && name.len() == 9)
                || (starts(b"x-request-id") && name.len() == 12)
                || (starts(b"x-client-ip") && name.len() == 11)
                || (starts(b"x-cluster-client-ip") && name.len() == 19)
        }
        Some(b'c') => {
            (starts(b"client-cert") && name.len() == 11)
                || (starts(b"client-cert-chain") && name.len() == 17)
        }
        Some(b't') => starts(b"true-client-ip") && name.len() == 14,
        Some(b'f') => name == "forwarded",
        _ => false,
    }
}

type Options<'a> = SmallVec<[&'a str; 4]>;

/// Fields that `Connection` names, except those that no hop may take away.
fn connection_options(headers: &HeaderMap) -> Options<'_> {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|option| {
            !option.is_empty()
                && !["close", "keep-alive"]
                    .iter()
                    .any(|known| option.eq_ignore_ascii_case(known))
                && !KEPT.iter().any(|kept| option.eq_ignore_ascii_case(kept))
        })
        .collect()
}

/// End-to-end whatever `Connection` says: removing them would change what the request means.
const KEPT: &[&str] = &[
    "host",
    "content-length",
    "content-type",
    "content-encoding",
    "authorization",
    "cookie",
    "set-cookie",
    "cache-control",
    "etag",
    "vary",
    "expires",
    "age",
    "date",
];

fn is_listed(listed: &Options<'_>, name: &str) -> bool {
    listed
        .iter()
        .any(|option| option.eq_ignore_ascii_case(name))
}

/// A request id as a field value.
pub(super) fn id_value(id: Uuid) -> HeaderValue {
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    let text = id.hyphenated().encode_lower(&mut text);
    HeaderValue::from_maybe_shared(Bytes::copy_from_slice(text.as_bytes()))
        .unwrap_or_else(|_impossible| HeaderValue::from_static(""))
}

/// Adds what Headgate says about an endpoint's answer, whoever reads it.
pub(super) fn sign(headers: &mut HeaderMap) {
    headers.append(VIA, VIA_US);
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn peer() -> Peer {
        Peer::new(
            "192.0.2.7:1234".parse().unwrap(),
            "192.0.2.1:80".parse().unwrap(),
            true,
            1,
        )
    }

    fn sent(fields: &[(&str, &str)]) -> HeaderMap {
        let mut request = Request::get("/");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        for_upstream(&parts, &peer(), Uuid::nil())
    }

    #[test]
    fn the_hop_and_what_it_lists_stay_behind() {
        let headers = sent(&[
            ("host", "shop"),
            ("connection", "keep-alive, X-Mine"),
            ("x-mine", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("accept", "*/*"),
        ]);
        for gone in ["connection", "x-mine", "keep-alive", "te", "upgrade"] {
            assert!(!headers.contains_key(gone), "{gone}");
        }
        assert_eq!(headers["accept"], "*/*");
    }

    #[test]
    fn connection_cannot_take_away_what_we_add_or_what_the_request_means() {
        let headers = sent(&[
            ("host", "shop"),
            (
                "connection",
                "x-forwarded-for, via, x-request-id, host, authorization",
            ),
            ("authorization", "Bearer x"),
        ]);
        assert_eq!(headers["x-forwarded-for"], "192.0.2.7");
        assert_eq!(headers["via"], "1.1 headgate");
        assert_eq!(headers["x-request-id"], Uuid::nil().to_string().as_str());
        assert_eq!(headers["host"], "shop");
        assert_eq!(headers["authorization"], "Bearer x");
    }

    #[test]
    fn no_spelling_of_a_claim_gets_through() {
        let claims = [
            "x-forwarded-for",
            "x_forwarded_for",
            "X.Forwarded.For",
            "x-forwarded-prefix",
            "X_Forwarded-Host",
            "forwarded",
            "x-real-ip",
            "x_real_ip",
            "x_request_id",
            "true-client-ip",
            "x-client-ip",
            "client-cert",
            "Client_Cert",
            "client.cert-chain",
        ];
        let fields: Vec<_> = claims.iter().map(|name| (*name, "6.6.6.6")).collect();
        let headers = sent(&fields);
        assert!(
            headers.values().all(|value| value != "6.6.6.6"),
            "{headers:?}"
        );
        assert_eq!(headers["x-forwarded-proto"], "https");
    }

    #[test]
    fn a_verified_certificate_is_told_and_no_connection_option_takes_it_away() {
        let mut peer = peer();
        peer.tls = Some(Box::new(crate::wire::Tls {
            version: "TLSv1.3",
            cipher: "TLS_AES_128_GCM_SHA256",
            client_cert: Some(crate::wire::ClientCert {
                leaf: HeaderValue::from_static(":AAEC:"),
                chain: Some(HeaderValue::from_static(":Aw==:")),
            }),
            scope: None,
        }));
        let request = Request::get("/")
            .header("connection", "client-cert, client-cert-chain")
            .header("client-cert", ":Zm9yZ2Vk:")
            .header("client_cert_chain", ":Zm9yZ2Vk:");
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let headers = for_upstream(&parts, &peer, Uuid::nil());
        let all: Vec<_> = headers.get_all("client-cert").iter().collect();
        assert_eq!(all, [":AAEC:"]);
        assert_eq!(headers["client-cert-chain"], ":Aw==:");
        assert!(!headers.contains_key("client_cert_chain"));
    }

    #[test]
    fn earlier_proxies_stay_in_via() {
        let headers = sent(&[("host", "shop"), ("via", "1.0 edge")]);
        let via: Vec<_> = headers.get_all("via").iter().collect();
        assert_eq!(via, ["1.0 edge", "1.1 headgate"]);
    }

    #[test]
    fn an_answer_loses_its_hop_too() {
        let mut headers = HeaderMap::new();
        headers.insert("connection", HeaderValue::from_static("close, x-internal"));
        headers.insert("x-internal", HeaderValue::from_static("1"));
        headers.insert("transfer-encoding", HeaderValue::from_static("chunked"));
        headers.insert("etag", HeaderValue::from_static("\"a\""));
        for_client(&mut headers);
        assert_eq!(headers.len(), 1);
        assert!(headers.contains_key("etag"));
    }
}
