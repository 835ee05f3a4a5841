//! What the server side and the upstream side of HTTP/2 share (RFC 9113).
