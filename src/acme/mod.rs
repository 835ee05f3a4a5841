//! Certificates that Headgate obtains and renews by itself (RFC 8555, RFC 9773).
