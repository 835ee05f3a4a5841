//! What the server side and the upstream side of HTTP/2 share (RFC 9113).
//!
//! The h2 crate speaks the protocol; here is what both users of it need beside: a look at the frames
//! that come in (`frames`, `hpack`), bodies under flow control (`pump`), and what HTTP/2 does to
//! header fields (`fields`). No sockets and no timers: those are `server::http2`'s and `upstream`'s.

pub mod fields;
pub mod frames;
pub mod hpack;
mod huffman;
pub mod pump;
