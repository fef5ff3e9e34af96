//! What a runtime does now: workers, resources, devices, counters, and what supervision did lately.
//!
//! [`RuntimeHandle::state`](crate::RuntimeHandle::state) gives it as a value; [`RuntimeHandle::serve_state`](crate::RuntimeHandle::serve_state)
//! serves the same on a port of this machine, off unless asked for:
//!
//! | path | what |
//! |---|---|
//! | `/state` | [`State`] as JSON |
//! | `/metrics` | every metric as text for Prometheus |
//! | `/timeline` | what was handled when, as a Chrome trace (see [`trace`](crate::trace)) |
//! | `/events` | supervision as it happens: server-sent events, the ones kept first |
//!
//! ```
//! use air_core::Runtime;
//! use air_core::state::StateConfig;
//!
//! let runtime = Runtime::start()?;
//! let server = runtime.serve_state(StateConfig::default().token("secret"))?;
//! // air-core status http://127.0.0.1:PORT --token secret
//! println!("air-core status {}", server.url());
//! assert!(runtime.state().workers.is_empty());
//! # Ok::<(), air_core::BoxError>(())
//! ```

mod answer;
pub(crate) mod client;
mod event;
mod scrape;
mod serve;
mod summary;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::actor::{Counters, LeftBehind, WorkerState};
use crate::clock::seconds;
use crate::device::DeviceReport;
use crate::object::ObjectStats;
use crate::resource::ResourceState;
use crate::task::TaskStats;

pub use event::{Event, EventKind};
pub use serve::{StateConfig, StateServer};

pub(crate) use event::Events;
pub(crate) use serve::Services;

/// Events shown in a [`State`].
pub(crate) const SHOWN: usize = 256;

/// What a runtime does now. Plain data: what `/state` serves and `air-core status` prints.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct State {
    /// When, on the runtime's clock (serialised in seconds).
    #[serde(with = "seconds")]
    pub at: Duration,
    /// Every worker that has not ended for good, in order of start.
    pub workers: Vec<WorkerState>,
    /// The last workers that have, and how, oldest first (at most 64).
    #[serde(default)]
    pub ended: Vec<WorkerState>,
    /// Lives that did not return within their limit and still have not: what they hold is not free.
    #[serde(default)]
    pub left_behind: Vec<LeftBehind>,
    /// How many tasks are under way.
    pub tasks: TaskStats,
    /// Where the bytes of objects are.
    pub objects: ObjectStats,
    /// What there is to be had, and who has it.
    pub resources: ResourceState,
    /// The devices of the machine.
    pub devices: DeviceReport,
    /// How often things went wrong.
    pub counters: Counters,
    /// The last things supervision did, oldest first (at most 256).
    pub events: Vec<Event>,
}
