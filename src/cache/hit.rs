//! A stored answer as the answer to one request.
//!
//! `mod` finds it, `proxy` sends it: by a map of fields, or, where nobody looks at them on the way, by the lines
//! that are ready in the entry. Invariant: both say the same.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AGE, CACHE_STATUS, HeaderMap};
use http::{Method, StatusCode};
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::wire::fields::{EachField, FieldBlock};

use super::content::HitBody;
use super::entry::Entry;
use super::form::{Decoding, Form};
use super::head::OVERWRITTEN;
use super::portion::Portion;
use super::status::{HIT, Verdict};

/// A stored answer to a request.
#[derive(Debug)]
pub struct Hit {
    pub(super) entry: Arc<Entry>,
    portion: Portion,
    form: Form,
    is_head: bool,
    way: Way,
}

/// How a stored answer came to be one to this request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// It was in memory.
    Memory,
    /// It was in memory, and a soft purge has made it stale whatever life it had left.
    Purged,
    /// It was on disk.
    Disk,
    /// It is stale, and the origin failed: with this status if it had one.
    Fallback(Option<StatusCode>),
}

impl Hit {
    /// `conditions` are the request's fields, where one of them may make it less than the whole.
    pub(super) fn new(
        entry: Arc<Entry>,
        form: Form,
        method: &Method,
        conditions: Option<&HeaderMap>,
    ) -> Self {
        let is_head = *method == Method::HEAD;
        let complete = || match &entry.parts {
            Some(parts) => parts.complete,
            None => entry.body.len(),
        };
        let portion = match conditions {
            // A range counts for `GET` alone (RFC 9110 section 14.2).
            Some(request) if is_head => Portion::of(&entry.head, form, request, None),
            Some(request) => Portion::of(&entry.head, form, request, Some(complete())),
            None => Portion::Whole,
        };
        Self {
            entry,
            portion,
            form,
            is_head,
            way: Way::Memory,
        }
    }

    pub(super) fn by(self, way: Way) -> Self {
        Self { way, ..self }
    }

    fn ttl(&self, now: Instant) -> i64 {
        let ttl = self.entry.age.ttl(now);
        match self.way {
            // When it was purged is not known, only that it was.
            Way::Purged => ttl.min(0),
            Way::Memory | Way::Disk | Way::Fallback(_) => ttl,
        }
    }

    fn verdict(&self, now: Instant) -> Verdict {
        match self.way {
            Way::Memory | Way::Purged => Verdict::Hit { ttl: self.ttl(now) },
            Way::Disk => Verdict::Recalled { ttl: self.ttl(now) },
            Way::Fallback(status) => Verdict::Fallback {
                status: status.map(|status| status.as_u16()),
                collapsed: false,
            },
        }
    }

    /// In which form the client gets it.
    pub fn form(&self) -> Form {
        self.form
    }

    /// What has to be done to the body, if anything.
    pub fn decoding(&self) -> Option<Decoding> {
        match self.form {
            Form::Plain(decoding) if self.portion == Portion::Whole && !self.is_head => {
                Some(decoding)
            }
            Form::AsSent | Form::Coded | Form::Plain(_) => None,
        }
    }

    /// Age of the answer (RFC 9111 section 4.2.3).
    pub fn age(&self, now: Instant) -> Duration {
        self.entry.age.current(now)
    }

    /// The answer. Its fields hold an empty `X-Request-Id`, for the caller to overwrite.
    pub fn into_parts(self, now: Instant) -> (StatusCode, HeaderMap, HitBody) {
        let age = Some(self.age(now).as_secs());
        let verdict = self.verdict(now);
        let head = self.entry.head.in_form(self.form);
        let (status, headers, pieces) = self.portion.head(&head, age, verdict);
        let body = if self.is_head {
            HitBody::Empty
        } else {
            self.entry.portion(pieces)
        };
        (status, headers, body)
    }

    /// The answer with its fields as they are stored, where its body is whole and in one piece.
    ///
    /// # Errors
    /// With the hit, where it is not.
    pub fn into_lines(self, now: Instant) -> Result<(StatusCode, Lines, Bytes), Self> {
        let is_as_stored = self.portion == Portion::Whole && self.decoding().is_none();
        match &self.entry.body {
            HitBody::One(content)
                if is_as_stored
                    && !self.is_head
                    && matches!(self.way, Way::Memory | Way::Purged) =>
            {
                let content = content.clone();
                let lines = Lines {
                    age: self.age(now).as_secs(),
                    ttl: self.ttl(now),
                    entry: self.entry,
                };
                Ok((lines.entry.head.status, lines, content))
            }
            _ => Err(self),
        }
    }
}

/// The fields of a hit, without its length and without `X-Request-Id`: as lines of HTTP/1.1, or one by one.
#[derive(Debug)]
pub struct Lines {
    entry: Arc<Entry>,
    age: u64,
    ttl: i64,
}

impl Lines {
    /// Appends them.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut digits = itoa::Buffer::new();
        out.extend_from_slice(self.entry.lines());
        out.extend_from_slice(b"age: ");
        out.extend_from_slice(digits.format(self.age).as_bytes());
        out.extend_from_slice(b"\r\ncache-status: ");
        if let Some(inner) = &self.entry.head.inner {
            out.extend_from_slice(inner.as_bytes());
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(HIT.as_bytes());
        out.extend_from_slice(digits.format(self.ttl).as_bytes());
        out.extend_from_slice(b"\r\n");
    }

    /// Writes them to a block of HTTP/2.
    pub fn show(&self, to: &mut dyn FieldBlock) {
        let head = &self.entry.head;
        let stored = |each: EachField<'_>| {
            for (name, value) in &head.headers {
                if !OVERWRITTEN.contains(name) {
                    each(name.as_str(), value.as_bytes());
                }
            }
        };
        to.encoded(self.entry.block(|| to.encode(&stored)));
        let mut digits = itoa::Buffer::new();
        to.field(AGE.as_str(), digits.format(self.age).as_bytes());
        let mut status: SmallVec<[u8; 64]> = SmallVec::new();
        if let Some(inner) = &head.inner {
            status.extend_from_slice(inner.as_bytes());
            status.extend_from_slice(b", ");
        }
        status.extend_from_slice(HIT.as_bytes());
        status.extend_from_slice(digits.format(self.ttl).as_bytes());
        to.field(CACHE_STATUS.as_str(), &status);
    }
}
