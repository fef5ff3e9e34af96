//! `map_batches_with`: a function with a state, in a pool of workers.

use std::sync::Arc;

use air_core::BoxError;
use arrow::array::RecordBatch;

use super::Dataset;
use crate::plan::{Node, Pooled};
use crate::pool::{Live, Pool, Stateful, WorkerContext};

impl Dataset {
    /// A batch out of each batch, by a function with a state of its own in each of a pool's workers: a model that is loaded once, a
    /// connection, a buffer.
    ///
    /// `init` builds a worker's state on the worker's own thread, which it never leaves; `f` gets it with each batch. All workers start
    /// with the run. When `f` fails, panics or hangs ([`Pool::stall`]), that worker's state is thrown away, built anew, and the batch
    /// tried again ([`Pool::retries`]). Rows keep their order unless [`Pool::as_completed`] says otherwise, and come out as one block:
    /// [`repartition`](Dataset::repartition) deals them anew where a write is to make several files. The result has the input's columns
    /// unless [`Pool::returns`] says otherwise.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// use air_data::Pool;
    ///
    /// // A state that counts its batches; each worker has one.
    /// let ds = air_data::range(1000)?.map_batches_with(
    ///     Pool::fixed(2).batch_size(64),
    ///     |_| Ok(0),
    ///     |batches, batch| {
    ///         *batches += 1;
    ///         Ok(batch)
    ///     },
    /// );
    /// assert_eq!(ds.take::<i64>(3)?, [0, 1, 2]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The verb that runs it reports [`DataError::Config`](crate::DataError::Config) for a pool out of range,
    /// [`DataError::WorkerStart`](crate::DataError::WorkerStart) when no state can be built,
    /// [`DataError::Workers`](crate::DataError::Workers) when the workers ask for more than the machine has, and
    /// [`DataError::Batch`](crate::DataError::Batch), with file and rows, for a batch that failed as often as it may.
    pub fn map_batches_with<S, I, F>(&self, pool: Pool, init: I, f: F) -> Self
    where
        S: 'static,
        I: Fn(&WorkerContext) -> Result<S, BoxError> + Send + Sync + 'static,
        F: Fn(&mut S, RecordBatch) -> Result<RecordBatch, BoxError> + Send + Sync + 'static,
    {
        self.then(|plan| {
            pool.validate()?;
            let stateful = Arc::new(Closure { init, f: Arc::new(f) });
            Ok(Node::over(Pooled::new(Arc::new(pool), stateful), vec![plan])?)
        })
    }
}

struct Closure<I, F> {
    init: I,
    f: Arc<F>,
}

struct Alive<S, F> {
    state: S,
    f: Arc<F>,
}

impl<S, I, F> Stateful for Closure<I, F>
where
    S: 'static,
    I: Fn(&WorkerContext) -> Result<S, BoxError> + Send + Sync + 'static,
    F: Fn(&mut S, RecordBatch) -> Result<RecordBatch, BoxError> + Send + Sync + 'static,
{
    fn start(&self, worker: &WorkerContext) -> Result<Box<dyn Live>, BoxError> {
        Ok(Box::new(Alive { state: (self.init)(worker)?, f: self.f.clone() }))
    }
}

impl<S, F> Live for Alive<S, F>
where
    F: Fn(&mut S, RecordBatch) -> Result<RecordBatch, BoxError>,
{
    fn run(&mut self, batch: RecordBatch) -> Result<RecordBatch, BoxError> {
        (self.f)(&mut self.state, batch)
    }
}
