//! Station 2: refuse what is ambiguous, and bring the rest into one form.
//!
//! `handle` calls `head` before anything else looks at a request: host and path are rewritten in place, so
//! routing, the cache's key and the request to an endpoint all see the same. (`sift` does so with the other
//! fields.) Invariant: past this station there is exactly one authority, in lower case and without the
//! scheme's own port, and the target is in origin form with a canonical path (`path`).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::borrow::Cow;
use std::net::Ipv6Addr;

use http::header::{EXPECT, HOST, HeaderMap, HeaderValue, MAX_FORWARDS, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Uri, Version};

use crate::config::model::{Config, PathRules};

use super::path;
use super::reject::Reject;

/// Brings a request's head into its canonical form. `secure` is whether the client spoke TLS, `empty`
/// whether no body follows.
///
/// # Errors
/// `Malformed` when a transfer coding other than `chunked` was applied, when `Host` is missing,
/// repeated, not a host, or at odds with an absolute target (RFC 9112 section 3.2), or when the target
/// is ambiguous; `Method` for `CONNECT` and for `TRACE` that is switched off; `Expectation` for any but
/// `100-continue`.
pub(super) fn head(
    head: &mut Parts,
    secure: bool,
    empty: bool,
    config: &Config,
) -> Result<Hops, Reject> {
    if head.method == Method::CONNECT {
        return Err(Reject::Method);
    }
    if head.method == Method::TRACE {
        if !config.trace {
            return Err(Reject::NotAllowed);
        }
        if !empty {
            return Err(Reject::Malformed("TRACE has no body"));
        }
    }
    let present = Present::look(&head.headers);
    if present.coding {
        transfer_coding(&head.headers)?;
    }
    authority(head, secure)?;
    target(head, config.paths)?;
    if present.expect {
        expectation(head, empty)?;
    }
    Ok(count_hop(head))
}

/// Holds the scheme of an absolute target against that of the connection (`connection` says whether it
/// has TLS) and that which the client is known to have used: they differ behind a trusted proxy.
///
/// # Errors
/// `Malformed` when it is neither (RFC 9110 section 7.4).
pub(super) fn scheme(target: &Uri, connection: bool, client: bool) -> Result<(), Reject> {
    let Some(scheme) = target.scheme_str() else {
        return Ok(());
    };
    let named = scheme.eq_ignore_ascii_case("https");
    if (named || scheme.eq_ignore_ascii_case("http")) && (named == connection || named == client) {
        return Ok(());
    }
    Err(Reject::Malformed(
        "the scheme of the request target is not that of the connection",
    ))
}

/// Which of the rarer fields that matter here a head has: one pass over them all is less than a
/// search for each.
#[derive(Debug, Default)]
struct Present {
    coding: bool,
    expect: bool,
}

impl Present {
    fn look(fields: &HeaderMap) -> Self {
        let mut present = Self::default();
        for name in fields.keys() {
            present.coding |= *name == TRANSFER_ENCODING;
            present.expect |= *name == EXPECT;
        }
        present
    }
}

/// One `chunked` is all that may have been applied.
fn transfer_coding(fields: &HeaderMap) -> Result<(), Reject> {
    let mut codings = fields.get_all(TRANSFER_ENCODING).iter();
    let chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    if codings.next().is_none_or(chunked) && codings.next().is_none() {
        return Ok(());
    }
    // What is inside another coding would be passed on as plain.
    Err(Reject::Malformed("Transfer-Encoding is not just chunked"))
}

/// The canonical host of a request whose head was brought into form; empty for HTTP/1.0 without one.
pub(super) fn host(request: &Parts) -> &str {
    request
        .headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default()
}

