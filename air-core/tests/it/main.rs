//! The integration tests of `air-core`, one file per area.

mod checkpoint;
mod collective;
mod collective_loom;
mod metrics;
mod storage;
