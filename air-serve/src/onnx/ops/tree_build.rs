//! From the parallel lists of a tree-ensemble node to a checked, flat forest. `tree_five` reads those of version 5.
//!
//! Whatever the file claims, a forest that comes out of here has every index in range and no cycle, so that walking it needs
//! no check beyond the row's width.

use std::collections::HashMap;

use super::forest::{AnyForest, Branch, Child, Forest, NAN_SECOND, Test, Vote};
use super::reach::AnyReach;
use crate::onnx::error::Reason;
use crate::onnx::node::Node;
use crate::onnx::value::Value;

/// One line of the node lists.
pub(super) struct Line {
    pub feature: u32,
    pub threshold: f64,
    /// `None` is a leaf.
    pub test: Option<Test>,
    /// Lines to go to if the test holds, and if not.
    pub children: [usize; 2],
    pub nan_second: bool,
}

impl Line {
    /// A branch whose test, perhaps negated, leads to the first of two children if it holds; whether NaN passes it.
    pub(super) fn branch(
        feature: i64,
        threshold: f64,
        (test, negated): (Test, bool),
        mut children: [usize; 2],
        nan_holds: bool,
    ) -> Result<Line, Reason> {
        let feature = u32::try_from(feature)
            .ok()
            .filter(|feature| feature & NAN_SECOND == 0)
            .ok_or_else(|| format!("feature {feature} is out of range"))?;
        if negated {
            children.swap(0, 1);
        }
        Ok(Line { feature, threshold, test: Some(test), children, nan_second: nan_holds == negated })
    }

    pub(super) fn leaf() -> Line {
        Line { feature: 0, threshold: 0.0, test: None, children: [0, 0], nan_second: true }
    }
}

/// The lines of all trees, before they are checked against each other.
pub(super) struct Plan {
    pub lines: Vec<Line>,
    /// Of each line that is a leaf.
    pub votes_of: Vec<Vec<Vote>>,
    /// The root of each tree.
    pub roots: Vec<usize>,
    pub sets: Vec<Box<[f64]>>,
    /// Whether thresholds are compared as `f64`.
    pub wide: bool,
}

/// Builds the forest of a `TreeEnsembleClassifier` (`prefix` is `class`) or `…Regressor` (`target`). Also returns every vote.
pub(super) fn build(node: &Node<'_>, prefix: &str, targets: usize) -> Result<(AnyForest, Vec<Vote>), Reason> {
    let trees = node.ints("nodes_treeids");
    let ids = node.ints("nodes_nodeids");
    if trees.is_empty() {
        return Err("it has no trees".to_owned());
    }
    if trees.len() >= NAN_SECOND as usize {
        return Err(format!("{} tree nodes are too many", trees.len()));
    }
    same_length(trees.len(), "nodes_nodeids", ids.len())?;
    let mut index = HashMap::with_capacity(trees.len());
    for (line, (&tree, &id)) in trees.iter().zip(ids).enumerate() {
        if index.insert((tree, id), line).is_some() {
            return Err(format!("tree {tree} has two nodes {id}"));
        }
    }
    let lines = read_lines(node, trees, &index)?;
    let votes_of = read_votes(node, prefix, targets, &index, &lines)?;
    let every_vote: Vec<Vote> = votes_of.iter().flatten().copied().collect();
    let roots = find_roots(trees, &lines)?;
    let wide = node.tensor("nodes_values_as_tensor").is_some();
    let forest = plant(Plan { lines, votes_of, roots, sets: Vec::new(), wide })?;
    Ok((forest, every_vote))
}

/// Checks a plan, and makes a forest of it.
pub(super) fn plant(plan: Plan) -> Result<AnyForest, Reason> {
    let Plan { lines, mut votes_of, roots, sets, wide } = plan;
    let first_vote = votes_of.iter().flatten().next();
    let silent_target = first_vote.map_or(0, |vote| vote.target);
    let mut layout = Layout {
        lines: &lines,
        votes_of: &mut votes_of,
        visited: vec![false; lines.len()],
        order: Vec::new(),
        votes: Vec::new(),
        silent_target,
    };
    let roots = roots.into_iter().map(|root| layout.place(root)).collect::<Result<Vec<_>, _>>()?;
    let Layout { order, votes, .. } = layout;

    let tests: Vec<Test> = order.iter().filter_map(|placed| lines[placed.line].test).collect();
    let uniform = match tests.first() {
        None => Some(Test::LessOrEqual),
        Some(&first) => tests.iter().all(|&test| test == first).then_some(first),
    };
    let width = order.iter().map(|placed| lines[placed.line].feature as usize + 1).max().unwrap_or(0);
    Ok(if wide {
        let branches =
            order.iter().map(|placed| branch(placed, &lines[placed.line], |threshold| threshold)).collect();
        AnyForest::F64(with_reach(Forest {
            branches,
            tests,
            uniform,
            sets,
            votes,
            roots,
            width,
            reach: None,
        }))
    } else {
        let narrow = |threshold: f64| threshold as f32;
        let branches = order.iter().map(|placed| branch(placed, &lines[placed.line], narrow)).collect();
        AnyForest::F32(with_reach(Forest {
            branches,
            tests,
            uniform,
            sets,
            votes,
            roots,
            width,
            reach: None,
        }))
    })
}

