//! What of an answer a client is given: all of it, parts (RFC 9110 section 14), or only that it has it.
//!
//! The order is that of RFC 9110 section 13.2.2: `If-None-Match` or `If-Modified-Since`, then `If-Range`,
//! then `Range`; what comes before them is the origin's to judge. `hit` asks for what is stored, `reader`
//! for what is arriving. Invariant: no byte is copied, and what is read is held by the reader alone, so
//! that it counts until the last of it is sent.

use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{DATE, ETAG, HeaderMap, IF_RANGE, LAST_MODIFIED, RANGE};
use http::{HeaderValue, StatusCode};

use crate::range::{self, Piece, Pieces, Spans, Wanted};

use super::content::HitBody;
use super::entry::Entry;
use super::form::Form;
use super::freshness::date_of;
use super::head::Head;
use super::reader::ReadError;
use super::status::Verdict;

/// What of an answer goes to one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Portion {
    /// All.
    Whole,
    /// Nothing: the client has it.
    Held,
    /// Parts of so many bytes; to a client that resumes with `If-Range`, or to one that may know nothing.
    Parts {
        spans: Spans,
        complete: u64,
        resumes: bool,
    },
    /// Nothing of so many bytes is what was asked for.
    Unsatisfiable { complete: u64 },
}

impl Portion {
    /// What a request with these fields is given of an answer of `complete` bytes. Where that is not
    /// known, ranges do not count: no `Content-Range` could be told ahead of them. Nor of what is
    /// decompressed, since they are of the stored bytes.
    pub(super) fn of(head: &Head, form: Form, request: &HeaderMap, complete: Option<u64>) -> Self {
        if head.is_held_by(request) {
            return Self::Held;
        }
        let Some(complete) = complete.filter(|_| !matches!(form, Form::Plain(_))) else {
            return Self::Whole;
        };
        let counts = head.status == StatusCode::OK
            && request.contains_key(RANGE)
            && is_same(request, &head.headers);
        if !counts {
            return Self::Whole;
        }
        match range::wanted(request, complete) {
            Wanted::Whole => Self::Whole,
            Wanted::Unsatisfiable => Self::Unsatisfiable { complete },
            // Some clients would decompress what stands between the parts, too.
            Wanted::Parts(spans) if form == Form::Coded && spans.len() > 1 => Self::Whole,
            Wanted::Parts(spans) => Self::Parts {
                spans,
                complete,
                resumes: request.contains_key(IF_RANGE),
            },
        }
    }

    /// The same of an answer that is read while it arrives: parts that are wanted in another order than
    /// that in which they come are not worth waiting for.
    pub(super) fn in_order(self) -> Self {
        match self {
            Self::Parts { spans, .. } if !spans.is_sorted_by_key(|span| span.first) => Self::Whole,
            portion => portion,
        }
    }

    /// The head of the answer, and of what pieces its body is; without any it is the whole or none.
    pub(super) fn head(
        &self,
        head: &Head,
        age: Option<u64>,
        verdict: Verdict,
    ) -> (StatusCode, HeaderMap, Option<Pieces>) {
        if *self == Self::Held {
            let headers = head.not_modified(age, verdict);
            return (StatusCode::NOT_MODIFIED, headers, Some(Pieces::new()));
        }
        let mut headers = head.answer(age, verdict);
        match self {
            Self::Whole | Self::Held => (head.status, headers, None),
            Self::Parts {
                spans,
                complete,
                resumes,
            } => {
                let pieces = range::partial(&mut headers, spans, *complete);
                if *resumes {
                    range::resumed(&mut headers);
                }
                (StatusCode::PARTIAL_CONTENT, headers, Some(pieces))
            }
            Self::Unsatisfiable { complete } => {
                range::unsatisfiable(&mut headers, *complete);
                let status = StatusCode::RANGE_NOT_SATISFIABLE;
                (status, headers, Some(Pieces::new()))
            }
        }
    }
}

/// What tells two answers apart for certain (RFC 9110 section 8.8.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strong<'a> {
    Tag(&'a HeaderValue),
    Modified(SystemTime),
}

impl<'a> Strong<'a> {
    /// The strong validator of an answer, if it has one. A time of change is strong when the answer was
    /// made a second later at the earliest (section 8.8.2.2), and counts only where there is no tag.
    pub(super) fn of(answer: &'a HeaderMap) -> Option<Self> {
        let mut tags = answer.get_all(ETAG).iter();
        if let Some(tag) = tags.next() {
            let is_strong = tag.as_bytes().starts_with(b"\"") && tags.next().is_none();
            return is_strong.then_some(Self::Tag(tag));
        }
        strong_date(answer).map(Self::Modified)
    }
}

