//! Static files as a route target.
