//! Learning from recorded episodes, without playing: what such learners have in common, and who drives them.

use air_core::Clock;
use air_core::checkpoint::{Checkpoint, CheckpointStore};
use air_core::seed::Seed;
use rand::RngExt as _;

use crate::envs::EnvSpec;
use crate::error::{Result, RlError};
use crate::learn::offline_data::{Dataset, RecordedEpisode};
use crate::play::actor::Actor;
use crate::play::task::Task;
use crate::saved::checkpoint::{self, Run, Saved, State, json};
use crate::saved::policy::Policy;
use crate::train::algorithm::{Algorithm, Iteration};
use crate::train::learner::{Figures, Settings};

/// What the settings of every offline algorithm say.
pub trait OfflineSettings: Settings {
    /// Discount γ.
    fn gamma(&self) -> f32;
    /// How much is learned and played in one iteration.
    fn drawing(&self) -> Drawing;
}

/// How much of the recordings one iteration learns from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drawing {
    /// Transitions in a batch.
    pub batch: usize,
    /// Gradient steps.
    pub updates: usize,
    /// Episodes played afterwards, to see how good the policy is; nothing is learned from them.
    pub evaluate_episodes: u64,
}

/// A learner that never plays, given by its gradient step on drawn rows; [`OfflineTrainer`] draws them.
pub trait OfflineLearner: Sized {
    /// What it can be told.
    type Config: OfflineSettings;
    /// What one step reports; the means of an iteration's are printed as a line of progress.
    type Stats: Figures;

    /// The algorithm's name on the command line.
    const NAME: &'static str;

    /// Fresh networks for a task; weights follow from `seed`.
    fn new(config: &Self::Config, task: &Task, seed: Seed) -> Result<Self>;

    /// The policy as it stands, not exploring.
    fn policy(&self) -> Actor;

    /// One gradient step on some rows of the recordings.
    fn learn(&mut self, data: &Dataset, rows: &[usize]) -> Result<Self::Stats>;

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
pub struct OfflineTrainer<L: OfflineLearner> {
    learner: L,
    config: L::Config,
    spec: EnvSpec,
    seed: u64,
    data: Dataset,
    rows: Vec<usize>,
    clock: Clock,
    iteration: u64,
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
        let learner = L::new(&config, &task, Seed::new(seed).child("learner", 0))?;
        Ok(Self {
            data: Dataset::new(&task, config.gamma(), episodes)?,
            rows: Vec::with_capacity(config.drawing().batch),
            learner,
            config,
            spec: env,
            seed,
            clock: Clock::system(),
            iteration: 0,
            steps: 0,
            episodes: 0,
            seconds: 0.0,
            playing: 0.0,
        })
    }

    /// Goes on from a checkpoint of [`save`](Algorithm::save), to the weights that an uninterrupted run on the same
    /// `episodes` would have. `env` must have the spaces that the run was saved with.
    pub fn load(location: &str, env: EnvSpec, episodes: &[RecordedEpisode]) -> Result<Self> {
        let saved = Saved::read(location)?;
        let config = saved.config::<L::Config>(L::NAME)?;
        let mut trainer = Self::new(config, env, episodes, saved.run.seed)?;
        let Task { observation_space, action_space, .. } = trainer.data.task();
        saved.policy()?.fits(observation_space, action_space)?;
        trainer.learner.state(&mut State::Load { checkpoint: saved.checkpoint(), prefix: String::new() })?;
        (trainer.iteration, trainer.steps) = (saved.run.iteration, saved.run.steps);
        Ok(trainer)
    }

    /// What it learns from.
    pub fn data(&self) -> &Dataset {
        &self.data
    }

    /// The learner.
    pub fn learner(&self) -> &L {
        &self.learner
    }

    /// An iteration's gradient steps on drawn rows; the means of what they say.
    fn learn(&mut self) -> Result<L::Stats> {
        self.iteration += 1;
        let Drawing { batch, updates, .. } = self.config.drawing();
        let mut rng = Seed::new(self.seed).child("learner", 0).child("update", self.iteration).rng();
        let mut means = L::Stats::default();
        for _ in 0..updates {
            self.rows.clear();
            self.rows.extend((0..batch).map(|_| rng.random_range(0..self.data.len())));
            means.add(self.learner.learn(&self.data, &self.rows)?, 1.0 / updates as f32);
        }
        if !means.finite() {
            return Err(RlError::Diverged { what: "loss", iteration: self.iteration });
        }
        self.steps += (updates as u64) * (batch as u64);
        Ok(means)
    }
}

impl<L: OfflineLearner> Algorithm for OfflineTrainer<L> {
    type Stats = L::Stats;

    const NAME: &'static str = L::NAME;

    fn train(&mut self) -> Result<Iteration<L::Stats>> {
        let begin = self.clock.now();
        let stats = self.learn()?;
        let learned = self.clock.now();
        let n = self.config.drawing().evaluate_episodes;
        let played = self.policy().evaluate(&self.spec, n, self.iteration, 100_000)?;
        self.episodes += n;
        let end = self.clock.now();
        self.playing += end.saturating_sub(learned).as_secs_f64();
        self.seconds += end.saturating_sub(begin).as_secs_f64();
        let mean = |of: &dyn Fn(&crate::Played) -> f64| {
            (n > 0).then(|| played.iter().map(of).sum::<f64>() / n as f64)
        };
        let mean_return = mean(&|p| p.total);
        Ok(Iteration {
            iteration: self.iteration,
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
            remembers: false,
            seed: self.seed,
            iteration: self.iteration,
            steps: self.steps,
            config: json(&self.config)?,
        };
        checkpoint::save(store, &run, &policy, |state| self.learner.state(state), None)
    }

    fn policy(&self) -> Policy {
        Policy::new(self.learner.policy(), self.data.task().clone())
    }
}
