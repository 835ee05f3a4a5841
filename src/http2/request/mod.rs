//! From a header block to the one form of a request that the road knows (RFC 9113 section 8.3).
//!
//! `session` hands over whole blocks. Fields come from `hpack` ready made and are put together here, in one
//! pass: the target is in origin form (in absolute form with a scheme that is not the connection's), the authority is in `Host`, cookies are whole, and an extended
//! CONNECT is a `GET` that offers a tunnel. What is no request at all is `Malformed`; what is one that nobody
//! may send has a `Fault` for `wire::Handler::refuse`. Invariant: no field value here can end a line of
//! HTTP/1.1, and none says how a message is framed but one `Content-Length` that is true.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod cookie;

use bytes::BytesMut;
use http::header::{CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, Scheme};
use http::{Method, Uri, Version};

use crate::wire::{self, Fault};

use super::fields;
use super::hpack::{Come, Decoder, Entry, Field, Flaw, Refusal};
use cookie::Cookie;

/// How many times what is allowed a header block may come to before the connection ends; in between,
/// the request alone is refused.
pub(super) const EXCESS: usize = 2;
/// Room for fields that are not counted yet: `Host`, and those that the road adds.
const ADDED: usize = 4;

/// What a request may come to; more is refused with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Header fields.
    pub fields: usize,
    /// Bytes of them: names, values and 32 each (RFC 9113 section 10.5.1).
    pub bytes: usize,
    /// Bytes of `:path`.
    pub target: usize,
}

/// A request's head.
#[derive(Debug)]
pub struct Asked {
    /// The method, `GET` where a tunnel is offered; the target in origin form, in absolute form with a scheme that
    /// is not the connection's, or `*`, none for a plain CONNECT; and the fields, `Host` among them.
    pub head: wire::Head,
    /// The protocol of the tunnel that is offered, in lower case (RFC 8441).
    pub tunnel: Option<Box<str>>,
    /// What `Content-Length` says.
    pub length: Option<u64>,
    /// The client waits for `100` before it sends the body.
    pub expects: bool,
    /// Content may follow.
    pub follows: bool,
    /// Why it is refused, if it is.
    pub fault: Option<Fault>,
}

/// What a block of a request came to.
#[derive(Debug)]
pub(super) enum Read {
    Request(Asked),
    /// Its stream is to be reset with `PROTOCOL_ERROR`.
    Malformed(&'static str),
}

/// Reads the block of a request; `follows` says that it has not ended its stream.
///
/// # Errors
/// When the connection must end.
pub(super) fn read(
    decoder: &mut Decoder,
    block: &[u8],
    arena: &mut BytesMut,
    about: About<'_>,
) -> Result<Read, Refusal> {
    let mut head = Head::new(about, block.len());
    let bounds = about.bounds;
    let (mut count, mut bytes) = (0_usize, 0_usize);
    decoder.read(block, arena, |come| {
        let entry = come.entry();
        count = count.saturating_add(1);
        bytes = bytes.saturating_add(entry.size);
        if count > bounds.fields.saturating_mul(EXCESS)
            || bytes > bounds.bytes.saturating_mul(EXCESS)
        {
            return Err(Refusal::TooLarge);
        }
        match entry.flaw {
            None => {}
            Some(Flaw::Malformed(what)) => head.malformed(what),
            Some(Flaw::Refused(what)) => head.refused(what),
        }
        head.take(come);
        Ok(())
    })?;
    Ok(head.finish())
}

/// Reads the block of trailers; none if they are malformed.
///
/// # Errors
/// When the connection must end.
pub(super) fn trailers(
    decoder: &mut Decoder,
    block: &[u8],
    arena: &mut BytesMut,
    bounds: Bounds,
) -> Result<Option<HeaderMap>, Refusal> {
    let mut headers = HeaderMap::new();
    let (mut bytes, mut whole) = (0_usize, true);
    decoder.read(block, arena, |come| {
        let entry = come.entry();
        bytes = bytes.saturating_add(entry.size);
        let Field::Plain(name, value) = &entry.field else {
            return Err(Refusal::Illegal("pseudo-header fields in trailers"));
        };
        if headers.len() >= bounds.fields || bytes > bounds.bytes {
            return Err(Refusal::TooLarge);
        }
        whole &= entry.flaw.is_none();
        append(&mut headers, name.clone(), value.clone());
        Ok(())
    })?;
    Ok(whole.then_some(headers))
}

/// What a request's block is judged by.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) bounds: Bounds,
    /// `http` or `https`.
    pub(super) scheme: &'a str,
    /// The block does not end its stream.
    pub(super) follows: bool,
}

