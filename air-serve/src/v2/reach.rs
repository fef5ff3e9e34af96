//! How the protocol reaches a deployment: from tensors to what a version of it is called with, and from its answers to tensors.
//!
//! What a request is checked against belongs to a version, as another one may take other tensors. So each version has its own, and a request is
//! read for the one that answers it.

use std::pin::Pin;
use std::sync::Arc;

use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _};

use super::fault::{Fault, Kind};
use super::infer::{Inference, check_outputs};
use super::signature::{Signature, TensorCodec};
use super::tensor::Tensor;
use crate::deploy::{Call, DeploymentHandle};
use crate::error::{CallError, chain};
use crate::stream::Items;

/// Something with a signature.
pub(crate) trait Signed: Send + Sync {
    fn signature(&self) -> &Signature;
}

/// How the protocol reaches one version of a deployment.
trait Way<I, O>: Signed {
    /// Its input from tensors that fit its signature.
    fn decode(&self, inputs: Vec<Tensor>) -> Result<I, CallError>;
    /// The answer to a request for one.
    fn whole(self: Arc<Self>, call: Call<O>) -> Outcome;
    /// All answers.
    fn each(self: Arc<Self>, call: Call<O>) -> Answers;
    /// Whether a request for one answer is one for all.
    fn is_whole(&self) -> bool;
}

/// The same, for a version to have.
pub(crate) struct Reach<I, O>(Arc<dyn Way<I, O>>);

impl<I, O> Clone for Reach<I, O> {
    fn clone(&self) -> Self {
        Reach(Arc::clone(&self.0))
    }
}

impl<I, O> Reach<I, O> {
    pub(crate) fn signature(&self) -> &Signature {
        self.0.signature()
    }
}

impl<I: Send + 'static, O: Send + 'static> Reach<I, O> {
    /// By one answer for each request.
    pub(crate) fn whole(codec: impl TensorCodec<I, O>) -> Self {
        Reach(Arc::new(Whole(Box::new(codec) as Box<dyn TensorCodec<I, O>>)))
    }
}

impl<I: Send + 'static, T: Send + 'static> Reach<I, Items<T>> {
    /// By one answer for each item.
    pub(crate) fn each(codec: impl TensorCodec<I, T>) -> Self {
        Reach(Arc::new(Each(Arc::new(codec) as Arc<dyn TensorCodec<I, T>>)))
    }
}

type Outputs = Result<Vec<Tensor>, Fault>;

pub(crate) enum Outcome {
    Now(Outputs),
    Later(Pin<Box<dyn Future<Output = Outputs> + Send>>),
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

/// What a request has begun, and the version it was read for.
pub(crate) struct Begun<T> {
    pub by: Arc<dyn Signed>,
    pub answers: T,
}

/// A deployment without the types of its model.
pub(crate) trait Target: Send + Sync {
    /// The version that serves; of several, the one before.
    fn signed(&self) -> Arc<dyn Signed>;
    /// Checks a request and calls the model.
    fn call(&self, request: &Inference) -> Result<Begun<Outcome>, Fault>;
    /// The same, for all answers, which are several where they are a stream.
    fn stream(&self, request: &Inference) -> Result<Begun<Answers>, Fault>;
}

/// A deployment by its handle.
pub(crate) struct Through<I, O> {
    pub handle: DeploymentHandle<I, O>,
    /// How its first version is reached.
    pub first: Reach<I, O>,
}

/// A call, and how its version is reached.
struct Started<I, O> {
    way: Arc<dyn Way<I, O>>,
    call: Call<O>,
}

impl<I: Send + 'static, O: Send + 'static> Through<I, O> {
    /// Submits a request to the version that it is read for.
    fn begin(&self, request: &Inference, whole: bool) -> Result<Started<I, O>, Fault> {
        let taken = self.handle.switch().submit_fitting(&request.terms(), |core| {
            let way = self.way(core.reach.as_ref());
            if whole && !way.is_whole() {
                let message = "the answers of this model are streams: use ModelStreamInfer, over gRPC";
                return Err(Fault::new(Kind::Unsupported, message));
            }
            check_outputs(way.signature(), &request.outputs)?;
            Ok(way.decode(way.signature().arrange(request.inputs.clone())?)?)
        })?;
        let way = Arc::clone(self.way(taken.by.reach.as_ref()));
        Ok(Started { way, call: Call::new(taken.submitted) })
    }

