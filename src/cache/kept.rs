//! The parts of a body that are stored, when not all of them are (RFC 9111 section 3.3).
//!
//! `parts` puts new ones in and asks which are missing; `portion` reads them. Segments share their bytes
//! with the answers that brought them. Invariants: segments are in order, are not empty and do not overlap;
//! there are no more than `MAX_RUNS` of them without a gap between.

use bytes::Bytes;

use crate::range::Span;

use super::budget::ALLOCATION_OVERHEAD;
use super::portion::cut;

/// Parts with gaps between them. More than this, and the others give way to a new one.
const MAX_RUNS: usize = 32;

/// Segments may be smaller than this on average, in bytes, only while there are few: each new part costs
/// a walk over all.
const CRUMB: u64 = 1024;
const FEW: u64 = 128;

/// What is stored of a body.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    /// Length of the whole.
    pub(super) complete: u64,
    /// Each with the offset at which it starts.
    segments: Box<[(u64, Bytes)]>,
}

impl Kept {
    pub(super) fn new(complete: u64) -> Self {
        Self {
            complete,
            segments: Box::default(),
        }
    }

    /// Up to `most` bytes of what follows the first `at`, as far as they lie in one segment.
    pub(super) fn after(&self, at: u64, most: u64) -> Option<Bytes> {
        let next = self.segments.partition_point(|(start, _)| *start <= at);
        let (start, bytes) = self.segments.get(next.checked_sub(1)?)?;
        cut(bytes, at - start, most)
    }

