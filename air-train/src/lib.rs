//! Training: ranked workers, data parallelism, native networks, any program as a rank.

mod error;
pub mod nn;

pub use error::{Result, TrainError};
