//! Reinforcement learning: readable algorithms, fast environments, results that repeat to the bit.
//!
//! ```
//! use air_rl::{Algorithm, Policy, Ppo, PpoConfig, Registry, Stop};
//!
//! let env = Registry::default().spec("CartPole-v1")?;
//! let mut ppo = Ppo::new(PpoConfig::default(), env.clone(), 1)?;
//! let outcome = ppo.train_until(&Stop::at_return(100.0).or_steps(200_000))?;
//! println!("{} steps in {:.2} s", outcome.last.steps, outcome.last.seconds);
//!
//! // Without exploration, the policy is better than it was in training.
//! let policy: Policy = ppo.policy();
//! let played = policy.evaluate(&env, 5, 0, 500)?;
//! assert!(played.iter().all(|episode| episode.total > 60.0));
//! let action = policy.act(&[0.0, 0.1, 0.02, -0.1])?;
//! assert!(action == 0 || action == 1);
//! # Ok::<(), air_rl::RlError>(())
//! ```
//!
//! The guide is `docs/rl.md`; the command line is [`cli`].
//!
//! | folder | idea |
//! |---|---|
//! | `algorithms/` | each algorithm in one file, top to bottom |
//! | `env/`, `envs/` | what an environment is, and what may be put around one; the environments there are |
//! | `play/` | what acts, where it is written down, on which threads |
//! | `learn/` | losses, advantages, distributions, replay: the parts that algorithms learn with |
//! | `train/` | learners, who drives them, what a run writes |
//! | `saved/`, `curve/` | policies and checkpoints; learning curves |
//! | `external/` | PPO on what clients play elsewhere |
//! | `view/` | pictures of observations: in the terminal, as an animation |
//! | `cli/` | the command line |
//!
//! Modules are exported without their folders.
//!
//! | module | idea |
//! |---|---|
//! | [`Env`], [`Space`] | one environment; it writes into the caller's row |
//! | [`Task`], [`ActionRows`] | what an algorithm is given to learn; actions of any kind in flat rows |
//! | [`VecEnv`], [`Vectorized`] | many as one, structure of arrays, same-step autoreset keeping the final observation |
//! | [`envs`] | Gymnasium's classic control and grid worlds, the corridor, and the [`Registry`] that finds environments by name |
//! | `python` | environments in Python, of one agent or several, in worker processes over shared memory: [`PythonConfig`] |
//! | [`TimeLimit`], [`wrap`], [`check_env`] | a limit that truncates; other wrappers; what is wrong with an environment |
//! | [`rng`] | NumPy's random streams, for environments equal with Gymnasium's |
//! | [`actor`] | what plays: a network, how its outputs become an action, how it explores |
//! | [`runner`], [`rollout`] | environments played with an actor into preallocated buffers |
//! | `sampler`, `workers`, `async_workers` | runners on the calling thread, on supervised threads of their own, or playing on there while the learner learns |
//! | [`gae`] | advantage estimation |
//! | [`categorical`], [`gaussian`], [`values`] | distributions over actions; how outputs hold their values |
//! | [`normalize`] | running means and deviations of observations and returns |
//! | [`ppo`], `policy_loss` | PPO, top to bottom; its losses with their gradients |
//! | [`recurrent_ppo`] | PPO with a memory, top to bottom |
//! | [`impala`], [`vtrace`] | IMPALA and APPO, top to bottom; how what an older policy played is weighed |
//! | [`pqn`] | Q-learning without a replay buffer, top to bottom |
//! | [`dqn`] | deep Q-learning with Rainbow's parts, top to bottom |
//! | [`sac`], [`td3`], `twin`, `squashed` | the gradient steps of actor-critics of continuous actions; what they share |
//! | `off_policy` | [`ReplayLearner`]: keeps what was played, and has such a step learn from batches of it |
//! | [`replay`], [`sum_tree`] | transitions kept for learning, drawn evenly or by priority |
//! | [`bc`], [`marwil`], [`cql`], [`iql`] | gradient steps on recorded episodes, each top to bottom |
//! | [`offline_data`], `offline`, `imitate` | episodes in JSON lines; [`OfflineTrainer`], which draws from them; what imitating learners share |
//! | `learner` | what tells one algorithm from another: [`Learner`], [`Settings`] |
//! | `driver`, `algorithm` | [`Trainer`], a learner at work; [`Iteration`], [`Stop`] |
//! | [`presets`] | settings known to reach a goal; what is worth searching of them |
//! | [`MultiEnv`], `multi_runner`, `multi_agent` | several agents: environments, who plays which seat, [`MultiPpo`] |
//! | [`external`] | environments that step themselves and connect: [`ExternalPpo`] |
//! | [`log`], [`curve`] | what a run writes while it goes; learning curves over several seeds |
//! | [`view`] | pictures of observations, as text and as GIF |
//! | `export` | a policy as ONNX or safetensors, for other programs |
//! | [`Policy`], [`checkpoint`] | using the result, saving it, going on from it |
//!
//! Invariants:
//!
//! 1. A learner is pure: a rollout in, weights and figures out; no clock, thread or file (`ppo`).
//! 2. One seed gives one result to the bit, whatever the number of runners or threads; only asynchronous algorithms with
//!    runners on threads depend on timing (`tests/it/repeat.rs`, `off_policy.rs`).
//! 3. `terminated` and `truncated` are kept apart from the environment to the advantage (`tests/it/vec_env.rs`, `gae`).
//! 4. A step of an environment, and a warm iteration of any algorithm for one agent on the calling thread, allocate nothing (`tests/it/guards.rs`, `off_policy.rs`).
//! 5. Environments of Gymnasium's names equal Gymnasium's in every bit of every state (`tests/it/gymnasium.rs`, `gymnasium_envs.rs`).
//! 6. What is not a number stops the run with a name; it never reaches the weights unseen (`tests/it/guards.rs`).

