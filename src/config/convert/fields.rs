//! The ways in which single fields are read: units, numbers in bounds, words to choose from, names.
//!
//! Methods of `Cx` for the other files of this room. Each takes where it stands (`At` of the mapping
//! and the key in it), so that every complaint has its place; each reports at most one problem.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::Cx;
use crate::config::errors::quotable;
use crate::config::marks::At;
use crate::config::raw::{Lenient, Named, Text, Whole};
use crate::config::report::{Problem, Report, Span};
use crate::config::suggest::{list, suggestion};
use crate::config::units::{ByteSize, UnitError, display_duration, parse_duration};

/// Deadlines are more than nothing and at most a day.
pub(super) const DEADLINE: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(86_400);

/// Why a text is not what its key takes.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Fault {
    pub(super) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: Some(hint.into()),
        }
    }
}

impl From<UnitError> for Fault {
    fn from(UnitError { message, hint }: UnitError) -> Self {
        Self::new(message, hint)
    }
}

impl Cx<'_> {
    pub(super) fn error(self, span: Span, message: impl Into<String>, hint: impl Into<String>) {
        self.report.push(Problem::error(span, message).hint(hint));
    }

    /// The value, or a problem at this place.
    pub(super) fn settle<T>(self, at: At<'_>, read: Result<T, Fault>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(Fault { message, hint }) => {
                self.report
                    .push(Problem::error(at.span(), message).maybe_hint(hint));
                None
            }
        }
    }

    /// Reports that `key` is not there, unless it was typed and reported, or probably misspelt.
    pub(super) fn missing(self, at: At<'_>, key: &str, message: impl Into<String>, hint: &str) {
        if !at.has(key) && !self.report.is_misspelt(at.node.span.start, key) {
            self.error(at.span(), message, hint);
        }
    }

    pub(super) fn duration(
        self,
        at: At<'_>,
        key: &str,
        typed: &Text,
        bounds: &RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let at = at.field(key);
        let value = self.settle(at, parse_duration(typed.0.as_ref()?).map_err(Fault::from))?;
        self.within(at, key, value, bounds, |duration| {
            display_duration(*duration).to_string()
        })
    }

    pub(super) fn size(
        self,
        at: At<'_>,
        key: &str,
        typed: &Text,
        bounds: &RangeInclusive<ByteSize>,
    ) -> Option<ByteSize> {
        let at = at.field(key);
        let value = self.settle(at, typed.0.as_ref()?.parse().map_err(Fault::from))?;
        self.within(at, key, value, bounds, ByteSize::to_string)
    }

    pub(super) fn whole<T>(
        self,
        at: At<'_>,
        key: &str,
        typed: &Whole,
        bounds: RangeInclusive<i128>,
    ) -> Option<T>
    where
        T: TryFrom<i128>,
    {
        let value = self.within(at.field(key), key, typed.0?, &bounds, i128::to_string)?;
        T::try_from(value).ok()
    }

    fn within<T: PartialOrd>(
        self,
        at: At<'_>,
        key: &str,
        value: T,
        bounds: &RangeInclusive<T>,
        show: impl Fn(&T) -> String,
    ) -> Option<T> {
        if bounds.contains(&value) {
            return Some(value);
        }
        let (bound, side) = if value < *bounds.start() {
            (bounds.start(), "at least")
        } else {
            (bounds.end(), "at most")
        };
        let hint = format!(
            "it may be {} to {}",
            show(bounds.start()),
            show(bounds.end())
        );
        let message = format!(
            "`{key}` must be {side} {}, it is {}",
            show(bound),
            show(&value)
        );
        self.error(at.span(), message, hint);
        None
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        self,
        at: At<'_>,
        key: &str,
        typed: &Text,
        words: &[(&str, T)],
    ) -> Option<T> {
        let word = typed.0.as_deref()?;
        if let Some((_, value)) = words.iter().find(|(name, _)| *name == word) {
            return Some(*value);
        }
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        let hint = match suggestion(word, &names, "") {
            Some(meant) if meant.starts_with("did") && names.len() > 1 => {
                format!("{meant} The choices are {}", list(&names))
            }
            _ => format!("the choices are {}", list(&names)),
        };
        let message = format!("unknown value `{}` for `{key}`", quotable(word));
        self.error(at.field(key).span(), message, hint);
        None
    }

    /// A name that goes into logs and metric labels.
    pub(super) fn name(self, span: Span, kind: &str, name: &str) {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > 100 || !name.chars().all(fits) {
            let message = format!("`{}` cannot be the name of {kind}", quotable(name));
            self.error(
                span,
                message,
                "use 1 to 100 letters, digits, `-`, `_` and `.`",
            );
        }
    }

    /// A token of RFC 9110 section 5.6.2: what cookies are named with (RFC 6265 section 4.1.1).
    pub(super) fn cookie_name(self, at: At<'_>, name: &str) {
        let special = |b: u8| b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty()
            || !name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || special(b))
        {
            let message = format!("`{}` cannot be the name of a cookie", quotable(name));
            self.error(at.span(), message, "use letters, digits, `-` and `_`");
        }
    }

    pub(super) fn header_name(self, span: Span, name: &str) -> Option<http::HeaderName> {
        match http::HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) => Some(name),
            Err(_) => {
                let message = format!("`{}` cannot be the name of a header", quotable(name));
                self.error(
                    span,
                    message,
                    "use letters, digits and `-`, without a colon",
                );
                None
            }
        }
    }
}

