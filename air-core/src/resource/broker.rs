//! The ledger and the queue before it: what is granted when something is asked for or given back (A4: no clock, no thread).

use std::collections::HashMap;
use std::time::Duration;

use super::error::{Owner, ResourceError};
use super::fair::{FairQueue, Ticket, Waiting};
use super::ledger::{Ask, Ledger};
use super::node::Grant;
use super::request::Demand;

/// The most requests that may wait.
const MAX_WAITING: usize = 1 << 20;

/// A request that waited and is granted now.
pub(super) type Served = (Ticket, Owner, Vec<Grant>);

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Submitted {
    Granted(Vec<Grant>),
    Waits(Ticket),
}

#[derive(Debug)]
pub(super) struct Broker {
    pub(super) ledger: Ledger,
    pub(super) queue: FairQueue,
    /// What each owner holds; those that hold nothing are left out.
    held: HashMap<Owner, (Demand, usize)>,
    total: Demand,
}

impl Broker {
    pub(super) fn new(ledger: Ledger) -> Self {
        let total = ledger.total();
        Self { ledger, queue: FairQueue::default(), held: HashMap::new(), total }
    }

    /// Grants it now if it fits and nobody is to be served first; refuses what can never fit; everything else waits.
    pub(super) fn submit(
        &mut self,
        now: Duration,
        owner: Owner,
        ask: Ask,
    ) -> Result<Submitted, ResourceError> {
        if let Some(grants) = self.try_now(&owner, &ask) {
            return Ok(Submitted::Granted(grants));
        }
        self.check(&ask)?;
        if self.queue.len() >= MAX_WAITING {
            return Err(ResourceError::TooMany { limit: MAX_WAITING });
        }
        Ok(Submitted::Waits(self.queue.push(Waiting { owner, ask }, now)))
    }

    /// Refuses what can never fit.
    pub(super) fn check(&self, ask: &Ask) -> Result<(), ResourceError> {
        self.ledger.could_ever(ask).map_err(|reason| ResourceError::Never {
            asked: Box::new(ask.sum().resources()),
            exists: Box::new(self.total.resources()),
            reason,
        })
    }

    /// Grants it now, or not. A request that fits passes those that wait, as they do not fit now, unless it is their turn.
    pub(super) fn try_now(&mut self, owner: &Owner, ask: &Ask) -> Option<Vec<Grant>> {
        if !self.queue.lets_pass() {
            return None;
        }
        let grants = self.ledger.reserve(ask)?;
        self.queue.passed();
        self.hold(owner, &grants);
        Some(grants)
    }

    /// Takes back what was granted; says who is served with it.
    pub(super) fn release(&mut self, owner: &Owner, grants: &[Grant]) -> Vec<Served> {
        self.ledger.release(grants);
        if let Some((held, leases)) = self.held.get_mut(owner) {
            for grant in grants {
                held.sub(&grant.demand);
            }
            *leases -= 1;
            if *leases == 0 {
                self.held.remove(owner);
            }
        }
        self.serve()
    }

    /// Forgets a request; says who is served for want of it.
    pub(super) fn withdraw(&mut self, ticket: Ticket) -> Vec<Served> {
        if self.queue.withdraw(ticket) { self.serve() } else { Vec::new() }
    }

    fn serve(&mut self) -> Vec<Served> {
        let mut served = Vec::new();
        loop {
            let Self { ledger, queue, held, total } = self;
            let share = |owner: &Owner| held.get(owner).map_or(0.0, |(held, _)| dominant_share(held, total));
            let Some(next) = queue.next(share, |waiting| ledger.reserve(&waiting.ask)) else { return served };
            self.hold(&next.1, &next.2);
            served.push(next);
        }
    }

    fn hold(&mut self, owner: &Owner, grants: &[Grant]) {
        let (held, leases) = self.held.entry(owner.clone()).or_default();
        for grant in grants {
            held.add(&grant.demand);
        }
        *leases += 1;
    }

    pub(super) fn total(&self) -> &Demand {
        &self.total
    }

    /// What each owner holds, and in how many leases; in no order.
    pub(super) fn held(&self) -> impl Iterator<Item = (&Owner, &Demand, usize)> {
        self.held.iter().map(|(owner, (held, leases))| (owner, held, *leases))
    }
}

/// The largest share of any one kind.
fn dominant_share(held: &Demand, total: &Demand) -> f64 {
    let share = |held: f64, total: f64| if total > 0.0 { held / total } else { 0.0 };
    let (h, t) = (&held.plain, &total.plain);
    h.custom
        .iter()
        .map(|(kind, amount)| share(amount.get(), t.of(kind).get()))
        .chain([
            share(held.gpu.get(), total.gpu.get()),
            share(h.cpu.get(), t.cpu.get()),
            share(h.memory_bytes as f64, t.memory_bytes as f64),
        ])
        .fold(0.0, f64::max)
}
