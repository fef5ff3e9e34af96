//! The ground the AIR libraries stand on: a runtime of supervised workers, channels, tensors, devices,
//! collectives, storage, checkpoints, metrics, seeds and configuration.

pub mod channel;
pub mod checkpoint;
pub mod cli;
pub mod collective;
pub mod data;
pub mod device;
pub mod error;
pub mod log;
pub mod metrics;
pub mod seed;
pub mod storage;
pub mod tensor;
pub mod wire;

pub use error::{BoxError, CoreError, Result};
