//! What a checkpoint of a run holds, and how it is read back.
//!
//! | file | content |
//! |---|---|
//! | `run.json` | [`Run`]: environment, spaces, seed, counters, configuration |
//! | `actor.safetensors`, `critic.safetensors` | the networks, as PyTorch would load them |
//! | `optimizer.bin` | both optimisers' moments |
//!
//! Random streams need no file: each follows from the seed, a name and the iteration.

use std::collections::BTreeMap;

use air_core::checkpoint::{Checkpoint, CheckpointStore};
use air_core::wire;
use air_train::nn::{Adam, Mlp, load_safetensors, save_safetensors};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Result, RlError};
use crate::policy::Policy;
use crate::ppo::{PpoConfig, PpoLearner};
use crate::space::Space;

const RUN: &str = "run.json";
const ACTOR: &str = "actor.safetensors";
const CRITIC: &str = "critic.safetensors";
const OPTIMIZER: &str = "optimizer.bin";

/// `run.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Version of this layout, 1.
    pub format: u32,
    /// Name of the algorithm.
    pub algorithm: String,
    /// Name of the environment.
    pub env: String,
    /// Options of the environment.
    pub env_options: Map<String, Value>,
    /// What the policy observes.
    pub observation_space: Space,
    /// What the policy chooses from.
    pub action_space: Space,
    /// Seed of the run.
    pub seed: u64,
    /// Updates done.
    pub iteration: u64,
    /// Environment steps taken.
    pub steps: u64,
    /// The algorithm's configuration.
    pub config: Value,
}

impl Run {
    pub(crate) const FORMAT: u32 = 1;
}

/// A checkpoint, found and its `run.json` read.
pub struct Saved {
    /// What it says of itself.
    pub run: Run,
    checkpoint: Checkpoint,
}

pub(crate) fn json<T: Serialize>(value: &T) -> Result<Value> {
    serde_json::to_value(value).map_err(|e| unusable("(not yet saved)", &e))
}

pub(crate) fn save(
    store: &CheckpointStore,
    run: &Run,
    learner: &PpoLearner,
    mean_return: Option<f64>,
) -> Result<Checkpoint> {
    let text = serde_json::to_vec_pretty(run).map_err(|e| unusable("(not yet saved)", &e))?;
    let optimizer = wire::encode(&(&learner.actor_adam, &learner.critic_adam))?;
    let network = |net: &Mlp| save_safetensors(net).map_err(|e| RlError::Network(e.into()));
    let files = [
        (RUN, text.into()),
        (ACTOR, network(&learner.actor)?.into()),
        (CRITIC, network(&learner.critic)?.into()),
        (OPTIMIZER, optimizer.into()),
    ];
    let metrics: BTreeMap<String, f64> =
        mean_return.map(|r| ("mean_return".to_owned(), r)).into_iter().collect();
    Ok(store.save(run.steps, &metrics, &files)?)
}

impl Saved {
    /// The checkpoint at a path or URL, or the latest of a directory of them; checksums are verified.
    pub fn read(location: &str) -> Result<Self> {
        let checkpoint = Checkpoint::find(location)?;
        let run: Run = serde_json::from_slice(&checkpoint.read(RUN)?).map_err(|e| unusable(location, &e))?;
        if run.format != Run::FORMAT {
            let why = format!("its format is {}, this version reads {}", run.format, Run::FORMAT);
            return Err(RlError::Checkpoint { location: location.into(), why });
        }
        run.observation_space.validate("observation space")?;
        run.action_space.validate("action space")?;
        Ok(Self { run, checkpoint })
    }

    /// Where it lies.
    pub fn location(&self) -> String {
        self.checkpoint.location()
    }

    /// The policy in it.
    pub fn policy(&self) -> Result<Policy> {
        let Run { observation_space, action_space, .. } = &self.run;
        let actor =
            Mlp::from_safetensors(&self.checkpoint.read(ACTOR)?).map_err(|e| RlError::Network(e.into()))?;
        let choices = match action_space {
            Space::Discrete { n } => *n as usize,
            Space::Box { low, .. } => low.len(),
        };
        if (actor.inputs(), actor.outputs()) != (observation_space.row_len(), choices) {
            let net = format!("{} → {}", actor.inputs(), actor.outputs());
            return Err(self.unusable(&format!("its network ({net}) does not fit its spaces")));
        }
        Ok(Policy::new(actor, observation_space.clone(), action_space.clone()))
    }

    pub(crate) fn config(&self) -> Result<PpoConfig> {
        if self.run.algorithm != "ppo" {
            return Err(self.unusable(&format!("it is of the algorithm `{}`", self.run.algorithm)));
        }
        PpoConfig::deserialize(&self.run.config).map_err(|e| self.unusable(&e))
    }

    pub(crate) fn restore(&self, learner: &mut PpoLearner) -> Result<()> {
        let network = |net: &mut Mlp, file| {
            load_safetensors(net, &self.checkpoint.read(file)?).map_err(|e| RlError::Network(e.into()))
        };
        network(&mut learner.actor, ACTOR)?;
        network(&mut learner.critic, CRITIC)?;
        let bytes = self.checkpoint.read(OPTIMIZER)?;
        let (actor, critic): (Adam, Adam) =
            wire::decode(&bytes, bytes.len()).map_err(|e| self.unusable(&e))?;
        (learner.actor_adam, learner.critic_adam) = (actor, critic);
        learner.resume_at(self.run.iteration, self.run.steps);
        Ok(())
    }

    fn unusable(&self, why: &dyn std::fmt::Display) -> RlError {
        unusable(&self.checkpoint.location(), why)
    }
}

impl Policy {
    /// The policy of a checkpoint: a path or URL, or the latest of a directory of them.
    pub fn load(location: &str) -> Result<Self> {
        Saved::read(location)?.policy()
    }
}

fn unusable(location: &str, why: &dyn std::fmt::Display) -> RlError {
    RlError::Checkpoint { location: location.into(), why: why.to_string() }
}
