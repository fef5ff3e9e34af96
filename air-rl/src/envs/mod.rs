//! The environments that come with the crate, and the registry that finds them by name.

mod acrobot;
mod asterix;
mod breakout;
mod cartpole;
mod cartpole_batch;
pub(crate) mod cliff_walking;
mod corridor;
mod freeway;
mod frozen_lake;
mod grid;
mod lander;
mod mountain_car;
mod multi;
mod multi_cartpole;
mod pendulum;
mod pixels;
mod pursuit;
mod recall;
mod rock_paper_scissors;
mod square;
pub(crate) mod taxi;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use air_core::BoxError;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub use acrobot::Acrobot;
pub use asterix::Asterix;
pub use breakout::Breakout;
pub use cartpole::CartPole;
use cartpole_batch::CartPoles;
pub use cliff_walking::{CliffWalking, CliffWalkingOptions};
pub use corridor::{CorridorOptions, SimpleCorridor};
pub use freeway::Freeway;
pub use frozen_lake::{FrozenLake, FrozenLakeOptions};
pub use lander::{Lander, LanderOptions};
pub use mountain_car::{MountainCar, MountainCarContinuous};
pub use multi::{MULTI_ENVS, multi_env};
pub use multi_cartpole::MultiCartPole;
pub use pendulum::{Pendulum, PendulumOptions};
pub use pursuit::Pursuit;
pub use recall::{Recall, RecallOptions};
pub use rock_paper_scissors::RockPaperScissors;
pub use taxi::{Taxi, TaxiOptions, TaxiV3Options};

use crate::env::Env;
use crate::env::python::{self, PythonConfig};
use crate::env::time_limit::TimeLimit;
use crate::env::vec_env::{VecEnv, Vectorized};
use crate::env::wrap::Wrap;
use crate::error::{Result, RlError};
use crate::play::multi_runner::MultiEnvSpec;

type Make = dyn Fn(usize) -> Result<Box<dyn VecEnv>> + Send + Sync;
type One = dyn Fn() -> std::result::Result<Box<dyn Env>, BoxError> + Send + Sync;
type Bind = dyn Fn(Value) -> std::result::Result<Bound, BoxError> + Send + Sync;

/// An environment with its options: many of them, dispatched statically, and one, to be wrapped.
struct Bound {
    make: Arc<Make>,
    one: Arc<One>,
}

/// How to make one kind of environment, any number at a time: a name, its options and a factory. Cheap to clone and
/// to send; what a runner on another thread builds its environments from.
#[derive(Clone)]
pub struct EnvSpec {
    name: String,
    options: Map<String, Value>,
    make: Arc<Make>,
}

impl EnvSpec {
    /// An environment of your own, not in any registry.
    pub fn new<E, F>(name: impl Into<String>, make: F) -> Self
    where
        E: Env + 'static,
        F: Fn() -> E + Send + Sync + 'static,
    {
        Self { name: name.into(), options: Map::new(), make: batch_of(make) }
    }

    /// The name it was made under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The options it was made with.
    pub fn options(&self) -> &Map<String, Value> {
        &self.options
    }

    /// Makes `envs` of them (at least 1) as one batch.
    pub fn make(&self, envs: usize) -> Result<Box<dyn VecEnv>> {
        (self.make)(envs)
    }
}

impl fmt::Debug for EnvSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnvSpec")
            .field("name", &self.name)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

fn batch_of<E: Env + 'static>(make: impl Fn() -> E + Send + Sync + 'static) -> Arc<Make> {
    Arc::new(move |envs| Ok(Box::new(Vectorized::new((0..envs).map(|_| make()).collect())?)))
}

/// Environments by name. A value, not a global: add your own to yours. Those in Python need no registering: `gym:NAME` is
/// Gymnasium's, `py:MODULE:CLASS` any class with its methods.
///
/// ```
/// use air_rl::envs::{Registry, SimpleCorridor};
///
/// let mut registry = Registry::default();
/// registry.register("ShortCorridor", || SimpleCorridor::new(3));
/// assert_eq!(registry.spec("ShortCorridor")?.make(4)?.num_envs(), 4);
/// assert!(registry.names().contains(&"ShortCorridor".to_owned()));
/// # Ok::<(), air_rl::RlError>(())
/// ```
#[derive(Clone)]
pub struct Registry {
    known: BTreeMap<String, Arc<Bind>>,
    python: PythonConfig,
}

