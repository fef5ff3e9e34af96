//! How a worker is reached.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::call::{Call, Pending};
use super::error::{AskError, Reason, SendError};
use super::exit::{Exit, ExitRecord};
use super::message::{Handle, Message, Worker};
use super::park::block_on;
use super::queue::NoRoom;
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
        let deadline = self.deadline();
        if let Err(reason) = self.room(deadline).await {
            return Pending::refused(message, reason);
        }
        self.put_ask(message, deadline)
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
        let deadline = self.deadline();
        match self.room(deadline).await {
            Ok(()) => self.put_tell(message, deadline),
            Err(reason) => Err(SendError { message, reason }),
        }
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
        match self.shared.queue.try_room() {
            Ok(()) => self.put_tell(message, self.deadline()),
            Err(NoRoom::Full) => Err(SendError { message, reason: Reason::Full }),
            Err(NoRoom::Closed) => Err(SendError { message, reason: self.closed() }),
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

    fn deadline(&self) -> Option<Duration> {
        self.limit.map(|limit| self.shared.core.clock.now().saturating_add(limit))
    }

    fn closed(&self) -> Reason {
        Reason::Closed(self.shared.queue.closed().unwrap_or(Exit::Normal))
    }

    async fn room(&self, deadline: Option<Duration>) -> Result<(), Reason> {
        // The usual case first: no future, no timer.
        let room = match (self.shared.queue.try_room(), deadline) {
            (Err(NoRoom::Full), None) => self.shared.queue.room().await,
            (Err(NoRoom::Full), Some(at)) => {
                let timer = std::pin::pin!(self.shared.core.clock.sleep_until(at));
                let room = std::pin::pin!(self.shared.queue.room());
                match futures::future::select(room, timer).await {
                    futures::future::Either::Left((room, _)) => room,
                    futures::future::Either::Right(_) => return Err(Reason::Expired),
                }
            }
            (room, _) => room,
        };
        room.map_err(|_| self.closed())
    }

    fn put_ask<M: Message>(&self, message: M, deadline: Option<Duration>) -> Pending<M>
    where
        W: Handle<M>,
    {
        let call = Call::new(message, true, deadline);
        let pending = Pending::new(Arc::clone(&call), &self.shared.core.clock);
        let envelope: Envelope<W> = call;
        if let Err(envelope) = self.shared.queue.put(envelope) {
            envelope.undelivered(self.closed());
        }
        pending
    }

    fn put_tell<M: Message>(&self, message: M, deadline: Option<Duration>) -> Result<(), SendError<M>>
    where
        W: Handle<M>,
    {
        let call = Call::new(message, false, deadline);
        let envelope: Envelope<W> = Arc::<Call<M>>::clone(&call);
        match self.shared.queue.put(envelope) {
            Ok(()) => Ok(()),
            Err(_) => match call.take_message() {
                Some(message) => Err(SendError { message, reason: self.closed() }),
                // Cannot be: the queue gave the envelope back, so nobody else has touched the call.
                None => Ok(()),
            },
        }
    }
}
