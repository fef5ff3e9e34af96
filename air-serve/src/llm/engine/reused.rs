//! How much of what was asked need not be read, because it had been.

use std::sync::OnceLock;

use crate::metrics::PrefixMetrics;

/// The counts of one deployment, over its replicas.
#[derive(Default)]
pub(crate) struct Reused {
    metrics: OnceLock<PrefixMetrics>,
}

impl Reused {
    pub(crate) fn count_in(&self, metrics: PrefixMetrics) {
        let _ = self.metrics.set(metrics);
    }

    /// So many tokens of a text; says whether they are its first.
    pub(super) fn count(&self, first: bool, tokens: usize) {
        if let Some(metrics) = self.metrics.get() {
            metrics.hits.add(first.into());
            metrics.tokens.add(tokens as u64);
        }
    }
}

impl std::fmt::Debug for Reused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reused").finish_non_exhaustive()
    }
}
