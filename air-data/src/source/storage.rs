//! [`StorageConfig`]: how object stores are reached; and a store made accordingly.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use object_store::ObjectStore;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::error::{DataError, Result};

/// What the names of settings in the environment begin with.
const FAMILIES: [&str; 3] = ["aws_", "google_", "azure_"];

/// How object stores are reached.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageConfig {
    /// Settings of the stores under the names of the environment's variables, in lower case, which they take the place of: credentials
    /// (`aws_access_key_id`, `aws_secret_access_key`), `aws_region`, `aws_endpoint` (with `http://`, without TLS), `aws_virtual_hosted_style_request`,
    /// `aws_skip_signature` for public buckets; `google_service_account`, `google_skip_signature`; `azure_storage_account_name`,
    /// `azure_storage_account_key`, `azure_skip_signature`; `timeout` and `connect_timeout` of requests (`30s`). Their values are never printed.
    pub options: BTreeMap<String, String>,
    /// How often a request is tried again that was refused for load, met a broken connection or failed inside the store. The waits double, from a
    /// tenth of a second to 15.
    pub max_retries: usize,
    /// How long after the first try a request is tried again, at most.
    pub retry_timeout: Duration,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self { options: BTreeMap::new(), max_retries: 10, retry_timeout: Duration::from_mins(3) }
    }
}

impl fmt::Debug for StorageConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorageConfig")
            .field("options", &self.options.keys())
            .field("max_retries", &self.max_retries)
            .field("retry_timeout", &self.retry_timeout)
            .finish()
    }
}

impl StorageConfig {
    /// Checks that every option is one that a store knows.
    ///
    /// # Errors
    /// [`DataError::Config`] names the first that is not.
    pub fn validate(&self) -> Result<()> {
        match self.options.keys().find(|name| !stores::knows(name)) {
            Some(unknown) => Err(DataError::Config {
                field: "storage.options",
                reason: format!("no store has a setting `{unknown}`; such as aws_region or aws_endpoint"),
            }),
            None => Ok(()),
        }
    }

    /// The store that holds `url`.
    pub(super) fn open(&self, url: &Url) -> object_store::Result<Box<dyn ObjectStore>> {
        // Not `vars`, which panics over text that is not UTF-8, whoever set it.
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| {
                Some((name.into_string().ok()?.to_ascii_lowercase(), value.into_string().ok()?))
            })
            .filter(|(name, _)| FAMILIES.iter().any(|family| name.starts_with(family)));
        let mut settings: BTreeMap<String, String> = environment.collect();
        settings.extend(self.options.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())));
        // Who writes `http://` means it.
        let plain = url.scheme() == "http"
            || settings.iter().any(|(name, value)| name.contains("endpoint") && value.starts_with("http://"));
        if plain && !settings.keys().any(|name| name.ends_with("allow_http")) {
            settings.insert("allow_http".to_owned(), "true".to_owned());
        }
        stores::open(url, &settings, self)
    }
}

#[cfg(feature = "cloud")]
mod stores {
    use std::collections::BTreeMap;

    use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
    use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
    use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
    use object_store::http::HttpBuilder;
    use object_store::{ClientConfigKey, ObjectStore, ObjectStoreScheme, Result, RetryConfig};
    use url::{Position, Url};

    use super::StorageConfig;

    pub(super) fn knows(name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        name.parse::<AmazonS3ConfigKey>().is_ok()
            || name.parse::<GoogleConfigKey>().is_ok()
            || name.parse::<AzureConfigKey>().is_ok()
            || name.parse::<ClientConfigKey>().is_ok()
    }

    pub(super) fn open(
        url: &Url,
        settings: &BTreeMap<String, String>,
        config: &StorageConfig,
    ) -> Result<Box<dyn ObjectStore>> {
        let retry = RetryConfig {
            max_retries: config.max_retries,
            retry_timeout: config.retry_timeout,
            ..RetryConfig::default()
        };
        // Each store takes the settings that it knows.
        macro_rules! build {
            ($builder:ty, $url:expr) => {{
                let builder = settings.iter().fold(
                    <$builder>::new().with_url($url),
                    |builder, (name, value)| match name.parse() {
                        Ok(key) => builder.with_config(key, value),
                        Err(_) => builder,
                    },
                );
                Box::new(builder.with_retry(retry).build()?)
            }};
        }
        let (scheme, _) = ObjectStoreScheme::parse(url)?;
        Ok(match scheme {
            ObjectStoreScheme::AmazonS3 => build!(AmazonS3Builder, url.as_str()),
            ObjectStoreScheme::GoogleCloudStorage => build!(GoogleCloudStorageBuilder, url.as_str()),
            ObjectStoreScheme::MicrosoftAzure => build!(MicrosoftAzureBuilder, url.as_str()),
            ObjectStoreScheme::Http => build!(HttpBuilder, &url[..Position::BeforePath]),
            _ => object_store::parse_url(url)?.0,
        })
    }
}

#[cfg(not(feature = "cloud"))]
mod stores {
    use std::collections::BTreeMap;

    use object_store::{ObjectStore, Result};
    use url::Url;

    pub(super) fn knows(_: &str) -> bool {
        false
    }

    pub(super) fn open(
        url: &Url,
        _: &BTreeMap<String, String>,
        _: &super::StorageConfig,
    ) -> Result<Box<dyn ObjectStore>> {
        Ok(object_store::parse_url(url)?.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn with(name: &str, value: &str) -> StorageConfig {
        let options = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        StorageConfig { options, ..StorageConfig::default() }
    }

    #[test]
    #[cfg(feature = "cloud")]
    fn a_setting_that_no_store_has_is_named() {
        for name in
            ["aws_region", "AWS_ENDPOINT", "google_skip_signature", "azure_storage_account_name", "timeout"]
        {
            assert!(with(name, "x").validate().is_ok(), "{name}");
        }
        let error = with("aws_regoin", "x").validate().unwrap_err().to_string();
        assert!(error.contains("storage.options") && error.contains("`aws_regoin`"), "{error}");
    }

    #[test]
    fn secrets_are_not_printed() {
        let shown = format!("{:?}", with("aws_secret_access_key", "hunter2"));
        assert!(shown.contains("aws_secret_access_key") && !shown.contains("hunter2"), "{shown}");
    }
}
