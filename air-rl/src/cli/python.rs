//! How environments in Python are run, as told on the command line.

use air_core::cli::CliError;
use clap::Args;

use crate::env::python::PythonConfig;
use crate::envs::Registry;
use crate::saved::checkpoint::Saved;

#[derive(Args)]
#[command(next_help_heading = "Environments in Python (gym:NAME, py:MODULE:CLASS)")]
pub(super) struct Python {
    /// The interpreter; $AIR_PYTHON unless given, or else python3
    #[arg(long = "python", value_name = "PATH")]
    program: Option<String>,
    /// Worker processes the environments are divided among
    #[arg(long = "python-workers", value_name = "N", default_value_t = PythonConfig::default().workers)]
    workers: usize,
    /// Seconds after which a worker that does not answer is replaced, its episodes truncated
    #[arg(long = "python-deadline", value_name = "SECONDS", default_value_t = PythonConfig::default().step_seconds)]
    step_seconds: f64,
}

impl Python {
    /// The same, as words of a command line.
    pub(super) fn words(&self) -> Vec<String> {
        let default = PythonConfig::default();
        let mut words: Vec<String> =
            self.program.iter().map(|program| format!("--python={program}")).collect();
        if self.workers != default.workers {
            words.push(format!("--python-workers={}", self.workers));
        }
        if self.step_seconds != default.step_seconds {
            words.push(format!("--python-deadline={}", self.step_seconds));
        }
        words
    }

    /// The environments there are.
    pub(super) fn registry(&self) -> Result<Registry, CliError> {
        let config = PythonConfig {
            program: self.program.clone(),
            workers: self.workers,
            step_seconds: self.step_seconds,
            ..PythonConfig::default()
        };
        config.validate().map_err(super::usage)?;
        Ok(Registry::default().with_python(config))
    }
}

/// The environment a checkpoint was trained in. One that names any class of Python could run anything, so that is only run if it is
/// named on the command line.
pub(super) fn named(saved: &Saved) -> Result<&String, CliError> {
    let name = &saved.run.env;
    if name.starts_with("py:") {
        return Err(CliError::usage(format!(
            "the policy was trained in `{name}`, which a checkpoint alone does not start: give it with --env"
        )));
    }
    Ok(name)
}
