//! `Idempotency-Key`: the field, and the answers kept under it.
//!
//! `orders` looks a key up and keeps the answer in the same transaction that places the order, so
//! that of two equal requests at once one places and the other is given the same answer. Keys belong
//! to a user and live for [`KEPT`]; old ones are swept a few at a time by the writes that come later.

use axum::{
    extract::OptionalFromRequestParts,
    http::{HeaderName, request::Parts},
};
use rusqlite::{OptionalExtension, Transaction, params};

use super::{model::UserId, store::Placed};
use crate::problem::Problem;

/// What the client calls its request: 1 to 255 visible ASCII characters, with or without the quotes
/// of a structured field.
#[derive(Debug)]
pub(super) struct IdempotencyKey(String);

const NAME: HeaderName = HeaderName::from_static("idempotency-key");
/// Seconds for which a retry is known: a day.
const KEPT: i64 = 24 * 60 * 60;
/// Old keys deleted with each write; more than one, so that they cannot pile up.
const SWEEP: i64 = 20;

impl<S: Send + Sync> OptionalFromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Problem> {
        let mut values = parts.headers.get_all(NAME).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => match value.to_str().ok().and_then(Self::read) {
                Some(key) => Ok(Some(key)),
                None => Err(Problem::bad_request(
                    "Idempotency-Key must be 1 to 255 visible ASCII characters",
                )),
            },
            (Some(_), Some(_)) => Err(Problem::bad_request(
                "there is more than one Idempotency-Key",
            )),
        }
    }
}

impl IdempotencyKey {
    fn read(value: &str) -> Option<Self> {
        let quoted = value
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'));
        let key = quoted.unwrap_or(value);
        let fits = (1..=255).contains(&key.len())
            && key
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'"');
        fits.then(|| Self(key.to_owned()))
    }
}

/// The answer kept under `key`; 422 when it was given for another request.
pub(super) fn find(
    tx: &Transaction<'_>,
    user: UserId,
    key: &IdempotencyKey,
    request: &[u8],
    now: i64,
) -> Result<Option<Placed>, Problem> {
    let mut statement = tx.prepare_cached(
        "SELECT request, order_id, answer FROM idempotency_keys
         WHERE user_id = ?1 AND key = ?2 AND created_at > ?3",
    )?;
    let oldest = now.saturating_sub(KEPT);
    let kept = statement
        .query_row(params![user.get(), key.0, oldest], |row| {
            let placed = Placed {
                order_id: row.get(1)?,
                answer: row.get(2)?,
                replayed: true,
            };
            Ok((row.get::<_, Vec<u8>>(0)?, placed))
        })
        .optional()?;
    match kept {
        Some((asked, _)) if asked != request => Err(Problem::unprocessable(
            "this Idempotency-Key was used for another order",
        )),
        kept => Ok(kept.map(|(_, placed)| placed)),
    }
}

/// Keeps the answer of a request whose key was not found.
pub(super) fn keep(
    tx: &Transaction<'_>,
    user: UserId,
    key: &IdempotencyKey,
    request: &[u8],
    placed: &Placed,
    now: i64,
) -> Result<(), Problem> {
    tx.prepare_cached(
        "DELETE FROM idempotency_keys WHERE rowid IN
            (SELECT rowid FROM idempotency_keys WHERE created_at <= ?1 ORDER BY created_at LIMIT ?2)",
    )?
    .execute([now.saturating_sub(KEPT), SWEEP])?;
    // The sweep may not have reached an outlived key of the same name: replace it.
    tx.prepare_cached(
        "INSERT OR REPLACE INTO idempotency_keys (user_id, key, request, order_id, answer, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![user.get(), key.0, request, placed.order_id, placed.answer, now])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::IdempotencyKey;

    #[test]
    fn a_key_may_be_quoted_and_is_bounded() {
        let read = |value: &str| IdempotencyKey::read(value).map(|key| key.0);
        assert_eq!(read("abc").as_deref(), Some("abc"));
        assert_eq!(read("\"abc\"").as_deref(), Some("abc"));
        assert!(read(&"x".repeat(255)).is_some());
        for broken in ["", "\"\"", "\"a", "a b", "a\"b", &"x".repeat(256)] {
            assert_eq!(read(broken), None, "{broken}");
        }
    }
}
