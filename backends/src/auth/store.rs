//! The SQL of accounts and of the signing key.
//!
//! Each function runs inside the transaction that `database` opened for it. That an address is taken
//! once is the table's own constraint, so that two registrations at once cannot both succeed.

use rusqlite::{ErrorCode, OptionalExtension, Row, Transaction, params};

use super::{Email, User};
use crate::problem::Problem;

pub(super) fn register(
    tx: &Transaction<'_>,
    email: &Email,
    hash: &str,
    now: i64,
) -> Result<User, Problem> {
    let inserted = tx
        .prepare_cached("INSERT INTO users (email, password_hash, created_at) VALUES (?1, ?2, ?3)")?
        .execute(params![email.0, hash, now]);
    match inserted {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
            Err(Problem::conflict("this email address is taken"))
        }
        Err(error) => Err(error.into()),
        Ok(_) => user(tx, tx.last_insert_rowid())?.ok_or_else(Problem::internal),
    }
}

/// The id and the password's hash of an account.
pub(super) fn account(
    tx: &Transaction<'_>,
    email: &Email,
) -> Result<Option<(i64, String)>, Problem> {
    let mut statement =
        tx.prepare_cached("SELECT id, password_hash FROM users WHERE email = ?1")?;
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    Ok(statement.query_row([&email.0], read).optional()?)
}

pub(super) fn user(tx: &Transaction<'_>, id: i64) -> Result<Option<User>, Problem> {
    let mut statement = tx.prepare_cached(
        "SELECT id, email, strftime('%Y-%m-%dT%H:%M:%SZ', created_at, 'unixepoch')
         FROM users WHERE id = ?1",
    )?;
    let read = |row: &Row<'_>| {
        Ok(User {
            id: row.get(0)?,
            email: row.get(1)?,
            created_at: row.get(2)?,
        })
    };
    Ok(statement.query_row([id], read).optional()?)
}

/// The key in the database, which is `fresh` when there was none.
pub(super) fn signing_key(
    tx: &Transaction<'_>,
    fresh: &[u8],
    now: i64,
) -> Result<Vec<u8>, Problem> {
    tx.prepare_cached(
        "INSERT OR IGNORE INTO signing_key (only, pkcs8, created_at) VALUES (1, ?1, ?2)",
    )?
    .execute(params![fresh, now])?;
    let key = tx
        .prepare_cached("SELECT pkcs8 FROM signing_key")?
        .query_row([], |row| row.get(0))?;
    Ok(key)
}
