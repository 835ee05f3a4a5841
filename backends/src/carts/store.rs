//! The SQL of carts.
//!
//! Each function runs inside the transaction that `database` opened for it. Expired carts are deleted
//! a few at a time by later writes rather than by a timer: an idle service stays idle, and a cart that
//! has not been swept yet is unreachable all the same. Invariant: no row past its expiry is ever read.

use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::{CART_LIFETIME, Cart, CartId, Item, Quantity};
use crate::{fields::Id, problem::Problem};

/// Expired carts deleted with each write; more than one, so that they cannot pile up.
const SWEEP: i64 = 20;
/// Different products in one cart.
const PRODUCTS: i64 = 100;

/// Makes the cart, or keeps it for another lifetime and counts its version up. A cart of the same
/// name that has expired is gone first, with what was in it.
pub(super) fn touch(tx: &Transaction<'_>, id: &CartId, now: i64) -> Result<(), Problem> {
    tx.prepare_cached(
        "DELETE FROM carts WHERE cart_id IN
            (SELECT cart_id FROM carts WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)",
    )?
    .execute([now, SWEEP])?;
    tx.prepare_cached("DELETE FROM carts WHERE cart_id = ?1 AND expires_at <= ?2")?
        .execute(params![id.0, now])?;
    let lifetime = i64::try_from(CART_LIFETIME.as_secs()).unwrap_or(i64::MAX);
    tx.prepare_cached(
        "INSERT INTO carts (cart_id, expires_at) VALUES (?1, ?2)
         ON CONFLICT (cart_id) DO UPDATE
            SET expires_at = excluded.expires_at, version = version + 1",
    )?
    .execute(params![id.0, now.saturating_add(lifetime)])?;
    Ok(())
}

pub(super) fn cart(tx: &Transaction<'_>, id: &CartId, now: i64) -> Result<Cart, Problem> {
    let mut statement = tx.prepare_cached(
        "SELECT version, strftime('%Y-%m-%dT%H:%M:%SZ', expires_at, 'unixepoch')
         FROM carts WHERE cart_id = ?1 AND expires_at > ?2",
    )?;
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let (version, expires_at) = statement
        .query_row(params![id.0, now], read)
        .optional()?
        .ok_or_else(|| missing(id))?;
    let mut statement = tx.prepare_cached(
        "SELECT product_id, quantity FROM cart_items WHERE cart_id = ?1 ORDER BY product_id",
    )?;
    let items = statement
        .query_map([&id.0], |row| {
            Ok(Item {
                product_id: row.get(0)?,
                quantity: row.get(1)?,
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(Cart {
        cart_id: id.0.clone(),
        items,
        version,
        expires_at,
    })
}

/// Adds to what is there; 409 beyond the bound of a quantity.
pub(super) fn add(
    tx: &Transaction<'_>,
    id: &CartId,
    product: Id,
    more: Quantity,
) -> Result<(), Problem> {
    let held = held(tx, id, product)?.unwrap_or(0);
    match Quantity::try_from(held.saturating_add(more.get())) {
        Ok(sum) => set(tx, id, product, sum).map(drop),
        Err(bound) => {
            Err(Problem::conflict(format!("the quantity {bound}")).with_member("quantity", held))
        }
    }
}

/// Sets the quantity; returns whether the product was not in the cart before.
pub(super) fn set(
    tx: &Transaction<'_>,
    id: &CartId,
    product: Id,
    quantity: Quantity,
) -> Result<bool, Problem> {
    let created = held(tx, id, product)?.is_none();
    if created {
        let count: i64 = tx
            .prepare_cached("SELECT count(*) FROM cart_items WHERE cart_id = ?1")?
            .query_row([&id.0], |row| row.get(0))?;
        if count >= PRODUCTS {
            return Err(Problem::conflict(format!(
                "a cart holds at most {PRODUCTS} products"
            )));
        }
    }
    tx.prepare_cached(
        "INSERT INTO cart_items (cart_id, product_id, quantity) VALUES (?1, ?2, ?3)
         ON CONFLICT (cart_id, product_id) DO UPDATE SET quantity = excluded.quantity",
    )?
    .execute(params![id.0, product.get(), quantity.get()])?;
    Ok(created)
}

/// Takes a product out of a living cart.
pub(super) fn remove(
    tx: &Transaction<'_>,
    id: &CartId,
    product: Id,
    now: i64,
) -> Result<(), Problem> {
    cart(tx, id, now)?;
    let gone = tx
        .prepare_cached("DELETE FROM cart_items WHERE cart_id = ?1 AND product_id = ?2")?
        .execute(params![id.0, product.get()])?;
    if gone == 0 {
        let detail = format!("product {} is not in cart {}", product.get(), id.0);
        return Err(Problem::not_found(detail));
    }
    Ok(())
}

/// Deletes a living cart with its items.
pub(super) fn discard(tx: &Transaction<'_>, id: &CartId, now: i64) -> Result<(), Problem> {
    let gone = tx
        .prepare_cached("DELETE FROM carts WHERE cart_id = ?1 AND expires_at > ?2")?
        .execute(params![id.0, now])?;
    if gone == 0 { Err(missing(id)) } else { Ok(()) }
}

fn held(tx: &Transaction<'_>, id: &CartId, product: Id) -> Result<Option<i64>, Problem> {
    let mut statement = tx
        .prepare_cached("SELECT quantity FROM cart_items WHERE cart_id = ?1 AND product_id = ?2")?;
    let held = statement.query_row(params![id.0, product.get()], |row| row.get(0));
    Ok(held.optional()?)
}

fn missing(id: &CartId) -> Problem {
    Problem::not_found(format!("there is no cart {}", id.0))
}
