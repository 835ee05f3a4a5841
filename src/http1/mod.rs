//! HTTP/1.1 as bytes: heads and body framing (RFC 9112), both directions, without sockets.
