//! Which route takes a request.
//!
//! `snapshot` compiles a `Table` from the routes of a config; `proxy` asks it once per request, on
//! every worker at the same time. Whatever the order in the file, the most specific route wins:
//!
//! ```text
//! host    exact > longest suffix > any
//! path    exact > more literal segments > more captured segments > whole path > path and below
//!         > leftmost literal          (a prefix is literal segments and what is below them)
//! rest    more conditions > the sorted list of conditions > name
//! ```
//!
//! A route whose conditions fail gives way to the next best, down to the routes of the next host.
//! Invariant: a look-up allocates nothing, panics on no input, and its work is bounded by the
//! table, not by the length of the path.

mod paths;
mod pattern;
mod table;

#[cfg(test)]
mod tests;

pub use table::{Captures, Found, Request, Table};
