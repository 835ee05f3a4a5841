//! Range requests (RFC 9110 section 14), alike for files and for what the cache has.
//!
//! ```text
//! request   Range and If-Range: which spans of so many bytes are asked for
//! answer    206 and 416: fields, and of what pieces the body is made
//! ```
//!
//! Pure: `files` and `cache` bring the bytes. Invariant: spans lie within the representation, are not
//! empty and do not overlap, so that no request is answered with more than the whole and some heads.

mod answer;
mod request;

pub use answer::{
    ContentRange, OF_THE_CONTENT, Piece, Pieces, content_range, partial, resumed, unsatisfiable,
};
pub use request::{Span, Spans, Wanted, is_asked, is_same, wanted};
