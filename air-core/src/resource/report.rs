//! What a pool looks like now, as plain data.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Resources;
use super::broker::Broker;
use super::ledger::Ask;
use crate::clock::seconds;
use crate::device::Device;

/// Waiting requests that are listed one by one; all are counted.
const LISTED: usize = 100;

/// What there is, what is free, who holds, who waits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ResourceState {
    /// All there is.
    pub total: Resources,
    /// What nobody holds.
    pub free: Resources,
    /// The GPUs, by index.
    pub devices: Vec<DeviceShare>,
    /// Who holds what, by owner.
    pub held: Vec<Held>,
    /// Requests that wait, the one that has waited longest first (at most 100).
    pub waiting: Vec<WaitingRequest>,
    /// How many wait in all.
    pub waiting_requests: usize,
}

/// What of one GPU is free.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeviceShare {
    /// The device.
    pub device: Device,
    /// What of it nobody holds, from 0 to 1.
    pub free: f64,
}

/// What one owner holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Held {
    /// The label given with the request, if one was.
    pub owner: Option<String>,
    /// What it holds.
    pub resources: Resources,
    /// In how many leases.
    pub leases: usize,
}

/// A request that waits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WaitingRequest {
    /// The label given with the request, if one was.
    pub owner: Option<String>,
    /// What it asks for, of a placement group all bundles together.
    pub resources: Resources,
    /// The bundles of a placement group; 0 for any other request.
    pub bundles: usize,
    /// How long it has waited (serialised in seconds).
    #[serde(with = "seconds")]
    pub waited: Duration,
    /// What it waits for.
    pub reason: String,
}

impl ResourceState {
    pub(super) fn of(broker: &Broker, now: Duration) -> Self {
        let label = |owner: &super::error::Owner| owner.as_deref().map(str::to_owned);
        let mut held: Vec<_> = broker
            .held()
            .map(|(owner, held, leases)| Held { owner: label(owner), resources: held.resources(), leases })
            .collect();
        held.sort_by(|a, b| a.owner.cmp(&b.owner));
        let waiting = broker.queue.iter().take(LISTED).map(|(waiting, since)| WaitingRequest {
            owner: label(&waiting.owner),
            resources: waiting.ask.sum().resources(),
            bundles: match &waiting.ask {
                Ask::Gang { bundles, .. } => bundles.len(),
                Ask::One { .. } => 0,
            },
            waited: now.saturating_sub(since),
            reason: broker.ledger.lacks(&waiting.ask),
        });
        let device = |(index, free)| DeviceShare { device: Device::Cuda(index), free };
        Self {
            total: broker.total().resources(),
            free: broker.ledger.free().resources(),
            devices: broker.ledger.devices().map(device).collect(),
            held,
            waiting: waiting.collect(),
            waiting_requests: broker.queue.len(),
        }
    }
}
