//! What a route changes on its edge and answers by itself: rewriting, header fields, redirects,
//! fixed answers, HSTS, upgrades. (`cors` stands alone.)

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue};

use super::Cx;
use super::fields::{Fault, Unique};
use super::patterns;
use super::templates;
use crate::config::errors::quotable;
use crate::config::marks::At;
use crate::config::model::{
    FieldEdits, PathPattern, PathPiece, Piece, Redirect, Respond, Rewrite, Segment, Template,
    ToHttps, Variable,
};
use crate::config::raw::{self, Lenient, Named};
use crate::config::suggest::closest;

/// Fields that belong to one hop or frame a message: Headgate alone writes them.
const FRAMING: [HeaderName; 10] = [
    http::header::CONNECTION,
    http::header::CONTENT_LENGTH,
    http::header::EXPECT,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    http::header::TE,
    http::header::TRAILER,
    http::header::TRANSFER_ENCODING,
    http::header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// Longer than any browser remembers.
const MAX_HSTS: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Whose fields are edited.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Heads {
    Requests {
        /// Whether what they are answered with is for others too.
        shared: bool,
    },
    Answers,
}

impl Cx<'_> {
    pub(super) fn rewrite(
        self,
        raw: raw::Rewrite,
        path: &PathPattern,
        at: At<'_>,
    ) -> Option<Rewrite> {
        const HINT: &str = "add `strip_prefix: /PREFIX`, or `path: \"/new/{capture}\"`";
        let raw::Rewrite {
            strip_prefix,
            replace_prefix,
            path: template,
        } = raw;
        let prefix = |key: &str, typed: raw::Text| {
            let at = at.field(key);
            let typed = typed.0?;
            if typed == "/" {
                return Some(Arc::from(""));
            }
            match self.settle(at, patterns::path_prefix(&typed))? {
                PathPattern::Prefix(prefix) => Some(prefix),
                _ => Some(Arc::from("")),
            }
        };
        let strip: Option<Arc<str>> = prefix("strip_prefix", strip_prefix);
        let with: Option<Arc<str>> = prefix("replace_prefix", replace_prefix);
        if at.has("path") {
            for other in ["strip_prefix", "replace_prefix"] {
                if at.has(other) {
                    let message = format!("`path` and `{other}` exclude each other");
                    self.error(at.key_span(other), message, "keep one");
                }
            }
            let at = at.field("path");
            return self
                .settle(at, path_template(&template.0?, path))
                .map(Rewrite::Template);
        }
        if at.has("replace_prefix") && !at.has("strip_prefix") {
            let message = "`replace_prefix` without a `strip_prefix`";
            self.error(
                at.key_span("replace_prefix"),
                message,
                "say what it replaces",
            );
        } else if !at.has("strip_prefix") {
            self.missing(at, "strip_prefix", "a `rewrite` that changes nothing", HINT);
        }
        Some(Rewrite::Prefix {
            strip: strip?,
            with: with.unwrap_or_default(),
        })
    }

    pub(super) fn field_edits(self, raw: raw::HeaderEdits, heads: Heads, at: At<'_>) -> FieldEdits {
        let raw::HeaderEdits { set, add, remove } = raw;
        let mut names = Unique::new();
        let set = self.edited(set, heads, at.field("set"), &mut names);
        let add = self.edited(add, heads, at.field("add"), &mut Unique::new());
        let mut removed = Vec::new();
        let remove_at = at.field("remove");
        for (index, item) in remove.0.unwrap_or_default().into_iter().enumerate() {
            let Some(typed) = item.0 else { continue };
            let span = remove_at.item(index).span();
            let Some(name) = self.header_name(span, &typed) else {
                continue;
            };
            names.check(self, span, "the header", name.clone());
            self.may_edit(span, &name);
            if name == HOST {
                self.error(
                    span,
                    "a request needs its `Host`",
                    "set another one instead",
                );
            }
            removed.push(name);
        }
        FieldEdits {
            remove: removed,
            set,
            add,
        }
    }

    fn edited(
        self,
        raw: Lenient<Named<String>>,
        heads: Heads,
        at: At<'_>,
        names: &mut Unique<HeaderName>,
    ) -> Vec<(HeaderName, Template)> {
        let mut edits = Vec::new();
        for (typed, value) in raw.0.map(|Named(entries)| entries).unwrap_or_default() {
            let span = at.key_span(&typed);
            let Some(name) = self.header_name(span, &typed) else {
                continue;
            };
            names.check(self, span, "the header", name.clone());
            self.may_edit(span, &name);
            if name == HOST && heads == Heads::Answers {
                self.error(span, "an answer has no `Host`", "remove it");
            }
            let Some(value) = value.0 else { continue };
            let at = at.field(&typed);
            if let Some(template) = self.settle(at, templates::field_value(&value)) {
                if heads == (Heads::Requests { shared: true }) {
                    self.is_for_all(at, &template);
                }
                edits.push((name, template));
            }
        }
        edits
    }

    /// An answer that is kept must not hang on what the cache's key does not know. (The other variables
    /// are parts of the key.)
    fn is_for_all(self, at: At<'_>, template: &Template) {
        let Template::Made(pieces) = template else {
            return;
        };
        for piece in pieces {
            let (message, field) = match piece {
                Piece::Variable(Variable::ClientIp) => (
                    "`{client_ip}` differs from client to client, and this route caches for all",
                    "`X-Forwarded-For`",
                ),
                Piece::Variable(Variable::RequestId) => (
                    "`{request_id}` differs from request to request, and this route caches for all",
                    "`X-Request-Id`",
                ),
                Piece::Variable(
                    Variable::Host | Variable::Path | Variable::Query | Variable::Scheme,
                )
                | Piece::Text(_) => continue,
            };
            let hint = format!(
                "remove it, endpoints get {field} anyway; or remove `cache` from the route"
            );
            self.error(at.span(), message, hint);
        }
    }

    fn may_edit(self, span: crate::config::report::Span, name: &HeaderName) {
        if FRAMING.contains(name) {
            let message = format!("`{name}` belongs to one connection or frames a message");
            self.error(span, message, "Headgate writes it itself: remove it");
        }
    }

    /// `https: true` and what `to` leads to exclude each other.
    pub(super) fn redirect(
        self,
        raw: raw::Redirect,
        at: At<'_>,
    ) -> (Option<ToHttps>, Option<Redirect>) {
        let raw::Redirect {
            to,
            status,
            https,
            port,
        } = raw;
        let status = status.0.and_then(|code| self.redirect_status(at, code));
        let port = self.whole(at, "port", &port, 1..=65_535);
        let https = https.0.unwrap_or_default();
        if https && at.has("to") {
            let hint = "keep `to`, or `https: true` to go to the same place over TLS";
            self.error(
                at.key_span("https"),
                "`to` and `https` exclude each other",
                hint,
            );
        }
        if https {
            let to_https = ToHttps {
                port: port.and_then(NonZeroU16::new).unwrap_or_else(own_port),
                status: status.unwrap_or(StatusCode::PERMANENT_REDIRECT),
            };
            return (Some(to_https), None);
        }
        if at.has("port") {
            let message = "`port` goes with `https: true` only";
            self.error(at.key_span("port"), message, "write the port into `to`");
        }
        if !at.has("to") {
            let hint = "add `to: \"https://{host}{path}{query}\"`, or `https: true`";
            self.missing(at, "to", "a `redirect` that leads nowhere", hint);
        }
        let to =
            to.0.and_then(|typed| self.settle(at.field("to"), templates::location(&typed)));
        let redirect = to.map(|to| Redirect {
            to,
            status: status.unwrap_or(StatusCode::FOUND),
        });
        (None, redirect)
    }

    fn redirect_status(self, at: At<'_>, code: i128) -> Option<StatusCode> {
        let status = match code {
            301 => StatusCode::MOVED_PERMANENTLY,
            302 => StatusCode::FOUND,
            303 => StatusCode::SEE_OTHER,
            307 => StatusCode::TEMPORARY_REDIRECT,
            308 => StatusCode::PERMANENT_REDIRECT,
            _ => {
                let message = format!("`{code}` is not a status of a redirect");
                let hint = "the choices are 301, 302, 303, 307 and 308";
                self.error(at.field("status").span(), message, hint);
                return None;
            }
        };
        Some(status)
    }

    pub(super) fn respond(self, raw: raw::Respond, at: At<'_>) -> Respond {
        let raw::Respond {
            status,
            body,
            content_type,
            headers,
        } = raw;
        let status = self
            .whole::<u16>(at, "status", &status, 200..=599)
            .and_then(|code| StatusCode::from_u16(code).ok())
            .unwrap_or(StatusCode::OK);
        let body = Bytes::from(body.0.unwrap_or_default());
        let bare = [
            StatusCode::NO_CONTENT,
            StatusCode::RESET_CONTENT,
            StatusCode::NOT_MODIFIED,
        ];
        if bare.contains(&status) && !body.is_empty() {
            let message = format!("an answer of status {} has no body", status.as_u16());
            self.error(
                at.field("body").span(),
                message,
                "remove it, or change `status`",
            );
        }
        let mut fields = Vec::new();
        if let Some(typed) = content_type.0 {
            let value = self.settle(at.field("content_type"), templates::fixed(&typed));
            fields.extend(value.map(|value| (CONTENT_TYPE, value)));
        } else if !body.is_empty() {
            let text = HeaderValue::from_static("text/plain; charset=utf-8");
            fields.push((CONTENT_TYPE, text));
        }
        let at = at.field("headers");
        let mut names = Unique::new();
        for (typed, value) in headers.0.map(|Named(entries)| entries).unwrap_or_default() {
            let span = at.key_span(&typed);
            let Some(name) = self.header_name(span, &typed) else {
                continue;
            };
            names.check(self, span, "the header", name.clone());
            self.may_edit(span, &name);
            if name == CONTENT_TYPE {
                self.error(span, "the type has a key of its own", "use `content_type`");
            }
            let value = value
                .0
                .and_then(|value| self.settle(at.field(&typed), templates::fixed(&value)));
            fields.extend(value.map(|value| (name, value)));
        }
        Respond {
            status,
            body,
            headers: fields,
        }
    }

    pub(super) fn hsts(self, raw: &raw::Hsts, at: At<'_>) -> Option<HeaderValue> {
        let raw::Hsts {
            max_age,
            include_subdomains,
            preload,
        } = raw;
        if max_age.0.is_none() {
            let message = "`hsts` without a `max_age`";
            self.missing(at, "max_age", message, "add `max_age: 365d`");
        }
        let bounds = Duration::ZERO..=MAX_HSTS;
        let age = self.duration(at, "max_age", max_age, &bounds)?;
        let (below, preload) = (include_subdomains.0 == Some(true), preload.0 == Some(true));
        if preload && (!below || age < Duration::from_secs(365 * 86_400)) {
            let message = "`preload` needs `include_subdomains: true` and a `max_age` of 365d";
            let hint = "browsers' lists take no host without them";
            self.error(at.key_span("preload"), message, hint);
        }
        let mut text = format!("max-age={}", age.as_secs());
        if below {
            text.push_str("; includeSubDomains");
        }
        if preload {
            text.push_str("; preload");
        }
        HeaderValue::try_from(text).ok()
    }

    pub(super) fn upgrades(self, raw: raw::List<String>, at: At<'_>) -> Vec<Arc<str>> {
        let Some(items) = raw.0 else {
            return vec![Arc::from("websocket")];
        };
        let mut unique = Unique::new();
        let mut protocols = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let Some(typed) = item.0 else { continue };
            let at = at.item(index);
            let Some(protocol) = self.settle(at, protocol(&typed)) else {
                continue;
            };
            unique.check(self, at.span(), "the protocol", Arc::clone(&protocol));
            protocols.push(protocol);
        }
        protocols
    }
}

