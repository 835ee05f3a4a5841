//! axum's extractors with problem documents for refusals.
//!
//! Handlers take [`Json`], [`Path`] and [`Query`] from here instead of axum's. What a refusal means
//! is axum's choice: 415 for another media type, 413 for too much, 400 for broken JSON, a broken path
//! or query, and 422 for JSON of the wrong shape (`fields` and the models decide on the shape). Ours
//! is the 408 for a body that does not come.

use std::time::Duration;

use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    http::{StatusCode, request::Parts},
};
use serde::de::DeserializeOwned;
use tokio::time;

use crate::problem::Problem;

/// A JSON body.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

/// What a body may take to arrive; less than the deadline of the whole request in `app`, so that the
/// client reads which of the two was missed.
const ARRIVAL: Duration = Duration::from_secs(8);

/// The captures of the path.
#[derive(Debug)]
pub(crate) struct Path<T>(pub(crate) T);

/// The query parameters; unknown ones are left alone, as caches and trackers add them.
#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match time::timeout(ARRIVAL, axum::Json::from_request(request, state)).await {
            Err(_elapsed) => Err(Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "the body did not arrive in time",
            )),
            Ok(Ok(axum::Json(value))) => Ok(Self(value)),
            Ok(Err(rejection)) => Err(Problem::new(rejection.status(), rejection.body_text())),
        }
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(Problem::new(rejection.status(), rejection.body_text())),
        }
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Query::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(Problem::new(rejection.status(), rejection.body_text())),
        }
    }
}
