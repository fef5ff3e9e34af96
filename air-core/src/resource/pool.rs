//! [`ResourcePool`]: the ledger and its queue, shared by whoever asks.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};

use super::acquire::Acquire;
use super::broker::{Broker, Served, Submitted};
use super::detect::detect;
use super::error::{Owner, ResourceError};
use super::fair::Ticket;
use super::group::PlacementGroup;
use super::lease::Lease;
use super::ledger::{Ask, Ledger};
use super::node::{Grant, Node};
use super::place::Placement;
use super::report::ResourceState;
use super::request::{Demand, Resources};
use crate::clock::Clock;

/// Told what became of a request, on the thread of whoever gave the resources back.
type Waiter = Box<dyn FnOnce(Result<Lease, ResourceError>) + Send>;

/// What a machine has, and who may use it. Cheap to clone; clones are one pool.
///
/// It keeps books: a request is granted when what it asks for is free of other requests. What work then really uses is not limited.
#[derive(Clone)]
pub struct ResourcePool {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Clock,
    /// What there is, if it was said; otherwise it is found out when first needed, as asking a GPU driver takes a while.
    total: Option<Demand>,
    books: Mutex<Books>,
    /// What a placement group holds of the pool around it.
    held: Option<Lease>,
}

/// Opened when they are first needed, unless the pool is closed.
struct Books {
    open: Option<State>,
    /// Whether it was closed before.
    closed: bool,
}

struct State {
    broker: Broker,
    waiters: HashMap<Ticket, Waiter>,
    closed: bool,
    /// Pools of placement groups, which close with this one.
    groups: Vec<Weak<Inner>>,
}

impl State {
    fn new(nodes: Vec<Node>, closed: bool) -> Self {
        let broker = Broker::new(Ledger::new(nodes));
        Self { broker, waiters: HashMap::new(), closed, groups: Vec::new() }
    }

    /// Brings together who is served and what is served to them.
    fn serve(&mut self, served: Vec<Served>) -> Vec<(Waiter, Owner, Vec<Grant>)> {
        let waiter = |(ticket, owner, grants)| Some((self.waiters.remove(&ticket)?, owner, grants));
        served.into_iter().filter_map(waiter).collect()
    }
}

impl ResourcePool {
    /// A pool of this much, or of what the machine has.
    pub(crate) fn new(clock: Clock, total: Option<&Resources>) -> Result<Self, ResourceError> {
        let total = total.map(Demand::new).transpose()?;
        if let Some(gpu) = total.as_ref().map(|total| total.gpu)
            && gpu.as_whole().is_none()
        {
            let reason = "a machine has whole devices".into();
            return Err(ResourceError::Invalid { kind: "gpu".into(), value: gpu.get().to_string(), reason });
        }
        let books = Mutex::new(Books { open: None, closed: false });
        Ok(Self { inner: Arc::new(Inner { clock, total, books, held: None }) })
    }

    /// The pool of what a placement group holds: each bundle is a node.
    pub(super) fn of_group(held: Lease) -> Self {
        let outer = held.pool().clone();
        let nodes = held.grants().iter().map(Node::bundle).collect();
        let clock = outer.inner.clock.clone();
        let books = Mutex::new(Books { open: Some(State::new(nodes, false)), closed: false });
        let inner = Arc::new(Inner { clock, total: None, books, held: Some(held) });
        let mut state = outer.lock();
        state.groups.retain(|group| group.strong_count() > 0);
        state.groups.push(Arc::downgrade(&inner));
        let closed = state.closed;
        drop(state);
        let pool = Self { inner };
        if closed {
            pool.close();
        }
        pool
    }

    /// What a placement group's pool was made of.
    pub(super) fn held(&self) -> Option<&Lease> {
        self.inner.held.as_ref()
    }

    /// Asks for resources; the request is made when the value returned is waited for.
    pub fn acquire(&self, resources: Resources) -> Acquire {
        let ask = Demand::new(&resources).map(|demand| Ask::One { demand, node: None });
        Acquire::new(self.clone(), ask, |lease| lease)
    }

    /// Asks for several bundles at once: all are granted together, or none is.
    pub fn place(&self, rule: Placement, bundles: &[Resources]) -> Acquire<PlacementGroup> {
        let bundles: Result<Vec<_>, _> = bundles.iter().map(Demand::new).collect();
        Acquire::new(self.clone(), bundles.map(|bundles| Ask::Gang { rule, bundles }), PlacementGroup::new)
    }

    /// Whether the resources could be had if nobody held any; if not, why.
    pub fn check(&self, resources: &Resources) -> Result<(), ResourceError> {
        let ask = Ask::One { demand: Demand::new(resources)?, node: None };
        self.lock().broker.check(&ask)
    }

