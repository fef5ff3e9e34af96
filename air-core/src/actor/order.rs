//! What a supervisor is told.

use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use tokio::sync::oneshot;

use super::child::Child;
use super::exit::Exit;
use super::restart::ChildId;
use super::supervisor::SupervisorActor;
use crate::resource::Share;

/// What a supervisor is told, by users' verbs, by lives that end and by clocks.
pub(super) enum Order {
    /// Put a worker under the supervisor.
    Adopt(Adoption),
    /// Put a supervisor of this name under the supervisor.
    AdoptSupervisor(Addr<SupervisorActor>, Arc<str>),
    /// Someone was put over the supervisor, who knows it by this number.
    Parent(Addr<SupervisorActor>, ChildId),
    /// A life has ended.
    Exited {
        child: ChildId,
        generation: u64,
        exit: Exit,
    },
    /// A life has not returned within the limit.
    Overdue {
        child: ChildId,
        generation: u64,
        limit: Duration,
    },
    /// A back-off is over.
    StartDue {
        child: ChildId,
        ticket: u64,
    },
    /// The worker of this number was killed.
    Kill(u64),
    /// The same, and its thread is not to be waited for.
    Abandon(u64),
    /// Stop everyone; [`Order::Revive`] starts them again.
    Halt,
    Revive,
    /// End for good, with this as everyone's reason.
    Close(Exit),
    /// End for good because the runtime ends; the sender is told when all have.
    Shutdown(oneshot::Sender<()>),
    /// Leave behind whoever has not ended by now.
    AbandonAll(Duration),
}

impl actix::Message for Order {
    type Result = ();
}

/// A worker on its way to its supervisor. Dropped before it arrives (the runtime is gone), it closes the worker's mailbox.
pub(super) struct Adoption {
    child: Option<Arc<dyn Child>>,
    /// What the worker holds of the machine.
    lease: Option<Share>,
}

impl Adoption {
    pub(super) fn new(child: Arc<dyn Child>) -> Self {
        Self { child: Some(child), lease: None }
    }

    /// Gives the worker what it asked for.
    pub(super) fn holding(mut self, lease: Share) -> Self {
        if let Some(child) = &self.child {
            child.give(lease.devices());
        }
        self.lease = Some(lease);
        self
    }

    pub(super) fn arrived(mut self) -> Option<(Arc<dyn Child>, Option<Share>)> {
        Some((self.child.take()?, self.lease.take()))
    }
}

impl Drop for Adoption {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            child.close(&Exit::Normal);
        }
    }
}
