//! Deployments: versions of a model, replicas that come and go, and the handle callers hold.
//!
//! What requests pass through (the data plane):
//!
//! | file | idea |
//! |---|---|
//! | `handle` | what callers hold, and a call under way |
//! | `switch` | which version gets a request |
//! | `context` | what goes along with a request to the calls made for it |
//! | `dependency` | which deployments a deployment calls |
//! | `admit` | how a request comes in: in place, queued, or refused |
//! | `core` | one version: its queue |
//! | `batch` | when to dispatch what: pure |
//! | `slot` | where a replica keeps its model |
//! | `courier` | how the answers of a batch travel back |
//! | `mirror` | a share of the requests for another deployment too |
//! | `beside` | what async replicas do |
//! | `execute` | what replicas do, and what becomes of the requests of one that is lost |
//! | `step` | what a replica still works on after it has answered: streams |
//! | `mode` | whether a model is cheap enough to be called in place: pure |
//! | `pace` | whether a request can make its deadline: pure |
//! | `drain` | when a refused caller should come back: pure |
//!
//! What looks after it (the control plane):
//!
//! | file | idea |
//! |---|---|
//! | `config` | the settings |
//! | `autoscale` | how many replicas there should be: pure |
//! | `rollout` | how a version takes over: pure |
//! | `fleet` | which replica to start, start again, drain, give up: pure |
//! | `control` | who looks after a deployment, and what can be asked of it |
//! | `reconcile` | seeing what is there, deciding, carrying it out |
//! | `ending` | how a deployment ends |
//! | `reconfigure` | changing a version in place |
//! | `replica` | one life of a replica: a worker |
//! | `status` | what it looks like from outside |

mod admit;
mod autoscale;
mod batch;
mod beside;
mod config;
pub(crate) mod context;
mod control;
mod core;
mod courier;
mod dependency;
mod drain;
mod ending;
mod execute;
mod fleet;
mod handle;
mod mirror;
mod mode;
mod pace;
mod reconcile;
mod reconfigure;
mod replica;
mod rollout;
mod slot;
mod status;
mod step;
mod switch;

use std::sync::Arc;

use air_core::BoxError;

pub use autoscale::AutoscalingConfig;
pub use config::{DeploymentConfig, Execution};
pub use context::{RequestContext, replica_devices};
pub(crate) use control::{Controller, Ground, Outcome, Running};
pub(crate) use courier::{Sleeper, aside, deliver};
pub use dependency::Handles;
pub(crate) use dependency::{Line, Target, Uses, waves};
pub(crate) use execute::panic_text;
pub(crate) use handle::Unpark;
pub use handle::{Call, DeploymentHandle};
pub(crate) use mirror::{MirrorTo, Offer};
pub use status::{
    ApplicationState, ApplicationStatus, DeploymentState, DeploymentStatus, ReplicaState, ReplicaStatus,
    ServeStatus, UpdateStatus,
};

use crate::error::{CallError, ServeError};
use crate::llm::Llm;
use crate::model::Model;
use crate::multiplex::Multiplexed;
use crate::onnx::{Graph, GraphCodec, GraphModel, OnnxModel, OnnxRequest, rows};
use crate::stream::{Generate, Generator, Items, Stream};
use crate::v2::Reach;
use switch::Switch;

/// A model of any type that takes and gives these.
pub(crate) type AnyModel<I, O> = Box<dyn Model<In = I, Out = O>>;
/// Builds the model of a replica; called again when a replica is replaced.
pub(crate) type Factory<I, O> = Arc<dyn Fn() -> Result<AnyModel<I, O>, BoxError> + Send + Sync>;
/// Says whether an input fits.
pub(crate) type Check<I> = Arc<dyn Fn(&I) -> Result<(), CallError> + Send + Sync>;
/// What a fresh model is tried with.
pub(crate) type WarmUp<I> = Arc<dyn Fn() -> Vec<I> + Send + Sync>;
/// What an input counts for in a batch.
pub(crate) type Size<I> = Arc<dyn Fn(&I) -> usize + Send + Sync>;
/// Copies an input, so that there is one for a second try.
pub(crate) type Spare<I> = fn(&I) -> I;

/// The stream that an answer is.
pub(crate) type AsStream<O> = fn(&O) -> Arc<dyn Stream>;

/// Sequences that a model works on at a time, where nothing else is said.
const SEQUENCES: usize = 32;

/// A model with the settings it is to be served with.
pub struct Deployment<M: Model> {
    pub(crate) name: Arc<str>,
    pub(crate) config: DeploymentConfig,
    pub(crate) factory: Factory<M::In, M::Out>,
    pub(crate) check: Option<Check<M::In>>,
    version: Option<Arc<str>>,
    warm_up: Option<WarmUp<M::In>>,
    spare: Option<Spare<M::In>>,
    size: Option<Size<M::In>>,
    streams: Option<AsStream<M::Out>>,
    /// What makes it reachable by protocol V2.
    pub(crate) reach: Option<Reach<M::In, M::Out>>,
    /// The language model it has.
    pub(crate) llm: Option<Llm>,
    /// The deployments it calls.
    pub(crate) uses: Vec<Arc<dyn Line>>,
    mirror: Option<MirrorTo<M::In>>,
    switch: Arc<Switch<M::In, M::Out>>,
}

