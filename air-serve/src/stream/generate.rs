//! What a user implements to answer with streams, and the model made of it.
//!
//! Batches are put together anew for each step (*iteration-level scheduling*: Yu et al., "Orca: A Distributed Serving System for
//! Transformer-Based Generative Models", OSDI 2022): a request joins at the next step and leaves with its last item, whatever the others do.

use std::sync::Arc;

use air_core::BoxError;
use serde_json::Value;

use super::buffer::Vacancy;
use super::items::Items;
use super::pipe::{Cause, Pipe};
use crate::model::Model;

/// A model that answers with a stream of items, and works on all its requests at a time, one step after another.
///
/// ```
/// use air_core::BoxError;
/// use air_serve::{Generate, Running};
///
/// /// Counts down from each input, all at a time.
/// struct Countdown;
/// impl Generate for Countdown {
///     type In = u32;
///     type Item = u32;
///     type Sequence = u32;
///     fn begin(&mut self, from: u32) -> Result<u32, BoxError> {
///         Ok(from)
///     }
///     fn step(&mut self, running: &mut [Running<u32, u32>]) -> Result<(), BoxError> {
///         for one in running {
///             one.send(one.sequence);
///             match one.sequence.checked_sub(1) {
///                 Some(next) => one.sequence = next,
///                 None => one.finish(),
///             }
///         }
///         Ok(())
///     }
/// }
/// ```
pub trait Generate: Send + 'static {
    /// One request.
    type In: Send + 'static;
    /// One item of an answer.
    type Item: Send + 'static;
    /// What is kept of a request while it runs. It is dropped when it has ended, or before the next step once nobody reads it.
    type Sequence: Send + 'static;

    /// Takes a request in. Those that run wait meanwhile, so what takes long belongs into [`step`](Self::step). An error goes to this caller only; one that is
    /// a [`CallError`](crate::CallError) keeps its status code.
    fn begin(&mut self, input: Self::In) -> Result<Self::Sequence, BoxError>;

    /// Takes each of these one step further: sends items, finishes, fails. Never empty, nor longer than `max_batch_size`; those whose readers
    /// have not made room are left out. An error fails all of these, and the model lives on.
    fn step(&mut self, running: &mut [Running<Self::Sequence, Self::Item>]) -> Result<(), BoxError>;

    /// Takes the deployment's `user_config`, between two steps; see [`Model::reconfigure`].
    fn reconfigure(&mut self, user_config: &Value) -> Result<(), BoxError> {
        let _ = user_config;
        Err("this model has no settings: its `reconfigure` is not implemented".into())
    }
}

/// A request that runs.
pub struct Running<S, T> {
    /// What is kept of it.
    pub sequence: S,
    pipe: Arc<Pipe<T>>,
    room: usize,
    over: bool,
}

impl<S, T> Running<S, T> {
    /// Sends an item; its reader has it at once. A step may send several, more than there is [`room`](Self::room) for too: then it is left out of
    /// steps for longer. After the end nothing is sent.
    pub fn send(&mut self, item: T) {
        if !self.over {
            self.room = self.room.saturating_sub(1);
            self.pipe.push(item);
        }
    }

    /// Ends the answer.
    pub fn finish(&mut self) {
        self.end(Ok(()));
    }

    /// Ends the answer with an error, which its reader gets after the items that were sent. One that is a [`CallError`](crate::CallError) is passed on as it is.
    pub fn fail(&mut self, error: impl Into<BoxError>) {
        self.end(Err(Cause::of(error.into())));
    }

    fn end(&mut self, end: Result<(), Cause>) {
        self.over = true;
        self.pipe.end(end);
    }

    /// How many items its buffer has room for.
    pub fn room(&self) -> usize {
        self.room
    }
}

impl<S, T> Drop for Running<S, T> {
    fn drop(&mut self) {
        if !self.over {
            // Changes nothing if it is over, or its replica was lost: then its reader has been told so.
            self.pipe.end(Err(Cause::of("the model dropped the sequence before its end".into())));
        }
    }
}

impl<S, T> std::fmt::Debug for Running<S, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("room", &self.room).field("over", &self.over).finish_non_exhaustive()
    }
}

/// The [`Model`] made of a [`Generate`]; see [`Deployment::generate`](crate::Deployment::generate).
pub struct Generator<G: Generate> {
    generate: G,
    /// Those that took part in the last step come first.
    running: Vec<Running<G::Sequence, G::Item>>,
    blocked: bool,
}

impl<G: Generate> Generator<G> {
    pub(crate) fn new(generate: G) -> Self {
        Generator { generate, running: Vec::new(), blocked: false }
    }

    /// Drops what nobody reads and moves to the front what can go on; says how many those are.
    fn gather(&mut self) -> usize {
        let mut count = 0;
        let mut index = 0;
        while let Some(one) = self.running.get_mut(index) {
            match one.pipe.vacancy() {
                Vacancy::Over => drop(self.running.remove(index)),
                Vacancy::Full => index += 1,
                Vacancy::Room(room) => {
                    one.room = room;
                    self.running.swap(count, index);
                    count += 1;
                    index += 1;
                }
            }
        }
        count
    }
}

impl<G: Generate> Model for Generator<G> {
    type In = G::In;
    type Out = Items<G::Item>;

    fn predict(&mut self, batch: Vec<G::In>) -> Result<Vec<Items<G::Item>>, BoxError> {
        let begin = |input| {
            let pipe = Pipe::new();
            match self.generate.begin(input) {
                Ok(sequence) => {
                    let pipe = Arc::clone(&pipe);
                    self.running.push(Running { sequence, pipe, room: 0, over: false });
                }
                Err(error) => pipe.end(Err(Cause::of(error))),
            }
            Items::new(pipe)
        };
        Ok(batch.into_iter().map(begin).collect())
    }

    fn running(&self) -> usize {
        self.running.len()
    }

    fn step(&mut self) -> Result<(), BoxError> {
        let count = self.gather();
        self.blocked = count == 0 && !self.running.is_empty();
        if count == 0 {
            return Ok(());
        }
        let stepped = self.generate.step(&mut self.running[..count]);
        if let Err(error) = stepped {
            let cause = Cause::of(error);
            self.running[..count].iter_mut().for_each(|one| one.end(Err(cause.clone())));
        }
        self.running.retain(|one| !one.over);
        Ok(())
    }

    fn is_blocked(&self) -> bool {
        self.blocked
    }

    fn reconfigure(&mut self, user_config: &Value) -> Result<(), BoxError> {
        self.generate.reconfigure(user_config)
    }
}
