//! What all services share around their routes.
//!
//! `GET /healthz`, the answers for unknown paths and methods, the limit on bodies, the deadline of a
//! request and `X-Served-By`. `lib.rs` wraps each service's routes in [`finish`]; `server` runs the
//! result. Invariant: `X-Served-By` is the outermost layer, so that no answer leaves without it.

use std::time::Duration;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use tokio::time;

use crate::{clock::Clock, database::Database, problem::Problem};

/// What every handler may use.
#[derive(Debug, Clone)]
pub(crate) struct App {
    pub(crate) database: Database,
    pub(crate) clock: Clock,
}

/// `Cache-Control` of answers that belong to one user.
pub(crate) const PRIVATE: HeaderValue = HeaderValue::from_static("private, no-store");
/// `Cache-Control` of answers that are right only now.
pub(crate) const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

const SERVED_BY: HeaderName = HeaderName::from_static("x-served-by");
/// Bytes of a request's body.
const BODY: usize = 64 * 1024;
/// From the end of a request's head to its answer, the reading of its body included.
const DEADLINE: Duration = Duration::from_secs(10);

/// Wraps a service's routes in what all of them share.
pub(crate) fn finish(routes: Router, served_by: &HeaderValue) -> Router {
    let served_by = served_by.clone();
    routes
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(DefaultBodyLimit::max(BODY))
        .layer(middleware::from_fn(in_time))
        .layer(middleware::map_response(move |mut response: Response| {
            let served_by = served_by.clone();
            async move {
                response.headers_mut().insert(SERVED_BY, served_by);
                response
            }
        }))
}

/// `GET /healthz`: proves that the database answers, not only that the process runs.
pub(crate) fn health(app: App) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .with_state(app)
}

async fn healthz(State(app): State<App>) -> Result<Response, Problem> {
    // A bare `SELECT 1` would not touch the file.
    let sql = "SELECT 1 FROM sqlite_schema LIMIT 1";
    let one = app.database.read(move |tx| {
        Ok(tx
            .prepare_cached(sql)?
            .query_row([], |row| row.get::<_, i64>(0))?)
    });
    one.await?;
    Ok((
        [(header::CACHE_CONTROL, NO_STORE)],
        Json(json!({ "status": "ok" })),
    )
        .into_response())
}

async fn unknown_path(uri: Uri) -> Problem {
    Problem::not_found(format!("nothing is at {}", uri.path()))
}

async fn unknown_method(method: Method, uri: Uri) -> Problem {
    let detail = format!("{method} is not possible on {}; see Allow", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}

async fn in_time(request: Request, next: Next) -> Response {
    time::timeout(DEADLINE, next.run(request))
        .await
        .unwrap_or_else(|_elapsed| {
            Problem::unavailable("the request was not finished in time").into_response()
        })
}
