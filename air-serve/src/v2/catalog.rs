//! What is reachable by the protocol: models by name, each with its signature and its deployment.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _};

use super::fault::{Fault, Kind};
use super::infer::{Inference, check_outputs, select};
use super::signature::{Signature, TensorCodec, shortened};
use super::tensor::Tensor;
use crate::deploy::context::Terms;
use crate::deploy::{DeploymentHandle, Running};
use crate::error::{CallError, chain};
use crate::stream::Items;

/// The version of a model that does not say which it is.
pub(crate) const VERSION: &str = "1";

/// A model that the protocol reaches.
pub(crate) struct Served {
    pub name: Arc<str>,
    pub version: String,
    running: Arc<dyn Running>,
    target: Box<dyn Target>,
    /// Whether the deployment ends with this value: when it has left the catalog and those who found it there are done.
    owns: bool,
}

impl Drop for Served {
    fn drop(&mut self) {
        if self.owns {
            // It answers what it has let in, and nobody has to wait for that.
            let _ = self.running.close();
        }
    }
}

/// A deployment without the types of its model.
pub(crate) trait Target: Send + Sync {
    fn signature(&self) -> &Signature;
    /// Calls the model, on these terms.
    fn call(&self, inputs: Vec<Tensor>, terms: &Terms) -> Outcome;
    /// Calls the model and gives all its answers, which are several where they are a stream.
    fn stream(&self, inputs: Vec<Tensor>, terms: &Terms) -> Answers;
}

/// Answers of a model, one after the other.
pub(crate) type Answers = BoxStream<'static, Result<Answer, Fault>>;

/// One of them.
#[derive(Debug)]
pub(crate) struct Answer {
    /// None where this says only that there are no more.
    pub outputs: Option<Vec<Tensor>>,
    /// Nothing comes after it.
    pub is_last: bool,
}

impl Answer {
    const END: Answer = Answer { outputs: None, is_last: true };
}

/// What makes a target of the handle of a deployment.
pub(crate) struct Reach<I, O>(Arc<MakeTarget<I, O>>);

type MakeTarget<I, O> = dyn Fn(DeploymentHandle<I, O>) -> Box<dyn Target> + Send + Sync;

impl<I, O> Clone for Reach<I, O> {
    fn clone(&self) -> Self {
        Reach(Arc::clone(&self.0))
    }
}

impl<I: Send + 'static, O: Send + 'static> Reach<I, O> {
    /// By one answer for each request.
    pub(crate) fn whole(codec: impl TensorCodec<I, O>) -> Self {
        let codec: Arc<dyn TensorCodec<I, O>> = Arc::new(codec);
        Reach(Arc::new(move |handle| Box::new(Coded { handle, codec: Arc::clone(&codec) })))
    }
}

impl<I: Send + 'static, T: Send + 'static> Reach<I, Items<T>> {
    /// By one answer for each item.
    pub(crate) fn each(codec: impl TensorCodec<I, T>) -> Self {
        let codec: Arc<dyn TensorCodec<I, T>> = Arc::new(codec);
        Reach(Arc::new(move |handle| Box::new(CodedItems { handle, codec: Arc::clone(&codec) })))
    }
}

type Outputs = Result<Vec<Tensor>, Fault>;

pub(crate) enum Outcome {
    Now(Outputs),
    Later(Pin<Box<dyn Future<Output = Outputs> + Send>>),
}

struct Coded<I, O> {
    handle: DeploymentHandle<I, O>,
    codec: Arc<dyn TensorCodec<I, O>>,
}

impl<I: Send + 'static, O: Send + 'static> Target for Coded<I, O> {
    fn signature(&self) -> &Signature {
        self.codec.signature()
    }

    fn call(&self, inputs: Vec<Tensor>, terms: &Terms) -> Outcome {
        let input = match self.codec.decode(inputs) {
            Ok(input) => input,
            Err(error) => return Outcome::Now(Err(error.into())),
        };
        let mut call = self.handle.call_on(input, terms);
        if let Some(reply) = call.ready() {
            return Outcome::Now(encoded(&*self.codec, reply));
        }
        let codec = Arc::clone(&self.codec);
        Outcome::Later(Box::pin(async move { encoded(&*codec, call.await) }))
    }

    fn stream(&self, inputs: Vec<Tensor>, terms: &Terms) -> Answers {
        let last = |outputs: Outputs| outputs.map(|outputs| Answer { outputs: Some(outputs), is_last: true });
        match self.call(inputs, terms) {
            Outcome::Now(outputs) => once(last(outputs)),
            Outcome::Later(outputs) => stream::once(outputs.map(last)).boxed(),
        }
    }
}

/// A deployment whose answers are streams, of which each item is one.
struct CodedItems<I, T> {
    handle: DeploymentHandle<I, Items<T>>,
    codec: Arc<dyn TensorCodec<I, T>>,
}

impl<I: Send + 'static, T: Send + 'static> Target for CodedItems<I, T> {
    fn signature(&self) -> &Signature {
        self.codec.signature()
    }

    fn call(&self, _: Vec<Tensor>, _: &Terms) -> Outcome {
        let message = "the answers of this model are streams: use ModelStreamInfer, over gRPC";
        Outcome::Now(Err(Fault::new(Kind::Unsupported, message)))
    }

    fn stream(&self, inputs: Vec<Tensor>, terms: &Terms) -> Answers {
        let input = match self.codec.decode(inputs) {
            Ok(input) => input,
            Err(error) => return once(Err(error.into())),
        };
        let call = self.handle.call_on(input, terms);
        let codec = Arc::clone(&self.codec);
        let begun = call.map(|begun| match begun {
            Ok(items) => items.left_stream(),
            Err(error) => stream::once(std::future::ready(Err(error))).right_stream(),
        });
        let answers = begun
            .flatten_stream()
            .map(move |item| Ok(Answer { outputs: Some(encoded(&*codec, item)?), is_last: false }));
        answers.chain(stream::once(std::future::ready(Ok(Answer::END)))).boxed()
    }
}

