//! [`Trainer`]: a learner and its runners, driven together.

use air_core::Clock;
use air_core::checkpoint::{Checkpoint, CheckpointStore};
use air_core::seed::Seed;

use crate::envs::EnvSpec;
use crate::error::Result;
use crate::play::sampler::Sampler;
use crate::play::task::Task;
use crate::saved::checkpoint::{self, Run, Saved, State, json};
use crate::saved::policy::Policy;
use crate::train::algorithm::{Algorithm, Iteration, Returns};
use crate::train::learner::{Learner, Settings as _};

/// An algorithm on an environment: three lines to a trained policy.
///
/// ```
/// use air_rl::{Algorithm, EnvSpec, Ppo, PpoConfig, Stop, envs::SimpleCorridor};
///
/// let env = EnvSpec::new("corridor", || SimpleCorridor::new(5));
/// let mut ppo = Ppo::new(PpoConfig::default(), env, 1)?;
/// ppo.train_until(&Stop::at_return(0.59).or_steps(100_000))?;
///
/// let played = ppo.policy().play(SimpleCorridor::new(5), 0, 100)?;
/// assert_eq!(played.length, 5);
/// # Ok::<(), air_rl::RlError>(())
/// ```
pub struct Trainer<L> {
    learner: L,
    spec: EnvSpec,
    seed: u64,
    task: Task,
    sampler: Sampler,
    returns: Returns,
    clock: Clock,
    steps: u64,
    seconds: f64,
    playing: f64,
}

impl<L: Learner> Trainer<L> {
    /// Makes the environments and fresh networks. The spaces must be such as the algorithm can use.
    pub fn new(config: L::Config, env: EnvSpec, seed: u64) -> Result<Self> {
        Self::begin(config, env, seed, 0)
    }

    /// `epoch` tells the environments of a resumed run from those it had before.
    fn begin(config: L::Config, env: EnvSpec, seed: u64, epoch: u64) -> Result<Self> {
        config.validate()?;
        let task = Task::of(&*env.make(1)?);
        let root = Seed::new(seed);
        let learner = L::new(&config, &task, root.child("learner", 0))?;
        let seeds = root.child("runners", 0);
        let sampler =
            Sampler::new(&env, &task, L::sampling(&config), seeds, epoch, learner.actor(), L::ASYNCHRONOUS)?;
        Ok(Self {
            learner,
            spec: env,
            seed,
            task,
            sampler,
            returns: Returns::default(),
            clock: Clock::system(),
            steps: 0,
            seconds: 0.0,
            playing: 0.0,
        })
    }

    /// Goes on from a checkpoint of [`save`](Algorithm::save): same weights, optimiser, configuration and streams of
    /// random numbers; episodes begin anew. `env` must have the spaces that the run was saved with.
    pub fn load(location: &str, env: EnvSpec) -> Result<Self> {
        let saved = Saved::read(location)?;
        let config = saved.config::<L::Config>(L::NAME)?;
        let mut trainer = Self::begin(config, env, saved.run.seed, saved.run.iteration)?;
        let Task { observation_space, action_space, .. } = &trainer.task;
        saved.policy()?.fits(observation_space, action_space)?;
        trainer.learner.state(&mut State::Load { checkpoint: saved.checkpoint(), prefix: String::new() })?;
        trainer.steps = saved.run.steps;
        Ok(trainer)
    }

    /// The learner.
    pub fn learner(&self) -> &L {
        &self.learner
    }

    /// Environment steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }
}

impl<L: Learner> Algorithm for Trainer<L> {
    type Stats = L::Stats;

    const NAME: &'static str = L::NAME;

    fn train(&mut self) -> Result<Iteration<L::Stats>> {
        let begin = self.clock.now();
        let rollout = self.sampler.collect(self.learner.actor(), self.learner.iteration())?;
        let played = self.clock.now();
        let stats = self.learner.update(rollout)?;
        self.steps += rollout.rows() as u64;
        let peak_return = self.returns.add(&rollout.episodes);
        self.playing += played.saturating_sub(begin).as_secs_f64();
        self.seconds += self.clock.now().saturating_sub(begin).as_secs_f64();
        Ok(Iteration {
            iteration: self.learner.iteration(),
            steps: self.steps,
            episodes: self.returns.ended(),
            seconds: self.seconds,
            playing_seconds: self.playing,
            mean_return: self.returns.mean_return(),
            mean_length: self.returns.mean_length(),
            peak_return,
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
            task: self.task.clone(),
            head: policy.head.clone(),
            normalizer: policy.normalizer.clone(),
            remembers: policy.memory.is_some(),
            seed: self.seed,
            iteration: self.learner.iteration(),
            steps: self.steps,
            config: json(self.learner.config())?,
        };
        let mean_return = self.returns.mean_return();
        checkpoint::save(store, &run, &policy, |state| self.learner.state(state), mean_return)
    }

    fn policy(&self) -> Policy {
        Policy::new(self.learner.policy(), self.task.clone())
    }
}
