//! The small languages inside values: hosts, addresses, paths and path templates.
//!
//! Pure functions from a text to a proven part of the model, or to a `Fault` that says how to write
//! it. Invariant: a path pattern is compared with normalised request paths, so it holds nothing that
//! such a path cannot hold (dot segments, empty segments, a query).

use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use super::fields::Fault;
use crate::config::errors::quotable;
use crate::config::model::{HostPattern, PathPattern, Segment};

/// A host or `*.suffix`, lower-cased.
pub(super) fn host(typed: &str) -> Result<HostPattern, Fault> {
    let shown = quotable(typed);
    if typed == "*" {
        return Err(Fault::new(
            "`*` is not a host",
            "leave `host` out to match any host",
        ));
    }
    if let Some(suffix) = typed.strip_prefix("*.") {
        return match host_name(suffix)? {
            suffix if suffix.parse::<IpAddr>().is_ok() || suffix.starts_with('[') => {
                Err(Fault::new(
                    format!("`{shown}` puts `*.` before an address"),
                    "write the address alone",
                ))
            }
            suffix => Ok(HostPattern::Suffix(Arc::from(suffix))),
        };
    }
    if typed.contains('*') {
        let hint = "`*.` may stand at the beginning only, for one or more labels";
        return Err(Fault::new(format!("`{shown}` has a `*` in it"), hint));
    }
    host_name(typed).map(|name| HostPattern::Exact(Arc::from(name)))
}

/// A name or an address, without a port, lower-cased.
fn host_name(typed: &str) -> Result<String, Fault> {
    let shown = quotable(typed);
    let name = typed.to_lowercase();
    if name.parse::<Ipv6Addr>().is_ok() {
        return Err(Fault::new(
            format!("the IPv6 address `{shown}` has no brackets"),
            format!("write `[{shown}]`"),
        ));
    }
    if let Some(inner) = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        && inner.parse::<Ipv6Addr>().is_ok()
    {
        return Ok(name);
    }
    if let Some((_, rest)) = name.split_once("://") {
        let host = rest.split('/').next().unwrap_or_default();
        let hint = format!("write the host alone: `{}`", quotable(host));
        return Err(Fault::new(format!("`{shown}` is a URL, not a host"), hint));
    }
    if let Some((host, port)) = name.rsplit_once(':')
        && port.bytes().all(|b| b.is_ascii_digit())
    {
        let hint = format!(
            "a port does not matter for matching: write `{}`",
            quotable(host)
        );
        return Err(Fault::new(format!("the host `{shown}` has a port"), hint));
    }
    let refuse = |why: &str, hint: &str| Err(Fault::new(format!("`{shown}` {why}"), hint));
    if !name.is_ascii() {
        return refuse("is not an ASCII host name", "write it in its `xn--` form");
    }
    if name.is_empty() {
        return refuse("is not a host name", "write a name such as `shop.example`");
    }
    if name.len() > 253 {
        return refuse(
            "is longer than the 253 characters of a host name",
            "shorten it",
        );
    }
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    for label in name.split('.') {
        if label.is_empty() {
            return refuse("has an empty label", "remove the dot too many");
        }
        if label.len() > 63
            || !label.bytes().all(fits)
            || label.starts_with('-')
            || label.ends_with('-')
        {
            return refuse(
                "is not a host name",
                "each label has 1 to 63 letters, digits and inner hyphens",
            );
        }
    }
    Ok(name)
}

/// `host:port`, the host lower-cased.
pub(super) fn host_and_port(typed: &str) -> Result<String, Fault> {
    let shown = quotable(typed);
    if let Some((_, rest)) = typed.split_once("://") {
        let rest = rest.split('/').next().unwrap_or_default();
        let hint = format!("write only host and port: `{}`", quotable(rest));
        return Err(Fault::new(
            format!("`{shown}` is a URL, not an address"),
            hint,
        ));
    }
    if typed.parse::<Ipv6Addr>().is_ok() {
        let hint = format!("put the address in brackets: `[{shown}]:80`");
        return Err(Fault::new(format!("`{shown}` has no port"), hint));
    }
    let Some((host, port)) = typed
        .rsplit_once(':')
        .filter(|(_, port)| !port.ends_with(']'))
    else {
        return Err(Fault::new(
            format!("`{shown}` has no port"),
            format!("write `{shown}:80`"),
        ));
    };
    let port = port_number(port).ok_or_else(|| {
        Fault::new(
            format!("`{shown}` has no valid port"),
            "a port is 1 to 65535",
        )
    })?;
    Ok(format!("{}:{port}", host_name(host)?))
}

