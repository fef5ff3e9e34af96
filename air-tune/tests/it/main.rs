//! The crate from outside: through its public API, and through its binary.
#![allow(clippy::unwrap_used)]

mod bad;
mod binary;
mod define;
mod features;
mod kill;
mod killed;
mod loggers;
mod look;
mod objectives;
mod pause;
mod peers;
mod quickstart;
mod resume;
mod support;
mod trials;
