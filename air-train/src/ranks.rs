//! Runs one job on each rank's own worker and says which rank failed first.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use air_core::collective::{Aborter, Collective, in_process};
use air_core::{BoxError, Cx, GroupSpec, Handle, Message, Restart, RuntimeHandle, Worker};
use parking_lot::Mutex;

use crate::failure::Cause;
use crate::record::Record;
use crate::{Result, TrainContext};

pub(crate) type Work = Arc<dyn Fn(&mut TrainContext) -> Result<(), BoxError> + Send + Sync>;
type First = Arc<Mutex<Option<(usize, Cause)>>>;

/// A worker for one attempt; a failure ends it, and the next attempt gets fresh ones.
struct RankWorker;

impl Worker for RankWorker {}

struct Job {
    work: Work,
    collective: Collective,
    record: Arc<Record>,
    first: First,
}

impl Message for Job {
    type Reply = ();
}

impl Handle<Job> for RankWorker {
    fn handle(&mut self, job: Job, _: &mut Cx<Self>) -> Result<(), BoxError> {
        let Job { work, collective, record, first } = job;
        let (rank, aborter) = (collective.rank(), collective.aborter());
        // The context keeps this rank in the collective until its failure has been noted: the others fail after it.
        let mut context = TrainContext::new(collective, record);
        match catch_unwind(AssertUnwindSafe(|| work(&mut context))) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                fail(&first, &aborter, rank, Cause::Failed(error.into()));
                Ok(())
            }
            Err(panic) => {
                fail(&first, &aborter, rank, Cause::Panicked(message(panic.as_ref())));
                // The worker's state cannot be trusted: let it end as one that panicked.
                resume_unwind(panic)
            }
        }
    }
}

/// Runs `work` on a group of `world` workers. The first rank that fails ends the collective for all others at once; the
/// result is that rank and its cause.
pub(crate) fn run(
    runtime: &RuntimeHandle,
    name: &str,
    world: usize,
    work: &Work,
    record: &Arc<Record>,
) -> Result<(), (usize, Cause)> {
    let spec = GroupSpec::new(name, world).worker(|worker| worker.restart(Restart::Never));
    let lost = |rank, error: &dyn std::fmt::Display| (rank, Cause::Lost(error.to_string()));
    let group = runtime.group(spec, |_| Ok(RankWorker)).map_err(|error| lost(0, &error))?;
    let first = First::default();
    let collectives = in_process(world);
    let aborters: Vec<Aborter> = collectives.iter().map(Collective::aborter).collect();
    let jobs = collectives
        .into_iter()
        .map(|collective| {
            let (work, record, first) = (Arc::clone(work), Arc::clone(record), Arc::clone(&first));
            Job { work, collective, record, first }
        })
        .collect();
    if let Ok(pending) = group.scatter(jobs) {
        for (rank, end) in group.gather(pending).into_iter().enumerate() {
            // A panic has been noted already; this is for a worker that never ran.
            if let Err(error) = end {
                fail(&first, &aborters[rank], rank, Cause::Lost(error.to_string()));
            }
        }
    }
    group.stop();
    first.lock().take().map_or(Ok(()), Err)
}

/// Notes the first failure, then ends the collective: whoever fails because of that comes later.
fn fail(first: &First, aborter: &Aborter, rank: usize, cause: Cause) {
    let reason = cause.to_string();
    first.lock().get_or_insert((rank, cause));
    aborter.abort(rank, reason);
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}
