//! Which shard owns a request: a key is found in it and chooses one upstream.
//!
//! `snapshot` compiles a `Map` per entry of `shard_maps`; `proxy` hands it the pieces of a request
//! as a `KeySource` and turns a `KeyError` into a `400` whose problem document names the key.
//! Invariant: a key that is missing, malformed or given twice with different values is refused,
//! never guessed, since a wrong shard answers with somebody else's data or none.

mod key;
mod map;
mod strategy;

pub use key::KeySource;
pub use map::{KeyError, Map, Problem};