fn authority(head: &mut Parts, secure: bool) -> Result<(), Reject> {
    const NO_HOST: Reject = Reject::Malformed("Host is not a host name");
    let mut fields = head.headers.get_all(HOST).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(Reject::Malformed("there is more than one Host"));
    }
    let sent = match field {
        Some(value) => Some(std::str::from_utf8(value.as_bytes()).map_err(|_no| NO_HOST)?),
        None if head.version == Version::HTTP_10 => None,
        None => return Err(Reject::Malformed("there is no Host")),
    };
    let canonical = sent
        .map(|sent| canonical_host(sent, secure))
        .transpose()
        .map_err(|NoHost| NO_HOST)?;
    let named = match head.uri.authority() {
        None => None,
        Some(authority) => Some(
            canonical_host(authority.as_str(), secure)
                .map_err(|NoHost| Reject::Malformed("the request target names no host"))?,
        ),
    };
    let value = match (&canonical, &named) {
        (Some(host), Some(named)) if host != named => {
            return Err(Reject::Malformed(
                "Host differs from the authority of the request target",
            ));
        }
        (Some(Cow::Borrowed(_)), _) | (None, None) => return Ok(()),
        (Some(host), _) | (None, Some(host)) => HeaderValue::from_str(host),
    };
    let value = value.map_err(|_impossible| NO_HOST)?;
    head.headers.insert(HOST, value);
    Ok(())
}

/// It is no `host [":" port]`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoHost;

/// `uri-host [":" port]` (RFC 3986 section 3.2) in lower case, without a trailing dot and without the
/// port that is the scheme's own; borrowed where it is that already. User info and escapes are refused.
///
/// # Errors
/// When it is not a name or an address.
pub(super) fn canonical_host(text: &str, secure: bool) -> Result<Cow<'_, str>, NoHost> {
    let own = if secure { 443 } else { 80 };
    if is_plainly_canonical(text.as_bytes(), own) {
        return Ok(Cow::Borrowed(text));
    }
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (inside, after) = rest.split_once(']').ok_or(NoHost)?;
            let address: Ipv6Addr = inside.parse().map_err(|_no| NoHost)?;
            (format!("[{address}]"), after)
        }
        None => {
            let (name, after) = match text.find(':') {
                Some(colon) => text.split_at_checked(colon).ok_or(NoHost)?,
                None => (text, ""),
            };
            let name = name.to_ascii_lowercase();
            let name = name.strip_suffix('.').unwrap_or(&name).to_owned();
            if !is_plainly_canonical(name.as_bytes(), own) || name.contains(':') {
                return Err(NoHost);
            }
            (name, after)
        }
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        None => return Err(NoHost),
        Some("") => None,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(digits.parse::<u16>().map_err(|_no| NoHost)?)
        }
        Some(_) => return Err(NoHost),
    };
    let made = match port.filter(|port| *port != own) {
        None => name,
        Some(port) => format!("{name}:{port}"),
    };
    Ok(if made == text {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(made)
    })
}

/// A name or an IPv4 address, in form; its port neither `own` nor with leading zeros. One pass, since
/// nearly all hosts are like this.
fn is_plainly_canonical(host: &[u8], own: u16) -> bool {
    let mut before = b'.';
    let mut rest = host;
    while let Some((&byte, after)) = rest.split_first() {
        match byte {
            b':' => break,
            b'.' if before == b'.' => return false,
            b'.' | b'-' | b'_' | b'a'..=b'z' | b'0'..=b'9' => before = byte,
            _ => return false,
        }
        rest = after;
    }
    let port = match rest {
        [] => None,
        [_, digits @ ..] => match port_number(digits) {
            None => return false,
            port => port,
        },
    };
    before != b'.' && port != Some(own)
}

/// A port as it is written without leading zeros.
fn port_number(digits: &[u8]) -> Option<u16> {
    if !matches!(digits, [b'1'..=b'9', ..]) {
        return None;
    }
    digits.iter().try_fold(0_u16, |port, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        port.checked_mul(10)?.checked_add(u16::from(digit))
    })
}

fn target(head: &mut Parts, rules: PathRules) -> Result<(), Reject> {
    let Some(target) = head.uri.path_and_query() else {
        return Err(Reject::Malformed("the request target has no path"));
    };
    let (path, query) = (target.path(), target.query());
    if path == "*" {
        return if head.method == Method::OPTIONS && query.is_none() {
            Ok(())
        } else {
            Err(Reject::Malformed("only OPTIONS asks for no path at all"))
        };
    }
    if query.is_some_and(|query| query.bytes().any(|byte| !(0x20..0x7f).contains(&byte))) {
        return Err(Reject::Malformed("the query has a byte that no query has"));
    }
    match path::canonical(path, rules).map_err(Reject::Malformed)? {
        Some(path) => head.uri = with_path(path, query)?,
        // `http://host?query` has no path.
        None if !target.as_str().starts_with('/') => head.uri = with_path(path.to_owned(), query)?,
        None if head.uri.scheme().is_some() || head.uri.authority().is_some() => {
            head.uri = Uri::from(target.clone());
        }
        None => {}
    }
    Ok(())
}

