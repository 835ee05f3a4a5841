//! Informational answers on their way to a client, ahead of the final one.

use http::{HeaderMap, StatusCode};

/// Takes `1xx` answers for one request (RFC 9110 section 15.2). A connection makes it where its client
/// can read them.
pub trait Early {
    /// Sends one at the next chance; says whether it will be sent. `100` is not for here: a connection
    /// sends it by itself, when the body of a request that waits for it is first asked for.
    fn send(&self, status: StatusCode, headers: HeaderMap) -> bool;
}
