//! The language models that a server has, by name.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use serde_json::{Value, json};

use super::fault::Fault;
use crate::app::handle_of;
use crate::deploy::{DeploymentHandle, Running};
use crate::error::ServeError;
use crate::llm::engine::{LlmEvent, LlmRequest};
use crate::llm::model::{Inner, Llm};
use crate::metrics::Metrics;
use crate::stream::Items;

/// A model that is served.
pub(crate) struct Served {
    pub name: Arc<str>,
    pub inner: Arc<Inner>,
    pub handle: DeploymentHandle<LlmRequest, Items<LlmEvent>>,
    /// Seconds since 1970.
    created: u64,
}

/// All of them. Replaced as a whole, never changed.
#[derive(Default)]
pub(crate) struct Models {
    all: ArcSwap<Vec<Arc<Served>>>,
}

impl Served {
    /// What the API reaches of a deployment.
    pub(crate) fn new(llm: &Llm, running: &dyn Running, metrics: &Metrics) -> Result<Self, ServeError> {
        if !llm.is_encoder() {
            llm.reused().count_in(metrics.prefixes(running.name())?);
        }
        Ok(Served {
            name: Arc::clone(running.name()),
            inner: Arc::clone(llm.inner()),
            handle: handle_of(running)?,
            created: now(),
        })
    }

    pub(super) fn object(&self) -> Value {
        json!({
            "id": &*self.name, "object": "model", "created": self.created, "owned_by": "air-serve",
            "max_model_len": self.inner.context,
        })
    }
}

impl Models {
    /// Replaces all; gives those before, which requests may still hold.
    pub(crate) fn declare(&self, models: Vec<Served>) -> Vec<Arc<Served>> {
        let before = self.all.swap(Arc::new(models.into_iter().map(Arc::new).collect()));
        before.iter().cloned().collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.load().is_empty()
    }

    pub(super) fn all(&self) -> Arc<Vec<Arc<Served>>> {
        self.all.load_full()
    }

    pub(super) fn find(&self, name: &str) -> Result<Arc<Served>, Fault> {
        let all = self.all();
        all.iter().find(|model| &*model.name == name).cloned().ok_or_else(|| {
            let names: Vec<_> = all.iter().map(|model| &*model.name).collect();
            let shown: String = name.chars().take(128).collect();
            let message = format!("there is no model `{shown}`; there are: {}", names.join(", "));
            Fault::bad("model", message).status(404).code("model_not_found")
        })
    }
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
