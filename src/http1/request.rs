//! The head of a request (RFC 9112 sections 3 and 5).
//!
//! `server` feeds the bytes that a client has sent. Invariant: a head that is handed out is whole,
//! has one target in one form and one framing; everything else is a `wire::Fault`.

use bytes::Bytes;
use http::header;
use http::{Method, Uri, Version};
use memchr::memchr;

use crate::wire::{Fault, Head};

use super::framing::Noted;
use super::lines::Lines;
use super::memory::Memory;
use super::{Framing, Limits, fields};

/// The longest method; the longest one registered has 17 bytes.
const METHOD: usize = 32;
/// A space, and `HTTP/1.1`.
const VERSION: usize = 9;

/// What a client expects before it sends its body (RFC 9110 section 10.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Nothing,
    /// `100 Continue`.
    Continue,
    /// Something that nobody knows: `417`.
    Unknown,
}

/// A request's head.
#[derive(Debug)]
pub struct RequestHead {
    /// Its method; its target: a path and query, `*` (`OPTIONS` only), an absolute `http` or `https` URI, or
    /// an authority (`CONNECT` only); HTTP/1.0 or HTTP/1.1, as which a higher minor version counts (RFC 9110
    /// section 2.5); and all of its fields, hop-by-hop ones too.
    pub parts: Head,
    /// `None`, `Length` or `Chunked`.
    pub framing: Framing,
    /// Whether the client lets the connection be used again.
    pub persists: bool,
    /// What it expects; nothing in HTTP/1.0.
    pub expect: Expect,
    /// Whether it takes trailers.
    pub trailers: bool,
    /// `Connection` names `Upgrade`.
    upgrade: bool,
}

impl RequestHead {
    /// The protocol, in lower case, that this request offers to go on in: one `Upgrade` of one
    /// protocol on a `GET` without a body. `h2c` is never one, nor is HTTP itself.
    #[must_use]
    pub fn offers(&self) -> Option<String> {
        if !self.upgrade
            || self.parts.version != Version::HTTP_11
            || self.parts.method != Method::GET
            || self.framing != Framing::None
        {
            return None;
        }
        let mut lines = self.parts.headers.get_all(header::UPGRADE).iter();
        let (Some(protocol), None) = (lines.next(), lines.next()) else {
            return None;
        };
        if !fields::is_token(protocol.as_bytes()) {
            return None;
        }
        let protocol = protocol.to_str().ok()?.to_ascii_lowercase();
        (!matches!(protocol.as_str(), "h2c" | "h2" | "http")).then_some(protocol)
    }
}

/// Reads the heads of a connection's requests, one after the other.
#[derive(Debug, Default)]
pub struct RequestParser {
    lines: Lines,
    /// Lines of an unfinished head that were looked at already.
    checked: usize,
    memory: Memory,
}

impl RequestParser {
    /// The head that `input` begins with and its length in bytes, or `None` while it is not whole.
    /// Each call must be given what the one before was given, and what has come since. One empty line
    /// before the request line is skipped (RFC 9112 section 2.2).
    ///
    /// # Errors
    /// As soon as it is certain that no good head can come of it. The parser is of no use after that.
    pub fn parse(
        &mut self,
        input: &[u8],
        limits: &Limits,
    ) -> Result<Option<(RequestHead, usize)>, Fault> {
        let start = match input {
            [] => return Ok(None),
            [b'\r', b'\n', ..] => 2,
            [b'\r'] => return Ok(None),
            _ => 0,
        };
        let most = limits.fields.saturating_add(1);
        let Some(end) = self.lines.end(input, start, most)? else {
            return self.unfinished(input, start, limits).map(|()| None);
        };
        if end.saturating_sub(start) > limits.head_bytes {
            return Err(self.too_large(limits, start));
        }
        let head = self.memory.copy(input.get(start..end).unwrap_or_default());
        let result = self
            .whole(&head, start, limits)
            .map(|head| Some((head, end)));
        self.lines.clear();
        self.checked = 0;
        result
    }

    /// Gives back the parser's memory; only between heads.
    pub fn rest(&mut self) {
        debug_assert_eq!(self.lines.count(), 0, "in the middle of a head");
        self.lines.reset();
        self.memory.reset();
    }

    /// `start` is the offset of `head` in the input, from which `lines` counts.
    fn whole(&self, head: &Bytes, start: usize, limits: &Limits) -> Result<RequestHead, Fault> {
        let ranges = |first| {
            let local = move |(from, to): (usize, usize)| {
                (from.saturating_sub(start), to.saturating_sub(start))
            };
            self.lines.ranges(start, first).map(local)
        };
        let Some((_, to)) = ranges(0).next() else {
            return Err(Fault::Malformed("an empty request line"));
        };
        let line = request_line(head.get(..to).unwrap_or_default(), limits)?;
        let target = head.slice(line.target.0..line.target.1);
        let uri = uri(target, &line.method)?;

        let mut noted = Noted::default();
        let count = self.lines.count().saturating_sub(1);
        let mut request = Head::new(count);
        let parts = request.parts();
        fields::parse(head, ranges(1), &mut parts.headers, |name, value| {
            noted.look(name, value).map(|()| true)
        })?;
        parts.method = line.method;
        parts.uri = uri;
        parts.version = line.version;
        let framing = noted.framing(line.version)?.unwrap_or(Framing::None);
        Ok(RequestHead {
            parts: request,
            framing,
            persists: noted.persists(line.version),
            expect: match noted.expect {
                Some(_) if line.version == Version::HTTP_10 => Expect::Nothing,
                Some(true) => Expect::Continue,
                Some(false) => Expect::Unknown,
                None => Expect::Nothing,
            },
            trailers: noted.trailers,
            upgrade: noted.upgrade,
        })
    }

