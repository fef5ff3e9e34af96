//! [`Delayed`]: tasks that will be tried again later.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::alarm::Alarm;
use super::job::JobRef;
use super::pool::Shared;

/// The jobs that wait for a clock.
#[derive(Default)]
pub(super) struct Delayed(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    next: u64,
    jobs: HashMap<u64, (JobRef, Option<Arc<Alarm>>)>,
}

impl Delayed {
    /// Queues a job when so much time has passed.
    pub(super) fn push(shared: &Arc<Shared>, job: JobRef, after: Duration) {
        if after.is_zero() || shared.closing() {
            job.due();
            return shared.push(job);
        }
        let mut waiting = shared.delayed.0.lock();
        waiting.next += 1;
        let id = waiting.next;
        waiting.jobs.insert(id, (job, None));
        drop(waiting);
        let weak = Arc::downgrade(shared);
        let alarm = Alarm::set(&shared.clock, after, move || {
            if let Some(shared) = weak.upgrade() {
                shared.delayed.due(&shared, id);
            }
        });
        if let Some((_, slot)) = shared.delayed.0.lock().jobs.get_mut(&id) {
            *slot = Some(alarm);
        }
        if shared.closing() {
            shared.delayed.flush(shared);
        }
    }

    fn due(&self, shared: &Arc<Shared>, id: u64) {
        let due = self.0.lock().jobs.remove(&id);
        if let Some((job, _)) = due {
            job.due();
            shared.push(job);
        }
    }

    /// Queues all of them: the runtime ends.
    pub(super) fn flush(&self, shared: &Arc<Shared>) {
        let jobs = std::mem::take(&mut self.0.lock().jobs);
        for (job, alarm) in jobs.into_values() {
            if let Some(alarm) = alarm {
                alarm.put_off();
            }
            shared.push(job);
        }
    }
}
