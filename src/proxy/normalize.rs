//! Station 2: refuse what is ambiguous.
//!
//! hyper hands over any head that parses; which host a request is for must not depend on who reads
//! it. Invariant: past this station there is exactly one authority, and a body has no transfer
//! coding but `chunked`.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use http::header::{HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Method, Version};

use super::reject::Reject;

/// The host that the request is for, as sent (it may have a port); empty for HTTP/1.0 without one.
///
/// # Errors
/// `Malformed` when a transfer coding other than `chunked` was applied, or when `Host` is missing, repeated, not a host, or at odds with an absolute target
/// (RFC 9112 section 3.2), `Method` for `CONNECT`.
pub(super) fn host(request: &Parts) -> Result<&str, Reject> {
    if request.method == Method::CONNECT {
        return Err(Reject::Method);
    }
    let mut codings = request.headers.get_all(TRANSFER_ENCODING).iter();
    if codings
        .next()
        .is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
        || codings.next().is_some()
    {
        // hyper reads the chunks and looks no further: what is inside would be passed on as plain.
        return Err(Reject::Malformed("Transfer-Encoding is not just chunked"));
    }
    let mut fields = request.headers.get_all(HOST).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(Reject::Malformed("there is more than one Host"));
    }
    let host = match field {
        Some(value) => std::str::from_utf8(value.as_bytes())
            .ok()
            .filter(|host| is_authority(host))
            .ok_or(Reject::Malformed("Host is not a host name"))?,
        None if request.version == Version::HTTP_10 => "",
        None => return Err(Reject::Malformed("there is no Host")),
    };
    match request.uri.authority() {
        Some(authority) if !authority.as_str().eq_ignore_ascii_case(host) => Err(
            Reject::Malformed("Host differs from the authority of the request target"),
        ),
        _ => Ok(host),
    }
}

/// Whether these bytes can be `uri-host [":" port]` (RFC 3986 section 3.2), without user info.
fn is_authority(host: &str) -> bool {
    host.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:[]%".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn check(request: http::request::Builder) -> Result<String, String> {
        let (parts, ()) = request.body(()).unwrap().into_parts();
        host(&parts)
            .map(str::to_owned)
            .map_err(|reject| reject.to_string())
    }

    #[test]
    fn one_host_is_taken_as_it_is() {
        assert_eq!(
            check(Request::get("/").header(HOST, "Shop:8080")),
            Ok("Shop:8080".to_owned())
        );
        assert_eq!(
            check(Request::get("/").version(Version::HTTP_10)),
            Ok(String::new())
        );
    }

    #[test]
    fn anything_else_is_refused() {
        let none = check(Request::get("/"));
        let two = check(Request::get("/").header(HOST, "a").header(HOST, "a"));
        let odd = check(Request::get("/").header(HOST, "user@a/b"));
        let gzip = check(
            Request::get("/")
                .header(HOST, "a")
                .header("transfer-encoding", "gzip, chunked"),
        );
        assert!(gzip.unwrap_err().contains("Transfer-Encoding"));
        let apart = check(Request::get("http://a/").header(HOST, "b"));
        for refused in [none, two, odd, apart] {
            assert!(refused.unwrap_err().contains("Host"));
        }
        assert!(check(Request::connect("a:1").header(HOST, "a:1")).is_err());
    }
}
