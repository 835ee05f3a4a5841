//! A serde deserializer over the marked tree that reports and goes on instead of giving up.
//!
//! `raw`'s structs derive `Deserialize`; this side knows where each value stands, so a wrong type or
//! an unknown key becomes a `Problem` with its place, and `Lenient` turns the failure into "nothing
//! readable here". Invariant: whatever returns
//! `Err` has been reported, exactly once.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

use super::Config;
use super::scalar::{Scalar, describe, is_null, scalar, shape};
use crate::config::errors::quotable;
use crate::config::marks::{At, Entry, Kind, Node};
use crate::config::report::{Problem, Report};
use crate::config::suggest::{closest, list, suggestion};

/// Reads the whole tree; what cannot be read is reported and left out.
pub(crate) fn read(root: &Node, report: &Report) -> Option<Config> {
    Config::deserialize(Reader {
        at: At::root(root),
        subject: Subject::File,
        report,
    })
    .ok()
}

/// A value, or nothing: either it was not typed, or it was reported.
#[derive(Debug)]
pub(crate) struct Lenient<T>(pub(crate) Option<T>);

impl<T> Default for Lenient<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(T::deserialize(deserializer).ok()))
    }
}

/// A mapping whose keys are the operator's own names, in the order of the file.
#[derive(Debug)]
pub(crate) struct Named<T>(pub(crate) Vec<(String, Lenient<T>)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Named<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping from names")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Named(entries))
            }
        }
        deserializer.deserialize_map(Entries(std::marker::PhantomData))
    }
}

/// Whose value is read, for messages.
#[derive(Debug, Clone, Copy)]
enum Subject<'a> {
    File,
    Key(&'a str),
    ItemOf(&'a str),
}

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => f.write_str("the top of the file"),
            Self::Key(key) => write!(f, "`{}`", quotable(key)),
            Self::ItemOf(key) => write!(f, "an item of `{}`", quotable(key)),
        }
    }
}

/// One value of the tree, to be read as whatever type asks.
#[derive(Clone, Copy)]
struct Reader<'a> {
    at: At<'a>,
    subject: Subject<'a>,
    report: &'a Report,
}

/// Structs all of whose keys have a default, so that `{}` switches on what they stand for.
const NEED_NOTHING: [&str; 5] = [
    "CacheRule",
    "Compress",
    "HealthCheck",
    "Sticky",
    "UpstreamTls",
];

/// Only says that reading failed; the problem is in the report.
#[derive(Debug)]
struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("refused")
    }
}

impl std::error::Error for Refused {}

impl de::Error for Refused {
    fn custom<T: fmt::Display>(_: T) -> Self {
        // Visitors are handed only what they take, so there is nothing to keep.
        Self
    }
}

impl<'a> Reader<'a> {
    fn refuse(self, expected: &str, hint: Option<String>) -> Refused {
        let Self {
            at,
            subject,
            report,
        } = self;
        let node = at.node;
        let found = if report.is_secret(node.span) {
            shape(node)
        } else {
            describe(node)
        };
        let problem = if is_null(node) {
            let hint = match &node.kind {
                Kind::Scalar { text, .. } if text.is_empty() => {
                    format!("give it {expected}, or remove the line")
                }
                _ => format!("give it {expected}, or put the word in quotes"),
            };
            Problem::error(at.span(), format!("{subject} has no value")).hint(hint)
        } else {
            let message = format!("expected {expected} for {subject}, found {found}");
            Problem::error(at.span(), message).maybe_hint(hint)
        };
        report.push(problem);
        Refused
    }

    fn child(self, entry: &'a Entry) -> Self {
        Self {
            at: At::entry(entry),
            subject: Subject::Key(&entry.key.text),
            ..self
        }
    }

