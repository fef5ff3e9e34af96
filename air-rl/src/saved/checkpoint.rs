//! What a checkpoint of a run holds, and how it is read back.
//!
//! | file | content |
//! |---|---|
//! | `run.json` | [`Run`]: environment, spaces, how the network is read, normaliser, seed, counters, configuration |
//! | `actor.safetensors` | the policy's network, as PyTorch would load it |
//! | `actor_memory.safetensors` | what observations pass before it, if the policy remembers: a `GRU` of PyTorch |
//! | others | what the learner names ([`Learner::state`](crate::Learner::state)): its networks, optimisers, counters |
//!
//! Random streams need no file: each follows from the seed, a name and the iteration.

use std::collections::BTreeMap;

use air_core::checkpoint::{Checkpoint, CheckpointStore};
use air_core::wire;
use air_train::nn::{Gru, Mlp, Module as _, load_safetensors, save_safetensors};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Result, RlError};
use crate::learn::normalize::Normalizer;
use crate::play::actor::{Actor, Explore, Head};
use crate::play::task::Task;
use crate::saved::policy::Policy;

const RUN: &str = "run.json";
const ACTOR: &str = "actor.safetensors";
const MEMORY: &str = "actor_memory.safetensors";

/// `run.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Version of this layout, 2.
    pub format: u32,
    /// Name of the algorithm.
    pub algorithm: String,
    /// Name of the environment.
    pub env: String,
    /// Options of the environment.
    pub env_options: Map<String, Value>,
    /// What the policy observes and what it chooses from.
    pub task: Task,
    /// How a row of the network's outputs becomes an action.
    pub head: Head,
    /// What observations pass before the network sees them.
    pub normalizer: Option<Normalizer>,
    /// Does the policy remember?
    #[serde(default)]
    pub remembers: bool,
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
    pub(crate) const FORMAT: u32 = 2;
}

/// A checkpoint being written or read: a learner walks over its parts, whichever it is.
pub enum State<'a> {
    /// Collects the files of a checkpoint.
    Save {
        /// Names and contents.
        files: Vec<(String, Vec<u8>)>,
        /// What the names of the next ones begin with.
        prefix: String,
    },
    /// Replaces each part by what the checkpoint holds.
    Load {
        /// Where from.
        checkpoint: &'a Checkpoint,
        /// What the names begin with.
        prefix: String,
    },
}

impl State<'_> {
    /// What the names of the files of the next parts begin with, where several learners share a checkpoint.
    pub(crate) fn begin(&mut self, with: String) {
        let (Self::Save { prefix, .. } | Self::Load { prefix, .. }) = self;
        *prefix = with;
    }

    fn file(&self, name: &str, kind: &str) -> String {
        let (Self::Save { prefix, .. } | Self::Load { prefix, .. }) = self;
        format!("{prefix}{name}.{kind}")
    }

    /// A network, in `NAME.safetensors`.
    pub fn network(&mut self, name: &str, net: &mut Mlp) -> Result<()> {
        let file = self.file(name, "safetensors");
        match self {
            // A policy's network may be one of the learner's, too.
            Self::Save { files, .. } if files.iter().any(|(saved, _)| *saved == file) => {}
            Self::Save { files, .. } => files.push((file, save_safetensors(net).map_err(network)?)),
            Self::Load { checkpoint, .. } => {
                load_safetensors(net, &checkpoint.read(&file)?).map_err(network)?;
            }
        }
        Ok(())
    }

    /// An error unless what was restored under a name `fits`.
    pub(crate) fn expect(&self, name: &str, fits: bool) -> Result<()> {
        match self {
            Self::Load { checkpoint, .. } if !fits => Err(unusable(
                &checkpoint.location(),
                &format!("its {name} is not of the size that its settings say"),
            )),
            _ => Ok(()),
        }
    }

    /// A memory, in `NAME.safetensors`.
    pub fn memory(&mut self, name: &str, memory: &mut Gru) -> Result<()> {
        let file = self.file(name, "safetensors");
        match self {
            Self::Save { files, .. } if files.iter().any(|(saved, _)| *saved == file) => {}
            Self::Save { files, .. } => files.push((file, memory.to_safetensors().map_err(network)?)),
            Self::Load { checkpoint, .. } => {
                let saved = Gru::from_safetensors(&checkpoint.read(&file)?).map_err(network)?;
                if (saved.inputs(), saved.units()) != (memory.inputs(), memory.units()) {
                    let why = format!("{file} has {} inputs and {} units", saved.inputs(), saved.units());
                    return Err(unusable(&checkpoint.location(), &why));
                }
                memory.params_mut().copy_from_slice(saved.params());
            }
        }
        Ok(())
    }

    /// Any value, in `NAME.bin`.
    pub fn value<T: Serialize + DeserializeOwned>(&mut self, name: &str, value: &mut T) -> Result<()> {
        let file = self.file(name, "bin");
        match self {
            Self::Save { files, .. } => files.push((file, wire::encode(value)?)),
            Self::Load { checkpoint, .. } => {
                let bytes = checkpoint.read(&file)?;
                *value =
                    wire::decode(&bytes, bytes.len()).map_err(|e| unusable(&checkpoint.location(), &e))?;
            }
        }
        Ok(())
    }
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

