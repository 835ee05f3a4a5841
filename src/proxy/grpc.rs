//! Headgate's own errors for gRPC clients: they read `grpc-status`, not the status of HTTP.
//!
//! `respond` asks whether a request is gRPC and then answers with the head alone ("trailers-only"),
//! `200` and the status that gRPC's clients act on. `UNAVAILABLE` is what they try again.

use std::fmt::Write as _;

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// A status code of gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    DeadlineExceeded = 4,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

/// Whether a request is gRPC: `application/grpc`, with or without what it carries.
pub(super) fn is_call(request: &HeaderMap) -> bool {
    const KIND: &[u8] = b"application/grpc";
    request.get(CONTENT_TYPE).is_some_and(|kind| {
        let (start, rest) = kind
            .as_bytes()
            .split_at_checked(KIND.len())
            .unwrap_or_default();
        start.eq_ignore_ascii_case(KIND)
            && matches!(rest.first(), None | Some(b'+' | b';' | b'-' | b' '))
    })
}

/// The head of an answer that says what the status and the words of a refusal say.
pub(super) fn say(headers: &mut HeaderMap, status: StatusCode, words: &str) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, HeaderValue::from(code(status) as u16));
    if let Ok(message) = HeaderValue::try_from(encode(words)) {
        headers.insert(GRPC_MESSAGE, message);
    }
}

fn code(status: StatusCode) -> Code {
    match status {
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
            Code::Unimplemented
        }
        StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => Code::DeadlineExceeded,
        StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::URI_TOO_LONG
        | StatusCode::TOO_MANY_REQUESTS
        | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Code::ResourceExhausted,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
        _ => Code::Internal,
    }
}

/// Percent-encoded where gRPC asks for it: all but printable ASCII, and `%` itself.
fn encode(words: &str) -> String {
    let mut out = String::with_capacity(words.len());
    for byte in words.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            out.push(char::from(byte));
        } else {
            // A string takes whatever is written to it.
            let _written = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_by_their_type() {
        let call = |kind: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_str(kind).unwrap());
            is_call(&headers)
        };
        for kind in [
            "application/grpc",
            "application/grpc+proto",
            "Application/gRPC; a=b",
            "application/grpc-web+proto",
        ] {
            assert!(call(kind), "{kind}");
        }
        for kind in [
            "application/grpcx",
            "application/json",
            "",
            "text/application/grpc",
        ] {
            assert!(!call(kind), "{kind}");
        }
        assert!(!is_call(&HeaderMap::new()));
    }

    #[test]
    fn statuses_become_codes_that_clients_act_on() {
        for (status, code) in [
            (400, "13"),
            (401, "16"),
            (403, "7"),
            (404, "12"),
            (405, "12"),
            (408, "4"),
            (413, "8"),
            (429, "8"),
            (431, "8"),
            (501, "12"),
            (502, "14"),
            (503, "14"),
            (504, "4"),
            (505, "13"),
        ] {
            let mut headers = HeaderMap::new();
            say(
                &mut headers,
                StatusCode::from_u16(status).unwrap(),
                "100 % \u{e9}",
            );
            assert_eq!(headers["grpc-status"], code, "{status}");
            assert_eq!(headers["grpc-message"], "100 %25 %C3%A9");
        }
    }
}
