//! [`Task`]: a task being described.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::args::{Arg, Args, IntoArg};
use super::job::Priority;
use super::node::{Extra, Plan, start};
use super::parts::{Parts, start_parts};
use super::pool::Shared;
use super::retry::Retry;
use super::stream::{Out, TaskStream, start_stream};
use crate::BoxError;
use crate::object::{Name, Object};
use crate::resource::Resources;

/// A task that runs once.
#[derive(Debug)]
pub struct Once;

/// A task that is tried again when it fails.
#[derive(Debug)]
pub struct Again;

/// A task being described; [`spawn`](Task::spawn) starts it. See [`RuntimeHandle::task`](crate::RuntimeHandle::task).
#[must_use = "a task does nothing until it is spawned"]
pub struct Task<'r, A = (), K = Once> {
    shared: &'r Arc<Shared>,
    plan: Plan,
    args: A,
    kind: PhantomData<K>,
}

impl<'r> Task<'r> {
    pub(super) fn new(shared: &'r Arc<Shared>, name: Name) -> Self {
        let plan = Plan { name, priority: Priority::Normal, extra: None };
        Self { shared, plan, args: (), kind: PhantomData }
    }
}

impl<'r, A, K> Task<'r, A, K> {
    /// Sets which of the waiting tasks it goes before.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.plan.priority = priority;
        self
    }

    /// Has it wait for so much of the runtime's [resources](crate::resource) once its arguments are there, and keep it until it is over, all
    /// attempts included. [`devices`](super::devices) says which GPUs it has then. More than there is fails at once, with the reason.
    pub fn resources(mut self, resources: Resources) -> Self {
        self.extra().resources = Some(resources);
        self
    }

    /// Gives it so much time, from when it first begins to its result, further attempts included. Then the result is
    /// [`ObjectError::TimedOut`](crate::ObjectError::TimedOut). A closure cannot be stopped from outside: it goes on without keeping
    /// others from running, is told ([`is_cancelled`](super::is_cancelled)), and what it returns is dropped.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.extra().timeout = Some(limit);
        self
    }

    /// Has it tried again when it fails. The closure is then called several times, so it cannot move out of what it captures.
    pub fn retry(mut self, retry: Retry) -> Task<'r, A, Again> {
        self.extra().retry = Some(retry);
        Task { shared: self.shared, plan: self.plan, args: self.args, kind: PhantomData }
    }

    fn extra(&mut self) -> &mut Extra {
        self.plan.extra.get_or_insert_default()
    }

    fn with<B>(self, add: impl FnOnce(A) -> B) -> Task<'r, B, K> {
        Task { shared: self.shared, plan: self.plan, args: add(self.args), kind: PhantomData }
    }
}

impl<A, K> fmt::Debug for Task<'_, A, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("name", &self.plan.name).finish_non_exhaustive()
    }
}

/// A body that runs once, as one that could run again; it never does.
fn once<G, T>(f: impl FnOnce(G) -> Result<T, BoxError>) -> impl FnMut(G) -> Result<T, BoxError> {
    let mut f = Some(f);
    move |given| match f.take() {
        Some(f) => f(given),
        None => Err("the task has run already".into()),
    }
}

macro_rules! verbs {
    ($($arg:ident $value:ident),*) => {
        impl<$($arg: Arg),*> Task<'_, ($($arg,)*)> {
            /// Starts the task: the closure is run, with the values of its arguments, as soon as all of them are there and a thread is free.
            ///
            /// Returns at once, unless too many tasks are under way (`TaskConfig::pending_max`): then it waits until there are fewer.
            pub fn spawn<T: Send + Sync + 'static>(
                self,
                f: impl FnOnce($($arg::Given),*) -> Result<T, BoxError> + Send + 'static,
            ) -> Object<T> {
                start(self.shared, self.plan, self.args, once(move |($($value,)*)| f($($value),*)))
            }

            /// As `spawn`, for a task with several results (a tuple of two to four): each is an object of its own, freed on its own.
            pub fn spawn_parts<P: Parts>(
                self,
                f: impl FnOnce($($arg::Given),*) -> Result<P, BoxError> + Send + 'static,
            ) -> P::Objects {
                start_parts(self.shared, self.plan, self.args, once(move |($($value,)*)| f($($value),*)))
            }

            /// As `spawn`, for a task that sends results while it runs. It waits while so many have not been received.
            pub fn stream<T: Send + 'static>(
                self,
                capacity: usize,
                f: impl FnOnce(Out<T> $(, $arg::Given)*) -> Result<(), BoxError> + Send + 'static,
            ) -> TaskStream<T> {
                start_stream(self.shared, self.plan, self.args, capacity, move |out, ($($value,)*)| f(out $(, $value)*))
            }
        }

        impl<$($arg: Arg),*> Task<'_, ($($arg,)*), Again> {
            /// Starts the task: the closure is run, with the values of its arguments, as soon as all of them are there and a thread is free,
            /// and again when it fails.
            ///
            /// Returns at once, unless too many tasks are under way (`TaskConfig::pending_max`): then it waits until there are fewer.
            pub fn spawn<T: Send + Sync + 'static>(
                self,
                mut f: impl FnMut($($arg::Given),*) -> Result<T, BoxError> + Send + 'static,
            ) -> Object<T> {
                start(self.shared, self.plan, self.args, move |($($value,)*): <($($arg,)*) as Args>::Given| f($($value),*))
            }

            /// As `spawn`, for a task with several results (a tuple of two to four): each is an object of its own, freed on its own.
            pub fn spawn_parts<P: Parts>(
                self,
                mut f: impl FnMut($($arg::Given),*) -> Result<P, BoxError> + Send + 'static,
            ) -> P::Objects {
                start_parts(self.shared, self.plan, self.args, move |($($value,)*): <($($arg,)*) as Args>::Given| f($($value),*))
            }
        }
    };
}

verbs!();
verbs!(A a);
verbs!(A a, B b);
verbs!(A a, B b, C c);
verbs!(A a, B b, C c, D d);

macro_rules! one_more {
    ($($arg:ident $value:ident),*) => {
        impl<'r, K, $($arg: Arg),*> Task<'r, ($($arg,)*), K> {
            /// Adds an argument: an object, or a `Vec` or slice of them. The closure gets its value (see [`Arg`]).
            pub fn arg<N: IntoArg>(self, arg: N) -> Task<'r, ($($arg,)* N::Arg,), K> {
                self.with(|($($value,)*)| ($($value,)* arg.into_arg(),))
            }
        }
    };
}

one_more!();
one_more!(A a);
one_more!(A a, B b);
one_more!(A a, B b, C c);
