//! What a runtime does with tasks and objects.

use std::borrow::Cow;
use std::time::Duration;

use futures::future::{Either, select};
use serde::{Deserialize, Serialize};

use super::builder::Task;
use crate::object::{self, Object, ObjectError, ObjectStats, PutError, Value};
use crate::{RuntimeHandle, block_on};

/// How many tasks and threads there are now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskStats {
    /// Tasks started and not ended.
    pub pending: usize,
    /// Threads of the pool, those included that wait inside a task.
    pub threads: usize,
}

impl RuntimeHandle {
    /// Describes a task: a closure to be run on the runtime's threads, whose result is an [`Object`]. The name is for people: errors and
    /// traces say it.
    ///
    /// ```
    /// # use air_core::{BoxError, Runtime};
    /// let runtime = Runtime::start()?;
    /// let six = runtime.task("count").spawn(|| Ok(6));
    /// let seven = runtime.put(7)?;
    /// // Runs when both are there; a failure of either is this task's failure too.
    /// let product = runtime.task("multiply").arg(&six).arg(&seven).spawn(|a, b| Ok(*a * *b));
    /// assert_eq!(*product.get()?, 42);
    /// # Ok::<(), BoxError>(())
    /// ```
    pub fn task(&self, name: impl Into<Cow<'static, str>>) -> Task<'_> {
        Task::new(self.tasks(), name.into())
    }

    /// Makes an object of a value, without copying it. Values that can [spill](crate::object::Spill) are counted, and others written to
    /// disk where memory is short, by this call.
    ///
    /// # Errors
    /// The value comes back where there is no memory for it and nothing can be written to disk.
    pub fn put<T: Send + Sync + 'static>(&self, value: T) -> Result<Object<T>, PutError<T>> {
        Ok(Object::settled(self.tasks().store.put(value)?))
    }

    /// Blocks until `k` of the objects are ready (all, where there are fewer), or until the limit has passed, and returns the positions of
    /// all that are, in order. One whose task failed is ready too.
    pub fn wait<T: Send + Sync + 'static>(
        &self,
        objects: &[Object<T>],
        k: usize,
        limit: Option<Duration>,
    ) -> Vec<usize> {
        block_on(self.wait_async(objects, k, limit))
    }

    /// As [`wait`](Self::wait), without blocking the thread.
    pub async fn wait_async<T: Send + Sync + 'static>(
        &self,
        objects: &[Object<T>],
        k: usize,
        limit: Option<Duration>,
    ) -> Vec<usize> {
        let wait = object::wait(objects, k);
        match limit {
            None => wait.await,
            Some(limit) => drop(select(Box::pin(wait), self.clock().sleep(limit)).await),
        }
        (0..objects.len()).filter(|at| objects[*at].is_ready()).collect()
    }

    /// The values of all objects; blocks until they are there.
    ///
    /// # Errors
    /// The first one, by position, that has no value.
    pub fn get_all<T: Send + Sync + 'static>(
        &self,
        objects: &[Object<T>],
    ) -> Result<Vec<Value<T>>, ObjectError> {
        objects.iter().map(Object::get).collect()
    }

    /// As [`get_all`](Self::get_all), and [`ObjectError::Expired`] where they are not all there in time.
    pub fn get_all_within<T: Send + Sync + 'static>(
        &self,
        objects: &[Object<T>],
        limit: Duration,
    ) -> Result<Vec<Value<T>>, ObjectError> {
        let all = async {
            object::wait(objects, objects.len()).await;
        };
        match block_on(select(Box::pin(all), self.clock().sleep(limit))) {
            Either::Left(_) => self.get_all(objects),
            Either::Right(_) => Err(ObjectError::Expired { waited: limit }),
        }
    }

    /// Where the bytes of objects are.
    pub fn objects(&self) -> ObjectStats {
        self.tasks().store.stats()
    }

    /// How many tasks are under way.
    pub fn task_stats(&self) -> TaskStats {
        let (pending, threads) = self.tasks().counts();
        TaskStats { pending, threads }
    }
}
