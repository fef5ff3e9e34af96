//! One message on its way: the envelope the worker takes and the answer its sender waits for are two ends of one allocation.
//!
//! Whoever settles a call first wins: the worker's reply, the worker's end, the closing of the mailbox, or the sender that gave up.
//! As long as the message lies in the call it has not been handled, and goes back with [`AskError::Undelivered`]; once the worker has
//! taken it out, a failure is [`AskError::Died`], [`AskError::Failed`] or [`AskError::Expired`]: it may have had effects.

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use super::cx::Cx;
use super::error::{AskError, Reason, SendError};
use super::exit::Exit;
use super::how::Takes;
use super::message::{Message, Worker};
use crate::BoxError;
use crate::device::{self, DeviceError};
use crate::trace::Origin;
use parking_lot::Mutex;
use tracing::Span;

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
    /// Itself, for those who know its type; what is no message of a sender is of no such type.
    fn into_any(self: Arc<Self>) -> Option<Arc<dyn Any + Send + Sync>> {
        None
    }
    /// Whether it is a message of this type of call.
    fn is(&self, call: std::any::TypeId) -> bool {
        let _ = call;
        false
    }
}

/// What came of a message.
pub enum Ran {
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
    /// Handled, and the answer is that a device is lost.
    Lost {
        /// Which, and how.
        error: Box<DeviceError>,
        /// Whether the call had been settled meanwhile.
        late: bool,
    },
    /// Begun, and in progress.
    Flying,
    /// Begun, and cut short as whoever asked had gone away.
    Left,
}

/// A message and how the worker handles it.
pub struct Call<M: Message, How> {
    letter: Letter<M>,
    how: PhantomData<fn() -> How>,
}

/// A call as its sender sees it: however the worker handles it.
pub(super) trait Sent<M: Message>: Send + Sync {
    fn letter(&self) -> &Letter<M>;
}

/// The message on its way there, the outcome on its way back.
pub(super) struct Letter<M: Message> {
    pub(super) deadline: Option<Duration>,
    /// Whether somebody waits for the answer (an ask); a tell has nobody.
    asked: bool,
    pub(super) origin: Origin,
    /// Whether whoever asked has gone away since the message was taken out. Written under the lock.
    left: AtomicBool,
    state: Mutex<State<M>>,
}

struct State<M: Message> {
    message: Option<M>,
    /// Whether an outcome was set, even if it has been taken since: the first one stands.
    settled: bool,
    outcome: Option<Outcome<M::Reply>>,
    waker: Option<Waker>,
    /// Held as long as the ask counts against the worker's limit.
    slot: Option<Slot>,
    /// Who is told when whoever asked goes away.
    flight: Option<Waker>,
}

enum Outcome<R> {
    Reply(R),
    Failed(BoxError),
    Died(Exit),
    Undelivered(Reason),
    Expired,
}

/// One of the asks a worker may have pending.
pub(super) struct Slot(Arc<AtomicUsize>);

