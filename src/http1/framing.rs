//! How long a message's body is (RFC 9112 section 6).
//!
//! `request` and `response` show `Noted` each field and ask it for the `Framing`. Invariant: a
//! message with two statements about its length is refused, also where they agree.

use http::Version;
use http::header::{self, HeaderName, HeaderValue};

use crate::wire::Fault;
use crate::wire::fields::members;

use super::fields::is_token;

/// How the end of what follows a head is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Nothing follows.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks (RFC 9112 section 7.1).
    Chunked,
    /// Everything until the connection closes; answers only.
    UntilClose,
    /// No message any more: the bytes of another protocol, after `101`.
    Tunnel,
}

/// What the fields that concern the connection say.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent options, each of which a peer may name"
)]
pub(super) struct Noted {
    length: Option<u64>,
    coding: Option<Coding>,
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
    /// `TE: trailers`.
    pub(super) trailers: bool,
    /// `Expect`, and whether it is `100-continue`.
    pub(super) expect: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Chunked,
    /// Chunked is last, and there is another one.
    Unknown,
    /// The end of the body could not be found.
    Endless,
}

impl Noted {
    /// Takes note of a field of a head.
    pub(super) fn look(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), Fault> {
        if *name == header::CONTENT_LENGTH {
            let length = length(value.as_bytes())?;
            if self.length.replace(length).is_some() {
                return Err(Fault::Malformed("several Content-Length fields"));
            }
        } else if *name == header::TRANSFER_ENCODING {
            if self.coding.replace(coding(value)).is_some() {
                return Err(Fault::Malformed("several Transfer-Encoding fields"));
            }
        } else if *name == header::CONNECTION {
            for option in members(value) {
                self.close |= option.eq_ignore_ascii_case(b"close");
                self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                self.upgrade |= option.eq_ignore_ascii_case(b"upgrade");
            }
        } else if *name == header::TE {
            self.trailers |= members(value).any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
        } else if *name == header::EXPECT {
            let known = value.as_bytes().eq_ignore_ascii_case(b"100-continue");
            self.expect = Some(known && self.expect.unwrap_or(true));
        }
        Ok(())
    }

    /// What the length fields say; `None` if there are none.
    pub(super) fn framing(&self, version: Version) -> Result<Option<Framing>, Fault> {
        match (self.length, self.coding) {
            (None, None) => Ok(None),
            (Some(length), None) => Ok(Some(Framing::Length(length))),
            (Some(_), Some(_)) => Err(Fault::Malformed(
                "both Content-Length and Transfer-Encoding",
            )),
            (None, Some(_)) if version == Version::HTTP_10 => {
                Err(Fault::Malformed("Transfer-Encoding in HTTP/1.0"))
            }
            (None, Some(Coding::Chunked)) => Ok(Some(Framing::Chunked)),
            (None, Some(Coding::Unknown)) => Err(Fault::UnknownCoding),
            (None, Some(Coding::Endless)) => Err(Fault::Malformed(
                "a Transfer-Encoding that is not chunked exactly once, at its end",
            )),
        }
    }

    /// Whether the connection may be used again after this message (RFC 9112 section 9.3).
    pub(super) fn persists(&self, version: Version) -> bool {
        !self.close && (version == Version::HTTP_11 || self.keep_alive)
    }
}

/// One run of digits, without sign, list or overflow (RFC 9110 section 8.6).
fn length(value: &[u8]) -> Result<u64, Fault> {
    let wrong = Fault::Malformed("a Content-Length that is not one number");
    if value.is_empty() {
        return Err(wrong);
    }
    value
        .iter()
        .try_fold(0_u64, |length, byte| {
            let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
            length.checked_mul(10)?.checked_add(u64::from(digit))
        })
        .ok_or(wrong)
}

fn coding(value: &HeaderValue) -> Coding {
    if value.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Coding::Chunked;
    }
    let is_chunked = |member: &[u8]| member.eq_ignore_ascii_case(b"chunked");
    let is_last = members(value).last().is_some_and(is_chunked);
    let once = members(value).filter(|member| is_chunked(member)).count() == 1;
    if is_last && once && members(value).all(is_token) {
        Coding::Unknown
    } else {
        Coding::Endless
    }
}
