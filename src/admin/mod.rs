//! The operators' listener: metrics, probes of the process, and what runs.
//!
//! | request            | answer                                                              |
//! |--------------------|---------------------------------------------------------------------|
//! | `GET /`            | this table                                                          |
//! | `GET /metrics`     | Prometheus text                                                     |
//! | `GET /livez`       | 200 while the control plane runs                                    |
//! | `GET /readyz`      | 200 while requests are taken, 503 while starting or draining        |
//! | `GET /api/config`  | the config in force, secrets redacted, and the last failed reload   |
//! | `GET /api/upstreams` | endpoints with state, reason, weight, requests in flight          |
//! | `POST /api/reload` | reads the config file again; 200, or 422 with what is wrong         |
//! | `POST /api/purge`  | purges the cache, or says what that would reach; 200 with counts    |
//!
//! Runs on the control plane, on its own address, loopback by default. A connection carries one
//! request and has a deadline for it and one for the whole; when places run out, the one that has
//! been silent for the longest gives way (`places`). A page in a browser sees and changes nothing, even
//! if its name was made to lead here (`hosts`). Invariant: nothing here is on a request's road.

mod control;
mod hosts;
mod places;
mod purge;
mod views;

use std::cell::Cell;
use std::convert::Infallible;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::metrics::{self, Metrics};
use crate::reload::{Apply, Reloader};
use crate::snapshot::Live;

use places::{Place, Places};
use purge::Sweeper;

/// For a request's head.
const HEAD: Duration = Duration::from_secs(5);
/// For a whole connection: its request, and reading the answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause after a failed accept.
const BACK_OFF: Duration = Duration::from_millis(200);

/// What the views look at.
#[derive(Debug)]
pub struct State<A> {
    metrics: Arc<Metrics>,
    reloader: Rc<Reloader<A>>,
    sweeper: Rc<Sweeper>,
    ready: Cell<bool>,
}

impl<A: Apply> State<A> {
    /// A process that is not ready yet.
    #[must_use]
    pub fn new(live: &Live, reloader: Rc<Reloader<A>>) -> Self {
        Self {
            metrics: Arc::clone(&live.metrics),
            reloader,
            sweeper: Sweeper::new(&live.cache),
            ready: Cell::new(false),
        }
    }

    /// What `/readyz` says from now on.
    pub fn set_ready(&self, ready: bool) {
        self.ready.set(ready);
    }

    /// Loads configs.
    #[must_use]
    pub fn reloader(&self) -> &Reloader<A> {
        &self.reloader
    }
}

type Reply = Response<Full<Bytes>>;

/// Serves operators on `listener` for as long as the control plane runs, at most `most` of them at once.
pub async fn serve<A: Apply + 'static>(
    listener: std::net::TcpListener,
    state: Rc<State<A>>,
    most: usize,
) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the admin listener cannot be served");
            return;
        }
    };
    let places = Places::new(most);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(BACK_OFF).await;
            continue;
        };
        let place = places.take().await;
        let state = Rc::clone(&state);
        tokio::task::spawn_local(async move {
            let service = service_fn(|request| {
                let state = Rc::clone(&state);
                async move { Ok::<_, Infallible>(answer(&state, request).await) }
            });
            converse(stream, service, &place).await;
        });
    }
}

/// One request and its answer.
async fn converse<S>(stream: impl AsyncRead + AsyncWrite + Unpin, service: S, place: &Place)
where
    S: Service<Request<Incoming>, Response = Reply, Error = Infallible>,
{
    let connection = http1::Builder::new()
        .keep_alive(false)
        // Ours are below.
        .header_read_timeout(None)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(|request| {
                place.asks();
                service.call(request)
            }),
        );
    let mut connection = pin!(connection);
    let head = async {
        tokio::time::sleep(HEAD).await;
        place.until_silent().await;
    };
    tokio::select! {
        biased;
        ended = &mut connection => {
            if let Err(error) = ended {
                tracing::debug!(%error, "an admin connection ended");
            }
        }
        () = place.wanted() => tracing::debug!("a silent admin connection gave way to another"),
        () = head => tracing::debug!("an admin connection asked for nothing"),
        () = tokio::time::sleep(PATIENCE) => tracing::debug!("an admin connection took too long"),
    }
}

