//! A chunked body: however its bytes arrive, content, trailers, end and rest are the same; and what is
//! written of it is read back.
#![no_main]

use bytes::BytesMut;
use headgate::http1::{Decoded, Decoder, Encoder, Framing};
use http::HeaderMap;
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Default, PartialEq)]
struct Read {
    content: Vec<u8>,
    trailers: Option<HeaderMap>,
    ended: bool,
    failed: bool,
    /// What is left behind the end.
    rest: Vec<u8>,
}

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Read {
    let mut decoder = Decoder::new(Framing::Chunked);
    let mut input = BytesMut::new();
    let mut read = Read::default();
    for piece in pieces {
        input.extend_from_slice(piece);
        while !read.ended && !read.failed {
            match decoder.decode(&mut input) {
                Ok(Decoded::Data(data)) => {
                    assert!(!data.is_empty());
                    read.content.extend_from_slice(&data);
                }
                Ok(Decoded::Trailers(trailers)) => {
                    assert!(read.trailers.replace(trailers).is_none());
                }
                Ok(Decoded::NeedMore) => break,
                Ok(Decoded::End) => read.ended = true,
                Err(_) => read.failed = true,
            }
        }
        if read.failed {
            break;
        }
    }
    assert_eq!(read.ended, decoder.is_end() && !read.failed);
    if read.ended {
        read.rest = input.to_vec();
    }
    read
}

fuzz_target!(|data: &[u8]| {
    let whole = read(std::iter::once(data));
    let mut from = 0;
    let cuts = headgate_fuzz::cuts(data);
    let pieces = read(
        cuts.into_iter()
            .map(|to| &data[std::mem::replace(&mut from, to)..to]),
    );
    assert_eq!(whole, pieces);
    if !whole.ended {
        return;
    }
    assert!(data.ends_with(&whole.rest));

    let mut encoder = Encoder::new(Framing::Chunked);
    let mut written = Vec::new();
    for piece in whole.content.chunks(1000) {
        encoder
            .before(piece.len(), &mut written)
            .expect("any length");
        written.extend_from_slice(piece);
        encoder.after(piece.len(), &mut written);
    }
    encoder
        .finish(whole.trailers.as_ref(), &mut written)
        .expect("any length");
    let again = read(std::iter::once(&written[..]));
    assert!(again.ended && again.rest.is_empty(), "{again:?}");
    assert_eq!(again.content, whole.content);
    assert_eq!(again.trailers, whole.trailers);
});
