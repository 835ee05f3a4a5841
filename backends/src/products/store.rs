//! The SQL of the products service.
//!
//! Each function runs inside the transaction that `database` opened for it. Invariant: the quantity
//! of a product is the sum of its `stock_events`, and is never below zero; both are written together.

use rusqlite::{OptionalExtension, Row, Transaction, named_params, params};

use super::model::{
    CategoryCount, Changed, Filter, NewProduct, Page, Product, Stock, StockChange, Units,
};
use crate::{fields::Int, problem::Problem};

/// Rows of a page when the client names no limit.
const PAGE: i64 = 20;

pub(super) fn list(tx: &Transaction<'_>, filter: &Filter) -> Result<Page, Problem> {
    let limit = filter.limit.map_or(PAGE, Int::get);
    let mut statement = tx.prepare_cached(
        "SELECT id, name, description, category, price_cents, version,
                strftime('%Y-%m-%dT%H:%M:%SZ', updated_at, 'unixepoch')
         FROM products
         WHERE id > :after
           AND (:category IS NULL OR category = :category)
           AND (:q IS NULL OR name LIKE :q ESCAPE '\\' OR description LIKE :q ESCAPE '\\')
         ORDER BY id LIMIT :limit",
    )?;
    let parameters = named_params! {
        ":after": filter.after.map_or(0, Int::get),
        ":category": filter.category.as_ref().map(|category| category.as_str()),
        ":q": filter.q.as_ref().map(|q| containing(q.as_str())),
        // One more than asked for tells whether there is a next page.
        ":limit": limit.saturating_add(1),
    };
    let mut products = statement
        .query_map(parameters, row_to_product)?
        .collect::<Result<Vec<_>, _>>()?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = products.len() > limit;
    products.truncate(limit);
    let next_after = products.last().filter(|_| more).map(|product| product.id);
    Ok(Page {
        products,
        next_after,
    })
}

pub(super) fn categories(tx: &Transaction<'_>) -> Result<Vec<CategoryCount>, Problem> {
    let mut statement = tx.prepare_cached(
        "SELECT category, count(*) FROM products GROUP BY category ORDER BY category",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(CategoryCount {
            name: row.get(0)?,
            products: row.get(1)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn product(tx: &Transaction<'_>, id: i64) -> Result<Product, Problem> {
    let mut statement = tx.prepare_cached(
        "SELECT id, name, description, category, price_cents, version,
                strftime('%Y-%m-%dT%H:%M:%SZ', updated_at, 'unixepoch')
         FROM products WHERE id = ?1",
    )?;
    statement
        .query_row([id], row_to_product)
        .optional()?
        .ok_or_else(|| missing(id))
}

pub(super) fn create(tx: &Transaction<'_>, new: &NewProduct, now: i64) -> Result<Product, Problem> {
    let columns = Changed::from(new.product.clone());
    tx.prepare_cached(
        "INSERT INTO products (name, description, category, price_cents, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![
        columns.name,
        columns.description,
        columns.category,
        columns.price_cents,
        now
    ])?;
    let id = tx.last_insert_rowid();
    let quantity = new.stock.get();
    tx.prepare_cached("INSERT INTO stock (product_id, quantity) VALUES (?1, ?2)")?
        .execute([id, quantity])?;
    record(
        tx,
        &Stock {
            product_id: id,
            quantity,
            version: 1,
        },
        quantity,
        "created",
        now,
    )?;
    product(tx, id)
}

/// Sets all columns and counts the version up; the caller has checked the precondition.
pub(super) fn replace(
    tx: &Transaction<'_>,
    id: i64,
    columns: &Changed,
    now: i64,
) -> Result<Product, Problem> {
    tx.prepare_cached(
        "UPDATE products SET name = ?2, description = ?3, category = ?4, price_cents = ?5,
                             version = version + 1, updated_at = ?6
         WHERE id = ?1",
    )?
    .execute(params![
        id,
        columns.name,
        columns.description,
        columns.category,
        columns.price_cents,
        now
    ])?;
    product(tx, id)
}

/// Deletes the product and its stock; the events stay.
pub(super) fn remove(tx: &Transaction<'_>, id: i64) -> Result<(), Problem> {
    match tx
        .prepare_cached("DELETE FROM products WHERE id = ?1")?
        .execute([id])?
    {
        0 => Err(missing(id)),
        _ => Ok(()),
    }
}

pub(super) fn stock(tx: &Transaction<'_>, id: i64) -> Result<Stock, Problem> {
    let mut statement =
        tx.prepare_cached("SELECT quantity, version FROM stock WHERE product_id = ?1")?;
    let read = |row: &Row<'_>| {
        Ok(Stock {
            product_id: id,
            quantity: row.get(0)?,
            version: row.get(1)?,
        })
    };
    statement
        .query_row([id], read)
        .optional()?
        .ok_or_else(|| missing(id))
}

pub(super) fn change_stock(
    tx: &Transaction<'_>,
    id: i64,
    change: &StockChange,
    now: i64,
) -> Result<Stock, Problem> {
    let current = stock(tx, id)?;
    if current.version != change.version {
        return Err(Problem::conflict("the stock has changed since it was read")
            .with_member("version", current.version));
    }
    let delta = change.delta.get();
    let quantity = current.quantity.saturating_add(delta);
    if quantity < 0 {
        return Err(Problem::conflict("there are not enough units at hand")
            .with_member("quantity", current.quantity));
    }
    if quantity > Units::MAX {
        return Err(Problem::conflict("there is no room for so many units")
            .with_member("quantity", current.quantity));
    }
    let next = Stock {
        product_id: id,
        quantity,
        version: current.version.saturating_add(1),
    };
    tx.prepare_cached("UPDATE stock SET quantity = ?2, version = ?3 WHERE product_id = ?1")?
        .execute([id, next.quantity, next.version])?;
    record(
        tx,
        &next,
        delta,
        change.reason.as_ref().map_or("", |reason| reason.as_str()),
        now,
    )?;
    Ok(next)
}

fn record(
    tx: &Transaction<'_>,
    after: &Stock,
    delta: i64,
    reason: &str,
    now: i64,
) -> Result<(), Problem> {
    tx.prepare_cached(
        "INSERT INTO stock_events (product_id, delta, quantity, version, reason, at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        after.product_id,
        delta,
        after.quantity,
        after.version,
        reason,
        now
    ])?;
    Ok(())
}

fn row_to_product(row: &Row<'_>) -> rusqlite::Result<Product> {
    Ok(Product {
        id: row.get(0)?,
        name: row.get(1)?,
        description: row.get(2)?,
        category: row.get(3)?,
        price_cents: row.get(4)?,
        version: row.get(5)?,
        updated_at: row.get(6)?,
    })
}

/// A LIKE pattern in which the client's `%` and `_` stand for themselves.
fn containing(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len().saturating_add(2));
    pattern.push('%');
    for character in text.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

fn missing(id: i64) -> Problem {
    Problem::not_found(format!("there is no product {id}"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn wildcards_of_the_client_stand_for_themselves() {
        assert_eq!(super::containing(r"50%_\"), r"%50\%\_\\%");
    }
}
