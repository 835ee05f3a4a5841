//! Fields by which a request may not be judged, and those that pass although they claim something.
//!
//! What Headgate drops before it routes a request can decide nothing, so a rule about it is a mistake
//! that would stay unseen.

use std::sync::Arc;

use http::header::{
    ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, HOST,
    HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, RANGE, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};

use super::Cx;
use super::fields::Unique;
use crate::config::marks::At;
use crate::config::model::{CERTIFICATE, Claims, WRITTEN_ANEW};
use crate::config::raw;
use crate::config::report::Span;

/// Fields that end at Headgate, whoever sends them.
static OF_A_HOP: [HeaderName; 11] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-authentication-info"),
    HeaderName::from_static("http2-settings"),
];

/// Fields without which a request is none, or says nothing.
static OF_ALL: [HeaderName; 8] = [
    HOST,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    COOKIE,
    AUTHORIZATION,
    ACCEPT,
    EXPECT,
    RANGE,
];

impl Cx<'_> {
    pub(super) fn claims(self, raw: raw::Claims, at: At<'_>) -> Claims {
        let raw::Claims { keep, trusted_only } = raw;
        let trusted_only = self.trusted_only(trusted_only, at.field("trusted_only"));
        let at = at.field("keep");
        let mut unique = Unique::new();
        let mut kept = Vec::new();
        for (index, item) in keep.0.unwrap_or_default().into_iter().enumerate() {
            let Some(typed) = item.0 else { continue };
            let span = at.item(index).span();
            let Some(name) = self.header_name(span, &typed) else {
                continue;
            };
            unique.check(self, span, "the header", name.clone());
            if WRITTEN_ANEW.contains(&name) || CERTIFICATE.contains(&name) {
                let message = format!("endpoints take `{name}` for Headgate's word");
                let hint = "name the proxy whose word it is in `trusted_proxies`";
                self.error(span, message, hint);
            } else if is_odd(&name) {
                let message = format!("`{name}` is another spelling of a claim");
                self.error(span, message, "write it with `-`; no other spelling passes");
            } else if trusted_only
                .iter()
                .flat_map(|names| names.iter())
                .any(|only| *only == name)
            {
                let message = format!("`{name}` is for trusted proxies only, and for everybody");
                self.error(span, message, "take it out of `keep` or of `trusted_only`");
            } else {
                kept.push(name);
            }
        }
        Claims {
            keep: kept,
            trusted_only,
        }
    }

    fn trusted_only(self, raw: raw::List<String>, at: At<'_>) -> Option<Arc<[HeaderName]>> {
        let mut unique = Unique::new();
        let mut names = Vec::new();
        for (index, item) in raw.0.unwrap_or_default().into_iter().enumerate() {
            let Some(typed) = item.0 else { continue };
            let span = at.item(index).span();
            let Some(name) = self.header_name(span, &typed) else {
                continue;
            };
            unique.check(self, span, "the header", name.clone());
            if OF_A_HOP.contains(&name) || OF_ALL.contains(&name) {
                let message = format!("`{name}` is not a claim: requests of all clients have it");
                self.error(span, message, "name fields that your proxies add");
            } else if is_odd(&name) {
                let message = format!("`{name}` is another spelling of a claim");
                self.error(span, message, "write it with `-`; no other spelling passes");
            } else {
                names.push(name);
            }
        }
        (!names.is_empty()).then(|| names.into())
    }

    /// A request is to be judged by this field: it has to be one that is not dropped before.
    pub(super) fn is_seen(self, span: Span, name: &HeaderName) {
        if OF_A_HOP.contains(name) {
            let message = format!("`{name}` is about one connection, and nothing decides by it");
            self.error(span, message, "use a field that endpoints get too");
        } else if WRITTEN_ANEW.contains(name) {
            let message =
                format!("`{name}` is what Headgate tells endpoints, and nothing decides by it");
            self.error(span, message, instead(name));
        } else if is_odd(name) && !self.keep_odd {
            let message = format!("`{name}` is dropped for its `_` or `.`, so no request has it");
            self.error(
                span,
                message,
                "let such names pass: `underscore_headers: keep`",
            );
        }
    }
}

/// What an operator may have meant.
fn instead(name: &HeaderName) -> &'static str {
    match name.as_str() {
        "x-forwarded-host" => "routes go by `Host`: use `host`",
        "x-forwarded-proto" => {
            "to send plain requests to HTTPS, use `redirect: { https: true }`; to tell proxies apart, a field of their own"
        }
        _ => "use a field that clients or proxies send on purpose",
    }
}

/// Whether some servers take the name for another one.
fn is_odd(name: &HeaderName) -> bool {
    name.as_str().contains(['_', '.'])
}
