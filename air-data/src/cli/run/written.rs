//! Values that may be written in more than one way: a path or several, a key or a pair, a parameter of any type.

use std::fmt;

use datafusion::scalar::ScalarValue;
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

/// One text or a list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Texts(pub(super) Vec<String>);

/// A key of a join: the name it has on both sides, or the left and the right one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key(pub(super) String, pub(super) String);

/// A value that texts of SQL name: `$name`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Param(pub(super) ScalarValue);

struct OneOrMany;

impl<'de> Visitor<'de> for OneOrMany {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of texts")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Texts, E> {
        Ok(Texts(vec![text.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Texts, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = list.next_element()? {
            texts.push(text);
        }
        Ok(Texts(texts))
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(OneOrMany)
    }
}

struct NameOrPair;

impl<'de> Visitor<'de> for NameOrPair {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a column's name, or a list of a left and a right one")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Key, E> {
        Ok(Key(name.to_owned(), name.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<Key, A::Error> {
        let mut next = |at| pair.next_element()?.ok_or_else(|| A::Error::invalid_length(at, &self));
        let key = Key(next(0)?, next(1)?);
        match pair.next_element::<String>()? {
            None => Ok(key),
            Some(_) => Err(A::Error::invalid_length(3, &self)),
        }
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(NameOrPair)
    }
}

struct AnyScalar;

impl Visitor<'_> for AnyScalar {
    type Value = Param;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, a text, true or false")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Param, E> {
        Ok(Param(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Param, E> {
        Ok(Param(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Param, E> {
        Ok(Param(value.into()))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Param, E> {
        Ok(Param(value.into()))
    }
}

impl<'de> Deserialize<'de> for Param {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(AnyScalar)
    }
}