impl Default for Registry {
    /// The environments of this crate.
    fn default() -> Self {
        let mut registry = Self { known: BTreeMap::new(), python: PythonConfig::default() };
        registry.register("Acrobot-v1", || TimeLimit::new(Acrobot::new(), 500));
        registry.register("CartPole-v1", || TimeLimit::new(CartPole::new(), 500));
        registry.step_together("CartPole-v1", |envs| Ok(Box::new(CartPoles::new(envs, 500)?)));
        registry.register("MountainCar-v0", || TimeLimit::new(MountainCar::new(), 200));
        registry.register("MountainCarContinuous-v0", || TimeLimit::new(MountainCarContinuous::new(), 999));
        registry.register_with("Pendulum-v1", |options: &PendulumOptions| {
            if !options.g.is_finite() {
                return Err("g must be finite".into());
            }
            Ok(TimeLimit::new(Pendulum::new(options), 200))
        });
        registry.register("AirAsterix-v0", || TimeLimit::new(Asterix::new(), 2500));
        registry.register("AirBreakout-v0", || TimeLimit::new(Breakout::new(), 2500));
        registry.register("AirFreeway-v0", || TimeLimit::new(Freeway::new(), 2500));
        registry.register_with("AirLander-v0", |options: &LanderOptions| {
            Ok(TimeLimit::new(Lander::new(options), 1000))
        });
        registry
            .register_with("CliffWalking-v1", |options: &CliffWalkingOptions| Ok(CliffWalking::new(options)));
        registry.register_with("FrozenLake-v1", |options: &FrozenLakeOptions| {
            Ok(TimeLimit::new(FrozenLake::new(options, "4x4")?, 100))
        });
        registry.register_with("FrozenLake8x8-v1", |options: &FrozenLakeOptions| {
            Ok(TimeLimit::new(FrozenLake::new(options, "8x8")?, 200))
        });
        registry.register_with("Taxi-v3", |options: &TaxiV3Options| {
            let action_masks = options.action_masks;
            Ok(TimeLimit::new(Taxi::new(&TaxiOptions { action_masks, ..TaxiOptions::default() })?, 200))
        });
        registry
            .register_with("Taxi-v4", |options: &TaxiOptions| Ok(TimeLimit::new(Taxi::new(options)?, 200)));
        registry.register_with("Recall", |options: &RecallOptions| Ok(Recall::new(options)));
        registry.register_with("SimpleCorridor", |options: &CorridorOptions| {
            if options.length == 0 {
                return Err("length must be at least 1".into());
            }
            Ok(SimpleCorridor::new(options.length))
        });
        registry
    }
}

impl Registry {
    /// Adds an environment without options. The last of a name counts.
    pub fn register<E, F>(&mut self, name: impl Into<String>, make: F)
    where
        E: Env + 'static,
        F: Fn() -> E + Send + Sync + Clone + 'static,
    {
        self.register_with(name, move |_: &NoOptions| Ok(make()));
    }

    /// Adds an environment made from options, read from a JSON object. The last of a name counts.
    pub fn register_with<E, O, F>(&mut self, name: impl Into<String>, make: F)
    where
        E: Env + 'static,
        O: DeserializeOwned + Send + Sync + 'static,
        F: Fn(&O) -> std::result::Result<E, BoxError> + Send + Sync + Clone + 'static,
    {
        let name = name.into();
        let key = name.clone();
        let bind = move |options: Value| -> std::result::Result<Bound, BoxError> {
            let options: Arc<O> = Arc::new(serde_json::from_value(options)?);
            let (make, name) = (make.clone(), name.clone());
            make(&options)?; // options that cannot make one are refused here, not in a runner
            let (same, its_options) = (make.clone(), Arc::clone(&options));
            let one: Arc<One> = Arc::new(move || Ok(Box::new(same(&its_options)?)));
            let make: Arc<Make> = Arc::new(move |envs| {
                let made: std::result::Result<Vec<E>, BoxError> = (0..envs).map(|_| make(&options)).collect();
                let made = made.map_err(|source| RlError::EnvOptions { name: name.clone(), source })?;
                Ok(Box::new(Vectorized::new(made)?))
            });
            Ok(Bound { make, one })
        };
        self.known.insert(key, Arc::new(bind));
    }

