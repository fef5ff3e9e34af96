//! Waiting inside a task without keeping a thread from the others.

use std::sync::Arc;

use super::pool::Shared;
use super::thread::on_local;
use crate::object::ObjectError;

/// While it is held, this thread of a pool does not count as one that runs tasks: another one may.
pub(crate) struct Blocked(Arc<Shared>);

/// Says that this thread is about to wait; nothing to say outside of a pool, or if it has been said.
pub(crate) fn blocked() -> Option<Blocked> {
    let shared = on_local(|local| (local.waits == 0).then(|| Arc::clone(local.shared())))??;
    begin(shared, true)
}

/// As [`blocked`], and an error where this is the last thread of the pool that could run anything.
pub(crate) fn try_blocked(pool: &Arc<Shared>) -> Result<Option<Blocked>, ObjectError> {
    let free = on_local(|local| local.waits == 0 && local.belongs_to(pool));
    if free != Some(true) {
        return Ok(blocked());
    }
    match begin(Arc::clone(pool), false) {
        Some(blocked) => Ok(Some(blocked)),
        None => Err(ObjectError::Starved { threads: pool.threads() }),
    }
}

fn begin(shared: Arc<Shared>, always: bool) -> Option<Blocked> {
    shared.begin_wait(always).then(|| {
        on_local(|local| local.waits += 1);
        Blocked(shared)
    })
}

impl Drop for Blocked {
    fn drop(&mut self) {
        on_local(|local| local.waits -= 1);
        self.0.end_wait();
    }
}

/// Runs a closure that blocks (on a file, a lock, another program) without keeping this thread from other tasks.
///
/// Waiting for objects, workers and streams needs no such care. Outside a task it just runs the closure.
pub fn blocking<R>(run: impl FnOnce() -> R) -> R {
    let _blocked = blocked();
    run()
}