/// The name in a certificate: a host or an IP address, without a port.
pub(super) fn server_name(typed: &str) -> Result<String, Fault> {
    if let Ok(address) = typed.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    let name = host_name(typed)?;
    if name.starts_with('[') {
        return Err(Fault::new(
            format!("`{}` is in brackets", quotable(typed)),
            "write the address alone",
        ));
    }
    Ok(name)
}

fn port_number(typed: &str) -> Option<u16> {
    let digits = !typed.is_empty() && typed.bytes().all(|b| b.is_ascii_digit());
    typed.parse().ok().filter(|port| digits && *port > 0)
}

/// What a check sends as `Host`: a host, with or without a port.
pub(super) fn authority(typed: &str) -> Result<(), Fault> {
    match typed.rsplit_once(':') {
        Some((host, port)) if port_number(port).is_some() => host_name(host).map(drop),
        _ => host_name(typed).map(drop),
    }
}

/// An origin-form target: a path, perhaps with a query.
pub(super) fn probe_path(typed: &str) -> Result<(), Fault> {
    let shown = quotable(typed);
    if !typed.starts_with('/') {
        return Err(Fault::new(
            format!("the path `{shown}` does not start with `/`"),
            format!("write `/{shown}`"),
        ));
    }
    if typed
        .bytes()
        .any(|b| !b.is_ascii_graphic() || matches!(b, b'#' | b'"' | b'<' | b'>'))
    {
        let hint = "percent-encode what cannot stand in a URL";
        return Err(Fault::new(
            format!("the path `{shown}` cannot be asked for"),
            hint,
        ));
    }
    Ok(())
}

/// `path_prefix`: whole segments.
pub(super) fn path_prefix(typed: &str) -> Result<PathPattern, Fault> {
    let shown = quotable(typed);
    if typed.contains(['{', '}']) {
        let hint = "use `path` with a template that ends in `{*rest}`";
        return Err(Fault::new(
            format!("the prefix `{shown}` has a capture"),
            hint,
        ));
    }
    if typed.ends_with('*') {
        let message = format!("the prefix `{shown}` ends in `*`");
        return Err(Fault::new(
            message,
            "a prefix matches all below it: leave the `*` out",
        ));
    }
    let prefix = typed
        .strip_suffix('/')
        .filter(|_| typed.starts_with('/'))
        .unwrap_or(typed);
    if prefix.is_empty() && !typed.is_empty() {
        return Ok(PathPattern::Any);
    }
    for segment in segments(prefix)? {
        literal(segment, typed)?;
    }
    Ok(PathPattern::Prefix(Arc::from(prefix)))
}

/// `path`: exactly this, or a template with captures.
pub(super) fn path(typed: &str) -> Result<PathPattern, Fault> {
    let shown = quotable(typed);
    let parts = segments(typed)?;
    let last = parts.len().saturating_sub(1);
    let mut names = HashSet::new();
    let mut template = Vec::new();
    for (index, part) in parts.iter().copied().enumerate() {
        let segment = if part.is_empty() && index == last {
            Segment::Literal(Arc::from(""))
        } else {
            segment(part, typed)?
        };
        if let Segment::Capture(name) | Segment::Rest(name) = &segment
            && !names.insert(Arc::clone(name))
        {
            let message = format!("the capture `{name}` is there twice in `{shown}`");
            return Err(Fault::new(message, "give each capture its own name"));
        }
        if matches!(segment, Segment::Rest(_)) && index != last {
            let message = format!(
                "`{}` does not stand at the end of `{shown}`",
                quotable(part)
            );
            return Err(Fault::new(
                message,
                "`{*name}` takes the rest of the path, so nothing can follow",
            ));
        }
        template.push(segment);
    }
    Ok(if names.is_empty() {
        PathPattern::Exact(Arc::from(typed))
    } else {
        PathPattern::Template(template)
    })
}

/// What those want who write a path as for other servers.
pub(super) const NO_EXPRESSIONS: &str = "there are no regular expressions: write `{name}` for one segment, \
     `{*rest}` for all that follow, or use `path_prefix`";

/// Whether a path that could be meant as it stands is probably a regular expression.
pub(super) fn is_like_an_expression(path: &str) -> bool {
    path.contains(".*") || path.contains(".+") || path.contains("(?") || path.ends_with('$')
}

