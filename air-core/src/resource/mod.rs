//! Who may use how much of the machine.
//!
//! A [`ResourcePool`] keeps the books: [`acquire`](ResourcePool::acquire) asks for [`Resources`] and gets a [`Lease`], which gives them
//! back when it is dropped; [`place`](ResourcePool::place) asks for several bundles at once and gets a [`PlacementGroup`].
//!
//! ```
//! use air_core::resource::{Placement, Resources};
//! use air_core::{Runtime, RuntimeConfig};
//!
//! let machine = Resources::new().cpu(4.0).gpu(1.0);
//! let runtime = Runtime::with(RuntimeConfig::default().resources(machine))?;
//! // Four shares of a quarter fit on one device.
//! let quarter = || runtime.acquire(Resources::new().gpu(0.25)).wait();
//! let leases = [quarter()?, quarter()?, quarter()?, quarter()?];
//! assert!(leases.iter().all(|lease| lease.devices() == leases[0].devices()));
//! // A fifth would wait; two devices can never be had, and are refused at once.
//! assert!(runtime.acquire(Resources::new().gpu(0.25)).now().is_err());
//! assert!(runtime.acquire(Resources::new().gpu(2.0)).wait().is_err());
//! // All bundles, or none.
//! let group = runtime.place(Placement::Pack, &[Resources::new().cpu(1.0), Resources::new().cpu(3.0)]).wait()?;
//! assert_eq!(group.bundles(), 2);
//! # Ok::<(), air_core::BoxError>(())
//! ```
//!
//! | file | idea |
//! |---|---|
//! | `request`, `amount` | what is asked for, counted exactly |
//! | `node` | what of one node is free, and which devices a request would get |
//! | `place` | where bundles go |
//! | `ledger` | all nodes |
//! | `fair` | who comes next |
//! | `broker` | ledger and queue together; up to here there is no clock, no thread and no lock |
//! | `pool`, `acquire`, `lease`, `group` | the same for threads and futures |
//! | `detect` | what the machine has |
//! | `report` | what it looks like now, as plain data |
//!
//! Invariants:
//!
//! 1. What is free and what is held add up to what there is, exactly.
//! 2. A share of a GPU lies on one device; whole GPUs are distinct devices that nobody else has a share of.
//! 3. Everything that is asked for at once is granted at once, or nothing of it.
//! 4. A request is overtaken a bounded number of times while it is the one that has waited longest, so none starves.
//! 5. A request that can never be granted is refused at once; a runtime that ends refuses whoever waits.

mod acquire;
mod amount;
mod broker;
#[cfg(test)]
mod broker_tests;
mod detect;
mod error;
mod fair;
mod group;
mod lease;
mod ledger;
#[cfg(test)]
mod ledger_tests;
mod node;
mod place;
mod pool;
mod report;
mod request;

pub use acquire::Acquire;
pub use error::ResourceError;
pub use group::PlacementGroup;
pub use lease::Lease;
pub(crate) use lease::Share;
pub use place::Placement;
pub use pool::ResourcePool;
pub use report::{DeviceShare, Held, ResourceState, WaitingRequest};
pub use request::Resources;
