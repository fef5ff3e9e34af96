//! How a worker is reached.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::{Either, select};

use super::call::{Call, Pending};
use super::error::{AskError, Reason, SendError};
use super::exit::{Exit, ExitRecord};
use super::message::{Handle, Message, Worker};
use super::park::block_on;
use super::queue::Refused;
use super::shared::{Envelope, Shared};

/// The way to one worker. Cheap to clone; it outlives restarts, and so do the messages in it.
///
/// Room is bounded: `ask` and `tell` wait for it, `try_tell` gives the message back. Every verb of a mailbox made by
/// [`within`](Self::within) carries a deadline, and a message whose deadline has passed is never handled.
pub struct Mailbox<W: Worker> {
    shared: Arc<Shared<W>>,
    limit: Option<Duration>,
}

impl<W: Worker> Clone for Mailbox<W> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), limit: self.limit }
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
        Self { shared, limit: None }
    }

    /// The same mailbox, every verb of which gives up after `limit`.
    pub fn within(&self, limit: Duration) -> Self {
        Self { shared: Arc::clone(&self.shared), limit: Some(limit) }
    }

    /// Sends a message and waits for the answer.
    pub async fn ask<M: Message>(&self, message: M) -> Result<M::Reply, AskError<M>>
    where
        W: Handle<M>,
    {
        self.send(message).await.await
    }

    /// [`ask`](Self::ask) for threads without an executor.
    pub fn ask_blocking<M: Message>(&self, message: M) -> Result<M::Reply, AskError<M>>
    where
        W: Handle<M>,
    {
        block_on(self.ask(message))
    }

    /// Sends a message, waiting for room but not for the answer: the way to keep several asks in flight.
    pub async fn send<M: Message>(&self, message: M) -> Pending<M>
    where
        W: Handle<M>,
    {
        let (call, envelope) = self.call(message, true);
        let pending = Pending::new(call, &self.shared.core.clock);
        if let Err((envelope, reason)) = self.put(envelope).await {
            envelope.undelivered(reason);
        }
        pending
    }

    /// [`send`](Self::send) for threads without an executor.
    pub fn send_blocking<M: Message>(&self, message: M) -> Pending<M>
    where
        W: Handle<M>,
    {
        block_on(self.send(message))
    }

    /// Sends a message without an answer, waiting for room.
    pub async fn tell<M: Message>(&self, message: M) -> Result<(), SendError<M>>
    where
        W: Handle<M>,
    {
        let (call, envelope) = self.call(message, false);
        let put = self.put(envelope).await;
        put.or_else(|(_, reason)| call.give_back(reason))
    }

    /// [`tell`](Self::tell) for threads without an executor.
    pub fn tell_blocking<M: Message>(&self, message: M) -> Result<(), SendError<M>>
    where
        W: Handle<M>,
    {
        block_on(self.tell(message))
    }

    /// Sends a message without an answer if there is room now.
    pub fn try_tell<M: Message>(&self, message: M) -> Result<(), SendError<M>>
    where
        W: Handle<M>,
    {
        let (call, envelope) = self.call(message, false);
        match self.shared.queue.offer(envelope) {
            Ok(()) => Ok(()),
            Err(Refused::Full(_)) => call.give_back(Reason::Full),
            Err(Refused::Closed(_)) => call.give_back(self.closed()),
        }
    }

    /// Ends the worker once it has handled what waits; nothing new is let in, and it is not restarted.
    pub fn stop(&self) {
        self.shared.queue.finish();
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

    /// Its last ends, oldest first (at most 16).
    pub fn exits(&self) -> Vec<ExitRecord> {
        self.shared.exits()
    }

    /// Why there will be no further life, once that is so.
    pub fn ended(&self) -> Option<Exit> {
        self.shared.queue.closed()
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

    fn call<M: Message>(&self, message: M, asked: bool) -> (Arc<Call<M>>, Envelope<W>)
    where
        W: Handle<M>,
    {
        let call = Call::new(message, asked, self.deadline());
        let envelope: Envelope<W> = Arc::<Call<M>>::clone(&call);
        (call, envelope)
    }

    /// Puts an envelope in, waiting for room; it comes back with the reason if that cannot be.
    async fn put(&self, envelope: Envelope<W>) -> Result<(), (Envelope<W>, Reason)> {
        // The usual case first: no future, no timer.
        let envelope = match self.shared.queue.offer(envelope) {
            Ok(()) => return Ok(()),
            Err(Refused::Closed(envelope)) => return Err((envelope, self.closed())),
            Err(Refused::Full(envelope)) => envelope,
        };
        let room = match envelope.deadline() {
            None => self.shared.queue.room().await,
            Some(at) => {
                let timer = pin!(self.shared.core.clock.sleep_until(at));
                match select(pin!(self.shared.queue.room()), timer).await {
                    Either::Left((room, _)) => room,
                    Either::Right(_) => return Err((envelope, Reason::Expired)),
                }
            }
        };
        let Ok(slot) = room else { return Err((envelope, self.closed())) };
        slot.put(envelope).map_err(|envelope| (envelope, self.closed()))
    }
}
