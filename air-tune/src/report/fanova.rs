//! How much of the metric's variance each parameter explains by itself.
//!
//! Hutter, Hoos, Leyton-Brown, "An Efficient Approach for Assessing Hyperparameter Importance", ICML 2014 (fANOVA): a tree is constant on boxes, so what it says on average over all other
//! parameters is a sum over its leaves, exact over the whole space and not only where trials were. What the shares lack from one is what parameters do together.

use super::forest::{ABSENT, Node, Trials};

/// How the values of a parameter are spread over the space.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Spread {
    /// A number, evenly over the unit interval.
    Number,
    /// One of so many values, each as likely as another: 0, 1, 2, ….
    Listed(usize),
}

/// A parameter: how its values are spread, and how often it does not exist.
#[derive(Debug, Clone, Copy)]
struct Axis {
    spread: Spread,
    absent: f64,
}

impl Axis {
    /// The share of the space from `low` up to, but without, `high`.
    fn mass(&self, low: f64, high: f64) -> f64 {
        let absent = if low <= ABSENT && ABSENT < high { self.absent } else { 0.0 };
        let there = match self.spread {
            Spread::Number => (high.min(1.0) - low.max(0.0)).max(0.0),
            Spread::Listed(values) => {
                let inside = (0..values).filter(|at| (low..high).contains(&(*at as f64))).count();
                inside as f64 / values.max(1) as f64
            }
        };
        absent + (1.0 - self.absent) * there
    }
}

/// Where a tree says what.
struct Leaf {
    sides: Vec<(f64, f64)>,
    value: f64,
}

fn leaves(node: &Node, sides: &mut Vec<(f64, f64)>, out: &mut Vec<Leaf>) {
    match node {
        Node::Leaf(value) => out.push(Leaf { sides: sides.clone(), value: *value }),
        Node::Split { axis, at, below, above } => {
            let side = sides[*axis];
            sides[*axis] = (side.0, *at);
            leaves(below, sides, out);
            sides[*axis] = (*at, side.1);
            leaves(above, sides, out);
            sides[*axis] = side;
        }
    }
}

/// The share of a tree's variance that each parameter explains by itself; nothing, if the tree says the same everywhere.
fn shares(root: &Node, axes: &[Axis]) -> Option<Vec<f64>> {
    let mut parts = Vec::new();
    leaves(root, &mut vec![(f64::NEG_INFINITY, f64::INFINITY); axes.len()], &mut parts);
    let masses: Vec<Vec<f64>> = parts
        .iter()
        .map(|leaf| leaf.sides.iter().zip(axes).map(|((low, high), axis)| axis.mass(*low, *high)).collect())
        .collect();
    let volumes: Vec<f64> = masses.iter().map(|masses| masses.iter().product()).collect();
    let mean: f64 = parts.iter().zip(&volumes).map(|(leaf, volume)| leaf.value * volume).sum();
    let variance: f64 =
        parts.iter().zip(&volumes).map(|(leaf, volume)| (leaf.value - mean).powi(2) * volume).sum();
    // What is left of a constant by rounding is no variance.
    let square: f64 = parts.iter().zip(&volumes).map(|(leaf, volume)| leaf.value.powi(2) * volume).sum();
    if !(variance > 1e-12 * square && variance.is_finite()) {
        return None;
    }
    let share = |(at, axis): (usize, &Axis)| {
        let mut cuts: Vec<f64> = parts.iter().flat_map(|leaf| [leaf.sides[at].0, leaf.sides[at].1]).collect();
        cuts.sort_by(f64::total_cmp);
        cuts.dedup();
        // What the tree says on average over the others, between each cut and the next: what each leaf adds, from where it begins to where it ends.
        let mut steps = vec![0.0; cuts.len()];
        for (leaf, masses) in parts.iter().zip(&masses) {
            let others: f64 =
                masses.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, mass)| mass).product();
            let place = |cut: f64| cuts.partition_point(|other| *other < cut);
            steps[place(leaf.sides[at].0)] += leaf.value * others;
            steps[place(leaf.sides[at].1)] -= leaf.value * others;
        }
        let mut marginal = 0.0;
        let explained: f64 = cuts
            .windows(2)
            .zip(&steps)
            .map(|(pair, step)| {
                marginal += step;
                (marginal - mean).powi(2) * axis.mass(pair[0], pair[1])
            })
            .sum();
        explained / variance
    };
    Some(axes.iter().enumerate().map(share).collect())
}

