//! Settings that are known to reach a goal: one TOML file for each algorithm and environment, in `presets/`.
//!
//! `air-rl train` takes the one that fits; a test reads all of them, and the learning tests hold them to their goals. What `air-rl sweep`
//! searches, if it is not told, is in `spaces/`: one file for each algorithm, names of settings and the domains of `air-tune`.

use serde::Deserialize;
use serde_json::{Map, json};

use crate::envs::{EnvSpec, Registry};
use crate::error::{Result, RlError};
use crate::train::learner::Settings;

/// A preset, read.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// What it reaches.
    pub goal: Goal,
    /// Wrappers around the environment, the innermost first (see [`Wrap`](crate::wrap::Wrap)).
    #[serde(default)]
    pub wrap: Vec<String>,
    /// The algorithm's settings that differ from the defaults.
    #[serde(default)]
    pub settings: toml::Table,
}

impl Preset {
    /// The environment of that name in the preset's wrappers.
    pub fn env(&self, registry: &Registry, name: &str) -> Result<EnvSpec> {
        let mut options = Map::new();
        if !self.wrap.is_empty() {
            options.insert("wrap".into(), json!(self.wrap));
        }
        registry.spec_with(name, options)
    }
}

/// What a preset reaches, on every seed it was tried with.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Goal {
    /// Mean return of the last 100 training episodes.
    pub mean_return: f64,
    /// Environment steps it takes at most.
    pub steps: u64,
}

macro_rules! presets {
    ($(($algorithm:literal, $env:literal),)*) => {
        /// (algorithm, environment, text) of every preset.
        const PRESETS: &[(&str, &str, &str)] = &[
            $(($algorithm, $env, include_str!(concat!("../presets/", $algorithm, ".", $env, ".toml"))),)*
        ];
    };
}

presets! {
    ("appo", "CartPole-v1"),
    ("dqn", "CartPole-v1"),
    ("dqn", "CliffWalking-v1"),
    ("impala", "CartPole-v1"),
    ("ppo", "AirBreakout-v0"),
    ("ppo", "CartPole-v1"),
    ("pqn", "CartPole-v1"),
    ("recurrent-ppo", "Recall"),
    ("sac", "Pendulum-v1"),
    ("td3", "Pendulum-v1"),
}

macro_rules! spaces {
    ($($algorithm:literal)*) => {
        /// (algorithm, text) of every search space.
        const SPACES: &[(&str, &str)] =
            &[$(($algorithm, include_str!(concat!("../spaces/", $algorithm, ".toml"))),)*];
    };
}

spaces! {
    "appo" "bc" "cql" "dqn" "impala" "iql" "marwil" "multi-ppo" "ppo" "pqn" "recurrent-ppo" "sac" "td3"
}

/// What is worth searching of an algorithm's settings: their names (in tables, where settings are) and domains in the words of `air-tune`,
/// such as `loguniform(1e-4,1e-2)`.
pub fn space(algorithm: &str) -> Result<toml::Table> {
    let (_, text) = SPACES.iter().find(|(known, _)| *known == algorithm).ok_or_else(|| {
        let known = SPACES.iter().map(|(known, _)| (*known).to_owned()).collect();
        RlError::UnknownAlgorithm { name: algorithm.to_owned(), known }
    })?;
    text.parse().map_err(|e: toml::de::Error| RlError::Config { field: "space", why: e.to_string() })
}

/// Algorithm and environment of every preset.
pub fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
    PRESETS.iter().map(|(algorithm, env, _)| (*algorithm, *env))
}

/// The preset of an algorithm on an environment, if there is one.
pub fn find(algorithm: &str, env: &str) -> Result<Option<Preset>> {
    let Some((_, _, text)) = PRESETS.iter().find(|(a, e, _)| *a == algorithm && *e == env) else {
        return Ok(None);
    };
    let preset = toml::from_str(text).map_err(|e| RlError::Config { field: "preset", why: e.to_string() })?;
    Ok(Some(preset))
}

/// Settings from a table, those it does not name by default; checked.
pub fn settings<C: Settings>(table: toml::Table) -> Result<C> {
    let config: C =
        table.try_into().map_err(|e| RlError::Config { field: "settings", why: e.to_string() })?;
    config.validate()?;
    Ok(config)
}

/// The settings and the goal of the preset of an algorithm on an environment; [`Preset::env`] has the environment in its wrappers.
pub fn load<C: Settings>(algorithm: &str, env: &str) -> Result<(C, Goal)> {
    let preset = find(algorithm, env)?.ok_or_else(|| RlError::Config {
        field: "preset",
        why: format!("does not exist for {algorithm} on {env}"),
    })?;
    Ok((settings(preset.settings)?, preset.goal))
}
