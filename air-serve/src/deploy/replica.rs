//! Replicas: workers that build a model and pull from their version's queue.
//!
//! A replica's thread is the worker's own. Its one message says "pull", and is handled for as long as the replica lives; so no request passes
//! through a mailbox. A worker is one life: who looks after the deployment starts the next one.

use std::sync::Arc;
use std::task::{Context, Poll};

use air_core::{
    BoxError, CoreError, Cx, Handle, HandleAsync, Mailbox, Message, Restart, RuntimeHandle, Spec, Worker,
};

use super::context::{self, Caller, Executing};
use super::core::{Core, End};
use super::slot::Slot;
use crate::model::Start;

/// One life of a replica. Dropping it changes nothing.
pub(crate) struct Life<I: Send + 'static, O: Send + 'static> {
    pub core: Arc<Core<I, O>>,
    pub slot: Arc<Slot<I, O>>,
    worker: Mailbox<Replica<I, O>>,
}

impl<I: Send + 'static, O: Send + 'static> Life<I, O> {
    /// Starts a life; its model is built on its own thread.
    pub(crate) fn start(
        core: &Arc<Core<I, O>>,
        name: Arc<str>,
        runtime: &RuntimeHandle,
    ) -> Result<Self, CoreError> {
        let slot = Arc::new(Slot::new(Arc::clone(&name)));
        let replica = (Arc::clone(core), Arc::clone(&slot));
        let factory = move |cx: &mut Cx<Replica<I, O>>| -> Result<Replica<I, O>, BoxError> {
            let (core, slot) = &replica;
            context::set_devices(cx.devices().to_vec());
            if let Err(reason) = core.prepare(slot) {
                core.leave(slot, Err(Arc::clone(&reason)));
                return Err(reason.to_string().into());
            }
            Ok(Replica { core: Arc::clone(core), slot: Arc::clone(slot) })
        };
        let mut spec = Spec::new(name).restart(Restart::Never);
        spec.resources = core.config.resources();
        let worker = runtime.spawn(spec, factory)?;
        Ok(Life { core: Arc::clone(core), slot, worker })
    }

    /// That it is over, and why if it failed.
    pub(crate) fn ended(&self) -> Option<Result<(), Arc<str>>> {
        let unheard = || {
            // It had no thread to live on, or the runtime is ending.
            let exit = self.worker.ended()?;
            Some(if exit.is_failure() { Err(exit.to_string().into()) } else { Ok(()) })
        };
        self.slot.ended().or_else(unheard)
    }

    /// Lets it finish what it has, and end.
    pub(crate) fn drain(&self) {
        self.slot.leave();
        self.core.wake();
    }

    /// Sees to it that nothing is left of a life that is over. Usually it has done so itself; but it may have ended in code of the user's that no
    /// model's call is, the copying of an input say.
    pub(crate) fn bury(&self) {
        if self.slot.ended().is_none() {
            let reason =
                self.worker.ended().map_or_else(|| "it ended".into(), |exit| exit.to_string().into());
            self.core.give_up(&self.slot, &reason);
        }
    }

    /// Waits for it no longer, and neither does the end of the server. Its thread ends when its model returns.
    pub(crate) fn give_up(&self, reason: &Arc<str>) {
        tracing::error!(replica = %self.slot.name, %reason, "the replica is given up");
        self.core.give_up(&self.slot, reason);
        self.worker.abandon();
    }
}

struct Replica<I, O> {
    core: Arc<Core<I, O>>,
    slot: Arc<Slot<I, O>>,
}

/// Pull until there is nothing more to pull.
struct Pull;

impl Message for Pull {
    type Reply = ();
}

impl<I: Send + 'static, O: Send + 'static> Worker for Replica<I, O> {
    fn started(&mut self, cx: &mut Cx<Self>) -> Result<(), BoxError> {
        let beside = self.slot.model.lock().as_ref().and_then(|model| model.beside());
        let told = match beside {
            None => cx.mailbox().try_tell(Pull).map_err(|error| error.reason),
            Some(start) => cx.mailbox().try_tell(PullBeside(start)).map_err(|error| error.reason),
        };
        told.map_err(|reason| reason.to_string().into())
    }
}

/// The same, of an async model.
struct PullBeside<I, O>(Start<I, O>);

impl<I: Send + 'static, O: Send + 'static> Message for PullBeside<I, O> {
    type Reply = ();
}

impl<I: Send + 'static, O: Send + 'static> HandleAsync<PullBeside<I, O>> for Replica<I, O> {
    fn handle_async(
        &mut self,
        PullBeside(start): PullBeside<I, O>,
        cx: &mut Cx<Self>,
    ) -> impl Future<Output = Result<(), BoxError>> + 'static {
        let (core, slot) = (Arc::clone(&self.core), Arc::clone(&self.slot));
        let mailbox = cx.mailbox().clone();
        async move {
            let how = match core.pull_beside(&slot, start).await {
                End::Left => Ok(()),
                End::Lost(reason) => Err(reason),
            };
            core.leave(&slot, how.clone());
            mailbox.stop();
            how.map_err(|reason| reason.to_string().into())
        }
    }
}

impl<I: Send + 'static, O: Send + 'static> Handle<Pull> for Replica<I, O> {
    fn handle(&mut self, _: Pull, cx: &mut Cx<Self>) -> Result<(), BoxError> {
        let working = Working { core: Arc::clone(&self.core), slot: Arc::clone(&self.slot) };
        let here = context::enter_replica(Arc::new(working));
        let end = self.core.pull(&self.slot);
        drop(here);
        match end {
            End::Left => {
                self.core.leave(&self.slot, Ok(()));
                cx.stop();
                Ok(())
            }
            End::Lost(reason) => {
                self.core.leave(&self.slot, Err(Arc::clone(&reason)));
                // Nobody asked, so this is how the worker ends.
                Err(reason.to_string().into())
            }
        }
    }
}

/// What a replica's model is at work on, for the calls that it makes.
struct Working<I, O> {
    core: Arc<Core<I, O>>,
    slot: Arc<Slot<I, O>>,
}

impl<I: Send + 'static, O: Send + 'static> Executing for Working<I, O> {
    fn caller(&self) -> Option<Caller> {
        let hand = self.slot.hand.lock();
        let first = hand.first()?;
        let priority = hand.iter().map(|job| job.priority).filter(|priority| *priority > 0).min();
        Some(Caller {
            deployment: Arc::clone(&self.core.name),
            deadline: hand.iter().map(|job| job.deadline).max()?,
            priority: priority.unwrap_or(0),
            along: first.along.clone(),
            trace: hand.iter().find_map(|job| job.traced.as_ref()).map(|traced| traced.trace().clone()),
        })
    }

    fn poll_abandoned(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut hand = self.slot.hand.lock();
        // All are asked, so that each that is left tells when it goes.
        let gone =
            hand.iter_mut().filter_map(|job| job.reply.poll_closed(cx).is_ready().then_some(())).count();
        if !hand.is_empty() && gone == hand.len() { Poll::Ready(()) } else { Poll::Pending }
    }
}
