//! Headgate's own errors for gRPC clients: they read `grpc-status`, not the status of HTTP.
//!
//! `respond` asks whether a request is gRPC or gRPC-Web and then answers with the head alone
//! ("trailers-only"), `200` and the status that gRPC's clients act on. `UNAVAILABLE` is what they try
//! again. Invariant: the answer has the media type that the client speaks, or it would not be read.

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

/// How a call is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// As gRPC itself has it.
    Plain,
    /// gRPC-Web, which browsers speak.
    Web,
    /// The same in base64.
    WebText,
}

impl Call {
    /// The call that a request is, told by its media type: what the messages are encoded in and parameters
    /// do not matter.
    pub(super) fn of(request: &HeaderMap) -> Option<Self> {
        let kind = request.get(CONTENT_TYPE)?.as_bytes();
        let end = kind.iter().position(|byte| b"+; \t".contains(byte));
        let kind = kind.get(..end.unwrap_or(kind.len()))?;
        let all = [Self::Plain, Self::Web, Self::WebText];
        all.into_iter()
            .find(|call| call.kind().as_bytes().eq_ignore_ascii_case(kind))
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Plain => "application/grpc",
            Self::Web => "application/grpc-web",
            Self::WebText => "application/grpc-web-text",
        }
    }

    /// The head of an answer that says what the status and the words of a refusal say. Clients of gRPC-Web
    /// too read the status from the head where an answer has no body, but only under their own type.
    pub(super) fn say(self, headers: &mut HeaderMap, status: StatusCode, words: &str) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.kind()));
        headers.insert(GRPC_STATUS, HeaderValue::from(code(status) as u16));
        if let Ok(message) = HeaderValue::try_from(encode(words)) {
            headers.insert(GRPC_MESSAGE, message);
        }
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
            Call::of(&headers)
        };
        for (kind, expected) in [
            ("application/grpc", Call::Plain),
            ("application/grpc+proto", Call::Plain),
            ("Application/gRPC; a=b", Call::Plain),
            ("application/grpc;charset=utf-8", Call::Plain),
            ("application/grpc-web", Call::Web),
            ("application/grpc-web+proto", Call::Web),
            ("APPLICATION/GRPC-WEB+json ; charset=utf-8", Call::Web),
            ("application/grpc-web-text", Call::WebText),
            ("application/grpc-web-text+proto", Call::WebText),
        ] {
            assert_eq!(call(kind), Some(expected), "{kind}");
        }
        for kind in [
            "application/grpcx",
            "application/grpc-",
            "application/grpc-other+proto",
            "application/grpc-webx",
            "application/json",
            "",
            "text/application/grpc",
        ] {
            assert_eq!(call(kind), None, "{kind}");
        }
        assert_eq!(Call::of(&HeaderMap::new()), None);
    }

    #[test]
    fn an_answer_has_the_type_that_was_asked_in() {
        for (call, kind) in [
            (Call::Plain, "application/grpc"),
            (Call::Web, "application/grpc-web"),
            (Call::WebText, "application/grpc-web-text"),
        ] {
            let mut headers = HeaderMap::new();
            call.say(&mut headers, StatusCode::BAD_GATEWAY, "x");
            assert_eq!(headers[CONTENT_TYPE], kind);
            assert_eq!(headers["grpc-status"], "14");
        }
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
            Call::Plain.say(
                &mut headers,
                StatusCode::from_u16(status).unwrap(),
                "100 % \u{e9}",
            );
            assert_eq!(headers["grpc-status"], code, "{status}");
            assert_eq!(headers["grpc-message"], "100 %25 %C3%A9");
        }
    }
}
