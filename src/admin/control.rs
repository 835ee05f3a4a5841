//! What operators can change.
//!
//! Every call is a POST, and refused when a browser sends it on behalf of another site. Invariant:
//! the answer says what happened, with the same words as the log.

use http::header::{HOST, ORIGIN};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use serde_json::json;

use crate::reload::{self, Apply};

use super::{Reply, State, hosts, json, views};

/// `POST /api/reload`.
pub(super) async fn reload<A: Apply>(state: &State<A>, request: &Request<Incoming>) -> Reply {
    if is_from_another_site(request) {
        let problem = problem(StatusCode::FORBIDDEN, "the request comes from another site");
        return json(StatusCode::FORBIDDEN, &problem);
    }
    if !state.ready.get() {
        let detail = "Headgate is starting or stopping, and takes no new config";
        let problem = problem(StatusCode::SERVICE_UNAVAILABLE, detail);
        return json(StatusCode::SERVICE_UNAVAILABLE, &problem);
    }
    match state.reloader().reload().await {
        Ok(now) => json(StatusCode::OK, &views::reloaded(&now)),
        Err(error) => {
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            let mut problem = problem(status, &reload::explain(&error));
            problem["generation"] = state.reloader().state().generation.into();
            json(status, &problem)
        }
    }
}

pub(super) fn problem(status: StatusCode, detail: &str) -> serde_json::Value {
    let title = status.canonical_reason().unwrap_or("Error");
    json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail })
}

/// Whether a browser sends it for a page that is not ours. Browsers say where a request comes from;
/// that the page has the same host as the request proves nothing where the host is a name, since
/// any name can be made to lead here.
pub(super) fn is_from_another_site(request: &Request<Incoming>) -> bool {
    let headers = request.headers();
    let text = |name| headers.get(name).map(http::HeaderValue::as_bytes);
    let (site, origin) = (text("sec-fetch-site"), text(ORIGIN.as_str()));
    if site.is_none() && origin.is_none() {
        return false;
    }
    let host = text(HOST.as_str()).unwrap_or_default();
    let same_site = site.is_none_or(|site| site == b"same-origin" || site == b"none");
    let same_origin = origin.is_none_or(|origin| origin.strip_prefix(b"http://") == Some(host));
    !(same_site && same_origin && hosts::is_address(host))
}
