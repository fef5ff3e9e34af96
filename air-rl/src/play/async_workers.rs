//! Runners on threads of their own that play on while the learner learns.
//!
//! Each runner has [`SLOTS`] preallocated rollouts: while one waits to be learned from, it fills the other, and then it waits:
//! what is learned from is never more than a few updates old, and nothing queues without bound. A message carries the number
//! of a slot; weights are published as one version after another, and a runner takes the newest when it begins a rollout.
//! A runner that panics is replaced by a fresh one, with fresh environments, which fills the slot anew.

use std::sync::Arc;

use air_core::seed::Seed;
use air_core::{
    AskError, BoxError, CoreError, Cx, Handle, Mailbox, Message, Reason, Runtime, Spec, SupervisorSpec,
    Worker, block_on,
};
use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use parking_lot::Mutex;

use crate::envs::EnvSpec;
use crate::error::Result;
use crate::play::actor::Actor;
use crate::play::rollout::Rollout;
use crate::play::runner::EnvRunner;
use crate::play::sampler::{Sampling, shares};
use crate::play::task::Task;
use crate::play::workers::{Weights, from_runner, given_up};

/// Rollouts of each runner: one that is played, one that is learned from or waits for it.
const SLOTS: usize = 2;

/// How often one slot is tried in a row before the run fails.
const TRIES: usize = 3;

/// Fill this slot with the newest weights; `number` tells a runner's rollouts apart.
struct Collect {
    slot: usize,
    number: u64,
}

impl Message for Collect {
    type Reply = ();
}

/// What the runners share with the learner.
struct Shared {
    slots: Vec<Mutex<Rollout>>,
    weights: ArcSwap<Weights>,
}

struct RunnerWorker {
    runner: EnvRunner,
    shared: Arc<Shared>,
}

impl Worker for RunnerWorker {}

impl Handle<Collect> for RunnerWorker {
    fn handle(&mut self, Collect { slot, number }: Collect, _: &mut Cx<Self>) -> Result<(), BoxError> {
        let weights = self.shared.weights.load_full();
        let mut rollout = self.shared.slots[slot].lock(); // nobody else wants it now
        self.runner.collect(&weights.actor, number, &mut rollout)?;
        rollout.version = weights.version;
        Ok(())
    }
}

/// What became of an ask for a slot.
struct Answer {
    slot: usize,
    tries: usize,
    result: Result<(), AskError<Collect>>,
}

/// The worker threads, their slots, and the asks under way.
pub(crate) struct AsyncWorkers {
    runners: Vec<Mailbox<RunnerWorker>>,
    shared: Arc<Shared>,
    asked: FuturesUnordered<BoxFuture<'static, Answer>>,
    /// Rollouts asked for so far.
    number: u64,
    /// The rollout that is given out, and the slot it belongs to.
    current: (Rollout, Option<usize>),
    _runtime: Runtime,
}

impl AsyncWorkers {
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
        let slots = shares.iter().flat_map(|&(_, envs)| vec![Rollout::new(envs, shape.steps, task); SLOTS]);
        let shared = Arc::new(Shared {
            slots: slots.map(Mutex::new).collect(),
            weights: ArcSwap::from_pointee(Weights { version: epoch, actor: actor.clone() }),
        });
        let spawn = |(rank, &(first, envs)): (usize, &(usize, usize))| {
            let (spec, shared) = (spec.clone(), Arc::clone(&shared));
            supervisor.spawn(Spec::new(format!("runners/{rank}")), move |cx| {
                // Each life of a runner has environments of its own.
                let epoch = epoch + ((cx.generation() - 1) << 32);
                let runner = EnvRunner::new(&spec, first, envs, seed, epoch)?;
                Ok(RunnerWorker { runner, shared: Arc::clone(&shared) })
            })
        };
        let runners = shares.iter().enumerate().map(spawn).collect::<Result<_, CoreError>>()?;
        let mut workers = Self {
            runners,
            asked: FuturesUnordered::new(),
            // Apart from those of the run that this one goes on from.
            number: epoch << 32,
            current: (Rollout::new(1, 1, task), None),
            shared,
            _runtime: runtime,
        };
        // The first slot of every runner before any second one.
        for nth in 0..SLOTS {
            for runner in 0..shape.runners {
                workers.ask(runner * SLOTS + nth, 1);
            }
        }
        Ok(workers)
    }

    /// The rollout that was filled first, by whichever runner; `actor` is what the next ones are played with.
    pub(crate) fn collect(&mut self, actor: &Actor, version: u64) -> Result<&mut Rollout> {
        self.shared.weights.store(Arc::new(Weights { version, actor: actor.clone() }));
        if let Some(slot) = self.current.1.take() {
            std::mem::swap(&mut self.current.0, &mut *self.shared.slots[slot].lock());
            self.ask(slot, 1);
        }
        while let Some(Answer { slot, tries, result }) = block_on(self.asked.next()) {
            match result {
                Ok(()) => {
                    std::mem::swap(&mut self.current.0, &mut *self.shared.slots[slot].lock());
                    self.current.1 = Some(slot);
                    break;
                }
                Err(AskError::Failed(error)) => return Err(from_runner(error)),
                Err(error @ AskError::Undelivered { reason: Reason::Closed(_), .. }) => {
                    return Err(given_up(error));
                }
                Err(error) if tries == TRIES => return Err(given_up(error)),
                Err(error) => {
                    let runner = slot / SLOTS;
                    tracing::warn!(runner, %error, "a runner was lost; its replacement begins anew");
                    self.ask(slot, tries + 1);
                }
            }
        }
        Ok(&mut self.current.0)
    }

    fn ask(&mut self, slot: usize, tries: usize) {
        self.number += 1;
        let pending = self.runners[slot / SLOTS].send_blocking(Collect { slot, number: self.number });
        self.asked.push(Box::pin(async move { Answer { slot, tries, result: pending.await } }));
    }
}
