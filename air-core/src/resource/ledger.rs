//! The ledger: who may have what, without a clock, a thread or a device (A4).

use super::amount::Amount;
use super::error::ResourceError;
use super::node::{Grant, Node};
use super::place::{Placement, place};
use super::request::{Demand, Resources};

/// What is asked for at once: all of it is granted, or none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Ask {
    /// On any node, or on this one.
    One { demand: Demand, node: Option<usize> },
    /// Several bundles.
    Gang { rule: Placement, bundles: Vec<Demand> },
}

impl Ask {
    /// The same several times, packed.
    pub(super) fn same(resources: &Resources, bundles: usize) -> Result<Self, ResourceError> {
        let demand = Demand::new(resources)?;
        Ok(if bundles == 1 {
            Self::One { demand, node: None }
        } else {
            Self::Gang { rule: Placement::Pack, bundles: vec![demand; bundles] }
        })
    }

    /// All of it together.
    pub(super) fn sum(&self) -> Demand {
        let mut sum = Demand::default();
        match self {
            Self::One { demand, .. } => sum.add(demand),
            Self::Gang { bundles, .. } => bundles.iter().for_each(|bundle| sum.add(bundle)),
        }
        sum
    }
}

/// Nodes, and what of them is free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ledger {
    nodes: Vec<Node>,
}

impl Ledger {
    pub(super) fn new(nodes: Vec<Node>) -> Self {
        Self { nodes }
    }

    /// Takes what is asked for, if all of it is free now.
    pub(super) fn reserve(&mut self, ask: &Ask) -> Option<Vec<Grant>> {
        let (demand, node) = match ask {
            Ask::One { demand, node } => (demand, *node),
            Ask::Gang { rule, bundles } => return place(&mut self.nodes, *rule, bundles),
        };
        let mut fitting =
            self.nodes.iter_mut().enumerate().filter(|(n, _)| node.is_none_or(|node| node == *n));
        fitting.find_map(|(node, has)| {
            let devices = has.choice(demand)?;
            has.take(demand, &devices);
            Some(vec![Grant { node, demand: demand.clone(), devices }])
        })
    }

    pub(super) fn release(&mut self, grants: &[Grant]) {
        for grant in grants {
            self.nodes[grant.node].put_back(&grant.demand, &grant.devices);
        }
    }

    /// Whether it would be granted if nothing were taken; if not, why.
    pub(super) fn could_ever(&self, ask: &Ask) -> Result<(), String> {
        let mut empty = Self { nodes: self.nodes.iter().map(Node::emptied).collect() };
        if empty.reserve(ask).is_some() { Ok(()) } else { Err(empty.lacks(ask)) }
    }

    /// What there is too little of now, as a phrase.
    pub(super) fn lacks(&self, ask: &Ask) -> String {
        let on_node = |demand: &Demand, node: usize| self.nodes[node].lacks(demand);
        match ask {
            Ask::One { demand, node: Some(node) } => on_node(demand, *node),
            Ask::One { demand, node: None } if self.nodes.len() == 1 => on_node(demand, 0),
            Ask::One { demand, .. } => {
                let fits = (0..self.nodes.len()).any(|node| on_node(demand, node).is_none());
                (!fits).then(|| format!("no one of {} nodes has room", self.nodes.len()))
            }
            Ask::Gang { rule: Placement::StrictSpread, bundles } if bundles.len() > self.nodes.len() => {
                let (bundles, nodes) = (bundles.len(), self.nodes.len());
                Some(format!("{bundles} bundles must lie on as many nodes, and there are {nodes}"))
            }
            Ask::Gang { bundles, .. } => {
                let sum = Ask::One { demand: ask.sum(), node: None };
                let together = (self.nodes.len() == 1).then(|| self.lacks_sum(&sum)).flatten();
                together.or_else(|| Some(format!("no room for {} bundles at once", bundles.len())))
            }
        }
        .unwrap_or_else(|| "it is the turn of others".into())
    }

    fn lacks_sum(&self, sum: &Ask) -> Option<String> {
        let Ask::One { demand, .. } = sum else { return None };
        // Shares may lie on several devices when each bundle's fits on one; so only amounts are compared.
        let gpus = self.free().gpu;
        let amounts =
            Demand { gpu: if gpus < demand.gpu { demand.gpu } else { Amount::ZERO }, ..demand.clone() };
        self.nodes[0].lacks(&amounts)
    }

    pub(super) fn total(&self) -> Demand {
        self.sum(Node::total)
    }

    pub(super) fn free(&self) -> Demand {
        self.sum(Node::free)
    }

    /// Each device's index and what of it is free; devices of all nodes in a row.
    pub(super) fn devices(&self) -> impl Iterator<Item = (usize, f64)> {
        self.nodes.iter().flat_map(|node| &node.slots).map(|slot| (slot.device, slot.free.get()))
    }

    fn sum(&self, of: impl Fn(&Node) -> Demand) -> Demand {
        let mut sum = Demand::default();
        self.nodes.iter().for_each(|node| sum.add(&of(node)));
        sum
    }
}
