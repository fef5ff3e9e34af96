//! Reinforcement learning.

mod algorithm;
pub mod categorical;
mod check;
pub mod checkpoint;
pub mod cli;
mod driver;
mod env;
pub mod envs;
mod error;
pub mod gae;
mod policy;
pub mod ppo;
pub mod rng;
pub mod rollout;
pub mod runner;
mod sampler;
mod space;
mod time_limit;
mod vec_env;

pub use air_core::BoxError;
pub use algorithm::{Algorithm, Iteration, Outcome, Reason, Stop, WINDOW};
pub use check::check_env;
pub use driver::Ppo;
pub use env::{Action, Env, Step};
pub use envs::{EnvSpec, Registry};
pub use error::{Result, RlError};
pub use policy::{Played, Policy};
pub use ppo::{PpoConfig, PpoLearner, PpoStats};
pub use space::Space;
pub use time_limit::TimeLimit;
pub use vec_env::{Actions, Batch, VecEnv, Vectorized};
