//! What users write: messages, and workers that handle them.

use std::future::Future;

use super::cx::Cx;
use crate::BoxError;

/// Something a worker can be asked.
pub trait Message: Send + 'static {
    /// What the worker answers.
    type Reply: Send + 'static;

    /// Whether it is worth a word that one was told to a worker that ended before it was handled: then it is a dead letter, in the log and in the
    /// counts. False for a mere hint, which is nothing to a worker that is gone.
    const MATTERS: bool = true;
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

/// That a worker handles a kind of message in batches: what waits of it, as many as there are at once.
///
/// Messages of other kinds are not overtaken: a batch is a run of neighbours in the mailbox. It is never waited for, so a message that
/// comes alone is a batch of one.
pub trait HandleBatch<M: Message>: Worker {
    /// Most messages in a batch.
    const MOST: usize = 64;

    /// Handles some messages, oldest first, and returns one result for each, in the same order. What holds for the result of
    /// [`Handle::handle`] holds for each; [`Cx::deadline`] is the earliest of theirs.
    ///
    /// A panic ends the worker, and every sender of the batch is told [`AskError::Died`](super::AskError::Died).
    fn handle_batch(&mut self, messages: Vec<M>, cx: &mut Cx<Self>) -> Vec<Result<M::Reply, BoxError>>;
}

/// That a worker handles a kind of message without holding its thread while it waits: many such calls can be in progress, and the
/// worker handles other messages meanwhile.
///
/// The future lives on the worker's thread, so it may hold an `Rc` of the worker's state, though not the worker itself. It begins in the
/// order of the mailbox. At most [`Spec::max_concurrency`](super::Spec::max_concurrency) are in progress, or as many as its
/// [group](Self::GROUP) allows. When the worker ends, those in progress are dropped and their senders told
/// [`AskError::Died`](super::AskError::Died); a stop lets them finish first. One that panics, or is in progress for longer than the
/// stall limit, ends the worker. One whose sender's deadline passes is dropped where it waits, and so is one whose sender goes away (drops
/// its [`Pending`](super::Pending)): nobody would have the answer. What must not be left half done belongs in a `tell`, or in a task.
///
/// ```
/// use std::rc::Rc;
/// use air_core::{BoxError, Cx, HandleAsync, Message, Runtime, Spec, Worker};
///
/// struct Fetch(&'static str);
/// impl Message for Fetch {
///     type Reply = usize;
/// }
///
/// struct Fetcher(Rc<Vec<usize>>);
/// impl Worker for Fetcher {}
/// impl HandleAsync<Fetch> for Fetcher {
///     const GROUP: &'static str = "io";
///
///     fn handle_async(
///         &mut self,
///         Fetch(page): Fetch,
///         _: &mut Cx<Self>,
///     ) -> impl Future<Output = Result<usize, BoxError>> + 'static {
///         let sizes = Rc::clone(&self.0);
///         async move { Ok(sizes[0] + page.len()) }
///     }
/// }
///
/// let runtime = Runtime::start()?;
/// let spec = Spec::new("fetcher").concurrency_group("io", 8);
/// let fetcher = runtime.spawn(spec, |_| Ok(Fetcher(Rc::new(vec![40]))))?;
/// assert_eq!(fetcher.ask_blocking(Fetch("ab"))?, 42);
/// # Ok::<(), BoxError>(())
/// ```
pub trait HandleAsync<M: Message>: Worker {
    /// The concurrency group it counts against, which has a limit and a mailbox of its own: when it is full its messages wait and the
    /// others pass. A name that the worker's spec does not give a limit is no group: then the worker takes nothing more until one
    /// of the calls of no group is over.
    const GROUP: &'static str = "";

    /// Begins to handle one message. What holds for the result of [`Handle::handle`] holds for the future's.
    fn handle_async(
        &mut self,
        message: M,
        cx: &mut Cx<Self>,
    ) -> impl Future<Output = Result<M::Reply, BoxError>> + 'static;
}
