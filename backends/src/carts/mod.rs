//! The carts service: short-lived, sharded by cart.
//!
//! | | | |
//! |---|---|---|
//! | `GET DELETE` | `/carts/{cart_id}` | |
//! | `POST` | `/carts/{cart_id}/items` | `{"product_id": 1, "quantity": 2}` adds |
//! | `PUT DELETE` | `/carts/{cart_id}/items/{product_id}` | `{"quantity": 2}` sets |
//!
//! The client names its cart; the first write makes it. Every write answers with the whole cart and
//! keeps it for another [`CART_LIFETIME`]; after that it reads as missing. SQL is in [`store`].

use std::time::Duration;

use axum::{
    Json as Body, Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::{get, post, put},
};
use serde::{Deserialize, Serialize};

use crate::{
    app::{App, PRIVATE},
    database::{Durability, Schema},
    extract::{Json, Path},
    fields::{Id, Int},
    problem::Problem,
};

mod store;

/// How long a cart is kept after the last write to it.
pub const CART_LIFETIME: Duration = Duration::from_secs(30 * 60);

pub(crate) const SCHEMA: Schema = Schema {
    application: 0x4847_4341,
    setup: include_str!("schema.sql"),
    durability: Durability::Relaxed,
};

/// A number or a token that the client made up.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct CartId(String);

/// Units of one product in a cart.
type Quantity = Int<1, 999>;

/// `POST /carts/{cart_id}/items`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Addition {
    product_id: Id,
    quantity: Quantity,
}

/// `PUT /carts/{cart_id}/items/{product_id}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Amount {
    quantity: Quantity,
}

/// One cart as clients read it.
#[derive(Debug, Serialize)]
struct Cart {
    cart_id: String,
    items: Vec<Item>,
    version: i64,
    expires_at: String,
}

#[derive(Debug, Serialize)]
struct Item {
    product_id: i64,
    quantity: i64,
}

pub(crate) fn routes(app: App) -> Router {
    Router::new()
        .route("/carts/{cart_id}", get(read).delete(discard))
        .route("/carts/{cart_id}/items", post(add))
        .route(
            "/carts/{cart_id}/items/{product_id}",
            put(set).delete(remove),
        )
        .with_state(app)
}

async fn read(
    State(app): State<App>,
    Path(id): Path<CartId>,
) -> Result<impl IntoResponse, Problem> {
    let now = app.clock.unix_seconds();
    let cart = app
        .database
        .read(move |tx| store::cart(tx, &id, now))
        .await?;
    Ok(([(header::CACHE_CONTROL, PRIVATE)], Body(cart)))
}

async fn add(
    State(app): State<App>,
    Path(id): Path<CartId>,
    Json(Addition {
        product_id,
        quantity,
    }): Json<Addition>,
) -> Result<impl IntoResponse, Problem> {
    let now = app.clock.unix_seconds();
    let cart = app.database.write(move |tx| {
        store::touch(tx, &id, now)?;
        store::add(tx, &id, product_id, quantity)?;
        store::cart(tx, &id, now)
    });
    Ok(([(header::CACHE_CONTROL, PRIVATE)], Body(cart.await?)))
}

async fn set(
    State(app): State<App>,
    Path((id, product)): Path<(CartId, Id)>,
    Json(Amount { quantity }): Json<Amount>,
) -> Result<impl IntoResponse, Problem> {
    let now = app.clock.unix_seconds();
    let written = app.database.write(move |tx| {
        store::touch(tx, &id, now)?;
        let created = store::set(tx, &id, product, quantity)?;
        Ok((created, store::cart(tx, &id, now)?))
    });
    let (created, cart) = written.await?;
    let status = if created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, [(header::CACHE_CONTROL, PRIVATE)], Body(cart)))
}

async fn remove(
    State(app): State<App>,
    Path((id, product)): Path<(CartId, Id)>,
) -> Result<impl IntoResponse, Problem> {
    let now = app.clock.unix_seconds();
    let cart = app.database.write(move |tx| {
        store::remove(tx, &id, product, now)?;
        store::touch(tx, &id, now)?;
        store::cart(tx, &id, now)
    });
    Ok(([(header::CACHE_CONTROL, PRIVATE)], Body(cart.await?)))
}

async fn discard(
    State(app): State<App>,
    Path(id): Path<CartId>,
) -> Result<impl IntoResponse, Problem> {
    let now = app.clock.unix_seconds();
    app.database
        .write(move |tx| store::discard(tx, &id, now))
        .await?;
    Ok((StatusCode::NO_CONTENT, [(header::CACHE_CONTROL, PRIVATE)]))
}

impl TryFrom<String> for CartId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text))
        } else {
            Err("a cart's id is 1 to 64 of A-Z, a-z, 0-9, _ and -")
        }
    }
}
