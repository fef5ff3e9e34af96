//! [`Stores`]: one object store for each place that paths name, made on first use.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::{DataFusionError, Result};
use datafusion::execution::object_store::ObjectStoreRegistry;
use object_store::ObjectStore;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use url::Url;

use super::local::Local;
use super::location::Kind;
use super::remote::Remote;
use super::storage::StorageConfig;

/// The stores in use.
pub(crate) struct Stores {
    io: Handle,
    config: StorageConfig,
    local: Arc<dyn ObjectStore>,
    remote: Mutex<HashMap<String, Arc<dyn ObjectStore>>>,
}

impl std::fmt::Debug for Stores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stores").finish_non_exhaustive()
    }
}

impl Stores {
    pub(crate) fn new(io: Handle, config: StorageConfig) -> Self {
        Self { io, config, local: Arc::new(Local::new()), remote: Mutex::default() }
    }

    /// The store that holds `url`, or why there is none.
    pub(crate) fn get(&self, url: &Url) -> std::result::Result<Arc<dyn ObjectStore>, String> {
        if url.scheme() == "file" {
            return Ok(self.local.clone());
        }
        let key = key(url);
        if let Some(store) = self.remote.lock().get(&key) {
            return Ok(store.clone());
        }
        let kind = Kind::of(url)?;
        let store = self.config.open(url).map_err(|e| e.to_string())?;
        // A web server lists in no particular order.
        let tries = if kind == Kind::Web { 0 } else { self.config.max_retries };
        let store: Arc<dyn ObjectStore> = Arc::new(Remote::new(store, self.io.clone(), tries));
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
        self.get(url).map_err(|reason| DataFusionError::External(reason.into()))
    }
}
