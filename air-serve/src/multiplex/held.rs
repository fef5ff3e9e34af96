//! What others see of the models that a replica holds.

use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::metrics::LoadMetrics;

/// The models of one replica.
#[derive(Default)]
pub struct Held {
    ids: Mutex<Vec<Arc<str>>>,
    metrics: OnceLock<LoadMetrics>,
}

impl Held {
    pub(crate) fn count_in(&self, metrics: LoadMetrics) {
        let _ = self.metrics.set(metrics);
    }

    /// Those it holds, and those it loads.
    pub(crate) fn ids(&self) -> Vec<Arc<str>> {
        self.ids.lock().clone()
    }

    /// It is going to hold that one too.
    pub(crate) fn expect(&self, id: &Arc<str>) {
        let mut ids = self.ids.lock();
        if !ids.contains(id) {
            ids.push(Arc::clone(id));
        }
    }

    pub(super) fn set(&self, ids: Vec<Arc<str>>) {
        *self.ids.lock() = ids;
    }

    pub(super) fn hit(&self) {
        if let Some(metrics) = self.metrics.get() {
            metrics.hits.inc();
        }
    }

    pub(super) fn loaded(&self, well: bool) {
        if let Some(metrics) = self.metrics.get() {
            let counter = if well { &metrics.loads } else { &metrics.failures };
            counter.inc();
        }
    }

    pub(super) fn evicted(&self) {
        if let Some(metrics) = self.metrics.get() {
            metrics.evictions.inc();
        }
    }
}
