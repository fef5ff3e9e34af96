//! What a thread of the pool does.

use std::cell::RefCell;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use crossbeam_deque::Worker;

use super::job::{JobRef, Priority, Ran};
use super::pool::{Parked, Shared};

/// How often a thread looks for work before it sleeps; from the first so many on it lets others run in between.
const LOOKS: u32 = 64;
const LOOKS_ALONE: u32 = 16;

/// The thread's own.
pub(super) struct Local {
    shared: Arc<Shared>,
    id: u64,
    pub(super) deque: Worker<JobRef>,
    /// Run before anything else.
    pub(super) next: Option<JobRef>,
    /// How many were in a row.
    pub(super) chain: u32,
    tick: u32,
    /// How many waits lie on one another; the outermost counts.
    pub(super) waits: u32,
}

thread_local! {
    static LOCAL: RefCell<Option<Local>> = const { RefCell::new(None) };
}

/// Runs the closure with this thread's own, if it is one of a pool's. It must not run user code.
pub(super) fn on_local<R>(run: impl FnOnce(&mut Local) -> R) -> Option<R> {
    LOCAL.try_with(|local| Some(run(local.try_borrow_mut().ok()?.as_mut()?))).ok().flatten()
}

impl Local {
    pub(super) fn belongs_to(&self, shared: &Arc<Shared>) -> bool {
        Arc::ptr_eq(&self.shared, shared)
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn take(&mut self) -> Option<JobRef> {
        self.tick = self.tick.wrapping_add(1);
        let Self { shared, deque, .. } = self;
        let queues = &shared.queues;
        if self.tick.is_multiple_of(64)
            && let Some(job) =
                queues.take(Priority::Low, deque).or_else(|| queues.take(Priority::Normal, deque))
        {
            return Some(job);
        }
        queues
            .take(Priority::High, deque)
            .or_else(|| deque.pop())
            .or_else(|| queues.take(Priority::Normal, deque))
            .or_else(|| queues.steal(self.id))
            .or_else(|| queues.take(Priority::Low, deque))
    }

    fn take_or_next(&mut self) -> Option<JobRef> {
        if let Some(job) = self.next.take() {
            self.chain += 1;
            return Some(job);
        }
        self.chain = 0;
        self.take()
    }
}

/// Runs jobs until there are none for long, or the runtime ends. The thread begins active and searching.
pub(super) fn run_thread(shared: &Arc<Shared>, deque: Worker<JobRef>, id: u64) {
    let local = Local { shared: Arc::clone(shared), id, deque, next: None, chain: 0, tick: 0, waits: 0 };
    LOCAL.set(Some(local));
    let ended = serve(shared, id);
    let local = LOCAL.take();
    if let Some(mut local) = local {
        let next = local.next.take();
        for job in next.into_iter().chain(std::iter::from_fn(|| local.deque.pop())) {
            // To the others, or to its end where the runtime has come to its own.
            shared.push(job);
        }
    }
    if !ended {
        shared.leave(id);
    }
}

/// Whether the thread has left the pool's count already.
fn serve(shared: &Arc<Shared>, id: u64) -> bool {
    let mut searching = true;
    let mut looks = 0;
    while !shared.closing() {
        if let Some(job) = on_local(Local::take_or_next).flatten() {
            looks = 0;
            if std::mem::take(&mut searching) && shared.searching.fetch_sub(1, Ordering::SeqCst) == 1 {
                // Whoever pushed meanwhile relied on this thread's search.
                shared.rouse_if_work();
            }
            execute(shared, job);
            // Threads that had been waiting inside tasks have come back.
            if shared.active.load(Ordering::Relaxed) <= shared.config.threads as isize {
                continue;
            }
        } else {
            if !std::mem::replace(&mut searching, true) {
                shared.searching.fetch_add(1, Ordering::SeqCst);
            }
            looks += 1;
            if looks < LOOKS_ALONE {
                (0..32).for_each(|_| spin_loop());
                continue;
            } else if looks < LOOKS {
                thread::yield_now();
                continue;
            }
            searching = false;
            shared.searching.fetch_sub(1, Ordering::SeqCst);
        }
        looks = 0;
        match shared.park(id) {
            Parked::Work => {}
            Parked::Called => searching = true,
            Parked::Ended => return true,
        }
    }
    if searching {
        shared.searching.fetch_sub(1, Ordering::SeqCst);
    }
    false
}

fn execute(shared: &Arc<Shared>, job: JobRef) {
    // Panics of a task's body are its result; this is for what is dropped afterwards.
    match catch_unwind(AssertUnwindSafe(|| job.run())) {
        Ok(Ran::Again) => {}
        Ok(Ran::Done) => shared.finished(),
        Err(_) => {
            tracing::error!("a task panicked while it was dropped");
            shared.finished();
        }
    }
}
