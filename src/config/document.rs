//! The config as it was typed, for the admin API.
//!
//! Built from the tree of `marks`, after `raw` has told the `Report` which values are secrets.
//! Invariant: a secret's place in the document holds `<redacted>`, whatever its shape was.

use serde_json::{Map, Number, Value};

use super::marks::{Kind, Node};
use super::raw::{Scalar, resolve};
use super::report::Report;

pub(crate) fn of(node: &Node, report: &Report) -> Value {
    if report.is_secret(node.span) {
        return Value::from("<redacted>");
    }
    match &node.kind {
        Kind::Sequence(items) => items.iter().map(|item| of(item, report)).collect(),
        Kind::Mapping(entries) => entries
            .iter()
            .map(|entry| (entry.key.text.clone(), of(&entry.value, report)))
            .collect::<Map<_, _>>()
            .into(),
        Kind::Scalar { text, plain } => match resolve(text, *plain) {
            Scalar::Null => Value::Null,
            Scalar::Bool(value) => Value::from(value),
            Scalar::Whole(number) => {
                Number::from_i128(number).map_or_else(|| Value::from(text.as_str()), Value::Number)
            }
            // As typed: `1.10` may be a version, and a float would change it.
            Scalar::Fraction | Scalar::Text => Value::from(text.as_str()),
        },
    }
}