    /// Makes batches of an environment that takes no options all at once, where they are not wrapped.
    fn step_together<F>(&mut self, name: &str, make: F)
    where
        F: Fn(usize) -> Result<Box<dyn VecEnv>> + Send + Sync + 'static,
    {
        let Some(alone) = self.known.remove(name) else { return };
        let make: Arc<Make> = Arc::new(make);
        let bind = move |options: Value| Ok(Bound { make: Arc::clone(&make), ..alone(options)? });
        self.known.insert(name.into(), Arc::new(bind));
    }

    /// The names, sorted.
    pub fn names(&self) -> Vec<String> {
        self.known.keys().cloned().collect()
    }

    /// Runs environments in Python, `gym:NAME` and `py:MODULE:CLASS`, as told.
    #[must_use]
    pub fn with_python(self, python: PythonConfig) -> Self {
        Self { python, ..self }
    }

    /// The environment of that name with its default options.
    pub fn spec(&self, name: &str) -> Result<EnvSpec> {
        self.spec_with(name, Map::new())
    }

    /// The environment of that name with some options set; of one in Python, the arguments of its constructor. The option `wrap` is a list of
    /// [wrappers](crate::wrap::Wrap), the innermost first.
    pub fn spec_with(&self, name: &str, options: Map<String, Value>) -> Result<EnvSpec> {
        if python::is_python(name) {
            python::check_name(name)?;
            if options.contains_key("wrap") {
                let why = "is wrapped there, before it is handed over: wrappers by name are for environments of this crate".into();
                return Err(RlError::Python { env: name.into(), why });
            }
            self.python.validate()?;
            let (key, kwargs, config) = (name.to_owned(), options.clone(), self.python.clone());
            let make: Arc<Make> = Arc::new(move |envs| python::make(&key, &kwargs, &config, envs));
            return Ok(EnvSpec { name: name.into(), options, make });
        }
        let bind = self
            .known
            .get(name)
            .ok_or_else(|| RlError::UnknownEnv { name: name.into(), known: self.names() })?;
        let bad = |source| RlError::EnvOptions { name: name.into(), source };
        let mut own = options.clone();
        let wraps = own.remove("wrap").map_or(Ok(Vec::new()), Wrap::list).map_err(bad)?;
        let Bound { make, one } = bind(Value::Object(own)).map_err(bad)?;
        let make = if wraps.is_empty() {
            make
        } else {
            within(&*one, &wraps).map_err(bad)?; // wrappers with nothing to do are refused here, not in a runner
            wrapped(name.into(), one, wraps)
        };
        Ok(EnvSpec { name: name.into(), options, make })
    }
}

impl Registry {
    /// The environment of several agents of that name: one of [`MULTI_ENVS`], which has no options, or one in Python, `pettingzoo:NAME` or
    /// `py:MODULE:FUNCTION`, with the arguments of what makes it. Each of those runs in a process of its own.
    pub fn multi_spec_with(&self, name: &str, options: Map<String, Value>) -> Result<MultiEnvSpec> {
        if python::is_multi(name) {
            python::check_multi_name(name)?;
            self.python.validate()?;
            return Ok(MultiEnvSpec::python(name, options, self.python.clone()));
        }
        let spec = multi_env(name)?;
        match options.keys().next() {
            None => Ok(spec),
            Some(key) => Err(RlError::EnvOptions {
                name: name.into(),
                source: format!("unknown field `{key}`, there are no fields").into(),
            }),
        }
    }
}

/// One environment inside its wrappers, the first innermost.
fn within(one: &One, wraps: &[Wrap]) -> std::result::Result<Box<dyn Env>, BoxError> {
    wraps.iter().try_fold(one()?, |env, wrap| wrap.try_around(env))
}

/// Environments inside wrappers, which only their names tell, so they are dispatched dynamically.
fn wrapped(name: String, one: Arc<One>, wraps: Vec<Wrap>) -> Arc<Make> {
    Arc::new(move |envs| {
        let made: std::result::Result<Vec<Box<dyn Env>>, BoxError> =
            (0..envs).map(|_| within(&*one, &wraps)).collect();
        let made = made.map_err(|source| RlError::EnvOptions { name: name.clone(), source })?;
        Ok(Box::new(Vectorized::new(made)?))
    })
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.known.keys()).finish()
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct NoOptions {}
