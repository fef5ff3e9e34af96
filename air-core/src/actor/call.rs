//! One message on its way: the envelope the worker takes and the answer its sender waits for are two ends of one allocation.
//!
//! Whoever settles a call first wins: the worker's reply, the worker's end, the closing of the mailbox, or the sender that gave up.
//! As long as the message lies in the call it has not been handled, and goes back with [`AskError::Undelivered`]; once the worker has
//! taken it out, a failure is [`AskError::Died`], [`AskError::Failed`] or [`AskError::Expired`]: it may have had effects.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::cx::Cx;
use super::error::{AskError, Reason, SendError};
use super::exit::Exit;
use super::message::{Handle, Message, Worker};
use super::park::block_on;
use crate::BoxError;
use crate::clock::{Clock, Sleep};
use parking_lot::Mutex;

/// A call as the worker sees it.
pub(super) trait Run<W: Worker>: Send + Sync {
    /// Handles the message; an error is one that nobody waits for.
    fn run(&self, worker: &mut W, cx: &mut Cx<W>) -> Ran;
    /// The worker ended while it held the message. Says whether anyone was still waiting.
    fn died(&self, exit: &Exit) -> bool;
    /// The message will never be handled. Says whether a sender takes it back (else it is a dead letter).
    fn undelivered(&self, reason: Reason) -> bool;
    /// The message's type, for dead letters.
    fn message_type(&self) -> &'static str;
    /// From when on it must not be handled any more, on the runtime's clock.
    fn deadline(&self) -> Option<Duration>;
}

pub(super) enum Ran {
    /// Handled, and the sender has the answer or did not want one.
    Done,
    /// Handled, but the call had been settled meanwhile: the reply goes nowhere.
    Late,
    /// Not handled, and its sender knows: it withdrew the message or has it back.
    Skipped,
    /// Not handled, and nobody has it back: a `tell` whose deadline had passed.
    Dead(Reason),
    /// A `tell` failed.
    Unheard(BoxError),
}

pub(super) struct Call<M: Message> {
    deadline: Option<Duration>,
    state: Mutex<CallState<M>>,
}

struct CallState<M: Message> {
    message: Option<M>,
    /// Whether somebody waits for the answer (an ask); a tell has nobody.
    asked: bool,
    /// Whether an outcome was set, even if it has been taken since: the first one stands.
    settled: bool,
    outcome: Option<Outcome<M::Reply>>,
    waker: Option<Waker>,
}

enum Outcome<R> {
    Reply(R),
    Failed(BoxError),
    Died(Exit),
    Undelivered(Reason),
}

impl<M: Message> Call<M> {
    pub(super) fn new(message: M, asked: bool, deadline: Option<Duration>) -> Arc<Self> {
        let state = CallState { message: Some(message), asked, settled: false, outcome: None, waker: None };
        Arc::new(Self { deadline, state: Mutex::new(state) })
    }

    /// Takes the message back if it has not been handled.
    pub(super) fn take_message(&self) -> Option<M> {
        self.state.lock().message.take()
    }

    /// Gives the message of a call that was not let in back to its sender.
    pub(super) fn give_back(&self, reason: Reason) -> Result<(), SendError<M>> {
        match self.take_message() {
            Some(message) => Err(SendError { message, reason }),
            // Cannot be: the queue gave the envelope back, so nobody else has touched the call.
            None => Ok(()),
        }
    }

    fn settle(&self, outcome: Outcome<M::Reply>) -> bool {
        let mut state = self.state.lock();
        if state.settled || !state.asked {
            return false;
        }
        state.settled = true;
        state.outcome = Some(outcome);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }
}

impl<W: Handle<M>, M: Message> Run<W> for Call<M> {
    fn run(&self, worker: &mut W, cx: &mut Cx<W>) -> Ran {
        let expired = self.deadline.is_some_and(|deadline| cx.now() >= deadline);
        let mut state = self.state.lock();
        let asked = state.asked;
        if expired {
            drop(state);
            self.settle(Outcome::Undelivered(Reason::Expired));
            return if asked { Ran::Skipped } else { Ran::Dead(Reason::Expired) };
        }
        let Some(message) = state.message.take() else { return Ran::Skipped };
        drop(state);
        cx.set_deadline(self.deadline);
        match worker.handle(message, cx) {
            Ok(_) if !asked => Ran::Done,
            Err(error) if !asked => Ran::Unheard(error),
            result => {
                let outcome = result.map_or_else(Outcome::Failed, Outcome::Reply);
                if self.settle(outcome) { Ran::Done } else { Ran::Late }
            }
        }
    }

    fn died(&self, exit: &Exit) -> bool {
        self.settle(Outcome::Died(exit.clone()))
    }

    fn undelivered(&self, reason: Reason) -> bool {
        self.settle(Outcome::Undelivered(reason))
    }

    fn message_type(&self) -> &'static str {
        std::any::type_name::<M>()
    }

    fn deadline(&self) -> Option<Duration> {
        self.deadline
    }
}

/// An ask under way; await it, or [`wait`](Self::wait) for it on a thread of your own. Dropping it withdraws the message if it has not
/// been handled yet.
#[must_use = "dropping an ask withdraws its message"]
pub struct Pending<M: Message> {
    call: Arc<Call<M>>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<M: Message> Pending<M> {
    pub(super) fn new(call: Arc<Call<M>>, clock: &Clock) -> Self {
        let timer = call.deadline.map(|at| Box::pin(clock.sleep_until(at)));
        Self { call, timer }
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
        let mut state = this.call.state.lock();
        match state.outcome.take() {
            Some(Outcome::Reply(reply)) => return Poll::Ready(Ok(reply)),
            Some(Outcome::Failed(error)) => return Poll::Ready(Err(AskError::Failed(error))),
            Some(Outcome::Died(exit)) => return Poll::Ready(Err(AskError::Died(exit))),
            Some(Outcome::Undelivered(reason)) => {
                return Poll::Ready(Err(match state.message.take() {
                    Some(message) => AskError::Undelivered { message, reason },
                    None => AskError::Expired,
                }));
            }
            None => {}
        }
        if state.waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
        drop(state);
        if this.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready()) {
            this.timer = None;
            let mut state = this.call.state.lock();
            if !state.settled {
                // Nobody waits any more: a reply from here on is a late one.
                state.settled = true;
                let message = state.message.take();
                return Poll::Ready(Err(match message {
                    Some(message) => AskError::Undelivered { message, reason: Reason::Expired },
                    None => AskError::Expired,
                }));
            }
            drop(state);
            return self.poll(cx);
        }
        Poll::Pending
    }
}

impl<M: Message> Drop for Pending<M> {
    fn drop(&mut self) {
        // Withdrawn: the worker finds no message and skips the call. The message is dropped outside the lock.
        let withdrawn = self.call.take_message();
        drop(withdrawn);
    }
}
