//! The orders service.
//!
//! | | | |
//! |---|---|---|
//! | `GET POST` | `/users/{user_id}/orders` | `?limit= ?after=`; 201, `Idempotency-Key` |
//! | `GET PATCH` | `/users/{user_id}/orders/{id}` | `{"status": "paid"}`, `ETag`, `If-Match` |
//!
//! Everything is below a user, so that a shard router finds the user in the path; a shard knows only
//! its own users. A retried `POST` with its key is answered from what was stored in the transaction of
//! the first one, so that an order is placed once however often it is sent. SQL is in [`store`].

use aws_lc_rs::digest;
use axum::{
    Json as Body, Router,
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use crate::{
    app::{App, PRIVATE},
    conditional::{IfMatch, IfNoneMatch, Tag},
    database::{Durability, Schema},
    extract::{Json, Path, Query},
    problem::Problem,
};

mod idempotency;
mod model;
mod store;

use idempotency::IdempotencyKey;
use model::{Change, NewOrder, OrderId, Paging, UserId};
use store::Placed;

pub(crate) const SCHEMA: Schema = Schema {
    application: 0x4847_4f52,
    setup: include_str!("schema.sql"),
    durability: Durability::Full,
};

const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

pub(crate) fn routes(app: App) -> Router {
    Router::new()
        .route("/users/{user_id}/orders", get(list).post(place))
        .route("/users/{user_id}/orders/{id}", get(read).patch(change))
        .with_state(app)
}

async fn place(
    State(app): State<App>,
    Path(user): Path<UserId>,
    key: Option<IdempotencyKey>,
    Json(new): Json<NewOrder>,
) -> Result<Response, Problem> {
    let now = app.clock.unix_seconds();
    let placed = app.database.write(move |tx| match key {
        None => store::place(tx, user, &new, now),
        Some(key) => {
            let request = fingerprint(&new)?;
            match idempotency::find(tx, user, &key, &request, now)? {
                Some(placed) => Ok(placed),
                None => {
                    let placed = store::place(tx, user, &new, now)?;
                    idempotency::keep(tx, user, &key, &request, &placed, now)?;
                    Ok(placed)
                }
            }
        }
    });
    Ok(placed_answer(user, placed.await?))
}

async fn list(
    State(app): State<App>,
    Path(user): Path<UserId>,
    Query(paging): Query<Paging>,
) -> Result<impl IntoResponse, Problem> {
    let page = app
        .database
        .read(move |tx| store::list(tx, user, &paging))
        .await?;
    Ok(([(header::CACHE_CONTROL, PRIVATE)], Body(page)))
}

async fn read(
    State(app): State<App>,
    Path((user, id)): Path<(UserId, OrderId)>,
    known: IfNoneMatch,
) -> Result<Response, Problem> {
    let order = app
        .database
        .read(move |tx| store::order(tx, user, &id))
        .await?;
    Ok(tag(&order.id, order.version).answer(&known, PRIVATE, &order))
}

async fn change(
    State(app): State<App>,
    Path((user, id)): Path<(UserId, OrderId)>,
    expected: IfMatch,
    Json(Change { status }): Json<Change>,
) -> Result<impl IntoResponse, Problem> {
    let now = app.clock.unix_seconds();
    let order = app.database.write(move |tx| {
        let order = store::order(tx, user, &id)?;
        expected.check(&tag(&order.id, order.version))?;
        if !order.status.may_become(status) {
            let detail = format!("an order that is {} cannot become {status}", order.status);
            return Err(Problem::conflict(detail).with_member("order_status", order.status.name()));
        }
        store::set_status(tx, user, &id, status, now)
    });
    let order = order.await?;
    let etag = tag(&order.id, order.version).to_header();
    Ok((
        [(header::CACHE_CONTROL, PRIVATE), (header::ETAG, etag)],
        Body(order),
    ))
}

fn placed_answer(user: UserId, placed: Placed) -> Response {
    let Placed {
        order_id,
        answer,
        replayed,
    } = placed;
    let headers = [
        (header::CACHE_CONTROL, PRIVATE),
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        ),
        // A stored answer is the order as it was placed, so its tag is that of the first version.
        (header::ETAG, tag(&order_id, 1).to_header()),
    ];
    let location = [(
        header::LOCATION,
        format!("/users/{}/orders/{order_id}", user.get()),
    )];
    let mut response = (StatusCode::CREATED, headers, location, answer).into_response();
    if replayed {
        response
            .headers_mut()
            .insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// Of the order as understood, so that a retry may differ in white space and order of keys.
fn fingerprint(new: &NewOrder) -> Result<Vec<u8>, Problem> {
    let canonical = serde_json::to_vec(new).map_err(|error| {
        tracing::error!(%error, "an order could not be written as JSON");
        Problem::internal()
    })?;
    Ok(digest::digest(&digest::SHA256, &canonical)
        .as_ref()
        .to_vec())
}

fn tag(id: &str, version: i64) -> Tag {
    Tag::new("o", id, version)
}
