//! Random forests: what tells the metric from the parameters.
//!
//! Breiman, "Random Forests", 2001. Each tree is grown on as many trials as there are, drawn with repetition; a part is split along the best of some axes, drawn anew each time.

use air_core::seed::Seed;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt};

const TREES: u64 = 64;
const MAX_DEPTH: u32 = 16;
/// A part of so few trials is not split.
const SMALLEST: usize = 4;
/// Most trials that are learned from: the newest.
const MOST_ROWS: usize = 2_000;

/// A node of a tree.
pub(super) enum Node {
    Leaf(f64),
    Split { axis: usize, at: f64, below: Box<Node>, above: Box<Node> },
}

impl Node {
    pub fn tell(&self, row: &[f64]) -> f64 {
        match self {
            Node::Leaf(value) => *value,
            Node::Split { axis, at, below, above } => {
                if row[*axis] < *at {
                    below.tell(row)
                } else {
                    above.tell(row)
                }
            }
        }
    }
}

struct Data<'a> {
    rows: &'a [Vec<f64>],
    values: &'a [f64],
    /// How many axes are looked at for each split.
    tried: usize,
}

impl Data<'_> {
    fn mean(&self, of: &[usize]) -> f64 {
        of.iter().map(|at| self.values[*at]).sum::<f64>() / of.len() as f64
    }

    fn grow(&self, of: &mut [usize], depth: u32, rng: &mut impl Rng) -> Node {
        let axes = self.rows[0].len();
        if of.len() < 2 * SMALLEST || depth == MAX_DEPTH {
            return Node::Leaf(self.mean(of));
        }
        // Of some axes the split that leaves the least variance.
        let mut tried: Vec<usize> = (0..axes).collect();
        tried.shuffle(rng);
        tried.truncate(self.tried);
        let best = tried.iter().filter_map(|axis| self.split(of, *axis)).min_by(|a, b| a.2.total_cmp(&b.2));
        let Some((axis, at, _)) = best else { return Node::Leaf(self.mean(of)) };
        of.sort_by(|a, b| self.rows[*a][axis].total_cmp(&self.rows[*b][axis]));
        let middle = of.partition_point(|row| self.rows[*row][axis] < at);
        let (below, above) = of.split_at_mut(middle);
        let below = Box::new(self.grow(below, depth + 1, rng));
        Node::Split { axis, at, below, above: Box::new(self.grow(above, depth + 1, rng)) }
    }

    /// The best place to split at along an axis: the axis, the place, and minus what is explained.
    fn split(&self, of: &[usize], axis: usize) -> Option<(usize, f64, f64)> {
        let mut pairs: Vec<(f64, f64)> =
            of.iter().map(|at| (self.rows[*at][axis], self.values[*at])).collect();
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let total: f64 = pairs.iter().map(|(_, value)| value).sum();
        let (mut below, mut best) = (0.0, None);
        for at in 1..pairs.len() {
            below += pairs[at - 1].1;
            if pairs[at].0 <= pairs[at - 1].0 || at < SMALLEST || pairs.len() - at < SMALLEST {
                continue;
            }
            let (left, right) = (at as f64, (pairs.len() - at) as f64);
            let explained = below * below / left + (total - below).powi(2) / right;
            if best.is_none_or(|(_, _, least)| -explained < least) {
                best = Some((axis, f64::midpoint(pairs[at - 1].0, pairs[at].0), -explained));
            }
        }
        best
    }
}

/// Trials as a forest sees them: what is not there is a value of its own, below all others.
pub(super) struct Trials {
    pub rows: Vec<Vec<f64>>,
    pub values: Vec<f64>,
}

/// Where a parameter that does not exist stands.
pub(super) const ABSENT: f64 = -1.0;

impl Trials {
    /// The newest of them; nothing, where there are too few or no columns. A column's values may be not-a-number.
    pub fn new(rows: &[Vec<f64>], values: &[f64]) -> Option<Self> {
        if rows.first().is_none_or(Vec::is_empty) || rows.len() < 2 * SMALLEST {
            return None;
        }
        let from = rows.len().saturating_sub(MOST_ROWS);
        let there = |x: &f64| if x.is_nan() { ABSENT } else { *x };
        let rows = rows[from..].iter().map(|row| row.iter().map(there).collect()).collect();
        Some(Self { rows, values: values[from..].to_vec() })
    }

    /// Gives each tree of a forest, with the trials it has not seen and its own random numbers. `tried` of the axes are looked at for each split.
    pub fn each_tree(&self, tried: usize, mut each: impl FnMut(&Node, &[usize], &mut dyn Rng)) {
        let data = Data { rows: &self.rows, values: &self.values, tried };
        let count = self.rows.len();
        for tree in 0..TREES {
            let mut rng = Seed::new(0).child("tree", tree).rng();
            let mut bag: Vec<usize> = (0..count).map(|_| rng.random_range(0..count)).collect();
            let mut seen = vec![false; count];
            for at in &bag {
                seen[*at] = true;
            }
            let root = data.grow(&mut bag, 0, &mut rng);
            let unseen: Vec<usize> = (0..count).filter(|at| !seen[*at]).collect();
            each(&root, &unseen, &mut rng);
        }
    }
}