/// A head that is being put together.
struct Head<'a> {
    about: About<'a>,
    /// Its method, its target and its fields, as far as they have come.
    made: wire::Head,
    line: Line,
    scheme: Option<HeaderValue>,
    authority: Option<HeaderValue>,
    protocol: Option<HeaderValue>,
    count: usize,
    bytes: usize,
    length: Option<u64>,
    lengths: usize,
    cookie: Cookie,
    expects: bool,
    /// A field came that is no pseudo-header field.
    plain: bool,
    malformed: Option<&'static str>,
    refused: Option<&'static str>,
}

/// Which parts of a request line have come.
#[derive(Default)]
struct Line {
    method: bool,
    path: bool,
}

impl<'a> Head<'a> {
    fn new(about: About<'a>, block: usize) -> Self {
        // Mostly a byte each when it comes from the table, and a dozen or more when it is spelled out.
        let guess = block
            .checked_div(12)
            .unwrap_or(0)
            .min(about.bounds.fields)
            .saturating_add(ADDED);
        Self {
            about,
            made: wire::Head::new(guess),
            line: Line::default(),
            scheme: None,
            authority: None,
            protocol: None,
            count: 0,
            bytes: 0,
            length: None,
            lengths: 0,
            cookie: Cookie::None,
            expects: false,
            plain: false,
            malformed: None,
            refused: None,
        }
    }

    fn malformed(&mut self, what: &'static str) {
        self.malformed = self.malformed.or(Some(what));
    }

    fn refused(&mut self, what: &'static str) {
        self.refused = self.refused.or(Some(what));
    }

    fn take(&mut self, mut come: Come<'_>) {
        let size = come.entry().size;
        let repeated = match &come.entry().field {
            Field::Plain(..) => {
                self.plain = true;
                self.field(&mut come, size);
                return;
            }
            Field::Method(method) => {
                self.made.parts().method = method.clone();
                std::mem::replace(&mut self.line.method, true)
            }
            Field::Scheme(scheme) => self.scheme.replace(scheme.clone()).is_some(),
            Field::Authority(authority) => self.authority.replace(authority.clone()).is_some(),
            Field::Path(_) => {
                self.bytes = self.bytes.saturating_add(size.saturating_sub(PATH));
                self.made.parts().uri = path(&mut come);
                std::mem::replace(&mut self.line.path, true)
            }
            Field::Protocol(protocol) => self.protocol.replace(protocol.clone()).is_some(),
            Field::Status => false,
        };
        if repeated {
            self.malformed("a pseudo-header field came twice");
        } else if self.plain {
            self.malformed("a pseudo-header field behind others");
        }
    }

    fn field(&mut self, come: &mut Come<'_>, size: usize) {
        self.count = self.count.saturating_add(1);
        self.bytes = self.bytes.saturating_add(size);
        if self.count > self.about.bounds.fields || self.bytes > self.about.bounds.bytes {
            // It is refused for that, and nothing of it is kept.
            return;
        }
        let Some((name, value)) = plain(come) else {
            return;
        };
        if name == COOKIE {
            self.cookie.add(value);
        } else if name == HOST {
            self.host(value);
        } else if name == CONTENT_LENGTH {
            self.content_length(value);
        } else {
            if name == EXPECT {
                self.expects = value.as_bytes().eq_ignore_ascii_case(b"100-continue");
            }
            self.append(name, value);
        }
    }

