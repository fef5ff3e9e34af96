//! Learning from recorded episodes, without playing: what such learners have in common, and who drives them.

use std::fmt;

use air_core::Clock;
use air_core::checkpoint::{Checkpoint, CheckpointStore};
use air_core::seed::Seed;
use serde::Serialize;

use crate::actor::Actor;
use crate::algorithm::{Algorithm, Iteration};
use crate::checkpoint::{self, Run, State, json};
use crate::envs::EnvSpec;
use crate::error::Result;
use crate::learner::Settings;
use crate::offline_data::{Dataset, RecordedEpisode};
use crate::policy::Policy;
use crate::task::Task;

/// What the settings of every offline algorithm say.
pub trait OfflineSettings: Settings {
    /// Discount γ.
    fn gamma(&self) -> f32;
    /// Transitions learned from in one iteration: gradient steps times batch.
    fn transitions(&self) -> u64;
    /// Episodes played after each iteration, to see how good the policy is; nothing is learned from them.
    fn evaluate_episodes(&self) -> u64;
}

/// A learner that never plays: recorded transitions in, weights and figures out.
pub trait OfflineLearner: Sized {
    /// What it can be told.
    type Config: OfflineSettings;
    /// What one update reports; printed as a line of progress.
    type Stats: Clone + Serialize + fmt::Display;

    /// The algorithm's name on the command line.
    const NAME: &'static str;

    /// Fresh networks for a task; weights follow from `seed`.
    fn new(config: &Self::Config, task: &Task, seed: Seed) -> Result<Self>;

    /// The settings it was made with.
    fn config(&self) -> &Self::Config;

    /// The policy as it stands, not exploring.
    fn policy(&self) -> Actor;

    /// Updates done.
    fn iteration(&self) -> u64;

    /// Takes an iteration's gradient steps.
    fn update(&mut self, data: &Dataset) -> Result<Self::Stats>;

    /// Names everything that learning changes, to be saved or restored.
    fn state(&mut self, state: &mut State<'_>) -> Result<()>;
}

/// An offline algorithm on recorded episodes, evaluated in the environment they are of.
///
/// An [`Iteration`] counts in `steps` the transitions learned from, and `mean_return` is the mean of its own evaluation.
///
/// ```
/// use air_rl::{Action, Algorithm, Bc, BcConfig, OwnedAction, Registry, Stop, record};
///
/// let env = Registry::default().spec("CartPole-v1")?;
/// let expert = |obs: &[f32], _: &[bool]| Ok(OwnedAction::Discrete(u32::from(obs[2] + 0.3 * obs[3] > 0.0)));
/// let episodes = record(&env, 5, 0, 500, expert)?;
/// let mut bc = Bc::new(BcConfig::default(), env, &episodes, 1)?;
/// bc.train_until(&Stop::at_return(150.0).or_steps(1_000_000))?;
/// # Ok::<(), air_rl::RlError>(())
/// ```
pub struct OfflineTrainer<L> {
    learner: L,
    spec: EnvSpec,
    seed: u64,
    data: Dataset,
    clock: Clock,
    steps: u64,
    episodes: u64,
    seconds: f64,
    playing: f64,
}

impl<L: OfflineLearner> OfflineTrainer<L> {
    /// Fresh networks for `episodes` of `env`, whose spaces must be such as the algorithm can use.
    pub fn new(config: L::Config, env: EnvSpec, episodes: &[RecordedEpisode], seed: u64) -> Result<Self> {
        config.validate()?;
        let task = Task::of(&*env.make(1)?);
        let data = Dataset::new(&task, config.gamma(), episodes)?;
        let learner = L::new(&config, &task, Seed::new(seed).child("learner", 0))?;
        let (steps, episodes, seconds, playing) = (0, 0, 0.0, 0.0);
        Ok(Self { learner, spec: env, seed, data, clock: Clock::system(), steps, episodes, seconds, playing })
    }

    /// What it learns from.
    pub fn data(&self) -> &Dataset {
        &self.data
    }

    /// The learner.
    pub fn learner(&self) -> &L {
        &self.learner
    }
}

impl<L: OfflineLearner> Algorithm for OfflineTrainer<L> {
    type Stats = L::Stats;

    const NAME: &'static str = L::NAME;

    fn train(&mut self) -> Result<Iteration<L::Stats>> {
        let begin = self.clock.now();
        let stats = self.learner.update(&self.data)?;
        self.steps += self.learner.config().transitions();
        let learned = self.clock.now();
        let (n, seed) = (self.learner.config().evaluate_episodes(), self.learner.iteration());
        let played = self.policy().evaluate(&self.spec, n, seed, 100_000)?;
        self.episodes += n;
        let end = self.clock.now();
        self.playing += end.saturating_sub(learned).as_secs_f64();
        self.seconds += end.saturating_sub(begin).as_secs_f64();
        let mean = |of: &dyn Fn(&crate::Played) -> f64| {
            (n > 0).then(|| played.iter().map(of).sum::<f64>() / n as f64)
        };
        let mean_return = mean(&|p| p.total);
        Ok(Iteration {
            iteration: self.learner.iteration(),
            steps: self.steps,
            episodes: self.episodes,
            seconds: self.seconds,
            playing_seconds: self.playing,
            mean_return,
            mean_length: mean(&|p| p.length as f64),
            peak_return: mean_return,
            learner: stats,
        })
    }

    fn save(&mut self, store: &CheckpointStore) -> Result<Checkpoint> {
        let policy = self.learner.policy();
        let run = Run {
            format: Run::FORMAT,
            algorithm: Self::NAME.into(),
            env: self.spec.name().into(),
            env_options: self.spec.options().clone(),
            task: self.data.task().clone(),
            head: policy.head.clone(),
            normalizer: None,
            seed: self.seed,
            iteration: self.learner.iteration(),
            steps: self.steps,
            config: json(self.learner.config())?,
        };
        checkpoint::save(store, &run, &policy, |state| self.learner.state(state), None)
    }

    fn policy(&self) -> Policy {
        Policy::new(self.learner.policy(), self.data.task().clone())
    }
}