/// The parts between slashes, without the empty one before the first.
fn segments(typed: &str) -> Result<Vec<&str>, Fault> {
    match typed.strip_prefix('/') {
        Some(rest) => Ok(rest.split('/').collect()),
        None => {
            let shown = quotable(typed);
            let message = format!("the path `{shown}` does not start with `/`");
            let hint = if typed.starts_with(['~', '^']) {
                NO_EXPRESSIONS.to_owned()
            } else {
                format!("write `/{shown}`")
            };
            Err(Fault::new(message, hint))
        }
    }
}

fn segment(part: &str, whole: &str) -> Result<Segment, Fault> {
    let inner = part
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'));
    let Some(inner) = inner else {
        if part.contains(['{', '}']) {
            let message = format!("`{}` mixes a capture with other text", quotable(part));
            return Err(Fault::new(
                message,
                "a capture is a whole segment: `/{name}/`",
            ));
        }
        return literal(part, whole).map(Segment::Literal);
    };
    match inner.strip_prefix('*') {
        Some(name) => capture_name(name).map(|()| Segment::Rest(Arc::from(name))),
        None => capture_name(inner).map(|()| Segment::Capture(Arc::from(inner))),
    }
}

/// What stands between the braces of a capture.
pub(super) fn capture_name(name: &str) -> Result<(), Fault> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(word) || name.starts_with(|c: char| c.is_ascii_digit())
    {
        let message = format!("`{}` cannot be the name of a capture", quotable(name));
        let bare = name.trim_matches(['{', '}', '*']);
        let hint = if bare != name && !bare.is_empty() && bare.chars().all(word) {
            format!("write `{bare}`")
        } else {
            "use letters, digits and `_`, starting with a letter".to_owned()
        };
        return Err(Fault::new(message, hint));
    }
    Ok(())
}

/// A segment of RFC 3986 section 3.3, as it stands in a normalised path.
fn literal(part: &str, whole: &str) -> Result<Arc<str>, Fault> {
    let shown = quotable(whole);
    let refuse = |why: &str, hint: &str| Err(Fault::new(format!("the path `{shown}` {why}"), hint));
    if part.is_empty() {
        return refuse("has an empty segment", "remove the slash too many");
    }
    if part == "." || part == ".." {
        return refuse(
            "has a dot segment, which no request has left",
            "write the path it leads to",
        );
    }
    if part.contains('?') {
        return refuse("has a query", "put conditions on parameters under `query`");
    }
    if part.contains('*') && part.trim_matches('*').is_empty() {
        return refuse(
            "has a `*`",
            "write `{name}` for one segment, `{*rest}` for all that follow",
        );
    }
    let sub_delims = b"!$&'()*+,;=:@-._~%";
    if !part
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || sub_delims.contains(&b))
    {
        let hint = if part.contains(['\\', '[', ']', '^', '|']) {
            NO_EXPRESSIONS
        } else {
            "percent-encode it as UTF-8"
        };
        return refuse("has a character that no URL has", hint);
    }
    let bytes = part.as_bytes();
    let encoded = |at: usize| {
        let digits = bytes.get(at + 1..at + 3);
        digits.is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit))
    };
    if (0..bytes.len()).any(|at| bytes.get(at) == Some(&b'%') && !encoded(at)) {
        return refuse(
            "has a `%` without two hexadecimal digits",
            "write a percent sign as `%25`",
        );
    }
    let canonical = canonical_escapes(part);
    if canonical != part {
        let hint = format!("write `{}`", quotable(&canonical));
        return refuse("has an escape in a form that no request has left", &hint);
    }
    Ok(Arc::from(part))
}

/// The text with its escapes as requests have them when they are routed: upper case, and none of
/// unreserved characters (RFC 3986 section 6.2.2).
fn canonical_escapes(part: &str) -> String {
    let mut pieces = part.split('%');
    let mut made = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2).unwrap_or((piece, ""));
        match u8::from_str_radix(digits, 16) {
            Ok(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                made.push(char::from(byte));
            }
            _ => {
                made.push('%');
                made.push_str(&digits.to_ascii_uppercase());
            }
        }
        made.push_str(rest);
    }
    made
}