/// Writes `run.json`, the policy's network, and what `parts` names.
pub(crate) fn save(
    store: &CheckpointStore,
    run: &Run,
    policy: &Actor,
    parts: impl FnOnce(&mut State<'_>) -> Result<()>,
    mean_return: Option<f64>,
) -> Result<Checkpoint> {
    let text = serde_json::to_vec_pretty(run).map_err(|e| unusable("(not yet saved)", &e))?;
    let actor = save_safetensors(&policy.net).map_err(network)?;
    let mut files = vec![(RUN.into(), text), (ACTOR.into(), actor)];
    if let Some(memory) = &policy.memory {
        files.push((MEMORY.into(), memory.to_safetensors().map_err(network)?));
    }
    let mut state = State::Save { files, prefix: String::new() };
    parts(&mut state)?;
    let State::Save { files, .. } = state else {
        return Err(unusable("(not yet saved)", &"it was not written"));
    };
    let (names, contents): (Vec<String>, Vec<Vec<u8>>) = files.into_iter().unzip();
    let files: Vec<_> = names.iter().map(String::as_str).zip(contents.into_iter().map(Into::into)).collect();
    let metrics: BTreeMap<String, f64> =
        mean_return.map(|r| ("mean_return".to_owned(), r)).into_iter().collect();
    Ok(store.save(run.steps, &metrics, &files)?)
}

impl Saved {
    /// The checkpoint at a path or URL, or the latest of a directory of them; checksums are verified.
    pub fn read(location: &str) -> Result<Self> {
        if std::path::Path::new(location).is_file() {
            return Err(unusable(
                location,
                &"it is a file; a checkpoint is a directory, as `train --out` writes it",
            ));
        }
        let checkpoint = Checkpoint::find(location)?;
        let text = checkpoint.read(RUN)?;
        let value: Value = serde_json::from_slice(&text).map_err(|e| unusable(location, &e))?;
        // Looked at first: what another version wrote has other fields.
        if value["format"] != Run::FORMAT {
            let why = format!("its format is {}, this version reads {}", value["format"], Run::FORMAT);
            return Err(RlError::Checkpoint { location: location.into(), why });
        }
        let run: Run = serde_json::from_value(value).map_err(|e| unusable(location, &e))?;
        run.task.observation_space.validate("observation space")?;
        run.task.action_space.validate("action space")?;
        Ok(Self { run, checkpoint })
    }

    /// Where it lies.
    pub fn location(&self) -> String {
        self.checkpoint.location()
    }

    pub(crate) fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The policy in it.
    pub fn policy(&self) -> Result<Policy> {
        let Run { task, head, normalizer, .. } = &self.run;
        let net = Mlp::from_safetensors(&self.checkpoint.read(ACTOR)?).map_err(network)?;
        let memory = if self.run.remembers {
            Some(Gru::from_safetensors(&self.checkpoint.read(MEMORY)?).map_err(network)?)
        } else {
            None
        };
        if memory.as_ref().is_some_and(|memory| memory.units() != net.inputs()) {
            return Err(self.unusable(&"its memory does not fit its network"));
        }
        let (inputs, outputs) = (memory.as_ref().map_or(net.inputs(), Gru::inputs), net.outputs());
        let normalized = normalizer.as_ref().is_none_or(|normalizer| normalizer.len() == task.inputs());
        if inputs != task.inputs() || outputs != head.outputs(&task.action_space) || !normalized {
            return Err(self.unusable(&format!("its network ({inputs} → {outputs}) does not fit its spaces")));
        }
        let mut actor = Actor::new(net, head.clone(), task.action_space.clone(), Explore::Never)?;
        actor.normalizer.clone_from(normalizer);
        actor.memory = memory;
        Ok(Policy::new(actor, task.clone()))
    }

    /// The settings of a run of that algorithm.
    pub(crate) fn config<C: DeserializeOwned>(&self, algorithm: &str) -> Result<C> {
        if self.run.algorithm != algorithm {
            return Err(self.unusable(&format!("it is of the algorithm `{}`", self.run.algorithm)));
        }
        C::deserialize(&self.run.config).map_err(|e| self.unusable(&e))
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

fn network(error: air_train::TrainError) -> RlError {
    RlError::Network(error.into())
}

fn unusable(location: &str, why: &dyn std::fmt::Display) -> RlError {
    RlError::Checkpoint { location: location.into(), why: why.to_string() }
}
