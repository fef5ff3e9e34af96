//! [`TaskConfig`]: the threads tasks run on, and how many tasks may wait.

use std::num::NonZeroUsize;
use std::thread;

/// The threads tasks run on, and how many tasks may wait.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskConfig {
    /// How many tasks run at once (default: one for each processor). Their threads are made when there is work and end when there is
    /// none for ten seconds.
    pub threads: usize,
    /// How many threads there may be, those included that wait inside a task (default 1024). While tasks wait, others run on further
    /// threads; from half of this number on only one does.
    pub threads_max: usize,
    /// How many tasks may be started and not ended (default 100 000). Who starts one more waits.
    pub pending_max: usize,
}

impl Default for TaskConfig {
    fn default() -> Self {
        let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self { threads, threads_max: 1024, pending_max: 100_000 }
    }
}

impl TaskConfig {
    /// Sets how many tasks run at once.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Sets how many threads there may be in all.
    pub fn threads_max(mut self, threads: usize) -> Self {
        self.threads_max = threads;
        self
    }

    /// Sets how many tasks may be started and not ended.
    pub fn pending_max(mut self, tasks: usize) -> Self {
        self.pending_max = tasks;
        self
    }

    pub(super) fn in_range(mut self) -> Self {
        self.threads = self.threads.max(1);
        self.threads_max = self.threads_max.max(self.threads);
        self.pending_max = self.pending_max.max(1);
        self
    }

    /// Whether one more thread should run tasks, with so many that do and so many in all.
    pub(super) fn wants_more(&self, active: isize, total: usize) -> bool {
        // What waits inside tasks may need what is queued, so one thread always runs.
        let wanted =
            if total <= (self.threads_max / 2).max(self.threads) { self.threads as isize } else { 1 };
        active < wanted
    }

    /// Whether one of so many that run may wait: not the last one where no further thread can be made.
    pub(super) fn may_wait(&self, active: isize, total: usize) -> bool {
        active > 1 || total < self.threads_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever waits and whatever ends, there is a thread that runs or one can be made, until somebody is refused.
    #[test]
    fn somebody_always_runs() {
        for (threads, threads_max) in [(1, 1), (1, 4), (2, 2), (2, 7), (8, 9), (4, 64)] {
            let config = TaskConfig::default().threads(threads).threads_max(threads_max).in_range();
            let (mut active, mut total) = (0_isize, 0_usize);
            for _ in 0..1000 {
                while config.wants_more(active, total) && total < config.threads_max {
                    (active, total) = (active + 1, total + 1);
                }
                assert!(active >= 1 && total <= threads_max, "{config:?} {active} {total}");
                if !config.may_wait(active, total) {
                    break;
                }
                active -= 1;
            }
            assert_eq!(total, threads_max, "every thread is used before somebody is refused: {config:?}");
            assert_eq!(active, 1);
        }
    }
}
