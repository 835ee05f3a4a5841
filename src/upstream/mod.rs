//! Talking to endpoints: connections kept by each worker, and one exchange at a time on each.
//!
//! `proxy::forward` picks an endpoint (`balancer`), asks `Pools::exchange` for an answer, and
//! decides with the error's `retry` whether to try again. Connections are driven inline: nobody
//! but the request (and then its answer's body) polls them, so an exchange costs no task and no
//! wake-up. Invariant: a connection goes back to the pool only when its exchange ended cleanly,
//! with nothing unsent and nothing unread.

pub mod error;
pub mod exchange;
pub mod pool;
pub mod request_body;

pub use error::{ExchangeError, Fault, Retry, Stage};
pub use exchange::AnswerBody;
pub use pool::{Pools, Target};
pub use request_body::{ClientFailure, RequestBody};
