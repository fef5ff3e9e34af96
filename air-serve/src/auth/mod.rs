//! Who may do what, and how often: API keys with scopes and rate limits. Nothing here knows HTTP beyond headers and paths.
//!
//! | file | idea |
//! |---|---|
//! | `config` | the settings: hashes of keys, never keys |
//! | `key` | a fresh key, and the hash that is kept of one |
//! | `need` | what a path needs: pure |
//! | `bucket` | how often a key may ask: pure |

mod bucket;
mod config;
mod key;
mod need;

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use parking_lot::Mutex;

pub use config::{AuthConfig, KeyConfig, Scope};
pub use key::KeyHash;
pub(crate) use key::fresh;

use bucket::Bucket;
use need::need;

/// The keys of a server.
pub(crate) struct Auth {
    keys: Vec<Key>,
}

/// A key that is known, by its hash.
pub(crate) struct Key {
    pub name: Arc<str>,
    digest: KeyHash,
    scopes: Vec<Scope>,
    bucket: Option<Mutex<Bucket>>,
}

/// Why a request is not let in.
#[derive(Debug, PartialEq)]
pub(crate) enum Refused {
    /// It carries no key.
    NoKey,
    /// It carries a key that nobody was given.
    UnknownKey,
    /// Its key is not for this.
    Scope { key: Arc<str>, needs: Scope },
    /// Its key has been used too often; there is room again after this long.
    TooMany { key: Arc<str>, retry_after: Duration },
}

impl Auth {
    /// `None` where no key is configured: everyone may do everything. The configuration has been validated.
    pub(crate) fn new(config: &AuthConfig) -> Option<Self> {
        let key = |key: &KeyConfig| Key {
            name: key.name.as_str().into(),
            digest: key.sha256,
            scopes: key.scopes.clone(),
            bucket: key.rate_per_s.map(|rate| Mutex::new(Bucket::new(rate, key.burst()))),
        };
        (!config.keys.is_empty()).then(|| Auth { keys: config.keys.iter().map(key).collect() })
    }

    /// Whether a request may go on, and with which key; some paths are open to all.
    pub(crate) fn check(
        &self,
        path: &str,
        headers: &HeaderMap,
        now: Duration,
    ) -> Result<Option<&Key>, Refused> {
        let Some(needs) = need(path) else { return Ok(None) };
        let given = presented(headers).ok_or(Refused::NoKey)?;
        let key = self.find(&KeyHash::of(given)).ok_or(Refused::UnknownKey)?;
        if !key.scopes.contains(&needs) {
            return Err(Refused::Scope { key: Arc::clone(&key.name), needs });
        }
        if let Some(bucket) = &key.bucket {
            let taken = bucket.lock().take(now);
            taken.map_err(|retry_after| Refused::TooMany { key: Arc::clone(&key.name), retry_after })?;
        }
        Ok(Some(key))
    }

    /// Looks at every key, so that the time it takes tells nothing about any.
    fn find(&self, digest: &KeyHash) -> Option<&Key> {
        self.keys.iter().fold(None, |found, key| if key.digest.same(digest) { Some(key) } else { found })
    }
}

/// The key that a request carries: `authorization: Bearer KEY`, or `x-api-key: KEY`.
fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.as_bytes().split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
    });
    bearer.or_else(|| headers.get("x-api-key").map(|value| value.as_bytes().trim_ascii()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn auth() -> Auth {
        let key = |name: &str, scopes: &[Scope]| KeyConfig {
            name: name.into(),
            sha256: KeyHash::of(format!("{name}'s secret").as_bytes()),
            scopes: scopes.into(),
            rate_per_s: (name == "slow").then_some(0.5),
            burst: None,
        };
        let keys = vec![
            key("app", &[Scope::Predict]),
            key("slow", &[Scope::Predict]),
            key("ops", &[Scope::Admin, Scope::Metrics]),
        ];
        Auth::new(&AuthConfig { keys }).unwrap()
    }

    fn with(name: &str, value: &str) -> HeaderMap {
        let name = HeaderName::try_from(name).unwrap();
        HeaderMap::from_iter([(name, HeaderValue::try_from(value).unwrap())])
    }

    fn name(checked: Result<Option<&Key>, Refused>) -> Result<Option<&str>, Refused> {
        checked.map(|key| key.map(|key| &*key.name))
    }

    #[test]
    fn a_key_opens_what_its_scopes_say() {
        let auth = auth();
        let check = |path: &str, headers: &HeaderMap| name(auth.check(path, headers, Duration::ZERO));
        let (app, ops) = (with("authorization", "Bearer app's secret"), with("x-api-key", "ops's secret"));
        assert_eq!(check("/iris", &app), Ok(Some("app")));
        assert_eq!(check("/metrics", &app), Err(Refused::Scope { key: "app".into(), needs: Scope::Metrics }));
        assert_eq!(check("/metrics", &ops), Ok(Some("ops")));
        assert_eq!(check("/iris", &ops), Err(Refused::Scope { key: "ops".into(), needs: Scope::Predict }));
        assert_eq!(check("/api/serve/applications/", &ops), Ok(Some("ops")));
        for nobody in ["Bearer app", "Bearer app's secret2", "Bearer ", "Basic app's secret", "Bea"] {
            let refused = check("/iris", &with("authorization", nobody)).unwrap_err();
            assert!(matches!(refused, Refused::NoKey | Refused::UnknownKey), "{nobody}: {refused:?}");
            assert_eq!(check("/-/healthz", &with("authorization", nobody)), Ok(None));
        }
        assert_eq!(check("/iris", &with("authorization", "bearer  app's secret ")), Ok(Some("app")));
    }

    #[test]
    fn a_key_that_is_used_too_often_has_to_wait() {
        let auth = auth();
        let slow = with("x-api-key", "slow's secret");
        let at = |ms| name(auth.check("/iris", &slow, Duration::from_millis(ms)));
        assert_eq!(at(0), Ok(Some("slow")));
        let wait = Refused::TooMany { key: "slow".into(), retry_after: Duration::from_millis(1500) };
        assert_eq!(at(500), Err(wait));
        assert_eq!(at(2000), Ok(Some("slow")));
    }

    #[test]
    fn without_keys_there_is_nothing_to_check() {
        assert!(Auth::new(&AuthConfig::default()).is_none());
    }
}
