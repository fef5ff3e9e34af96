//! What tells one algorithm from another: how it learns from what was played. [`Trainer`](crate::Trainer) does the rest.

use std::fmt;

use air_core::seed::Seed;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Result;
use crate::play::actor::Actor;
use crate::play::rollout::Rollout;
use crate::play::sampler::Sampling;
use crate::play::task::Task;
use crate::saved::checkpoint::State;

/// The settings of an algorithm: one flat struct, which is also its TOML file.
pub trait Settings: Clone + Default + Serialize + DeserializeOwned {
    /// The first setting out of its range, as an error.
    fn validate(&self) -> Result<()>;
}

/// What a gradient step says of itself, such that a mean over many makes sense.
pub trait Figures: Clone + Default + Serialize + fmt::Display {
    /// Every figure.
    fn figures(&mut self) -> impl Iterator<Item = &mut f32>;

    /// Adds `weight` times those of another step.
    fn add(&mut self, mut other: Self, weight: f32) {
        for (sum, figure) in self.figures().zip(other.figures()) {
            *sum += weight * *figure;
        }
    }

    /// Are all of them numbers?
    fn finite(&mut self) -> bool {
        self.figures().all(|figure| figure.is_finite())
    }
}

/// A learner: a rollout in, weights and figures out; no clock, no thread, no file.
pub trait Learner: Sized {
    /// What it can be told.
    type Config: Settings;
    /// What one update reports; printed as a line of progress.
    type Stats: Clone + Serialize + fmt::Display;

    /// The algorithm's name on the command line.
    const NAME: &'static str;

    /// With runners on threads of their own: do they play on while the learner learns?
    const ASYNCHRONOUS: bool = false;

    /// Fresh networks for a task, which must have spaces that the algorithm can use; weights follow from `seed`.
    fn new(config: &Self::Config, task: &Task, seed: Seed) -> Result<Self>;

    /// The settings it was made with.
    fn config(&self) -> &Self::Config;

    /// How much is played between two updates.
    fn sampling(config: &Self::Config) -> Sampling;

    /// What plays next, exploring.
    fn actor(&self) -> &Actor;

    /// The policy as it stands, not exploring.
    fn policy(&self) -> Actor {
        self.actor().greedy()
    }

    /// Updates done; also the version of the weights.
    fn iteration(&self) -> u64;

    /// Learns from what [`actor`](Self::actor) has just played.
    fn update(&mut self, rollout: &mut Rollout) -> Result<Self::Stats>;

    /// Names everything that learning changes, to be saved or restored; one walk for both, so that they agree.
    fn state(&mut self, state: &mut State<'_>) -> Result<()>;
}
