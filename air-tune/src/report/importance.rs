//! How much each parameter has to do with the metric.
//!
//! Permutation importance (Breiman, "Random Forests", 2001, section 10): a random forest learns the metric from the parameters; how much worse it tells a trial that it has not seen once
//! one parameter's values are shuffled is what that parameter is worth.

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
enum Node {
    Leaf(f64),
    Split { axis: usize, at: f64, below: Box<Node>, above: Box<Node> },
}

impl Node {
    fn tell(&self, row: &[f64]) -> f64 {
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
        // Of a third of the axes, at least one, the split that leaves the least variance.
        let mut tried: Vec<usize> = (0..axes).collect();
        tried.shuffle(rng);
        tried.truncate(axes.div_ceil(3).max(1));
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

/// The importance of each column of `rows` for `values`; they add up to one, or are all zero where nothing can be told. A column's values may be not-a-number.
pub(super) fn importance(rows: &[Vec<f64>], values: &[f64]) -> Vec<f64> {
    let axes = rows.first().map_or(0, Vec::len);
    let from = rows.len().saturating_sub(MOST_ROWS);
    let mut gains = vec![0.0; axes];
    if axes == 0 || rows.len() < 2 * SMALLEST {
        return gains;
    }
    // What is not there is a value of its own, below all others.
    let rows: Vec<Vec<f64>> = rows[from..]
        .iter()
        .map(|row| row.iter().map(|x| if x.is_nan() { -1.0 } else { *x }).collect())
        .collect();
    let values = &values[from..];
    let data = Data { rows: &rows, values };
    for tree in 0..TREES {
        let mut rng = Seed::new(0).child("tree", tree).rng();
        let mut bag: Vec<usize> = (0..rows.len()).map(|_| rng.random_range(0..rows.len())).collect();
        let mut seen = vec![false; rows.len()];
        for at in &bag {
            seen[*at] = true;
        }
        let root = data.grow(&mut bag, 0, &mut rng);
        let unseen: Vec<usize> = (0..rows.len()).filter(|at| !seen[*at]).collect();
        let error = |told: &dyn Fn(usize) -> f64| -> f64 {
            unseen.iter().enumerate().map(|(at, row)| (told(at) - values[*row]).powi(2)).sum()
        };
        let plain = error(&|at| root.tell(&rows[unseen[at]]));
        for (axis, gain) in gains.iter_mut().enumerate() {
            let mut order = unseen.clone();
            order.shuffle(&mut rng);
            let shuffled = error(&|at| {
                let mut row = rows[unseen[at]].clone();
                row[axis] = rows[order[at]][axis];
                root.tell(&row)
            });
            *gain += shuffled - plain;
        }
    }
    for gain in &mut gains {
        *gain = gain.max(0.0);
    }
    let total: f64 = gains.iter().sum();
    if total > 0.0 && total.is_finite() {
        for gain in &mut gains {
            *gain /= total;
        }
    } else {
        gains.fill(0.0);
    }
    gains
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_more_is_told_from_what_matters_less() {
        let mut rng = Seed::new(4).rng();
        let rows: Vec<Vec<f64>> = (0..300)
            .map(|at| {
                let other: f64 = if at % 3 == 0 { f64::NAN } else { rng.random() };
                vec![rng.random(), rng.random(), rng.random(), other]
            })
            .collect();
        let values: Vec<f64> = rows.iter().map(|x| 10.0 * x[1] + 3.0 * (x[0] - 0.5).abs()).collect();
        let found = importance(&rows, &values);
        assert!(found[1] > 0.8 && found[0] > 0.01, "{found:?}");
        assert!(found[2] < 0.01 && found[3] < 0.01, "{found:?}");
        assert!((found.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        assert_eq!(found, importance(&rows, &values));
    }

    #[test]
    fn of_few_trials_or_equal_values_nothing_is_told() {
        assert_eq!(importance(&[vec![1.0], vec![2.0]], &[0.0, 1.0]), [0.0]);
        let rows: Vec<Vec<f64>> = (0..50).map(|at| vec![f64::from(at)]).collect();
        assert_eq!(importance(&rows, &[7.0; 50]), [0.0]);
        assert!(importance(&[], &[]).is_empty());
    }
}
