//! A body that is decompressed while it streams.
//!
//! `proxy::outbound` polls it with its source, for clients that do not take the coding in which the cache has
//! an answer. Invariants: one poll gives at most `SLICE` bytes and takes in as many, whatever they would
//! become, so that a bomb costs its readers time and nobody memory; what the source gave before it paused
//! has gone out; a source that breaks off, or that is not what its coding says, ends in an error and never in
//! a clean end.

use std::fmt;
use std::io::{self, BufRead, ErrorKind, Read};
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use flate2::bufread::MultiGzDecoder;
use http::HeaderMap;
use http_body::Frame;
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

use crate::config::model::Coding;

use super::budget::{Budget, Room};
use super::judge::DIGESTS;
use super::stream::{CodingError, Polled};

/// Most that one poll gives, and most that it takes in.
const SLICE: usize = 16 << 10;
/// What brotli reads ahead.
const AHEAD: usize = 4 << 10;
/// Logarithm of the largest window that a recipient of `zstd` need read (RFC 9659).
const ZSTD_WINDOW: u32 = 23;

/// Who has compressed a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    /// A `Stream`, whose windows are known.
    Headgate,
    /// Anybody.
    Origin,
}

/// The state of one body; the source of its bytes is handed in with each poll.
#[derive(Debug)]
pub struct Decoder {
    algorithm: Algorithm,
    /// From the source, not yet decompressed.
    input: Bytes,
    /// Whether the source gave anything: a body of no bytes has no coding either.
    begun: bool,
    /// Bytes to come, where that is known.
    left: Option<u64>,
    /// For what comes out next.
    out: Vec<u8>,
    stage: Stage,
    /// The memory of the algorithm; given back with it.
    _room: Room,
}

#[derive(Debug)]
enum Stage {
    Reading,
    /// The source has ended.
    Ending(Option<HeaderMap>),
    Trailers(HeaderMap),
    Over,
}

/// What a step led to.
enum Step {
    Made(usize),
    Hungry,
    Over,
}

impl Decoder {
    /// Decompresses from `coding`. `length` is that of what comes out, where it is known.
    ///
    /// # Errors
    /// When there is no room for it in the budget, or no memory at all.
    pub fn new(
        budget: &Budget,
        coding: Coding,
        maker: Maker,
        length: Option<u64>,
    ) -> io::Result<Self> {
        let room = budget.reserve(cost(coding, maker));
        let room = room.ok_or_else(|| io::Error::other("too much is being decompressed"))?;
        Ok(Self {
            algorithm: Algorithm::new(coding)?,
            input: Bytes::new(),
            begun: false,
            left: length,
            out: Vec::new(),
            stage: Stage::Reading,
            _room: room,
        })
    }

