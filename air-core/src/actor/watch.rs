//! Being told when another worker ends: monitors and links.
//!
//! Watchers are told on the system thread, so being told is putting a notice into a mailbox and nothing more. A watch has at most one
//! notice under way: an end that comes while the last one's notice still waits takes its place. So a worker that flaps cannot flood
//! those who watch it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::call::{Ran, Run};
use super::cx::Cx;
use super::error::Reason;
use super::exit::Exit;
use super::message::{Handle, Message, Worker};
use super::shared::Shared;
use parking_lot::Mutex;

/// A life of a watched worker has ended; see [`Cx::watch`](super::Cx::watch).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Ended {
    /// The worker.
    pub name: Arc<str>,
    /// Why.
    pub exit: Exit,
    /// Which life; the first is 1, and 0 is a worker that never lived.
    pub generation: u64,
    /// Whether there will be no further life. Said once, as the last thing of a watch.
    pub last: bool,
}

impl Message for Ended {
    type Reply = ();
}

/// Who is told.
pub(super) trait Watcher: Send + Sync {
    fn tell(self: Arc<Self>, ended: &Ended);
    /// Whether it still has anyone to tell.
    fn is_wanted(&self) -> bool;
    /// Whether it is this worker's watch.
    fn is_of(&self, watch: &WatchId) -> bool;
}

/// One life's watch over a worker: where the watching worker's state lies, and which life it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct WatchId {
    watcher: usize,
    generation: u64,
}

impl WatchId {
    pub(super) fn new<W: Worker>(watcher: &Arc<Shared<W>>, generation: u64) -> Self {
        Self { watcher: Arc::as_ptr(watcher).addr(), generation }
    }
}

/// Everyone who watches one worker.
#[derive(Default)]
pub(super) struct Watchers(Mutex<List>);

#[derive(Default)]
struct List {
    watchers: Vec<Arc<dyn Watcher>>,
    /// Watchers that are gone are looked for when there are so many.
    prune_at: usize,
    /// The last thing said.
    over: Option<Ended>,
}

impl Watchers {
    /// Adds a watcher; it is told at once if there is nothing left to watch.
    pub(super) fn add(&self, watcher: Arc<dyn Watcher>) {
        let mut list = self.0.lock();
        if let Some(ended) = list.over.clone() {
            drop(list);
            return watcher.tell(&ended);
        }
        if list.watchers.len() >= list.prune_at {
            list.watchers.retain(|watcher| watcher.is_wanted());
            list.prune_at = (2 * list.watchers.len()).max(8);
        }
        list.watchers.push(watcher);
    }

    pub(super) fn has(&self, watch: WatchId) -> bool {
        self.0.lock().watchers.iter().any(|watcher| watcher.is_of(&watch))
    }

    pub(super) fn remove(&self, watch: WatchId) {
        self.0.lock().watchers.retain(|watcher| !watcher.is_of(&watch));
    }

    /// Tells everyone. After the last end nobody is told anything more.
    pub(super) fn tell(&self, ended: &Ended) {
        let mut list = self.0.lock();
        if list.over.is_some() {
            return;
        }
        for watcher in &list.watchers {
            Arc::clone(watcher).tell(ended);
        }
        if ended.last {
            list.watchers = Vec::new();
            list.over = Some(ended.clone());
        }
    }
}

/// A monitor: puts what it is told into the mailbox of the life that asked for it.
pub(super) struct Notice<W: Worker> {
    watcher: Weak<Shared<W>>,
    watch: WatchId,
    /// What is under way.
    told: Mutex<Option<Ended>>,
}

impl<W: Worker> Notice<W> {
    pub(super) fn new(watcher: &Arc<Shared<W>>, generation: u64) -> Self {
        let watch = WatchId::new(watcher, generation);
        Self { watcher: Arc::downgrade(watcher), watch, told: Mutex::new(None) }
    }
}

impl<W: Handle<Ended>> Watcher for Notice<W> {
    fn tell(self: Arc<Self>, ended: &Ended) {
        let Some(watcher) = self.watcher.upgrade() else { return };
        if self.told.lock().replace(ended.clone()).is_none() {
            // A mailbox that lets nothing in belongs to a worker that will not ask any more.
            let _ = watcher.queue.notify(self);
        }
    }

    fn is_wanted(&self) -> bool {
        self.watcher.upgrade().is_some_and(|watcher| watcher.queue.owned_by(self.watch.generation))
    }

    fn is_of(&self, watch: &WatchId) -> bool {
        self.watch == *watch
    }
}

impl<W: Handle<Ended>> Run<W> for Notice<W> {
    fn run(&self, worker: &mut W, cx: &mut Cx<W>) -> Ran {
        let told = self.told.lock().take();
        match told {
            Some(ended) if cx.generation() == self.watch.generation => match worker.handle(ended, cx) {
                Ok(()) => Ran::Done,
                Err(error) => Ran::Unheard(error),
            },
            _ => Ran::Skipped,
        }
    }

    fn died(&self, _: &Exit) -> bool {
        false
    }

    fn undelivered(&self, _: Reason) -> bool {
        // Nobody sent it, so nobody misses it.
        true
    }

    fn message_type(&self) -> &'static str {
        std::any::type_name::<Ended>()
    }

    fn deadline(&self) -> Option<Duration> {
        None
    }
}

/// Half a link: when what it watches ends, so does the other worker. Whichever half is told first speaks for both.
pub(super) struct Link<W: Worker> {
    other: Weak<Shared<W>>,
    broken: Arc<AtomicBool>,
}

impl<W: Worker> Link<W> {
    pub(super) fn new(other: &Arc<Shared<W>>, broken: &Arc<AtomicBool>) -> Self {
        Self { other: Arc::downgrade(other), broken: Arc::clone(broken) }
    }
}

impl<W: Worker> Watcher for Link<W> {
    fn tell(self: Arc<Self>, ended: &Ended) {
        if !self.broken.swap(true, Ordering::AcqRel)
            && let Some(other) = self.other.upgrade()
        {
            let (name, cause) = (Arc::clone(&ended.name), Arc::new(ended.exit.clone()));
            other.queue.interrupt(Exit::Linked { name, cause });
        }
    }

    fn is_wanted(&self) -> bool {
        !self.broken.load(Ordering::Acquire) && self.other.strong_count() > 0
    }

    fn is_of(&self, _: &WatchId) -> bool {
        false
    }
}
