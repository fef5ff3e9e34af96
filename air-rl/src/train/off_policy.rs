//! Learners of replayed batches, given by their gradient step: what SAC and TD3 have in common.

use std::fmt;

use air_core::seed::Seed;
use rand_pcg::Pcg64;
use serde::Serialize;

use crate::error::{Result, RlError};
use crate::learn::replay::{Minibatch, Replay};
use crate::play::actor::Actor;
use crate::play::rollout::Rollout;
use crate::play::sampler::Sampling;
use crate::play::task::Task;
use crate::saved::checkpoint::State;
use crate::train::learner::{Figures, Learner, Settings};

/// What the settings of every algorithm that replays say.
pub trait ReplaySettings: Settings {
    /// How much is played between two rounds of updates.
    fn sampling(&self) -> Sampling;
    /// What is kept, and how much of it a round learns from.
    fn replaying(&self) -> Replaying;
}

/// What a replay buffer keeps, and how much of it a round of updates learns from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Replaying {
    /// Transitions kept; the oldest make room.
    pub capacity: usize,
    /// Are they saved in checkpoints?
    pub save_replay: bool,
    /// Steps of reward in a transition.
    pub n_step: usize,
    /// Discount γ.
    pub gamma: f32,
    /// Transitions before the first update.
    pub learning_starts: usize,
    /// Gradient steps in a round.
    pub updates: usize,
    /// Transitions in a batch.
    pub batch: usize,
}

/// Networks that learn from a batch at a time, wherever it comes from; [`ReplayLearner`] draws it.
pub trait ReplayStep: Sized {
    /// What it can be told.
    type Config: ReplaySettings;
    /// What one step reports.
    type Stats: Figures;

    /// The algorithm's name on the command line.
    const NAME: &'static str;

    /// Fresh networks for a task; weights follow from `seed`.
    fn new(config: &Self::Config, task: &Task, seed: Seed) -> Result<Self>;

    /// The settings it was made with.
    fn config(&self) -> &Self::Config;

    /// What plays next; before the first step it may take anything.
    fn actor(&self) -> &Actor;

    /// One gradient step.
    fn learn(&mut self, batch: &Minibatch, rng: &mut Pcg64) -> Result<Self::Stats>;

    /// Names everything that learning changes, to be saved or restored.
    fn state(&mut self, state: &mut State<'_>) -> Result<()>;
}

/// What a round of updates did; zeros before the first.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Replayed<S> {
    /// Means over the round's gradient steps.
    #[serde(flatten)]
    pub steps: S,
    /// Transitions in the replay buffer.
    pub replay: usize,
}

impl<S: fmt::Display> fmt::Display for Replayed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.fmt(f)
    }
}

/// Keeps what was played, and has `S` learn from batches of it.
#[derive(Clone, Debug)]
pub struct ReplayLearner<S> {
    seed: Seed,
    iteration: u64,
    step: S,
    replay: Replay,
    batch: Minibatch,
}

impl<S: ReplayStep> Learner for ReplayLearner<S> {
    type Config = S::Config;
    type Stats = Replayed<S::Stats>;

    const NAME: &'static str = S::NAME;

    fn new(config: &S::Config, task: &Task, seed: Seed) -> Result<Self> {
        let Replaying { capacity, n_step, gamma, .. } = config.replaying();
        Ok(Self {
            step: S::new(config, task, seed)?,
            replay: Replay::new(task, capacity, config.sampling().envs, n_step, gamma),
            seed,
            iteration: 0,
            batch: Minibatch::default(),
        })
    }

    fn config(&self) -> &S::Config {
        self.step.config()
    }

    fn sampling(config: &S::Config) -> Sampling {
        config.sampling()
    }

    fn actor(&self) -> &Actor {
        self.step.actor()
    }

    fn iteration(&self) -> u64 {
        self.iteration
    }

    fn update(&mut self, rollout: &mut Rollout) -> Result<Self::Stats> {
        self.iteration += 1;
        self.replay.absorb(rollout, |_| {});
        let Replaying { learning_starts, updates, batch, .. } = self.config().replaying();
        let mut means = S::Stats::default();
        if self.replay.len() >= learning_starts.max(1) {
            let mut rng = self.seed.child("update", self.iteration).rng();
            for _ in 0..updates {
                self.replay.sample(batch, &mut rng, &mut self.batch);
                means.add(self.step.learn(&self.batch, &mut rng)?, 1.0 / updates as f32);
            }
            if !means.finite() {
                return Err(RlError::Diverged { what: "loss", iteration: self.iteration });
            }
        }
        Ok(Replayed { steps: means, replay: self.replay.len() })
    }

    /// Without `save_replay`, a run that goes on fills its buffer anew before it learns.
    fn state(&mut self, state: &mut State<'_>) -> Result<()> {
        self.step.state(state)?;
        if self.config().replaying().save_replay {
            self.replay.state(state)?;
        }
        state.value("rounds", &mut self.iteration)
    }
}