    /// Looks at what came since the last call of a head that is not whole.
    fn unfinished(&mut self, input: &[u8], start: usize, limits: &Limits) -> Result<(), Fault> {
        let come = input.len().saturating_sub(start);
        let line = |(from, to): (usize, usize)| input.get(from..to).unwrap_or_default();
        if self.lines.count() == 0 {
            begins_well(input.get(start..).unwrap_or_default(), limits)?;
        } else if self.checked == 0
            && let Some(first) = self.lines.ranges(start, 0).next()
        {
            request_line(line(first), limits)?;
            self.checked = 1;
        }
        for range in self.lines.ranges(start, self.checked.max(1)) {
            fields::check(line(range))?;
        }
        self.checked = self.lines.count();
        if come > limits.head_bytes {
            return Err(self.too_large(limits, start));
        }
        Ok(())
    }

    /// Which limit a head breaks that has too many bytes.
    fn too_large(&self, limits: &Limits, start: usize) -> Fault {
        let longest = limits.target_bytes.saturating_add(METHOD + 1 + VERSION);
        let first = self.lines.ranges(start, 0).next();
        match first {
            Some((from, to)) if to.saturating_sub(from) <= longest => Fault::HeadTooLarge,
            _ => Fault::TargetTooLong,
        }
    }
}

struct RequestLine {
    method: Method,
    target: (usize, usize),
    version: Version,
}

fn request_line(line: &[u8], limits: &Limits) -> Result<RequestLine, Fault> {
    if line.is_empty() {
        return Err(Fault::Malformed("an empty request line"));
    }
    let space = memchr(b' ', line).ok_or(Fault::Malformed("a request line without a target"))?;
    let method = line.get(..space).unwrap_or_default();
    if method.len() > METHOD {
        return Err(Fault::Malformed("a method that is too long"));
    }
    let method = Method::from_bytes(method)
        .map_err(|_invalid| Fault::Malformed("a method that is no token"))?;
    let from = space.saturating_add(1);
    let to = line.len().saturating_sub(VERSION);
    let Some((target, tail)) = line.get(from..).and_then(|rest| {
        let at = rest.len().checked_sub(VERSION)?;
        rest.split_at_checked(at)
    }) else {
        return Err(Fault::Malformed("a request line without a version"));
    };
    let version = match tail {
        b" HTTP/1.1" => Version::HTTP_11,
        b" HTTP/1.0" => Version::HTTP_10,
        [b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            if *major != b'1' {
                return Err(Fault::Version);
            }
            Version::HTTP_11
        }
        _ => return Err(Fault::Malformed("a request line without a version")),
    };
    if target.len() > limits.target_bytes {
        return Err(Fault::TargetTooLong);
    }
    check_target(target)?;
    Ok(RequestLine {
        method,
        target: (from, to),
        version,
    })
}

/// Bytes that no URI has, and the fragment, which is never sent (RFC 9112 section 3.2).
fn check_target(target: &[u8]) -> Result<(), Fault> {
    let wrong = |byte: &u8| *byte <= b' ' || *byte >= 0x7f || *byte == b'#';
    // No early end, so that many bytes are looked at at once.
    if !target.iter().fold(false, |found, byte| found | wrong(byte)) {
        return Ok(());
    }
    Err(Fault::Malformed(match target.iter().find(|b| wrong(b)) {
        Some(b' ') => "a space in the request's target",
        Some(b'#') => "a fragment in the request's target",
        Some(0x80..) => "a byte in the request's target that is not ASCII",
        _ => "a control byte in the request's target",
    }))
}

/// The target in the form that its method allows (RFC 9112 section 3.2).
fn uri(target: Bytes, method: &Method) -> Result<Uri, Fault> {
    let first = target.first().copied();
    let asterisk = *target == *b"*";
    let uri = Uri::from_maybe_shared(target)
        .map_err(|_invalid| Fault::Malformed("a target that is not a URI"))?;
    let fits = if *method == Method::CONNECT {
        uri.scheme().is_none() && uri.port_u16().is_some() && uri.path_and_query().is_none()
    } else if asterisk {
        *method == Method::OPTIONS
    } else {
        first == Some(b'/')
            || (matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some())
    };
    if fits {
        Ok(uri)
    } else {
        Err(Fault::Malformed(
            "a target in a form that the method does not have",
        ))
    }
}

/// Whether `part`, which holds no line feed, can become a request line.
fn begins_well(part: &[u8], limits: &Limits) -> Result<(), Fault> {
    let method = part.iter().take(METHOD + 1);
    let length = method
        .take_while(|byte| fields::is_token_byte(**byte))
        .count();
    if length > METHOD {
        return Err(Fault::Malformed("a method that is too long"));
    }
    match (length, part.get(length)) {
        (0, Some(_)) => return Err(Fault::Malformed("a method that is no token")),
        (_, None | Some(b' ')) => {}
        (_, Some(_)) => return Err(Fault::Malformed("a method that is no token")),
    }
    let longest = limits.target_bytes.saturating_add(METHOD + 1 + VERSION + 1);
    if part.len() > longest {
        return Err(Fault::TargetTooLong);
    }
    Ok(())
}
