//! Replicas: supervised workers that build a model and pull from their deployment's queue.
//!
//! A replica's thread is the worker's own. Its one message says "pull", and is handled for as long as the deployment lives; so no request passes
//! through a mailbox. When its model is lost the worker ends with the model's panic, and its supervisor starts a fresh one after a delay that
//! grows while failures go on; meanwhile the others pull.

use std::sync::Arc;
use std::time::Duration;

use air_core::{
    BoxError, Cx, Handle, Mailbox, Message, RuntimeHandle, Spec, Supervisor, SupervisorSpec, Worker,
};
use parking_lot::{Condvar, Mutex};

use super::core::{Core, End};
use crate::error::ServeError;

/// The back-off limits how often a replica is replaced; giving up on it for good would help nobody.
const RESTARTS: usize = 100_000;
const WINDOW: Duration = Duration::from_mins(1);

/// The replicas of one deployment. Closing the deployment ends them; the runtime joins their threads.
pub(crate) struct Replicas {
    _supervisor: Supervisor,
}

impl Replicas {
    /// Starts every replica and waits until each has its model; the first that cannot build it fails the deployment.
    pub(crate) fn start<I, O>(core: &Arc<Core<I, O>>, runtime: &RuntimeHandle) -> Result<Self, ServeError>
    where
        I: Send + 'static,
        O: Send + 'static,
    {
        let spec = SupervisorSpec::new(Arc::clone(&core.name)).intensity(RESTARTS, WINDOW);
        let supervisor = runtime.supervisor(spec)?;
        let first_starts = FirstStarts::new(core.slots.len());
        for (index, slot) in core.slots.iter().enumerate() {
            let (core, first_starts) = (Arc::clone(core), Arc::clone(&first_starts));
            let factory = move |cx: &mut Cx<Replica<I, O>>| -> Result<Replica<I, O>, BoxError> {
                let built = core.build(index);
                if cx.generation() == 1 {
                    first_starts.note(built.clone());
                }
                built.map_err(|reason| reason.to_string())?;
                Ok(Replica { core: Arc::clone(&core), index })
            };
            let _: Mailbox<Replica<I, O>> = supervisor.spawn(Spec::new(Arc::clone(&slot.name)), factory)?;
        }
        if let Err(reason) = first_starts.wait() {
            core.close();
            return Err(ServeError::Model { deployment: Arc::clone(&core.name), reason });
        }
        Ok(Replicas { _supervisor: supervisor })
    }
}

struct Replica<I, O> {
    core: Arc<Core<I, O>>,
    index: usize,
}

/// Pull until there is nothing more to pull.
struct Pull;

impl Message for Pull {
    type Reply = ();
}

impl<I: Send + 'static, O: Send + 'static> Worker for Replica<I, O> {
    fn started(&mut self, cx: &mut Cx<Self>) -> Result<(), BoxError> {
        cx.mailbox().try_tell(Pull).map_err(|error| error.reason.to_string().into())
    }
}

impl<I: Send + 'static, O: Send + 'static> Handle<Pull> for Replica<I, O> {
    fn handle(&mut self, _: Pull, cx: &mut Cx<Self>) -> Result<(), BoxError> {
        match self.core.pull(self.index) {
            End::Closed => {
                cx.stop();
                Ok(())
            }
            // The model's panic was caught to answer its callers; from here on it is the replica's own end.
            End::Lost(reason) => std::panic::resume_unwind(Box::new(reason.to_string())),
        }
    }
}

/// Collects how the first start of each replica went.
struct FirstStarts {
    state: Mutex<Pending>,
    changed: Condvar,
}

struct Pending {
    replicas: usize,
    failure: Option<Arc<str>>,
}

impl FirstStarts {
    fn new(replicas: usize) -> Arc<Self> {
        Arc::new(FirstStarts {
            state: Mutex::new(Pending { replicas, failure: None }),
            changed: Condvar::new(),
        })
    }

    fn note(&self, built: Result<(), Arc<str>>) {
        let mut state = self.state.lock();
        match built {
            Ok(()) => state.replicas = state.replicas.saturating_sub(1),
            Err(reason) => state.failure = Some(reason),
        }
        self.changed.notify_all();
    }

    fn wait(&self) -> Result<(), Arc<str>> {
        let mut state = self.state.lock();
        loop {
            match &*state {
                Pending { failure: Some(reason), .. } => return Err(Arc::clone(reason)),
                Pending { replicas: 0, .. } => return Ok(()),
                Pending { .. } => self.changed.wait(&mut state),
            }
        }
    }
}
