//! What all lives of one worker have in common; it outlives each of them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix::WeakAddr;
use tokio::sync::Notify;

use super::call::{Run, Slot};
use super::core::Core;
use super::error::Reason;
use super::exit::{Exit, ExitRecord};
use super::message::Worker;
use super::order::Order;
use super::queue::Queue;
use super::spec::Spec;
use super::supervisor::SupervisorActor;
use super::watch::{Ended, Watchers};
use crate::device::Device;
use parking_lot::Mutex;

pub(super) type Envelope<W> = Arc<dyn Run<W>>;

/// Ends kept of each worker.
const HISTORY: usize = 16;

pub(super) struct Shared<W: Worker> {
    pub(super) spec: Spec,
    pub(super) core: Arc<Core>,
    pub(super) queue: Queue<Envelope<W>, Exit>,
    /// The calls in progress, each with the life it belongs to, so that they can be answered for a worker that never returns. Locked
    /// before the queue.
    pub(super) flying: Mutex<Vec<(u64, Envelope<W>)>>,
    pub(super) vitals: Vitals,
    pub(super) watchers: Watchers,
    exits: Mutex<VecDeque<ExitRecord>>,
    /// The GPUs it was given before its first life.
    pub(super) devices: OnceLock<Vec<Device>>,
    /// Who supervises it, and the number it is known by there.
    supervisor: WeakAddr<SupervisorActor>,
    pub(super) number: u64,
    /// Asks not yet answered, where they are limited.
    pending: Option<Arc<AtomicUsize>>,
    /// Told once there will be no further life.
    gone: Notify,
}

/// What is known of a worker without knowing its type.
#[derive(Debug, Default)]
pub(super) struct Vitals {
    /// When the present message (or start) began, in nanoseconds of the clock plus one; 0 while idle.
    busy_since: AtomicU64,
    pub(super) generation: AtomicU64,
    pub(super) handled: AtomicU64,
}

impl Vitals {
    pub(super) fn busy(&self, now: Duration) {
        let nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX - 1);
        self.busy_since.store(nanos + 1, Ordering::Relaxed);
    }

    pub(super) fn idle(&self) {
        self.busy_since.store(0, Ordering::Relaxed);
    }

    pub(super) fn busy_since(&self) -> Option<Duration> {
        match self.busy_since.load(Ordering::Relaxed) {
            0 => None,
            since => Some(Duration::from_nanos(since - 1)),
        }
    }
}

impl<W: Worker> Shared<W> {
    pub(super) fn new(spec: Spec, core: Arc<Core>, supervisor: WeakAddr<SupervisorActor>) -> Self {
        Self {
            queue: Queue::new(spec.capacity, 1 + spec.concurrency_groups.len()),
            pending: spec.max_pending.map(|_| Arc::default()),
            number: core.next_number(),
            spec,
            core,
            flying: Mutex::new(Vec::new()),
            vitals: Vitals::default(),
            watchers: Watchers::default(),
            exits: Mutex::new(VecDeque::new()),
            devices: OnceLock::new(),
            supervisor,
            gone: Notify::new(),
        }
    }

    /// Whether it handles something.
    pub(super) fn is_busy(&self) -> bool {
        self.queue.is_busy() || !self.flying.lock().is_empty()
    }

    /// Counts an ask against the worker's limit, if it has one.
    pub(super) fn slot(&self) -> Result<Option<Slot>, Reason> {
        match (&self.pending, self.spec.max_pending) {
            (Some(pending), Some(limit)) => {
                Slot::take(pending, limit).map(Some).ok_or(Reason::TooManyPending { limit })
            }
            _ => Ok(None),
        }
    }

    pub(super) fn record(&self, generation: u64, exit: Exit) {
        let mut exits = self.exits.lock();
        if exits.len() == HISTORY {
            exits.pop_front();
        }
        exits.push_back(ExitRecord { at: self.core.clock.now(), generation, exit });
    }

    pub(super) fn exits(&self) -> Vec<ExitRecord> {
        self.exits.lock().iter().cloned().collect()
    }

    /// Answers whoever waits for what is in hand, if the worker never did.
    pub(super) fn abort_current(&self, exit: &Exit) {
        let (flying, in_hand) = {
            // Together, so that a call that is about to be in progress is in one of them.
            let mut flying = self.flying.lock();
            (std::mem::take(&mut *flying), self.queue.take_from_hand())
        };
        for envelope in in_hand.chain(flying.into_iter().map(|(_, envelope)| envelope)) {
            envelope.died(exit);
        }
    }

    /// Answers whoever waits for a call in progress of a life that has ended.
    pub(super) fn abort_flying(&self, generation: u64, exit: &Exit) {
        let ended: Vec<_> = self.flying.lock().extract_if(.., |(life, _)| *life == generation).collect();
        for (_, envelope) in ended {
            envelope.died(exit);
        }
    }

    /// A call is no longer in progress.
    pub(super) fn landed(&self, envelope: &Envelope<W>) {
        let mut all = self.flying.lock();
        let is_it =
            |(_, flying): &(u64, Envelope<W>)| std::ptr::addr_eq(Arc::as_ptr(flying), Arc::as_ptr(envelope));
        if let Some(place) = all.iter().position(is_it) {
            all.swap_remove(place);
        }
    }

    /// Tells who watches that the present life has ended.
    pub(super) fn tell_watchers(&self, exit: &Exit, last: bool) {
        let (name, generation) =
            (Arc::clone(&self.spec.name), self.vitals.generation.load(Ordering::Relaxed));
        self.watchers.tell(&Ended { name, exit: exit.clone(), generation, last });
    }

    /// Closes the mailbox: the name is free, every waiting ask learns why, every waiting tell becomes a dead letter.
    pub(super) fn close(&self, exit: &Exit) {
        self.core.names.free(&self.spec.name, self);
        for envelope in self.queue.close(exit.clone()) {
            self.bury(&*envelope, Reason::Closed(exit.clone()));
        }
        self.tell_watchers(exit, true);
        self.gone.notify_waiters();
    }

    /// Ends the worker for good without waiting for it. Its supervisor waits for the thread, and leaves it behind if it must.
    pub(super) fn kill(&self) {
        self.end_now(Order::Kill(self.number));
    }

    /// The same, and its supervisor does not wait for the thread either.
    pub(super) fn abandon(&self) {
        self.end_now(Order::Abandon(self.number));
    }

    fn end_now(&self, order: Order) {
        self.close(&Exit::Killed);
        self.abort_current(&Exit::Killed);
        if let Some(supervisor) = self.supervisor.upgrade() {
            supervisor.do_send(order);
        }
    }

    /// Waits until there will be no further life.
    pub(super) async fn gone(&self) -> Exit {
        loop {
            let mut gone = std::pin::pin!(self.gone.notified());
            // From here on a notification is not missed.
            gone.as_mut().enable();
            if let Some(exit) = self.queue.closed() {
                return exit;
            }
            gone.await;
        }
    }

    /// An envelope that will not be handled: back to its sender, or to the dead letters.
    pub(super) fn bury(&self, envelope: &dyn Run<W>, reason: Reason) {
        if !envelope.undelivered(reason.clone()) {
            self.core.dead_letter(&self.spec.name, envelope.message_type(), reason);
        }
    }
}
