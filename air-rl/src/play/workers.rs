//! Runners on threads of their own, supervised.
//!
//! A message carries the number of a slot and a handle on the weights, nothing large: the runner fills its slot of the
//! preallocated rollout, and the answer says that it has. A runner that panics is replaced by a fresh one, with fresh
//! environments, which fills the slot anew; the steps of its broken predecessor are never learned from.

use std::sync::Arc;

use air_core::seed::Seed;
use air_core::{
    AskError, BoxError, CoreError, Cx, Handle, Mailbox, Message, Pending, Reason, Runtime, Spec,
    SupervisorSpec, Worker,
};
use parking_lot::Mutex;

use crate::envs::EnvSpec;
use crate::error::{Result, RlError};
use crate::play::actor::Actor;
use crate::play::rollout::Rollout;
use crate::play::runner::EnvRunner;
use crate::play::sampler::{Sampling, shares};
use crate::play::task::Task;

/// How often one slot is tried in one iteration before the run fails.
const TRIES: usize = 3;

/// The policy as of one iteration.
pub(crate) struct Weights {
    pub version: u64,
    pub actor: Actor,
}

/// Fill this slot with these weights.
struct Collect {
    slot: usize,
    weights: Arc<Weights>,
}

impl Message for Collect {
    type Reply = ();
}

struct RunnerWorker {
    runner: EnvRunner,
    slots: Arc<[Mutex<Rollout>]>,
}

impl Worker for RunnerWorker {}

impl Handle<Collect> for RunnerWorker {
    fn handle(&mut self, Collect { slot, weights }: Collect, _: &mut Cx<Self>) -> Result<(), BoxError> {
        let mut rollout = self.slots[slot].lock(); // nobody else wants it now
        Ok(self.runner.collect(&weights.actor, weights.version, &mut rollout)?)
    }
}

/// The worker threads and the slots they fill.
pub(crate) struct Workers {
    runners: Vec<Mailbox<RunnerWorker>>,
    slots: Arc<[Mutex<Rollout>]>,
    shares: Vec<(usize, usize)>,
    weights: Arc<Weights>,
    whole: Rollout,
    _runtime: Runtime,
}

impl Workers {
    pub(crate) fn new(
        spec: &EnvSpec,
        task: &Task,
        shape: Sampling,
        seed: Seed,
        epoch: u64,
        actor: &Actor,
    ) -> Result<Self> {
        let runtime = Runtime::start()?;
        let supervisor = runtime.supervisor(SupervisorSpec::new("runners"))?;
        let shares = shares(shape.envs, shape.runners);
        let slots: Arc<[Mutex<Rollout>]> =
            shares.iter().map(|&(_, envs)| Mutex::new(Rollout::new(envs, shape.steps, task))).collect();
        let spawn = |(rank, &(first, envs)): (usize, &(usize, usize))| {
            let (spec, slots) = (spec.clone(), Arc::clone(&slots));
            supervisor.spawn(Spec::new(format!("runners/{rank}")), move |cx| {
                // Each life of a runner has environments of its own; the first has those of a run without threads.
                let epoch = epoch + ((cx.generation() - 1) << 32);
                let runner = EnvRunner::new(&spec, first, envs, seed, epoch)?;
                Ok(RunnerWorker { runner, slots: Arc::clone(&slots) })
            })
        };
        Ok(Self {
            runners: shares.iter().enumerate().map(spawn).collect::<Result<_, CoreError>>()?,
            slots,
            shares,
            weights: Arc::new(Weights { version: 0, actor: actor.clone() }),
            whole: Rollout::new(shape.envs, shape.steps, task),
            _runtime: runtime,
        })
    }

    pub(crate) fn collect(&mut self, actor: &Actor, iteration: u64) -> Result<&mut Rollout> {
        self.publish(actor, iteration);
        let asked: Vec<Pending<Collect>> = (0..self.runners.len()).map(|slot| self.ask(slot)).collect();
        // All are awaited before any is judged, so that no slot is still being filled when this returns.
        let answers: Vec<_> = asked.into_iter().map(Pending::wait).collect();
        self.whole.clear();
        self.whole.version = iteration;
        for (slot, mut answer) in answers.into_iter().enumerate() {
            let mut tries = 1;
            while let Err(error) = answer {
                match error {
                    AskError::Failed(error) => return Err(from_runner(error)),
                    AskError::Undelivered { reason: Reason::Closed(_), .. } => return Err(given_up(error)),
                    _ if tries == TRIES => return Err(given_up(error)),
                    _ => {
                        tracing::warn!(runner = slot, %error, "a runner was lost; its replacement begins anew");
                    }
                }
                tries += 1;
                answer = self.ask(slot).wait();
            }
            self.whole.join(self.shares[slot].0, &self.slots[slot].lock());
        }
        self.whole.order_episodes();
        Ok(&mut self.whole)
    }

    fn ask(&self, slot: usize) -> Pending<Collect> {
        self.runners[slot].send_blocking(Collect { slot, weights: Arc::clone(&self.weights) })
    }

    /// Writes the weights in place when every runner has let go of the last ones, as after a whole iteration they have.
    fn publish(&mut self, actor: &Actor, version: u64) {
        if let Some(weights) = Arc::get_mut(&mut self.weights) {
            weights.version = version;
            weights.actor.copy_from(actor);
        } else {
            self.weights = Arc::new(Weights { version, actor: actor.clone() });
        }
    }
}

/// What a runner returned is ours, through a box.
pub(crate) fn from_runner(error: BoxError) -> RlError {
    match error.downcast::<RlError>() {
        Ok(error) => *error,
        Err(other) => CoreError::Worker(other).into(),
    }
}

pub(crate) fn given_up<M: Message>(error: AskError<M>) -> RlError {
    CoreError::from(error).into()
}
