//! What is served: anything that answers a batch.

use std::marker::PhantomData;
use std::sync::Arc;

use air_core::BoxError;
use futures::future::LocalBoxFuture;
use serde_json::Value;

use crate::multiplex::Held;

/// A model. Each replica of a deployment owns one and calls it from one thread at a time.
///
/// ```
/// use air_core::BoxError;
/// use air_serve::Model;
///
/// struct Double;
/// impl Model for Double {
///     type In = f64;
///     type Out = f64;
///     fn predict(&mut self, batch: Vec<f64>) -> Result<Vec<f64>, BoxError> {
///         Ok(batch.into_iter().map(|x| 2.0 * x).collect())
///     }
/// }
/// ```
pub trait Model: Send + 'static {
    /// One request.
    type In: Send + 'static;
    /// One answer.
    type Out: Send + 'static;

    /// Answers a batch: one answer for each input, in order. The batch is never empty, nor longer than the deployment's
    /// `max_batch_size`, counted or [measured](crate::Deployment::batch_size_fn). An error goes to every caller of the batch and the model lives on. After a panic, or with the wrong number of answers,
    /// the replica is replaced.
    fn predict(&mut self, batch: Vec<Self::In>) -> Result<Vec<Self::Out>, BoxError>;

    /// How many of the requests it has answered it still works on (default: none). As long as there are any, the replica calls
    /// [`step`](Self::step) again and again, and [`predict`](Self::predict) in between with what waits, for at most `max_batch_size` requests in
    /// all. One that is to end takes no more, but steps until none are left. [`Generate`](crate::Generate) makes use of it: its answers are streams.
    fn running(&self) -> usize {
        0
    }

    /// Takes all that run one step further. An error fails the streams of all of them, which the model lets go of; it lives on. A step that panics
    /// or does not return costs the replica its place, as a [`predict`](Self::predict) does.
    fn step(&mut self) -> Result<(), BoxError> {
        Ok(())
    }

    /// Whether none of those that run could go on in the last step because their readers take nothing. The next step then waits for one that
    /// does, or for another request.
    fn is_blocked(&self) -> bool {
        false
    }

    /// Takes the deployment's `user_config`: once it is built, if there is one, and whenever it changes, between two batches or steps. An error takes
    /// the change back.
    fn reconfigure(&mut self, user_config: &Value) -> Result<(), BoxError> {
        let _ = user_config;
        Err("this model has no settings: its `reconfigure` is not implemented".into())
    }

    /// How it answers requests side by side, if it only waits; [`Async`](crate::Async) says how.
    #[doc(hidden)]
    fn beside(&self) -> Option<Start<Self::In, Self::Out>> {
        None
    }

    /// The models that it holds, if it is [multiplexed](crate::Multiplexed).
    #[doc(hidden)]
    fn holds(&self) -> Option<Arc<Held>> {
        None
    }
}

/// Starts on a request of a model that only waits.
pub type Start<I, O> = Arc<dyn Fn(I) -> LocalBoxFuture<'static, Result<O, BoxError>> + Send + Sync>;

/// A model from a function of one input; see [`each`].
pub struct Each<F, I> {
    function: F,
    input: PhantomData<fn(I)>,
}

/// Makes a model of a function that answers one input.
pub fn each<I, O, F>(function: F) -> Each<F, I>
where
    F: FnMut(I) -> Result<O, BoxError> + Send + 'static,
{
    Each { function, input: PhantomData }
}

impl<I, O, F> Model for Each<F, I>
where
    I: Send + 'static,
    O: Send + 'static,
    F: FnMut(I) -> Result<O, BoxError> + Send + 'static,
{
    type In = I;
    type Out = O;

    fn predict(&mut self, batch: Vec<I>) -> Result<Vec<O>, BoxError> {
        batch.into_iter().map(&mut self.function).collect()
    }
}
