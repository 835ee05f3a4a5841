//! Response compression: whether an answer is compressed on its way, and doing and undoing it.
//!
//! ```text
//! accept   what the client takes, by Accept-Encoding      (also for `files`' variants)
//! judge    whether this answer is compressed, and what its head then says
//! stream   the body: at most a slice of work at a time, flushed when the source pauses
//! decode   the way back, for clients that do not take the coding in which an answer is stored
//! codec    the three algorithms, with their bounds on memory
//! budget   what all that a worker compresses at a time may hold
//! ```
//!
//! `proxy::respond` asks `judge` and wraps the body in a `Stream`. On a route that caches too, `proxy::fetch`
//! does so once, on the way into the cache (`proxy::forms` says how); `cache` then tells which clients take what is stored, and
//! for the others the body goes through a `Decoder`. Invariants: nothing is compressed twice; an answer that might have
//! been compressed says `Vary: accept-encoding`, compressed or not; what describes the bytes before
//! compression (lengths, strong validators, digests) does not go out with the bytes after it.

mod accept;
mod budget;
mod codec;
mod decode;
mod judge;
mod stream;

pub use accept::{Accepted, accepted, takes};
pub use budget::Budget;
pub use decode::{Decoder, Maker};
pub use judge::{MARKED, Subject, Verdict, coding_of, forbids, judge, mark};
pub use stream::{CodingError, Polled, Stream};
