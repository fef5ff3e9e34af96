//! [`Leases`]: what tasks ask of the runtime's resources.

use std::sync::Arc;

use crate::resource::{Lease, ResourceError, ResourcePool, Resources};

/// The runtime's resources, as tasks see them. They are found out when the first task asks for some.
pub(super) struct Leases {
    pool: ResourcePool,
}

impl Leases {
    pub(super) fn new(pool: ResourcePool) -> Self {
        Self { pool }
    }

    /// Tells when the resources are granted or refused, which may be at once.
    pub(super) fn when_free(
        &self,
        owner: Arc<str>,
        resources: &Resources,
        tell: impl FnOnce(Result<Lease, ResourceError>) + Send + 'static,
    ) {
        self.pool.when_free(owner, resources, 1, tell);
    }

    /// The runtime ends: whoever waits is refused.
    pub(super) fn close(&self) {
        self.pool.close();
    }
}
