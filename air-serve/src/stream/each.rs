//! Streams from a function that gives an iterator.

use std::marker::PhantomData;

use air_core::BoxError;

use super::generate::{Generate, Running};

/// A model from a function of one input that gives an iterator; see [`stream_each`].
pub struct StreamEach<F, I, S> {
    function: F,
    types: PhantomData<fn(I) -> S>,
}

/// Makes a [`Generate`] of a function that gives an iterator: in each step every iterator gives its next item. An item that is an error ends
/// its answer.
///
/// ```
/// use air_serve::{Deployment, stream_each};
///
/// let countdown = Deployment::generate("countdown", || Ok(stream_each(|from: u32| Ok((0..from).rev().map(Ok)))));
/// ```
pub fn stream_each<I, S, T, F>(function: F) -> StreamEach<F, I, S>
where
    F: FnMut(I) -> Result<S, BoxError> + Send + 'static,
    S: Iterator<Item = Result<T, BoxError>> + Send + 'static,
{
    StreamEach { function, types: PhantomData }
}

impl<I, S, T, F> Generate for StreamEach<F, I, S>
where
    I: Send + 'static,
    T: Send + 'static,
    F: FnMut(I) -> Result<S, BoxError> + Send + 'static,
    S: Iterator<Item = Result<T, BoxError>> + Send + 'static,
{
    type In = I;
    type Item = T;
    type Sequence = S;

    fn begin(&mut self, input: I) -> Result<S, BoxError> {
        (self.function)(input)
    }

    fn step(&mut self, running: &mut [Running<S, T>]) -> Result<(), BoxError> {
        for one in running {
            match one.sequence.next() {
                Some(Ok(item)) => one.send(item),
                Some(Err(error)) => one.fail(error),
                None => one.finish(),
            }
        }
        Ok(())
    }
}
