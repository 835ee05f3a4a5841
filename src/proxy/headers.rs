//! Which header fields pass through, and which are ours.
//!
//! `forward` tells each attempt's fields from the client's head with `for_upstream`, and prepares an
//! answer's head with `for_client`. What does not pass was taken away by `sift` already. Invariant: ours
//! are added to what is left, so no `Connection` option can delete what Headgate says, and no spelling of
//! a forwarding field stands beside it.

use http::Version;
use http::header::{
    CONTENT_SECURITY_POLICY, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, LINK,
    REFERRER_POLICY, TRAILER, VIA,
};
use http::request::Parts;

use crate::balancer::Endpoint;
use crate::config::model::{Config, Forwarding};
use crate::wire::Peer;
use crate::wire::fields;

use super::forwarded::{self, About};
use super::normalize;
use super::trust::Client;

pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(super) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// RFC 9440: only ever ours, made from a certificate that was verified.
const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");

/// Tells the fields of a request to an endpoint: the client's, of which those that do not pass are gone,
/// and then ours. `Expect` stays: what it asks for is the endpoint's to grant.
pub(super) fn for_upstream(
    request: &Parts,
    peer: &Peer,
    client: &Client,
    config: &Config,
    id: &HeaderValue,
    each: &mut dyn FnMut(&HeaderName, &HeaderValue),
) {
    for (name, value) in &request.headers {
        each(name, value);
    }
    if config.forwarded != Forwarding::Rfc7239 {
        x_forwarded(&request.headers, peer, client, each);
    }
    if config.forwarded != Forwarding::XForwarded
        && let Some(value) = rfc7239(request, peer, client)
    {
        each(&FORWARDED, &value);
    }
    if let Some(cert) = peer.tls.as_ref().and_then(|tls| tls.client_cert.as_ref()) {
        each(&CLIENT_CERT, &cert.leaf);
        if let Some(chain) = &cert.chain {
            each(&CLIENT_CERT_CHAIN, chain);
        }
    }
    each(&VIA, via(request.version));
    each(&X_REQUEST_ID, id);
}

fn x_forwarded(
    sent: &HeaderMap,
    peer: &Peer,
    client: &Client,
    each: &mut dyn FnMut(&HeaderName, &HeaderValue),
) {
    static HTTP: HeaderValue = HeaderValue::from_static("http");
    static HTTPS: HeaderValue = HeaderValue::from_static("https");
    let told = client.told.as_deref();
    let chain = told.and_then(|told| forwarded::write_list(&told.hops));
    each(
        &X_FORWARDED_FOR,
        chain.as_ref().unwrap_or(&peer.forwarded_for),
    );
    each(
        &X_FORWARDED_PROTO,
        if client.secure { &HTTPS } else { &HTTP },
    );
    let host = told.and_then(|told| told.host.as_ref());
    if let Some(host) = host.or_else(|| sent.get(HOST)) {
        each(&X_FORWARDED_HOST, host);
    }
}

fn rfc7239(request: &Parts, peer: &Peer, client: &Client) -> Option<HeaderValue> {
    let ours = About {
        host: normalize::host(request),
        secure: peer.secure,
    };
    let Some(told) = client.told.as_deref() else {
        return forwarded::write_elements([peer.address.ip()].into_iter(), ours, ours);
    };
    let host = told.host.as_ref().and_then(|host| host.to_str().ok());
    let theirs = About {
        host: host.unwrap_or_default(),
        secure: client.secure,
    };
    forwarded::write_elements(told.hops.iter().copied(), theirs, ours)
}

/// `Via` names the version in which a message was received (RFC 9110 section 7.6.3).
fn via(version: Version) -> &'static HeaderValue {
    static HTTP_10: HeaderValue = HeaderValue::from_static("1.0 headgate");
    static HTTP_11: HeaderValue = HeaderValue::from_static("1.1 headgate");
    static HTTP_2: HeaderValue = HeaderValue::from_static("2.0 headgate");
    match version {
        Version::HTTP_10 => &HTTP_10,
        Version::HTTP_2 => &HTTP_2,
        _ => &HTTP_11,
    }
}

/// What of an informational answer is for the client: hints, which bind nobody (RFC 8297).
pub(super) fn for_early(sent: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for name in [LINK, CONTENT_SECURITY_POLICY, REFERRER_POLICY] {
        for value in sent.get_all(&name) {
            headers.append(&name, value.clone());
        }
    }
    headers
}

