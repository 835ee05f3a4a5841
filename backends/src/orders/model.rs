//! What the orders service takes and gives, and which way a status may go.

use std::fmt;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::fields::{Id, Int, Limit, Text};

/// The user in the path; the shard key.
pub(super) type UserId = Int<0, { i64::MAX }>;

/// An order's id in its canonical spelling.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct OrderId(String);

/// `POST /users/{user_id}/orders`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewOrder {
    pub(super) items: Items,
    #[serde(default)]
    pub(super) currency: Currency,
    #[serde(default)]
    pub(super) note: Option<Text<1, 500>>,
}

/// One to a hundred items.
#[derive(Debug, Serialize, Deserialize)]
#[serde(try_from = "Vec<Item>")]
pub(super) struct Items(Vec<Item>);

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Item {
    pub(super) product_id: Id,
    pub(super) quantity: Int<1, 1000>,
    pub(super) unit_price_cents: Int<0, 100_000_000>,
}

/// Three letters as in ISO 4217; EUR when none are given.
#[derive(Debug, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Currency(String);

/// `PATCH /users/{user_id}/orders/{id}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    pub(super) status: Status,
}

/// `pending -> paid -> shipped -> delivered`, and `pending | paid -> cancelled`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Pending,
    Paid,
    Shipped,
    Delivered,
    Cancelled,
}

/// `GET /users/{user_id}/orders`, newest first.
#[derive(Debug, Deserialize)]
pub(super) struct Paging {
    pub(super) limit: Option<Limit>,
    /// The last id of the page before.
    pub(super) after: Option<OrderId>,
}

#[derive(Debug, Serialize)]
pub(super) struct Page {
    pub(super) orders: Vec<Order>,
    /// The `after` of the next page; null on the last one.
    pub(super) next_after: Option<String>,
}

/// One order as clients read it.
#[derive(Debug, Serialize)]
pub(super) struct Order {
    pub(super) id: String,
    pub(super) user_id: i64,
    pub(super) status: Status,
    pub(super) currency: String,
    pub(super) note: Option<String>,
    pub(super) items: Vec<OrderedItem>,
    pub(super) total_cents: i64,
    pub(super) version: i64,
    pub(super) created_at: String,
    pub(super) updated_at: String,
}

#[derive(Debug, Serialize)]
pub(super) struct OrderedItem {
    pub(super) product_id: i64,
    pub(super) quantity: i64,
    pub(super) unit_price_cents: i64,
}

impl OrderId {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Uuid> for OrderId {
    fn from(id: Uuid) -> Self {
        Self(id.to_string())
    }
}

impl TryFrom<String> for OrderId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        match Uuid::try_parse(&text) {
            Ok(id) => Ok(id.into()),
            Err(_not_a_uuid) => Err("must be a UUID"),
        }
    }
}

impl NewOrder {
    /// The bounds of [`Item`] and [`Items`] keep this below 10^13, so nothing saturates.
    pub(super) fn total_cents(&self) -> i64 {
        self.items.as_slice().iter().fold(0_i64, |sum, item| {
            sum.saturating_add(
                item.quantity
                    .get()
                    .saturating_mul(item.unit_price_cents.get()),
            )
        })
    }
}

impl Items {
    pub(super) fn as_slice(&self) -> &[Item] {
        &self.0
    }
}

impl TryFrom<Vec<Item>> for Items {
    type Error = String;

    fn try_from(items: Vec<Item>) -> Result<Self, String> {
        if (1..=100).contains(&items.len()) {
            Ok(Self(items))
        } else {
            Err(format!("must be 1 to 100 items, are {}", items.len()))
        }
    }
}

impl Currency {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Currency {
    fn default() -> Self {
        Self("EUR".to_owned())
    }
}

impl TryFrom<String> for Currency {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        if text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase()) {
            Ok(Self(text))
        } else {
            Err("must be three capital letters")
        }
    }
}

impl Status {
    const ALL: [Self; 5] = [
        Self::Pending,
        Self::Paid,
        Self::Shipped,
        Self::Delivered,
        Self::Cancelled,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Paid => "paid",
            Self::Shipped => "shipped",
            Self::Delivered => "delivered",
            Self::Cancelled => "cancelled",
        }
    }

    pub(super) const fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Pending, Self::Paid | Self::Cancelled)
                | (Self::Paid, Self::Shipped | Self::Cancelled)
                | (Self::Shipped, Self::Delivered)
        )
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromSql for Status {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let name = value.as_str()?;
        Self::ALL
            .into_iter()
            .find(|status| status.name() == name)
            .ok_or(FromSqlError::InvalidType)
    }
}

#[cfg(test)]
mod tests {
    use super::Status::{self, Cancelled, Delivered, Paid, Pending, Shipped};

    #[test]
    fn a_status_goes_forward_and_is_cancelled_only_before_it_ships() {
        let allowed = [
            (Pending, Paid),
            (Pending, Cancelled),
            (Paid, Shipped),
            (Paid, Cancelled),
            (Shipped, Delivered),
        ];
        for from in Status::ALL {
            for to in Status::ALL {
                assert_eq!(
                    from.may_become(to),
                    allowed.contains(&(from, to)),
                    "{from} -> {to}"
                );
            }
        }
    }
}