fn strong_date(answer: &HeaderMap) -> Option<SystemTime> {
    let modified = date_of(answer, LAST_MODIFIED)?;
    let made = date_of(answer, DATE)?.duration_since(modified).ok()?;
    (made >= Duration::from_secs(1)).then_some(modified)
}

/// Whether `If-Range` lets the range count for this answer (RFC 9110 section 13.1.5).
pub(super) fn is_same(request: &HeaderMap, answer: &HeaderMap) -> bool {
    let tag = match Strong::of(answer) {
        Some(Strong::Tag(tag)) => Some(tag.as_bytes()),
        Some(Strong::Modified(_)) | None => None,
    };
    range::is_same(request, tag, strong_date(answer))
}

/// How far a stored body has been read: a segment, and where it starts.
#[derive(Debug, Clone, Default)]
pub(super) struct Cursor {
    pub(super) index: usize,
    pub(super) start: u64,
}

/// Pieces of a stored body, to be read one after the other.
#[derive(Debug, Clone)]
pub struct Parts {
    pieces: Pieces,
    source: Source,
}

/// Where the bytes are.
#[derive(Debug, Clone)]
enum Source {
    Whole(HitBody, Cursor),
    /// Of such an answer not all is stored, but these are.
    Kept(Arc<Entry>),
}

impl Parts {
    pub(super) fn of_whole(pieces: Pieces, body: HitBody) -> Self {
        let source = Source::Whole(body, Cursor::default());
        Self { pieces, source }
    }

    pub(super) fn of_kept(pieces: Pieces, entry: Arc<Entry>) -> Self {
        let source = Source::Kept(entry);
        Self { pieces, source }
    }

    /// Bytes to come.
    pub(super) fn left(&self) -> u64 {
        length(&self.pieces)
    }

    /// All of it, where it lies in one. Asked before anything is read.
    pub(super) fn in_one(&self) -> Option<Bytes> {
        let mut parts = self.clone();
        let first = parts.read()?.ok()?;
        parts.pieces.is_empty().then_some(first)
    }

    /// The next bytes; `None` at the end.
    pub(super) fn read(&mut self) -> Option<Result<Bytes, ReadError>> {
        let Self { pieces, source } = self;
        let read = next(pieces, |start, length| {
            Poll::Ready(match source {
                Source::Whole(body, cursor) => body.after(start, length, cursor),
                Source::Kept(entry) => {
                    let kept = entry.parts.as_ref();
                    kept.and_then(|parts| parts.after(start, length))
                }
            })
        });
        match read {
            Poll::Ready(read) => read,
            Poll::Pending => None,
        }
    }
}

/// Bytes of all pieces.
pub(super) fn length(pieces: &Pieces) -> u64 {
    let lengths = pieces.iter().map(Piece::length);
    lengths.fold(0, u64::saturating_add)
}

/// The next bytes of a body in pieces; `read` has up to so many bytes from an offset on.
pub(super) fn next(
    pieces: &mut Pieces,
    read: impl FnOnce(u64, u64) -> Poll<Option<Bytes>>,
) -> Poll<Option<Result<Bytes, ReadError>>> {
    let (start, length) = match pieces.pop_front() {
        None => return Poll::Ready(None),
        Some(Piece::Text(text)) => return Poll::Ready(Some(Ok(text))),
        Some(Piece::Span { start, length }) => (start, length),
    };
    let Poll::Ready(read) = read(start, length) else {
        pieces.push_front(Piece::Span { start, length });
        return Poll::Pending;
    };
    // What was promised is not there: that must not look like the end.
    let Some(bytes) = read.filter(|bytes| !bytes.is_empty()) else {
        return Poll::Ready(Some(Err(ReadError)));
    };
    let taken = bytes.len() as u64;
    if taken < length {
        pieces.push_front(Piece::Span {
            start: start + taken,
            length: length - taken,
        });
    }
    Poll::Ready(Some(Ok(bytes)))
}

/// The first `most` bytes of a segment without its first `skipped`.
pub(super) fn cut(segment: &Bytes, skipped: u64, most: u64) -> Option<Bytes> {
    let skipped = usize::try_from(skipped).ok()?;
    let left = segment
        .len()
        .checked_sub(skipped)
        .filter(|left| *left > 0)?;
    let taken = usize::try_from(most).map_or(left, |most| most.min(left));
    Some(segment.slice(skipped..skipped + taken))
}
