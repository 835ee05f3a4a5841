//! From a request as HTTP/2 has it to the one form that the road knows.
//!
//! h2 hands over what is HTTP/2; whether it is a request is judged here (RFC 9113 section 8.3), and what
//! is none goes to `wire::Handler::refuse`. Afterwards nothing says which version it came by but
//! `version`: the target is in origin form (in absolute form with a scheme that is not the
//! connection's), the authority is in `Host`, cookies are whole, and an extended CONNECT is a `GET` that
//! offers a tunnel. Invariant: no field value here can end a line of HTTP/1.1, and none says how a message
//! is framed but one `Content-Length` that is true.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::cell::RefCell;

use h2::ext::Protocol;
use http::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Uri, Version};

use crate::http2::fields;
use crate::wire::Fault;

/// What a request may come to; more is refused with an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Header fields.
    pub fields: usize,
    /// Bytes of them: names, values and 32 each.
    pub bytes: usize,
    /// Bytes of `:path`.
    pub target: usize,
}

/// The last authority of a connection as a field value, since most requests name the same one.
#[derive(Debug, Default)]
pub(super) struct LastHost(RefCell<Option<HeaderValue>>);

impl LastHost {
    fn value(&self, authority: &str) -> Option<HeaderValue> {
        let mut last = self.0.borrow_mut();
        if let Some(known) = &*last
            && known.as_bytes() == authority.as_bytes()
        {
            return Some(known.clone());
        }
        let made = HeaderValue::from_str(authority).ok()?;
        *last = Some(made.clone());
        Some(made)
    }
}

/// Puts a head into the form of the road; the protocol of the tunnel that it offers, if any.
///
/// # Errors
/// What is wrong with it.
pub(super) fn canonical(
    head: &mut Parts,
    bounds: Bounds,
    scheme: &str,
    last: &LastHost,
) -> Result<Option<Box<str>>, Fault> {
    measure(head, bounds)?;
    values(&head.headers)?;
    // Another one than the connection's is for the road to judge, which knows who may say so.
    let is_own = |named: &str| named.eq_ignore_ascii_case(scheme);
    let keep_scheme = head.uri.scheme_str().is_some_and(|named| !is_own(named));
    host(head, last)?;
    let tunnel = head.extensions.remove::<Protocol>();
    if head.method == Method::CONNECT && tunnel.is_none() {
        // The road refuses it by its method.
        return Ok(None);
    }
    target(head, keep_scheme)?;
    fields::join_cookies(&mut head.headers);
    head.version = Version::HTTP_2;
    Ok(tunnel.map(|protocol| {
        head.method = Method::GET;
        head.headers.remove(CONTENT_LENGTH);
        protocol.as_str().to_ascii_lowercase().into_boxed_str()
    }))
}

fn measure(head: &Parts, bounds: Bounds) -> Result<(), Fault> {
    let path = head
        .uri
        .path_and_query()
        .map_or(0, |path| path.as_str().len());
    if path > bounds.target {
        return Err(Fault::TargetTooLong);
    }
    if head.headers.len() > bounds.fields {
        return Err(Fault::TooManyFields);
    }
    let size = |name: &HeaderName, value: &HeaderValue| {
        let bytes = name.as_str().len().saturating_add(value.len());
        bytes.saturating_add(32)
    };
    let sizes = head.headers.iter().map(|(name, value)| size(name, value));
    if sizes.fold(path, usize::saturating_add) > bounds.bytes {
        return Err(Fault::HeadTooLarge);
    }
    Ok(())
}

