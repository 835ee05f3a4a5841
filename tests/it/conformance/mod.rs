//! What RFC 9111 and its companions ask of a shared cache, statement by statement.
//!
//! Each test bears the number of its section: `s4_2_4_...` is section 4.2.4 of the RFC that its file is
//! about. The origin is scripted, clients are real sockets, and hours pass when a test says so (`Timed`).

mod keys;
mod rfc5861;
mod rfc9110_ranges;
mod rfc9111_freshness;
mod rfc9111_invalidation;
mod rfc9111_partial;
mod rfc9111_validation;
mod rfc9875;