/// The pattern with the names of its captures taken out: what tells two patterns apart.
pub(super) fn shape(pattern: &PathPattern) -> PathPattern {
    let unnamed = |segment: &Segment| match segment {
        Segment::Literal(text) => Segment::Literal(Arc::clone(text)),
        Segment::Capture(_) => Segment::Capture(Arc::from("")),
        Segment::Rest(_) => Segment::Rest(Arc::from("")),
    };
    match pattern {
        PathPattern::Template(segments) => {
            PathPattern::Template(segments.iter().map(unnamed).collect())
        }
        PathPattern::Any | PathPattern::Exact(_) | PathPattern::Prefix(_) => pattern.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(typed: &str) -> Vec<Segment> {
        match path(typed).unwrap() {
            PathPattern::Template(segments) => segments,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_template_is_split_into_literals_captures_and_the_rest() {
        assert_eq!(
            template("/users/{user_id}/orders/{*rest}"),
            [
                Segment::Literal(Arc::from("users")),
                Segment::Capture(Arc::from("user_id")),
                Segment::Literal(Arc::from("orders")),
                Segment::Rest(Arc::from("rest")),
            ]
        );
        assert_eq!(
            template("/a/{b}/").last(),
            Some(&Segment::Literal(Arc::from("")))
        );
        assert_eq!(
            path("/a/b/").unwrap(),
            PathPattern::Exact(Arc::from("/a/b/"))
        );
        assert_eq!(path("/").unwrap(), PathPattern::Exact(Arc::from("/")));
    }

    #[test]
    fn paths_that_no_request_can_have_are_refused() {
        for (typed, why) in [
            ("users", "does not start with `/`"),
            ("", "does not start with `/`"),
            ("/a//b", "empty segment"),
            ("/a/../b", "dot segment"),
            ("/a?b", "has a query"),
            ("/a b", "no URL has"),
            ("/ä", "no URL has"),
            ("/a%2", "without two hexadecimal"),
            ("/caf%c3%A9", "form that no request has left"),
            ("/%7Euser", "form that no request has left"),
            ("/a/*", "has a `*`"),
            ("/a/x{b}", "mixes a capture"),
            ("/{a}/{a}", "there twice"),
            ("/{*a}/b", "at the end"),
            ("/{}", "name of a capture"),
            ("/{1a}", "name of a capture"),
        ] {
            let fault = path(typed).unwrap_err();
            assert!(fault.message.contains(why), "{typed}: {}", fault.message);
        }
    }

    #[test]
    fn a_prefix_loses_its_trailing_slash_and_the_root_is_any() {
        assert_eq!(
            path_prefix("/a/b/").unwrap(),
            PathPattern::Prefix(Arc::from("/a/b"))
        );
        assert_eq!(path_prefix("/").unwrap(), PathPattern::Any);
        for typed in ["", "a", "/a/{b}", "/a*", "//", "/a//"] {
            assert!(path_prefix(typed).is_err(), "{typed}");
        }
    }

    #[test]
    fn hosts_are_lower_case_names_without_a_port() {
        assert_eq!(
            host("Shop.Example").unwrap(),
            HostPattern::Exact(Arc::from("shop.example"))
        );
        assert_eq!(
            host("*.Shop.Example").unwrap(),
            HostPattern::Suffix(Arc::from("shop.example"))
        );
        assert_eq!(
            host("[::1]").unwrap(),
            HostPattern::Exact(Arc::from("[::1]"))
        );
        for typed in [
            "",
            "*",
            "*.",
            "a.*.b",
            "shop.example:80",
            "http://shop",
            "a..b",
            "-a",
            "a b",
            "bücher.example",
            "::1",
            "*.[::1]",
            "*.127.0.0.1",
            "a/b",
            "shop.example.",
        ] {
            assert!(host(typed).is_err(), "{typed}");
        }
        assert_eq!(
            host("shop.example:80").unwrap_err().hint.unwrap(),
            "a port does not matter for matching: write `shop.example`"
        );
    }

    #[test]
    fn endpoints_need_a_host_and_a_port() {
        assert_eq!(
            host_and_port("Db-1.Local:09101").unwrap(),
            "db-1.local:9101"
        );
        assert_eq!(host_and_port("[::1]:80").unwrap(), "[::1]:80");
        for typed in [
            "a",
            "a:",
            "a:0",
            "a:65536",
            "a:+80",
            ":80",
            "::1",
            "[::1]",
            "http://a:80",
            "a:b:80",
        ] {
            assert!(host_and_port(typed).is_err(), "{typed}");
        }
    }

    #[test]
    fn capture_names_do_not_matter_for_the_shape() {
        let shape_of = |typed| shape(&path(typed).unwrap());
        assert_eq!(shape_of("/a/{x}/{*y}"), shape_of("/a/{z}/{*w}"));
        assert_ne!(shape_of("/a/{x}"), shape_of("/a/{*x}"));
        assert_ne!(shape_of("/a/{x}"), shape_of("/b/{x}"));
    }
}
