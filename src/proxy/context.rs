//! What is known of a request while it is on the road, and what is left of it afterwards.
//!
//! `handle` makes a `Context`, the stations fill it in, `Outbound` carries it until the last byte.
//! Invariant: each request is counted and logged exactly once, when its context drops, however it
//! ended.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use tokio::time::Instant;
use uuid::Uuid;

use crate::balancer::Endpoint;
use crate::clock;
use crate::config::model::{RouteEdge, RouteId};
use crate::metrics::{CacheResult, ProxyError, RejectReason};
use crate::upstream::request_body::Transfer;
use crate::wire::{Early, Head, Peer, give_back};

use super::access_log::{EndedBy, Record, RequestLine, Timings};
use super::edge::About;
use super::headers;
use super::sift::Seen;
use super::trust::Client;
use super::worker::{View, Worker};

/// Status of a request whose client left before its answer began.
const CLIENT_GONE: u16 = 499;

/// A request on the road.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) worker: Rc<Worker>,
    pub(super) view: Rc<View>,
    pub(super) peer: Rc<Peer>,
    /// Who sent the request, as far as it can be known.
    pub(super) client: Client,
    /// The request's head: past `normalize`, in its one form.
    pub(super) request: Rc<Parts>,
    /// No head was read: the one above stands for nothing.
    pub(super) unread: bool,
    /// What its fields were before `sift` took some away.
    pub(super) seen: Seen,
    /// It asks for nothing but a tunnel, as an extended CONNECT does (RFC 8441).
    pub(super) tunnel_only: bool,
    pub(super) id: Uuid,
    /// `id` as a field value.
    pub(super) id_value: HeaderValue,
    pub(super) began: Instant,
    pub(super) route: Option<RouteId>,
    /// What the cache made of it; none on a route that does not cache.
    pub(super) cache: Option<CacheResult>,
    pub(super) codings: Codings,
    /// The client wants to know the key of the cache, and may.
    pub(super) asks_key: bool,
    /// What endpoints see in place of the client's target.
    pub(super) rewritten: Option<Uri>,
    /// The target that the cache knows it by, where its route leaves out parts of the query.
    pub(super) keyed: Option<Uri>,
    /// Takes informational answers.
    pub(super) hints: Hints,
    pub(super) exchange: Exchange,
    /// Binds the client to the endpoint that answered.
    pub(super) sticky: Option<HeaderValue>,
    pub(super) status: Option<StatusCode>,
    pub(super) bytes_out: u64,
    pub(super) end: End,
}

/// Where informational answers go, if the client can read them.
#[derive(Clone, Default)]
pub(super) struct Hints(pub(super) Option<Rc<dyn Early>>);

impl Hints {
    /// Passes on what of an informational answer is for clients; says whether it will be sent.
    pub(super) fn send(&self, status: StatusCode, sent: &HeaderMap) -> bool {
        let headers = headers::for_early(sent);
        match &self.0 {
            Some(early) if !headers.is_empty() => early.send(status, headers),
            _ => false,
        }
    }
}

impl std::fmt::Debug for Hints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Hints").field(&self.0.is_some()).finish()
    }
}

/// What talking to endpoints took.
#[derive(Debug, Clone, Default)]
pub(super) struct Exchange {
    /// The endpoint that was tried last.
    pub(super) endpoint: Option<Arc<Endpoint>>,
    /// Of the last attempt, when it made a connection.
    pub(super) connect: Option<Duration>,
    /// From the request's head to the answer's.
    pub(super) first_byte: Option<Duration>,
    pub(super) attempts: u32,
    /// The client's body on its way.
    pub(super) upload: Option<Rc<Transfer>>,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Not yet: if it drops now, the client has left.
    Open,
    /// The answer was handed over whole.
    Whole,
    /// Headgate answered itself.
    Rejected(RejectReason),
    /// The upstream failed, before or within its answer.
    Upstream(ProxyError),
    /// Cut: a reload had removed its route or its endpoint.
    Removed,
}

/// In which coding the answer goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codings {
    /// That is still to be seen.
    Open,
    /// In that which it has: the cache has given it in the form that the client takes.
    Settled,
}

impl Context {
    pub(super) fn begin(
        worker: Rc<Worker>,
        view: Rc<View>,
        peer: Rc<Peer>,
        client: Client,
        (head, began): (Head, Instant),
    ) -> Box<Self> {
        let told = client.told.as_deref().and_then(|told| told.id);
        let id = told.unwrap_or_else(|| worker.request_id());
        let id_value = worker.id_value(id);
        Box::new(Self {
            view,
            id,
            id_value,
            peer,
            client,
            request: head.share(),
            unread: false,
            seen: Seen::default(),
            tunnel_only: false,
            began,
            route: None,
            cache: None,
            codings: Codings::Open,
            asks_key: false,
            rewritten: None,
            keyed: None,
            hints: Hints::default(),
            exchange: Exchange::default(),
            sticky: None,
            status: None,
            bytes_out: 0,
            end: End::Open,
            worker,
        })
    }

