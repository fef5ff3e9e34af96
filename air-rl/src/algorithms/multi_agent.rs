//! PPO for several agents: one policy for all, one each, one for each team, or one against its own past.

mod cast;

use std::collections::VecDeque;
use std::fmt;

use air_core::Clock;
use air_core::checkpoint::{Checkpoint, CheckpointStore};
use air_core::seed::Seed;
use rand::RngExt as _;
use serde::{Deserialize, Serialize};

use self::cast::Cast;
use crate::algorithms::ppo::{PpoConfig, PpoLearner, PpoStats};
use crate::error::{Check, Result};
use crate::play::actor::Actor;
use crate::play::multi_runner::{MultiEnvSpec, MultiRunner, Seat};
use crate::play::rollout::Rollout;
use crate::play::task::Task;
use crate::saved::checkpoint::{self, Run, Saved, State, json};
use crate::saved::policy::Policy;
use crate::train::algorithm::{Algorithm, Iteration, Returns};
use crate::train::learner::{Learner as _, Settings};

/// Who plays which agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policies {
    /// One policy plays all agents and learns from all; they must have the same spaces.
    #[default]
    Shared,
    /// Each agent has a policy of its own, which learns from what that agent did.
    Independent,
    /// Each team has a policy, which plays its agents and learns from all of them; within a team all must have the same spaces.
    Teams,
    /// One policy learns in one seat of each environment, which seat differs from one to the next; the other seats are
    /// played by what it was earlier. All must have the same spaces.
    SelfPlay,
}

/// Everything that PPO for several agents can be told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MultiPpoConfig {
    /// Who plays which agent.
    pub policies: Policies,
    /// In self-play: iterations between two copies of the policy that are kept as opponents.
    pub copy_every: u64,
    /// In self-play: copies kept; the oldest makes room. Each iteration is played against one of them, drawn evenly.
    pub copies: usize,
    /// PPO itself, of every policy. `envs` counts environments, each with all its agents; `runners` and `parallel` do not apply.
    pub ppo: PpoConfig,
}

impl Default for MultiPpoConfig {
    fn default() -> Self {
        Self { policies: Policies::Shared, copy_every: 5, copies: 10, ppo: PpoConfig::default() }
    }
}

impl Settings for MultiPpoConfig {
    fn validate(&self) -> Result<()> {
        Check::at("copy_every", self.copy_every > 0, "must be at least 1")?;
        Check::at("copies", (1..=1000).contains(&self.copies), "must be between 1 and 1000")?;
        let alone = self.ppo.runners == 1 && !self.ppo.parallel;
        Check::at(
            "runners",
            alone,
            "and parallel do not apply to several agents: leave them at 1 and false",
        )?;
        self.ppo.validate()
    }
}

/// What one update did.
#[derive(Clone, Debug, Serialize)]
pub struct MultiStats {
    /// Of each policy that learns.
    pub policies: Vec<PolicyStats>,
}

/// What one update did to one policy.
#[derive(Clone, Debug, Serialize)]
pub struct PolicyStats {
    /// Mean return of its last 100 episodes (of all, while there are fewer). None before the first end.
    pub mean_return: Option<f64>,
    /// The learner's own figures.
    pub learner: PpoStats,
}

impl fmt::Display for MultiStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, policy) in self.policies.iter().enumerate() {
            write!(f, "{}{}", if i > 0 { "  |  " } else { "" }, policy.learner)?;
            if let Some(mean) = policy.mean_return.filter(|_| self.policies.len() > 1) {
                write!(f, "  return {mean:.1}")?;
            }
        }
        Ok(())
    }
}

/// PPO for the agents of a [`MultiEnv`](crate::MultiEnv).
///
/// ```
/// use air_rl::envs::MultiCartPole;
/// use air_rl::{Algorithm, MultiEnvSpec, MultiPpo, MultiPpoConfig, Stop};
///
/// let env = MultiEnvSpec::new("MultiCartPole", || MultiCartPole::new(2));
/// let mut ppo = MultiPpo::new(MultiPpoConfig::default(), env, 1)?;
/// ppo.train_until(&Stop::at_return(100.0).or_steps(200_000))?;
/// let action = ppo.policy_of(1).act(&[0.0, 0.1, 0.02, -0.1])?;
/// assert!(action == 0 || action == 1);
/// # Ok::<(), air_rl::RlError>(())
/// ```
pub struct MultiPpo {
    config: MultiPpoConfig,
    spec: MultiEnvSpec,
    seed: u64,
    /// The learner of each agent.
    players: Vec<usize>,
    tasks: Vec<Task>,
    learners: Vec<PpoLearner>,
    rollouts: Vec<Rollout>,
    returns: Vec<Returns>,
    /// Those of all policies together.
    all: Returns,
    runner: MultiRunner,
    /// What the policy was, oldest first; only in self-play.
    past: VecDeque<Actor>,
    clock: Clock,
    iteration: u64,
    steps: u64,
    seconds: f64,
    playing: f64,
}

impl MultiPpo {
    /// Makes the environments and fresh networks.
    pub fn new(config: MultiPpoConfig, env: MultiEnvSpec, seed: u64) -> Result<Self> {
        Self::begin(config, env, seed, 0)
    }

