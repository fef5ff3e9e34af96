//! Playing: what acts, where it is written down, and on which threads.
//!
//! | file | idea |
//! |---|---|
//! | `task.rs` | what an algorithm is given to learn: the spaces, how observations reach the network |
//! | `actor.rs` | a network, how its outputs become an action, how it explores |
//! | `rollout.rs` | what runners fill and a learner reads |
//! | `runner.rs`, `multi_runner.rs` | environments played into a rollout, by one agent or several |
//! | `sampler.rs` | the runners of one algorithm, and the rollout they fill together |
//! | `workers.rs`, `async_workers.rs` | runners on threads of their own, in step or playing on |

pub mod actor;
pub(crate) mod async_workers;
pub(crate) mod multi_runner;
pub mod rollout;
pub mod runner;
pub(crate) mod sampler;
pub(crate) mod task;
pub(crate) mod workers;
