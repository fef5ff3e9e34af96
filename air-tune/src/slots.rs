//! Slots run trials, one after another, each on a worker of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use air_core::resource::ResourcePool;
use air_core::seed::Seed;
use air_core::{BoxError, Cx, GroupSpec, Handle, Message, Restart, Runtime, Strategy, Worker};

use crate::controller::Launch;
use crate::error::{Cause, Result, TuneError, chain};
use crate::study::Study;
use crate::trial::{Trainable, Trial};

/// What every slot needs.
#[derive(Clone)]
pub(crate) struct Slot {
    pub study: Arc<Study>,
    pub trainable: Arc<dyn Trainable>,
    pub dir: Option<PathBuf>,
    pub seed: Seed,
    /// Where what trials have of the machine is had from, if that is dealt out.
    pub pool: Option<ResourcePool>,
}

impl Slot {
    /// Runs trials until there are none left.
    pub fn run(&self) {
        while let Some(launch) = self.study.next() {
            let trial = launch.trial;
            self.study.ended(trial, self.run_one(launch));
        }
    }

    /// A panic of the user's code ends the trial, not the slot.
    fn run_one(&self, launch: Launch) -> Result<(), Cause> {
        let _span =
            tracing::info_span!("air.tune.trial", trial = launch.trial, attempt = launch.attempt).entered();
        let run = || {
            let seed = self.seed.child("trial", launch.trial);
            // Whoever had it may not have returned yet.
            let lease = match (&self.pool, &launch.resources) {
                (Some(pool), Some(resources)) => Some(pool.acquire(resources.clone()).wait()?),
                _ => None,
            };
            let mut trial = Trial::new(&launch, seed, self.dir.as_deref(), Arc::clone(&self.study), lease)?;
            self.trainable.run(&mut trial, launch.assignment.to_config())
        };
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(match error.downcast::<Cause>() {
                Ok(cause) => *cause,
                Err(error) => Cause::Error { message: chain(error.as_ref()) },
            }),
            Err(panic) => Err(Cause::Panicked { message: message(panic.as_ref()) }),
        }
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a value that is no text".into())
}

/// Tells a slot to run trials until there are none left.
#[derive(Clone)]
struct Drain;

impl Message for Drain {
    type Reply = ();
}

impl Worker for Slot {}

impl Handle<Drain> for Slot {
    fn handle(&mut self, _: Drain, _: &mut Cx<Self>) -> Result<(), BoxError> {
        self.run();
        Ok(())
    }
}

/// Runs `count` slots on workers of `runtime` until all trials are done.
pub(crate) fn run(runtime: &Runtime, slot: Slot, count: usize) -> Result<()> {
    let spec = GroupSpec::new("air-tune-slot", count)
        .supervisor(|supervisor| supervisor.strategy(Strategy::OneForOne))
        .worker(|worker| worker.restart(Restart::Never));
    let slots = runtime.group(spec, move |_| Ok(slot.clone()))?;
    let ended = slots.gather(slots.broadcast(&Drain));
    slots.stop();
    ended
        .into_iter()
        .enumerate()
        .try_for_each(|(slot, end)| end.map_err(|error| TuneError::Slot { slot, reason: chain(&error) }))
}
