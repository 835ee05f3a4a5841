//! Response compression: whether an answer is compressed on its way out, and doing it.
//!
//! ```text
//! accept   what the client takes, by Accept-Encoding      (also for `files`' variants)
//! judge    whether this answer is compressed, and what its head then says
//! stream   the body: at most a slice of work at a time, flushed when the source pauses
//! codec    the three algorithms, with their bounds on memory
//! budget   what all that a worker compresses at a time may hold
//! ```
//!
//! `proxy::respond` asks `judge` after the cache, so that the cache holds what the upstream sent, and
//! wraps the body in a `Stream`. Invariants: nothing is compressed twice; an answer that might have
//! been compressed says `Vary: accept-encoding`, compressed or not; what describes the bytes before
//! compression (lengths, strong validators, digests) does not go out with the bytes after it.

mod accept;
mod budget;
mod codec;
mod judge;
mod stream;

pub use accept::{Accepted, accepted};
pub use budget::Budget;
pub use judge::{Subject, Verdict, judge, mark};
pub use stream::{EncodeError, Polled, Stream};
