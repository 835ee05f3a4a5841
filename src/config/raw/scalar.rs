//! What a scalar is: a number, a word, a text, or nothing.
//!
//! The tree of `marks` holds every scalar as text; `serde_yaml` decides here what that text is in
//! YAML's core schema, and nowhere else, so that another YAML library would change this file alone.

use crate::config::errors::quotable;
use crate::config::marks::{Kind, Node};

/// What YAML's core schema makes of a scalar.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scalar {
    Null,
    Bool(bool),
    Whole(i128),
    Fraction,
    Text,
}

/// Resolves a scalar; one in quotes is always a text.
pub(crate) fn resolve(text: &str, plain: bool) -> Scalar {
    // A lone document marker would be read as an empty document.
    if !plain || text.starts_with("---") || text.starts_with("...") {
        return Scalar::Text;
    }
    match serde_yaml::from_str(text) {
        Ok(serde_yaml::Value::Null) => Scalar::Null,
        Ok(serde_yaml::Value::Bool(value)) => Scalar::Bool(value),
        Ok(serde_yaml::Value::Number(number)) => number
            .as_i64()
            .map(i128::from)
            .or_else(|| number.as_u64().map(i128::from))
            .map(Scalar::Whole)
            .or_else(|| number.as_f64().map(|_| Scalar::Fraction))
            .unwrap_or(Scalar::Text),
        Ok(_) | Err(_) => Scalar::Text,
    }
}

pub(super) fn scalar(node: &Node) -> Option<Scalar> {
    match &node.kind {
        Kind::Scalar { text, plain } => Some(resolve(text, *plain)),
        Kind::Sequence(_) | Kind::Mapping(_) => None,
    }
}

pub(super) fn is_null(node: &Node) -> bool {
    scalar(node) == Some(Scalar::Null)
}

pub(super) fn describe(node: &Node) -> String {
    match &node.kind {
        Kind::Scalar { text, .. } => format!("{} `{}`", shape(node), quotable(text)),
        Kind::Sequence(_) | Kind::Mapping(_) => shape(node),
    }
}

pub(super) fn shape(node: &Node) -> String {
    let shape = match (&node.kind, scalar(node)) {
        (Kind::Sequence(_), _) => "a list",
        (Kind::Mapping(_), _) => "a mapping",
        (_, Some(Scalar::Whole(_) | Scalar::Fraction)) => "the number",
        (_, Some(Scalar::Bool(_))) => "the word",
        (_, _) => "the text",
    };
    shape.to_owned()
}