/// What h2 takes and HTTP does not.
fn values(headers: &HeaderMap) -> Result<(), Fault> {
    if headers.values().any(fields::is_padded) {
        return Err(Fault::Malformed(
            "a field value begins or ends with a blank",
        ));
    }
    if headers.keys().any(fields::is_no_token) {
        return Err(Fault::Malformed("a field name that is no token"));
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let first = lengths.next();
    if first.is_some_and(HeaderValue::is_empty) || lengths.next().is_some() {
        return Err(Fault::Malformed("Content-Length is empty or repeated"));
    }
    Ok(())
}

/// `:authority` takes the place of `Host`, which may not disagree (RFC 9113 section 8.3.1).
fn host(head: &mut Parts, last: &LastHost) -> Result<(), Fault> {
    let Some(authority) = head.uri.authority() else {
        return Ok(());
    };
    let authority = authority.as_str();
    if authority.contains('@') {
        return Err(Fault::Malformed(":authority has user information"));
    }
    let same = |host: &HeaderValue| host.as_bytes().eq_ignore_ascii_case(authority.as_bytes());
    if !head.headers.get_all(HOST).iter().all(same) {
        return Err(Fault::Malformed("Host differs from :authority"));
    }
    let value = last.value(authority);
    let value = value.ok_or(Fault::Malformed(":authority is not a host"))?;
    head.headers.insert(HOST, value);
    Ok(())
}

/// Origin form, unless the scheme is to be kept, or `*` for OPTIONS (RFC 9113 section 8.3.1).
fn target(head: &mut Parts, keep_scheme: bool) -> Result<(), Fault> {
    let path = head.uri.path_and_query().map_or("", PathAndQuery::as_str);
    let fits = path.starts_with('/') || (path == "*" && head.method == Method::OPTIONS);
    if !fits {
        return Err(Fault::Malformed(":path is not a path"));
    }
    if head.uri.authority().is_some() && !keep_scheme {
        let parts = std::mem::take(&mut head.uri).into_parts();
        head.uri = parts.path_and_query.map(Uri::from).unwrap_or_default();
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test fails by it")]
mod tests {
    use super::*;
    use http::Request;

    const BOUNDS: Bounds = Bounds {
        fields: 10,
        bytes: 600,
        target: 100,
    };

    fn check(
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
    ) -> Result<(Parts, Option<Box<str>>), Fault> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        let tunnel = canonical(&mut head, BOUNDS, "https", &LastHost::default())?;
        Ok((head, tunnel))
    }

    #[test]
    fn a_request_ends_up_in_origin_form_with_its_authority_in_host() {
        let (head, tunnel) = check("GET", "https://shop.test:1/a?b=c", &[("x", "y")]).unwrap();
        assert_eq!(head.uri, "/a?b=c");
        assert_eq!(head.headers[HOST], "shop.test:1");
        assert_eq!((head.version, tunnel), (Version::HTTP_2, None));
        let (head, _) = check("GET", "/a", &[("host", "shop.test")]).unwrap();
        assert_eq!(head.headers[HOST], "shop.test");
        let (head, _) = check("GET", "http://shop.test/a", &[]).unwrap();
        assert_eq!(head.uri, "http://shop.test/a", "the scheme is another one");
        let (head, _) = check("OPTIONS", "*", &[("host", "shop.test")]).unwrap();
        assert_eq!(head.uri, "*");
    }

    #[test]
    fn a_host_that_repeats_the_authority_is_one_host_and_another_is_refused() {
        let same = [("host", "SHOP.test"), ("host", "shop.test")];
        let (head, _) = check("GET", "https://shop.test/", &same).unwrap();
        assert_eq!(head.headers.get_all(HOST).iter().count(), 1);
        for host in ["evil.test", "shop.test:443", ""] {
            assert!(check("GET", "https://shop.test/", &[("host", host)]).is_err());
        }
        assert!(check("GET", "https://me@shop.test/", &[]).is_err());
    }

    #[test]
    fn what_h2_takes_and_http_does_not_is_refused() {
        for fields in [
            &[("x", " padded")][..],
            &[("x", "padded\t")],
            &[("content-length", "")],
            &[("content-length", "1"), ("content-length", "1")],
        ] {
            let refused = check("GET", "https://shop.test/", fields);
            assert!(matches!(refused, Err(Fault::Malformed(_))), "{fields:?}");
        }
        assert!(check("GET", "*", &[]).is_err());
    }

    #[test]
    fn too_much_is_refused_by_what_it_is_too_much_of() {
        let many = vec![("a", "b"); 11];
        assert_eq!(check("GET", "/", &many).err(), Some(Fault::TooManyFields));
        let long = "x".repeat(600);
        assert_eq!(
            check("GET", "/", &[("a", &long)]).err(),
            Some(Fault::HeadTooLarge)
        );
        let path = format!("/{}", "x".repeat(100));
        assert_eq!(check("GET", &path, &[]).err(), Some(Fault::TargetTooLong));
    }

    #[test]
    fn an_extended_connect_is_a_get_that_offers_a_tunnel() {
        let mut request = Request::connect("https://shop.test/chat").body(()).unwrap();
        request
            .extensions_mut()
            .insert(Protocol::from_static("WebSocket"));
        let (mut head, ()) = request.into_parts();
        let tunnel = canonical(&mut head, BOUNDS, "https", &LastHost::default()).unwrap();
        assert_eq!(tunnel.as_deref(), Some("websocket"));
        assert_eq!(
            (head.method, head.uri),
            (Method::GET, Uri::from_static("/chat"))
        );
    }
}