/// The names that one section defines, and which of them are used.
#[derive(Debug)]
pub(super) struct Names {
    kind: &'static str,
    section: &'static str,
    names: Vec<String>,
    /// Whether the section could be read: if not, nothing is said about names that it lacks.
    known: bool,
    used: RefCell<HashSet<usize>>,
}

impl Names {
    pub(super) fn new<T>(
        kind: &'static str,
        section: &'static str,
        typed: &Lenient<Named<T>>,
        root: At<'_>,
        report: &Report,
    ) -> Self {
        let names = match &typed.0 {
            Some(Named(entries)) => entries.iter().map(|(name, _)| name.clone()).collect(),
            None => Vec::new(),
        };
        let absent = !root.has(section) && !report.is_misspelt(root.node.span.start, section);
        let known = typed.0.is_some() || absent;
        Self {
            kind,
            section,
            names,
            known,
            used: RefCell::default(),
        }
    }

    /// The index of a name, or a problem at this place.
    pub(super) fn find(&self, cx: Cx<'_>, at: At<'_>, name: &str) -> Option<usize> {
        if let Some(index) = self.names.iter().position(|known| known == name) {
            self.used.borrow_mut().insert(index);
            return Some(index);
        }
        if self.known {
            let Self {
                kind,
                section,
                names,
                ..
            } = self;
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let defined = format!("the {section} of this file are");
            let hint = suggestion(name, &names, &defined)
                .unwrap_or_else(|| format!("this file defines none: add it under `{section}`"));
            let message = format!("no {kind} is named `{}`", quotable(name));
            cx.error(at.span(), message, hint);
        }
        None
    }

    pub(super) fn warn_unused(&self, cx: Cx<'_>, at: At<'_>) {
        let used = self.used.borrow();
        for (_, name) in self
            .names
            .iter()
            .enumerate()
            .filter(|(index, _)| !used.contains(index))
        {
            let message = format!("the {} `{}` is not used", self.kind, quotable(name));
            cx.report.push(
                Problem::warning(at.key_span(name), message)
                    .hint("name it in a route, or remove it"),
            );
        }
    }
}

/// Reports the second of two things that must differ, pointing at both.
#[derive(Debug)]
pub(super) struct Unique<K>(Vec<(K, Span)>);

impl<K: PartialEq + Display> Unique<K> {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn check(&mut self, cx: Cx<'_>, span: Span, what: &str, key: K) {
        match self.0.iter().find(|(known, _)| *known == key) {
            Some((_, first)) => {
                let message = format!("{what} `{}` is given twice", quotable(&key.to_string()));
                cx.report
                    .push(Problem::error(span, message).and(*first, "first given here"));
            }
            None => self.0.push((key, span)),
        }
    }
}
