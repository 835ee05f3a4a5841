//! The three algorithms behind one face, with their bounds on memory.
//!
//! `stream` feeds slices in and takes bytes out. What an answer costs while it is compressed:
//!
//! | coding | window  | fast, balanced, small (the library's own level) | memory per answer   |
//! |--------|---------|--------------------------------------------------|---------------------|
//! | `zstd` | 512 KiB | 1, 3, 6                                          | at most 2.5 MiB     |
//! | `br`   | 128 KiB | 2, 4, 5                                          | 2, 3 or 3.5 MiB     |
//! | `gzip` | 32 KiB  | 1, 5, 7                                          | at most 0.5 MiB     |
//!
//! Browsers need read no window above 8 MiB (RFC 9659); these are far below, since what a window costs
//! counts once per answer in flight. Invariant: what was pushed and flushed can be decoded from what
//! was taken, without anything that comes later.

use std::fmt;
use std::io::{self, Write as _};

use brotli::CompressorWriter;
use brotli::enc::BrotliEncoderParams;
use flate2::Compression;
use flate2::write::GzEncoder;
use zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer};

use crate::config::model::{Coding, Level};

/// Logarithms of the windows.
const ZSTD_WINDOW: u32 = 19;
/// Logarithm of the entries of zstd's tables, which higher levels would make larger.
const ZSTD_TABLES: u32 = 17;
const BROTLI_WINDOW: i32 = 17;
/// Room that a step of an algorithm is given for what comes out of it.
const STEP: usize = 8 << 10;

/// One answer's compressor, and what came out of it and was not taken yet.
pub(super) struct Codec {
    algorithm: Algorithm,
    out: Vec<u8>,
}

enum Algorithm {
    Zstd(CCtx<'static>),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Gzip(Box<GzEncoder<Vec<u8>>>),
    Finished,
}

impl Codec {
    /// `length` is that of the body, where it is known: a small body needs less memory.
    pub(super) fn new(coding: Coding, level: Level, length: Option<u64>) -> io::Result<Self> {
        let algorithm = match coding {
            Coding::Zstd => Algorithm::Zstd(zstd(level, length)?),
            Coding::Brotli => Algorithm::Brotli(Box::new(brotli(level, length))),
            Coding::Gzip => {
                let level = Compression::new(match level {
                    Level::Fast => 1,
                    Level::Balanced => 5,
                    Level::Small => 7,
                });
                Algorithm::Gzip(Box::new(GzEncoder::new(Vec::new(), level)))
            }
        };
        Ok(Self {
            algorithm,
            out: Vec::new(),
        })
    }

    /// Bytes of memory that a compressor may come to hold: the table above, and less for a body that
    /// is known to be small.
    pub(super) fn cost(coding: Coding, level: Level, length: Option<u64>) -> usize {
        let (least, most) = match (coding, level) {
            (Coding::Zstd, _) => (512 << 10, 2560 << 10),
            (Coding::Brotli, Level::Fast) => (1 << 20, 2 << 20),
            (Coding::Brotli, Level::Balanced) => (1 << 20, 3 << 20),
            (Coding::Brotli, Level::Small) => (1 << 20, 3584 << 10),
            (Coding::Gzip, _) => (512 << 10, 512 << 10),
        };
        let length = length.and_then(|length| usize::try_from(length).ok());
        let tables = length.unwrap_or(usize::MAX).saturating_mul(24);
        tables.saturating_add(least).min(most)
    }

    /// Takes bytes in; something may come out.
    pub(super) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.algorithm {
            Algorithm::Zstd(context) => run(
                context,
                &mut self.out,
                bytes,
                ZSTD_EndDirective::ZSTD_e_continue,
            ),
            Algorithm::Brotli(writer) => writer.write_all(bytes),
            Algorithm::Gzip(writer) => writer.write_all(bytes),
            Algorithm::Finished => Err(over()),
        }
    }

