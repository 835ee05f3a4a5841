//! The SQL of orders.
//!
//! Each function runs inside the transaction that `database` opened for it. Invariant: every
//! statement names the user, so that nobody reaches another user's order by its id.

use rusqlite::{OptionalExtension, Row, Transaction, params};
use uuid::Uuid;

use super::model::{NewOrder, Order, OrderId, OrderedItem, Page, Paging, Status, UserId};
use crate::{fields::Int, problem::Problem};

/// An order that was placed now, or by the first of several equal requests.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) order_id: String,
    /// The body of the answer.
    pub(super) answer: String,
    pub(super) replayed: bool,
}

/// Rows of a page when the client names no limit.
const PAGE: i64 = 20;
/// Above every UUID in text order.
const NEWEST: &str = "~";

pub(super) fn place(
    tx: &Transaction<'_>,
    user: UserId,
    new: &NewOrder,
    now: i64,
) -> Result<Placed, Problem> {
    let id = OrderId::from(Uuid::now_v7());
    tx.prepare_cached(
        "INSERT INTO orders (id, user_id, status, currency, note, total_cents, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)",
    )?
    .execute(params![
        id.as_str(),
        user.get(),
        Status::Pending.name(),
        new.currency.as_str(),
        new.note.as_ref().map(|note| note.as_str()),
        new.total_cents(),
        now
    ])?;
    let mut insert = tx.prepare_cached(
        "INSERT INTO order_items (order_id, position, product_id, quantity, unit_price_cents)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for (position, item) in (0_i64..).zip(new.items.as_slice()) {
        insert.execute(params![
            id.as_str(),
            position,
            item.product_id.get(),
            item.quantity.get(),
            item.unit_price_cents.get()
        ])?;
    }
    let order = order(tx, user, &id)?;
    let answer = serde_json::to_string(&order).map_err(|error| {
        tracing::error!(%error, "an order could not be written as JSON");
        Problem::internal()
    })?;
    Ok(Placed {
        order_id: order.id,
        answer,
        replayed: false,
    })
}

pub(super) fn order(tx: &Transaction<'_>, user: UserId, id: &OrderId) -> Result<Order, Problem> {
    let mut statement = tx.prepare_cached(
        "SELECT id, user_id, status, currency, note, total_cents, version,
                strftime('%Y-%m-%dT%H:%M:%SZ', created_at, 'unixepoch'),
                strftime('%Y-%m-%dT%H:%M:%SZ', updated_at, 'unixepoch')
         FROM orders WHERE user_id = ?1 AND id = ?2",
    )?;
    let order = statement
        .query_row(params![user.get(), id.as_str()], row_to_order)
        .optional()?
        .ok_or_else(|| missing(user, id))?;
    with_items(tx, order)
}

pub(super) fn list(tx: &Transaction<'_>, user: UserId, paging: &Paging) -> Result<Page, Problem> {
    let limit = paging.limit.map_or(PAGE, Int::get);
    let before = paging.after.as_ref().map_or(NEWEST, OrderId::as_str);
    let mut statement = tx.prepare_cached(
        "SELECT id, user_id, status, currency, note, total_cents, version,
                strftime('%Y-%m-%dT%H:%M:%SZ', created_at, 'unixepoch'),
                strftime('%Y-%m-%dT%H:%M:%SZ', updated_at, 'unixepoch')
         FROM orders WHERE user_id = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3",
    )?;
    // One more than asked for tells whether there is a next page.
    let rows = statement
        .query_map(
            params![user.get(), before, limit.saturating_add(1)],
            row_to_order,
        )?
        .collect::<Result<Vec<_>, _>>()?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > limit;
    let orders = rows
        .into_iter()
        .take(limit)
        .map(|order| with_items(tx, order))
        .collect::<Result<Vec<_>, _>>()?;
    let next_after = orders.last().filter(|_| more).map(|order| order.id.clone());
    Ok(Page { orders, next_after })
}

/// Sets the status and counts the version up; the caller has checked that it may.
pub(super) fn set_status(
    tx: &Transaction<'_>,
    user: UserId,
    id: &OrderId,
    status: Status,
    now: i64,
) -> Result<Order, Problem> {
    tx.prepare_cached(
        "UPDATE orders SET status = ?3, version = version + 1, updated_at = ?4
         WHERE user_id = ?1 AND id = ?2",
    )?
    .execute(params![user.get(), id.as_str(), status.name(), now])?;
    order(tx, user, id)
}

fn with_items(tx: &Transaction<'_>, mut order: Order) -> Result<Order, Problem> {
    let mut statement = tx.prepare_cached(
        "SELECT product_id, quantity, unit_price_cents
         FROM order_items WHERE order_id = ?1 ORDER BY position",
    )?;
    let rows = statement.query_map([&order.id], |row| {
        Ok(OrderedItem {
            product_id: row.get(0)?,
            quantity: row.get(1)?,
            unit_price_cents: row.get(2)?,
        })
    })?;
    order.items = rows.collect::<Result<_, _>>()?;
    Ok(order)
}

fn row_to_order(row: &Row<'_>) -> rusqlite::Result<Order> {
    Ok(Order {
        id: row.get(0)?,
        user_id: row.get(1)?,
        status: row.get(2)?,
        currency: row.get(3)?,
        note: row.get(4)?,
        items: Vec::new(),
        total_cents: row.get(5)?,
        version: row.get(6)?,
        created_at: row.get(7)?,
        updated_at: row.get(8)?,
    })
}

fn missing(user: UserId, id: &OrderId) -> Problem {
    Problem::not_found(format!("user {} has no order {}", user.get(), id.as_str()))
}