    fn way<'a>(&'a self, of: Option<&'a Reach<I, O>>) -> &'a Arc<dyn Way<I, O>> {
        &of.unwrap_or(&self.first).0
    }
}

impl<I: Send + 'static, O: Send + 'static> Target for Through<I, O> {
    fn signed(&self) -> Arc<dyn Signed> {
        let split = self.handle.switch().split();
        Arc::clone(self.way(split.as_ref().and_then(|split| split.main.reach.as_ref()))) as _
    }

    fn call(&self, request: &Inference) -> Result<Begun<Outcome>, Fault> {
        let Started { way, call } = self.begin(request, true)?;
        Ok(Begun { by: Arc::clone(&way) as _, answers: way.whole(call) })
    }

    fn stream(&self, request: &Inference) -> Result<Begun<Answers>, Fault> {
        let Started { way, call } = self.begin(request, false)?;
        Ok(Begun { by: Arc::clone(&way) as _, answers: way.each(call) })
    }
}

/// One answer for each request.
struct Whole<I, O>(Box<dyn TensorCodec<I, O>>);

impl<I: 'static, O: 'static> Signed for Whole<I, O> {
    fn signature(&self) -> &Signature {
        self.0.signature()
    }
}

impl<I: Send + 'static, O: Send + 'static> Way<I, O> for Whole<I, O> {
    fn decode(&self, inputs: Vec<Tensor>) -> Result<I, CallError> {
        self.0.decode(inputs)
    }

    fn whole(self: Arc<Self>, mut call: Call<O>) -> Outcome {
        match call.ready() {
            Some(reply) => Outcome::Now(encoded(&*self.0, reply)),
            None => Outcome::Later(Box::pin(async move { encoded(&*self.0, call.await) })),
        }
    }

    fn each(self: Arc<Self>, call: Call<O>) -> Answers {
        let last = |outputs: Outputs| outputs.map(|outputs| Answer { outputs: Some(outputs), is_last: true });
        match self.whole(call) {
            Outcome::Now(outputs) => stream::once(std::future::ready(last(outputs))).boxed(),
            Outcome::Later(outputs) => stream::once(outputs.map(last)).boxed(),
        }
    }

    fn is_whole(&self) -> bool {
        true
    }
}

/// Answers that are streams, of which each item is one.
struct Each<I, T>(Arc<dyn TensorCodec<I, T>>);

impl<I: 'static, T: 'static> Signed for Each<I, T> {
    fn signature(&self) -> &Signature {
        self.0.signature()
    }
}

impl<I: Send + 'static, T: Send + 'static> Way<I, Items<T>> for Each<I, T> {
    fn decode(&self, inputs: Vec<Tensor>) -> Result<I, CallError> {
        self.0.decode(inputs)
    }

    /// Not asked for: it has no one answer.
    fn whole(self: Arc<Self>, _: Call<Items<T>>) -> Outcome {
        Outcome::Now(Err(Fault::new(Kind::Unsupported, "the answers of this model are streams")))
    }

    fn each(self: Arc<Self>, call: Call<Items<T>>) -> Answers {
        let codec = Arc::clone(&self.0);
        let begun = call.map(|begun| match begun {
            Ok(items) => items.left_stream(),
            Err(error) => stream::once(std::future::ready(Err(error))).right_stream(),
        });
        let answers = begun
            .flatten_stream()
            .map(move |item| Ok(Answer { outputs: Some(encoded(&*codec, item)?), is_last: false }));
        answers.chain(stream::once(std::future::ready(Ok(Answer::END)))).boxed()
    }

    fn is_whole(&self) -> bool {
        false
    }
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
