//! How a worker is reached.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};
use std::time::Duration;

use futures::future::{Either, select};

use super::call::Call;
use super::error::{AskError, Reason, SendError};
use super::exit::Exit;
use super::how::Takes;
use super::message::{Message, Worker};
use super::park::block_on;
use super::pending::Pending;
use super::queue::{Lane, Refused};
use super::shared::{Envelope, Shared};

/// The way to one worker. Cheap to clone; it outlives restarts, and so do the messages in it.
///
/// Room is bounded: `ask` and `tell` wait for it, `try_tell` gives the message back. Every verb of a mailbox made by
/// [`within`](Self::within) carries a deadline, and a message whose deadline has passed is never handled. Messages are handled in the
/// order they were let in; those of a mailbox made by [`urgent`](Self::urgent) go before the others.
pub struct Mailbox<W: Worker> {
    pub(super) shared: Arc<Shared<W>>,
    limit: Option<Duration>,
    urgent: bool,
}

/// What came of an ask so far.
enum Begun<W: Worker, M: Message> {
    Sent(Pending<M>),
    /// It has its answer already.
    Settled(Pending<M>),
    Refused(Pending<M>, Refused<Envelope<W>>),
}

impl<W: Worker> Clone for Mailbox<W> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), limit: self.limit, urgent: self.urgent }
    }
}

impl<W: Worker> fmt::Debug for Mailbox<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox")
            .field("name", &self.name())
            .field("queued", &self.queued())
            .finish_non_exhaustive()
    }
}

impl<W: Worker> Mailbox<W> {
    pub(super) fn new(shared: Arc<Shared<W>>) -> Self {
        Self { shared, limit: None, urgent: false }
    }

    /// The same mailbox, every verb of which gives up after `limit`.
    pub fn within(&self, limit: Duration) -> Self {
        Self { limit: Some(limit), ..self.clone() }
    }

    /// The same mailbox, whose messages go before normal ones, in order among themselves. They have as much room of their own.
    ///
    /// After 16 urgent messages in a row a normal one that waits has its turn: urgent messages slow the others down, and cannot stop
    /// them.
    pub fn urgent(&self) -> Self {
        Self { urgent: true, ..self.clone() }
    }

    /// Sends a message and waits for the answer.
    pub async fn ask<M: Message, How: 'static>(&self, message: M) -> Result<M::Reply, AskError<M>>
    where
        W: Takes<M, How>,
    {
        // With the waker in it from the start: the answer finds it, and this side looks at the call once, when the answer is there.
        let waker = poll_fn(|task| Poll::Ready(task.waker().clone())).await;
        match self.begin(message, Some(waker)) {
            Begun::Sent(pending) => pending.expected().await,
            // After a wait for room it may be another task's.
            not_yet => self.go_on::<M, How>(not_yet).await.await,
        }
    }

    /// [`ask`](Self::ask) for threads without an executor.
    pub fn ask_blocking<M: Message, How: 'static>(&self, message: M) -> Result<M::Reply, AskError<M>>
    where
        W: Takes<M, How>,
    {
        block_on(self.ask(message))
    }

    /// Sends a message, waiting for room but not for the answer: the way to keep several asks in flight.
    pub async fn send<M: Message, How: 'static>(&self, message: M) -> Pending<M>
    where
        W: Takes<M, How>,
    {
        match self.begin(message, None) {
            Begun::Sent(pending) => pending,
            not_yet => self.go_on::<M, How>(not_yet).await,
        }
    }

    /// [`send`](Self::send) for threads without an executor.
    pub fn send_blocking<M: Message, How: 'static>(&self, message: M) -> Pending<M>
    where
        W: Takes<M, How>,
    {
        match self.begin(message, None) {
            Begun::Sent(pending) => pending,
            not_yet => block_on(self.go_on::<M, How>(not_yet)),
        }
    }

    /// Sends an ask if there is room now.
    fn begin<M: Message, How: 'static>(&self, message: M, waker: Option<Waker>) -> Begun<W, M>
    where
        W: Takes<M, How>,
    {
        let slot = match self.shared.slot() {
            Ok(slot) => slot,
            Err(reason) => return Begun::Settled(Pending::refused(message, reason)),
        };
        let (call, envelope) = Self::share(Call::ask(message, self.deadline(), slot, waker));
        let pending = Pending::new(call, &self.shared.core.clock);
        match self.shared.queue.offer(self.lane::<M, How>(), envelope) {
            Ok(()) => Begun::Sent(pending),
            Err(refused) => Begun::Refused(pending, refused),
        }
    }

