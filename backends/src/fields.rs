//! Field types that are proven when they are read.
//!
//! The models of the services are made of these, so that a value which reached a handler is within
//! its bounds. A value out of bounds is a 422 with the field's path (400 in a query or path).

use serde::{Deserialize, Deserializer, Serialize};

/// Text of `MIN` to `MAX` characters without control characters other than line breaks and tabs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Text<const MIN: usize, const MAX: usize>(String);

/// A whole number from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64")]
pub(crate) struct Int<const MIN: i64, const MAX: i64>(i64);

/// An id that another service gave out.
pub(crate) type Id = Int<1, { i64::MAX }>;
/// How many rows a list holds at most.
pub(crate) type Limit = Int<1, 100>;

impl<const MIN: usize, const MAX: usize> Text<MIN, MAX> {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MIN: usize, const MAX: usize> TryFrom<String> for Text<MIN, MAX> {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let length = text.chars().count();
        if length < MIN || length > MAX {
            return Err(format!("must have {MIN} to {MAX} characters, has {length}"));
        }
        if text
            .chars()
            .any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
        {
            return Err("must not hold control characters".to_owned());
        }
        Ok(Self(text))
    }
}

impl<const MIN: i64, const MAX: i64> Int<MIN, MAX> {
    pub(crate) const fn get(self) -> i64 {
        self.0
    }
}

impl<const MIN: i64, const MAX: i64> TryFrom<i64> for Int<MIN, MAX> {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        if (MIN..=MAX).contains(&number) {
            Ok(Self(number))
        } else {
            Err(format!("must be from {MIN} to {MAX}, is {number}"))
        }
    }
}

/// For optional fields of a merge patch: absent stays `None` (with `serde(default)`), but `null`,
/// which would mean removal (RFC 7396), is an error, since no field here can be removed.
pub(crate) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_counted_in_characters_and_refuses_control_characters() {
        let read = |json: &str| serde_json::from_str::<Text<1, 2>>(json).is_ok();
        assert!(read("\"éé\""));
        assert!(read("\"a\\n\""));
        assert!(!read("\"\""));
        assert!(!read("\"abc\""));
        assert!(!read("\"a\\u0000\""));
    }

    #[test]
    fn numbers_keep_their_bounds() {
        let read = |json: &str| serde_json::from_str::<Int<-1, 3>>(json).is_ok();
        assert!(read("-1") && read("3"));
        assert!(!read("-2") && !read("4") && !read("1.5") && !read("\"1\""));
    }
}
