//! What a route does on its edge: templates, header edits, path rewriting, HSTS.
//!
//! `handle` rewrites through it, `forward` edits requests and `respond` answers. A route without any
//! of it costs the look at an empty `Option`. Invariant: edits come after everything that Headgate
//! says itself but the request id, and what a rewrite makes is a canonical path or a refusal.

use std::fmt::Write as _;

use http::Uri;
use http::header::{HOST, HeaderMap, HeaderValue, STRICT_TRANSPORT_SECURITY};
use http::request::Parts;
use uuid::Uuid;

use crate::config::model::{
    FieldEdits, PathPiece, PathRules, Piece, Rewrite, RouteEdge, Template, Variable,
};
use crate::router;

use super::reject::Reject;
use super::trust::Client;
use super::{cors, normalize, path};

/// What templates may speak of.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) request: &'a Parts,
    /// What stands for the request's target where it is stored under less than that.
    pub(super) keyed: Option<&'a Uri>,
    pub(super) client: &'a Client,
    pub(super) id: Uuid,
}

/// The text that a template makes; none when it is no field value.
pub(super) fn render(template: &Template, about: &About<'_>) -> Option<HeaderValue> {
    let pieces = match template {
        Template::Fixed(value) => return Some(value.clone()),
        Template::Made(pieces) => pieces,
    };
    let mut text = String::new();
    for piece in pieces {
        let variable = match piece {
            Piece::Text(piece) => {
                text.push_str(piece);
                continue;
            }
            Piece::Variable(variable) => *variable,
        };
        match variable {
            Variable::ClientIp => write!(text, "{}", about.client.address.host()).ok()?,
            Variable::Host => text.push_str(host(about)),
            Variable::Path => text.push_str(about.request.uri.path()),
            Variable::Query => {
                if let Some(query) = about.keyed.unwrap_or(&about.request.uri).query() {
                    text.push('?');
                    text.push_str(query);
                }
            }
            Variable::RequestId => write!(text, "{}", about.id).ok()?,
            Variable::Scheme => text.push_str(about.client.scheme()),
        }
    }
    HeaderValue::try_from(text).ok()
}

/// The host that the client asked for.
pub(super) fn host<'a>(about: &About<'a>) -> &'a str {
    let told = about.client.told.as_deref();
    let host = told.and_then(|told| told.host.as_ref());
    let host = host.or_else(|| about.request.headers.get(HOST));
    host.and_then(|host| host.to_str().ok()).unwrap_or_default()
}

/// Changes a head.
pub(super) fn edit(edits: &FieldEdits, about: &About<'_>, headers: &mut HeaderMap) {
    let FieldEdits { remove, set, add } = edits;
    for name in remove {
        headers.remove(name);
    }
    for (name, value) in set {
        match render(value, about) {
            Some(value) => drop(headers.insert(name, value)),
            // What cannot be said is not to be said by somebody else.
            None => drop(headers.remove(name)),
        }
    }
    for (name, value) in add {
        if let Some(value) = render(value, about) {
            headers.append(name, value);
        }
    }
}

/// What a route adds to every answer.
pub(super) fn finish(edge: &RouteEdge, about: &About<'_>, headers: &mut HeaderMap) {
    if let Some(rule) = &edge.cors {
        cors::finish(rule, about.request, headers);
    }
    if let Some(hsts) = edge.hsts.as_ref().filter(|_| about.client.secure) {
        headers.insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
    }
    if let Some(edits) = &edge.response_headers {
        edit(edits, about, headers);
    }
}

/// The target that endpoints see.
///
/// # Errors
/// `Malformed` when the rewritten path is ambiguous.
pub(super) fn rewrite(
    rule: &Rewrite,
    request: &Parts,
    found: &router::Found,
    table: &router::Table,
    rules: PathRules,
) -> Result<Uri, Reject> {
    let path = request.uri.path();
    let made = match rule {
        Rewrite::Prefix { strip, with } => match below(path, strip) {
            None => return Ok(request.uri.clone()),
            Some("") if with.is_empty() => "/".to_owned(),
            Some(rest) => format!("{with}{rest}"),
        },
        Rewrite::Template(pieces) => pieces
            .iter()
            .map(|piece| match piece {
                PathPiece::Text(text) => text,
                PathPiece::Capture(name) => table.capture(found, path, name).unwrap_or_default(),
            })
            .collect(),
    };
    let made = match path::canonical(&made, rules).map_err(Reject::Malformed)? {
        Some(canonical) => canonical,
        None => made,
    };
    normalize::with_path(made, request.uri.query())
}

/// What of a path stands below a prefix of whole segments.
fn below<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_taken_away_by_whole_segments() {
        for (path, prefix, rest) in [
            ("/api/x", "/api", Some("/x")),
            ("/api", "/api", Some("")),
            ("/api/", "/api", Some("/")),
            ("/apix", "/api", None),
            ("/x", "", Some("/x")),
        ] {
            assert_eq!(below(path, prefix), rest, "{path}");
        }
    }
}
