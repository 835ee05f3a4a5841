//! The head of a request on its way from its parser to the road, and memory for the next one.
//!
//! `http1` and `http2` fill one, `server` hands it to the `Handler`, and from then on the road shares it. It
//! is one pointer all the way: a head has some 200 bytes, which would be copied at each of a dozen steps. When a request
//! is over, `proxy` gives its head back, with the room of its map, to the requests to come; each worker has its own spare
//! ones, as its thread's. Invariant: a head that is taken is empty, and what is kept is bounded.

use std::cell::RefCell;
use std::ops::Deref;
use std::rc::Rc;

use http::request::Parts;
use http::{Method, Request, Uri, Version};

use super::spare;

/// Most heads that a worker keeps: about as many as it has requests at once when it is busy.
const KEPT: usize = 512;
/// Room of the largest map that is kept, in fields.
const LARGEST: usize = 48;
/// Least room of a map, for what the road adds.
const LEAST: usize = 8;

thread_local! {
    static SPARE: RefCell<Vec<Rc<Parts>>> = const { RefCell::new(Vec::new()) };
}

/// A request's head, which has one owner so far.
#[derive(Debug)]
pub struct Head(Rc<Parts>);

impl Head {
    /// An empty one, with room for so many fields if it is made anew.
    #[must_use]
    pub fn new(fields: usize) -> Self {
        let kept = SPARE.with_borrow_mut(Vec::pop);
        Self(kept.unwrap_or_else(|| {
            let (mut parts, ()) = Request::new(()).into_parts();
            parts.headers = spare::fields(fields.max(LEAST));
            Rc::new(parts)
        }))
    }

    /// Its parts, to be changed.
    pub fn parts(&mut self) -> &mut Parts {
        // It has one owner, so nothing is cloned.
        Rc::make_mut(&mut self.0)
    }

    /// From here on it has many owners, and nobody changes it.
    #[must_use]
    pub fn share(self) -> Rc<Parts> {
        self.0
    }

    /// The same with a body, as a whole request.
    #[cfg(test)]
    pub(crate) fn with<B>(self, body: B) -> Request<B> {
        let parts = Rc::try_unwrap(self.0).unwrap_or_else(|shared| Parts::clone(&shared));
        Request::from_parts(parts, body)
    }
}

impl Deref for Head {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// Keeps a head for another request, if its owner is the last one, which has no more use for it.
pub fn give_back(head: &mut Rc<Parts>) {
    let Some(parts) = Rc::get_mut(head) else {
        return;
    };
    if !spare::is_small(&parts.headers, LARGEST) {
        return;
    }
    parts.version = Version::default();
    parts.method = Method::GET;
    parts.uri = Uri::default();
    parts.headers.clear();
    parts.extensions.clear();
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < KEPT {
            spare.push(Rc::clone(head));
        }
    });
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::ACCEPT;

    use super::*;

    fn used(room: usize) -> Rc<Parts> {
        let mut head = Head::new(0);
        let parts = head.parts();
        parts.method = Method::POST;
        parts.version = Version::HTTP_2;
        parts.uri = Uri::from_static("/a?b");
        parts.headers = http::HeaderMap::with_capacity(room);
        parts
            .headers
            .append(ACCEPT, HeaderValue::from_static("*/*"));
        parts
            .headers
            .append(ACCEPT, HeaderValue::from_static("text/plain"));
        parts.extensions.insert(7_u8);
        head.share()
    }

    #[test]
    fn a_head_comes_back_empty_while_nobody_else_has_it() {
        let mut head = used(20);
        let other = Rc::clone(&head);
        give_back(&mut head);
        assert_eq!(other.method, Method::POST, "somebody reads it still");
        assert_eq!(other.headers.len(), 2);
        drop(other);
        let place = Rc::as_ptr(&head);
        give_back(&mut head);
        drop(head);
        let again = Head::new(0);
        assert_eq!(Rc::as_ptr(&again.0), place);
        assert_eq!((&again.method, &again.uri), (&Method::GET, &Uri::default()));
        assert!(again.headers.is_empty() && again.headers.capacity() >= 20);
        assert!(again.extensions.is_empty());
        assert_eq!(again.version, Version::HTTP_11);
    }

    #[test]
    fn neither_large_heads_nor_many_are_kept() {
        let mut large = used(1000);
        give_back(&mut large);
        assert_eq!(large.headers.len(), 2, "too large to be kept");
        let mut repeated = Head::new(8);
        for _ in 0..100 {
            let value = HeaderValue::from_static("*/*");
            repeated.parts().headers.append(ACCEPT, value);
        }
        let mut repeated = repeated.share();
        give_back(&mut repeated);
        assert_eq!(
            repeated.headers.len(),
            100,
            "its values take more than its names"
        );
        let mut many: Vec<_> = (0..KEPT * 2).map(|_| used(1)).collect();
        many.iter_mut().for_each(give_back);
        drop(many);
        assert_eq!(SPARE.with_borrow(Vec::len), KEPT);
    }
}
