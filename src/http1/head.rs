//! Heads on their way out.
//!
//! What an encoder writes of its own, and nothing else:
//!
//! | field               | when                                                                      |
//! |---------------------|---------------------------------------------------------------------------|
//! | `content-length`    | `Framing::Length`                                                         |
//! | `transfer-encoding` | `Framing::Chunked`                                                        |
//! | `connection`        | when the caller names an option                                           |
//! | `date`              | answers without one, when the caller has a clock                          |
//!
//! Those three fields are never taken from the map, save the `content-length` of an answer that has
//! no body but tells of one (`HEAD`, `304`). Invariant: a head states its framing once. No value can
//! hold a CR or an LF: `HeaderValue`, `HeaderName`, `Method` and `PathAndQuery` cannot.

use http::header::{self, HeaderMap};
use http::uri::PathAndQuery;
use http::{Method, StatusCode};

use super::Framing;

/// What an encoder is told beside the start line.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    /// The message's fields.
    pub headers: &'a HeaderMap,
    /// How its body is framed.
    pub framing: Framing,
    /// An option for `Connection`: `close`, `keep-alive`, `upgrade`.
    pub connection: Option<&'static str>,
}

/// Writes the head of a request. `target` is in origin form, or `*`.
pub fn encode_request(
    out: &mut Vec<u8>,
    method: &Method,
    target: &PathAndQuery,
    fields: Fields<'_>,
) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_str().as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    write_fields(out, fields, false);
    out.extend_from_slice(b"\r\n");
}

/// Writes the head of a final answer, or of `101`. `described` says that `headers` may tell the length
/// of a body that does not follow (an answer to `HEAD`, or a `304`); `date` is a clock's, if there is
/// one.
pub fn encode_answer(
    out: &mut Vec<u8>,
    status: StatusCode,
    fields: Fields<'_>,
    described: bool,
    date: Option<&[u8]>,
) {
    status_line(out, status);
    write_fields(out, fields, described);
    if let Some(date) = date
        && !fields.headers.contains_key(header::DATE)
    {
        field(out, "date", date);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the head of an informational answer, which has no length and no date.
pub fn encode_informational(out: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap) {
    status_line(out, status);
    let fields = Fields {
        headers,
        framing: Framing::None,
        connection: None,
    };
    write_fields(out, fields, false);
    out.extend_from_slice(b"\r\n");
}

/// HTTP/1.1 whatever the client's version (RFC 9110 section 6.2).
fn status_line(out: &mut Vec<u8>, status: StatusCode) {
    if status == StatusCode::OK {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn write_fields(out: &mut Vec<u8>, fields: Fields<'_>, described: bool) {
    let mut told = !described;
    for (name, value) in fields.headers {
        if *name == header::CONTENT_LENGTH {
            if std::mem::replace(&mut told, true) {
                continue;
            }
        } else if *name == header::TRANSFER_ENCODING || *name == header::CONNECTION {
            continue;
        }
        field(out, name.as_str(), value.as_bytes());
    }
    match fields.framing {
        Framing::Length(length) if !described => {
            field(
                out,
                "content-length",
                itoa::Buffer::new().format(length).as_bytes(),
            );
        }
        Framing::Chunked if !described => field(out, "transfer-encoding", b"chunked"),
        _ => {}
    }
    if let Some(option) = fields.connection {
        field(out, "connection", option.as_bytes());
    }
}

/// Writes one field line.
pub(super) fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