    /// Sees to what could not be sent at once.
    async fn go_on<M: Message, How: 'static>(&self, begun: Begun<W, M>) -> Pending<M>
    where
        W: Takes<M, How>,
    {
        let (pending, refused) = match begun {
            Begun::Sent(pending) | Begun::Settled(pending) => return pending,
            Begun::Refused(pending, refused) => (pending, refused),
        };
        if let Err((envelope, reason)) = self.insist(self.lane::<M, How>(), refused).await {
            envelope.undelivered(reason);
        }
        pending
    }

    /// Sends a message without an answer, waiting for room.
    pub async fn tell<M: Message, How: 'static>(&self, message: M) -> Result<(), SendError<M>>
    where
        W: Takes<M, How>,
    {
        let (call, envelope) = Self::share(Call::tell(message, self.deadline()));
        let lane = self.lane::<M, How>();
        // The usual case first: no future, no timer.
        match self.shared.queue.offer(lane, envelope) {
            Ok(()) => Ok(()),
            Err(refused) => {
                let insisted = self.insist(lane, refused).await;
                insisted.or_else(|(_, reason)| call.letter().give_back(reason))
            }
        }
    }

    /// [`tell`](Self::tell) for threads without an executor.
    pub fn tell_blocking<M: Message, How: 'static>(&self, message: M) -> Result<(), SendError<M>>
    where
        W: Takes<M, How>,
    {
        block_on(self.tell(message))
    }

    /// Sends a message without an answer if there is room now.
    pub fn try_tell<M: Message, How: 'static>(&self, message: M) -> Result<(), SendError<M>>
    where
        W: Takes<M, How>,
    {
        let (call, envelope) = Self::share(Call::tell(message, self.deadline()));
        match self.shared.queue.offer(self.lane::<M, How>(), envelope) {
            Ok(()) => Ok(()),
            Err(Refused::Full(_)) => call.letter().give_back(Reason::Full),
            Err(Refused::Closed(_)) => call.letter().give_back(self.closed()),
        }
    }

    /// The worker's name.
    pub fn name(&self) -> &Arc<str> {
        &self.shared.spec.name
    }

    /// Messages waiting, not counting the one being handled.
    pub fn queued(&self) -> usize {
        self.shared.queue.len()
    }

    /// Messages handled by all lives so far.
    pub fn handled(&self) -> u64 {
        self.shared.vitals.handled.load(Ordering::Relaxed)
    }

    /// How often the worker has been started again.
    pub fn restarts(&self) -> u64 {
        self.shared.vitals.generation.load(Ordering::Relaxed).saturating_sub(1)
    }

    /// Whether both lead to the same worker.
    pub fn same_worker(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    pub(super) fn dead_letter<M>(&self, reason: Reason) {
        self.shared.core.dead_letter(&self.shared.spec.name, std::any::type_name::<M>(), reason);
    }

    /// When what is sent now expires.
    fn deadline(&self) -> Option<Duration> {
        self.limit.map(|limit| self.shared.core.clock.now().saturating_add(limit))
    }

    fn closed(&self) -> Reason {
        Reason::Closed(self.shared.queue.closed().unwrap_or(Exit::Normal))
    }

    /// The lane a kind of message goes in.
    fn lane<M: Message, How: 'static>(&self) -> Lane
    where
        W: Takes<M, How>,
    {
        Lane { group: W::group(&self.shared.spec), urgent: self.urgent }
    }

    /// A call's two ends.
    fn share<M: Message, How: 'static>(call: Arc<Call<M, How>>) -> (Arc<Call<M, How>>, Envelope<W>)
    where
        W: Takes<M, How>,
    {
        let envelope: Envelope<W> = Arc::<Call<M, How>>::clone(&call);
        (call, envelope)
    }

    /// Puts an envelope in that was refused, waiting for room; it comes back with the reason if that cannot be.
    async fn insist(&self, lane: Lane, refused: Refused<Envelope<W>>) -> Result<(), (Envelope<W>, Reason)> {
        let envelope = match refused {
            Refused::Closed(envelope) => return Err((envelope, self.closed())),
            Refused::Full(envelope) => envelope,
        };
        let room = match envelope.deadline() {
            None => self.shared.queue.room(lane).await,
            Some(at) => {
                let timer = pin!(self.shared.core.clock.sleep_until(at));
                match select(pin!(self.shared.queue.room(lane)), timer).await {
                    Either::Left((room, _)) => room,
                    Either::Right(_) => return Err((envelope, Reason::Expired)),
                }
            }
        };
        let Ok(slot) = room else { return Err((envelope, self.closed())) };
        slot.put(envelope).map_err(|envelope| (envelope, self.closed()))
    }
}
