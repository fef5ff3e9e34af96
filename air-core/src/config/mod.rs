//! [`load`]: one struct, filled from a file (TOML or YAML), the environment and flags, in that order.
//!
//! ```
//! use air_core::config;
//!
//! #[derive(Debug, Default, serde::Deserialize)]
//! #[serde(default, deny_unknown_fields)]
//! struct Train {
//!     epochs: u32,
//!     scaling: Scaling,
//! }
//!
//! #[derive(Debug, Default, serde::Deserialize)]
//! #[serde(default, deny_unknown_fields)]
//! struct Scaling {
//!     workers: usize,
//! }
//!
//! # fn main() -> Result<(), air_core::CoreError> {
//! // `AIR_TRAIN_SCALING__WORKERS=4` in the environment would do the same as this flag.
//! let train: Train = config::load(None, "AIR_TRAIN", &["scaling.workers=4".into()])?;
//! assert_eq!(train.scaling.workers, 4);
//!
//! let error = config::load::<Train>(None, "AIR_TRAIN", &["scaling.wrokers=4".into()]).unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "--set scaling.wrokers=4: `scaling.wrokers`: unknown field `wrokers`, expected `workers`; did you mean `workers`?",
//! );
//! # Ok(())
//! # }
//! ```
//!
//! Every error names where the value comes from: the file and line, the variable, or the flag.

mod error;
mod tree;
mod yaml;

use std::io::Read as _;
use std::path::Path;

use serde::de::DeserializeOwned;
use toml::Value;

pub use error::{ConfigError, Origin};

use crate::Result;
use tree::Tree;

/// No configuration file is larger: 1 MiB.
pub const MAX_BYTES: u64 = 1 << 20;

/// Reads `T` from the file (if there is one; YAML if its name ends in `.yaml` or `.yml`, else TOML), then from the environment variables that begin with `env_prefix` and `_`,
/// then from `sets`, each `key=value`; what comes later wins.
///
/// A key of a nested table has dots between its parts in a flag (`scaling.workers=4`) and two underscores in a
/// variable (`AIR_TRAIN_SCALING__WORKERS=4`). A value is TOML; where the struct wants a string, it is taken as it is.
pub fn load<T: DeserializeOwned>(file: Option<&Path>, env_prefix: &str, sets: &[String]) -> Result<T> {
    let env = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    load_from(file, env_prefix, env, sets)
}

/// [`load`] with an environment of the caller's.
pub fn load_from<T: DeserializeOwned>(
    file: Option<&Path>,
    env_prefix: &str,
    env: impl IntoIterator<Item = (String, String)>,
    sets: &[String],
) -> Result<T> {
    let mut tree = match file {
        Some(path) => Tree::from_file(path, &read(path)?)?,
        None => Tree::default(),
    };
    for (name, key, value) in variables(env_prefix, env) {
        tree.set(&key.split("__").collect::<Vec<_>>(), &value, &Origin::Variable(name))?;
    }
    for set in sets {
        let origin = Origin::Flag(set.clone());
        let Some((key, value)) = set.split_once('=') else {
            return Err(ConfigError::BadOverride { origin, reason: "expected KEY=VALUE".into() }.into());
        };
        tree.set(&key.trim().split('.').collect::<Vec<_>>(), value.trim(), &origin)?;
    }
    Ok(build(tree)?)
}

/// The variables that set something, sorted: name, key, value.
fn variables(prefix: &str, env: impl IntoIterator<Item = (String, String)>) -> Vec<(String, String, String)> {
    let mut found: Vec<_> = env
        .into_iter()
        // That one chooses what is logged, whatever the prefix.
        .filter(|(name, _)| name != crate::log::VARIABLE)
        .filter_map(|(name, value)| {
            let key = name.strip_prefix(prefix)?.strip_prefix('_')?.to_ascii_lowercase();
            Some((name, key, value))
        })
        .collect();
    found.sort();
    found
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.into(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(ConfigError::TooLarge { path: path.into(), limit_bytes: MAX_BYTES });
    }
    Ok(text)
}

fn build<T: DeserializeOwned>(mut tree: Tree) -> Result<T, ConfigError> {
    loop {
        let result: Result<T, _> = serde_path_to_error::deserialize(Value::Table(tree.table.clone()));
        let error = match result {
            Ok(config) => return Ok(config),
            Err(error) => error,
        };
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        let message = error.inner().message().trim().to_owned();
        // `--set name=7` means the text 7 where a text is wanted. Each round turns one value into its text.
        if message.contains("expected a string") && tree.as_string(&path) {
            continue;
        }
        return Err(invalid(&tree, path, message));
    }
}

fn invalid(tree: &Tree, key: String, message: String) -> ConfigError {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let (written, suggestion) = match quoted.as_slice() {
        [written, known @ ..] if message.starts_with("unknown ") => (*written, nearest(written, known)),
        _ => ("", None),
    };
    // A key at the top is in the message already.
    let message = if key == written { message } else { format!("`{key}`: {message}") };
    ConfigError::Invalid { origin: tree.origin(&key), key, message, suggestion }
}

/// The known word that was probably meant: at most a third of its letters differ.
fn nearest(written: &str, known: &[&str]) -> Option<String> {
    let distance = |word: &str| strsim::damerau_levenshtein(written, word);
    let best = known.iter().min_by_key(|word| distance(word))?;
    (distance(best) <= (best.chars().count() / 3).max(1)).then(|| (*best).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_near() {
        assert_eq!(nearest("wrokers", &["gpu", "workers"]).as_deref(), Some("workers"));
        assert_eq!(nearest("lr", &["l", "epochs"]).as_deref(), Some("l"));
        assert_eq!(nearest("colour", &["epochs", "workers"]), None);
        assert_eq!(nearest("x", &[]), None);
    }

    #[test]
    fn variables_have_the_whole_prefix() {
        let env = ["AIR_TRAIN_A__B", "AIR_TRAINER", "AIR_TRAIN", "OTHER", "AIR_LOG", "AIR_TRAIN_Z"]
            .map(|name| (name.to_owned(), "1".to_owned()));
        let keys =
            |prefix| variables(prefix, env.clone()).into_iter().map(|(_, key, _)| key).collect::<Vec<_>>();
        assert_eq!(keys("AIR_TRAIN"), ["a__b", "z"]);
        assert_eq!(keys("AIR"), ["train", "trainer", "train_a__b", "train_z"]);
    }
}
