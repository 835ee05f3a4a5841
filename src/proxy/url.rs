//! URLs that are told rather than asked for: what a write has changed besides its target, and what an
//! operator purges.
//!
//! `writes` resolves references against a request's target (RFC 3986 section 5), `admin` reads whole
//! URLs. Invariant: what comes out has the one form that `normalize` gives to requests, so that it is
//! the URL in the cache's keys.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::borrow::Cow;

use crate::config::model::PathRules;

use super::{normalize, path};

/// A URL in the form that requests are brought into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// In lower case, without the port that is the scheme's own.
    pub host: String,
    /// Path and query.
    pub target: String,
}

/// Why a text is no URL of something stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotOne {
    /// It does not begin with a scheme and a host.
    #[error("a URL begins with http:// or https:// and a host")]
    Relative,
    /// Its host is not one.
    #[error("the host is not one")]
    Host,
    /// Its path or query is one that no request can have.
    #[error("{0}")]
    Target(&'static str),
}

/// Reads a whole URL. A fragment is dropped.
///
/// # Errors
/// When no request could be for it.
pub fn absolute(text: &str, rules: PathRules) -> Result<Url, NotOne> {
    let text = without_fragment(text);
    let (scheme, rest) = text.split_once("://").ok_or(NotOne::Relative)?;
    let scheme = http_scheme(scheme).ok_or(NotOne::Relative)?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at_checked(end).ok_or(NotOne::Relative)?;
    let host = host(authority, scheme)?;
    let target = self::target(target, rules).map_err(NotOne::Target)?;
    Ok(Url {
        scheme,
        host,
        target,
    })
}

/// Reads a host, with a port where it has one.
///
/// # Errors
/// When it is not one.
pub fn host(text: &str, scheme: &str) -> Result<String, NotOne> {
    match normalize::canonical_host(text, scheme == "https") {
        Ok(host) if !host.is_empty() => Ok(host.into_owned()),
        _ => Err(NotOne::Host),
    }
}

/// What a reference is relative to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Base<'a> {
    pub(super) scheme: &'static str,
    /// By these names clients know it.
    pub(super) hosts: [&'a str; 2],
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
}

/// Path and query of what a reference points at; none when that is of another origin (RFC 9110 section
/// 4.3.1), or nothing that a request could ask for.
pub(super) fn resolve(reference: &[u8], base: &Base<'_>, rules: PathRules) -> Option<String> {
    let reference = ascii(reference);
    let reference = without_fragment(reference.trim());
    let (scheme, rest) = match scheme_of(reference) {
        Some((scheme, rest)) => (Some(http_scheme(scheme)?), rest),
        None => (None, reference),
    };
    let rest = match rest.strip_prefix("//") {
        Some(rest) => {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let (authority, rest) = rest.split_at_checked(end)?;
            let scheme = scheme.unwrap_or(base.scheme);
            let host = host(authority, scheme).ok()?;
            if scheme != base.scheme || !base.hosts.contains(&&*host) {
                return None;
            }
            return target(&without_dots(rest), rules).ok();
        }
        // `http:path` names no host.
        None if scheme.is_some() => return None,
        None => rest,
    };
    let merged = match rest.chars().next() {
        Some('/') => Cow::Borrowed(rest),
        None => Cow::Owned(match base.query {
            Some(query) => format!("{}?{query}", base.path),
            None => base.path.to_owned(),
        }),
        Some('?') => Cow::Owned(format!("{}{rest}", base.path)),
        Some(_) => {
            let (folder, _) = base.path.rsplit_once('/')?;
            Cow::Owned(format!("{folder}/{rest}"))
        }
    };
    target(&without_dots(&merged), rules).ok()
}

/// What stands before a colon that comes before everything else, and what stands behind it.
fn scheme_of(reference: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = reference.split_once(':')?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    is_scheme.then_some((scheme, rest))
}

fn http_scheme(scheme: &str) -> Option<&'static str> {
    ["http", "https"]
        .into_iter()
        .find(|known| scheme.eq_ignore_ascii_case(known))
}

fn without_fragment(text: &str) -> &str {
    text.split_once('#').map_or(text, |(before, _)| before)
}

/// Bytes that no URL has, escaped as browsers do.
fn ascii(text: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(text) {
        Ok(text) if text.is_ascii() => Cow::Borrowed(text),
        _ => {
            let escaped = text.iter().map(|byte| match byte {
                0x80.. => format!("%{byte:02X}"),
                _ => char::from(*byte).to_string(),
            });
            Cow::Owned(escaped.collect())
        }
    }
}

