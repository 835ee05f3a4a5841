//! A body on its way in, freed from its framing.
//!
//! Made from a head's `Framing` and fed with what came after the head; takes from the buffer what is
//! the body's and leaves the rest, which is the next message's. Data is cut from the buffer, not
//! copied. Invariant: `End` comes only where the framing says that the body ends.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use crate::body::BodyFault;

use super::Framing;
use super::chunked::Chunked;

/// A piece of a body.
#[derive(Debug)]
pub enum Decoded {
    /// Content, never empty.
    Data(Bytes),
    /// Trailers, never empty; `End` follows. Fields that must not be trailers are left out.
    Trailers(HeaderMap),
    /// Nothing without more bytes.
    NeedMore,
    /// The body is over.
    End,
}

/// Finds the content and the end of one body.
#[derive(Debug)]
pub struct Decoder(Kind);

#[derive(Debug)]
enum Kind {
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

impl Decoder {
    /// For what follows a head with this framing.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        Self(match framing {
            Framing::None => Kind::Length(0),
            Framing::Length(length) => Kind::Length(length),
            Framing::Chunked => Kind::Chunked(Chunked::new()),
            Framing::UntilClose | Framing::Tunnel => Kind::UntilClose,
        })
    }

    /// The next piece in `input`. `NeedMore` may leave bytes in it; the next call must see them again,
    /// at the same place.
    ///
    /// # Errors
    /// When the framing is wrong. Nothing good can follow.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Decoded, BodyFault> {
        if input.is_empty() && !self.is_end() {
            return Ok(Decoded::NeedMore);
        }
        match &mut self.0 {
            Kind::Length(0) => Ok(Decoded::End),
            Kind::Length(left) => {
                let take = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(input.len());
                *left = left.saturating_sub(take as u64);
                if *left == 0 && take == input.len() {
                    // Nothing will be read behind it: it need not be shared with what comes.
                    return Ok(Decoded::Data(std::mem::take(input).freeze()));
                }
                Ok(Decoded::Data(input.split_to(take).freeze()))
            }
            Kind::Chunked(chunked) => chunked.decode(input),
            Kind::UntilClose => Ok(Decoded::Data(input.split().freeze())),
        }
    }

    /// The peer has closed, and everything that came was decoded.
    ///
    /// # Errors
    /// When the body is not over.
    pub fn close(&mut self) -> Result<(), BodyFault> {
        if matches!(self.0, Kind::UntilClose) {
            self.0 = Kind::Length(0);
        }
        if self.is_end() {
            Ok(())
        } else {
            Err(BodyFault::Incomplete)
        }
    }

    /// Whether nothing of the body is left to come.
    #[must_use]
    pub fn is_end(&self) -> bool {
        match &self.0 {
            Kind::Length(left) => *left == 0,
            Kind::Chunked(chunked) => chunked.is_done(),
            Kind::UntilClose => false,
        }
    }

    /// Bytes of content that are left to come, where that is known.
    #[must_use]
    pub fn left(&self) -> Option<u64> {
        match &self.0 {
            Kind::Length(left) => Some(*left),
            Kind::Chunked(chunked) => chunked.is_done().then_some(0),
            Kind::UntilClose => None,
        }
    }

    /// Bytes of content that are left to come at least, by what the peer has said.
    #[must_use]
    pub fn announced(&self) -> u64 {
        match &self.0 {
            Kind::Length(left) => *left,
            Kind::Chunked(chunked) => chunked.announced(),
            Kind::UntilClose => 0,
        }
    }
}
