//! What a worker can do while it handles a message.

use std::sync::Arc;
use std::time::Duration;

use super::exit::Exit;
use super::mailbox::Mailbox;
use super::message::{Handle, Message, Worker};
use super::shared::Shared;
use crate::BoxError;
use crate::clock::Clock;
use crate::device::Device;

/// A worker's view of itself; handed to each of its handlers.
pub struct Cx<W: Worker> {
    shared: Arc<Shared<W>>,
    generation: u64,
    deadline: Option<Duration>,
    exit: Option<Exit>,
}

impl<W: Worker> Cx<W> {
    pub(super) fn new(shared: Arc<Shared<W>>, generation: u64) -> Self {
        Self { shared, generation, deadline: None, exit: None }
    }

    /// The worker's name.
    pub fn name(&self) -> &str {
        &self.shared.spec.name
    }

    /// Which life this is; the first is 1.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The GPUs this worker was given, the same in all its lives: as many as its [`Spec`](super::Spec) asks for. It uses no others.
    pub fn devices(&self) -> &[Device] {
        self.shared.devices.get().map_or(&[], Vec::as_slice)
    }

    /// Time on the runtime's clock.
    pub fn now(&self) -> Duration {
        self.shared.core.clock.now()
    }

    /// The runtime's clock.
    pub fn clock(&self) -> &Clock {
        &self.shared.core.clock
    }

    /// By when the present message's sender wants its answer, on the runtime's clock.
    pub fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// The worker's own mailbox. Asking oneself and waiting for the answer would wait for ever.
    pub fn mailbox(&self) -> Mailbox<W> {
        Mailbox::new(Arc::clone(&self.shared))
    }

    /// Sends the worker a message after a delay. If the worker has ended by then, it becomes a dead letter.
    pub fn tell_after<M: Message>(&self, delay: Duration, message: M)
    where
        W: Handle<M>,
    {
        let mailbox = self.mailbox();
        let pause = self.clock().sleep(delay);
        actix::spawn(async move {
            pause.await;
            if let Err(error) = mailbox.tell(message).await {
                mailbox.dead_letter::<M>(error.reason);
            }
        });
    }

    /// Ends the worker in order once this message is handled; what waits in the mailbox is not handled.
    pub fn stop(&mut self) {
        self.exit.get_or_insert(Exit::Normal);
    }

    /// Ends the worker as failed once this message is handled.
    pub fn fail(&mut self, error: impl Into<BoxError>) {
        self.exit = Some(Exit::failed(error.into()));
    }

    /// Ends the worker because its device can no longer be trusted.
    pub fn device_lost(&mut self, what: impl Into<Arc<str>>) {
        self.exit = Some(Exit::DeviceLost(what.into()));
    }

    pub(super) fn set_deadline(&mut self, deadline: Option<Duration>) {
        self.deadline = deadline;
    }

    pub(super) fn take_exit(&mut self) -> Option<Exit> {
        self.exit.take()
    }
}
