//! Talking to endpoints: connections kept by each worker, and exchanges on them.
//!
//! `proxy::forward` picks an endpoint (`balancer`), asks `Pools::exchange` for an answer, and
//! decides with the error's `retry` whether to try again. Over HTTP/1.1 (`http1`) a connection is driven
//! inline: nobody but the request (and then its answer's body) polls it, so an exchange costs no task
//! and no wake-up. Over HTTP/2 (`http2`) requests share connections, each of which has a task.
//! Invariant: a connection goes back to the pool only when its exchange ended cleanly, with nothing
//! unsent and nothing unread.

mod connect;
mod early;
pub mod error;
pub mod exchange;
mod hold;
mod http1;
mod http2;
mod outgoing;
pub mod pool;
pub mod request_body;
mod tunnels;
mod websocket;

pub use early::Early;
pub use error::{ExchangeError, Fault, Retry, Stage};
pub use exchange::AnswerBody;
pub use outgoing::{Fields, Outgoing, Tell};
pub use pool::{Pools, Target};
pub use request_body::{ClientFailure, RequestBody};

use early::Informed;

#[cfg(test)]
mod tests;
