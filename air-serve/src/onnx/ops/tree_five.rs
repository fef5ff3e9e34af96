//! `TreeEnsemble`, of version 5 of `ai.onnx.ml`: trees by the positions of their nodes, leaves apart, and branches that ask for membership in a set.

use super::forest::{AnyForest, NAN_SECOND, Test, Vote};
use super::tree_build::{Line, Plan, plant, same_length};
use crate::onnx::error::Reason;
use crate::onnx::node::Node;
use crate::onnx::value::Value;

/// `BRANCH_NEQ` and `BRANCH_MEMBER` among the modes.
const NEQ: i64 = 5;
const MEMBER: i64 = 6;

/// The forest of a `TreeEnsemble`.
pub(super) fn build(node: &Node<'_>, targets: usize) -> Result<AnyForest, Reason> {
    let (splits, wide) = numbers(node, "nodes_splits")?.ok_or("it has no nodes_splits")?;
    let modes = modes(node)?;
    let count = modes.len();
    if count == 0 || count >= NAN_SECOND as usize / 2 {
        return Err(format!("it has {count} tree nodes"));
    }
    let list = |name: &str| -> Result<&[i64], Reason> {
        let list = node.ints(name);
        same_length(count, name, list.len()).map(|()| list)
    };
    same_length(count, "nodes_splits", splits.len())?;
    let features = list("nodes_featureids")?;
    let (holds, fails) = (list("nodes_truenodeids")?, list("nodes_falsenodeids")?);
    let (holds_leaf, fails_leaf) = (list("nodes_trueleafs")?, list("nodes_falseleafs")?);
    let missing = node.ints("nodes_missing_value_tracks_true");
    if !missing.is_empty() {
        same_length(count, "nodes_missing_value_tracks_true", missing.len())?;
    }
    let sets = sets(node, modes.iter().filter(|&&mode| mode == MEMBER).count())?;
    let leaves = Leaves::read(node, targets)?;

    let mut votes_of: Vec<Vec<Vote>> = vec![Vec::new(); count];
    let (mut lines, mut next_set) = (Vec::with_capacity(count), 0);
    for at in 0..count {
        let test = match modes[at] {
            0 => (Test::LessOrEqual, false),
            1 => (Test::Less, false),
            2 => (Test::Less, true),
            3 => (Test::LessOrEqual, true),
            4 => (Test::Equal, false),
            NEQ => (Test::Equal, true),
            MEMBER => {
                next_set += 1;
                (Test::Member(next_set - 1), false)
            }
            other => return Err(format!("node {at} has the unknown mode {other}")),
        };
        let mut child = |id: i64, is_leaf: i64| -> Result<usize, Reason> {
            if is_leaf != 0 {
                // A line of its own, also where several branches lead to one leaf.
                votes_of.push(vec![leaves.vote(id)?]);
                return Ok(votes_of.len() - 1);
            }
            let place = usize::try_from(id).ok().filter(|&place| place < count);
            place.ok_or_else(|| format!("there is no node {id} of {count}, which node {at} leads to"))
        };
        let children = [child(holds[at], holds_leaf[at])?, child(fails[at], fails_leaf[at])?];
        let nan_holds = missing.get(at).is_some_and(|&track| track != 0) || modes[at] == NEQ;
        lines.push(Line::branch(features[at], splits[at], test, children, nan_holds)?);
    }
    lines.resize_with(votes_of.len(), Line::leaf);
    plant(Plan { lines, votes_of, roots: roots(node, count)?, sets, wide })
}

fn roots(node: &Node<'_>, count: usize) -> Result<Vec<usize>, Reason> {
    let roots = node.ints("tree_roots");
    if roots.is_empty() {
        return Err("it has no tree_roots".to_owned());
    }
    let place = |&root: &i64| {
        let place = usize::try_from(root).ok().filter(|&place| place < count);
        place.ok_or_else(|| format!("there is no node {root} of {count}, which is to be a root"))
    };
    roots.iter().map(place).collect()
}

/// A tensor of `f32` or `f64`, and whether it is of the latter.
fn numbers(node: &Node<'_>, name: &str) -> Result<Option<(Vec<f64>, bool)>, Reason> {
    let Some(tensor) = node.tensor(name) else { return Ok(None) };
    match Value::from_proto(tensor).map_err(|reason| format!("{name}: {reason}"))? {
        Value::F64(array) => Ok(Some((array.iter().copied().collect(), true))),
        Value::F32(array) => Ok(Some((array.iter().map(|&x| f64::from(x)).collect(), false))),
        other => Err(format!("{name} is {}, expected float or double", other.type_name())),
    }
}

fn modes(node: &Node<'_>) -> Result<Vec<i64>, Reason> {
    let tensor = node.tensor("nodes_modes").ok_or("it has no nodes_modes")?;
    match Value::from_proto(tensor).map_err(|reason| format!("nodes_modes: {reason}"))? {
        Value::I64(array) => Ok(array.iter().copied().collect()),
        other => Err(format!("nodes_modes is {}, expected uint8", other.type_name())),
    }
}

/// The sets that branches ask for, which lie one after the other with a NaN behind each.
fn sets(node: &Node<'_>, expected: usize) -> Result<Vec<Box<[f64]>>, Reason> {
    let values = numbers(node, "membership_values")?.map_or_else(Vec::new, |(values, _)| values);
    let mut sets: Vec<Box<[f64]>> = Vec::new();
    for set in values.split_inclusive(|x| x.is_nan()) {
        let mut set: Vec<f64> = set.iter().copied().filter(|x| !x.is_nan()).collect();
        set.sort_unstable_by(f64::total_cmp);
        sets.push(set.into());
    }
    if sets.len() == expected {
        return Ok(sets);
    }
    Err(format!("membership_values has {} sets, each ended by a NaN, for {expected} branches", sets.len()))
}

/// The leaves of all trees.
struct Leaves<'a> {
    weights: Vec<f64>,
    targets: &'a [i64],
    count: usize,
}

impl<'a> Leaves<'a> {
    fn read(node: &Node<'a>, count: usize) -> Result<Self, Reason> {
        let (weights, _) = numbers(node, "leaf_weights")?.ok_or("it has no leaf_weights")?;
        let targets = node.ints("leaf_targetids");
        if weights.len() == targets.len() {
            return Ok(Leaves { weights, targets, count });
        }
        Err(format!("leaf_targetids has {} entries for {} leaf_weights", targets.len(), weights.len()))
    }

    fn vote(&self, id: i64) -> Result<Vote, Reason> {
        let place = usize::try_from(id).ok().filter(|&place| place < self.weights.len());
        let place = place.ok_or_else(|| format!("there is no leaf {id} of {}", self.weights.len()))?;
        let target = u32::try_from(self.targets[place]).ok().filter(|&target| (target as usize) < self.count);
        let target =
            target.ok_or_else(|| format!("a leaf is of target {} of {}", self.targets[place], self.count))?;
        Ok(Vote { weight: self.weights[place], target, last: false })
    }
}