mod algorithms;
pub mod cli;
pub mod curve;
mod env;
pub mod envs;
mod error;
pub mod external;
mod learn;
mod play;
pub mod presets;
mod saved;
mod train;
pub mod view;

pub use air_core::BoxError;
pub use algorithms::bc::{BcConfig, BcLearner};
pub use algorithms::cql::{CqlConfig, CqlLearner};
pub use algorithms::dqn::{DqnConfig, DqnLearner, DqnStats};
pub use algorithms::impala::{
    AppoConfig, AppoLearner, ImpalaConfig, ImpalaLearner, Traced, TracedLearner, TracedStats,
};
pub use algorithms::iql::{IqlConfig, IqlLearner};
pub use algorithms::marwil::{MarwilConfig, MarwilLearner};
pub use algorithms::multi_agent::{MultiPpo, MultiPpoConfig, MultiStats, Policies, PolicyStats};
pub use algorithms::ppo::{PpoConfig, PpoLearner, PpoStats};
pub use algorithms::pqn::{PqnConfig, PqnLearner, PqnStats};
pub use algorithms::recurrent_ppo::{RecurrentPpoConfig, RecurrentPpoLearner};
pub use algorithms::sac::{SacConfig, SacLearner, SacStats};
pub use algorithms::td3::{Td3Config, Td3Learner, Td3Stats};
pub use algorithms::{bc, cql, dqn, impala, iql, marwil, ppo, pqn, recurrent_ppo, sac, td3};
pub use env::actions::ActionRows;
pub use env::check::check_env;
pub use env::multi_env::{MultiEnv, check_multi_env};
pub use env::python::PythonConfig;
pub use env::space::Space;
pub use env::time_limit::TimeLimit;
pub use env::vec_env::{Actions, Batch, VecEnv, Vectorized};
pub use env::{Action, Env, OwnedAction, Step};
pub use env::{rng, wrap};
pub use envs::{EnvSpec, Registry};
pub use error::{Result, RlError};
pub use external::{ExternalPpo, ExternalPpoConfig};
pub use learn::offline_data::{Dataset, RecordedEpisode, record};
pub use learn::{categorical, gae, gaussian, normalize, offline_data, replay, sum_tree, values, vtrace};
pub use play::actor::Actor;
pub use play::multi_runner::MultiEnvSpec;
pub use play::sampler::Sampling;
pub use play::task::Task;
pub use play::{actor, rollout, runner};
pub use saved::checkpoint;
pub use saved::policy::{Played, Policy};
pub use train::algorithm::{Algorithm, Iteration, Outcome, Reason, Stop, WINDOW};
pub use train::driver::Trainer;
pub use train::learner::{Figures, Learner, Settings};
pub use train::log;
pub use train::off_policy::{ReplayLearner, ReplaySettings, ReplayStep, Replayed, Replaying};
pub use train::offline::{Drawing, OfflineLearner, OfflineSettings, OfflineTrainer};

/// PPO on an environment.
pub type Ppo = Trainer<PpoLearner>;

/// PPO with a memory on an environment.
pub type RecurrentPpo = Trainer<RecurrentPpoLearner>;

/// IMPALA on an environment.
pub type Impala = Trainer<ImpalaLearner>;

/// APPO on an environment.
pub type Appo = Trainer<AppoLearner>;

/// PQN on an environment.
pub type Pqn = Trainer<PqnLearner>;

/// DQN on an environment.
pub type Dqn = Trainer<DqnLearner>;

/// SAC on an environment.
pub type Sac = Trainer<SacLearner>;

/// TD3 on an environment.
pub type Td3 = Trainer<Td3Learner>;

/// Behaviour cloning of recorded episodes.
pub type Bc = OfflineTrainer<BcLearner>;

/// MARWIL on recorded episodes.
pub type Marwil = OfflineTrainer<MarwilLearner>;

/// CQL on recorded episodes.
pub type Cql = OfflineTrainer<CqlLearner>;

/// IQL on recorded episodes.
pub type Iql = OfflineTrainer<IqlLearner>;