    /// `:authority` takes the place of `Host`, which may not disagree (RFC 9113 section 8.3.1).
    fn host(&mut self, host: HeaderValue) {
        match &self.authority {
            None => self.append(HOST, host),
            Some(authority) => {
                if !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) {
                    self.refused("Host differs from :authority");
                }
            }
        }
    }

    fn content_length(&mut self, value: HeaderValue) {
        self.lengths = self.lengths.saturating_add(1);
        if value.is_empty() {
            self.refused("Content-Length is empty or repeated");
            return;
        }
        let Some(length) = length(&value) else {
            self.malformed("Content-Length is no number");
            return;
        };
        match self.length.replace(length) {
            Some(other) if other != length => self.malformed("Content-Lengths that differ"),
            Some(_) => self.refused("Content-Length is empty or repeated"),
            // What offers a tunnel has no content.
            None if self.protocol.is_none() => self.append(CONTENT_LENGTH, value),
            None => {}
        }
    }

    fn finish(mut self) -> Read {
        let connects = self.made.method == Method::CONNECT;
        if let Some(what) = self.malformed.or_else(|| self.incomplete(connects)) {
            return Read::Malformed(what);
        }
        let fault = self.fault(connects);
        let fault = fault.or_else(|| self.target());
        let cookie = std::mem::replace(&mut self.cookie, Cookie::None);
        if let Some(cookie) = cookie.joined() {
            self.append(COOKIE, cookie);
        }
        if let Some(authority) = self.authority.take() {
            self.append(HOST, authority);
        }
        let tunnel = self.protocol.take().map(|protocol| {
            let name = protocol.to_str().unwrap_or_default();
            name.to_ascii_lowercase().into_boxed_str()
        });
        let parts = self.made.parts();
        parts.version = Version::HTTP_2;
        if tunnel.is_some() {
            parts.method = Method::GET;
            self.length = None;
        }
        Read::Request(Asked {
            head: self.made,
            tunnel,
            length: self.length,
            expects: self.expects,
            follows: self.about.follows,
            fault,
        })
    }

    /// The target in origin form; in absolute form where the scheme is not the connection's, which is
    /// for the road to judge: it knows who may say so.
    fn target(&mut self) -> Option<Fault> {
        let own = self.about.scheme.as_bytes();
        let named = match &self.scheme {
            Some(named) if !named.as_bytes().eq_ignore_ascii_case(own) => named,
            _ => return None,
        };
        let absolute = || {
            let mut parts = self.made.uri.clone().into_parts();
            let scheme = Scheme::try_from(named.as_bytes()).ok();
            parts.scheme = Some(scheme.filter(|_| !named.is_empty())?);
            let authority = self.authority.as_ref()?.as_bytes();
            parts.authority = Some(Authority::try_from(authority).ok()?);
            Uri::from_parts(parts).ok()
        };
        let Some(uri) = absolute() else {
            return Some(Fault::Malformed(":scheme is not that of the connection"));
        };
        self.made.parts().uri = uri;
        None
    }

    /// What is missing, or does not fit the rest.
    fn incomplete(&self, connects: bool) -> Option<&'static str> {
        let tunnels = self.protocol.is_some();
        match (&self.scheme, self.line.path) {
            _ if !self.line.method => Some("no :method"),
            _ if tunnels && !connects => Some(":protocol without CONNECT"),
            (None, false) if connects && !tunnels => {
                self.authority.is_none().then_some("CONNECT to nobody")
            }
            _ if connects && !tunnels => Some("CONNECT with a :scheme or a :path"),
            (None, _) => Some("no :scheme"),
            (_, false) => Some("no :path"),
            _ if !self.about.follows && !connects && self.length.is_some_and(|it| it > 0) => {
                Some("Content-Length without content")
            }
            _ => None,
        }
    }

    fn fault(&self, connects: bool) -> Option<Fault> {
        let bounds = self.about.bounds;
        let path = self.made.uri.path_and_query().filter(|_| self.line.path);
        let path = path.map_or("", |path| path.as_str());
        if path.len() > bounds.target {
            return Some(Fault::TargetTooLong);
        }
        if self.count > bounds.fields {
            return Some(Fault::TooManyFields);
        }
        if self.bytes > bounds.bytes {
            return Some(Fault::HeadTooLarge);
        }
        if let Some(what) = self.refused {
            return Some(Fault::Malformed(what));
        }
        if path == "*" && !connects && self.made.method != Method::OPTIONS {
            return Some(Fault::Malformed(":path is not a path"));
        }
        None
    }
}

impl Head<'_> {
    fn append(&mut self, name: HeaderName, value: HeaderValue) {
        append(&mut self.made.parts().headers, name, value);
    }
}

/// Length of the name `:path` and what a field costs beyond its bytes.
const PATH: usize = 5 + 32;

/// RFC 9110 section 8.6: digits and nothing else.
fn length(value: &HeaderValue) -> Option<u64> {
    let digits = value.as_bytes();
    let text = value.to_str().ok()?;
    digits
        .iter()
        .all(u8::is_ascii_digit)
        .then(|| text.parse().ok())?
}

/// The name and the value of a plain field, whoever keeps it.
fn plain(come: &mut Come<'_>) -> Option<(HeaderName, HeaderValue)> {
    match come {
        Come::Kept(entry) => match &entry.field {
            Field::Plain(name, value) => Some((name.clone(), value.clone())),
            _ => None,
        },
        Come::Passing(entry) => match &mut entry.field {
            Field::Plain(name, value) => {
                let value = std::mem::replace(value, HeaderValue::from_static(""));
                Some((name.clone(), value))
            }
            _ => None,
        },
    }
}

/// The target of a `:path`, whoever keeps it.
fn path(come: &mut Come<'_>) -> Uri {
    match come {
        Come::Kept(Entry {
            field: Field::Path(path),
            ..
        }) => path.clone(),
        Come::Passing(Entry {
            field: Field::Path(path),
            ..
        }) => std::mem::take(path),
        Come::Kept(_) | Come::Passing(_) => Uri::default(),
    }
}

/// A map has room for more fields than any bound here allows.
fn append(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    let _room = headers.try_append(name, value);
}

/// Cleans trailers; none if nothing is left of them.
pub(super) fn clean(mut trailers: HeaderMap) -> Option<HeaderMap> {
    fields::clean_trailers(&mut trailers).then_some(trailers)
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test fails by it")]
mod tests;
