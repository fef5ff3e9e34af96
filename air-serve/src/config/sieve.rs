//! A struct that refuses unknown keys, and beside it keys that are known but not its own.
//!
//! serde's `flatten` cannot do this: it forgets which keys are unknown, and where they stood.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// What was read.
pub(super) struct Sieved<T> {
    /// The struct.
    pub own: T,
    /// Its keys that were given.
    pub given: Vec<String>,
    /// The keys beside it, with their values.
    pub beside: Map<String, Value>,
}

/// Reads a `T`, and the keys `beside` it.
pub(super) fn sieve<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
    beside: &'static [&'static str],
) -> Result<Sieved<T>, D::Error> {
    from.deserialize_map(Sieve { beside, of: PhantomData })
}

struct Sieve<T> {
    beside: &'static [&'static str],
    of: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Sieve<T> {
    type Value = Sieved<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("keys and values")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let (mut given, mut beside) = (Vec::new(), Map::new());
        let sifted = Sifted { map, names: self.beside, given: &mut given, beside: &mut beside };
        let own = T::deserialize(MapAccessDeserializer::new(sifted))?;
        Ok(Sieved { own, given, beside })
    }
}

/// A map without the keys that are taken out of it on the way.
struct Sifted<'a, A> {
    map: A,
    names: &'static [&'static str],
    given: &'a mut Vec<String>,
    beside: &'a mut Map<String, Value>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Sifted<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.map.next_key::<String>()? {
            if !self.names.contains(&key.as_str()) {
                self.given.push(key.clone());
                return seed.deserialize(key.into_deserializer()).map(Some);
            }
            let value = self.map.next_value()?;
            self.beside.insert(key, value);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}
