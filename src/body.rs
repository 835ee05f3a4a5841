//! What every room needs to know of message bodies: the one error type that they share.
//!
//! Streams keep their concrete types (`upstream::exchange::AnswerBody`, `cache::Reader`), since a
//! boxed body would cost every frame a virtual call. No body is gathered into memory here or
//! anywhere else on a request's road.

/// Why a body ended early.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
