//! Integration tests of air-rl, one file an area.
#![allow(clippy::unwrap_used)]

mod gymnasium;
mod vec_env;
