//! Maps of fields that are used again.
//!
//! A map costs two allocations, and every answer needs one: `http1`, `wire::head` and `proxy::serving` take theirs
//! here, and `server` gives that of an answer back when its head is written. Each worker has its own, as its thread's. Invariant:
//! a map that is taken is empty, and what is kept is bounded: a few maps, none of them large.

use std::cell::RefCell;

use http::HeaderMap;

/// Most maps that a worker keeps.
const KEPT: usize = 64;
/// Room of the largest map that is kept, in fields.
const LARGEST: usize = 64;

/// Most values of a map that is kept beyond one for each name: it keeps their room, too.
const REPEATED: usize = 16;

thread_local! {
    static SPARE: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) };
}

/// An empty map, with room for so many fields if it is made anew.
#[must_use]
pub fn fields(room: usize) -> HeaderMap {
    let kept = SPARE.with_borrow_mut(Vec::pop);
    kept.unwrap_or_else(|| HeaderMap::with_capacity(room))
}

/// Whether a map has room for so many names at most, and has had few values besides.
pub(super) fn is_small(fields: &HeaderMap, names: usize) -> bool {
    (1..=names).contains(&fields.capacity()) && fields.len() - fields.keys_len() <= REPEATED
}

/// Keeps a map for another request.
pub fn give_back(mut fields: HeaderMap) {
    if is_small(&fields, LARGEST) {
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < KEPT {
                fields.clear();
                spare.push(fields);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::ACCEPT;

    use super::*;

    fn map(room: usize) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(room);
        map.append(ACCEPT, HeaderValue::from_static("*/*"));
        map.append(ACCEPT, HeaderValue::from_static("text/plain"));
        map
    }

    #[test]
    fn a_map_comes_back_empty_and_a_large_one_never() {
        assert_eq!(fields(0).capacity(), 0);
        give_back(map(1000));
        assert_eq!(fields(0).capacity(), 0, "too large to be kept");
        give_back(map(20));
        let again = fields(0);
        assert!(again.capacity() >= 20 && again.is_empty());
        for _ in 0..KEPT * 2 {
            give_back(map(1));
        }
        let kept = (0..KEPT * 2).filter(|_| fields(0).capacity() > 0).count();
        assert_eq!(kept, KEPT);
    }
}
