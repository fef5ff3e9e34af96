//! What can go wrong, with the environment, the step or the path it concerns.

use air_core::BoxError;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RlError {
    /// The name is not in the registry.
    #[error("unknown environment `{name}`; known: {}", known.join(", "))]
    UnknownEnv {
        /// What was asked for.
        name: String,
        /// What the registry holds.
        known: Vec<String>,
    },
    /// The algorithm is not one of ours.
    #[error("unknown algorithm `{name}`; known: {}", known.join(", "))]
    UnknownAlgorithm {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The environment's options could not be read.
    #[error("bad options for environment `{name}`")]
    EnvOptions {
        /// The environment.
        name: String,
        /// The cause.
        source: BoxError,
    },
    /// There is no picture of the environment.
    #[error("there is no picture of `{name}`; there is one of {}", drawn.join(", "))]
    NotDrawn {
        /// The environment.
        name: String,
        /// Those that can be drawn.
        drawn: Vec<String>,
    },
    /// The environment itself returned an error.
    #[error("environment {env} failed in {verb}")]
    Env {
        /// Row of the environment in its batch.
        env: usize,
        /// `reset` or `step`.
        verb: &'static str,
        /// The cause.
        source: BoxError,
    },
    /// An action outside the action space.
    #[error("action {action} of environment {env} is outside {space}")]
    ActionOutOfRange {
        /// Row of the environment in its batch.
        env: usize,
        /// The action, printed.
        action: String,
        /// The space, printed.
        space: String,
    },
    /// A slice of the wrong length.
    #[error("{what} has length {got}, expected {expected}")]
    Shape {
        /// Which slice.
        what: &'static str,
        /// Its length.
        got: usize,
        /// The length it must have.
        expected: usize,
    },
    /// A NaN or an infinity where a number must be.
    #[error("{what} of environment {env} is not finite at its step {step}")]
    NotFinite {
        /// `observation` or `reward`.
        what: &'static str,
        /// Row of the environment in its batch.
        env: usize,
        /// Steps taken by that environment when it was seen.
        step: u64,
    },
    /// Clients could not be awaited, or none came in time.
    #[error("external environments at {address}")]
    External {
        /// Where they are awaited.
        address: std::net::SocketAddr,
        /// The cause.
        source: crate::external::LinkError,
    },
    /// Environments in Python that cannot be made, or were lost too often.
    #[error("environment `{env}` in Python: {why}")]
    Python {
        /// Its name.
        env: String,
        /// What its worker said, or what became of it.
        why: String,
    },
    /// A space that an algorithm cannot use, or that is ill-formed.
    #[error("{what} {space} {why}")]
    Space {
        /// `observation space` or `action space`.
        what: &'static str,
        /// The space, printed.
        space: String,
        /// What is wrong with it.
        why: String,
    },
    /// An environment that breaks its contract (see [`check_env`](crate::check_env)).
    #[error("environment breaks its contract: {why}")]
    Contract {
        /// What it does, and at which step.
        why: String,
    },
    /// A setting out of its range.
    #[error("invalid config: {field} {why}")]
    Config {
        /// The field.
        field: &'static str,
        /// What it must be.
        why: String,
    },
    /// Training left the numbers: a loss or a weight is no longer finite.
    #[error("training diverged: {what} is not finite in iteration {iteration}")]
    Diverged {
        /// What was not finite.
        what: &'static str,
        /// The iteration, from 1.
        iteration: u64,
    },
    /// A checkpoint that cannot be used.
    #[error("cannot use checkpoint {location}: {why}")]
    Checkpoint {
        /// Where it lies.
        location: String,
        /// What is wrong with it.
        why: String,
    },
    /// Recorded episodes that cannot be learned from.
    #[error("cannot learn from {place}: {why}")]
    Data {
        /// The file, line or episode.
        place: String,
        /// What is wrong with it.
        why: String,
    },
    /// The logs of a run could not be written.
    #[error("cannot write the logs in {}", dir.display())]
    Log {
        /// Their folder.
        dir: std::path::PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A network could not be built or run.
    #[error("network")]
    Network(#[source] BoxError),
    /// The layer below failed.
    #[error(transparent)]
    Core(#[from] air_core::CoreError),
}

/// Result of this crate.
pub type Result<T, E = RlError> = std::result::Result<T, E>;

/// Checks settings; an error names the first that is out of its range.
pub(crate) struct Check;

impl Check {
    pub(crate) fn at(field: &'static str, ok: bool, why: &str) -> Result<()> {
        if ok { Ok(()) } else { Err(RlError::Config { field, why: why.into() }) }
    }

    pub(crate) fn unit(field: &'static str, x: f32) -> Result<()> {
        Self::at(field, (0.0..=1.0).contains(&x), "must be between 0 and 1")
    }

    pub(crate) fn positive(field: &'static str, x: f32) -> Result<()> {
        Self::at(field, x > 0.0 && x.is_finite(), "must be positive")
    }

    /// Convolutions: filters, kernel and stride of each.
    pub(crate) fn conv(conv: &[[usize; 3]]) -> Result<()> {
        let fits = conv.iter().flatten().all(|n| (1..=1 << 16).contains(n));
        Self::at("conv", fits, "must be a list of [filters, kernel, stride], each between 1 and 65536")
    }

    /// What all algorithms that play are told of playing.
    pub(crate) fn sampling(envs: usize, steps: usize, runners: usize) -> Result<()> {
        Self::at("envs", (1..=1 << 16).contains(&envs), "must be between 1 and 65536")?;
        Self::at("steps", (1..=1 << 20).contains(&steps), "must be between 1 and 1048576")?;
        Self::at("envs", envs.saturating_mul(steps) <= 1 << 26, "times steps must be at most 67108864")?;
        Self::at("runners", (1..=envs).contains(&runners), "must be between 1 and envs")
    }

    /// What all algorithms that replay are told of it.
    pub(crate) fn replay(capacity: usize, batch: usize, starts: usize, n_step: usize) -> Result<()> {
        Self::at("batch", (1..=1 << 16).contains(&batch), "must be between 1 and 65536")?;
        Self::at("capacity", (1..=1 << 28).contains(&capacity), "must be between 1 and 268435456")?;
        Self::at("learning_starts", starts <= capacity, "must be at most capacity")?;
        Self::at("n_step", (1..=1 << 10).contains(&n_step), "must be between 1 and 1024")
    }

    /// What all algorithms that learn from recordings are told of the network and its steps.
    pub(crate) fn recorded(
        hidden: &[usize],
        lr: f32,
        batch: usize,
        updates: usize,
        evaluate_episodes: u64,
    ) -> Result<()> {
        Self::at("hidden", hidden.iter().all(|&n| n > 0), "must have at least 1 unit a layer")?;
        Self::positive("lr", lr)?;
        Self::at("batch", (1..=1 << 16).contains(&batch), "must be between 1 and 65536")?;
        Self::at("updates", updates > 0, "must be at least 1")?;
        Self::at("evaluate_episodes", evaluate_episodes <= 100_000, "must be at most 100000")
    }
}
