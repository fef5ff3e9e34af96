//! [`Queues`]: where jobs wait.

use crossbeam_deque::{Injector, Steal, Stealer, Worker};
use parking_lot::RwLock;

use super::job::{JobRef, Priority};

/// A queue for each priority, and the other ends of the threads' own deques.
#[derive(Default)]
pub(super) struct Queues {
    queues: [Injector<JobRef>; 3],
    stealers: RwLock<Vec<(u64, Stealer<JobRef>)>>,
}

impl Queues {
    /// The deque of a new thread.
    pub(super) fn add(&self, id: u64) -> Worker<JobRef> {
        let deque = Worker::new_lifo();
        self.stealers.write().push((id, deque.stealer()));
        deque
    }

    pub(super) fn remove(&self, id: u64) {
        self.stealers.write().retain(|(other, _)| *other != id);
    }

    pub(super) fn push(&self, job: JobRef) {
        self.queues[job.priority() as usize].push(job);
    }

    /// A job of this priority, some more of which may go to the deque.
    pub(super) fn take(&self, priority: Priority, into: &Worker<JobRef>) -> Option<JobRef> {
        let queue = &self.queues[priority as usize];
        loop {
            let taken =
                if priority == Priority::Normal { queue.steal_batch_and_pop(into) } else { queue.steal() };
            match taken {
                Steal::Success(job) => return Some(job),
                Steal::Empty => return None,
                Steal::Retry => {}
            }
        }
    }

    /// A job from the deque of another thread than this one.
    pub(super) fn steal(&self, me: u64) -> Option<JobRef> {
        let stealers = self.stealers.read();
        let start = stealers.iter().position(|(id, _)| *id == me).map_or(0, |at| at + 1);
        let others = (0..stealers.len()).map(|n| &stealers[(start + n) % stealers.len()]);
        for (_, stealer) in others.filter(|(id, _)| *id != me) {
            loop {
                match stealer.steal() {
                    Steal::Success(job) => return Some(job),
                    Steal::Empty => break,
                    Steal::Retry => {}
                }
            }
        }
        None
    }

    pub(super) fn has_work(&self) -> bool {
        self.queues.iter().any(|queue| !queue.is_empty())
            || self.stealers.read().iter().any(|(_, stealer)| !stealer.is_empty())
    }

    /// Any job at all.
    pub(super) fn take_any(&self) -> Option<JobRef> {
        for queue in &self.queues {
            loop {
                match queue.steal() {
                    Steal::Success(job) => return Some(job),
                    Steal::Empty => break,
                    Steal::Retry => {}
                }
            }
        }
        self.steal(u64::MAX)
    }
}