async fn answer<A: Apply>(state: &State<A>, request: Request<Incoming>) -> Reply {
    let path = request.uri().path();
    // Scrapers and orchestrators ask by whatever name the machine has for them.
    let is_for_machines = matches!(path, "/metrics" | "/livez" | "/readyz");
    if !is_for_machines && !hosts::admit(&request, &state.reloader.current().config.admin.hosts) {
        return text(StatusCode::FORBIDDEN, hosts::REFUSED);
    }
    let allowed: &[Method] = match path {
        "/" | "/metrics" | "/livez" | "/readyz" | "/api/config" | "/api/upstreams" => {
            &[Method::GET, Method::HEAD]
        }
        "/api/reload" | "/api/purge" => &[Method::POST],
        _ => return text(StatusCode::NOT_FOUND, "there is nothing here; see GET /\n"),
    };
    if !allowed.contains(request.method()) {
        let mut reply = text(
            StatusCode::METHOD_NOT_ALLOWED,
            "the method is not allowed here\n",
        );
        let allow = if allowed.contains(&Method::GET) {
            "GET, HEAD"
        } else {
            "POST"
        };
        reply
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static(allow));
        return reply;
    }
    match path {
        "/metrics" => body(
            StatusCode::OK,
            metrics::CONTENT_TYPE,
            state.metrics.render(),
        ),
        "/livez" => text(StatusCode::OK, "ok\n"),
        "/readyz" if state.ready.get() => text(StatusCode::OK, "ready\n"),
        "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
        "/api/config" => json(StatusCode::OK, &views::config(&state.reloader.state())),
        "/api/upstreams" => json(StatusCode::OK, &views::upstreams(&state.reloader.current())),
        "/api/reload" => control::reload(state, &request).await,
        "/api/purge" => purge::purge(state, request).await,
        _ => text(StatusCode::OK, views::INDEX),
    }
}

fn body(status: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(text.into()));
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let nosniff = HeaderValue::from_static("nosniff");
    reply
        .headers_mut()
        .insert(http::header::X_CONTENT_TYPE_OPTIONS, nosniff);
    reply
}

fn text(status: StatusCode, text: &'static str) -> Reply {
    body(status, "text/plain; charset=utf-8", text)
}

fn json(status: StatusCode, value: &serde_json::Value) -> Reply {
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    body(status, "application/json", text)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::{Instant, timeout};

    use super::*;

    /// Of the paused clock.
    const LONG: Duration = Duration::from_secs(3600);

    /// Serves a client that has sent this and reads nothing, and says how long it took.
    async fn serve_one(sent: &str, answer: &'static str) -> Duration {
        let (mut client, server) = tokio::io::duplex(256);
        client.write_all(sent.as_bytes()).await.unwrap();
        let began = Instant::now();
        let service = service_fn(|_| async { Ok(text(StatusCode::OK, answer)) });
        let place = Places::new(1).take().await;
        timeout(LONG, converse(server, service, &place))
            .await
            .unwrap();
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_hangs_is_left_at_the_deadline() {
        const BIG: &str = match std::str::from_utf8(&[b'x'; 4096]) {
            Ok(text) => text,
            Err(_) => "",
        };
        for (sent, answer, patience) in [
            ("", "never asked for", HEAD),
            ("GET / HT", "never asked for", HEAD),
            ("GET / HTTP/1.1\r\nhost: h\r\n\r\n", BIG, PATIENCE),
        ] {
            assert_eq!(serve_one(sent, answer).await, patience, "{sent:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_silent_gives_way_when_places_run_out() {
        let places = Places::new(2);
        let service =
            || service_fn(|_| async { Ok::<_, Infallible>(text(StatusCode::OK, "here")) });
        let (mut asking, server) = tokio::io::duplex(64);
        asking
            .write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
            .await
            .unwrap();
        let (busy, silent) = (places.take().await, places.take().await);
        let (_quiet, quiet_server) = tokio::io::duplex(64);
        let began = Instant::now();
        // The older one has asked, and is slow to read: it stays.
        let slow = converse(server, service(), &busy);
        let hung = async {
            converse(quiet_server, service(), &silent).await;
            drop(silent);
        };
        let next = async {
            // Until the request has been seen.
            tokio::time::sleep(Duration::from_millis(1)).await;
            let _place = places.take().await;
            began.elapsed()
        };
        let all = async { tokio::join!(hung, next).1 };
        let waited = tokio::select! {
            () = slow => panic!("the one that had asked was sent away"),
            waited = all => waited,
        };
        assert!(waited < HEAD, "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_carries_one_request() {
        let (mut client, server) = tokio::io::duplex(1024);
        let request = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n";
        client.write_all(&request.repeat(2)).await.unwrap();
        let service = service_fn(|_| async { Ok(text(StatusCode::OK, "once")) });

        let place = Places::new(1).take().await;
        converse(server, service, &place).await;

        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer.matches("once").count(), 1, "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
}