    /// The scalar's text, unless it is a container or nothing at all.
    fn text(self) -> Option<&'a str> {
        match &self.at.node.kind {
            Kind::Scalar { text, .. } if !is_null(self.at.node) => Some(text),
            Kind::Scalar { .. } | Kind::Sequence(_) | Kind::Mapping(_) => None,
        }
    }

    /// Reports the keys that a struct does not have; the others are read.
    fn known(self, name: &str, fields: &'static [&'static str]) -> Vec<&'a Entry> {
        let mut known = Vec::new();
        for entry in self.at.node.entries() {
            let key = &entry.key;
            if fields.contains(&key.text.as_str()) {
                known.push(entry);
                continue;
            }
            // The value of a misspelt `key:` is a secret all the same.
            if name == "Sticky" {
                self.report.secret(entry.value.span);
            }
            let message = match self.subject {
                Subject::File => format!("unknown key `{}`", quotable(&key.text)),
                Subject::Key(_) | Subject::ItemOf(_) => {
                    format!("unknown key `{}` in {}", quotable(&key.text), self.subject)
                }
            };
            if let Some(meant) = closest(&key.text, fields.iter().copied()) {
                self.report.misspelt(self.at.node.span.start, meant);
            }
            let hint = match key.text.as_str() {
                "<<" => Some("merge keys are not supported: repeat the keys".to_owned()),
                text => suggestion(text, fields, "the keys here are"),
            };
            self.report
                .push(Problem::error(key.span, message).maybe_hint(hint));
        }
        known
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Refused;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let shorthand = name.split_once(" or just ").map(|(_, field)| field);
        match (&self.at.node.kind, shorthand) {
            (Kind::Mapping(_), _) => {
                let entries = self.known(name, fields);
                visitor.visit_map(Entries {
                    reader: self,
                    entries,
                    next: 0,
                })
            }
            (Kind::Scalar { .. }, Some(field)) if self.text().is_some() => {
                visitor.visit_map(Shorthand {
                    reader: self,
                    field: Some(field),
                })
            }
            (_, Some(field)) => Err(self.refuse(
                "a text or a mapping",
                Some(format!(
                    "write {field} alone, or a mapping with {}",
                    list(fields)
                )),
            )),
            (_, None) => {
                let keys = format!("its keys are {}", list(fields));
                let hint = match (self.subject, scalar(self.at.node)) {
                    (Subject::Key(key), Some(Scalar::Bool(true)))
                        if NEED_NOTHING.contains(&name) =>
                    {
                        format!("write `{}: {{}}` for its defaults; {keys}", quotable(key))
                    }
                    (Subject::Key(_), Some(Scalar::Bool(false))) => {
                        "leave it out: what is not there is off".to_owned()
                    }
                    _ => keys,
                };
                Err(self.refuse("a mapping", Some(hint)))
            }
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match &self.at.node.kind {
            Kind::Mapping(entries) => {
                let entries = entries.iter().collect();
                visitor.visit_map(Entries {
                    reader: self,
                    entries,
                    next: 0,
                })
            }
            Kind::Scalar { .. } | Kind::Sequence(_) => Err(self.refuse(
                "a mapping from names",
                Some("write `name: value` lines below it, without `-`".to_owned()),
            )),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match &self.at.node.kind {
            Kind::Sequence(items) => visitor.visit_seq(Items {
                reader: self,
                items,
                next: 0,
            }),
            Kind::Scalar { .. } | Kind::Mapping(_) => {
                let hint = match self.text() {
                    Some(text) if !self.report.is_secret(self.at.node.span) => {
                        format!("put it in brackets: [{}]", quotable(text))
                    }
                    _ => "start each item with `- `".to_owned(),
                };
                Err(self.refuse("a list", Some(hint)))
            }
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match self.text() {
            Some(text) => visitor.visit_str(text),
            None => {
                let quotes = match self.at.node.kind {
                    Kind::Mapping(_) => {
                        Some("put a text that starts with `{` in quotes".to_owned())
                    }
                    Kind::Scalar { .. } | Kind::Sequence(_) => None,
                };
                Err(self.refuse("a single value", quotes))
            }
        }
    }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match scalar(self.at.node) {
            Some(Scalar::Whole(number)) => visitor.visit_i128(number),
            _ => Err(self.refuse("a whole number", None)),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match scalar(self.at.node) {
            Some(Scalar::Bool(value)) => visitor.visit_bool(value),
            _ => Err(self.refuse("`true` or `false`", None)),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        if name == "Secret" {
            self.report.secret(self.at.node.span);
        }
        if name == "Host" && matches!(self.at.node.kind, Kind::Sequence(_)) {
            let hint = "a route matches one host or `*.NAME`: write one route for each";
            return Err(self.refuse("a single value", Some(hint.to_owned())));
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match self.at.node.kind {
            Kind::Scalar { .. } => self.deserialize_string(visitor),
            Kind::Sequence(_) => self.deserialize_seq(visitor),
            Kind::Mapping(_) => self.deserialize_map(visitor),
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 u8 u16 u32 u64 u128 f32 f64 char str bytes byte_buf option unit unit_struct
        tuple tuple_struct enum identifier ignored_any
    }
}

struct Entries<'a> {
    reader: Reader<'a>,
    entries: Vec<&'a Entry>,
    next: usize,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Refused> {
        let Some(entry) = self.entries.get(self.next) else {
            return Ok(None);
        };
        self.next += 1;
        seed.deserialize(StrDeserializer::new(&entry.key.text))
            .map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Refused> {
        let entry = self.entries.get(self.next.wrapping_sub(1)).ok_or(Refused)?;
        seed.deserialize(self.reader.child(entry))
    }
}

/// A bare value, read as the mapping that has it under `field`.
struct Shorthand<'a> {
    reader: Reader<'a>,
    field: Option<&'static str>,
}

impl<'de> MapAccess<'de> for Shorthand<'_> {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Refused> {
        self.field
            .take()
            .map(|field| seed.deserialize(StrDeserializer::new(field)))
            .transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Refused> {
        seed.deserialize(self.reader)
    }
}

struct Items<'a> {
    reader: Reader<'a>,
    items: &'a [std::rc::Rc<Node>],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Refused;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Refused> {
        let Some(node) = self.items.get(self.next) else {
            return Ok(None);
        };
        self.next += 1;
        let subject = match self.reader.subject {
            Subject::Key(key) | Subject::ItemOf(key) => Subject::ItemOf(key),
            Subject::File => Subject::File,
        };
        seed.deserialize(Reader {
            at: At::root(node),
            subject,
            ..self.reader
        })
        .map(Some)
    }
}