    /// What templates may speak of.
    pub(super) fn about(&self) -> About<'_> {
        About {
            request: &self.request,
            keyed: None,
            client: &self.client,
            id: self.id,
        }
    }

    /// What the request's route does on its edge, if it has one that does anything.
    pub(super) fn edge(&self) -> Option<&RouteEdge> {
        let route = &self.view.snapshot.routes[self.route?.0];
        route.edge.as_deref()
    }

    /// The route was found: from here the request is counted under its name.
    pub(super) fn enter(&mut self, route: RouteId) {
        self.route = Some(route);
        self.view.snapshot.routes[route.0]
            .metrics
            .worker(self.worker.id)
            .enter();
    }

    /// The answer was handed over to its last byte.
    pub(super) fn finished(&mut self) {
        if self.end == End::Open {
            self.end = End::Whole;
        }
    }

    /// The upstream broke off within its answer.
    pub(super) fn broke(&mut self, reason: ProxyError) {
        self.end = End::Upstream(reason);
        if let Some(endpoint) = &self.exchange.endpoint {
            self.view
                .snapshot
                .count_error(endpoint, self.worker.id, reason);
        }
    }

    fn log(&self, status: StatusCode, total: Duration) {
        self.worker.log(|buffer| {
            let request = &self.request;
            let header = |name| request.headers.get(name).map(HeaderValue::as_bytes);
            let (ended_by, reason) = match self.end {
                End::Whole if self.exchange.endpoint.is_some() => (EndedBy::Upstream, None),
                End::Whole => (EndedBy::Headgate, None),
                End::Open => (EndedBy::Client, None),
                End::Removed => (EndedBy::Headgate, Some("removed")),
                End::Rejected(reason) => (EndedBy::Headgate, Some(reason.as_str())),
                // A file that broke off, say.
                End::Upstream(reason) if self.exchange.endpoint.is_none() => {
                    (EndedBy::Headgate, Some(reason.as_str()))
                }
                End::Upstream(reason) => (EndedBy::Upstream, Some(reason.as_str())),
            };
            let snapshot = &self.view.snapshot;
            let exchange = &self.exchange;
            buffer.write(&Record {
                // When the head was complete; read only now, because most requests are not logged.
                at: clock::wall()
                    .checked_sub(total)
                    .unwrap_or(SystemTime::UNIX_EPOCH),
                request_id: self.id,
                client: self.client.address,
                line: (!self.unread).then(|| RequestLine {
                    method: &request.method,
                    target: request
                        .uri
                        .path_and_query()
                        .map_or(b"*", |t| t.as_str().as_bytes()),
                    version: request.version,
                }),
                host: header(http::header::HOST).unwrap_or_default(),
                tls: self.peer.tls.as_ref().map(|tls| tls.version),
                cipher: self.peer.tls.as_ref().map(|tls| tls.cipher),
                route: self.route.map(|route| &*snapshot.routes[route.0].name),
                upstream: exchange
                    .endpoint
                    .as_ref()
                    .map(|endpoint| &*endpoint.upstream),
                endpoint: exchange
                    .endpoint
                    .as_ref()
                    .map(|endpoint| &*endpoint.address),
                status,
                bytes_in: exchange
                    .upload
                    .as_ref()
                    .map_or(0, |upload| upload.bytes.get()),
                bytes_out: self.bytes_out,
                timings: Timings {
                    queue: None,
                    connect: exchange.connect,
                    first_byte: exchange.first_byte,
                    total,
                },
                retries: exchange.attempts.saturating_sub(1),
                cache: self.cache.map(CacheResult::as_str),
                ended_by,
                reason,
                user_agent: header(http::header::USER_AGENT),
                referer: header(http::header::REFERER),
                generation: snapshot.generation,
            });
        });
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        let gone = || StatusCode::from_u16(CLIENT_GONE).unwrap_or(StatusCode::BAD_REQUEST);
        let status = self.status.unwrap_or_else(gone);
        if let Some(route) = self.route {
            let route = &self.view.snapshot.routes[route.0];
            let cells = route.metrics.worker(self.worker.id);
            cells.count(&self.request.method, status, took, self.bytes_out);
            if let Some(result) = self.cache {
                cells.cache(result);
            }
            cells.leave();
        }
        self.log(status, took);
        give_back(&mut self.request);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[derive(Default)]
    struct Heard(RefCell<Vec<(StatusCode, HeaderMap)>>);

    impl Early for Heard {
        fn send(&self, status: StatusCode, headers: HeaderMap) -> bool {
            self.0.borrow_mut().push((status, headers));
            true
        }
    }

    #[test]
    fn hints_reach_the_client_without_what_is_not_for_it() {
        let heard = Rc::new(Heard::default());
        let hints = Hints(Some(Rc::clone(&heard) as Rc<dyn Early>));
        let mut sent = HeaderMap::new();
        for (name, value) in [
            ("link", "</a.css>; rel=preload"),
            ("link", "</b.js>; rel=preload"),
            ("connection", "close"),
            ("set-cookie", "a=b"),
            ("x-internal", "1"),
        ] {
            sent.append(name, HeaderValue::from_static(value));
        }
        assert!(hints.send(StatusCode::EARLY_HINTS, &sent));
        // Nothing is left to say.
        assert!(!hints.send(StatusCode::EARLY_HINTS, &HeaderMap::new()));
        assert!(!Hints::default().send(StatusCode::EARLY_HINTS, &sent));
        let heard = heard.0.borrow();
        let [(_, headers)] = &heard[..] else {
            panic!("{heard:?}");
        };
        assert_eq!(
            (headers.len(), headers.get_all("link").iter().count()),
            (2, 2)
        );
    }
}
