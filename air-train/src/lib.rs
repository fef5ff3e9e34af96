//! Training: ranked workers, data parallelism, native networks, any program as a rank.
//!
//! A training function runs on N workers. Each knows its rank; a model that passed through
//! [`prepare_model`](TrainContext::prepare_model) starts from rank 0's parameters and averages its gradients over all ranks; a
//! loader that passed through [`prepare_data_loader`](TrainContext::prepare_data_loader) yields the rank's own shard. When a rank
//! fails, the others are stopped at once and all start again from the last complete checkpoint.
//!
//! ```
//! use air_train::nn::{Mlp, MlpConfig, Sgd, mse};
//! use air_train::{BoxError, ScalingConfig, TrainContext, Trainer};
//!
//! fn train(ctx: &mut TrainContext, data: &(Vec<f32>, Vec<f32>)) -> Result<(), BoxError> {
//!     let config = MlpConfig { sizes: vec![10, 15, 5], ..MlpConfig::default() }; // Linear, ReLU, Linear
//!     let mut model = ctx.prepare_model(Mlp::new(&config, ctx.seed())?)?;
//!     let (mut sgd, mut gradient) = (Sgd::new(0.1, 0.0), vec![0.0; 100]);
//!     for epoch in 0..3 {
//!         let loss = mse(model.forward(&data.0, 20)?, &data.1, &mut gradient)?;
//!         model.backward(&gradient)?;
//!         model.step(&mut sgd)?; // averages the gradients over all ranks first
//!         println!("epoch: {epoch}, loss: {loss}");
//!         ctx.report(&[("loss", f64::from(loss))])?;
//!     }
//!     Ok(())
//! }
//!
//! let data = || ((0..200).map(|i| (i as f32).sin()).collect(), (0..100).map(|i| (i as f32).cos()).collect());
//! train(&mut TrainContext::local(0)?, &data())?; // here, on one worker
//! let result = Trainer::new(train, data()).scaling(ScalingConfig::workers(4)).fit()?; // the same on four
//! assert_eq!(result.history.len(), 3);
//! # Ok::<(), BoxError>(())
//! ```
//!
//! # The code
//!
//! | module | what it holds |
//! |---|---|
//! | [`nn`] | dense networks over one flat parameter and one flat gradient buffer; losses, optimisers, kernels |
//! | `trainer`, `ranks` | the run: attempts on a group of workers until one succeeds |
//! | `context` | a training function's view of its run |
//! | `parallel` | [`DataParallel`]: gradients averaged over the ranks |
//! | `loader` | [`DataLoader`]: batches, shuffled and sharded |
//! | `failure` | [`FailurePolicy`]: what follows a failure; pure |
//! | `run` | attempts until one succeeds; reports brought to who judges them |
//! | `record` | what ranks share: reports, checkpoints, datasets |
//! | `process` | `ProcessTrainer`: any program as a rank (Unix) |
//! | [`tabular`], [`cli`] | `air-train run`: a classifier from a TOML file |
//!
//! # Invariants
//!
//! 1. One seed, one machine and one number of workers and threads give the same bits
//!    (`tests/it/networks.rs`, `tests/it/quickstart.rs`).
//! 2. A run resumed from a checkpoint of weights and optimiser equals an uninterrupted one bit for bit (`tests/it/trainer.rs`).
//! 3. After a failure nobody waits for the lost rank, and the error names the rank that failed first and why
//!    (`tests/it/trainer.rs`, `tests/it/process.rs`).
//! 4. No process of a rank outlives its run (`tests/it/process.rs`).
//! 5. Shards have equally many batches, so that no rank waits for one that has none (`loader`).

pub mod cli;
mod config;
mod context;
mod error;
mod failure;
mod loader;
pub mod nn;
mod parallel;
#[cfg(unix)]
mod process;
mod ranks;
mod record;
mod run;
pub mod tabular;
mod trainer;

pub use air_core::BoxError;
pub use air_core::checkpoint::{Checkpoint, Mode, Retention, Score};
pub use config::{FailureConfig, RunConfig, ScalingConfig};
pub use context::TrainContext;
pub use error::{Result, TrainError};
pub use failure::{Cause, Decision, Failure, FailurePolicy};
pub use loader::DataLoader;
pub use parallel::DataParallel;
#[cfg(unix)]
pub use process::ProcessTrainer;
pub use record::Report;
pub use trainer::{TrainResult, Trainer};