/// The share of the variance of `values` that each column of `rows` explains by itself, on average over a forest; all zero where nothing can be told. A column's values may be not-a-number.
pub(super) fn main_effects(rows: &[Vec<f64>], values: &[f64], spreads: &[Spread]) -> Vec<f64> {
    let mut sums = vec![0.0; spreads.len()];
    let Some(trials) = Trials::new(rows, values) else { return sums };
    let absent = |at: usize| {
        let missing = trials.rows.iter().filter(|row| row[at] == ABSENT).count();
        missing as f64 / trials.rows.len() as f64
    };
    let axes: Vec<Axis> =
        spreads.iter().enumerate().map(|(at, spread)| Axis { spread: *spread, absent: absent(at) }).collect();
    let mut trees = 0.0;
    // A split along what explains least would show as something that parameters do together.
    trials.each_tree(axes.len(), |root, _, _| {
        if let Some(shares) = shares(root, &axes) {
            trees += 1.0;
            sums.iter_mut().zip(shares).for_each(|(sum, share)| *sum += share);
        }
    });
    if trees > 0.0 {
        for sum in &mut sums {
            *sum /= trees;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use air_core::seed::Seed;
    use rand::RngExt;

    use super::*;

    #[allow(clippy::unnecessary_box_returns)] // Branches are boxes.
    fn leaf(value: f64) -> Box<Node> {
        Box::new(Node::Leaf(value))
    }

    fn axis(spread: Spread, absent: f64) -> Axis {
        Axis { spread, absent }
    }

    #[test]
    fn of_a_small_tree_the_shares_are_those_by_hand() {
        // Below a quarter of x: 0. Above: 4 where y is the last of four, else 0.
        let above = Node::Split { axis: 1, at: 2.5, below: leaf(0.0), above: leaf(4.0) };
        let root = Node::Split { axis: 0, at: 0.25, below: leaf(0.0), above: Box::new(above) };
        let axes = [axis(Spread::Number, 0.0), axis(Spread::Listed(4), 0.0)];
        // The mean is 4·3/4·1/4 = 3/4, the mean square 16·3/16 = 3. Over y, x gives 0 or 1; over x, y gives 0 or 3.
        let variance = 3.0 - 0.75 * 0.75;
        let by_x = (0.75_f64.powi(2) * 0.25 + 0.25_f64.powi(2) * 0.75) / variance;
        let by_y = (0.75_f64.powi(2) * 0.75 + 2.25_f64.powi(2) * 0.25) / variance;
        let found = shares(&root, &axes).unwrap_or_default();
        assert!((found[0] - by_x).abs() < 1e-12 && (found[1] - by_y).abs() < 1e-12, "{found:?}");
        assert!(found[0] + found[1] < 1.0, "the rest is what they do together");
        assert!(shares(&Node::Leaf(1.0), &axes).is_none());
    }

    #[test]
    fn what_may_be_absent_has_a_place_of_its_own() {
        let number = axis(Spread::Number, 0.2);
        let all = (f64::NEG_INFINITY, f64::INFINITY);
        assert!((number.mass(all.0, all.1) - 1.0).abs() < 1e-12);
        assert!((number.mass(all.0, 0.5) - 0.6).abs() < 1e-12);
        assert!((number.mass(-0.5, 0.5) - 0.4).abs() < 1e-12);
        let listed = axis(Spread::Listed(4), 0.0);
        assert!(
            (listed.mass(0.5, 2.5) - 0.5).abs() < 1e-12 && (listed.mass(all.0, all.1) - 1.0).abs() < 1e-12
        );
    }

    #[test]
    fn shares_are_those_of_the_function_and_what_parameters_do_together_is_nobodys() {
        let mut rng = Seed::new(4).rng();
        let rows: Vec<Vec<f64>> = (0..800).map(|_| vec![rng.random(), rng.random(), rng.random()]).collect();
        let of = |f: &dyn Fn(&[f64]) -> f64| {
            let values: Vec<f64> = rows.iter().map(|row| f(row)).collect();
            main_effects(&rows, &values, &[Spread::Number; 3])
        };
        // Variances of 1/12 and 4/12: the one four times the other, and hardly anything left for both together.
        let sum = of(&|x| x[0] + 2.0 * x[1]);
        assert!((sum[1] / sum[0] - 4.0).abs() < 0.6 && sum[0] + sum[1] > 0.95 && sum[2] < 0.02, "{sum:?}");
        let product = of(&|x| (x[0] - 0.5) * (x[1] - 0.5));
        assert!(product.iter().all(|share| *share < 0.15), "{product:?}");
        assert_eq!(sum, of(&|x| x[0] + 2.0 * x[1]));
        assert_eq!(of(&|_| 7.0), [0.0; 3]);
        assert_eq!(main_effects(&rows[..3], &[1.0, 2.0, 3.0], &[Spread::Number; 3]), [0.0; 3]);
    }
}