fn once(answer: Result<Answer, Fault>) -> Answers {
    stream::once(std::future::ready(answer)).boxed()
}

fn encoded<I: 'static, O: 'static>(codec: &dyn TensorCodec<I, O>, reply: Result<O, CallError>) -> Outputs {
    let internal = |message: String| Fault::new(Kind::Internal, message);
    let outputs = codec
        .encode(reply?)
        .map_err(|error| internal(format!("the model's answer is no tensors: {}", chain(&error))))?;
    let wanted = codec.signature().outputs();
    let fits = wanted.len() == outputs.len() && wanted.iter().zip(&outputs).all(|(a, b)| a.name == b.name());
    if !fits {
        let got: Vec<_> = outputs.iter().map(Tensor::name).collect();
        return Err(internal(format!(
            "the model gave the outputs {got:?}, which are not those of its signature"
        )));
    }
    Ok(outputs)
}

impl Served {
    pub(crate) fn new<I, O>(
        running: Arc<dyn Running>,
        handle: DeploymentHandle<I, O>,
        reach: &Reach<I, O>,
    ) -> Served {
        let name = Arc::clone(running.name());
        let target = reach.0(handle);
        Served { name, version: VERSION.to_owned(), running, target, owns: false }
    }

    /// The deployment ends with this value.
    pub(crate) fn owning(mut self, version: &str) -> Served {
        version.clone_into(&mut self.version);
        self.owns = true;
        self
    }

    /// Whether it comes from the model repository.
    pub(crate) fn is_owning(&self) -> bool {
        self.owns
    }

    pub(crate) fn signature(&self) -> &Signature {
        self.target.signature()
    }

    /// Whether it can answer.
    pub(crate) fn is_ready(&self) -> bool {
        self.running.is_up()
    }

    /// Answers a request: in place where the model is called there.
    pub(crate) async fn infer(&self, request: &mut Inference) -> Outputs {
        let signature = self.signature();
        check_outputs(signature, &request.outputs)?;
        let inputs = signature.arrange(std::mem::take(&mut request.inputs))?;
        let terms = request.terms();
        let outputs = match self.target.call(inputs, &terms) {
            Outcome::Now(outputs) => outputs,
            Outcome::Later(outputs) => outputs.await,
        };
        select(signature, &request.outputs, outputs?)
    }

    /// Answers a request with one answer or, if they are a stream, several.
    pub(crate) fn answers(self: &Arc<Self>, request: &mut Inference) -> Result<Answers, Fault> {
        let signature = self.signature();
        check_outputs(signature, &request.outputs)?;
        let inputs = signature.arrange(std::mem::take(&mut request.inputs))?;
        let answers = self.target.stream(inputs, &request.terms());
        let (served, wanted) = (Arc::clone(self), std::mem::take(&mut request.outputs));
        let selected = answers.map(move |answer| {
            let Answer { outputs, is_last } = answer?;
            let outputs = outputs.map(|outputs| select(served.signature(), &wanted, outputs)).transpose()?;
            Ok(Answer { outputs, is_last })
        });
        Ok(selected.boxed())
    }
}

/// All models, by name. Replaced as a whole, never changed.
#[derive(Default)]
pub(crate) struct Catalog {
    models: ArcSwap<BTreeMap<Arc<str>, Arc<Served>>>,
}

impl Catalog {
    /// All models, in the order of their names.
    pub(crate) fn all(&self) -> Vec<Arc<Served>> {
        self.models.load().values().cloned().collect()
    }

    /// The names of all models, in order.
    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        self.models.load().keys().cloned().collect()
    }

    /// Puts a model in the place of the one of its name, if there is one.
    pub(crate) fn put(&self, served: Served) {
        let served = Arc::new(served);
        self.models.rcu(|models| {
            let mut models = BTreeMap::clone(models);
            models.insert(Arc::clone(&served.name), Arc::clone(&served));
            models
        });
    }

    /// Makes the deployments' models these; returns those that were there before. Models of the repository stay.
    pub(crate) fn declare(&self, served: Vec<Served>) -> Vec<Arc<Served>> {
        let served: Vec<_> = served.into_iter().map(Arc::new).collect();
        let before = self.models.rcu(|models| {
            let mut models = BTreeMap::clone(models);
            models.retain(|_, model| model.owns);
            models.extend(served.iter().map(|model| (Arc::clone(&model.name), Arc::clone(model))));
            models
        });
        before.values().filter(|model| !model.owns).cloned().collect()
    }

    /// Takes the model of that name out.
    pub(crate) fn take(&self, name: &str) {
        self.models.rcu(|models| {
            let mut models = BTreeMap::clone(models);
            models.remove(name);
            models
        });
    }

    /// Takes all models out.
    pub(crate) fn clear(&self) {
        self.models.store(Arc::default());
    }

    /// The model of that name, and of that version where one is asked for.
    pub(crate) fn find(&self, name: &str, version: Option<&str>) -> Result<Arc<Served>, Fault> {
        let found = self.models.load().get(name).cloned();
        let served = found.ok_or_else(|| {
            let message = format!("no model `{}`; GET /v2/models lists them", shortened(name));
            Fault::new(Kind::NotFound, message)
        })?;
        match version {
            Some(version) if version != served.version => {
                let message = format!(
                    "model `{name}` has no version `{}`: it has {}",
                    shortened(version),
                    served.version
                );
                Err(Fault::new(Kind::NotFound, message))
            }
            _ => Ok(served),
        }
    }
}
