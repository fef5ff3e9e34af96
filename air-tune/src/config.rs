//! The configuration a trial receives.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Result, TuneError};

/// One configuration: a JSON object with typed getters by path.
///
/// ```
/// # use air_tune::Config;
/// let config: Config = serde_json::from_str(r#"{"optimizer": {"lr": 0.1}, "units": 32}"#)?;
/// assert_eq!(config.f64("optimizer.lr")?, 0.1);
/// assert_eq!(config.usize("units")?, 32);
/// assert!(config.f64("momentum").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Map<String, Value>", into = "Map<String, Value>")]
pub struct Config(
    /// By name, in order. A map would take ten times the memory for the few entries that most have, in each of all trials.
    Box<[(String, Value)]>,
);

impl From<Map<String, Value>> for Config {
    fn from(map: Map<String, Value>) -> Self {
        Self(map.into_iter().collect())
    }
}

impl From<Config> for Map<String, Value> {
    fn from(config: Config) -> Self {
        config.0.into_iter().collect()
    }
}

impl Config {
    /// Builds nested objects from paths.
    pub(crate) fn from_paths<'a>(values: impl Iterator<Item = (&'a str, &'a Value)>) -> Self {
        let mut root = Map::new();
        for (path, value) in values {
            let mut object = &mut root;
            let (parents, leaf) = path.rsplit_once('.').map_or((None, path), |(p, leaf)| (Some(p), leaf));
            for parent in parents.into_iter().flat_map(|p| p.split('.')) {
                let inner = object.entry(parent).or_insert_with(|| Value::Object(Map::new()));
                if !inner.is_object() {
                    *inner = Value::Object(Map::new());
                }
                let Value::Object(inner) = inner else { unreachable!("just made an object") };
                object = inner;
            }
            object.insert(leaf.to_owned(), value.clone());
        }
        root.into()
    }

    /// The value at `path`, if the parameter is active.
    pub fn get(&self, path: &str) -> Option<&Value> {
        let mut names = path.split('.');
        let first = names.next()?;
        let at = self.0.binary_search_by(|(name, _)| name.as_str().cmp(first)).ok()?;
        let mut value = &self.0[at].1;
        for name in names {
            value = value.get(name)?;
        }
        Some(value)
    }

    /// The number at `path`.
    ///
    /// # Errors
    /// [`TuneError::Parameter`] if nothing is there or it is no number; so for all typed getters.
    pub fn f64(&self, path: &str) -> Result<f64> {
        self.typed(path, "a number", Value::as_f64)
    }

    /// The integer at `path`.
    pub fn i64(&self, path: &str) -> Result<i64> {
        self.typed(path, "an integer", Value::as_i64)
    }

    /// The integer at `path`, at least 0.
    pub fn usize(&self, path: &str) -> Result<usize> {
        self.typed(path, "an integer of at least 0", |v| v.as_u64().and_then(|n| usize::try_from(n).ok()))
    }

    /// The text at `path`.
    pub fn str(&self, path: &str) -> Result<&str> {
        self.typed(path, "text", Value::as_str)
    }

    /// The boolean at `path`.
    pub fn bool(&self, path: &str) -> Result<bool> {
        self.typed(path, "a boolean", Value::as_bool)
    }

    /// The whole configuration as any type that serde can read.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        T::deserialize(&self.to_value()).map_err(|error| TuneError::Parameter {
            path: ".".into(),
            expected: std::any::type_name::<T>().into(),
            found: error.to_string(),
        })
    }

    /// The configuration as a JSON value.
    pub fn to_value(&self) -> Value {
        Value::Object(self.clone().into())
    }

    /// Leaves by path, depth first.
    pub fn paths(&self) -> Vec<(String, &Value)> {
        fn walk<'a>(path: String, value: &'a Value, out: &mut Vec<(String, &'a Value)>) {
            match value {
                Value::Object(inner) => {
                    inner.iter().for_each(|(name, value)| walk(format!("{path}.{name}"), value, out));
                }
                leaf => out.push((path, leaf)),
            }
        }
        let mut out = Vec::new();
        self.0.iter().for_each(|(name, value)| walk(name.clone(), value, &mut out));
        out
    }

    fn typed<'a, T>(
        &'a self,
        path: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<T> {
        let found = self.get(path);
        found.and_then(read).ok_or_else(|| TuneError::Parameter {
            path: path.into(),
            expected: expected.into(),
            found: found.map_or_else(|| "nothing".into(), Value::to_string),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_nest_and_getters_say_what_they_found() {
        let values = [("a", json!(1)), ("net.lr", json!(0.5)), ("net.opt.name", json!("sgd"))];
        let config = Config::from_paths(values.iter().map(|(p, v)| (*p, v)));
        assert_eq!(config.to_value(), json!({"a": 1, "net": {"lr": 0.5, "opt": {"name": "sgd"}}}));
        assert_eq!(config.str("net.opt.name").unwrap(), "sgd");
        assert_eq!(
            config.i64("net.lr").unwrap_err().to_string(),
            "configuration `net.lr`: expected an integer, found 0.5"
        );
        assert!(config.usize("b").unwrap_err().to_string().ends_with("found nothing"));
        assert_eq!(config.paths().len(), 3);

        #[derive(serde::Deserialize)]
        struct Net {
            lr: f32,
        }
        #[derive(serde::Deserialize)]
        struct All {
            net: Net,
        }
        assert!((config.parse::<All>().unwrap().net.lr - 0.5).abs() < 1e-9);
        assert!(config.parse::<Net>().is_err());
    }
}
