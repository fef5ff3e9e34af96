//! What users write: messages, and workers that handle them.

use super::cx::Cx;
use crate::BoxError;

/// Something a worker can be asked.
pub trait Message: Send + 'static {
    /// What the worker answers.
    type Reply: Send + 'static;
}

/// State owned by one thread and reached only through its mailbox.
///
/// A worker is built by its factory on the thread it will live on, so it need not be `Send`. After a failure a *fresh* one is built;
/// nothing of the broken one is reused.
pub trait Worker: Sized + 'static {
    /// Called once before the first message; an error ends the worker as [`Exit::Failed`](super::Exit::Failed).
    fn started(&mut self, cx: &mut Cx<Self>) -> Result<(), BoxError> {
        let _ = cx;
        Ok(())
    }

    /// Called once after the last message of an orderly end; not after a panic, a stall or a lost device, when state cannot be trusted.
    fn stopped(&mut self) {}
}

/// That a worker handles a kind of message.
pub trait Handle<M: Message>: Worker {
    /// Handles one message. It may block: a worker owns its thread unless its [`Spec`](super::Spec) says `shared`.
    ///
    /// An error goes to the one who asked and the worker lives on. An error of a `tell`, which nobody waits for, ends the worker as
    /// [`Exit::Failed`](super::Exit::Failed): an error that reaches nobody must not be lost.
    fn handle(&mut self, message: M, cx: &mut Cx<Self>) -> Result<M::Reply, BoxError>;
}
