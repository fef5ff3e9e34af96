//! What a task can ask about itself, from wherever it is on its thread.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use crate::device::Device;

/// A task, as its body sees it.
pub(super) trait Running: Send + Sync {
    /// Whether nobody wants its result any more.
    fn is_over(&self) -> bool;
    fn attempt(&self) -> u32;
    fn devices(&self) -> Vec<Device>;
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<dyn Running>>> = const { RefCell::new(None) };
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// How many tasks may lie on one another on one thread's stack.
const DEPTH_MAX: u32 = 16;

/// Whether the task that runs on this thread was cancelled, has run out of time, or outlives its runtime: its result will be dropped. Long
/// tasks look now and then and return early. Outside a task: false.
pub fn is_cancelled() -> bool {
    CURRENT.with_borrow(|current| current.as_ref().is_some_and(|task| task.is_over()))
}

/// Which attempt of its task this thread runs, from 1; 0 outside a task.
pub fn attempt() -> u32 {
    CURRENT.with_borrow(|current| current.as_ref().map_or(0, |task| task.attempt()))
}

/// The GPUs of the task that this thread runs, by its [resources](super::Task::resources); none outside a task.
pub fn devices() -> Vec<Device> {
    CURRENT.with_borrow(|current| current.as_ref().map_or_else(Vec::new, |task| task.devices()))
}

/// This thread runs the task until the guard is dropped.
pub(super) fn enter(task: Arc<dyn Running>) -> Entered {
    Entered(CURRENT.replace(Some(task)))
}

pub(super) struct Entered(Option<Arc<dyn Running>>);

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

/// Room on the stack for one more task, if there is; until the guard is dropped.
pub(super) fn deeper() -> Option<Deeper> {
    let depth = DEPTH.get();
    (depth < DEPTH_MAX).then(|| {
        DEPTH.set(depth + 1);
        Deeper
    })
}

/// Whether a task that waits lies under what runs now.
pub(super) fn is_nested() -> bool {
    DEPTH.get() > 0
}

pub(super) struct Deeper;

impl Drop for Deeper {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}