fn with_reach<T: Copy + PartialOrd>(mut forest: Forest<T>) -> Forest<T> {
    forest.reach = AnyReach::of(&forest);
    forest
}

/// A list of numbers that may be given as `name` (f32) or as `name_as_tensor` (f64).
pub(super) fn numbers(node: &Node<'_>, name: &str) -> Result<Vec<f64>, Reason> {
    let Some(tensor) = node.tensor(&format!("{name}_as_tensor")) else {
        return Ok(node.floats(name).iter().map(|&x| f64::from(x)).collect());
    };
    match Value::from_proto(tensor).map_err(|reason| format!("{name}_as_tensor: {reason}"))? {
        Value::F64(array) => Ok(array.iter().copied().collect()),
        Value::F32(array) => Ok(array.iter().map(|&x| f64::from(x)).collect()),
        other => Err(format!("{name}_as_tensor is {}", other.type_name())),
    }
}

pub(super) fn same_length(nodes: usize, list: &str, len: usize) -> Result<(), Reason> {
    if nodes == len { Ok(()) } else { Err(format!("{list} has {len} entries for {nodes} nodes")) }
}

fn read_lines(
    node: &Node<'_>,
    trees: &[i64],
    index: &HashMap<(i64, i64), usize>,
) -> Result<Vec<Line>, Reason> {
    let count = trees.len();
    let modes = node.strings("nodes_modes")?;
    let features = node.ints("nodes_featureids");
    let thresholds = numbers(node, "nodes_values")?;
    let (holds, fails) = (node.ints("nodes_truenodeids"), node.ints("nodes_falsenodeids"));
    let missing = node.ints("nodes_missing_value_tracks_true");
    same_length(count, "nodes_modes", modes.len())?;
    same_length(count, "nodes_featureids", features.len())?;
    same_length(count, "nodes_values", thresholds.len())?;
    same_length(count, "nodes_truenodeids", holds.len())?;
    same_length(count, "nodes_falsenodeids", fails.len())?;
    if !missing.is_empty() {
        same_length(count, "nodes_missing_value_tracks_true", missing.len())?;
    }
    let mut lines = Vec::with_capacity(count);
    for line in 0..count {
        // A mode as one of three tests, perhaps negated.
        let (test, negated) = match &*modes[line] {
            "LEAF" => (None, false),
            "BRANCH_LEQ" => (Some(Test::LessOrEqual), false),
            "BRANCH_LT" => (Some(Test::Less), false),
            "BRANCH_EQ" => (Some(Test::Equal), false),
            "BRANCH_GT" => (Some(Test::LessOrEqual), true),
            "BRANCH_GTE" => (Some(Test::Less), true),
            "BRANCH_NEQ" => (Some(Test::Equal), true),
            other => return Err(format!("unknown node mode {other}")),
        };
        let Some(test) = test else {
            lines.push(Line::leaf());
            continue;
        };
        let child = |id: i64| {
            let found = index.get(&(trees[line], id)).copied();
            found.ok_or_else(|| format!("tree {} has no node {id}, which a branch leads to", trees[line]))
        };
        let children = [child(holds[line])?, child(fails[line])?];
        // NaN fails every test except `!=`, unless the node tracks missing values as true.
        let tracks = missing.get(line).is_some_and(|&track| track != 0);
        let nan_holds = tracks || &*modes[line] == "BRANCH_NEQ";
        lines.push(Line::branch(features[line], thresholds[line], (test, negated), children, nan_holds)?);
    }
    Ok(lines)
}

