//! The handshake of WebSocket, where one side of Headgate has it and the other has not.
//!
//! In HTTP/1.1 a client proves with `Sec-WebSocket-Key` and a server with `Sec-WebSocket-Accept` that
//! they speak WebSocket (RFC 6455 section 4); in HTTP/2 neither field exists (RFC 8441 section 5).
//! `http1` and `http2` offer tunnels with this. Invariant: an endpoint that does not prove itself
//! opens no tunnel, whoever asked for it.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{HeaderMap, HeaderName, HeaderValue, UPGRADE};

use crate::metrics::ProxyError as Reason;

use super::error::Failed;

const KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
const ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");
/// RFC 6455 section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const PROTOCOL: &str = "websocket";

/// What an endpoint must prove before its tunnel opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Proof {
    /// Nothing: it is another protocol, or the client checks for itself.
    None,
    /// Knowledge of the key that was made here.
    Accept(Box<str>),
}

/// Puts the offer of `protocol` into the fields of a request over HTTP/1.1.
pub(super) fn offer(headers: &mut HeaderMap, protocol: Option<&str>) -> Proof {
    let Some(protocol) = protocol else {
        return Proof::None;
    };
    let Ok(value) = HeaderValue::from_str(protocol) else {
        return Proof::None;
    };
    headers.insert(UPGRADE, value);
    if protocol != PROTOCOL || headers.contains_key(KEY) {
        return Proof::None;
    }
    let key = STANDARD.encode(fastrand::u128(..).to_ne_bytes());
    if let Ok(value) = HeaderValue::from_str(&key) {
        headers.insert(KEY, value);
    }
    headers
        .entry(HeaderName::from_static("sec-websocket-version"))
        .or_insert(HeaderValue::from_static("13"));
    Proof::Accept(accept(key.as_bytes()).into())
}

/// Holds an answer of `101` against what was to be proven.
pub(super) fn check(headers: &mut HeaderMap, proof: Proof) -> Result<(), Failed> {
    let Proof::Accept(expected) = proof else {
        return Ok(());
    };
    match headers.remove(ACCEPT) {
        Some(given) if given.as_bytes() == expected.as_bytes() => Ok(()),
        _ => Err(Failed::new(Reason::HttpUpgradeFailed)),
    }
}

/// An endpoint agreed over HTTP/2: proves it to a client of HTTP/1.1, if it asked with `key`.
pub(super) fn prove(headers: &mut HeaderMap, key: Option<&HeaderValue>) {
    if let Some(key) = key
        && let Ok(value) = HeaderValue::try_from(accept(key.as_bytes()))
    {
        headers.insert(ACCEPT, value);
    }
}

/// The client's key, which has no place in HTTP/2.
pub(super) fn take_key(headers: &mut HeaderMap) -> Option<HeaderValue> {
    headers.remove(KEY)
}

fn accept(key: &[u8]) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc_is_accepted() {
        assert_eq!(
            accept(b"dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn a_client_without_a_key_is_given_one_that_must_be_proven() {
        let mut headers = HeaderMap::new();
        let proof = offer(&mut headers, Some("websocket"));
        assert_eq!(headers[KEY].len(), 24);
        assert_eq!(headers["upgrade"], "websocket");
        assert_eq!(headers["sec-websocket-version"], "13");
        let mut answer = HeaderMap::new();
        assert!(check(&mut answer, proof.clone()).is_err());
        prove(&mut answer, headers.get(KEY));
        check(&mut answer, proof).unwrap();
        assert!(answer.is_empty(), "the client never asked for it");
    }

    #[test]
    fn a_clients_own_key_and_other_protocols_are_left_alone() {
        let mut headers = HeaderMap::new();
        headers.insert(KEY, HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        assert_eq!(offer(&mut headers, Some("websocket")), Proof::None);
        let mut headers = HeaderMap::new();
        assert_eq!(offer(&mut headers, Some("ipp")), Proof::None);
        assert!(!headers.contains_key(KEY));
        assert_eq!(offer(&mut headers, None), Proof::None);
    }
}
