//! The auth service: accounts and access tokens.
//!
//! | | | |
//! |---|---|---|
//! | `POST` | `/auth/register` | `{"email", "password"}`; 201 |
//! | `POST` | `/auth/login` | `{"email", "password"}`; a token for 15 minutes |
//! | `GET` | `/auth/me` | `Authorization: Bearer ...` |
//! | `GET` | `/auth/.well-known/jwks.json` | the key that proves tokens |
//!
//! Tokens are proven at the edge with the JWKS; this service is asked only to issue them. Invariant: a
//! login with an unknown address is the same work and the same answer as one with a wrong password.
//! Hashing is in [`password`], signing in [`token`], SQL in [`store`].

use std::sync::Arc;

use axum::{
    Json as Body, Router,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    Error,
    app::{App, NO_STORE, PRIVATE},
    conditional::{IfNoneMatch, Tag},
    database::{Durability, Schema},
    extract::Json,
    problem::Problem,
};

mod password;
mod store;
mod token;

pub use token::{TOKEN_AUDIENCE, TOKEN_ISSUER, TOKEN_LIFETIME};

use password::Hasher;
use token::Tokens;

pub(crate) const SCHEMA: Schema = Schema {
    application: 0x4847_4155,
    setup: include_str!("schema.sql"),
    durability: Durability::Full,
};

const JWKS: HeaderValue = HeaderValue::from_static("public, max-age=300");

#[derive(Debug, Clone)]
struct Auth {
    app: App,
    hasher: Arc<Hasher>,
    tokens: Arc<Tokens>,
}

/// What both `register` and `login` take.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Credentials {
    email: Email,
    password: String,
}

/// An address in lower case that could be one; whether it is, only a letter to it would tell.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
struct Email(String);

/// One account as its owner reads it.
#[derive(Debug, Serialize)]
struct User {
    id: i64,
    email: String,
    created_at: String,
}

/// The routes, once the signing key is there.
pub(crate) async fn routes(app: App) -> Result<Router, Error> {
    let now = app.clock.unix_seconds();
    let fresh = token::new_key()?;
    let stored = app
        .database
        .write(move |tx| store::signing_key(tx, &fresh, now))
        .await;
    let stored = stored.map_err(|problem| Error::SigningKey(format!("{problem:?}")))?;
    let tokens = Arc::new(Tokens::new(&stored)?);
    let hasher = Arc::new(Hasher::new());
    Ok(Router::new()
        .route("/auth/register", post(register))
        .route("/auth/login", post(login))
        .route("/auth/me", get(me))
        .route("/auth/.well-known/jwks.json", get(jwks))
        .with_state(Auth {
            app,
            hasher,
            tokens,
        }))
}

async fn register(
    State(auth): State<Auth>,
    Json(Credentials { email, password }): Json<Credentials>,
) -> Result<impl IntoResponse, Problem> {
    password::check(&password, &email.0)?;
    let hash = auth.hasher.hash(password).await?;
    let now = auth.app.clock.unix_seconds();
    let user = auth
        .app
        .database
        .write(move |tx| store::register(tx, &email, &hash, now))
        .await?;
    let headers = [
        (header::CACHE_CONTROL, NO_STORE),
        (header::LOCATION, HeaderValue::from_static("/auth/me")),
    ];
    Ok((StatusCode::CREATED, headers, Body(user)))
}

async fn login(
    State(auth): State<Auth>,
    Json(Credentials { email, password }): Json<Credentials>,
) -> Result<Response, Problem> {
    let account = auth
        .app
        .database
        .read(move |tx| store::account(tx, &email))
        .await?;
    let (user, hash) = account.unzip();
    let proven = auth.hasher.verify(password, hash).await?;
    let Some(user) = user.filter(|_| proven) else {
        return Err(unauthorized("the email or the password is wrong", "Bearer"));
    };
    let token = auth.tokens.issue(user, auth.app.clock.unix_seconds())?;
    let body = json!({
        "access_token": token,
        "token_type": "Bearer",
        "expires_in": TOKEN_LIFETIME.as_secs(),
    });
    Ok(([(header::CACHE_CONTROL, NO_STORE)], Body(body)).into_response())
}

async fn me(State(auth): State<Auth>, headers: HeaderMap) -> Result<impl IntoResponse, Problem> {
    let Some(token) = bearer(&headers) else {
        return Err(unauthorized("a bearer token is needed", "Bearer"));
    };
    let refuse = || unauthorized("the token is not valid", "Bearer error=\"invalid_token\"");
    let now = auth.app.clock.unix_seconds();
    let id = auth.tokens.subject(token, now).ok_or_else(refuse)?;
    let user = auth
        .app
        .database
        .read(move |tx| store::user(tx, id))
        .await?
        .ok_or_else(refuse)?;
    Ok(([(header::CACHE_CONTROL, PRIVATE)], Body(user)))
}

async fn jwks(State(auth): State<Auth>, known: IfNoneMatch) -> Response {
    Tag::new("jwks", auth.tokens.key_id(), 1).answer(&known, JWKS, auth.tokens.jwks())
}

/// The token of `Authorization: Bearer`; the scheme's name is not case-sensitive (RFC 9110 11.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let alone = values.next().is_none();
    (alone && scheme.eq_ignore_ascii_case("bearer")).then(|| token.trim_matches(' '))
}

fn unauthorized(detail: &'static str, challenge: &'static str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, detail).with_header(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static(challenge),
    )
}

impl TryFrom<String> for Email {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let plausible = text.len() <= 254
            && text.split_once('@').is_some_and(|(local, domain)| {
                !local.is_empty()
                    && !domain.is_empty()
                    && !domain.contains('@')
                    && domain.split('.').all(|label| !label.is_empty())
            })
            && !text.chars().any(|c| c.is_whitespace() || c.is_control());
        if plausible {
            Ok(Self(text.to_lowercase()))
        } else {
            Err("must be an email address")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_an_address_is_refused() {
        let read = |text: &str| Email::try_from(text.to_owned()).map(|email| email.0);
        assert_eq!(read("Ada@Example.org"), Ok("ada@example.org".to_owned()));
        for broken in [
            "",
            "ada",
            "@x.org",
            "ada@",
            "a@b@c",
            "a b@c.org",
            "a@c..org",
            "a@.org",
        ] {
            assert!(read(broken).is_err(), "{broken}");
        }
        assert!(read(&format!("{}@x.org", "a".repeat(250))).is_err());
    }

    #[test]
    fn a_bearer_token_is_taken_from_one_field_only() {
        let mut headers = HeaderMap::new();
        assert_eq!(bearer(&headers), None);
        headers.append(
            header::AUTHORIZATION,
            HeaderValue::from_static("bEARER abc"),
        );
        assert_eq!(bearer(&headers), Some("abc"));
        headers.append(
            header::AUTHORIZATION,
            HeaderValue::from_static("Bearer def"),
        );
        assert_eq!(bearer(&headers), None);
    }
}
