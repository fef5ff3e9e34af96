//! The algorithms, each one file to be read from top to bottom; what it can be told is in `config.rs` of its folder.
//!
//! | learns | from |
//! |---|---|
//! | `ppo`, `recurrent_ppo`, `multi_agent` | rollouts of the present policy, one agent or several |
//! | `impala` (and APPO), `pqn` | rollouts of many environments, played while it learns (`impala`) or without a replay buffer (`pqn`) |
//! | `dqn`, `sac`, `td3` | a replay buffer |
//! | `bc`, `marwil`, `cql`, `iql` | recorded episodes |

pub mod bc;
pub mod cql;
pub mod dqn;
pub mod impala;
pub mod iql;
pub mod marwil;
pub(crate) mod multi_agent;
pub mod ppo;
pub mod pqn;
pub mod recurrent_ppo;
pub mod sac;
pub mod td3;
