//! The ground the AIR libraries stand on: a runtime of supervised workers, channels, tensors, devices,
//! collectives, storage, checkpoints, metrics, seeds and configuration.

mod actor;
pub mod app;
pub mod awake;
pub mod bench;
pub mod channel;
pub mod checkpoint;
pub mod cli;
pub mod clock;
pub mod collective;
pub mod config;
pub mod data;
pub mod device;
pub mod error;
pub mod events;
pub mod log;
pub mod metrics;
pub mod object;
pub mod process;
pub mod report;
pub mod resource;
mod runtime;
pub mod seed;
pub mod state;
pub mod storage;
pub mod task;
pub mod team;
pub mod tensor;
pub mod trace;
pub mod wire;

pub use actor::{
    AsCompleted, AskError, Backoff, Concurrently, Counters, Cx, DeadLetter, Ended, Exit, ExitRecord,
    ExitState, Group, GroupSpec, Handle, HandleAsync, HandleBatch, InBatches, LeftBehind, Mailbox, Map,
    Message, OneByOne, Pending, Rank, Reason, Restart, SendError, Spec, Strategy, Supervisor, SupervisorSpec,
    Takes, Timer, Worker, WorkerPhase, WorkerState, block_on,
};
pub use clock::{Clock, ManualClock};
pub use error::{BoxError, CoreError, Result};
pub use object::{Object, ObjectError};
pub use runtime::{Runtime, RuntimeConfig, RuntimeHandle};
