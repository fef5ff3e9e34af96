//! [`Stores`]: one object store for each place that paths name, made on first use.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::{DataFusionError, Result};
use datafusion::execution::object_store::ObjectStoreRegistry;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use url::Url;

/// The stores in use. Credentials come from the environment: `AWS_*`, `GOOGLE_*`, `AZURE_*`.
pub(crate) struct Stores {
    io: Handle,
    local: Arc<dyn ObjectStore>,
    remote: Mutex<HashMap<String, Arc<dyn ObjectStore>>>,
}

impl std::fmt::Debug for Stores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stores").finish_non_exhaustive()
    }
}

impl Stores {
    pub(crate) fn new(io: Handle) -> Self {
        Self { io, local: Arc::new(LocalFileSystem::new()), remote: Mutex::default() }
    }

    /// The store that holds `url`.
    pub(crate) fn get(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        if url.scheme() == "file" {
            return Ok(self.local.clone());
        }
        let key = key(url);
        if let Some(store) = self.remote.lock().get(&key) {
            return Ok(store.clone());
        }
        let mut options: Vec<(String, String)> = std::env::vars()
            .map(|(name, value)| (name.to_ascii_lowercase(), value))
            .filter(|(name, _)| ["aws_", "google_", "azure_"].iter().any(|prefix| name.starts_with(prefix)))
            .collect();
        if url.scheme() == "http" {
            options.push(("allow_http".to_owned(), "true".to_owned()));
        }
        let (store, _) = object_store::parse_url_opts(url, options)
            .map_err(|e| DataFusionError::ObjectStore(Box::new(e)))?;
        let store: Arc<dyn ObjectStore> = Arc::new(super::remote::Remote::new(store, self.io.clone()));
        self.remote.lock().insert(key, store.clone());
        Ok(store)
    }
}

fn key(url: &Url) -> String {
    url[..url::Position::BeforePath].to_owned()
}

impl ObjectStoreRegistry for Stores {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.remote.lock().insert(key(url), store)
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        self.get(url)
    }
}
