//! Any command as a trial.
//!
//! The command gets its parameters in its arguments (`{lr}`) and in its environment (`AIR_PARAM_LR`), and reports by printing JSON objects,
//! one a line, that hold the metric: `{"loss": 0.3, "accuracy": 0.9}`. Other lines are kept in the trial's `stdout.log`.
//!
//! | variable | holds |
//! |---|---|
//! | `AIR_PARAM_<NAME>` | one parameter; the name in capitals, `_` for what is neither letter nor digit |
//! | `AIR_PARAMS` | all parameters as JSON |
//! | `AIR_TRIAL`, `AIR_ATTEMPT` | the trial's number; how often it was started |
//! | `AIR_SEED` | a 64-bit seed of its own |
//! | `AIR_CHECKPOINT` | a folder that survives the command: what it saves there, it finds again when the trial is resumed |
//! | `AIR_TRIAL_DIR` | the trial's folder |
//! | `AIR_CPUS`, `AIR_GPUS`, `CUDA_VISIBLE_DEVICES` | what the trial has of the machine, where a scheduler deals that out |
//!
//! The integer `training_iteration` of a report, if there is one, is its iteration; otherwise reports are counted. A trial that is stopped
//! early gets SIGTERM, and SIGKILL after [`Command::grace`]; both go to its whole process group.

mod output;
mod process;
mod template;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use air_core::BoxError;
use air_core::process::Guard;

use crate::config::Config;
use crate::error::{Result, TuneError};
use crate::space::Space;
use crate::trial::{Trainable, Trial};

use template::Template;

/// A command to tune.
///
/// ```no_run
/// use air_tune::space::{Space, log_uniform};
/// use air_tune::{Tuner, command::Command};
/// let space = Space::new().with("lr", log_uniform(1e-4, 1e-1));
/// let command = Command::new(["python", "train.py", "--lr", "{lr}"], "loss", &space)?;
/// let results = Tuner::with(space, command).fit()?;
/// # Ok::<(), air_tune::TuneError>(())
/// ```
pub struct Command {
    template: Template,
    metric: String,
    grace: Duration,
    guard: Arc<Guard>,
}

impl Command {
    /// The command with its placeholders, and the metric its lines report.
    ///
    /// # Errors
    /// [`TuneError::Placeholder`] for a name the space does not have; [`TuneError::Command`] if there is no such program.
    pub fn new<S: Into<String>>(
        argv: impl IntoIterator<Item = S>,
        metric: &str,
        space: &Space,
    ) -> Result<Self> {
        let argv: Vec<String> = argv.into_iter().map(Into::into).collect();
        let template = Template::new(&argv, space)?;
        let program = argv.first().map(String::as_str).unwrap_or_default();
        if !program.contains('{') {
            find_program(program)?;
        }
        Ok(Self {
            template,
            metric: metric.to_owned(),
            grace: Duration::from_secs(5),
            guard: Guard::start().map_err(TuneError::io("/bin/sh"))?,
        })
    }

    /// How long a command that was told to stop may take (5 seconds unless set) before it is killed.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }
}

impl Trainable for Command {
    fn run(&self, trial: &mut Trial, config: Config) -> Result<(), BoxError> {
        process::run(self, trial, &config)
    }

    fn can_clone(&self) -> bool {
        false
    }
}

fn find_program(program: &str) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let runnable = |path: &PathBuf| {
        path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    let fail = |reason: &str| TuneError::Command { program: program.to_owned(), reason: reason.to_owned() };
    if program.is_empty() {
        return Err(fail("no command is given"));
    }
    if program.contains('/') {
        let path = PathBuf::from(program);
        return if runnable(&path) { Ok(path) } else { Err(fail("no such executable file")) };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(runnable)
        .ok_or_else(|| fail("not found in PATH"))
}