/// The votes of each leaf line, in the file's order.
fn read_votes(
    node: &Node<'_>,
    prefix: &str,
    targets: usize,
    index: &HashMap<(i64, i64), usize>,
    lines: &[Line],
) -> Result<Vec<Vec<Vote>>, Reason> {
    let list = |name: &str| node.ints(&format!("{prefix}_{name}"));
    let (trees, ids, classes) = (list("treeids"), list("nodeids"), list("ids"));
    let weights = numbers(node, &format!("{prefix}_weights"))?;
    if trees.len() != ids.len() || ids.len() != classes.len() || classes.len() != weights.len() {
        return Err(format!(
            "the lists {prefix}_treeids, _nodeids, _ids and _weights have different lengths"
        ));
    }
    let mut votes_of: Vec<Vec<Vote>> = Vec::new();
    votes_of.resize_with(lines.len(), Vec::new);
    for (((&tree, &id), &class), &weight) in trees.iter().zip(ids).zip(classes).zip(&weights) {
        let line = index
            .get(&(tree, id))
            .copied()
            .ok_or_else(|| format!("tree {tree} has no node {id}, which votes"))?;
        if lines[line].test.is_some() {
            return Err(format!("node {id} of tree {tree} votes but is not a leaf"));
        }
        let target = u32::try_from(class).ok().filter(|&class| (class as usize) < targets);
        let target = target.ok_or_else(|| format!("a leaf votes for {prefix} {class} of {targets}"))?;
        votes_of[line].push(Vote { weight, target, last: false });
    }
    Ok(votes_of)
}

/// The root of each tree, in the file's order: the one node that no branch leads to.
fn find_roots(trees: &[i64], lines: &[Line]) -> Result<Vec<usize>, Reason> {
    let mut led_to = vec![false; lines.len()];
    for line in lines.iter().filter(|line| line.test.is_some()) {
        for &child in &line.children {
            led_to[child] = true;
        }
    }
    let mut roots = Vec::new();
    let mut seen = HashMap::new();
    for (line, &tree) in trees.iter().enumerate() {
        let first = seen.entry(tree).or_insert(None);
        if !led_to[line] {
            if first.is_some() {
                return Err(format!("tree {tree} has two roots"));
            }
            *first = Some(line);
            roots.push(line);
        }
    }
    match seen.iter().find(|(_, root)| root.is_none()) {
        Some((tree, _)) => Err(format!("tree {tree} has no root: its branches form a cycle")),
        None => Ok(roots),
    }
}

/// A branch in its final place.
struct Placed {
    line: usize,
    children: [Child; 2],
}

/// Puts branches in depth-first order, so that one tree's branches are neighbours.
struct Layout<'a> {
    lines: &'a [Line],
    votes_of: &'a mut [Vec<Vote>],
    visited: Vec<bool>,
    order: Vec<Placed>,
    votes: Vec<Vote>,
    /// The target of the zero that a leaf without a vote adds.
    silent_target: u32,
}

impl Layout<'_> {
    /// Places a whole tree; its depth does not matter, for there is no recursion.
    fn place(&mut self, root: usize) -> Result<Child, Reason> {
        let root_child = self.claim(root)?;
        let mut pending = Vec::new();
        self.push_branch(root, root_child, &mut pending);
        while let Some((branch, side, line)) = pending.pop() {
            let child = self.claim(line)?;
            self.order[branch].children[side] = child;
            self.push_branch(line, child, &mut pending);
        }
        Ok(root_child)
    }

    /// Gives a line its place: the next branch, or the next votes.
    fn claim(&mut self, line: usize) -> Result<Child, Reason> {
        if std::mem::replace(&mut self.visited[line], true) {
            return Err("two branches lead to one node".to_owned());
        }
        if self.lines[line].test.is_some() {
            self.order.push(Placed { line, children: [Child::leaf(0); 2] });
            return Ok(Child::branch(self.order.len() - 1));
        }
        let mut votes = std::mem::take(&mut self.votes_of[line]);
        if votes.is_empty() {
            // A leaf without a vote adds nothing, which a vote of zero does too.
            votes.push(Vote { weight: 0.0, target: self.silent_target, last: true });
        }
        if let Some(last) = votes.last_mut() {
            last.last = true;
        }
        let first = self.votes.len();
        self.votes.extend(votes);
        Ok(Child::leaf(first))
    }

    fn push_branch(&self, line: usize, child: Child, pending: &mut Vec<(usize, usize, usize)>) {
        if self.lines[line].test.is_some()
            && let Some(place) = child.as_branch()
        {
            let [first, second] = self.lines[line].children;
            pending.push((place, 1, second));
            pending.push((place, 0, first));
        }
    }
}

fn branch<T>(placed: &Placed, line: &Line, threshold: impl Fn(f64) -> T) -> Branch<T> {
    let nan = if line.nan_second { NAN_SECOND } else { 0 };
    Branch { threshold: threshold(line.threshold), feature: line.feature | nan, children: placed.children }
}
