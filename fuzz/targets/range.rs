//! `Range`: whatever is asked for, of whatever length, the spans lie within it, are not empty, do not
//! overlap and are laid out as long as the head says. The first eight bytes are the length, the rest the
//! field, in lines.
#![no_main]

use headgate::range::{ContentRange, Span, Wanted, is_asked, partial, wanted};
use http::header::{CONTENT_LENGTH, RANGE};
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;

fn lie_within(spans: &[Span], length: u64) {
    assert!((1..=16).contains(&spans.len()));
    let mut sorted = spans.to_vec();
    sorted.sort_by_key(|span| span.first);
    let mut free = 0;
    for span in sorted {
        assert!(free <= span.first && span.first <= span.last && span.last < length);
        free = span.last + 1;
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((length, field)) = data.split_first_chunk::<8>() else {
        return;
    };
    // Of short ones there is more to see.
    let length = u64::from_le_bytes(*length) >> (length[7] % 64);
    let mut request = HeaderMap::new();
    for line in field.split(|byte| *byte == b'\n') {
        let Ok(line) = HeaderValue::from_bytes(line) else {
            return;
        };
        request.append(RANGE, line);
    }
    let Wanted::Parts(spans) = wanted(&request, length) else {
        return;
    };
    assert!(is_asked(&request));
    lie_within(&spans, length);

    let mut head = HeaderMap::new();
    let pieces = partial(&mut head, &spans, length);
    let bytes = pieces.iter().map(headgate::range::Piece::length);
    let bytes = bytes.fold(0, u64::saturating_add);
    assert_eq!(head[CONTENT_LENGTH], HeaderValue::from(bytes));
    if let [span] = spans[..] {
        let read = ContentRange::of(&head).expect("a range");
        assert_eq!((read.span, read.complete), (span, length));
    }
});
