//! Named numbers: what a trial reports.

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::error::{Result, TuneError};

/// Most values of one report.
const MAX_VALUES: usize = 1_000;
/// Longest name of a value, in bytes.
const MAX_NAME: usize = 256;

/// Named numbers in the order they were reported. Not-a-number and infinities are kept.
///
/// As JSON, numbers that are not finite are the strings `"NaN"`, `"Infinity"` and `"-Infinity"`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Values(Vec<(String, f64)>);

impl Values {
    /// Copies the pairs.
    ///
    /// # Errors
    /// [`TuneError::InvalidConfig`] if a name is empty, longer than 256 bytes or given twice, or there are over 1 000.
    pub fn new(pairs: &[(&str, f64)]) -> Result<Self> {
        let bad = |reason: String| Err(TuneError::config("metrics", reason));
        if pairs.len() > MAX_VALUES {
            return bad(format!("{} values in one report; at most {MAX_VALUES}", pairs.len()));
        }
        for (at, (name, _)) in pairs.iter().enumerate() {
            if name.is_empty() || name.len() > MAX_NAME {
                return bad(format!("a name must have 1 to {MAX_NAME} bytes, found {}", name.len()));
            }
            if pairs[..at].iter().any(|(other, _)| other == name) {
                return bad(format!("`{name}` is given twice"));
            }
        }
        Ok(Self(pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()))
    }

    /// The number called `name`.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| *value)
    }

    /// Names and numbers, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// How many numbers there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A number as JSON; what JSON has no number for becomes text.
pub(crate) fn to_json(value: f64) -> Value {
    serde_json::Number::from_f64(value).map_or_else(
        || {
            Value::from(if value.is_nan() {
                "NaN"
            } else if value > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            })
        },
        Value::Number,
    )
}

/// The inverse of [`to_json`].
pub(crate) fn from_json(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

impl Serialize for Values {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, &to_json(*value))?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Values;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object of numbers")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Values, A::Error> {
                let mut pairs = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    let value = from_json(&value)
                        .ok_or_else(|| serde::de::Error::custom(format!("`{name}` is no number: {value}")))?;
                    pairs.push((name, value));
                }
                Ok(Values(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_that_json_lacks_survive_it() {
        let values = Values::new(&[("b", 1.5), ("a", f64::NAN), ("c", f64::NEG_INFINITY)]).unwrap();
        let text = serde_json::to_string(&values).unwrap();
        assert_eq!(text, r#"{"b":1.5,"a":"NaN","c":"-Infinity"}"#);
        let back: Values = serde_json::from_str(&text).unwrap();
        assert!(back.get("a").unwrap().is_nan());
        assert_eq!(back.get("c"), Some(f64::NEG_INFINITY));
        assert_eq!(back.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["b", "a", "c"]);
        assert!(serde_json::from_str::<Values>(r#"{"a":"x"}"#).is_err());
    }

    #[test]
    fn names_are_checked() {
        assert!(Values::new(&[("a", 1.0), ("a", 2.0)]).is_err());
        assert!(Values::new(&[("", 1.0)]).is_err());
    }
}