    /// What there is without a gap: from where, up to where.
    fn runs(&self) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for (start, bytes) in &self.segments {
            let end = start + bytes.len() as u64;
            match runs.last_mut() {
                Some((_, last)) if *last == *start => *last = end,
                _ => runs.push((*start, end)),
            }
        }
        runs
    }

    /// The least span that holds all that is missing of another.
    pub(super) fn missing(&self, span: Span) -> Option<Span> {
        let Span {
            mut first,
            mut last,
        } = span;
        for (start, end) in self.runs() {
            if start <= first && first < end {
                first = end;
            }
            if start <= last && last < end {
                last = start.checked_sub(1)?;
            }
            if first > last {
                return None;
            }
        }
        Some(Span { first, last })
    }

    /// Whether nothing is missing.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.runs()[..], [(0, end)] if end == self.complete)
    }

    /// The same with a new part in the place of what was there: everything that fits into `room` bytes,
    /// and of too much the new part alone.
    pub(super) fn with(&self, start: u64, part: &[Bytes], room: u64) -> Self {
        let length: u64 = part.iter().map(|bytes| bytes.len() as u64).sum();
        let end = start + length;
        let mut segments = Vec::new();
        let mut new = Vec::with_capacity(part.len());
        let mut at = start;
        for bytes in part {
            new.push((at, bytes.clone()));
            at += bytes.len() as u64;
        }
        let before = |(at, bytes): &(u64, Bytes)| {
            let kept = cut(bytes, 0, start.saturating_sub(*at))?;
            (!kept.is_empty()).then_some((*at, kept))
        };
        let after = |(at, bytes): &(u64, Bytes)| {
            let skipped = end.saturating_sub(*at);
            Some((at + skipped, cut(bytes, skipped, u64::MAX)?))
        };
        segments.extend(self.segments.iter().filter_map(before));
        segments.extend(new.iter().cloned());
        segments.extend(self.segments.iter().filter_map(after));
        let all = Self {
            complete: self.complete,
            segments: segments.into(),
        };
        let held: u64 = all.segments.iter().map(|(_, b)| b.len() as u64).sum();
        let is_crumbs = all.segments.len() as u64 > FEW + held / CRUMB;
        if held <= room && !is_crumbs && all.runs().len() <= MAX_RUNS {
            return all;
        }
        Self {
            complete: self.complete,
            segments: new.into(),
        }
    }

    /// The bytes, in order.
    pub(super) fn segments(&self) -> impl Iterator<Item = Bytes> {
        self.segments.iter().map(|(_, bytes)| bytes.clone())
    }

    /// Bytes and overhead kept.
    pub(super) fn charge(&self) -> usize {
        self.segments
            .iter()
            .map(|(_, bytes)| bytes.len() + ALLOCATION_OVERHEAD)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u64 = u64::MAX;

    fn kept(parts: &[(u64, &'static str)]) -> Kept {
        let whole = Kept::new(10);
        parts.iter().fold(whole, |kept, (start, text)| {
            kept.with(*start, &[Bytes::from_static(text.as_bytes())], ALL)
        })
    }

    fn shown(kept: &Kept) -> Vec<(u64, String)> {
        let one = |(at, bytes): &(u64, Bytes)| (*at, String::from_utf8(bytes.to_vec()).unwrap());
        kept.segments.iter().map(one).collect()
    }

    fn missing(kept: &Kept, first: u64, last: u64) -> Option<(u64, u64)> {
        let missing = kept.missing(Span { first, last });
        missing.map(|span| (span.first, span.last))
    }

    #[test]
    fn a_new_part_takes_the_place_of_what_it_covers() {
        let of = |parts: &[(u64, &'static str)]| shown(&kept(parts));
        let part = |at: u64, text: &str| (at, text.to_owned());
        assert_eq!(of(&[(2, "cde")]), [part(2, "cde")]);
        assert_eq!(of(&[(2, "cde"), (2, "CDE")]), [part(2, "CDE")]);
        assert_eq!(
            of(&[(0, "abcde"), (1, "BC")]),
            [part(0, "a"), part(1, "BC"), part(3, "de")]
        );
        assert_eq!(of(&[(4, "ef"), (0, "ab")]), [part(0, "ab"), part(4, "ef")]);
        assert_eq!(of(&[(0, "abc"), (6, "ghi"), (2, "CDEFG")]).len(), 3);
    }

    #[test]
    fn what_is_missing_lies_between_what_is_there() {
        let kept = kept(&[(0, "ab"), (4, "ef"), (8, "ij")]);
        assert_eq!(missing(&kept, 0, 1), None);
        assert_eq!(missing(&kept, 4, 4), None);
        assert_eq!(missing(&kept, 2, 3), Some((2, 3)));
        assert_eq!(missing(&kept, 0, 9), Some((2, 7)));
        assert_eq!(missing(&kept, 5, 6), Some((6, 6)));
        assert_eq!(missing(&kept, 3, 4), Some((3, 3)));
        assert_eq!(missing(&kept, 1, 9), Some((2, 7)));
        assert!(!kept.is_whole());
    }

    #[test]
    fn parts_without_a_gap_are_the_whole() {
        let whole = kept(&[(5, "fghij"), (0, "abcde")]);
        assert!(whole.is_whole());
        assert_eq!(missing(&whole, 0, 9), None);
        assert_eq!(whole.after(4, ALL).unwrap(), "e");
        assert_eq!(whole.after(5, 2).unwrap(), "fg");
        assert_eq!(whole.after(10, ALL), None);
    }

    #[test]
    fn the_new_part_is_kept_alone_when_there_is_no_room_for_all() {
        let first = kept(&[(0, "abc")]);
        let part = [Bytes::from_static(b"ghij")];
        assert_eq!(first.with(6, &part, 7).segments.len(), 2);
        assert_eq!(shown(&first.with(6, &part, 6)), [(6, "ghij".to_owned())]);
        let mut many = Kept::new(1000);
        for number in 0..100 {
            many = many.with(number * 3, &[Bytes::from_static(b"x")], ALL);
            assert!(many.runs().len() <= MAX_RUNS);
        }
        let mut crumbs = Kept::new(1000);
        for at in 0..1000 {
            crumbs = crumbs.with(at, &[Bytes::from_static(b"x")], ALL);
            assert!(crumbs.segments.len() as u64 <= FEW + 1);
        }
    }

    #[test]
    fn random_parts_are_what_was_put_in() {
        let seed = fastrand::u64(..);
        println!("SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..200 {
            let mut model: Vec<Option<u8>> = vec![None; 64];
            let mut kept = Kept::new(64);
            for _ in 0..20 {
                let start = random.usize(..63);
                let length = random.usize(1..=64 - start);
                let bytes: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
                for (slot, byte) in model[start..].iter_mut().zip(&bytes) {
                    *slot = Some(*byte);
                }
                let cut = random.usize(..=length);
                let part = [&bytes[..cut], &bytes[cut..]].map(Bytes::copy_from_slice);
                let part: Vec<Bytes> = part.into_iter().filter(|b| !b.is_empty()).collect();
                kept = kept.with(start as u64, &part, ALL);
                for (at, byte) in model.iter().enumerate() {
                    let found = kept.after(at as u64, 1).map(|bytes| bytes[0]);
                    assert_eq!(found, *byte);
                }
                let (first, last) = (random.u64(..32), random.u64(32..64));
                let gaps: Vec<u64> = (first..=last)
                    .filter(|at| model[usize::try_from(*at).unwrap()].is_none())
                    .collect();
                let hull = gaps.first().copied().zip(gaps.last().copied());
                assert_eq!(missing(&kept, first, last), hull);
                assert_eq!(kept.is_whole(), model.iter().all(Option::is_some));
            }
        }
    }
}
