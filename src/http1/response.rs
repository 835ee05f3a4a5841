//! The head of an answer (RFC 9112 sections 4 and 6.3).
//!
//! `upstream` feeds the bytes that an endpoint has sent. Invariant: as strict as towards clients,
//! since whatever an endpoint and Headgate read differently, a client of another could read too.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Version};

use crate::wire::{Fault, spare};

use super::framing::Noted;
use super::lines::Lines;
use super::memory::Memory;
use super::{Framing, Limits, fields};

/// Room for the fields that an answer is given on its way: `Via`, the request id, one more.
const ADDED: usize = 3;
/// The start of a status line, up to its first digit.
const PREFIX: usize = 9;

/// An endpoint's answer has a head that is not HTTP, or ambiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer's head is refused: {0}")]
pub struct AnswerFault(#[from] Fault);

impl AnswerFault {
    /// Whether it is well-formed as far as it came, and larger than the limits.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        matches!(self.0, Fault::HeadTooLarge | Fault::TooManyFields)
    }

    /// Whether its transfer coding is one that nobody here knows.
    #[must_use]
    pub fn is_unknown_coding(&self) -> bool {
        self.0 == Fault::UnknownCoding
    }
}

/// An answer's head.
#[derive(Debug)]
pub struct AnswerHead {
    /// Its status, also of an informational answer.
    pub status: StatusCode,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// All of its fields, hop-by-hop ones too.
    pub headers: HeaderMap,
    /// What follows. `Tunnel` after `101`, which is for the caller to refuse if it was not asked for.
    pub framing: Framing,
    /// Whether the connection may be used again once the body has come to its end.
    pub persists: bool,
}

/// Reads the heads of a connection's answers, one after the other.
#[derive(Debug, Default)]
pub struct AnswerParser {
    lines: Lines,
    checked: usize,
    memory: Memory,
}

impl AnswerParser {
    /// The head that `input` begins with and its length in bytes, or `None` while it is not whole.
    /// Each call must be given what the one before was given, and what has come since. `method` is
    /// that of the request which is answered. After an informational answer but `101` another head
    /// follows.
    ///
    /// # Errors
    /// As soon as it is certain that no good head can come of it. The parser is of no use after that.
    pub fn parse(
        &mut self,
        input: &[u8],
        method: &Method,
        limits: &Limits,
    ) -> Result<Option<(AnswerHead, usize)>, AnswerFault> {
        let most = limits.fields.saturating_add(1);
        let end = self.lines.end(input, 0, most)?;
        if end.unwrap_or(input.len()) > limits.head_bytes {
            return Err(Fault::HeadTooLarge.into());
        }
        let Some(end) = end else {
            self.unfinished(input)?;
            return Ok(None);
        };
        let head = self.memory.copy(input.get(..end).unwrap_or_default());
        let answer = self.whole(&head, method)?;
        self.lines.clear();
        self.checked = 0;
        Ok(Some((answer, end)))
    }

    /// Gives back the parser's memory; only between heads.
    pub fn rest(&mut self) {
        debug_assert_eq!(self.lines.count(), 0, "in the middle of a head");
        self.lines.reset();
        self.memory.reset();
    }

    fn whole(&self, head: &Bytes, method: &Method) -> Result<AnswerHead, Fault> {
        let Some((_, to)) = self.lines.ranges(0, 0).next() else {
            return Err(Fault::Malformed("an empty status line"));
        };
        let (version, status) = status_line(head.get(..to).unwrap_or_default())?;
        let mut noted = Noted::default();
        let room = self.lines.count().saturating_sub(1).saturating_add(ADDED);
        let mut headers = spare::fields(room);
        fields::parse(
            head,
            self.lines.ranges(0, 1),
            &mut headers,
            |name, value| noted.look(name, value).map(|()| true),
        )?;
        let said = noted.framing(version)?;
        let framing = match status {
            StatusCode::NO_CONTENT if said == Some(Framing::Chunked) => {
                return Err(Fault::Malformed(
                    "Transfer-Encoding in an answer without a body",
                ));
            }
            _ if status.is_informational()
                && said.unwrap_or(Framing::Length(0)) != Framing::Length(0) =>
            {
                return Err(Fault::Malformed("a length in an informational answer"));
            }
            StatusCode::SWITCHING_PROTOCOLS => Framing::Tunnel,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => Framing::None,
            _ if status.is_informational() || *method == Method::HEAD => Framing::None,
            _ => said.unwrap_or(Framing::UntilClose),
        };
        let persists =
            noted.persists(version) && !matches!(framing, Framing::UntilClose | Framing::Tunnel);
        Ok(AnswerHead {
            status,
            version,
            headers,
            framing,
            persists,
        })
    }

    fn unfinished(&mut self, input: &[u8]) -> Result<(), Fault> {
        if self.lines.count() == 0 {
            return begins_well(input);
        }
        let line = |(from, to): (usize, usize)| input.get(from..to).unwrap_or_default();
        if self.checked == 0
            && let Some(first) = self.lines.ranges(0, 0).next()
        {
            status_line(line(first))?;
        }
        for range in self.lines.ranges(0, self.checked.max(1)) {
            fields::check(line(range))?;
        }
        self.checked = self.lines.count();
        Ok(())
    }
}

fn status_line(line: &[u8]) -> Result<(Version, StatusCode), Fault> {
    let wrong = Fault::Malformed("a malformed status line");
    let (prefix, rest) = line.split_at_checked(PREFIX).ok_or(wrong)?;
    let version = match prefix {
        b"HTTP/1.1 " => Version::HTTP_11,
        b"HTTP/1.0 " => Version::HTTP_10,
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9', b' '] => Version::HTTP_11,
        _ => return Err(wrong),
    };
    let (code, reason) = rest.split_at_checked(3).ok_or(wrong)?;
    let status = StatusCode::from_bytes(code).map_err(|_invalid| wrong)?;
    // RFC 9110 section 15: there are five classes, and whoever is told another takes it for a failure.
    if status.as_u16() >= 600 {
        return Err(wrong);
    }
    let plain = |byte: &u8| !fields::is_control(*byte) || *byte == b'\t';
    match reason {
        // The space is due also without a reason, but many leave it out.
        [] => Ok((version, status)),
        [b' ', words @ ..] if words.iter().all(plain) => Ok((version, status)),
        _ => Err(wrong),
    }
}

/// Whether `part` can become a status line.
fn begins_well(part: &[u8]) -> Result<(), Fault> {
    let mut known = part.iter().zip(b"HTTP/1.");
    if known.all(|(byte, wanted)| byte == wanted) {
        Ok(())
    } else {
        Err(Fault::Malformed("a malformed status line"))
    }
}
