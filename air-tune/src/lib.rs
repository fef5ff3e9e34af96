//! Hyper-parameter search: a space of configurations, something to tune, and the best of many trials.
//!
//! ```
//! use air_tune::space::{Space, choice, grid};
//! use air_tune::{Mode, TuneConfig, Tuner};
//!
//! let space = Space::new().with("a", grid([0.001, 0.01, 0.1, 1.0])).with("b", choice([1, 2, 3]));
//! let results = Tuner::new(space, |trial, config| {
//!     let score = config.f64("a")?.powi(2) + config.f64("b")?;
//!     let _ = trial.report(&[("score", score)])?;
//!     Ok(())
//! })
//! .tune_config(TuneConfig { metric: "score".into(), mode: Mode::Min, ..TuneConfig::default() })
//! .fit()?;
//!
//! println!("{results}");
//! println!("best: {:?}", results.best()?.config);
//! assert_eq!(results.len(), 4);
//! # Ok::<(), air_tune::TuneError>(())
//! ```
//!
//! # Map
//! - [`space`]: what to search: domains, nested and conditional parameters, constraints, their text form; [`Tuner::define`] needs none: a trial names its
//!   parameters where it uses them.
//! - [`search`]: searchers propose configurations (grid, random, quasi-random, TPE, CMA-ES, Gaussian process, differential evolution, NSGA-II,
//!   BOHB); [`schedule`]: schedulers stop the hopeless early,
//!   pause trials, clone them, and give them more of the machine. Both are pure traits, and [`testing`]
//!   holds the suites that every implementation passes.
//! - [`stop`]: stoppers say when a trial, or the experiment, is complete.
//! - [`Tuner`] with [`TuneConfig`] and [`RunConfig`] runs an experiment; [`Trial`] is what the code in a trial sees; [`ResultGrid`] is what
//!   comes out.
//! - [`storage`]: one SQLite database an experiment, in Optuna's schema. [`log`]: callbacks, CSV, JSON lines, TensorBoard, Weights &
//!   Biases, MLflow.
//! - [`command`]: any command as a trial; [`cli`]: the `air-tune` binary.
//!
//! # Invariants
//! 1. What a callback is told has been committed: a trial shown as finished is never lost nor run again, whenever the process dies.
//! 2. One seed, one search: configurations depend on the seed, the trial's number, the parameter's path and, with searchers that learn, on what had
//!    ended by then, in which order. An interrupted experiment goes on with the configurations it would have had.
//! 3. Searchers, schedulers and the controller have no clock, thread, I/O or hidden randomness; a resumption replays them.
//! 4. A trial that errs, panics or is killed is recorded with its cause; its slot goes on.
//! 5. Memory per trial is bounded: configuration, last report, outcome. Reports are in the store, not in memory.
//! 6. One process runs an experiment at a time; any number may read it meanwhile.
//! 7. No process of a command trial outlives us.

pub mod cli;
pub mod command;
mod config;
mod controller;
mod error;
mod keep;
pub mod log;
mod report;
mod result;
pub mod schedule;
pub mod search;
mod slots;
pub mod space;
pub mod stop;
pub mod storage;
mod study;
mod suggest;
pub mod testing;
mod trial;
mod tuner;
mod values;

pub use config::Config;
pub use controller::Status;
pub use error::{Cause, Result, TuneError};
pub use result::{ResultGrid, TrialResult};
pub use search::Mode;
pub use suggest::{Suggest, Suggested};
pub use trial::{Signal, Trainable, Trial};
pub use tuner::{FailureConfig, Objective, RunConfig, TuneConfig, Tuner};
pub use values::Values;

/// Number of a trial within its experiment, from 0 in the order they were asked.
pub type TrialId = u64;
