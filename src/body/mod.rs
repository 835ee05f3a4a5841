//! What every room needs to know of message bodies: the one error type that they share, and what a
//! client sends after a head (`Inbound`).
//!
//! Streams keep their concrete types (`upstream::exchange::AnswerBody`, `cache::Reader`), since a
//! boxed body would cost every frame a virtual call. No body is gathered into memory here or
//! anywhere else on a request's road. `Inbound` is the exception: most requests have no body.

mod inbound;

pub use inbound::{BodyFault, Inbound};

/// Why a body ended early.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