/// Of `https`.
fn own_port() -> NonZeroU16 {
    NonZeroU16::new(443).unwrap_or(NonZeroU16::MIN)
}

/// A protocol of the `Upgrade` field (RFC 9110 section 7.8), without a version.
fn protocol(typed: &str) -> Result<Arc<str>, Fault> {
    let shown = quotable(typed);
    let lower = typed.to_ascii_lowercase();
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let name = lower.split('/').next().unwrap_or_default();
    if matches!(name, "h2c" | "h2" | "http" | "tls") {
        let message = format!("`{shown}` would change what speaks HTTP, and is never taken");
        let hint = "clients speak HTTP/2 by TLS or with prior knowledge";
        return Err(Fault::new(message, hint));
    }
    if lower.is_empty() || !lower.bytes().all(fits) {
        let message = format!("`{shown}` cannot be the name of a protocol");
        return Err(Fault::new(
            message,
            "such as `websocket`, without a version",
        ));
    }
    Ok(Arc::from(lower))
}

/// `/x/{capture}` over the captures of `path`.
fn path_template(typed: &str, path: &PathPattern) -> Result<Vec<PathPiece>, Fault> {
    const HINT: &str = "such as \"/new/{rest}\", with captures of the route's own `path`";
    let known: Vec<&str> = match path {
        PathPattern::Template(segments) => segments
            .iter()
            .filter_map(|segment| match segment {
                Segment::Capture(name) | Segment::Rest(name) => Some(&**name),
                Segment::Literal(_) => None,
            })
            .collect(),
        PathPattern::Any | PathPattern::Exact(_) | PathPattern::Prefix(_) => Vec::new(),
    };
    let shown = quotable(typed);
    if !typed.starts_with('/') {
        return Err(Fault::new(
            format!("the path `{shown}` does not begin with `/`"),
            HINT,
        ));
    }
    let mut pieces = Vec::new();
    let mut rest = typed;
    let mut text = String::new();
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, after)) = after.split_once('}') else {
            return Err(Fault::new(
                format!("`{shown}` has a `{{` without its `}}`"),
                HINT,
            ));
        };
        let name = name.strip_prefix('*').unwrap_or(name);
        if !known.contains(&name) {
            let message = format!("this route captures no `{}`", quotable(name));
            let hint = closest(name, known).map_or_else(
                || HINT.to_owned(),
                |near| format!("did you mean `{{{near}}}`?"),
            );
            return Err(Fault::new(message, hint));
        }
        text.push_str(before);
        pieces.push(PathPiece::Text(Arc::from(std::mem::take(&mut text))));
        pieces.push(PathPiece::Capture(Arc::from(name)));
        rest = after;
    }
    text.push_str(rest);
    pieces.push(PathPiece::Text(Arc::from(text)));
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@/%".contains(&b);
    for piece in &pieces {
        if let PathPiece::Text(text) = piece
            && let Some(odd) = text.chars().find(|c| !u8::try_from(*c).is_ok_and(plain))
        {
            let message = format!("`{shown}` has a {odd:?}, which no path may have");
            return Err(Fault::new(message, "write it as `%` and two hex digits"));
        }
    }
    Ok(pieces)
}