/// HTTP/1.0 may come without a `Host`, HTTP/1.1 may not go without one (RFC 9112 section 3.2): then
/// the endpoint is named by its own address.
pub(super) fn ensure_host(headers: &mut HeaderMap, version: Version, endpoint: &Endpoint) {
    if version != Version::HTTP_10 || headers.contains_key(HOST) {
        return;
    }
    if let Ok(address) = HeaderValue::from_str(endpoint.host()) {
        headers.insert(HOST, address);
    }
}

/// Removes from an answer what belongs to the endpoint's hop. What it says of trailers is for a client
/// that takes them.
pub(super) fn for_client(headers: &mut HeaderMap, takes_trailers: bool) {
    let announced: Vec<HeaderValue> = match headers.contains_key(TRAILER) && takes_trailers {
        true => headers.get_all(TRAILER).iter().cloned().collect(),
        false => Vec::new(),
    };
    fields::strip_hop(headers);
    for line in announced {
        headers.append(TRAILER, line);
    }
}

/// Adds what Headgate says about an endpoint's answer that came in this version, whoever reads it.
pub(super) fn sign(headers: &mut HeaderMap, version: Version) {
    headers.append(VIA, via(version).clone());
}

#[cfg(test)]
mod tests {
    use super::super::sift;
    use super::*;
    use http::Request;

    fn peer() -> Peer {
        Peer::new(
            std::net::SocketAddr::from(([192, 0, 2, 7], 1234)),
            Some(std::net::SocketAddr::from(([192, 0, 2, 1], 80))),
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
        sifted(parts, &peer())
    }

    fn sifted(mut parts: Parts, peer: &Peer) -> HeaderMap {
        let config = config("x-forwarded");
        sift::request(&mut parts.headers, peer, &client(), &config);
        told(&parts, peer, &config)
    }

    fn told(request: &Parts, peer: &Peer, config: &Config) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let id = HeaderValue::from_static("the-id");
        for_upstream(request, peer, &client(), config, &id, &mut |name, value| {
            headers.append(name, value.clone());
        });
        headers
    }

    fn client() -> Client {
        Client {
            address: peer().address,
            secure: true,
            told: None,
        }
    }

    fn config(forwarded: &str) -> Config {
        let text = format!(
            "listeners: [{{ address: 127.0.0.1:0 }}]\nupstreams: {{ a: {{ endpoints: [h:1] }} }}\n\
             routes: [{{ name: a, match: {{ path_prefix: / }}, upstream: a }}]\nforwarded: {forwarded}\n"
        );
        crate::config::parse(&text, std::path::Path::new("x.yaml"))
            .unwrap()
            .config
    }

    #[test]
    fn the_client_is_named_in_the_fields_that_the_config_chooses() {
        for (mode, x, rfc) in [
            ("x-forwarded", true, false),
            ("rfc7239", false, true),
            ("both", true, true),
        ] {
            let (parts, ()) = Request::get("/")
                .header("host", "shop:81")
                .version(Version::HTTP_2)
                .body(())
                .unwrap()
                .into_parts();
            let headers = told(&parts, &peer(), &config(mode));
            let get = |name: &str| headers.get(name).map(|value| value.to_str().unwrap());
            assert_eq!(get("x-forwarded-for"), x.then_some("192.0.2.7"));
            assert_eq!(get("x-forwarded-host"), x.then_some("shop:81"));
            let element = "for=192.0.2.7;host=\"shop:81\";proto=https";
            assert_eq!(get("forwarded"), rfc.then_some(element));
            assert_eq!(get("via"), Some("2.0 headgate"));
        }
    }

    #[test]
    fn the_hop_stays_behind() {
        let headers = sent(&[
            ("host", "shop"),
            ("connection", "keep-alive"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("accept", "*/*"),
        ]);
        for gone in ["connection", "keep-alive", "te", "upgrade"] {
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
        assert_eq!(headers["x-request-id"], "the-id");
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
        let headers = sifted(parts, &peer);
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
        headers.insert("trailer", HeaderValue::from_static("x-sum"));
        let mut taken = headers.clone();
        for_client(&mut taken, true);
        assert_eq!((taken.len(), taken.contains_key("trailer")), (2, true));
        for_client(&mut headers, false);
        assert_eq!(headers.len(), 1);
        assert!(headers.contains_key("etag"));
    }
}
