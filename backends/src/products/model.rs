//! What the products service takes and gives.
//!
//! Bounds live in the types (`fields`); what `store` is handed has been proven.

use serde::{Deserialize, Serialize};

use crate::fields::{Int, Limit, Text, present};

pub(super) type Name = Text<1, 200>;
pub(super) type Description = Text<0, 4000>;
pub(super) type Cents = Int<0, 100_000_000>;

/// Short lower-case words joined by `-`, as they stand in URLs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Category(String);

/// One product as clients read it.
#[derive(Debug, Serialize)]
pub(super) struct Product {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) category: String,
    pub(super) price_cents: i64,
    pub(super) version: i64,
    pub(super) updated_at: String,
}

/// `POST /products`.
#[derive(Debug, Deserialize)]
pub(super) struct NewProduct {
    #[serde(flatten)]
    pub(super) product: Replacement,
    /// Units at hand from the start.
    #[serde(default)]
    pub(super) stock: Units,
}

/// `PUT /products/{id}`: everything that a client may set. `id` and `version` of a representation
/// that was read are taken and ignored, so that it can be sent back as it came.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Replacement {
    pub(super) name: Name,
    pub(super) description: Description,
    pub(super) category: Category,
    pub(super) price_cents: Cents,
}

/// `PATCH /products/{id}`: a merge patch (RFC 7396).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Patch {
    #[serde(default, deserialize_with = "present")]
    name: Option<Name>,
    #[serde(default, deserialize_with = "present")]
    description: Option<Description>,
    #[serde(default, deserialize_with = "present")]
    category: Option<Category>,
    #[serde(default, deserialize_with = "present")]
    price_cents: Option<Cents>,
}

/// `GET /products`.
#[derive(Debug, Deserialize)]
pub(super) struct Filter {
    pub(super) category: Option<Category>,
    /// Part of the name or description, without regard to case.
    pub(super) q: Option<Text<1, 100>>,
    pub(super) limit: Option<Limit>,
    /// The last id of the page before.
    pub(super) after: Option<Int<0, { i64::MAX }>>,
}

/// One page of products.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    pub(super) products: Vec<Product>,
    /// The `after` of the next page; null on the last one.
    pub(super) next_after: Option<i64>,
}

#[derive(Debug, Serialize)]
pub(super) struct CategoryCount {
    pub(super) name: String,
    pub(super) products: i64,
}

/// Units at hand; the bound keeps sums far from overflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "i64")]
pub(super) struct Units(i64);

#[derive(Debug, Serialize)]
pub(super) struct Stock {
    pub(super) product_id: i64,
    pub(super) quantity: i64,
    pub(super) version: i64,
}

/// `POST /products/{id}/stock`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StockChange {
    pub(super) delta: Int<{ -Units::MAX }, { Units::MAX }>,
    /// The version that the client read; the change happens on this one or not at all.
    pub(super) version: i64,
    #[serde(default)]
    pub(super) reason: Option<Text<1, 200>>,
}

impl Category {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Category {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text))
        } else {
            Err("must be 1 to 64 of a-z, 0-9 and -")
        }
    }
}

impl Units {
    pub(super) const MAX: i64 = 1_000_000_000;

    pub(super) const fn get(self) -> i64 {
        self.0
    }
}

impl TryFrom<i64> for Units {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        if (0..=Self::MAX).contains(&number) {
            Ok(Self(number))
        } else {
            Err(format!("must be from 0 to {}, is {number}", Self::MAX))
        }
    }
}

impl Patch {
    /// What the product becomes; `None` when the patch changes nothing.
    pub(super) fn apply(self, current: &Product) -> Option<Changed> {
        let Self {
            name,
            description,
            category,
            price_cents,
        } = self;
        let text = |new: Option<&str>, old: &str| new.unwrap_or(old).to_owned();
        let changed = Changed {
            name: text(name.as_ref().map(Text::as_str), &current.name),
            description: text(description.as_ref().map(Text::as_str), &current.description),
            category: text(category.as_ref().map(Category::as_str), &current.category),
            price_cents: price_cents.map_or(current.price_cents, Int::get),
        };
        let same = changed.name == current.name
            && changed.description == current.description
            && changed.category == current.category
            && changed.price_cents == current.price_cents;
        (!same).then_some(changed)
    }
}

/// The columns that a write sets.
#[derive(Debug)]
pub(super) struct Changed {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) category: String,
    pub(super) price_cents: i64,
}

impl From<Replacement> for Changed {
    fn from(new: Replacement) -> Self {
        let Replacement {
            name,
            description,
            category,
            price_cents,
        } = new;
        Self {
            name: name.as_str().to_owned(),
            description: description.as_str().to_owned(),
            category: category.0,
            price_cents: price_cents.get(),
        }
    }
}
