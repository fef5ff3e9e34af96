//! [`PlacementGroup`]: bundles that were granted together.

use std::fmt;

use super::acquire::Acquire;
use super::error::ResourceError;
use super::lease::Lease;
use super::ledger::Ask;
use super::node::Grant;
use super::pool::ResourcePool;
use super::request::{Demand, Resources};
use crate::device::Device;

/// Bundles of resources that were granted all together; work is then given parts of them. See
/// [`RuntimeHandle::place`](crate::RuntimeHandle::place).
///
/// Dropping it gives the bundles back once no lease out of them is left.
#[must_use = "dropping a placement group gives its bundles back"]
pub struct PlacementGroup {
    pool: ResourcePool,
}

impl PlacementGroup {
    pub(super) fn new(held: Lease) -> Self {
        Self { pool: ResourcePool::of_group(held) }
    }

    /// How many bundles it has.
    pub fn bundles(&self) -> usize {
        self.grants().len()
    }

    /// A bundle's GPUs, by index; nothing where there is no such bundle.
    pub fn devices(&self, bundle: usize) -> Vec<Device> {
        let devices = self.grants().get(bundle).map_or(&[][..], |grant| &grant.devices);
        devices.iter().copied().map(Device::Cuda).collect()
    }

    /// Which node a bundle lies on; `None` where there is no such bundle. A process is one node, number 0.
    pub fn node(&self, bundle: usize) -> Option<usize> {
        self.grants().get(bundle).map(|grant| grant.node)
    }

    /// Asks for a part of one bundle.
    pub fn acquire(&self, bundle: usize, resources: Resources) -> Acquire {
        let bundles = self.bundles();
        let ask = match Demand::new(&resources) {
            Ok(_) if bundle >= bundles => Err(ResourceError::NoBundle { bundle, bundles }),
            Ok(demand) => Ok(Ask::One { demand, node: Some(bundle) }),
            Err(error) => Err(error),
        };
        Acquire::new(self.pool.clone(), ask, |lease| lease)
    }

    fn grants(&self) -> &[Grant] {
        self.pool.held().map_or(&[], Lease::grants)
    }
}

impl fmt::Debug for PlacementGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlacementGroup").field("bundles", &self.bundles()).finish_non_exhaustive()
    }
}