    fn begin(config: MultiPpoConfig, env: MultiEnvSpec, seed: u64, epoch: u64) -> Result<Self> {
        config.validate()?;
        let cast = Cast::new(config.policies, &*env.make()?)?;
        let sides = cast.sides(config.ppo.envs);
        let Cast { players, tasks, .. } = cast;
        let root = Seed::new(seed);
        let learner = |(i, task)| PpoLearner::new(&config.ppo, task, root.child("learner", i as u64));
        let rollout = |(task, seats): (&Task, &Vec<Seat>)| Rollout::new(seats.len(), config.ppo.steps, task);
        let rollouts = tasks.iter().zip(&sides).map(rollout).collect();
        let sides = sides.into_iter().enumerate().map(|(i, s)| (tasks[i.min(tasks.len() - 1)].clone(), s));
        let sides = sides.collect();
        let runner = MultiRunner::new(&env, config.ppo.envs, sides, root.child("runners", 0), epoch)?;
        let mut trainer = Self {
            learners: tasks.iter().enumerate().map(learner).collect::<Result<_>>()?,
            rollouts,
            returns: vec![Returns::default(); tasks.len()],
            all: Returns::default(),
            runner,
            past: VecDeque::new(),
            config,
            spec: env,
            seed,
            players,
            tasks,
            clock: Clock::system(),
            iteration: 0,
            steps: 0,
            seconds: 0.0,
            playing: 0.0,
        };
        trainer.keep_copy();
        Ok(trainer)
    }

    /// Goes on from a checkpoint of [`save`](Algorithm::save), in fresh episodes. In self-play the opponents begin anew with
    /// the present policy.
    pub fn load(location: &str, env: MultiEnvSpec) -> Result<Self> {
        let saved = Saved::read(location)?;
        let config = saved.config::<MultiPpoConfig>(Self::NAME)?;
        let mut trainer = Self::begin(config, env, saved.run.seed, saved.run.iteration)?;
        let Task { observation_space, action_space, .. } = &trainer.tasks[0];
        saved.policy()?.fits(observation_space, action_space)?;
        for (i, learner) in trainer.learners.iter_mut().enumerate() {
            let prefix = prefix(i);
            learner.state(&mut State::Load { checkpoint: saved.checkpoint(), prefix })?;
        }
        (trainer.iteration, trainer.steps) = (saved.run.iteration, saved.run.steps);
        trainer.past.clear();
        trainer.keep_copy();
        Ok(trainer)
    }

    /// The policy that plays an agent, as it stands.
    ///
    /// # Panics
    /// There is no such agent.
    pub fn policy_of(&self, agent: usize) -> Policy {
        assert!(agent < self.players.len(), "agent {agent} of {}", self.players.len());
        let learner = self.players[agent];
        Policy::new(self.learners[learner].policy(), self.tasks[learner].clone())
    }

    /// The learners: one, one for each team, or one for each agent.
    pub fn learners(&self) -> &[PpoLearner] {
        &self.learners
    }

    fn keep_copy(&mut self) {
        if self.config.policies == Policies::SelfPlay && self.iteration.is_multiple_of(self.config.copy_every)
        {
            if self.past.len() == self.config.copies {
                self.past.pop_front();
            }
            self.past.push_back(self.learners[0].actor().clone());
        }
    }
}

impl Algorithm for MultiPpo {
    type Stats = MultiStats;

    const NAME: &'static str = "multi-ppo";

    fn train(&mut self) -> Result<Iteration<MultiStats>> {
        let begin = self.clock.now();
        let mut actors: Vec<&Actor> = self.learners.iter().map(PpoLearner::actor).collect();
        if !self.past.is_empty() {
            let mut rng = Seed::new(self.seed).child("opponent", self.iteration).rng();
            actors.push(&self.past[rng.random_range(0..self.past.len())]);
        }
        self.runner.collect(&actors, self.iteration, self.config.ppo.steps, &mut self.rollouts)?;
        let played = self.clock.now();
        let (mut policies, mut peak_return) = (Vec::with_capacity(self.learners.len()), None);
        for ((learner, rollout), returns) in
            self.learners.iter_mut().zip(&mut self.rollouts).zip(&mut self.returns)
        {
            let learner = learner.update(rollout)?;
            returns.add(&rollout.episodes);
            let peak = self.all.add(&rollout.episodes);
            if peak > peak_return {
                peak_return = peak;
            }
            policies.push(PolicyStats { mean_return: returns.mean_return(), learner });
        }
        self.iteration += 1;
        self.steps += (self.config.ppo.envs * self.config.ppo.steps) as u64;
        self.keep_copy();
        self.playing += played.saturating_sub(begin).as_secs_f64();
        self.seconds += self.clock.now().saturating_sub(begin).as_secs_f64();
        Ok(Iteration {
            iteration: self.iteration,
            steps: self.steps,
            episodes: self.all.ended(),
            seconds: self.seconds,
            playing_seconds: self.playing,
            mean_return: self.all.mean_return(),
            mean_length: self.all.mean_length(),
            peak_return,
            learner: MultiStats { policies },
        })
    }

    /// The policy of agent 0.
    fn policy(&self) -> Policy {
        self.policy_of(0)
    }

    fn save(&mut self, store: &CheckpointStore) -> Result<Checkpoint> {
        let policy = self.learners[0].policy();
        let run = Run {
            format: Run::FORMAT,
            algorithm: Self::NAME.into(),
            env: self.spec.name().into(),
            env_options: self.spec.options().clone(),
            task: self.tasks[0].clone(),
            head: policy.head.clone(),
            normalizer: policy.normalizer.clone(),
            remembers: false,
            seed: self.seed,
            iteration: self.iteration,
            steps: self.steps,
            config: json(&self.config)?,
        };
        let learners = &mut self.learners;
        let parts = |state: &mut State<'_>| {
            learners.iter_mut().enumerate().try_for_each(|(i, learner)| {
                state.begin(prefix(i));
                learner.state(state)
            })
        };
        checkpoint::save(store, &run, &policy, parts, self.all.mean_return())
    }
}

/// What the files of a policy begin with: the first one's are those that a single agent would have.
fn prefix(policy: usize) -> String {
    if policy == 0 { String::new() } else { format!("policy{policy}_") }
}
