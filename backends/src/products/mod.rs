//! The products service: a catalogue with categories, search and stock.
//!
//! | | | |
//! |---|---|---|
//! | `GET POST` | `/products` | `?category= ?q= ?limit= ?after=`; 201 |
//! | `GET` | `/products/categories` | with counts |
//! | `GET PUT PATCH DELETE` | `/products/{id}` | `ETag`, `If-Match`, `If-None-Match` |
//! | `GET POST` | `/products/{id}/stock` | `{"delta": -1, "version": 3}` |
//!
//! Several processes serve one file. What shared caches may keep is said here, and so is what a write
//! makes stale: each cacheable answer is in a cache group, and a write names the groups that it
//! changed (RFC 9875). Stock is never cached and has a version of its own. SQL is in [`store`].

use axum::{
    Json as Body, Router,
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;

use crate::{
    app::{App, NO_STORE},
    conditional::{IfMatch, IfNoneMatch, Tag},
    database::{Durability, Schema},
    extract::{Json, Path, Query},
    problem::Problem,
};

mod model;
mod store;

use model::{Filter, NewProduct, Patch, Product, Replacement, StockChange};

pub(crate) const SCHEMA: Schema = Schema {
    application: 0x4847_5052,
    setup: include_str!("schema.sql"),
    durability: Durability::Relaxed,
};

/// Shared caches keep a product; browsers ask each time, since no purge reaches them.
const PRODUCT: HeaderValue = HeaderValue::from_static("public, max-age=0, s-maxage=300");
const LIST: HeaderValue = HeaderValue::from_static("public, max-age=0, s-maxage=30");
const GROUPS: HeaderName = HeaderName::from_static("cache-groups");
const INVALIDATED: HeaderName = HeaderName::from_static("cache-group-invalidation");
/// The group of every answer that lists products.
const LISTS: HeaderValue = HeaderValue::from_static("\"products\"");

pub(crate) fn routes(app: App) -> Router {
    Router::new()
        .route("/products", get(list).post(create))
        .route("/products/categories", get(categories))
        .route(
            "/products/{id}",
            get(read).put(replace).patch(amend).delete(remove),
        )
        .route("/products/{id}/stock", get(stock).post(change_stock))
        .with_state(app)
}

async fn list(
    State(app): State<App>,
    Query(filter): Query<Filter>,
) -> Result<impl IntoResponse, Problem> {
    let page = app
        .database
        .read(move |tx| store::list(tx, &filter))
        .await?;
    Ok(([(header::CACHE_CONTROL, LIST), (GROUPS, LISTS)], Body(page)))
}

async fn categories(State(app): State<App>) -> Result<impl IntoResponse, Problem> {
    let categories = app.database.read(store::categories).await?;
    let body = Body(json!({ "categories": categories }));
    Ok(([(header::CACHE_CONTROL, LIST), (GROUPS, LISTS)], body))
}

async fn create(
    State(app): State<App>,
    Json(new): Json<NewProduct>,
) -> Result<impl IntoResponse, Problem> {
    let now = app.clock.unix_seconds();
    let product = app
        .database
        .write(move |tx| store::create(tx, &new, now))
        .await?;
    let location = [(header::LOCATION, format!("/products/{}", product.id))];
    Ok((StatusCode::CREATED, location, written(&product)))
}

async fn read(
    State(app): State<App>,
    Path(id): Path<i64>,
    known: IfNoneMatch,
) -> Result<impl IntoResponse, Problem> {
    let product = app.database.read(move |tx| store::product(tx, id)).await?;
    let groups = [(GROUPS, format!("\"product-{id}\""))];
    Ok((groups, product.tag().answer(&known, PRODUCT, &product)))
}

async fn replace(
    State(app): State<App>,
    Path(id): Path<i64>,
    expected: IfMatch,
    Json(new): Json<Replacement>,
) -> Result<Response, Problem> {
    let now = app.clock.unix_seconds();
    let product = app.database.write(move |tx| {
        expected.check(&store::product(tx, id)?.tag())?;
        store::replace(tx, id, &new.into(), now)
    });
    Ok(written(&product.await?))
}

async fn amend(
    State(app): State<App>,
    Path(id): Path<i64>,
    expected: IfMatch,
    Json(patch): Json<Patch>,
) -> Result<Response, Problem> {
    let now = app.clock.unix_seconds();
    let product = app.database.write(move |tx| {
        let current = store::product(tx, id)?;
        expected.check(&current.tag())?;
        match patch.apply(&current) {
            Some(new) => store::replace(tx, id, &new, now),
            None => Ok(current),
        }
    });
    Ok(written(&product.await?))
}

async fn remove(
    State(app): State<App>,
    Path(id): Path<i64>,
    expected: IfMatch,
) -> Result<impl IntoResponse, Problem> {
    let removed = app.database.write(move |tx| {
        expected.check(&store::product(tx, id)?.tag())?;
        store::remove(tx, id)
    });
    removed.await?;
    Ok((StatusCode::NO_CONTENT, [(INVALIDATED, outdated(id))]))
}

async fn stock(State(app): State<App>, Path(id): Path<i64>) -> Result<impl IntoResponse, Problem> {
    let stock = app.database.read(move |tx| store::stock(tx, id)).await?;
    Ok(([(header::CACHE_CONTROL, NO_STORE)], Body(stock)))
}

async fn change_stock(
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(change): Json<StockChange>,
) -> Result<impl IntoResponse, Problem> {
    let now = app.clock.unix_seconds();
    let stock = app
        .database
        .write(move |tx| store::change_stock(tx, id, &change, now))
        .await?;
    Ok(([(header::CACHE_CONTROL, NO_STORE)], Body(stock)))
}

/// The answer to a write: the product as it is now, and which cached answers are not any more.
fn written(product: &Product) -> Response {
    let headers = [
        (header::CACHE_CONTROL, NO_STORE),
        (header::ETAG, product.tag().to_header()),
    ];
    (
        headers,
        [(INVALIDATED, outdated(product.id))],
        Body(product),
    )
        .into_response()
}

/// A write to a product outdates its own answers and the lists, but no other product.
fn outdated(id: i64) -> String {
    format!("\"product-{id}\", \"products\"")
}

impl Product {
    fn tag(&self) -> Tag {
        Tag::new("p", self.id, self.version)
    }
}
