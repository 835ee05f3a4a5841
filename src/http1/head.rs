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

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, StatusCode, Version};

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

/// Writes the head of a request, field by field.
#[derive(Debug)]
pub struct RequestEncoder<'a>(&'a mut Vec<u8>);

impl<'a> RequestEncoder<'a> {
    /// Writes the request line. `target` is in origin form, or `*`.
    pub fn begin(out: &'a mut Vec<u8>, method: &Method, target: &PathAndQuery) -> Self {
        out.extend_from_slice(method.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(target.as_str().as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\n");
        Self(out)
    }

    /// Writes a field, unless `finish` has the say about it.
    pub fn field(&mut self, name: &HeaderName, value: &HeaderValue) {
        if !is_ours(name) {
            field(self.0, name.as_str(), value.as_bytes());
        }
    }

    /// Writes how the body is framed and the option for `Connection`, and ends the head.
    pub fn finish(self, framing: Framing, connection: Option<&str>) {
        write_ours(self.0, framing, connection);
        self.0.extend_from_slice(b"\r\n");
    }
}

/// Writes the head of a request whose fields are in a map. `target` is in origin form, or `*`.
pub fn encode_request(
    out: &mut Vec<u8>,
    method: &Method,
    target: &PathAndQuery,
    fields: Fields<'_>,
) {
    let mut head = RequestEncoder::begin(out, method, target);
    for (name, value) in fields.headers {
        head.field(name, value);
    }
    head.finish(fields.framing, fields.connection);
}

/// Begins the head of a final answer, or of `101`, in the client's `version`. `end_answer` ends it.
pub fn begin_answer(out: &mut Vec<u8>, version: Version, status: StatusCode) {
    status_line(out, version, status);
}

/// Writes the fields of an answer and ends its head. `described` says that `headers` may tell the length
/// of a body that does not follow (an answer to `HEAD`, or a `304`); `date` is a clock's, if there is
/// one.
pub fn end_answer(out: &mut Vec<u8>, fields: Fields<'_>, described: bool, date: Option<&[u8]>) {
    let has_date = write_fields(out, fields, described);
    if let Some(date) = date.filter(|_| !has_date) {
        field(out, "date", date);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the head of an informational answer, which has no length and no date.
pub fn encode_informational(out: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap) {
    status_line(out, Version::HTTP_11, status);
    let fields = Fields {
        headers,
        framing: Framing::None,
        connection: None,
    };
    let _has_date = write_fields(out, fields, false);
    out.extend_from_slice(b"\r\n");
}

fn status_line(out: &mut Vec<u8>, version: Version, status: StatusCode) {
    if status == StatusCode::OK && version == Version::HTTP_11 {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(match version {
        Version::HTTP_10 => b"HTTP/1.0 ",
        _ => b"HTTP/1.1 ",
    });
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes the fields of an answer; says whether `Date` is among them.
fn write_fields(out: &mut Vec<u8>, fields: Fields<'_>, described: bool) -> bool {
    let mut told = !described;
    let mut has_date = false;
    for (name, value) in fields.headers {
        if is_ours(name) {
            // The first length of an answer whose body stays behind tells of that body.
            if *name != header::CONTENT_LENGTH || std::mem::replace(&mut told, true) {
                continue;
            }
        } else if *name == header::DATE {
            has_date = true;
        }
        field(out, name.as_str(), value.as_bytes());
    }
    let framing = if described {
        Framing::None
    } else {
        fields.framing
    };
    write_ours(out, framing, fields.connection);
    has_date
}

/// Whether a field is stated by the encoder.
fn is_ours(name: &HeaderName) -> bool {
    *name == header::CONTENT_LENGTH
        || *name == header::TRANSFER_ENCODING
        || *name == header::CONNECTION
}

fn write_ours(out: &mut Vec<u8>, framing: Framing, connection: Option<&str>) {
    match framing {
        Framing::Length(length) => {
            field(
                out,
                "content-length",
                itoa::Buffer::new().format(length).as_bytes(),
            );
        }
        Framing::Chunked => field(out, "transfer-encoding", b"chunked"),
        Framing::None | Framing::UntilClose | Framing::Tunnel => {}
    }
    if let Some(option) = connection {
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
