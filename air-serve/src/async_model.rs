//! What is served that only waits: for other deployments, for files, for the network.

use std::marker::PhantomData;
use std::sync::Arc;

use air_core::BoxError;
use futures::future::{LocalBoxFuture, try_join_all};
use serde_json::Value;

use crate::model::{Model, Start};

/// A model that only waits, for the answers of other deployments or for I/O. Its replicas answer up to `max_ongoing_requests` requests side by side on
/// one thread. So what takes time to compute does not belong here, but into a [`Model`] that this one calls.
///
/// Each request is a future of its own, on the replica's thread, within a Tokio runtime. It need not be `Send`. It is dropped when its caller goes or
/// its time is up. If it panics, only its caller is told so. Serve it as [`Async`], or make one of a function with [`each_async`].
///
/// ```
/// use air_core::BoxError;
/// use air_serve::{App, Async, AsyncModel, Deployment, DeploymentHandle, each, run};
///
/// struct Ensemble(Vec<DeploymentHandle<f64, f64>>);
/// impl AsyncModel for Ensemble {
///     type In = f64;
///     type Out = f64;
///     async fn call(&self, x: f64) -> Result<f64, BoxError> {
///         let answers = futures::future::try_join_all(self.0.iter().map(|model| model.call(x))).await?;
///         Ok(answers.iter().sum::<f64>() / answers.len() as f64)
///     }
/// }
/// let double = Deployment::new("double", || Ok(each(|x: f64| Ok(2.0 * x))));
/// let square = Deployment::new("square", || Ok(each(|x: f64| Ok(x * x))));
/// let mean = Deployment::composed("mean", vec![double.handle(), square.handle()], |models| Ok(Async::new(Ensemble(models))));
/// let app = App::new().with_http(|http| http.port = 0).deploy(double).deploy(square).route("/mean", mean);
/// assert_eq!(run(app)?.handle::<f64, f64>("mean")?.call_blocking(4.0)?, 12.0);
/// # Ok::<(), BoxError>(())
/// ```
pub trait AsyncModel: Send + Sync + 'static {
    /// One request.
    type In: Send + 'static;
    /// One answer.
    type Out: Send + 'static;

    /// Answers a request.
    fn call(&self, input: Self::In) -> impl Future<Output = Result<Self::Out, BoxError>>;

    /// Takes the deployment's `user_config`, as [`Model::reconfigure`] does, while requests are under way.
    fn reconfigure(&self, user_config: &Value) -> Result<(), BoxError> {
        let _ = user_config;
        Err("this model has no settings: its `reconfigure` is not implemented".into())
    }
}

/// Makes an [`AsyncModel`] a [`Model`].
pub struct Async<A>(Arc<A>);

impl<A: AsyncModel> Async<A> {
    /// Serves it.
    pub fn new(model: A) -> Self {
        Async(Arc::new(model))
    }
}

impl<A: AsyncModel> Model for Async<A> {
    type In = A::In;
    type Out = A::Out;

    /// All of them side by side, on a thread of their own: a warm-up.
    fn predict(&mut self, batch: Vec<A::In>) -> Result<Vec<A::Out>, BoxError> {
        let model = &self.0;
        let answer = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(try_join_all(batch.into_iter().map(|input| model.call(input))))
        };
        let answered = std::thread::scope(|scope| scope.spawn(answer).join());
        answered.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn reconfigure(&mut self, user_config: &Value) -> Result<(), BoxError> {
        self.0.reconfigure(user_config)
    }

    fn beside(&self) -> Option<Start<A::In, A::Out>> {
        let model = Arc::clone(&self.0);
        Some(Arc::new(move |input| -> LocalBoxFuture<'static, _> {
            let model = Arc::clone(&model);
            Box::pin(async move { model.call(input).await })
        }))
    }
}

/// An async model from a function of one input; see [`each_async`].
pub struct EachAsync<F, I> {
    function: F,
    input: PhantomData<fn(I)>,
}

/// Makes an async model of a function that answers one input, in time.
///
/// ```
/// use std::time::Duration;
/// use air_serve::{Deployment, each_async};
///
/// let later = Deployment::new("later", || {
///     Ok(each_async(|text: String| async move {
///         tokio::time::sleep(Duration::from_millis(5)).await;
///         Ok(text.len())
///     }))
/// });
/// # let _ = later;
/// ```
pub fn each_async<I, O, F, R>(function: F) -> Async<EachAsync<F, I>>
where
    I: Send + 'static,
    O: Send + 'static,
    F: Fn(I) -> R + Send + Sync + 'static,
    R: Future<Output = Result<O, BoxError>> + 'static,
{
    Async::new(EachAsync { function, input: PhantomData })
}

impl<I, O, F, R> AsyncModel for EachAsync<F, I>
where
    I: Send + 'static,
    O: Send + 'static,
    F: Fn(I) -> R + Send + Sync + 'static,
    R: Future<Output = Result<O, BoxError>> + 'static,
{
    type In = I;
    type Out = O;

    fn call(&self, input: I) -> impl Future<Output = Result<O, BoxError>> {
        (self.function)(input)
    }
}
