//! The integration tests of `air-core`, one file per area.

mod actor;
mod actor_loom;
mod checkpoint;
mod collective;
mod collective_loom;
mod metrics;
mod storage;
