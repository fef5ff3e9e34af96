//! The integration tests of `air-core`, one file per area.

mod actor;
mod actor_loom;
mod channel;
mod chaos;
mod checkpoint;
mod cli;
mod collective;
mod collective_examples;
mod collective_loom;
mod collective_lost;
mod collective_oracle;
mod config;
mod device;
mod device_work;
mod fuzz;
mod invariants;
mod loom_mutex;
mod metrics;
mod object_loom;
mod objects;
mod probe;
mod resources;
mod state;
mod storage;
mod tasks;
mod tensor;
