//! Every key that a config can hold, learnt from the types themselves.
//!
//! A deserializer that is given nothing and answers every request with one made-up value, writing
//! down the field names that it is asked for. So the list cannot be forgotten when a key is added.

use std::cell::RefCell;

use serde::de::value::{Error, StrDeserializer};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

/// Paths of keys; `*` stands for a name, `[]` for an item of a list.
pub(crate) fn all() -> Vec<Vec<String>> {
    let keys = RefCell::new(Vec::new());
    super::Config::deserialize(Recorder {
        path: Vec::new(),
        keys: &keys,
    })
    .unwrap();
    keys.into_inner()
}

struct Recorder<'a> {
    path: Vec<String>,
    keys: &'a RefCell<Vec<Vec<String>>>,
}

impl Recorder<'_> {
    fn below(&self, segment: &str) -> Self {
        let mut path = self.path.clone();
        path.push(segment.to_owned());
        Self {
            path,
            keys: self.keys,
        }
    }
}

impl<'de> Deserializer<'de> for Recorder<'_> {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        for field in fields {
            self.keys.borrow_mut().push(self.below(field).path);
        }
        visitor.visit_map(Children {
            parent: self,
            names: fields.to_vec(),
            next: 0,
        })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Children {
            parent: self,
            names: vec!["*"],
            next: 0,
        })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Children {
            parent: self,
            names: vec!["[]"],
            next: 0,
        })
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str("")
    }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_i128(0)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(false)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        panic!("the recorder does not know what {:?} asks for", self.path)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 u8 u16 u32 u64 u128 f32 f64 char str bytes byte_buf option unit unit_struct
        tuple tuple_struct enum identifier ignored_any
    }
}

struct Children<'a> {
    parent: Recorder<'a>,
    names: Vec<&'static str>,
    next: usize,
}

impl<'de> MapAccess<'de> for Children<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let name = self
            .names
            .get(self.next)
            .map(|name| StrDeserializer::new(name));
        self.next += 1;
        name.map(|name| seed.deserialize(name)).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(self.parent.below(self.names[self.next - 1]))
    }
}

impl<'de> SeqAccess<'de> for Children<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Some(name) = self.names.get(self.next) else {
            return Ok(None);
        };
        self.next += 1;
        seed.deserialize(self.parent.below(name)).map(Some)
    }
}
