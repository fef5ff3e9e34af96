//! Integration tests of air-rl, one file an area.
#![allow(clippy::unwrap_used)]

mod actions;
mod asynchronous;
mod cli;
mod external;
mod guards;
mod gymnasium;
mod gymnasium_envs;
mod learning;
mod multi_agent;
mod off_policy;
mod offline;
mod parallel;
mod pixels;
mod pqn;
mod promises;
mod python;
mod recurrent;
mod repeat;
mod sweep;
mod vec_env;
mod view;
mod wrap;
