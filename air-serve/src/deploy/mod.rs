//! Deployments: a queue, replicas that pull from it, and the handle callers hold.
//!
//! | file | idea |
//! |---|---|
//! | `batch` | when to dispatch what: pure |
//! | `drain` | when a refused caller should come back: pure |
//! | `mode` | whether a model is cheap enough to be called in place: pure |
//! | `config` | the settings |
//! | `core` | one running deployment: queue, slots, execution |
//! | `replica` | the supervised workers that pull |
//! | `handle` | what callers hold, and a call under way |

mod batch;
mod config;
mod core;
mod drain;
mod handle;
mod mode;
mod replica;

use std::sync::Arc;

use air_core::BoxError;

pub use config::{DeploymentConfig, Execution};
pub(crate) use core::Core;
pub use handle::{Call, DeploymentHandle};
pub(crate) use replica::Replicas;

use crate::error::CallError;
use crate::model::Model;
use crate::onnx::OnnxModel;

/// A model of any type that takes and gives these.
pub(crate) type AnyModel<I, O> = Box<dyn Model<In = I, Out = O>>;
/// Builds the model of a replica; called again when a replica is replaced.
pub(crate) type Factory<I, O> = Arc<dyn Fn() -> Result<AnyModel<I, O>, BoxError> + Send + Sync>;
/// Says whether an input fits.
pub(crate) type Check<I> = Arc<dyn Fn(&I) -> Result<(), CallError> + Send + Sync>;

/// A model with the settings it is to be served with.
pub struct Deployment<M: Model> {
    pub(crate) name: Arc<str>,
    pub(crate) config: DeploymentConfig,
    pub(crate) factory: Factory<M::In, M::Out>,
    pub(crate) check: Option<Check<M::In>>,
}

/// A deployment without the type of its model, so that a model of another type can take its place.
pub(crate) struct Erased<I, O> {
    pub name: Arc<str>,
    pub config: DeploymentConfig,
    pub factory: Factory<I, O>,
    pub check: Option<Check<I>>,
}

impl<M: Model> Deployment<M> {
    /// A deployment whose replicas get their model from `factory`.
    pub fn new(
        name: impl Into<Arc<str>>,
        factory: impl Fn() -> Result<M, BoxError> + Send + Sync + 'static,
    ) -> Self {
        let factory = move || Ok(Box::new(factory()?) as AnyModel<M::In, M::Out>);
        let config = DeploymentConfig::default();
        Deployment { name: name.into(), config, factory: Arc::new(factory), check: None }
    }

    /// Replaces all settings.
    pub fn config(mut self, config: DeploymentConfig) -> Self {
        self.config = config;
        self
    }

    /// Changes settings: `.with(|config| config.num_replicas = 2)`.
    pub fn with(mut self, change: impl FnOnce(&mut DeploymentConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Checks each input before it is queued, on the caller's thread, so that a bad one cannot spoil a batch.
    pub fn check(mut self, check: impl Fn(&M::In) -> Result<(), CallError> + Send + Sync + 'static) -> Self {
        self.check = Some(Arc::new(check));
        self
    }

    pub(crate) fn erase(self) -> Erased<M::In, M::Out> {
        let Deployment { name, config, factory, check } = self;
        Erased { name, config, factory, check }
    }
}

impl Deployment<OnnxModel> {
    /// An ONNX model. Its replicas share one graph; vectors of the wrong length are refused before they are queued.
    pub fn onnx(name: impl Into<Arc<str>>, model: OnnxModel) -> Self {
        let checked = model.clone();
        Deployment::new(name, move || Ok(model.clone())).check(move |input| Ok(checked.check(input)?))
    }
}
