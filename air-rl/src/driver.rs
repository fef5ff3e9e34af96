//! [`Ppo`]: the learner and its runners, driven together.

use air_core::Clock;
use air_core::checkpoint::{Checkpoint, CheckpointStore};
use air_core::seed::Seed;

use crate::algorithm::{Algorithm, Iteration, Returns};
use crate::checkpoint::{self, Run, Saved, json};
use crate::envs::EnvSpec;
use crate::error::{Result, RlError};
use crate::policy::Policy;
use crate::ppo::{PpoConfig, PpoLearner, PpoStats};
use crate::sampler::{Inline, Sampler, Shape};
use crate::space::Space;
use crate::workers::Workers;

/// PPO on an environment: three lines to a trained policy.
///
/// ```
/// use air_rl::{Algorithm, EnvSpec, Ppo, PpoConfig, Stop, envs::SimpleCorridor};
///
/// let env = EnvSpec::new("corridor", || SimpleCorridor::new(5));
/// let mut ppo = Ppo::new(PpoConfig::default(), env, 1)?;
/// ppo.train_until(&Stop::at_return(0.59).or_steps(100_000))?;
///
/// let played = ppo.policy().play(&mut SimpleCorridor::new(5), 0, 100)?;
/// assert_eq!(played.length, 5);
/// # Ok::<(), air_rl::RlError>(())
/// ```
pub struct Ppo {
    pub(crate) learner: PpoLearner,
    pub(crate) spec: EnvSpec,
    pub(crate) seed: u64,
    observation_space: Space,
    action_space: Space,
    sampler: Sampler,
    returns: Returns,
    clock: Clock,
    steps: u64,
    seconds: f64,
    playing: f64,
}

impl Ppo {
    /// Makes the environments and fresh networks. The observation space must be a box, the action space discrete.
    pub fn new(config: PpoConfig, env: EnvSpec, seed: u64) -> Result<Self> {
        Self::begin(config, env, seed, 0)
    }

    /// `epoch` tells the environments of a resumed run from those it had before.
    fn begin(config: PpoConfig, env: EnvSpec, seed: u64, epoch: u64) -> Result<Self> {
        let probe = env.make(1)?;
        let (observation_space, action_space) =
            (probe.observation_space().clone(), probe.action_space().clone());
        let unfit = |what, space: &Space, why: &str| {
            Err(RlError::Space { what, space: space.to_string(), why: why.into() })
        };
        let Space::Box { .. } = observation_space else {
            return unfit("observation space", &observation_space, "is not a box, which PPO needs");
        };
        let Space::Discrete { n } = action_space else {
            return unfit("action space", &action_space, "is not discrete, which PPO needs");
        };
        let (root, obs_len) = (Seed::new(seed), observation_space.row_len());
        let learner = PpoLearner::new(&config, obs_len, n as usize, root.child("learner", 0))?;
        let shape = Shape { envs: config.envs, steps: config.steps, obs_len };
        let seeds = root.child("runners", 0);
        let sampler = if config.parallel {
            let actor = learner.actor();
            Sampler::Workers(Workers::new(&env, shape, config.runners, seeds, epoch, actor)?)
        } else {
            Sampler::Inline(Inline::new(&env, shape, config.runners, seeds, epoch)?)
        };
        Ok(Self {
            learner,
            spec: env,
            seed,
            observation_space,
            action_space,
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
        let config = saved.config()?;
        let mut ppo = Self::begin(config, env, saved.run.seed, saved.run.iteration)?;
        saved.policy()?.fits(&ppo.observation_space, &ppo.action_space)?;
        saved.restore(&mut ppo.learner)?;
        ppo.steps = saved.run.steps;
        Ok(ppo)
    }

    /// The learner.
    pub fn learner(&self) -> &PpoLearner {
        &self.learner
    }

    /// Environment steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }
}

impl Algorithm for Ppo {
    type Stats = PpoStats;

    const NAME: &'static str = "ppo";

    fn train(&mut self) -> Result<Iteration<PpoStats>> {
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

    fn save(&self, store: &CheckpointStore) -> Result<Checkpoint> {
        let run = Run {
            format: Run::FORMAT,
            algorithm: Self::NAME.into(),
            env: self.spec.name().into(),
            env_options: self.spec.options().clone(),
            observation_space: self.observation_space.clone(),
            action_space: self.action_space.clone(),
            seed: self.seed,
            iteration: self.learner.iteration(),
            steps: self.steps,
            config: json(self.learner.config())?,
        };
        checkpoint::save(store, &run, &self.learner, self.returns.mean_return())
    }

    fn policy(&self) -> Policy {
        Policy::new(self.learner.actor().clone(), self.observation_space.clone(), self.action_space.clone())
    }
}
