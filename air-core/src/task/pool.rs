//! [`Pool`]: the threads tasks run on, made when there is work, joined when the runtime ends.
//!
//! Threads take from three queues by priority and from deques of their own, and steal from one another's (crossbeam's). Two counts say
//! whether somebody must be woken: how many threads run tasks (`active`) and how many look for some (`searching`). Who pushes does so
//! first and looks at the counts then; who goes to sleep lowers the counts first and looks at the queues then. So one of the two sees the
//! other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU64, Ordering, fence};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::config::TaskConfig;
use super::delay::Delayed;
use super::job::{Errand, JobRef, Priority};
use super::leases::Leases;
use super::queues::Queues;
use super::room::Room;
use super::thread::{on_local, run_thread};
use crate::clock::Clock;
use crate::object::Store;
use crate::resource::ResourcePool;
use crate::trace::Timeline;

/// How long a thread without work stays.
const KEEP: Duration = Duration::from_secs(10);

/// Owns the threads.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    grace: Duration,
}

/// What the threads, and everyone who starts tasks, share. It does not keep the threads.
pub(crate) struct Shared {
    pub(super) config: TaskConfig,
    pub(super) clock: Clock,
    pub(super) store: Arc<Store>,
    pub(super) delayed: Delayed,
    pub(super) leases: Leases,
    pub(super) timeline: Timeline,
    pub(super) queues: Queues,
    pub(super) active: AtomicIsize,
    pub(super) searching: AtomicIsize,
    crew: Mutex<Crew>,
    wake: Condvar,
    closing: AtomicBool,
    draining: Mutex<()>,
    room: Room,
    pub(super) next_seed: AtomicU64,
}

#[derive(Default)]
struct Crew {
    total: usize,
    idle: usize,
    /// Idle threads that have been told to go on and have not yet.
    called: usize,
    next: u64,
    threads: Vec<JoinHandle<()>>,
}

/// What became of a thread that had nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parked {
    /// There is work after all.
    Work,
    /// It was called, and counts as searching.
    Called,
    /// It is to end, and is not counted any more.
    Ended,
}