    /// Whether nothing more comes.
    #[must_use]
    pub fn is_end(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// Bytes to come, where that is known.
    #[must_use]
    pub fn left(&self) -> Option<u64> {
        self.left
    }

    /// The next frame, of what `source` gives.
    pub fn poll<E>(
        &mut self,
        task: &mut Context<'_>,
        mut source: impl FnMut(&mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, E>>>,
    ) -> Polled<E> {
        if matches!(self.stage, Stage::Over | Stage::Trailers(_)) {
            return self.rest();
        }
        let mut filled = 0;
        let mut slice = SLICE;
        loop {
            let step = match self.step(&mut filled) {
                Ok(Some(step)) => step,
                Ok(None) => return self.data(filled),
                Err(error) => return self.fail(CodingError::Codec(error)),
            };
            match step {
                Step::Made(_) => {}
                Step::Over if matches!(self.stage, Stage::Ending(_)) => return self.end(filled),
                // There may be more of the source, or its error.
                Step::Hungry | Step::Over if self.input.is_empty() => match source(task) {
                    Poll::Pending if filled > 0 => return self.data(filled),
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(None) => self.source_ended(None),
                    Poll::Ready(Some(Err(error))) => return self.fail(CodingError::Source(error)),
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(data) => self.input = data,
                        Err(frame) => self.source_ended(frame.into_trailers().ok()),
                    },
                },
                Step::Over => return self.fail(CodingError::Codec(broken(TRAILED))),
                Step::Hungry if slice == 0 && filled > 0 => return self.data(filled),
                Step::Hungry if slice == 0 => {
                    // The others first; then on.
                    task.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Step::Hungry => {
                    let piece = self.input.split_to(self.input.len().min(slice));
                    slice -= piece.len();
                    if let Err(error) = self.algorithm.feed(piece, !self.begun) {
                        return self.fail(CodingError::Codec(error));
                    }
                    self.begun = true;
                }
            }
        }
    }

    /// Lets some more out into the frame that is being made; nothing when that is full.
    fn step(&mut self, filled: &mut usize) -> io::Result<Option<Step>> {
        if matches!(self.stage, Stage::Ending(_)) && !self.begun {
            return Ok(Some(Step::Over));
        }
        if self.left == Some(0) {
            // Its end is still to be seen, checksum and all, before the last bytes go out.
            let step = self.algorithm.step(&mut [0u8])?;
            return match step {
                Step::Made(_) => Err(broken("it is longer than it was")),
                step => Ok(Some(step)),
            };
        }
        if self.out.is_empty() {
            let left = self.left.and_then(|left| usize::try_from(left).ok());
            self.out = vec![0; SLICE.min(left.unwrap_or(SLICE))];
        }
        let room = self.out.get_mut(*filled..).unwrap_or_default();
        if room.is_empty() {
            return Ok(None);
        }
        let step = self.algorithm.step(room)?;
        if let Step::Made(bytes) = step {
            *filled += bytes;
            self.left = self.left.map(|left| left.saturating_sub(bytes as u64));
        }
        Ok(Some(step))
    }

    fn source_ended(&mut self, trailers: Option<HeaderMap>) {
        let mut trailers = trailers;
        for digest in &DIGESTS {
            trailers.as_mut().map(|fields| fields.remove(digest));
        }
        self.algorithm.end();
        self.stage = Stage::Ending(trailers);
    }

    /// All has come out.
    fn end<E>(&mut self, filled: usize) -> Polled<E> {
        if self.left.is_some_and(|left| left > 0) {
            return self.fail(CodingError::Codec(broken("it is shorter than it was")));
        }
        self.stage = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Ending(Some(trailers)) => Stage::Trailers(trailers),
            _ => Stage::Over,
        };
        match filled {
            0 => self.rest(),
            filled => self.data(filled),
        }
    }

    /// What follows the last byte.
    fn rest<E>(&mut self) -> Polled<E> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Trailers(trailers) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            _ => Poll::Ready(None),
        }
    }

    fn data<E>(&mut self, filled: usize) -> Polled<E> {
        let mut out = std::mem::take(&mut self.out);
        out.truncate(filled);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(out)))))
    }

    fn fail<E>(&mut self, error: CodingError<E>) -> Polled<E> {
        self.stage = Stage::Over;
        self.input = Bytes::new();
        Poll::Ready(Some(Err(error)))
    }
}

/// Bytes of memory that a decompressor may come to hold.
fn cost(coding: Coding, maker: Maker) -> usize {
    match (coding, maker) {
        (Coding::Gzip, _) => 64 << 10,
        (Coding::Zstd | Coding::Brotli, Maker::Headgate) => 1 << 20,
        (Coding::Zstd, Maker::Origin) => 9 << 20,
        // Its window grows by being copied.
        (Coding::Brotli, Maker::Origin) => 25 << 20,
    }
}

/// What the algorithms read from.
#[derive(Debug, Default)]
struct Feed {
    bytes: Bytes,
    is_over: bool,
}

impl BufRead for Feed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.bytes.is_empty() && !self.is_over {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(&self.bytes)
    }

    fn consume(&mut self, count: usize) {
        self.bytes.advance(count.min(self.bytes.len()));
    }
}