/// A deployment without the type of its model, so that a model of another type can take its place.
pub(crate) struct Erased<I, O> {
    pub name: Arc<str>,
    pub config: DeploymentConfig,
    pub factory: Factory<I, O>,
    pub check: Option<Check<I>>,
    pub version: Option<Arc<str>>,
    pub warm_up: Option<WarmUp<I>>,
    pub spare: Option<Spare<I>>,
    pub size: Option<Size<I>>,
    pub streams: Option<AsStream<O>>,
    pub mirror: Option<MirrorTo<I>>,
    pub reach: Option<Reach<I, O>>,
    /// What its handles point at.
    pub switch: Arc<Switch<I, O>>,
}

impl<M: Model> Deployment<M> {
    /// A deployment whose replicas get their model from `factory`.
    pub fn new(
        name: impl Into<Arc<str>>,
        factory: impl Fn() -> Result<M, BoxError> + Send + Sync + 'static,
    ) -> Self {
        let factory = move || Ok(Box::new(factory()?) as AnyModel<M::In, M::Out>);
        let (name, config) = (name.into(), DeploymentConfig::default());
        Deployment {
            switch: Arc::new(Switch::new(Arc::clone(&name))),
            name,
            config,
            uses: Vec::new(),
            mirror: None,
            factory: Arc::new(factory),
            check: None,
            version: None,
            warm_up: None,
            spare: None,
            size: None,
            streams: None,
            reach: None,
            llm: None,
        }
    }

    /// A deployment that calls others: `factory` is given handles of them, which it [uses](Self::uses).
    ///
    /// ```
    /// use air_serve::{App, Deployment, each, run};
    ///
    /// let length = Deployment::new("length", || Ok(each(|text: String| Ok(text.len()))));
    /// let is_long = Deployment::composed("is_long", length.handle(), |length| {
    ///     Ok(each(move |text: String| Ok(length.call_blocking(text)? > 10)))
    /// });
    /// let server = run(App::new().with_http(|http| http.port = 0).deploy(length).route("/is_long", is_long))?;
    /// assert!(!server.handle::<String, bool>("is_long")?.call_blocking("short".into())?);
    /// # Ok::<(), air_core::BoxError>(())
    /// ```
    pub fn composed<H: Handles>(
        name: impl Into<Arc<str>>,
        handles: H,
        factory: impl Fn(H) -> Result<M, BoxError> + Send + Sync + 'static,
    ) -> Self {
        let uses = handles.clone();
        Deployment::new(name, move || factory(handles.clone())).uses(&uses)
    }

    /// Says which others its models call. A deploy is refused that does not have them; they start before it and end after it.
    pub fn uses(mut self, handles: &impl Handles) -> Self {
        handles.lines(&mut self.uses);
        self
    }

    /// Sends a share of the requests, above 0 and at most 1, to another deployment too: shadow traffic. What it answers is dropped; its failures and
    /// latencies are counted apart (`air_serve_mirrored_total`, `air_serve_mirror_seconds`). It can neither delay nor fail the answer: when 64 copies
    /// are on their way and 64 wait, others are not made.
    pub fn mirror<P: Send + 'static>(mut self, to: &DeploymentHandle<M::In, P>, share: f64) -> Self
    where
        M::In: Clone,
    {
        self.mirror = Some(MirrorTo::new(to, share));
        self.uses(to)
    }