impl Pool {
    pub(crate) fn new(
        config: TaskConfig,
        clock: Clock,
        store: Arc<Store>,
        resources: ResourcePool,
        timeline: Timeline,
        grace: Duration,
    ) -> Self {
        let config = config.in_range();
        let pending_max = config.pending_max;
        let shared = Arc::new(Shared {
            config,
            clock,
            store,
            delayed: Delayed::default(),
            leases: Leases::new(resources),
            timeline,
            queues: Queues::default(),
            active: AtomicIsize::new(0),
            searching: AtomicIsize::new(0),
            crew: Mutex::default(),
            wake: Condvar::new(),
            closing: AtomicBool::new(false),
            draining: Mutex::new(()),
            room: Room::new(pending_max),
            next_seed: AtomicU64::new(0),
        });
        let weak = Arc::downgrade(&shared);
        shared.store.offload_to(Box::new(move |run| {
            // Without a pool nobody reads: dropping the closure says so.
            if let Some(shared) = weak.upgrade() {
                shared.started();
                shared.push(Errand::new(run));
            }
        }));
        Self { shared, grace }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Changes how long tasks may take to end.
    pub(crate) fn set_grace(&mut self, grace: Duration) {
        self.grace = grace;
    }

    /// Lets no task begin from now on; those that have not are ended.
    pub(crate) fn close(&self) {
        let shared = &self.shared;
        shared.closing.store(true, Ordering::SeqCst);
        drop(shared.crew.lock());
        shared.wake.notify_all();
        shared.room.close();
        shared.delayed.flush(shared);
        shared.leases.close();
        shared.drain();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.close();
        let own = usize::from(on_local(|local| local.belongs_to(&self.shared)) == Some(true));
        let deadline = Instant::now() + self.grace;
        let mut crew = self.shared.crew.lock();
        while crew.total > own && !self.shared.wake.wait_until(&mut crew, deadline).timed_out() {}
        let (left, threads) = (crew.total - own, std::mem::take(&mut crew.threads));
        drop(crew);
        if left > 0 {
            tracing::warn!(threads = left, "tasks do not return: their threads are left behind");
        }
        let me = thread::current().id();
        for thread in threads {
            if thread.thread().id() != me && (left == 0 || thread.is_finished()) {
                // An error is a panic of ours on that thread, which the panic hook has reported.
                let _ = thread.join();
            }
        }
        self.shared.store.close();
    }
}

impl Shared {
    pub(super) fn closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Tasks started and not ended, and threads.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.room.pending(), self.crew.lock().total)
    }

    /// One task more; waits while there are too many.
    pub(super) fn enter(self: &Arc<Self>) {
        if self.room.add() {
            return;
        }
        // The last thread that runs tasks cannot wait for others to run them.
        if let Ok(_blocked) = super::blocked::try_blocked(self) {
            self.room.wait();
        }
    }

    /// One task more, whatever the limit.
    pub(super) fn started(&self) {
        self.room.add();
    }

    /// One task less.
    pub(super) fn finished(&self) {
        self.room.remove();
    }

    /// Queues a job.
    pub(super) fn push(self: &Arc<Self>, job: JobRef) {
        let mut job = Some(job);
        if job.as_ref().is_some_and(|job| job.priority() == Priority::Normal) {
            on_local(|local| {
                if local.belongs_to(self)
                    && let Some(job) = job.take()
                {
                    local.deque.push(job);
                }
            });
        }
        if let Some(job) = job {
            self.queues.push(job);
        }
        self.rouse();
        if self.closing() {
            self.drain();
        }
    }

    /// Queues a job that this thread may well run next: its arguments have just been made here.
    pub(super) fn push_next(self: &Arc<Self>, job: JobRef) {
        let mut job = Some(job);
        if !self.closing() && !super::context::is_nested() {
            on_local(|local| {
                if local.belongs_to(self) && local.next.is_none() && local.chain < 64 {
                    local.next = job.take();
                }
            });
        }
        if let Some(job) = job {
            self.push(job);
        }
    }

    /// Sees to it that somebody looks for work, unless enough threads run.
    pub(super) fn rouse(self: &Arc<Self>) {
        fence(Ordering::SeqCst);
        if self.searching.load(Ordering::SeqCst) > 0
            || self.active.load(Ordering::SeqCst) >= self.config.threads as isize
        {
            return;
        }
        let mut crew = self.crew.lock();
        if self.closing()
            || self.searching.load(Ordering::SeqCst) > 0
            || !self.config.wants_more(self.active.load(Ordering::SeqCst), crew.total)
        {
            return;
        }
        if crew.idle > crew.called {
            crew.called += 1;
            self.active.fetch_add(1, Ordering::SeqCst);
            self.searching.fetch_add(1, Ordering::SeqCst);
            drop(crew);
            self.wake.notify_one();
        } else if crew.total < self.config.threads_max {
            self.spawn(&mut crew);
        }
    }

    /// Whether there is work that somebody should be roused for.
    pub(super) fn rouse_if_work(self: &Arc<Self>) {
        fence(Ordering::SeqCst);
        if self.queues.has_work() {
            self.rouse();
        }
    }

    fn spawn(self: &Arc<Self>, crew: &mut Crew) {
        let (ended, running) =
            std::mem::take(&mut crew.threads).into_iter().partition(JoinHandle::is_finished);
        crew.threads = running;
        for thread in ended {
            let _ = thread.join();
        }
        crew.next += 1;
        let (id, shared) = (crew.next, Arc::clone(self));
        let deque = self.queues.add(id);
        let thread = thread::Builder::new()
            .name(format!("air-task-{id}"))
            .spawn(move || run_thread(&shared, deque, id));
        match thread {
            Ok(thread) => {
                crew.threads.push(thread);
                crew.total += 1;
                self.active.fetch_add(1, Ordering::SeqCst);
                self.searching.fetch_add(1, Ordering::SeqCst);
            }
            Err(error) => {
                self.queues.remove(id);
                tracing::error!(%error, threads = crew.total, "cannot start a thread for tasks");
            }
        }
    }

    /// Puts a thread that is not searching to sleep until it is called.
    pub(super) fn park(&self, id: u64) -> Parked {
        let mut crew = self.crew.lock();
        self.active.fetch_sub(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let enough = self.active.load(Ordering::SeqCst) >= self.config.threads as isize;
        if self.closing() || (!enough && self.queues.has_work()) {
            self.active.fetch_add(1, Ordering::SeqCst);
            return Parked::Work;
        }
        crew.idle += 1;
        while crew.called == 0 && !self.closing() {
            if self.wake.wait_for(&mut crew, KEEP).timed_out() && crew.called == 0 {
                crew.idle -= 1;
                self.end(&mut crew, id);
                return Parked::Ended;
            }
        }
        crew.idle -= 1;
        if crew.called == 0 {
            self.active.fetch_add(1, Ordering::SeqCst);
            return Parked::Work;
        }
        crew.called -= 1;
        Parked::Called
    }

    /// An active thread ends.
    pub(super) fn leave(&self, id: u64) {
        let mut crew = self.crew.lock();
        self.active.fetch_sub(1, Ordering::SeqCst);
        self.end(&mut crew, id);
    }

    fn end(&self, crew: &mut Crew, id: u64) {
        crew.total -= 1;
        self.queues.remove(id);
        if self.closing() {
            self.wake.notify_all();
        }
    }

    /// One active thread less, while it waits; `false` where it is the last there can be.
    pub(super) fn begin_wait(self: &Arc<Self>, always: bool) -> bool {
        let crew = self.crew.lock();
        if !always && !self.config.may_wait(self.active.load(Ordering::SeqCst), crew.total) {
            return false;
        }
        self.active.fetch_sub(1, Ordering::SeqCst);
        drop(crew);
        self.rouse_if_work();
        true
    }

    pub(super) fn end_wait(&self) {
        self.active.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn threads(&self) -> usize {
        self.crew.lock().total
    }

    /// Ends every job that is queued, when the runtime does. Whatever these ends queue is ended by the same call, not by calls within it.
    pub(super) fn drain(&self) {
        while self.queues.has_work() {
            let Some(draining) = self.draining.try_lock() else { return };
            while let Some(job) = self.queues.take_any() {
                self.stop(job);
            }
            drop(draining);
        }
    }

    pub(super) fn stop(&self, job: JobRef) {
        // The drop of what a user's closure holds may panic.
        let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job.stop()));
        if stopped.is_err() {
            tracing::error!("a task panicked while it was dropped");
        }
        self.finished();
    }
}