impl Read for Feed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.len().min(into.len());
        self.bytes.split_to(count).copy_to_slice(into.get_mut(..count).unwrap_or_default());
        Ok(count)
    }
}

enum Algorithm {
    Gzip(Box<MultiGzDecoder<Feed>>),
    Brotli(Box<brotli::Decompressor<Feed>>),
    Zstd(Zstd),
}

impl Algorithm {
    fn new(coding: Coding) -> io::Result<Self> {
        let feed = Feed::default();
        Ok(match coding {
            Coding::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(feed))),
            Coding::Brotli => Self::Brotli(Box::new(brotli::Decompressor::new(feed, AHEAD))),
            Coding::Zstd => Self::Zstd(Zstd::new()?),
        })
    }

    fn source(&mut self) -> &mut Feed {
        match self {
            Self::Gzip(reader) => reader.get_mut(),
            Self::Brotli(reader) => reader.get_mut(),
            Self::Zstd(zstd) => &mut zstd.feed,
        }
    }

    /// Gives more to a decompressor that is hungry.
    fn feed(&mut self, piece: Bytes, is_first: bool) -> io::Result<()> {
        // The first byte says it; such windows are no part of RFC 7932, and may be a gigabyte.
        let is_large = |byte: &u8| byte & 0x7f == 0x11;
        if matches!(self, Self::Brotli(_)) && is_first && piece.first().is_some_and(is_large) {
            return Err(broken("its window is too large"));
        }
        self.source().bytes = piece;
        Ok(())
    }

    fn end(&mut self) {
        self.source().is_over = true;
    }

    fn step(&mut self, out: &mut [u8]) -> io::Result<Step> {
        let read = match self {
            Self::Gzip(reader) => reader.read(out),
            Self::Brotli(reader) => reader.read(out),
            Self::Zstd(zstd) => return zstd.step(out),
        };
        match read {
            Ok(0) if !self.source().bytes.is_empty() => Err(broken(TRAILED)),
            Ok(0) => Ok(Step::Over),
            Ok(bytes) => Ok(Step::Made(bytes)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Step::Hungry),
            Err(error) => Err(error),
        }
    }
}

struct Zstd {
    context: DCtx<'static>,
    feed: Feed,
    /// The last frame has come out whole.
    is_whole: bool,
    /// More may come out without anything going in.
    is_full: bool,
}

impl Zstd {
    fn new() -> io::Result<Self> {
        let mut context = DCtx::try_create().ok_or(ErrorKind::OutOfMemory)?;
        let most = DParameter::WindowLogMax(ZSTD_WINDOW);
        context.set_parameter(most).map_err(zstd_error)?;
        Ok(Self {
            context,
            feed: Feed::default(),
            is_whole: false,
            is_full: false,
        })
    }

    fn step(&mut self, out: &mut [u8]) -> io::Result<Step> {
        while !self.feed.bytes.is_empty() || self.is_full {
            let mut input = InBuffer::around(&self.feed.bytes);
            let mut output = OutBuffer::around(out);
            let hint = self.context.decompress_stream(&mut output, &mut input);
            let hint = hint.map_err(zstd_error)?;
            let (taken, made) = (input.pos(), output.pos());
            self.feed.bytes.advance(taken);
            self.is_whole = hint == 0;
            self.is_full = made == out.len() && hint != 0;
            if made > 0 {
                return Ok(Step::Made(made));
            }
            if taken == 0 && !self.feed.bytes.is_empty() {
                return Err(broken("it cannot be read on"));
            }
        }
        match (self.feed.is_over, self.is_whole) {
            (false, _) => Ok(Step::Hungry),
            (true, true) => Ok(Step::Over),
            (true, false) => Err(ErrorKind::UnexpectedEof.into()),
        }
    }
}

fn zstd_error(code: usize) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, zstd_safe::get_error_name(code))
}

const TRAILED: &str = "more comes after its end";

fn broken(why: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}

impl fmt::Debug for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip(_) => "gzip",
            Self::Brotli(_) => "br",
            Self::Zstd(_) => "zstd",
        })
    }
}
