//! The one error of handlers and stores: a problem document (RFC 9457).
//!
//! `extract`, the handlers and the SQL of the services all end a request early with a [`Problem`];
//! it becomes a response here and only here. Invariant: what went wrong inside (SQL text, file names)
//! goes to the log; the client reads only what it can act on.

use std::borrow::Cow;

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use rusqlite::ErrorCode;
use serde_json::{Map, Value};

/// A refusal or failure with its status and what the client should know.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: Cow<'static, str>,
    // Boxed, for a small error makes small results.
    member: Option<Box<(&'static str, Value)>>,
    header: Option<Box<(HeaderName, HeaderValue)>>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            detail: detail.into(),
            member: None,
            header: None,
        }
    }

    pub(crate) fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(crate) fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    pub(crate) fn conflict(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, detail)
    }

    pub(crate) fn precondition_failed() -> Self {
        Self::new(
            StatusCode::PRECONDITION_FAILED,
            "the resource has changed since it was read",
        )
    }

    pub(crate) fn unprocessable(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// The request did nothing and may be sent again shortly.
    pub(crate) fn unavailable(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
            .with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
    }

    /// Says nothing to the client; the caller logs the cause.
    pub(crate) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the service failed; its log says why",
        )
    }

    /// Adds an extension member (RFC 9457 section 3.2).
    pub(crate) fn with_member(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.member = Some(Box::new((name, value.into())));
        self
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some(Box::new((name, value)));
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self {
            status,
            detail,
            member,
            header,
        } = self;
        let mut document = Map::new();
        document.insert("status".to_owned(), status.as_u16().into());
        document.insert(
            "title".to_owned(),
            status.canonical_reason().unwrap_or("Error").into(),
        );
        document.insert("detail".to_owned(), detail.into());
        if let Some((name, value)) = member.map(|member| *member) {
            document.insert(name.to_owned(), value);
        }
        let fixed = [
            (
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/problem+json"),
            ),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        let mut response = (status, fixed, Value::Object(document).to_string()).into_response();
        if let Some((name, value)) = header.map(|header| *header) {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl From<rusqlite::Error> for Problem {
    /// A lock that another process kept for too long passes; everything else is a fault of ours.
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                tracing::warn!(%error, "the database is busy; the client was asked to come again");
                Self::unavailable("the database is busy")
            }
            _ => {
                tracing::error!(%error, "a statement failed");
                Self::internal()
            }
        }
    }
}
