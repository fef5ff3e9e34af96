//! The keys of a server: their hashes, what each is for, and how often it may be used.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::key::KeyHash;
use crate::error::ServeError;

/// More keys than this are a matter for a gateway.
const MOST_KEYS: usize = 1024;

/// Who may use a server (default: everyone who reaches it).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct AuthConfig {
    /// The API keys; with one or more of them, a request needs one. Health stays open.
    pub keys: Vec<KeyConfig>,
}

/// An API key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyConfig {
    /// Whose it is, for messages and logs.
    pub name: String,
    /// The SHA-256 of the key, in hexadecimal; `air-serve key new` makes both.
    pub sha256: KeyHash,
    /// What it is for (default: predictions).
    #[serde(default = "predict")]
    pub scopes: Vec<Scope>,
    /// Requests a second it may make in the long run (default: as many as it likes).
    #[serde(default)]
    pub rate_per_s: Option<f64>,
    /// Requests it may make at once after a pause (default: those of a second, at least 1).
    #[serde(default)]
    pub burst: Option<u32>,
}

fn predict() -> Vec<Scope> {
    vec![Scope::Predict]
}

/// What a key is for. No scope contains another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Routes, and what describes them.
    Predict,
    /// The metrics and the status page.
    Metrics,
    /// Whatever changes what is served.
    Admin,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scope::Predict => "predict",
            Scope::Metrics => "metrics",
            Scope::Admin => "admin",
        })
    }
}

impl KeyConfig {
    pub(crate) fn burst(&self) -> f64 {
        self.burst.map_or_else(|| self.rate_per_s.unwrap_or(1.0).ceil(), f64::from).max(1.0)
    }
}

impl AuthConfig {
    /// Checks every key.
    pub fn validate(&self) -> Result<(), ServeError> {
        if self.keys.len() > MOST_KEYS {
            let got = self.keys.len();
            return Err(ServeError::config(format!(
                "there are {got} API keys, at most {MOST_KEYS} are kept"
            )));
        }
        for (index, key) in self.keys.iter().enumerate() {
            let before = &self.keys[..index];
            let bad = |what: &str| Err(ServeError::config(format!("the API key `{}` {what}", key.name)));
            if key.name.is_empty() || key.name.len() > 64 || key.name.chars().any(char::is_control) {
                return bad("needs a name of 1 to 64 printable characters");
            }
            if before.iter().any(|other| other.name == key.name) {
                return bad("is there twice");
            }
            if before.iter().any(|other| other.sha256 == key.sha256) {
                return bad("has the hash of another key");
            }
            if key.scopes.is_empty() {
                return bad("has no scopes, so it opens nothing; give it predict, metrics or admin");
            }
            if key.rate_per_s.is_some_and(|rate| !(1e-6..=1e9).contains(&rate)) {
                return bad("has a rate_per_s that is not between 0.000001 and 1000000000");
            }
            if key.burst.is_some() && key.rate_per_s.is_none() {
                return bad("has a burst but no rate_per_s");
            }
            if key.burst == Some(0) {
                return bad("has a burst of 0, it must be at least 1");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn config(keys: &str) -> Result<AuthConfig, String> {
        let config: AuthConfig = toml::from_str(keys).map_err(|error| error.to_string())?;
        config.validate().map_err(|error| error.to_string())?;
        Ok(config)
    }

    #[test]
    fn a_key_is_for_predictions_unless_it_says_otherwise() {
        let hash = KeyHash::of(b"x");
        let read =
            config(&format!("[[keys]]\nname = \"app\"\nsha256 = \"{hash}\"\nrate_per_s = 2.5\n")).unwrap();
        assert_eq!(read.keys[0].scopes, [Scope::Predict]);
        assert_eq!(read.keys[0].burst(), 3.0);
    }

    #[test]
    fn bad_keys_are_named() {
        let hash = KeyHash::of(b"x");
        let key = |rest: &str| config(&format!("[[keys]]\nname = \"app\"\nsha256 = \"{hash}\"\n{rest}\n"));
        for (rest, says) in [
            ("scopes = []", "`app` has no scopes"),
            ("scopes = [\"root\"]", "unknown variant `root`"),
            ("rate_per_s = 0", "rate_per_s that is not between"),
            ("rate_per_s = -1", "rate_per_s that is not between"),
            ("rate_per_s = nan", "rate_per_s that is not between"),
            ("burst = 3", "a burst but no rate_per_s"),
            ("rate_per_s = 1\nburst = 0", "burst of 0"),
            ("key = \"secret\"", "unknown field `key`"),
            (
                &format!("[[keys]]\nname = \"app\"\nsha256 = \"{}\"", KeyHash::of(b"y")),
                "`app` is there twice",
            ),
            (&format!("[[keys]]\nname = \"b\"\nsha256 = \"{hash}\""), "`b` has the hash of another key"),
        ] {
            let error = key(rest).unwrap_err();
            assert!(error.contains(says), "{rest}: {error}");
        }
        assert!(
            config("[[keys]]\nname = \"\"\nsha256 = \"00\"").unwrap_err().contains("64 hexadecimal digits")
        );
    }
}