impl Slot {
    /// Counts one more, up to the limit.
    pub(super) fn take(taken: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        let one_more = |n| (n < limit).then_some(n + 1);
        taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Self(Arc::clone(taken)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<M: Message, How> Call<M, How> {
    /// An ask; `waker` is woken once it is answered, until another one is given.
    pub(super) fn ask(
        message: M,
        deadline: Option<Duration>,
        slot: Option<Slot>,
        waker: Option<Waker>,
    ) -> Arc<Self> {
        Self::new(message, true, deadline, slot, waker)
    }

    pub(super) fn tell(message: M, deadline: Option<Duration>) -> Arc<Self> {
        Self::new(message, false, deadline, None, None)
    }

    fn new(
        message: M,
        asked: bool,
        deadline: Option<Duration>,
        slot: Option<Slot>,
        waker: Option<Waker>,
    ) -> Arc<Self> {
        let state =
            State { message: Some(message), settled: false, outcome: None, waker, slot, flight: None };
        let letter = Letter {
            deadline,
            asked,
            origin: Origin::here(),
            left: AtomicBool::new(false),
            state: Mutex::new(state),
        };
        Arc::new(Self { letter, how: PhantomData })
    }

    pub(super) fn letter(&self) -> &Letter<M> {
        &self.letter
    }
}

impl<M: Message> Letter<M> {
    /// Takes the message out to be handled now; else says what came of it.
    pub(super) fn open(&self, now: impl FnOnce() -> Duration) -> Result<M, Ran> {
        if self.deadline.is_some_and(|deadline| now() >= deadline) {
            self.settle(Outcome::Undelivered(Reason::Expired));
            return Err(if self.asked { Ran::Skipped } else { Ran::Dead(Reason::Expired) });
        }
        self.state.lock().message.take().ok_or(Ran::Skipped)
    }

    /// Answers.
    pub(super) fn answer(&self, result: Result<M::Reply, BoxError>) -> Ran {
        match result {
            Ok(_) if !self.asked => Ran::Done,
            Err(error) if !self.asked => Ran::Unheard(error),
            Err(error) => {
                let lost = device::lost(&*error).cloned().map(Box::new);
                let late = !self.settle(Outcome::Failed(error));
                match lost {
                    Some(error) => Ran::Lost { error, late },
                    None if late => Ran::Late,
                    None => Ran::Done,
                }
            }
            Ok(reply) => {
                if self.settle(Outcome::Reply(reply)) {
                    Ran::Done
                } else {
                    Ran::Late
                }
            }
        }
    }

    /// By when whoever asked wants the answer.
    pub(super) fn asked_by(&self) -> Option<Duration> {
        self.deadline.filter(|_| self.asked)
    }

    /// The deadline has passed while the message was being handled.
    pub(super) fn expire(&self) -> Ran {
        self.settle(Outcome::Expired);
        Ran::Done
    }

    pub(super) fn undelivered(&self, reason: Reason) -> bool {
        self.settle(Outcome::Undelivered(reason))
    }

    /// Takes the message back if it has not been handled.
    pub(super) fn withdraw(&self) -> Option<M> {
        let mut state = self.state.lock();
        let message = state.message.take();
        let slot = if message.is_some() { state.slot.take() } else { None };
        drop(state);
        drop(slot);
        message
    }

    /// Whoever asked has gone away. The message comes back if it has not been handled; a call in progress is told.
    pub(super) fn leave(&self) -> Option<M> {
        let message = self.withdraw();
        let mut state = self.state.lock();
        let left = message.is_none() && !state.settled;
        self.left.store(left, Ordering::Release);
        let flight = if left { state.flight.take() } else { None };
        drop(state);
        if let Some(flight) = flight {
            flight.wake();
        }
        message
    }

    /// Ready once whoever asked has gone away; of a tell, never. `told` is the waker that is told of it, where there is one yet.
    pub(super) fn poll_left(&self, told: &mut Option<Waker>, waker: &Waker) -> Poll<()> {
        if !self.asked {
            return Poll::Pending;
        }
        if !told.as_ref().is_some_and(|told| told.will_wake(waker)) {
            self.state.lock().flight = Some(waker.clone());
            *told = Some(waker.clone());
        }
        // Looked at after that: whoever goes away from now on finds the waker.
        if self.left.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The call is cut short, as whoever asked has gone away.
    pub(super) fn cut_short(&self) -> Ran {
        self.settle(Outcome::Expired);
        Ran::Left
    }

    /// Gives the message of a call that was not let in back to its sender.
    pub(super) fn give_back(&self, reason: Reason) -> Result<(), SendError<M>> {
        match self.withdraw() {
            Some(message) => Err(SendError { message, reason }),
            // Cannot be: the queue gave the envelope back, so nobody else has touched the call.
            None => Ok(()),
        }
    }

    /// Nobody waits any more: a reply from here on is a late one. Nothing if there is an outcome already.
    pub(super) fn give_up(&self) -> Option<AskError<M>> {
        let mut state = self.state.lock();
        if state.settled {
            return None;
        }
        state.settled = true;
        let message = state.message.take();
        let slot = if message.is_some() { state.slot.take() } else { None };
        drop(state);
        drop(slot);
        Some(match message {
            Some(message) => AskError::Undelivered { message, reason: Reason::Expired },
            None => AskError::Expired,
        })
    }

    /// The outcome; without one, the waker is kept.
    pub(super) fn poll(&self, waker: &Waker) -> Poll<Result<M::Reply, AskError<M>>> {
        let mut state = self.state.lock();
        let Some(outcome) = state.outcome.take() else {
            if state.waker.as_ref().is_none_or(|kept| !kept.will_wake(waker)) {
                state.waker = Some(waker.clone());
            }
            return Poll::Pending;
        };
        Poll::Ready(match outcome {
            Outcome::Reply(reply) => Ok(reply),
            Outcome::Failed(error) => Err(AskError::Failed(error)),
            Outcome::Died(exit) => Err(AskError::Died(exit)),
            Outcome::Expired => Err(AskError::Expired),
            Outcome::Undelivered(reason) => Err(match state.message.take() {
                Some(message) => AskError::Undelivered { message, reason },
                None => AskError::Expired,
            }),
        })
    }

    fn settle(&self, outcome: Outcome<M::Reply>) -> bool {
        if !self.asked {
            return false;
        }
        let mut state = self.state.lock();
        if state.settled {
            return false;
        }
        state.settled = true;
        state.outcome = Some(outcome);
        let (waker, slot) = (state.waker.take(), state.slot.take());
        drop(state);
        drop(slot);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }
}

impl<M: Message, How: 'static> Sent<M> for Call<M, How> {
    fn letter(&self) -> &Letter<M> {
        &self.letter
    }
}

impl<W: Takes<M, How>, M: Message, How: 'static> Run<W> for Call<M, How> {
    fn run(&self, worker: &mut W, cx: &mut Cx<W>) -> Ran {
        let span = self.letter.origin.handle(cx.name(), std::any::type_name::<M>());
        let _entered = span.as_ref().map(Span::enter);
        worker.take(self, cx)
    }

    fn died(&self, exit: &Exit) -> bool {
        self.letter.settle(Outcome::Died(exit.clone()))
    }

    fn undelivered(&self, reason: Reason) -> bool {
        self.letter.undelivered(reason) || !M::MATTERS
    }

    fn message_type(&self) -> &'static str {
        std::any::type_name::<M>()
    }

    fn deadline(&self) -> Option<Duration> {
        self.letter.deadline
    }

    fn into_any(self: Arc<Self>) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(self)
    }

    fn is(&self, call: std::any::TypeId) -> bool {
        call == std::any::TypeId::of::<Self>()
    }
}
