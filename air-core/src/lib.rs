//! The ground the AIR libraries stand on: a runtime of supervised workers, channels, tensors, devices,

pub mod cli;
pub mod error;
pub mod log;
pub mod seed;

pub use error::{BoxError, CoreError, Result};
