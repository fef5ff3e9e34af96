//! Reinforcement learning.

mod check;
mod env;
pub mod envs;
mod error;
pub mod gae;
pub mod rng;
mod space;
mod time_limit;
mod vec_env;

pub use air_core::BoxError;
pub use check::check_env;
pub use env::{Action, Env, Step};
pub use error::{Result, RlError};
pub use space::Space;
pub use time_limit::TimeLimit;
pub use vec_env::{Actions, Batch, VecEnv, Vectorized};
