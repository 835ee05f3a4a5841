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
        self.bytes
            .split_to(count)
            .copy_to_slice(into.get_mut(..count).unwrap_or_default());
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

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::super::codec::Codec;
    use super::super::codec::tests::prose;
    use super::*;
    use crate::config::model::Level;

    type Given = Poll<Option<Result<Frame<Bytes>, &'static str>>>;

    fn coded(coding: Coding, text: &[u8]) -> Vec<u8> {
        let mut codec = Codec::new(coding, Level::Balanced, None).unwrap();
        let mut coded = Vec::new();
        for piece in text.chunks(100_000) {
            codec.push(piece).unwrap();
            coded.append(&mut codec.take());
        }
        codec.finish().unwrap();
        coded.append(&mut codec.take());
        coded
    }

    fn new(coding: Coding, length: Option<u64>) -> Decoder {
        Decoder::new(&Budget::default(), coding, Maker::Origin, length).unwrap()
    }

    fn data(bytes: impl Into<Bytes>) -> Given {
        Poll::Ready(Some(Ok(Frame::data(bytes.into()))))
    }

    const END: Given = Poll::Ready(None);

    /// What comes out of a script, and how it ends. Every frame keeps to its bound.
    fn run(decoder: &mut Decoder, script: impl IntoIterator<Item = Given>) -> (Vec<u8>, Ending) {
        let mut script = script.into_iter();
        let mut all = Vec::new();
        loop {
            let mut ran_out = false;
            let polled = decoder.poll(&mut Context::from_waker(Waker::noop()), |_| {
                script.next().unwrap_or_else(|| {
                    ran_out = true;
                    Poll::Pending
                })
            });
            match polled {
                Poll::Ready(Some(Ok(frame))) => {
                    let bytes = frame.into_data().unwrap();
                    assert!((1..=SLICE).contains(&bytes.len()));
                    all.extend_from_slice(&bytes);
                }
                Poll::Ready(Some(Err(CodingError::Codec(_)))) => return (all, Ending::Codec),
                Poll::Ready(Some(Err(CodingError::Source(_)))) => return (all, Ending::Source),
                Poll::Ready(None) => return (all, Ending::Clean),
                Poll::Pending if ran_out => return (all, Ending::Open),
                Poll::Pending => {}
            }
        }
    }

    #[derive(Debug, PartialEq, Eq)]
    enum Ending {
        Clean,
        Codec,
        Source,
        Open,
    }

    #[test]
    fn what_was_compressed_comes_back_from_pieces_of_any_size() {
        let seed = fastrand::u64(..);
        println!("SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for coding in Coding::ALL {
            for most in [1, 7, 1000, 100_000] {
                let bytes = random.usize(..most * 300 % 700_000);
                let text = prose(&mut random, bytes);
                let whole = coded(coding, &text);
                let mut script = Vec::new();
                let mut rest = &whole[..];
                while !rest.is_empty() {
                    let (piece, after) = rest.split_at(random.usize(1..=most.min(rest.len())));
                    script.push(data(piece.to_vec()));
                    rest = after;
                }
                script.push(END);
                for length in [None, Some(text.len() as u64)] {
                    let mut decoder = new(coding, length);
                    let again = script.iter().map(|given| match given {
                        Poll::Ready(Some(Ok(frame))) => data(frame.data_ref().unwrap().clone()),
                        _ => END,
                    });
                    let (came, ending) = run(&mut decoder, again);
                    assert!(came == text && ending == Ending::Clean, "{coding:?} {most}");
                    assert!(decoder.is_end());
                }
            }
        }
    }

    #[test]
    fn several_members_are_one_body() {
        for coding in [Coding::Gzip, Coding::Zstd] {
            let both = [coded(coding, b"one "), coded(coding, b"two")].concat();
            let (came, ending) = run(&mut new(coding, None), [data(both), END]);
            assert_eq!(
                (&*came, ending),
                (&b"one two"[..], Ending::Clean),
                "{coding:?}"
            );
        }
    }

    #[test]
    fn what_came_before_a_pause_is_given_at_once() {
        for coding in Coding::ALL {
            let mut codec = Codec::new(coding, Level::Balanced, None).unwrap();
            codec.push(b"data: one\n\n").unwrap();
            codec.flush().unwrap();
            let (came, ending) = run(&mut new(coding, None), [data(codec.take())]);
            assert_eq!(
                (&*came, ending),
                (&b"data: one\n\n"[..], Ending::Open),
                "{coding:?}"
            );
        }
    }

    #[test]
    fn what_is_cut_wrong_or_too_long_never_ends_cleanly() {
        let mut random = fastrand::Rng::with_seed(5);
        let text = prose(&mut random, 30_000);
        let length = text.len() as u64;
        for coding in Coding::ALL {
            let whole = coded(coding, &text);
            for cut in [1, 2, 9, whole.len() / 2, whole.len() - 1] {
                let part = whole[..cut].to_vec();
                for length in [None, Some(length)] {
                    let (came, ending) = run(&mut new(coding, length), [data(part.clone()), END]);
                    assert_eq!(ending, Ending::Codec, "{coding:?} {cut}");
                    assert!(text.starts_with(&came));
                }
                let broken = [data(part), Poll::Ready(Some(Err("broken")))];
                let (_, ending) = run(&mut new(coding, None), broken);
                assert_eq!(ending, Ending::Source, "{coding:?} {cut}");
            }
            let trailed = || [data(whole.clone()), data("x"), END];
            let (_, ending) = run(&mut new(coding, None), trailed());
            assert_eq!(ending, Ending::Codec, "{coding:?}");
            for wrong in [length - 1, length + 1] {
                let script = [data(whole.clone()), END];
                let (_, ending) = run(&mut new(coding, Some(wrong)), script);
                assert_eq!(ending, Ending::Codec, "{coding:?}: {wrong} of {length}");
            }
            for _ in 0..50 {
                let mut wrong = whole.clone();
                let at = random.usize(..wrong.len());
                wrong[at] ^= 1 << random.u8(..8);
                let mut decoder = new(coding, Some(length));
                // Whatever comes of it: no panic, and no more than there was.
                let (came, _) = run(&mut decoder, [data(wrong), END]);
                assert!(came.len() <= text.len());
            }
        }
    }

    #[test]
    fn a_body_of_no_bytes_is_empty_in_any_coding() {
        for coding in Coding::ALL {
            for length in [None, Some(0)] {
                let (came, ending) = run(&mut new(coding, length), [END]);
                assert_eq!((came.len(), ending), (0, Ending::Clean), "{coding:?}");
            }
        }
    }

    #[test]
    fn a_bomb_comes_out_slice_by_slice_and_asks_for_nothing_meanwhile() {
        for coding in Coding::ALL {
            let bomb = coded(coding, &vec![0; 4 << 20]);
            assert!(bomb.len() < 20_000, "{coding:?}");
            let mut decoder = new(coding, None);
            let mut asked = 0;
            let mut polls = 0;
            let mut given = vec![END, data(bomb)];
            let mut bytes = 0;
            while !decoder.is_end() {
                polls += 1;
                let polled = decoder.poll(&mut Context::from_waker(Waker::noop()), |_| {
                    asked += 1;
                    given.pop().unwrap()
                });
                if let Poll::Ready(Some(Ok(frame))) = polled {
                    bytes += frame.data_ref().unwrap().len();
                }
                assert!(decoder.out.capacity() <= SLICE);
                assert!(asked == 1 || bytes > (4 << 20) - 2 * SLICE, "{coding:?}");
            }
            assert_eq!(bytes, 4 << 20);
            assert!(polls >= (4 << 20) / SLICE);
        }
    }

    #[test]
    fn windows_beyond_the_standards_are_refused() {
        // 30 bits, in the form that is no part of RFC 7932.
        let (_, ending) = run(
            &mut new(Coding::Brotli, None),
            [data(vec![0x11, 0x1e, 0, 0]), END],
        );
        assert_eq!(ending, Ending::Codec);
        // A frame with a window of 16 MiB: magic, no flags, exponent 14.
        let large = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 14 << 3, 1, 0, 0];
        let (_, ending) = run(&mut new(Coding::Zstd, None), [data(large), END]);
        assert_eq!(ending, Ending::Codec);
        let allowed = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 13 << 3, 1, 0, 0];
        let (_, ending) = run(&mut new(Coding::Zstd, None), [data(allowed), END]);
        assert_eq!(ending, Ending::Clean);
    }

    #[test]
    fn decompressors_of_a_worker_share_a_bound() {
        let budget = Budget::default();
        let new = || Decoder::new(&budget, Coding::Brotli, Maker::Origin, None);
        let mut all: Vec<Decoder> = std::iter::from_fn(|| new().ok()).collect();
        assert!(all.len() >= 5, "{}", all.len());
        all.pop();
        assert!(new().is_ok());
    }
}