    /// As [`check`](Self::check), for that many bundles at once.
    pub(crate) fn check_gang(&self, resources: &Resources, bundles: usize) -> Result<(), ResourceError> {
        self.lock().broker.check(&Ask::same(resources, bundles)?)
    }

    /// Tells `waiter` when that many bundles are granted, together, or refused; it may be told at once and on this thread.
    pub(crate) fn when_free(
        &self,
        owner: Arc<str>,
        resources: &Resources,
        bundles: usize,
        waiter: impl FnOnce(Result<Lease, ResourceError>) + Send + 'static,
    ) {
        match Ask::same(resources, bundles) {
            Ok(ask) => drop(self.submit(Some(owner), ask, waiter)),
            Err(error) => waiter(Err(error)),
        }
    }

    /// All there is, what is free, who holds and who waits, and for what.
    pub fn state(&self) -> ResourceState {
        ResourceState::of(&self.lock().broker, self.inner.clock.now())
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// Makes a request; `waiter` is told when it is granted or refused, which may be at once and on this thread.
    pub(super) fn submit(
        &self,
        owner: Owner,
        ask: Ask,
        waiter: impl FnOnce(Result<Lease, ResourceError>) + Send + 'static,
    ) -> Option<Ticket> {
        let mut state = self.lock();
        let submitted = if state.closed {
            Err(ResourceError::Closed)
        } else {
            state.broker.submit(self.inner.clock.now(), owner.clone(), ask)
        };
        let answer = match submitted {
            Ok(Submitted::Waits(ticket)) => {
                state.waiters.insert(ticket, Box::new(waiter));
                return Some(ticket);
            }
            Ok(Submitted::Granted(grants)) => Ok(Lease::new(self.clone(), owner, grants)),
            Err(error) => Err(error),
        };
        drop(state);
        waiter(answer);
        None
    }

    /// Grants it now, or says what there is too little of.
    pub(super) fn try_now(&self, owner: Owner, ask: &Ask) -> Result<Lease, String> {
        let mut state = self.lock();
        if state.closed {
            return Err("the runtime has ended".into());
        }
        match state.broker.try_now(&owner, ask) {
            Some(grants) => Ok(Lease::new(self.clone(), owner, grants)),
            None => Err(state.broker.ledger.lacks(ask)),
        }
    }

    /// What there is too little of for it now.
    pub(super) fn lacks(&self, ask: &Ask) -> String {
        self.lock().broker.ledger.lacks(ask)
    }

    /// Gives up waiting.
    pub(super) fn withdraw(&self, ticket: Ticket) {
        let mut state = self.lock();
        let withdrawn = state.waiters.remove(&ticket);
        let served = state.broker.withdraw(ticket);
        let served = state.serve(served);
        drop(state);
        drop(withdrawn);
        self.tell(served);
    }

    pub(super) fn give_back(&self, owner: &Owner, grants: &[Grant]) {
        let mut state = self.lock();
        let served = state.broker.release(owner, grants);
        let served = state.serve(served);
        drop(state);
        self.tell(served);
    }

    /// Refuses whoever waits and whoever comes. Where nobody has asked for anything yet, it is not found out what there is.
    pub(crate) fn close(&self) {
        let mut books = self.inner.books.lock();
        books.closed = true;
        let Some(state) = &mut books.open else { return };
        state.closed = true;
        let waiters = std::mem::take(&mut state.waiters);
        let groups = std::mem::take(&mut state.groups);
        drop(books);
        for waiter in waiters.into_values() {
            waiter(Err(ResourceError::Closed));
        }
        for group in groups.iter().filter_map(Weak::upgrade) {
            Self { inner: group }.close();
        }
    }

    /// Hands out what was served, without the lock: a waiter may do as it likes.
    fn tell(&self, served: Vec<(Waiter, Owner, Vec<Grant>)>) {
        for (waiter, owner, grants) in served {
            waiter(Ok(Lease::new(self.clone(), owner, grants)));
        }
    }

    fn lock(&self) -> MappedMutexGuard<'_, State> {
        let total = || self.inner.total.clone().unwrap_or_else(detect);
        MutexGuard::map(self.inner.books.lock(), |Books { open, closed }| {
            open.get_or_insert_with(|| State::new(vec![Node::machine(&total())], *closed))
        })
    }
}

impl fmt::Debug for ResourcePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResourcePool").finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn closing_asks_no_driver_what_there_is_and_refuses_all_the_same() {
        let pool = ResourcePool::new(Clock::system(), None).unwrap();
        pool.close();
        assert!(pool.inner.books.lock().open.is_none(), "it was found out what the machine has");
        let refused = pool.acquire(Resources::new().cpu(1.0)).wait();
        assert!(matches!(refused, Err(ResourceError::Closed)), "{refused:?}");
    }
}
