//! [`Lease`]: what was granted; dropping it gives it back.

use std::fmt;
use std::sync::Arc;

use super::error::Owner;
use super::node::Grant;
use super::pool::ResourcePool;
use super::request::{Demand, Resources};
use crate::device::Device;

/// Resources that are yours until this is dropped.
#[must_use = "dropping a lease gives the resources back"]
pub struct Lease {
    pool: ResourcePool,
    owner: Owner,
    grants: Vec<Grant>,
}

impl Lease {
    pub(super) fn new(pool: ResourcePool, owner: Owner, grants: Vec<Grant>) -> Self {
        Self { pool, owner, grants }
    }

    /// What was granted.
    pub fn resources(&self) -> Resources {
        let mut sum = Demand::default();
        self.grants.iter().for_each(|grant| sum.add(&grant.demand));
        sum.resources()
    }

    /// Its GPUs, by index; of a share, the one device it lies on. Work under this lease uses these and no others.
    pub fn devices(&self) -> Vec<Device> {
        let mut devices: Vec<usize> =
            self.grants.iter().flat_map(|grant| grant.devices.iter().copied()).collect();
        devices.sort_unstable();
        devices.dedup();
        devices.into_iter().map(Device::Cuda).collect()
    }

    pub(super) fn pool(&self) -> &ResourcePool {
        &self.pool
    }

    pub(super) fn grants(&self) -> &[Grant] {
        &self.grants
    }
}

/// One bundle of a lease that several workers hold together; the lease ends with the last of them.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    lease: Arc<Lease>,
    bundle: usize,
}

impl Share {
    pub(crate) fn new(lease: Arc<Lease>, bundle: usize) -> Self {
        Self { lease, bundle }
    }

    /// What the bundle has.
    pub(crate) fn resources(&self) -> Resources {
        self.lease.grants.get(self.bundle).map_or_else(Resources::new, |grant| grant.demand.resources())
    }

    /// The bundle's GPUs, by index.
    pub(crate) fn devices(&self) -> Vec<Device> {
        let devices = self.lease.grants.get(self.bundle).map_or(&[][..], |grant| &grant.devices);
        devices.iter().copied().map(Device::Cuda).collect()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.give_back(&self.owner, &self.grants);
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("resources", &self.resources().to_string())
            .field("devices", &self.devices())
            .finish_non_exhaustive()
    }
}
