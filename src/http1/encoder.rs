//! A body on its way out, with its framing around it.
//!
//! The caller writes the content itself: `before` and `after` put around each piece what the framing
//! wants, so that large pieces need no copy. Invariant: a body that is longer or shorter than its
//! head said is an error, and never looks whole to the peer.

use http::HeaderMap;

use crate::wire::may_trail;

use super::Framing;

/// A body does not have the length that its head said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body does not have the length that was announced")]
pub struct LengthError;

/// Frames one body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoder(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Length(u64),
    Chunked,
    UntilClose,
}

impl Encoder {
    /// For the body of a message with this framing.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        Self(match framing {
            Framing::None => Kind::Length(0),
            Framing::Length(length) => Kind::Length(length),
            Framing::Chunked => Kind::Chunked,
            Framing::UntilClose | Framing::Tunnel => Kind::UntilClose,
        })
    }

    /// What comes before `length` bytes of content; nothing for a length of 0, which is no piece.
    ///
    /// # Errors
    /// When the body becomes longer than its head said.
    pub fn before(&mut self, length: usize, out: &mut Vec<u8>) -> Result<(), LengthError> {
        match &mut self.0 {
            Kind::Length(left) => {
                *left = left.checked_sub(length as u64).ok_or(LengthError)?;
            }
            // A chunk of no bytes would be the end of the body.
            Kind::Chunked if length > 0 => hexadecimal(length, out),
            Kind::Chunked | Kind::UntilClose => {}
        }
        Ok(())
    }

    /// What comes after a piece of `length` bytes.
    pub fn after(&self, length: usize, out: &mut Vec<u8>) {
        if self.0 == Kind::Chunked && length > 0 {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// What ends the body. Trailers go out in chunked bodies only; those that may not be trailers are
    /// left out.
    ///
    /// # Errors
    /// When the body is shorter than its head said.
    pub fn finish(
        &self,
        trailers: Option<&HeaderMap>,
        out: &mut Vec<u8>,
    ) -> Result<(), LengthError> {
        match self.0 {
            Kind::Length(0) | Kind::UntilClose => Ok(()),
            Kind::Length(_) => Err(LengthError),
            Kind::Chunked => {
                out.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.into_iter().flatten() {
                    if may_trail(name) {
                        super::head::field(out, name.as_str(), value.as_bytes());
                    }
                }
                out.extend_from_slice(b"\r\n");
                Ok(())
            }
        }
    }

    /// Whether the peer knows by the count that the body is over.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.0 == Kind::Length(0)
    }
}

/// `length` in hexadecimal, and CRLF.
fn hexadecimal(length: usize, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let bits = usize::BITS.saturating_sub(length.leading_zeros());
    let digits = bits.div_ceil(4);
    for place in (0..digits).rev() {
        let digit = (length >> (place.saturating_mul(4))) & 0xf;
        out.extend(DIGITS.get(digit));
    }
    out.extend_from_slice(b"\r\n");
}