/// A target in origin form.
///
/// # Errors
/// When the two make none, which no canonical path does.
pub(super) fn with_path(mut path: String, query: Option<&str>) -> Result<Uri, Reject> {
    if let Some(query) = query {
        path.push('?');
        path.push_str(query);
    }
    PathAndQuery::try_from(path)
        .map(Uri::from)
        .map_err(|_no| Reject::Malformed("the request target is not one"))
}

/// `Expect` (RFC 9110 section 10.1.1): what was asked for, where it can be asked for.
fn expectation(head: &mut Parts, empty: bool) -> Result<(), Reject> {
    let mut expected = head.headers.get_all(EXPECT).iter();
    let Some(first) = expected.next() else {
        return Ok(());
    };
    if empty || head.version < Version::HTTP_11 {
        head.headers.remove(EXPECT);
        return Ok(());
    }
    if expected.next().is_some() || !first.as_bytes().eq_ignore_ascii_case(b"100-continue") {
        return Err(Reject::Expectation);
    }
    Ok(())
}

/// How many more hops a `TRACE` or `OPTIONS` may take (RFC 9110 section 7.6.2), after this one was
/// counted off in the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hops {
    /// Any number.
    Open,
    /// None: it is for Headgate.
    Here,
}

/// Counts this hop off. A field that is no number is taken away.
fn count_hop(head: &mut Parts) -> Hops {
    if !matches!(head.method, Method::TRACE | Method::OPTIONS) {
        return Hops::Open;
    }
    let mut fields = head.headers.get_all(MAX_FORWARDS).iter();
    let Some(first) = fields.next() else {
        return Hops::Open;
    };
    let digits = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = match fields.next() {
        None => first.to_str().ok().filter(digits),
        Some(_) => None,
    };
    // More than fits is more than there are.
    let number = number.map(|text| text.parse::<u32>().unwrap_or(u32::MAX));
    match number.map(|number| number.checked_sub(1)) {
        Some(None) => Hops::Here,
        Some(Some(left)) => {
            head.headers.insert(MAX_FORWARDS, HeaderValue::from(left));
            Hops::Open
        }
        None => {
            head.headers.remove(MAX_FORWARDS);
            Hops::Open
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn check(request: http::request::Builder) -> Result<String, String> {
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        scheme(&parts.uri, false, false)
            .and_then(|()| authority(&mut parts, false))
            .and_then(|()| target(&mut parts, PathRules::default()))
            .map(|()| format!("{}{}", host(&parts), parts.uri))
            .map_err(|reject| reject.to_string())
    }

    #[test]
    fn hosts_have_one_form() {
        for (sent, canonical) in [
            ("shop", "shop"),
            ("Shop", "shop"),
            ("shop.", "shop"),
            ("shop:80", "shop"),
            ("shop:", "shop"),
            ("SHOP.example.:80", "shop.example"),
            ("shop:8080", "shop:8080"),
            ("shop:443", "shop:443"),
            ("shop:0080", "shop"),
            ("my_shop-1", "my_shop-1"),
            ("192.0.2.1", "192.0.2.1"),
            ("[::1]", "[::1]"),
            ("[0:0::1]:80", "[::1]"),
            ("[2001:DB8::1]:81", "[2001:db8::1]:81"),
        ] {
            let made = canonical_host(sent, false);
            assert_eq!(made.as_deref(), Ok(canonical), "{sent}");
            assert_eq!(canonical_host(canonical, false).as_deref(), Ok(canonical));
            assert_eq!(
                matches!(made, Ok(Cow::Borrowed(_))),
                sent == canonical,
                "{sent}"
            );
        }
        assert_eq!(canonical_host("shop:443", true).as_deref(), Ok("shop"));
        assert_eq!(canonical_host("shop:80", true).as_deref(), Ok("shop:80"));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for sent in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a b",
            "a/b",
            "user@a",
            "a:b",
            "a:65536",
            "a:+1",
            "a:1:2",
            "[::1",
            "[::1]x",
            "[a]",
            "[::1%eth0]",
            "[v1.a]",
            "a,b",
            "a%41",
            "\u{e9}",
            ":80",
            "a\\b",
            "a?b",
            "a#b",
        ] {
            assert_eq!(canonical_host(sent, false), Err(NoHost), "{sent:?}");
        }
    }

    #[test]
    fn targets_have_one_form() {
        for (uri, host, made) in [
            ("/", "a", "a/"),
            ("/a/%2e%2E/b?q=/../", "A:80", "a/b?q=/../"),
            ("http://a/x?y", "a", "a/x?y"),
            ("http://A:80/./x", "a.", "a/x"),
            ("http://a", "a", "a/"),
            ("http://a?q", "a", "a/?q"),
        ] {
            let request = Request::get(uri).header(HOST, host);
            assert_eq!(check(request), Ok(made.to_owned()), "{uri}");
        }
        let old = |uri: &str| Request::get(uri).version(Version::HTTP_10);
        assert_eq!(check(old("/")), Ok("/".to_owned()));
        assert_eq!(check(old("http://A/x")), Ok("a/x".to_owned()));
    }

    #[test]
    fn anything_else_is_refused() {
        for request in [
            Request::get("/"),
            Request::get("/").header(HOST, "a").header(HOST, "a"),
            Request::get("/").header(HOST, "user@a/b"),
            Request::get("/").header(HOST, ""),
            Request::get("http://a/").header(HOST, "b"),
            Request::get("http://a:81/").header(HOST, "a"),
        ] {
            assert!(check(request).unwrap_err().contains("Host"));
        }
        for request in [
            Request::get("*").header(HOST, "a"),
            Request::get("a:80").header(HOST, "a:80"),
            Request::get("ftp://a/").header(HOST, "a"),
            Request::get("https://a/").header(HOST, "a"),
            Request::get("http://u@a/").header(HOST, "a"),
            Request::get("/../x").header(HOST, "a"),
        ] {
            assert!(check(request).is_err());
        }
    }

    #[test]
    fn the_scheme_is_that_of_the_connection_or_the_one_that_a_proxy_vouches_for() {
        let takes = |uri: &'static str, connection, client| {
            scheme(&Uri::from_static(uri), connection, client).is_ok()
        };
        for secure in [true, false] {
            assert!(takes("/p", secure, secure));
            assert_eq!(takes("https://a/", secure, secure), secure);
            assert_eq!(takes("HTTP://a/", secure, secure), !secure);
            assert!(!takes("gopher://a/", secure, secure));
        }
        // A proxy that ends TLS may ask in either form.
        assert!(takes("https://a/", false, true) && takes("http://a/", false, true));
        assert!(!takes("gopher://a/", false, true));
    }

    #[test]
    fn hops_are_counted_for_the_two_methods_that_count() {
        let count = |method: &str, values: &[&str]| {
            let mut request = Request::builder().method(method).uri("/");
            for value in values {
                request = request.header(MAX_FORWARDS, *value);
            }
            let (mut parts, ()) = request.body(()).unwrap().into_parts();
            let hops = count_hop(&mut parts);
            let left = parts
                .headers
                .get(MAX_FORWARDS)
                .map(|v| v.to_str().unwrap().to_owned());
            (hops, left)
        };
        let left = |text: &str| Some(text.to_owned());
        assert_eq!(count("OPTIONS", &["0"]), (Hops::Here, left("0")));
        assert_eq!(count("TRACE", &["7"]), (Hops::Open, left("6")));
        assert_eq!(
            count("TRACE", &["99999999999999"]),
            (Hops::Open, left("4294967294"))
        );
        assert_eq!(count("OPTIONS", &["x"]), (Hops::Open, None));
        assert_eq!(count("OPTIONS", &["1", "2"]), (Hops::Open, None));
        assert_eq!(count("OPTIONS", &[]), (Hops::Open, None));
        assert_eq!(count("GET", &["0"]), (Hops::Open, left("0")));
    }
}
