//! Which version of a deployment gets a request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;

use super::context::Terms;
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

impl<I, O> Split<I, O> {
    /// The other version, if there are two.
    fn beside(&self, one: &Arc<Core<I, O>>) -> Option<&Arc<Core<I, O>>> {
        let (other, _) = self.other.as_ref()?;
        Some(if Arc::ptr_eq(one, other) { &self.main } else { other })
    }
}

/// A request, and the version that it was made for and that has taken it.
pub(crate) struct Taken<I, O> {
    pub by: Arc<Core<I, O>>,
    pub submitted: Submitted<O>,
}

/// What all handles of a deployment point at, before it runs too.
pub(crate) struct Switch<I, O> {
    name: Arc<str>,
    /// Nothing until the deployment runs.
    split: ArcSwapOption<Split<I, O>>,
    /// Counts requests while there are two versions.
    turn: AtomicU64,
    /// What leads to the deployment instead, where another one was deployed under this name.
    other: OnceLock<Arc<Switch<I, O>>>,
}

impl<I: Send + 'static, O: Send + 'static> Switch<I, O> {
    pub(crate) fn new(name: Arc<str>) -> Self {
        Switch { name, split: ArcSwapOption::empty(), turn: AtomicU64::new(0), other: OnceLock::new() }
    }

    /// From now on requests go there. What a version has let in stays with it.
    pub(crate) fn set(&self, split: Split<I, O>) {
        self.split.store(Some(Arc::new(split)));
    }

    pub(crate) fn split(&self) -> Option<Arc<Split<I, O>>> {
        self.split.load_full()
    }

    /// From now on requests go where those of another switch go, if this one has no deployment of its own.
    pub(crate) fn connect(self: &Arc<Self>, to: &Arc<Self>) {
        if !Arc::ptr_eq(self, to) {
            let _ = self.other.set(Arc::clone(to));
        }
    }

    /// Takes a request on these terms: answers it in place, queues it, or refuses it.
    pub(crate) fn submit(&self, mut input: I, terms: &Terms) -> Submitted<O> {
        loop {
            let split = self.split.load();
            let Some(now) = &*split else { return self.elsewhere(input, terms) };
            match self.pick(now).submit(input, terms) {
                Ok(submitted) => return submitted,
                Err(back) => input = back,
            }
            // The version was closed. If that is because another has taken over, the split has changed before.
            if self.split.load().as_ref().is_some_and(|then| Arc::ptr_eq(now, then)) {
                return Submitted::Done(Err(CallError::Closed { deployment: Arc::clone(&self.name) }));
            }
        }
    }

    /// The same with an input that is made for the version that takes the request. One that does not fit that version, whose turn it is, goes to the
    /// other if it fits there; that there are two is nothing to its caller.
    pub(crate) fn submit_fitting<E: From<CallError>>(
        &self,
        terms: &Terms,
        mut input: impl FnMut(&Core<I, O>) -> Result<I, E>,
    ) -> Result<Taken<I, O>, E> {
        if let (None, Some(other)) = (&*self.split.load(), self.other.get()) {
            return other.submit_fitting(terms, input);
        }
        loop {
            let split = self.split.load();
            let Some(now) = &*split else {
                return Err(CallError::NotRunning { deployment: Arc::clone(&self.name) }.into());
            };
            let picked = self.pick(now);
            let (core, made) = match (input(picked), now.beside(picked)) {
                (Ok(made), _) => (picked, made),
                (Err(unfit), None) => return Err(unfit),
                (Err(unfit), Some(other)) => (other, input(other).map_err(|_| unfit)?),
            };
            if let Ok(submitted) = core.submit(made, terms) {
                return Ok(Taken { by: Arc::clone(core), submitted });
            }
            if self.split.load().as_ref().is_some_and(|then| Arc::ptr_eq(now, then)) {
                return Err(CallError::Closed { deployment: Arc::clone(&self.name) }.into());
            }
        }
    }

    #[cold]
    fn elsewhere(&self, input: I, terms: &Terms) -> Submitted<O> {
        match self.other.get() {
            Some(other) => other.submit(input, terms),
            None => Submitted::Done(Err(CallError::NotRunning { deployment: Arc::clone(&self.name) })),
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
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }
}