/// Removes the dot segments of a path that begins with a slash (RFC 3986 section 5.2.4): above the root
/// there is the root. `path` refuses that in a request, where it is no reference.
fn without_dots(text: &str) -> Cow<'_, str> {
    let (path, query) = match text.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (text, None),
    };
    if !path.contains("/.") {
        return Cow::Borrowed(text);
    }
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            _ => {
                kept.push(segment);
                continue;
            }
        }
        if is_last {
            kept.push("");
        }
    }
    let mut made = format!("/{}", kept.join("/"));
    if let Some(query) = query {
        made.push('?');
        made.push_str(query);
    }
    Cow::Owned(made)
}

/// Path and query as requests have them.
fn target(text: &str, rules: PathRules) -> Result<String, &'static str> {
    let (path, query) = match text.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (text, None),
    };
    let path = if path.is_empty() { "/" } else { path };
    let made = path::canonical(path, rules)?;
    let mut made = made.unwrap_or_else(|| path.to_owned());
    if let Some(query) = query {
        if query.bytes().any(|byte| !(0x21..0x7f).contains(&byte)) {
            return Err("the query has a byte that no query has");
        }
        made.push('?');
        made.push_str(query);
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Base<'_> = Base {
        scheme: "https",
        hosts: ["shop.test", "shop.test"],
        path: "/a/b/c",
        query: Some("q=1"),
    };

    fn resolved(reference: &str) -> Option<String> {
        resolve(reference.as_bytes(), &BASE, PathRules::default())
    }

    #[test]
    fn references_are_resolved_against_the_target() {
        for (reference, target) in [
            ("https://shop.test/x?y=1#z", "/x?y=1"),
            ("HTTPS://Shop.Test:443/x", "/x"),
            ("https://shop.test", "/"),
            ("https://shop.test?x", "/?x"),
            ("//shop.test/x", "/x"),
            ("/x/../y", "/y"),
            ("d", "/a/b/d"),
            ("./d/", "/a/b/d/"),
            ("../d", "/a/d"),
            ("..", "/a/"),
            (".", "/a/b/"),
            ("../../../../d", "/d"),
            ("?x=2", "/a/b/c?x=2"),
            ("", "/a/b/c?q=1"),
            ("#part", "/a/b/c?q=1"),
            ("d?e=../f", "/a/b/d?e=../f"),
            ("/%7euser", "/~user"),
            ("./d:1/e", "/a/b/d:1/e"),
        ] {
            assert_eq!(resolved(reference).as_deref(), Some(target), "{reference}");
        }
        let bytes = resolve(b"/caf\xc3\xa9", &BASE, PathRules::default());
        assert_eq!(bytes.as_deref(), Some("/caf%C3%A9"));
    }

    #[test]
    fn other_origins_and_what_no_request_asks_for_are_ignored() {
        for reference in [
            "http://shop.test/x",
            "https://shop.test:8443/x",
            "https://other.test/x",
            "//other.test/x",
            "https://user@shop.test/x",
            "https:x",
            "https:/x",
            "mailto:a@shop.test",
            "d:1/e",
            "/x%00",
            "/x?a b",
        ] {
            assert_eq!(resolved(reference), None, "{reference}");
        }
    }

    #[test]
    fn whole_urls_have_the_form_of_requests() {
        let read = |text| absolute(text, PathRules::default());
        let url = |scheme, host: &str, target: &str| Url {
            scheme,
            host: host.to_owned(),
            target: target.to_owned(),
        };
        for (text, made) in [
            (
                "https://Shop.Test:443/%7Ea?x=1#z",
                url("https", "shop.test", "/~a?x=1"),
            ),
            ("http://shop.test:81", url("http", "shop.test:81", "/")),
            ("http://[::1]/a//b", url("http", "[::1]", "/a/b")),
        ] {
            assert_eq!(read(text), Ok(made), "{text}");
        }
        for (text, error) in [
            ("/products/1", NotOne::Relative),
            ("ftp://shop.test/", NotOne::Relative),
            ("https://", NotOne::Host),
            ("https://a@b/", NotOne::Host),
        ] {
            assert_eq!(read(text), Err(error), "{text}");
        }
        assert!(matches!(
            read("http://shop.test/../a"),
            Err(NotOne::Target(_))
        ));
    }
}
