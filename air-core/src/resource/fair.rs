//! Who comes next (A4: no clock, no thread).
//!
//! Among those that fit now, the owner with the smallest *dominant share* comes first: the largest share of any one kind of resource that
//! it holds (Ghodsi et al., *Dominant Resource Fairness*, 2011). An owner's equal requests are served in the order of arrival.
//!
//! Small requests may overtake a large one that does not fit, or machines would idle. So that it does not wait for ever, the request that
//! has waited longest is overtaken at most [`OVERTAKES`] times; then nobody else is served until it is. Every request is at some time
//! the one that has waited longest, so none starves.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::error::Owner;
use super::ledger::Ask;
use super::node::Grant;

/// How often the request that has waited longest may be overtaken.
pub(super) const OVERTAKES: usize = 64;

/// A request's number, in the order of arrival.
pub(super) type Ticket = u64;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Waiting {
    pub(super) owner: Owner,
    pub(super) ask: Ask,
}

/// Requests that wait.
#[derive(Debug, Default)]
pub(super) struct FairQueue {
    /// All of them, and since when they wait.
    waiting: BTreeMap<Ticket, (Waiting, Duration)>,
    /// Equal requests of one owner: if the first does not fit, none does.
    lanes: HashMap<Waiting, BTreeSet<Ticket>>,
    next: Ticket,
    /// How often the request that has waited longest was overtaken.
    overtaken: usize,
}

impl FairQueue {
    pub(super) fn push(&mut self, waiting: Waiting, now: Duration) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        self.lanes.entry(waiting.clone()).or_default().insert(ticket);
        self.waiting.insert(ticket, (waiting, now));
        ticket
    }

    pub(super) fn withdraw(&mut self, ticket: Ticket) -> bool {
        let oldest = self.oldest() == Some(ticket);
        let found = self.remove(ticket).is_some();
        if oldest {
            self.overtaken = 0;
        }
        found
    }

    /// The next request to be served; `share` is what an owner holds of everything, `fits` takes what is asked for if it is free.
    pub(super) fn next(
        &mut self,
        share: impl Fn(&Owner) -> f64,
        mut fits: impl FnMut(&Waiting) -> Option<Vec<Grant>>,
    ) -> Option<(Ticket, Owner, Vec<Grant>)> {
        let oldest = self.oldest()?;
        let mut candidates: Vec<Ticket> = if self.overtaken >= OVERTAKES {
            vec![oldest]
        } else {
            self.lanes.values().filter_map(|lane| lane.first().copied()).collect()
        };
        if candidates.len() > 1 {
            let rank = |ticket: &Ticket| share(&self.waiting[ticket].0.owner);
            let mut ranked: Vec<_> = candidates.iter().map(|ticket| (rank(ticket), *ticket)).collect();
            ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            candidates = ranked.into_iter().map(|(_, ticket)| ticket).collect();
        }
        let found = |ticket: Ticket| Some((ticket, fits(&self.waiting[&ticket].0)?));
        let (ticket, grants) = candidates.into_iter().find_map(found)?;
        self.overtaken = if ticket == oldest { 0 } else { self.overtaken + 1 };
        let waiting = self.remove(ticket)?;
        Some((ticket, waiting.owner, grants))
    }

    /// Whether a new request may be served before those that wait.
    pub(super) fn lets_pass(&self) -> bool {
        self.overtaken < OVERTAKES
    }

    /// A new request was served before those that wait.
    pub(super) fn passed(&mut self) {
        if !self.waiting.is_empty() {
            self.overtaken += 1;
        }
    }

    fn oldest(&self) -> Option<Ticket> {
        self.waiting.first_key_value().map(|(ticket, _)| *ticket)
    }

    fn remove(&mut self, ticket: Ticket) -> Option<Waiting> {
        let (waiting, _) = self.waiting.remove(&ticket)?;
        if let Some(lane) = self.lanes.get_mut(&waiting) {
            lane.remove(&ticket);
            if lane.is_empty() {
                self.lanes.remove(&waiting);
            }
        }
        Some(waiting)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Who waits, and since when, in the order of arrival.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Waiting, Duration)> {
        self.waiting.values().map(|(waiting, since)| (waiting, *since))
    }
}