    /// A handle for other deployments to call it by, which can be had before it runs. It stays good through updates.
    pub fn handle(&self) -> DeploymentHandle<M::In, M::Out> {
        DeploymentHandle::new(Arc::clone(&self.switch))
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

    /// Names this version of the model (default: a number). An update to the version that runs changes only the number of replicas, the autoscaling
    /// and the `user_config`, in place; any other brings fresh replicas.
    pub fn version(mut self, version: impl Into<Arc<str>>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Tries each fresh model with these inputs before it gets requests; one that fails on them does not.
    pub fn warm_up(mut self, inputs: impl Fn() -> Vec<M::In> + Send + Sync + 'static) -> Self {
        self.warm_up = Some(Arc::new(inputs));
        self
    }

    /// Measures requests, by their tokens say: a batch is then at most `max_batch_size` of these, and one request that is more than that is a batch of
    /// its own. Of streams all that run at a time are.
    pub fn batch_size_fn(mut self, size: impl Fn(&M::In) -> usize + Send + Sync + 'static) -> Self {
        self.size = Some(Arc::new(size));
        self
    }

    /// Says that a request may run twice: those that a lost replica was executing are tried once more, each alone, on another one.
    pub fn idempotent(mut self) -> Self
    where
        M::In: Clone,
    {
        self.spare = Some(M::In::clone);
        self
    }

    pub(crate) fn erase(self) -> Erased<M::In, M::Out> {
        let Deployment {
            name,
            config,
            factory,
            check,
            version,
            warm_up,
            spare,
            size,
            streams,
            mirror,
            reach,
            switch,
            ..
        } = self;
        Erased { name, config, factory, check, version, warm_up, spare, size, streams, mirror, reach, switch }
    }
}

impl<I: Send + 'static, O> Erased<I, O> {
    /// Checks every setting.
    pub(crate) fn validate(&self) -> Result<(), ServeError> {
        self.config.validate()?;
        self.mirror.as_ref().map_or(Ok(()), |mirror| mirror.validate(&self.name))?;
        if self.streams.is_some() && self.config.execution == Execution::Inline {
            return Err(ServeError::config(format!(
                "deployment `{}` answers with streams, which needs threads: leave `execution` at \"auto\"",
                self.name
            )));
        }
        Ok(())
    }
}

impl<G: Generate> Deployment<Generator<G>> {
    /// A model that answers with streams. A replica works on `max_batch_size` requests at a time, of which each joins at the next step and leaves
    /// with its last item (*continuous batching*); the default is 32 here.
    pub fn generate(
        name: impl Into<Arc<str>>,
        factory: impl Fn() -> Result<G, BoxError> + Send + Sync + 'static,
    ) -> Self {
        Deployment::new(name, move || Ok(Generator::new(factory()?)))
            .streaming()
            .with(|config| config.max_batch_size = SEQUENCES)
    }
}

impl<T: Send + 'static, M: Model<Out = Items<T>>> Deployment<M> {
    /// Says that the answers are streams which the replica's own model writes to: they end with an error when it is lost, or when they have stood
    /// still for too long. [`generate`](Deployment::generate) does so.
    pub(crate) fn streaming(mut self) -> Self {
        self.streams = Some(Items::stream);
        self
    }
}

impl<M: Model> Deployment<Multiplexed<M>> {
    /// Many models behind one deployment, by the id that a request gives: the header `serve_multiplexed_model_id`, the parameter of that name in
    /// protocol V2, or [`handle.multiplexed(id)`](DeploymentHandle::multiplexed).
    ///
    /// A replica holds at most `max_num_models_per_replica` of them. A model that it does not hold is loaded on a thread of its own, once for all who
    /// ask for it, while those that it holds go on answering; the least recently used makes room, and is dropped on that thread too. Requests go to
    /// replicas that hold their model. If a load fails those are told who asked for that model; the next who asks has it tried again.
    ///
    /// ```
    /// use air_serve::{App, Deployment, each, run};
    ///
    /// let greet = Deployment::multiplexed("greet", 2, |language| {
    ///     let word = match language { "en" => "Hello", "fr" => "Bonjour", _ => return Err("nobody here speaks it".into()) };
    ///     Ok(each(move |name: String| Ok(format!("{word}, {name}!"))))
    /// });
    /// let server = run(App::new().with_http(|http| http.port = 0).route("/greet", greet))?;
    /// let greet = server.handle::<String, String>("greet")?;
    /// assert_eq!(greet.multiplexed("fr").call_blocking("Ada".into())?, "Bonjour, Ada!");
    /// # Ok::<(), air_core::BoxError>(())
    /// ```
    pub fn multiplexed(
        name: impl Into<Arc<str>>,
        max_num_models_per_replica: usize,
        load: impl Fn(&str) -> Result<M, BoxError> + Send + Sync + 'static,
    ) -> Self {
        let load = Arc::new(load);
        Deployment::new(name, move || {
            let load = Arc::clone(&load);
            Multiplexed::new(max_num_models_per_replica, move |id| load(id))
        })
    }
}

impl Deployment<OnnxModel> {
    /// An ONNX model. Its replicas share one graph; vectors of the wrong length are refused before they are queued.
    /// Protocol V2 reaches it by its name, with the inputs and outputs of the graph. The size of a request is its rows.
    pub fn onnx(name: impl Into<Arc<str>>, model: OnnxModel) -> Self {
        let (checked, codec) = (model.clone(), GraphCodec::new(model.graph()));
        let check = move |request: &OnnxRequest| match request {
            OnnxRequest::Vector(vector) => Ok(checked.check(vector)?),
            OnnxRequest::Values(_) => Ok(()),
        };
        Deployment::new(name, move || Ok(model.clone()))
            .check(check)
            .tensors(codec)
            .batch_size_fn(OnnxRequest::rows)
    }
}

impl Deployment<GraphModel> {
    /// An ONNX graph with whatever inputs and outputs it has, for protocol V2 and for handles; its replicas share it.
    pub fn graph(name: impl Into<Arc<str>>, graph: Graph) -> Self {
        let graph = Arc::new(graph);
        let codec = GraphCodec::new(&graph);
        Deployment::new(name, move || Ok(GraphModel(Arc::clone(&graph))))
            .tensors(codec)
            .batch_size_fn(|values| rows(values))
    }
}