    /// Lets everything out that was taken in.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match &mut self.algorithm {
            Algorithm::Zstd(context) => {
                run(context, &mut self.out, &[], ZSTD_EndDirective::ZSTD_e_flush)
            }
            Algorithm::Brotli(writer) => writer.flush(),
            Algorithm::Gzip(writer) => writer.flush(),
            Algorithm::Finished => Err(over()),
        }
    }

    /// Lets the rest out, and the memory go.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.algorithm, Algorithm::Finished) {
            Algorithm::Zstd(mut context) => {
                run(
                    &mut context,
                    &mut self.out,
                    &[],
                    ZSTD_EndDirective::ZSTD_e_end,
                )?;
            }
            Algorithm::Brotli(writer) => self.out = writer.into_inner(),
            Algorithm::Gzip(writer) => self.out = writer.finish()?,
            Algorithm::Finished => return Err(over()),
        }
        Ok(())
    }

    /// Bytes that can be taken.
    pub(super) fn ready(&self) -> usize {
        self.output().len()
    }

    /// Takes what came out.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(match &mut self.algorithm {
            Algorithm::Zstd(_) | Algorithm::Finished => &mut self.out,
            Algorithm::Brotli(writer) => writer.get_mut(),
            Algorithm::Gzip(writer) => writer.get_mut(),
        })
    }

    fn output(&self) -> &Vec<u8> {
        match &self.algorithm {
            Algorithm::Zstd(_) | Algorithm::Finished => &self.out,
            Algorithm::Brotli(writer) => writer.get_ref(),
            Algorithm::Gzip(writer) => writer.get_ref(),
        }
    }
}

fn over() -> io::Error {
    io::Error::other("the compressor has finished")
}

fn zstd(level: Level, length: Option<u64>) -> io::Result<CCtx<'static>> {
    let mut context = CCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?;
    let level = match level {
        Level::Fast => 1,
        Level::Balanced => 3,
        Level::Small => 6,
    };
    // Bodies that fit need no more of a window than they have bytes, and no more of a table.
    let bits = length.map_or(u64::BITS, |length| {
        u64::BITS.saturating_sub(length.saturating_sub(1).leading_zeros())
    });
    let window = bits.clamp(10, ZSTD_WINDOW);
    for parameter in [
        CParameter::CompressionLevel(level),
        CParameter::WindowLog(window),
        CParameter::HashLog(ZSTD_TABLES.min(window)),
        CParameter::ChainLog(ZSTD_TABLES.min(window)),
        // A body's length is a hint here, and is stated nowhere: it may yet turn out wrong.
        CParameter::ContentSizeFlag(false),
    ] {
        context.set_parameter(parameter).map_err(zstd_error)?;
    }
    Ok(context)
}

fn run(
    context: &mut CCtx<'static>,
    out: &mut Vec<u8>,
    bytes: &[u8],
    directive: ZSTD_EndDirective,
) -> io::Result<()> {
    let mut input = InBuffer::around(bytes);
    loop {
        out.reserve(STEP);
        let start = out.len();
        let mut output = OutBuffer::around_pos(out, start);
        let left = context
            .compress_stream2(&mut output, &mut input, directive)
            .map_err(zstd_error)?;
        let taken = input.pos() == bytes.len();
        let done = match directive {
            ZSTD_EndDirective::ZSTD_e_continue => taken,
            ZSTD_EndDirective::ZSTD_e_flush | ZSTD_EndDirective::ZSTD_e_end => taken && left == 0,
        };
        if done {
            return Ok(());
        }
    }
}

fn zstd_error(code: usize) -> io::Error {
    io::Error::other(zstd_safe::get_error_name(code))
}

