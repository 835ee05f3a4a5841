//! What a write has changed in the cache (RFC 9111 section 4.4, RFC 9875).
//!
//! `forward` holds a `Write` while an unsafe request is at an endpoint, on whatever route it came, and
//! shows it the answer's head. A non-error answer invalidates the target, and what `Location` and
//! `Content-Location` name on the same origin. So does an exchange of which nobody knows how it ended: it
//! may have changed what is stored, though its client cannot tell either.
//! Invariant: what was changed is unusable, on every worker, before the head of the answer goes on.

use http::header::{CONTENT_LOCATION, HeaderMap, LOCATION};
use http::{Method, StatusCode};

use crate::cache::{Selector, Strength};
use crate::config::model::UpstreamId;

use super::forward::Order;
use super::normalize;
use super::url::{self, Base};

/// A request at an endpoint. Should it be dropped there and be unsafe, its target is invalidated.
pub(super) struct Write<'a> {
    order: &'a Order,
    upstream: UpstreamId,
    /// It may change something. A method that nobody knows may, too.
    is_unsafe: bool,
    /// An endpoint has it, and has not answered.
    is_sent: bool,
    /// An endpoint may have acted on it.
    is_done: bool,
}

impl<'a> Write<'a> {
    pub(super) fn new(order: &'a Order, upstream: UpstreamId) -> Self {
        let method = &order.request.method;
        Self {
            order,
            upstream,
            is_unsafe: !method.is_safe() && *method != Method::CONNECT,
            is_sent: false,
            is_done: false,
        }
    }

    /// It goes to an endpoint now.
    pub(super) fn is_sent(&mut self) {
        self.is_sent = true;
    }

    /// There was no answer; `unsent` is whether the endpoint has certainly not acted on it.
    pub(super) fn has_failed(&mut self, unsent: bool) {
        self.is_sent = false;
        self.is_done |= !unsent;
    }

    /// This is the answer.
    pub(super) fn answered(mut self, status: StatusCode, headers: &HeaderMap) {
        let order = self.order;
        self.is_sent = false;
        if !self.is_unsafe {
            return;
        }
        let cache = &order.worker.cache;
        let host = order.client.key_host(normalize::host(&order.request));
        let scheme = order.client.scheme();
        cache.invalidate_groups(scheme, host.as_bytes(), headers);
        if !status.is_success() && !status.is_redirection() {
            return;
        }
        self.is_done = true;
        let told = order.client.told.as_deref();
        let told = told.and_then(|told| told.host.as_ref()?.to_str().ok());
        let asked = normalize::host(&order.request);
        let uri = &order.request.uri;
        let base = Base {
            scheme,
            hosts: [asked, told.unwrap_or(asked)],
            path: uri.path(),
            query: uri.query(),
        };
        let rules = order.view.snapshot.config.paths;
        for name in [LOCATION, CONTENT_LOCATION] {
            for value in headers.get_all(name) {
                let Some(target) = url::resolve(value.as_bytes(), &base, rules) else {
                    continue;
                };
                for target in order.view.snapshot.stored_forms(&target) {
                    let changed = Selector::Url {
                        scheme,
                        host: &host,
                        target: &target,
                    };
                    // Only prefixes can be too many.
                    cache.purge(&changed, Strength::Hard).ok();
                }
            }
        }
    }
}

impl Drop for Write<'_> {
    fn drop(&mut self) {
        if !self.is_unsafe || !self.is_sent && !self.is_done {
            return;
        }
        let order = self.order;
        let request = &order.request;
        let host = order.client.key_host(normalize::host(request));
        let target = request
            .uri
            .path_and_query()
            .map_or("*", |target| target.as_str());
        let snapshot = &order.view.snapshot;
        let source = &snapshot.upstreams[self.upstream.0].name;
        let scheme = order.client.scheme();
        for target in snapshot.stored_forms(target) {
            order.worker.invalidate(source, scheme, &host, &target);
        }
    }
}
