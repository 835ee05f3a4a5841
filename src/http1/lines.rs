//! The lines of a head or a trailer section, found as they arrive.
//!
//! `request`, `response` and `chunked` ask for the end of a section each time bytes were added; the
//! search goes on where it stopped, so a head that trickles in is looked at once. Invariant: every
//! line that is handed out ended in CRLF and holds no other line feed.

use memchr::memchr;

use crate::wire::Fault;

/// Where lines end, and where the search for the next end begins.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Offsets after each line feed.
    ends: Vec<usize>,
    /// No line feed is left before this offset.
    searched: usize,
}

impl Lines {
    /// The offset after the section's empty line, once that has come. `start` is the offset of its
    /// first byte and must stay the same from call to call; `most` bounds its lines.
    pub(super) fn end(
        &mut self,
        input: &[u8],
        start: usize,
        most: usize,
    ) -> Result<Option<usize>, Fault> {
        let mut line = self.ends.last().copied().unwrap_or(start);
        let mut from = self.searched.max(start);
        loop {
            let Some(found) = memchr(b'\n', input.get(from..).unwrap_or_default()) else {
                self.searched = input.len();
                return Ok(None);
            };
            let feed = from.saturating_add(found);
            let content = input.get(line..feed).unwrap_or_default();
            let next = feed.saturating_add(1);
            match content {
                b"\r" => return Ok(Some(next)),
                [.., b'\r'] => {}
                _ => return Err(Fault::Malformed("a line feed without a carriage return")),
            }
            if self.ends.len() >= most {
                return Err(Fault::TooManyFields);
            }
            self.ends.push(next);
            (line, from) = (next, next);
        }
    }

    /// How many lines are whole, the empty one not counted.
    pub(super) fn count(&self) -> usize {
        self.ends.len()
    }

    /// Offsets of each line from the `first` on, its CRLF not included.
    pub(super) fn ranges(
        &self,
        start: usize,
        first: usize,
    ) -> impl Iterator<Item = (usize, usize)> + '_ {
        let begins = std::iter::once(start).chain(self.ends.iter().copied());
        begins
            .zip(self.ends.iter())
            .skip(first)
            .map(|(begin, end)| (begin, end.saturating_sub(2)))
    }

    /// Ready for the next section; keeps its memory.
    pub(super) fn clear(&mut self) {
        self.ends.clear();
        self.searched = 0;
    }

    /// Ready for the next section, its memory given back.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}
