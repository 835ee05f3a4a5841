//! Why a connection could not make a request of what its client sent.
//!
//! `server` finds faults and hands them to the `Handler`, so that they are answered, counted and logged
//! like everything else; the connection closes after the answer. Invariant: nothing of a faulty head
//! reaches an upstream.

/// What is wrong with the head of a request, or with its coming.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is not HTTP, or ambiguous (RFC 9112).
    #[error("{0}")]
    Malformed(&'static str),
    /// Its fields have too many bytes.
    #[error("the request's header fields are too large")]
    HeadTooLarge,
    /// It has too many fields.
    #[error("the request has too many header fields")]
    TooManyFields,
    /// Its target is too long.
    #[error("the request's target is too long")]
    TargetTooLong,
    /// A transfer coding that Headgate does not know (RFC 9112 section 6.1).
    #[error("the transfer coding is not known")]
    UnknownCoding,
    /// A major version that Headgate does not speak.
    #[error("the version of HTTP is not spoken here")]
    Version,
    /// It expects what nobody knows (RFC 9110 section 10.1.1).
    #[error("the expectation cannot be met")]
    Expectation,
    /// It did not come in time.
    #[error("the request did not arrive in time")]
    Timeout,
}
