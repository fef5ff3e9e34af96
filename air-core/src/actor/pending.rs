//! An ask under way, as its sender holds it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::call::{Call, Sent};
use super::error::{AskError, Reason};
use super::message::Message;
use super::park::block_on;
use crate::clock::{Clock, Sleep};

/// An ask under way; await it, or [`wait`](Self::wait) for it on a thread of your own. Dropping it withdraws the message if it has not
/// been handled yet, and ends a call of [`HandleAsync`](super::HandleAsync) that is in progress.
#[must_use = "dropping an ask withdraws its message"]
pub struct Pending<M: Message> {
    call: Arc<dyn Sent<M>>,
    timer: Option<Pin<Box<Sleep>>>,
    /// There is nothing to withdraw any more.
    answered: bool,
    /// The call wakes whoever polls next, so there is no need to look for the answer yet.
    expected: bool,
}

impl<M: Message> Pending<M> {
    pub(super) fn new<How: 'static>(call: Arc<Call<M, How>>, clock: &Clock) -> Self {
        let timer = call.letter().deadline.map(|at| Box::pin(clock.sleep_until(at)));
        Self { call, timer, answered: false, expected: false }
    }

    /// A call that was settled before it was sent.
    pub(super) fn refused(message: M, reason: Reason) -> Self {
        let call = Call::<M, ()>::ask(message, None, None, None);
        call.letter().undelivered(reason);
        Self { call, timer: None, answered: false, expected: false }
    }

    /// The next poll is of the task whose waker the call was made with, as part of the same poll of it.
    pub(super) fn expected(mut self) -> Self {
        self.expected = true;
        self
    }

    /// Blocks this thread until the answer is there.
    pub fn wait(self) -> Result<M::Reply, AskError<M>> {
        block_on(self)
    }
}

impl<M: Message> Future for Pending<M> {
    type Output = Result<M::Reply, AskError<M>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let letter = this.call.letter();
        if !std::mem::take(&mut this.expected) {
            let outcome = letter.poll(cx.waker());
            if outcome.is_ready() {
                this.answered = true;
                return outcome;
            }
        }
        if this.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready()) {
            this.timer = None;
            return match letter.give_up() {
                Some(error) => Poll::Ready(Err(error)),
                None => letter.poll(cx.waker()),
            };
        }
        Poll::Pending
    }
}

impl<M: Message> Drop for Pending<M> {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        // Withdrawn: the worker finds no message and skips the call. The message is dropped outside the lock.
        let withdrawn = self.call.letter().leave();
        drop(withdrawn);
    }
}
