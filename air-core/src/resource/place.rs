//! Where bundles go: the search behind gang reservation (A4: no clock, no thread).

use serde::{Deserialize, Serialize};

use super::node::{Grant, Node};
use super::request::Demand;

/// Steps of one search, after which it says that there is no room now. Finding the best of all placements takes exponential time; this
/// is some milliseconds, and what a search of this kind does not find by then it rarely finds at all.
const MAX_STEPS: usize = 20_000;

/// How a placement group's bundles lie on nodes. A process is one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Placement {
    /// On one node if it has room, else on as few as are found.
    #[default]
    Pack,
    /// Each on a node of its own if there are enough, else spread over as many as are found.
    Spread,
    /// All on one node, or not at all.
    StrictPack,
    /// Each on a node of its own, or not at all.
    StrictSpread,
}

/// Takes room for every bundle, or for none. The grants are in the order of the bundles.
pub(super) fn place(nodes: &mut [Node], rule: Placement, bundles: &[Demand]) -> Option<Vec<Grant>> {
    let stricter = match rule {
        Placement::Pack => Some(Placement::StrictPack),
        Placement::Spread => Some(Placement::StrictSpread),
        Placement::StrictPack | Placement::StrictSpread => None,
    };
    stricter.into_iter().chain([rule]).find_map(|rule| Search::new(nodes, rule, bundles).run())
}

struct Search<'a> {
    nodes: &'a mut [Node],
    rule: Placement,
    bundles: &'a [Demand],
    /// The bundles' numbers, the hardest to place first.
    order: Vec<usize>,
    /// Bundles on each node so far.
    used: Vec<usize>,
    grants: Vec<Option<Grant>>,
    steps: usize,
}

impl<'a> Search<'a> {
    fn new(nodes: &'a mut [Node], rule: Placement, bundles: &'a [Demand]) -> Self {
        let mut order: Vec<usize> = (0..bundles.len()).collect();
        let size = |&i: &usize| {
            let Demand { gpu, plain } = &bundles[i];
            std::cmp::Reverse((*gpu, plain.cpu, plain.memory_bytes, plain.custom.values().max().copied()))
        };
        order.sort_by_key(size);
        let used = vec![0; nodes.len()];
        Self { nodes, rule, bundles, order, used, grants: vec![None; bundles.len()], steps: MAX_STEPS }
    }

    fn run(mut self) -> Option<Vec<Grant>> {
        if self.descend() { self.grants.into_iter().collect() } else { None }
    }

    /// Places what is left, one bundle after the other, and takes back what led nowhere. A stack of its own: there may be many bundles.
    fn descend(&mut self) -> bool {
        let mut open: Vec<std::vec::IntoIter<Grant>> = Vec::with_capacity(self.order.len());
        loop {
            if open.len() == self.order.len() {
                return true;
            }
            let mut options = self.options(self.order[open.len()]).into_iter();
            loop {
                if let Some(grant) = options.next() {
                    self.take(self.order[open.len()], grant);
                    open.push(options);
                    break;
                }
                // A dead end: back to the bundle before, and its next choice.
                let Some(before) = open.pop() else { return false };
                self.take_back(self.order[open.len()]);
                options = before;
                if self.steps == 0 {
                    // Give everything back, as if nothing had been tried.
                    while open.pop().is_some() {
                        self.take_back(self.order[open.len()]);
                    }
                    return false;
                }
                self.steps -= 1;
            }
        }
    }

    /// Where the bundle may go now, the best place first.
    fn options(&self, bundle: usize) -> Vec<Grant> {
        let demand = &self.bundles[bundle];
        let begun = self.used.iter().any(|used| *used > 0);
        let may = |&node: &usize| match self.rule {
            Placement::StrictPack => !begun || self.used[node] > 0,
            Placement::StrictSpread => self.used[node] == 0,
            Placement::Pack | Placement::Spread => true,
        };
        let mut nodes: Vec<usize> = (0..self.nodes.len()).filter(may).collect();
        match self.rule {
            Placement::Pack => nodes.sort_by_key(|&node| self.used[node] == 0),
            Placement::Spread => nodes.sort_by_key(|&node| self.used[node]),
            Placement::StrictPack | Placement::StrictSpread => {}
        }
        // Of nodes that are alike one is enough.
        let mut seen: Vec<usize> = Vec::new();
        nodes.retain(|&node| {
            let alike = |&other: &usize| {
                (self.used[other] == 0) == (self.used[node] == 0) && self.nodes[other] == self.nodes[node]
            };
            let new = !seen.iter().any(alike);
            seen.push(node);
            new
        });
        let grant = |node, devices| Grant { node, demand: demand.clone(), devices };
        let choices = |node: usize| self.nodes[node].choices(demand).into_iter().map(move |d| (node, d));
        nodes.into_iter().flat_map(choices).map(|(node, devices)| grant(node, devices)).collect()
    }

    fn take(&mut self, bundle: usize, grant: Grant) {
        self.nodes[grant.node].take(&grant.demand, &grant.devices);
        self.used[grant.node] += 1;
        self.grants[bundle] = Some(grant);
    }

    fn take_back(&mut self, bundle: usize) {
        if let Some(grant) = self.grants[bundle].take() {
            self.used[grant.node] -= 1;
            self.nodes[grant.node].put_back(&grant.demand, &grant.devices);
        }
    }
}
