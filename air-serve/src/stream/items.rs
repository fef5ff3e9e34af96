//! What a reader holds.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::Stream;
use super::pipe::Pipe;
use crate::deploy::{Unpark, aside};
use crate::error::CallError;

/// An answer that comes one item at a time.
///
/// Items come in order and none is lost. The end is explicit: `None` after the last item, or an error that is the last thing to come: of the model,
/// of a time limit, or of the replica if that was lost. A model whose reader takes nothing goes on with others once `stream_buffer_items` wait here.
/// Dropping it cancels the answer: its sequence is dropped before its next step.
///
/// It is a [`futures::Stream`], and [`blocking`](Self::blocking) is an iterator.
#[must_use = "an answer that is dropped is cancelled"]
pub struct Items<T> {
    pipe: Arc<Pipe<T>>,
    over: bool,
}

/// What there is of an answer.
#[derive(Debug)]
pub(crate) struct Chunk<T> {
    pub items: Vec<T>,
    /// The end, if nothing comes after these.
    pub end: Option<Result<(), CallError>>,
}

impl<T: Send + 'static> Items<T> {
    pub(super) fn new(pipe: Arc<Pipe<T>>) -> Self {
        Items { pipe, over: false }
    }

    /// The next item, as soon as there is one; `None` after the last. An error is the last thing there is.
    pub async fn next(&mut self) -> Option<Result<T, CallError>> {
        std::future::poll_fn(|cx| self.poll_item(cx)).await
    }

    /// All items that are there now, without waiting; none may be. What ends the answer is left for the other methods.
    pub fn take_ready(&mut self) -> Vec<T> {
        self.pipe.take_all().0.collect()
    }

    /// The items, waited for on this thread.
    pub fn blocking(&mut self) -> impl Iterator<Item = Result<T, CallError>> + '_ {
        let waker = Waker::from(Arc::new(Unpark::current()));
        std::iter::from_fn(move || {
            let mut cx = Context::from_waker(&waker);
            loop {
                // A courier of this thread would not come while it is parked.
                let alone = aside();
                let polled = self.poll_item(&mut cx);
                drop(alone);
                if let Poll::Ready(item) = polled {
                    return item;
                }
                std::thread::park();
            }
        })
    }

    /// Everything that is there: at least one item, or the end.
    pub(crate) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Chunk<T>> {
        self.pipe.poll_some(cx).map(|()| {
            let (items, end) = self.pipe.take_all();
            Chunk { items: items.collect(), end }
        })
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, CallError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        self.pipe.poll(cx).map(|found| {
            self.over = !matches!(found, Ok(Some(_)));
            found.transpose()
        })
    }

    /// The same, for its replica.
    pub(crate) fn stream(&self) -> Arc<dyn Stream> {
        Arc::clone(&self.pipe) as _
    }
}

impl<T: Send + 'static> futures::Stream for Items<T> {
    type Item = Result<T, CallError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_item(cx)
    }
}

impl<T> Drop for Items<T> {
    fn drop(&mut self) {
        self.pipe.leave();
    }
}

impl<T> std::fmt::Debug for Items<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Items").field("over", &self.over).finish_non_exhaustive()
    }
}
