//! Integration tests, one file per area.
#![allow(clippy::unwrap_used)]

mod networks;
#[cfg(unix)]
mod process;
mod quickstart;
mod recurrent;
mod tabular;
mod trainer;