fn brotli(level: Level, length: Option<u64>) -> CompressorWriter<Vec<u8>> {
    let mut params = BrotliEncoderParams {
        quality: match level {
            Level::Fast => 2,
            Level::Balanced => 4,
            Level::Small => 5,
        },
        lgwin: BROTLI_WINDOW,
        ..BrotliEncoderParams::default()
    };
    if let Some(length) = length.and_then(|length| usize::try_from(length).ok()) {
        params.size_hint = length.min(1 << 20);
    }
    CompressorWriter::with_params(Vec::new(), STEP, &params)
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.algorithm {
            Algorithm::Zstd(_) => "zstd",
            Algorithm::Brotli(_) => "br",
            Algorithm::Gzip(_) => "gzip",
            Algorithm::Finished => "finished",
        };
        f.debug_struct("Codec")
            .field("algorithm", &name)
            .field("ready", &self.ready())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Read as _;

    use super::*;

    /// What a client makes of a whole body.
    pub(crate) fn decoded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        match coding {
            Coding::Zstd => {
                let mut context = zstd_safe::DCtx::create();
                let mut input = InBuffer::around(bytes);
                loop {
                    plain.reserve(STEP);
                    let start = plain.len();
                    let mut output = OutBuffer::around_pos(&mut plain, start);
                    context.decompress_stream(&mut output, &mut input).unwrap();
                    if plain.len() == start && input.pos() == bytes.len() {
                        break;
                    }
                }
            }
            Coding::Brotli => {
                // What was flushed is there, though the end is not.
                let mut reader = brotli::Decompressor::new(bytes, STEP);
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = reader.read(&mut buffer) {
                    plain.extend_from_slice(&buffer[..count]);
                }
            }
            Coding::Gzip => {
                let mut reader = flate2::read::GzDecoder::new(bytes);
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = reader.read(&mut buffer) {
                    plain.extend_from_slice(&buffer[..count]);
                }
            }
        }
        plain
    }

    /// Text that compresses, but not away.
    pub(crate) fn prose(random: &mut fastrand::Rng, bytes: usize) -> Vec<u8> {
        let words = ["gate ", "head ", "cache ", "shard ", "route\n", "origin, "];
        let mut text = Vec::new();
        while text.len() < bytes {
            text.extend_from_slice(words[random.usize(..words.len())].as_bytes());
            text.push(random.alphanumeric() as u8);
        }
        text.truncate(bytes);
        text
    }

    const LEVELS: [Level; 3] = [Level::Fast, Level::Balanced, Level::Small];

    #[test]
    fn what_goes_in_comes_out_at_every_level_and_in_any_pieces() {
        let seed = fastrand::u64(..);
        println!("SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for coding in Coding::ALL {
            for level in LEVELS {
                let bytes = random.usize(..600_000);
                let text = prose(&mut random, bytes);
                // The hint about the length may be wrong both ways.
                let hint = [None, Some(text.len() as u64), Some(10), Some(u64::MAX)];
                let mut codec = Codec::new(coding, level, hint[random.usize(..4)]).unwrap();
                let mut coded = Vec::new();
                let mut rest = &text[..];
                while !rest.is_empty() {
                    let (piece, after) = rest.split_at(random.usize(..=rest.len().min(40_000)));
                    codec.push(piece).unwrap();
                    if random.u8(..4) == 0 {
                        codec.flush().unwrap();
                    }
                    if random.bool() {
                        coded.append(&mut codec.take());
                    }
                    rest = after;
                }
                codec.finish().unwrap();
                coded.append(&mut codec.take());
                assert_eq!(decoded(coding, &coded), text, "{coding:?} {level:?}");
                assert!(coded.len() < text.len() + 1000, "{coding:?} {level:?}");
            }
        }
    }

    #[test]
    fn what_was_flushed_can_be_read_before_the_end() {
        for coding in Coding::ALL {
            let mut codec = Codec::new(coding, Level::Balanced, None).unwrap();
            let mut coded = Vec::new();
            for event in ["data: one\n\n", "data: two\n\n"] {
                codec.push(event.as_bytes()).unwrap();
                codec.flush().unwrap();
                coded.append(&mut codec.take());
                assert!(
                    decoded(coding, &coded).ends_with(event.as_bytes()),
                    "{coding:?} {event:?}"
                );
            }
        }
    }

    #[test]
    fn zstd_keeps_to_its_memory() {
        let mut random = fastrand::Rng::with_seed(3);
        let text = prose(&mut random, 3 << 20);
        for level in LEVELS {
            let mut context = zstd(level, None).unwrap();
            let mut out = Vec::new();
            for piece in text.chunks(16 << 10) {
                run(
                    &mut context,
                    &mut out,
                    piece,
                    ZSTD_EndDirective::ZSTD_e_continue,
                )
                .unwrap();
            }
            let (used, most) = (context.sizeof(), Codec::cost(Coding::Zstd, level, None));
            assert!(used <= most, "{level:?}: {used} of {most}");
        }
        for length in [
            1, 100, 2000, 20_000, 32_769, 65_536, 65_537, 200_000, 524_288, 1_000_000,
        ] {
            let hint = Some(length as u64);
            let mut context = zstd(Level::Balanced, hint).unwrap();
            for piece in text[..length].chunks(16 << 10) {
                run(
                    &mut context,
                    &mut Vec::new(),
                    piece,
                    ZSTD_EndDirective::ZSTD_e_continue,
                )
                .unwrap();
            }
            let most = Codec::cost(Coding::Zstd, Level::Balanced, hint);
            let used = context.sizeof();
            assert!(used <= most, "{length}: {used} of {most}");
        }
    }
}
