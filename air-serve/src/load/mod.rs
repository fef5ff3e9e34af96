//! An open-loop load generator: it sends at the rate it is told, whether or not the server keeps up.
//!
//! A closed loop (a client that sends its next request when the last was answered) asks less of a server just when the server is slow, and so
//! leaves out of its percentiles the very requests that would have waited: *coordinated omission*. Here every request has a time at which it
//! is due, and its latency counts from then, also when no connection was free.
//!
//! ```no_run
//! use air_serve::load::{LoadConfig, run};
//!
//! let mut config = LoadConfig::new("http://127.0.0.1:8000/iris");
//! config.rate = 5_000.0;
//! config.body = br#"{"vector": [1.2, 1.0, 1.1, 0.9]}"#.to_vec();
//! let report = run(&config)?;
//! println!("p99 {} ms", report.latency_ms.p99);
//! # Ok::<(), air_serve::load::LoadError>(())
//! ```
//!
//! | file | idea |
//! |---|---|
//! | `config` | what may be asked for |
//! | `target` | where to: loopback unless told otherwise |
//! | `schedule` | which request is due when: pure |
//! | `answer` | reads answers as they come in: pure |
//! | `histogram` | percentiles in fixed memory: pure |
//! | `engine` | one thread, its connections and its clock |
//! | `report` | what came of it |
//! | `command` | `air-serve load` |

mod alarm;
mod answer;
mod command;
mod config;
mod connection;
mod engine;
mod histogram;
mod report;
mod schedule;
mod target;

pub(crate) use command::Load;
pub use config::{LoadConfig, LoadError};
pub use report::{LoadReport, Percentiles, StatusReport};

/// Sends what `config` says, and blocks until every request was answered, failed or ran out of time.
pub fn run(config: &LoadConfig) -> Result<LoadReport, LoadError> {
    config.validate()?;
    let target = target::Target::find(config)?;
    engine::run(config, &target)
}
