//! Environments in Python: `gym:NAME` of Gymnasium, `pettingzoo:NAME` of PettingZoo, `py:MODULE:CLASS` of your own, in worker processes over shared memory.
//!
//! | file | idea |
//! |---|---|
//! | `worker.py` | what a worker runs: one script for any Python from 3.8 on |
//! | `worker.rs` | a worker as a process, and what is said to it |
//! | `told.rs` | what a worker tells of its environments: spaces, agents |
//! | `layout.rs` | where what lies in the memory shared with it |
//! | `envs.rs` | the workers as one [`VecEnv`](crate::VecEnv); what happens when one is lost |
//! | `multi.rs` | a worker as one environment of several agents |
//! | `restarts.rs` | how many losses are borne |
//!
//! The memory is a file in `/dev/shm` (or the folder for temporary files), which the worker maps and we read and write at offsets: as fast
//! for rows of this size, and nothing that a worker does to it can harm us.

mod envs;
mod layout;
mod multi;
mod restarts;
mod told;
mod worker;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::env::multi_env::MultiEnv;
use crate::env::vec_env::VecEnv;
use crate::error::{Check, Result, RlError};

/// How Python is run.
///
/// ```no_run
/// use air_rl::{PythonConfig, Registry};
///
/// let python = PythonConfig { program: Some(".venv/bin/python".into()), ..PythonConfig::default() };
/// let envs = Registry::default().with_python(python).spec("gym:CartPole-v1")?.make(8)?;
/// # Ok::<(), air_rl::RlError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PythonConfig {
    /// The interpreter, of a virtual environment or not; `$AIR_PYTHON` if there is none, or else `python3`.
    pub program: Option<String>,
    /// Worker processes the environments of one batch are divided among.
    pub workers: usize,
    /// Seconds a worker may take to start: to import, and to make its environments.
    pub start_seconds: f64,
    /// Seconds a worker may take to step or reset all of its environments; one that takes longer is killed and replaced.
    pub step_seconds: f64,
    /// Environments and workers that may be lost within 1000 steps of a batch; with one more the run fails.
    pub losses: usize,
}

impl Default for PythonConfig {
    fn default() -> Self {
        Self { program: None, workers: 1, start_seconds: 120.0, step_seconds: 60.0, losses: 5 }
    }
}

impl PythonConfig {
    /// The first setting out of its range, as an error.
    pub fn validate(&self) -> Result<()> {
        let span = |field, x: f64| {
            Check::at(field, x > 0.0 && x <= 86_400.0, "must be more than 0 and at most 86400 seconds")
        };
        Check::at("workers", (1..=1024).contains(&self.workers), "must be between 1 and 1024")?;
        span("start_seconds", self.start_seconds)?;
        span("step_seconds", self.step_seconds)
    }

    fn program(&self) -> String {
        let from_environment = || std::env::var("AIR_PYTHON").ok().filter(|program| !program.is_empty());
        self.program.clone().or_else(from_environment).unwrap_or_else(|| "python3".into())
    }
}

/// Is this the name of an environment in Python?
pub(crate) fn is_python(name: &str) -> bool {
    name.starts_with("gym:") || name.starts_with("py:")
}

/// Is this the name of an environment of several agents in Python?
pub(crate) fn is_multi(name: &str) -> bool {
    name.starts_with("pettingzoo:") || name.starts_with("py:")
}

/// Checks a name for [`make`].
pub(crate) fn check_name(name: &str) -> Result<()> {
    well_formed(name, "gym", "is not gym:NAME or py:MODULE:CLASS")
}

/// Checks a name for [`make_multi`].
pub(crate) fn check_multi_name(name: &str) -> Result<()> {
    well_formed(name, "pettingzoo", "is not pettingzoo:NAME or py:MODULE:FUNCTION")
}

fn well_formed(name: &str, family: &str, otherwise: &str) -> Result<()> {
    let well_formed = match name.split_once(':') {
        Some(("py", path)) => {
            path.split_once(':').is_some_and(|(module, made)| !module.is_empty() && !made.is_empty())
        }
        Some((of, id)) => of == family && !id.is_empty(),
        None => false,
    };
    if well_formed { Ok(()) } else { Err(RlError::Python { env: name.into(), why: otherwise.into() }) }
}

/// Makes `envs` of them, with `kwargs` for its constructor.
pub(crate) fn make(
    name: &str,
    kwargs: &Map<String, Value>,
    config: &PythonConfig,
    envs: usize,
) -> Result<Box<dyn VecEnv>> {
    config.validate()?;
    Ok(Box::new(envs::PythonEnvs::start(name, kwargs, config, envs)?))
}

/// Makes one of several agents, with `kwargs` for the function or class that it comes from.
pub(crate) fn make_multi(
    name: &str,
    kwargs: &Map<String, Value>,
    config: &PythonConfig,
) -> Result<Box<dyn MultiEnv>> {
    config.validate()?;
    Ok(Box::new(multi::PythonMulti::start(name, kwargs, config)?))
}
