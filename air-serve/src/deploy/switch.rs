//! Which version of a deployment gets a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::core::Core;
use super::handle::Submitted;
use super::rollout::takes_turn;
use crate::error::CallError;

/// Where a deployment's requests go. Replaced as a whole, never changed.
pub(crate) struct Split<I, O> {
    pub main: Arc<Core<I, O>>,
    /// A second version, and its share.
    pub other: Option<(Arc<Core<I, O>>, f64)>,
}

/// What all handles of a deployment point at.
pub(crate) struct Switch<I, O> {
    name: Arc<str>,
    split: ArcSwap<Split<I, O>>,
    /// Counts requests while there are two versions.
    turn: AtomicU64,
}

impl<I: Send + 'static, O: Send + 'static> Switch<I, O> {
    pub(crate) fn new(main: Arc<Core<I, O>>) -> Self {
        let name = Arc::clone(&main.name);
        Switch { name, split: ArcSwap::from_pointee(Split { main, other: None }), turn: AtomicU64::new(0) }
    }

    /// From now on requests go there. What a version has let in stays with it.
    pub(crate) fn set(&self, split: Split<I, O>) {
        self.split.store(Arc::new(split));
    }

    pub(crate) fn split(&self) -> Arc<Split<I, O>> {
        self.split.load_full()
    }

    /// Takes a request that is to be answered within this limit and the deployment's: answers it in place, queues it, or refuses it.
    pub(crate) fn submit(&self, mut input: I, limit: Option<Duration>) -> Submitted<O> {
        loop {
            let split = self.split.load();
            match self.pick(&split).submit(input, limit) {
                Ok(submitted) => return submitted,
                Err(back) => input = back,
            }
            // The version was closed. If that is because another has taken over, the split has changed before.
            if Arc::ptr_eq(&split, &self.split.load()) {
                return Submitted::Done(Err(CallError::Closed { deployment: Arc::clone(&self.name) }));
            }
        }
    }

    fn pick<'a>(&self, split: &'a Split<I, O>) -> &'a Arc<Core<I, O>> {
        match &split.other {
            Some((other, share)) if takes_turn(self.turn.fetch_add(1, Ordering::Relaxed), *share) => other,
            _ => &split.main,
        }
    }
}

impl<I, O> Switch<I, O> {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}
